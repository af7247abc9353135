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
