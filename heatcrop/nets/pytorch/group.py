"""Train one network with several processes that a launcher such as torchrun has started.

The first process runs the pipeline and alone reads images and writes files. The others wait for its calls:
they build the same network, compute their share of each batch, and make the same updates. Gradients, and the
statistics of batch norm, are summed over all processes, so that a batch gives the same weights as in one
process, up to rounding. (Dropout draws other numbers in each process.)
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from heatcrop.errors import CONTINUE, EngineError, RunError
from heatcrop.nets.devices import Devices

_BEAT_SECONDS, _SILENT_SECONDS = 2.0, 60.0
_ANSWER_SECONDS = 300.0
"""For all processes to take part in a sum; they wait for each other during one batch only."""
_KEPT_CALLS = 1000
_LAUNCHER = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
_END = "end"

_group: ProcessGroup | None = None


def process_count() -> int:
    """Return how many processes the launcher has started; EngineError where its variables are incomplete."""
    words = {name: os.environ.get(name, "") for name in _LAUNCHER}
    if "WORLD_SIZE" not in os.environ or words["WORLD_SIZE"] == "1":
        return 1
    faults = [name for name, word in words.items() if not (word if name == "MASTER_ADDR" else word.isdigit())]
    if faults:
        raise EngineError(
            f"WORLD_SIZE is {words['WORLD_SIZE']!r}, and {faults[0]} is {words[faults[0]]!r}; start the "
            f"processes with torchrun, which sets {', '.join(_LAUNCHER)}, or unset WORLD_SIZE"
        )
    return int(words["WORLD_SIZE"])


def process_group() -> ProcessGroup | None:
    """Return the group that :func:`join_group` has joined."""
    return _group


def join_group(devices: Devices) -> ProcessGroup | None:
    """Join the group of the launcher's processes; None without others. RunError where one does not answer."""
    global _group
    if _group is None and process_count() > 1:
        _group = ProcessGroup(torch.device(devices.torch_device))
    return _group


class ProcessGroup:
    """The processes of a training; `rank` is this one's number, and that of the first is 0."""

    def __init__(self, device: torch.device) -> None:
        self.device, self._calls = device, 0
        limit = datetime.timedelta(seconds=_ANSWER_SECONDS)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with self._watched("at the start"):
            self._store, self.rank, self.size = next(dist.rendezvous("env://", timeout=limit))
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=dist.PrefixStore("group", self._store),
                rank=self.rank,
                world_size=self.size,
                timeout=limit,
            )
        if self.rank == 0:
            threading.Thread(target=self._beat, daemon=True).start()
            atexit.register(self._end)

    def send(self, method: str, *arguments: Any) -> None:
        """Make all other processes call a method; nothing where this is not the first one."""
        if self.rank == 0:
            with self._watched(method):
                self._store.set(self._key(0), method)
                self._store.delete_key(self._key(-_KEPT_CALLS))
                self._exchange(arguments)
            self._calls += 1

    def receive(self) -> tuple[str, tuple[Any, ...]] | None:
        """Wait for the first process's next call; None when it has finished. RunError when it has died."""
        began = since = time.monotonic()
        beat = -1
        with self._watched("while it waited"):
            # The store's own way of waiting prints a warning each time that its limit passes.
            while not self._store.check([self._key(0)]):
                now = time.monotonic()
                time.sleep(0.001 if now - began < 1 else 0.02)  # less often where it waits for a training
                if now - since > _BEAT_SECONDS:
                    found = self._store.add("beat", 0)
                    if found == beat and now - since > _SILENT_SECONDS:
                        raise RunError(self._lost("while it waited", f"silent for {_SILENT_SECONDS:g} s"))
                    if found != beat:
                        beat, since = found, now
            method = self._store.get(self._key(0)).decode()
        if method == _END:
            return None
        with self._watched(method):
            arguments = self._exchange(())
        self._calls += 1
        return method, arguments

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all processes, in place."""
        with self._watched("in a sum"):
            dist.all_reduce(tensor)
        return tensor

    def copy_first(self, tensor: torch.Tensor) -> None:
        """Replace a tensor by the first process's."""
        with self._watched("in a copy"):
            dist.broadcast(tensor, 0)

    def share(self, rows: int) -> slice:
        """Return which rows of a batch this process computes; there may be none."""
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def _key(self, offset: int) -> str:
        return f"call {self._calls + offset}"

    def _exchange(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Copy the first process's arguments to all."""
        found = [arguments]
        dist.broadcast_object_list(found, 0, device=self.device)
        return found[0]

    def _beat(self) -> None:
        with contextlib.suppress(RuntimeError):
            while True:
                self._store.add("beat", 1)
                time.sleep(_BEAT_SECONDS)

    def _end(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._store.set(self._key(0), _END)
            dist.destroy_process_group()

    @contextlib.contextmanager
    def _watched(self, when: str) -> Iterator[None]:
        """Turn a failure to reach the others into a RunError."""
        try:
            yield
        except RuntimeError as error:
            cause = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
            raise RunError(self._lost(when, cause)) from error

    def _lost(self, when: str, cause: str) -> str:
        rank, size = os.environ.get("RANK"), process_count()
        return (
            f"process {rank} of {size} ({when}): another process of the training has ended or does not "
            f"answer ({cause}); end all of them, and {CONTINUE}"
        )


class _Sum(torch.autograd.Function):
    """Sum over all processes, in both passes."""

    @staticmethod
    def forward(_context: Any, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone() if _group is None else _group.sum(tensor.clone())

    @staticmethod
    def backward(_context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.clone() if _group is None else _group.sum(gradient.clone())


def _batch_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Compute :func:`torch.nn.functional.batch_norm`, trained with the statistics of all processes."""
    if not training or (_group is None and x.numel() > x.shape[1]):
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    axes = [0, *range(2, x.ndim)]
    shape = (1, -1, *[1] * (x.ndim - 2))
    wide = x.float()
    sums: Callable[[torch.Tensor], torch.Tensor] = _Sum.apply
    total = sums(torch.cat([wide.sum(axes), wide.new_tensor([x.numel() / x.shape[1]])]))
    count = total[-1].detach()
    mean = total[:-1] / count
    centred = wide - mean.reshape(shape)
    var = sums(centred.square().sum(axes)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.detach(), momentum)
            running_var.lerp_(var.detach() * count / (count - 1).clamp(min=1), momentum)
    out = centred * torch.rsqrt(var + eps).reshape(shape)
    if weight is not None and bias is not None:
        out = out * weight.reshape(shape) + bias.reshape(shape)
    return out.to(x.dtype)


class SharedStatistics(TorchFunctionMode):
    """Compute every batch norm in a block by the statistics of all processes' rows.

    PyTorch's own layer for this works on GPUs only, and takes the place of its own batch norm, not timm's.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))
