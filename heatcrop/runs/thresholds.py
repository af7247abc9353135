"""``thresholds.json``: from which confidence on a finished task's fused predictions are accurate enough.

It is derived from stage 3's predictions, and made again when these have changed.
"""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np

from heatcrop.data.dataset import TaskData
from heatcrop.data.labels import YES
from heatcrop.errors import DataError
from heatcrop.files import write_json
from heatcrop.metrics.fusion import cross_fused
from heatcrop.metrics.selective import ACCURACIES, ERROR, OperatingPoint, choose_threshold
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.predictions import confidences, read_branches, unseen_rows
from heatcrop.runs.reading import read_json
from heatcrop.runs.records import read_record

_CODE = 3
"""Raised when thresholds are chosen differently from the same predictions."""


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The content of the file."""

    made_from: str
    """Version of this code, and fingerprint of stage 3's inputs."""
    rows: int
    """On which the thresholds were chosen: validation rows and, of cross-fitted networks, training rows."""
    error: float
    """Probability that the accuracy is below the wanted one."""
    points: tuple[OperatingPoint, ...]


def read_points(folder: TaskFolder) -> tuple[OperatingPoint, ...] | None:
    """Read a task's thresholds; None where there are none for its predictions, as of an earlier version.

    DataError where the file is damaged.
    """
    if not folder.thresholds.is_file():
        return None
    found = read_json(folder.thresholds, Thresholds)
    return found.points if found.made_from == _made_from(folder) else None


def update_thresholds(folder: TaskFolder, data: TaskData) -> None:
    """Write a finished task's thresholds, unless they are there and stage 3 has not run since."""
    from heatcrop.data.splits import identical_groups  # imports pandas, which prediction does without

    with contextlib.suppress(DataError):  # a damaged file is replaced
        if read_points(folder) is not None:
            return
    branches = read_branches(folder, data)
    rows = unseen_rows(data, ~np.isnan(branches["crop"][:, 0]))
    # Copies of one file are right or wrong together: one of each counts.
    _, first = np.unique(identical_groups([data.paths[i] for i in rows]), return_index=True)
    rows = rows[np.sort(first)]
    full, crop, letters = branches["full"][rows], branches["crop"][rows], data.letters[rows]
    fused = cross_fused(full, crop, letters, data.soft[rows])
    right = letters[np.arange(len(rows)), fused.argmax(axis=1)] == YES
    confidence = confidences(fused)
    points = tuple(choose_threshold(confidence, right, accuracy) for accuracy in ACCURACIES)
    write_json(folder.thresholds, Thresholds(_made_from(folder), len(rows), ERROR, points))


def _made_from(folder: TaskFolder) -> str:
    record = read_record(folder.record("finetune"))
    return f"{_CODE} {record['fingerprint'] if record else ''}"
