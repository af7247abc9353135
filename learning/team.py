"""Processes, also of several machines, that train one network together through MXNet's parameter server.

Each worker computes the gradients of its share of every batch, the servers add them up (`dist_sync`: none
goes on before all have sent theirs), and each worker makes the same update. So the optimiser's state is every
worker's own, and a checkpoint holds what it holds for one process.

Who is what stands in the environment, as everywhere with MXNet: ``DMLC_ROLE`` (scheduler, server or worker),
``DMLC_PS_ROOT_URI``, ``DMLC_PS_ROOT_PORT``, ``DMLC_NUM_SERVER``, ``DMLC_NUM_WORKER``.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from learning.engine import EngineError, mxnet

ROLES = ("scheduler", "server", "worker")
_NEEDED = ("DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_SERVER", "DMLC_NUM_WORKER")
_SCHEDULER, _WORKERS, _EVERYBODY = 1, 4, 7  # node groups of the parameter server
_HEARTBEAT_SECONDS, _TIMES, _PATIENCE_SECONDS = 1, 5, 600
_MESSAGE_BYTES = 4096
_GONE = "a process of the team is gone; the same commands on all hosts go on with what is finished"


def role(environment: Mapping[str, str] = os.environ) -> str | None:
    """What this process is in a team; None where it works alone.

    Raises
    ------
    EngineError
        When the environment names a role and not all that belongs to it.
    """
    found = environment.get("DMLC_ROLE")
    if found is None:
        return None
    if found not in ROLES:
        raise EngineError(f"DMLC_ROLE is {found!r}; expected {', '.join(ROLES)}")
    missing = [name for name in _NEEDED if not environment.get(name)]
    if missing:
        raise EngineError(
            f"DMLC_ROLE is set and {', '.join(missing)} not; start what "
            "`python pipeline.py cluster` prints, or unset DMLC_ROLE to work alone"
        )
    return found


def _connect(kind: str) -> Any:
    """Take one's place in the team; returns when all of it is there."""
    mx, own = mxnet(), role()
    assert own is not None
    # So that the death of one is noticed by all, who would otherwise wait for it forever.
    os.environ.setdefault("PS_HEARTBEAT_INTERVAL", str(_HEARTBEAT_SECONDS))
    os.environ["DMLC_ROLE"] = own
    there = threading.Event()

    def wait() -> None:
        if not there.wait(_PATIENCE_SECONDS):
            where = f"{os.environ['DMLC_PS_ROOT_URI']}:{os.environ['DMLC_PS_ROOT_PORT']}"
            _leave(
                f"the team is not complete after {_PATIENCE_SECONDS} s (scheduler {where}); start all of it"
            )

    threading.Thread(target=wait, daemon=True).start()
    store = mx.kv.create(kind)
    there.set()
    return store


def leave(code: int) -> None:
    """End a process that has joined a team, with that exit code; nothing for others."""
    if team.cache_info().currsize and role() is not None:
        _leave(code=code)


