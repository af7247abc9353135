"""Checkpoints: where an interrupted training continues, one file per network, arrays and JSON only.

MXNet's own files of optimiser state are pickles, which can run code when they are read. Here the state is
read from the optimiser as arrays, so a checkpoint is read without running anything, and the checksums of
its zip archive reveal damage.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.errors import DataError
from heatcrop.nets.engine import mxnet
from heatcrop.runs.predictions import read_arrays, write_arrays

_FORMAT = 2


@dataclasses.dataclass
class Checkpoint:
    """A file that a training writes as it proceeds, and continues from."""

    path: Path
    fingerprint: str
    """Of everything the training depends on; a file with another one is ignored."""
    share: float = 0.05
    """The share of the training time that may be spent on writing. Epochs of less than a second would
    otherwise spend more time on the disk than on training; long epochs each leave a file."""
    _written: float = dataclasses.field(default=0.0, init=False)
    _cost: float = dataclasses.field(default=0.0, init=False)

    @property
    def due(self) -> bool:
        """Whether enough time has passed since the last file to write another."""
        return (time.perf_counter() - self._written) * self.share >= self._cost

    def write(self, history: list[dict[str, Any]], groups: dict[str, list[np.ndarray]]) -> None:
        """Write the rows of all finished epochs and any number of lists of arrays, atomically."""
        started = time.perf_counter()
        description = {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "history": history,
            "groups": {name: len(arrays) for name, arrays in groups.items()},
        }
        arrays = {f"{name}/{i}": array for name, group in groups.items() for i, array in enumerate(group)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(self.path, description=np.array(json.dumps(description, default=float)), **arrays)
        self._written = time.perf_counter()
        self._cost = self._written - started

    def read(self) -> tuple[list[dict[str, Any]], dict[str, list[np.ndarray]]] | None:
        """Read history and arrays; None for a missing or damaged file, or one of another training."""
        try:
            arrays = read_arrays(self.path)
            description = json.loads(str(arrays["description"]))
            if (description["format"], description["fingerprint"]) != (_FORMAT, self.fingerprint):
                return None
            return list(description["history"]), {
                name: [arrays[f"{name}/{i}"] for i in range(count)]
                for name, count in description["groups"].items()
            }
        except (OSError, DataError, ValueError, KeyError, TypeError):
            return None


def optimiser_arrays(trainer: Any, params: Any) -> list[np.ndarray]:
    """Read an optimiser's state: the updates of each parameter, (P,) int64, -1 for untrained; the states.

    The trainer was made from `params` with ``update_on_kvstore=False``, so that it holds the state. The order
    is the network's: names and the trainer's order depend on how many networks the process made before.
    """
    states, counts = trainer._updaters[0].states, trainer._optimizer._index_update_count
    places = [trainer._param2idx[p.name] for p in params.values()]
    arrays = [np.array([counts.get(place, -1) for place in places], np.int64)]
    for place in places:
        arrays += [one.asnumpy() for one in _parts(states.get(place))]
    return arrays


def restore_optimiser(trainer: Any, params: Any, arrays: list[np.ndarray]) -> None:
    """Restore the state that :func:`optimiser_arrays` has read; ValueError when it does not fit."""
    mx = mxnet()
    optimizer, rest = trainer._optimizer, iter(arrays[1:])
    for p, count in zip(params.values(), arrays[0].tolist(), strict=True):
        if count < 0:
            continue
        place = trainer._param2idx[p.name]
        optimizer.num_update = max(optimizer.num_update, count)
        fresh = _parts(optimizer.create_state_multi_precision(place, p.data(p.list_ctx()[0])))
        values = [next(rest) for _ in fresh]
        if any(a.shape != b.shape for a, b in zip(fresh, values, strict=True)):
            raise ValueError("the optimiser's state belongs to other parameters")
        for updater, context in zip(trainer._updaters, trainer._contexts, strict=True):
            optimizer._set_current_context(context.device_id)
            optimizer._index_update_count[place] = count
            state = tuple(mx.nd.array(v, ctx=context, dtype=v.dtype) for v in values)
            updater.states[place] = state if len(state) != 1 else state[0]
            updater.states_synced[place] = True


def _parts(state: Any) -> list[Any]:
    """List one parameter's state: Adam keeps two arrays, momentum one, untrained parameters none."""
    if state is None:
        return []
    return list(state) if isinstance(state, (list, tuple)) else [state]