def _leave(fault: str = "", code: int = 1) -> None:
    """End this process at once: a store's own end waits for the others, who may be gone."""
    if fault:
        print(f"error: {fault}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _silent(store: Any, group: int) -> int:
    """How many of a group of the team have not been heard for a while."""
    count, seconds = ctypes.c_int(), int(os.environ.get("PS_HEARTBEAT_TIMEOUT", "30"))
    base = sys.modules["mxnet.base"]
    base.check_call(base._LIB.MXKVStoreGetNumDeadNode(store.handle, group, ctypes.byref(count), seconds))
    return count.value


def _until_silent(store: Any, group: int, parted: threading.Event | None = None) -> bool:
    """Wait until one of a group is not heard any more, or the team parts; whether it was the first.

    Once is not enough: of those who joined a moment ago nothing has been heard yet either.
    """
    parted, times = parted or threading.Event(), 0
    while times < _TIMES:
        if parted.wait(_HEARTBEAT_SECONDS):
            return False
        times = times + 1 if _silent(store, group) else 0
    return True


def serve() -> None:
    """Be the scheduler or a server until the team parts, then end the process.

    The scheduler hears everybody, and everybody hears the scheduler: when one is gone the scheduler ends,
    and so do the others.
    """
    own = role()
    store = _connect("dist")

    def watch() -> None:
        _until_silent(store, _EVERYBODY if own == "scheduler" else _SCHEDULER)
        if own == "scheduler":
            time.sleep(2 * _HEARTBEAT_SECONDS + 1)  # at the end of the work all go, not quite at once
            left = int(os.environ["DMLC_NUM_WORKER"]) - _silent(store, _WORKERS)
            if left:
                _leave(_GONE)
        _leave(code=0)

    threading.Thread(target=watch, daemon=True).start()
    server = sys.modules["mxnet.kvstore.kvstore_server"].KVStoreServer(store)
    server.run()
    _leave(code=0)


class Team:
    """The workers of a team, seen from one of them.

    Attributes
    ----------
    rank : int
        0 for the one that leads: it alone writes, validates, and says what is trained next.
    size : int
        Workers.
    """

    def __init__(self) -> None:
        self._mx, self._store = mxnet(), _connect("dist_sync")
        self.rank, self.size = int(self._store.rank), int(self._store.num_workers)
        self._keys: dict[tuple[tuple[int, ...], str, int], int] = {}
        self._under_way: dict[int, Any] = {}
        self._parted = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        if _until_silent(self._store, _SCHEDULER, self._parted):
            _leave(_GONE)

    @property
    def seed(self) -> int:
        """What this worker adds to a seed, so that dropout differs from row to row; 0 for the first."""
        return 1_000_003 * self.rank

    def share(self, order: np.ndarray, size: int) -> tuple[np.ndarray, int]:
        """This worker's share of rows that are taken in batches.

        Parameters
        ----------
        order : ndarray of int
        size : int
            Of the joint batch; the share has a batch for each, of which the last may be empty.

        Returns
        -------
        order : ndarray of int
        size : int

        Raises
        ------
        EngineError
            When there are more workers than rows in a batch.
        """
        if size < self.size:
            raise EngineError(
                f"{self.size} workers cannot share batches of {size}; raise training.batch_size"
            )
        place = np.arange(len(order)) % size
        return order[place % self.size == self.rank], len(range(self.rank, size, self.size))

    def step(self, trainer: Any, params: Any, rows: int, scale: float = 1.0) -> None:
        """Update the weights by the gradients of all workers' shares of a batch.

        Parameters
        ----------
        trainer : gluon.Trainer
            Made with ``update_on_kvstore=False``; its devices' gradients are joined first.
        params : ParameterDict
        rows : int
            Of this worker's share; without any it has no part in the gradient.
        scale : float
            What the loss was multiplied by. It stays the same for all, who see one joint gradient overflow.
        """
        trained = [p for p in params.values() if p.grad_req != "null"]
        if rows:
            trainer.allreduce_grads()
        else:
            for p in trained:
                p.zero_grad()
        devices = [p.list_grad() for p in trained]
        self._add([grads[0] for grads in devices])
        (joint,) = self.sum([float(rows)])
        for p, (first, *others) in zip(trained, devices, strict=True):
            for grad in others:
                first.copyto(grad)
            for data in p.list_data():
                data._fresh_grad = True
        trainer.update(joint * scale)

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Add up each number over the workers."""
        array = self._mx.nd.array(np.asarray(numbers, np.float64), dtype="float64")
        self._add([array])
        return [float(number) for number in array.asnumpy()]

    def first(self, work: Callable[[], Sequence[float]], count: int) -> list[float]:
        """Have the first worker find some numbers, and tell them to all."""
        return self.sum(work() if self.rank == 0 else [0.0] * count)

    def same(self, number: int, what: str) -> None:
        """Make sure that all workers have found the same number; EngineError where not."""
        (found,) = self.first(lambda: [number], 1)
        if found != number:
            raise EngineError(
                f"the first worker has found {found:.0f} {what}, this one {number}; "
                "all hosts must see the same run folder and the same data"
            )

    def agree(self, params: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """Make the workers' values one: the first one's, and the mean of what is not trained.

        What is not trained are batch norm's running mean and variance, of which every worker has seen its
        share. Trained values are the same up to the rounding of unlike processors.

        Parameters
        ----------
        params : ParameterDict
        values : dict of str to NDArray
            By the parameters' names.
        """
        agreed = {}
        for name, value in values.items():
            mean = params[name].grad_req == "null"
            agreed[name] = value / self.size if mean else self._mine(value)
        self._add(list(agreed.values()))
        return agreed

    def begin_with(self, params: Any) -> None:
        """Give all workers the first one's weights."""
        values = {name: self._mine(p.data(p.list_ctx()[0])) for name, p in params.items()}
        self._add(list(values.values()))
        for name, value in values.items():
            params[name].set_data(value)

    def _mine(self, value: Any) -> Any:
        """The first worker's value, of which the others add nothing."""
        return value.copy() if self.rank == 0 else value.zeros_like()

    def tell(self, message: Any) -> None:
        """Have all workers but the first :meth:`hear` something that JSON can hold."""
        text = json.dumps(message).encode()
        if len(text) > _MESSAGE_BYTES - 8:
            raise ValueError(f"a message of {len(text)} bytes is longer than {_MESSAGE_BYTES}")
        self.sum([len(text), *text, *[0.0] * (_MESSAGE_BYTES - 1 - len(text))])

    def hear(self) -> Any:
        """Wait for what the first worker tells."""
        length, *text = self.sum([0.0] * _MESSAGE_BYTES)
        return json.loads(bytes(int(byte) for byte in text[: int(length)]))

    def part(self) -> None:
        """Let nobody's end be an accident any more."""
        self._parted.set()

    def _add(self, arrays: list[Any]) -> None:
        """Add up arrays over the workers, in place.

        A key of the store serves all arrays of one shape in turn: networks come and go, and each would
        otherwise leave its gradients with the servers.
        """
        used: dict[tuple[tuple[int, ...], str], int] = {}
        for array in arrays:
            kind = (array.shape, str(np.dtype(array.dtype)))
            used[kind] = number = used.get(kind, -1) + 1
            key = self._keys.get((*kind, number))
            if key is None:
                key = self._keys[(*kind, number)] = len(self._keys)
                self._store.init(key, self._mx.nd.zeros(array.shape, dtype=array.dtype))
            # The store orders what is done with one array, not what is done with one key: a second push of a
            # worker could pass for another worker's first.
            before = self._under_way.get(key)
            if before is not None and before is not array:
                before.wait_to_read()
            self._under_way[key] = array
            self._store.pushpull(key, array, out=array, priority=-key)


@functools.cache
def team() -> Team | None:
    """This process's team, joined at the first call; None where it works alone."""
    return Team() if role() == "worker" else None
