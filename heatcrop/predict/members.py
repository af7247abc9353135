"""Members of an ensemble: finished runs and submission files, checked against the first run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from heatcrop.data.dataset import TaskData
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError, RunError, UsageError
from heatcrop.metrics.submissions import read_submission
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_table
from heatcrop.runs.progress import log
from heatcrop.wording import counted

SPLITS = ("val", "test")
FUSED = "fused"
"""The ensemble's own name in tables; no member's name."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A run or a submission file, and its predictions of the images that all members must predict."""

    name: str
    kind: Literal["run", "csv"]
    path: Path
    predictions: dict[str, np.ndarray]
    """By task, (N, C) in the rows of its data; NaN where there are none. A task without weight is missing."""


def member_names(paths: Sequence[Path]) -> list[str]:
    """Return a short, unique name for each member."""
    if len(paths) < 2:
        raise UsageError("one member is no ensemble; give --run several times, or --run and --csv")
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise UsageError(f"{path}: is given twice (as {seen[path.resolve()]}); give each member once")
        seen[path.resolve()] = path
    forms = [path.name for path in seen], [str(path) for path in paths]
    usable = (names for names in forms if len(set(names)) == len(names) and FUSED not in names)
    return next(usable, [str(path) for path in seen])


def run_member(
    name: str, folder: RunFolder, known: Sequence[Task], first: RunFolder, tasks: dict[str, TaskData]
) -> Member:
    """Read a run, which has the `known` tasks; check that it has the tasks and images of the `first` one."""
    own = {task.name: task for task in known}
    predictions = {}
    for task, data in tasks.items():
        if task not in own or not folder.task(task).finished:
            done = ", ".join(name for name in own if folder.task(name).finished) or "nothing"
            raise RunError(
                f"{folder.path}: {task} is not finished there, only {done}; expected the tasks of "
                f"{first.path}: finish it, or choose tasks with --task"
            )
        if own[task].classes != data.task.classes:
            raise RunError(
                f"{folder.config}: {task} has the classes {', '.join(own[task].classes)}; expected those of "
                f"{first.config}: {', '.join(data.task.classes)}"
            )
        file = folder.task(task).fused_csv
        table, probabilities = read_table(file)
        for split in SPLITS:
            found = set(table["image"][table["split"] == split])
            expected = {data.images[i] for i in data.rows(split)}
            if found != expected:
                other, missing = sorted(found - expected), sorted(expected - found)
                example = f"{other[0]} is not one of them" if other else f"{missing[0]} is missing"
                raise RunError(
                    f"{file}: {counted(len(found), f'{split} image(s)')}, {len(found & expected)} of them in "
                    f"{first.path}; expected the same {len(expected)} ({example}): train members on the same "
                    "data and splits"
                )
        predictions[task] = _aligned(data, table["image"].tolist(), probabilities)
    return Member(name, "run", folder.path, predictions)


def file_member(
    name: str, path: Path, first: RunFolder, known: Sequence[Task], tasks: dict[str, TaskData]
) -> Member:
    """Read a submission file, and check that it has every image of the tasks where it gets a weight."""
    found = read_submission(path, known)
    predictions: dict[str, np.ndarray] = {}
    without: dict[str, list[str]] = {}
    for task, data in tasks.items():
        val = [data.images[i] for i in data.rows("val", labelled=True)]
        rows = found.get(task, {})
        if rows.keys().isdisjoint(val or data.images):
            without.setdefault("a validation image" if val else "an image", []).append(task)
            continue
        for split, expected in (("validation", val), ("test", [data.images[i] for i in data.rows("test")])):
            missing = sorted(set(expected) - rows.keys())
            if missing:
                raise DataError(
                    f"{path}: {len(missing)} of {len(expected)} {split} images of {task} have no row, for "
                    f"instance {missing[0]}; expected all of them, as in {first.task(task).fused_csv}"
                )
        predictions[task] = _aligned(data, list(rows), np.stack([row.values for row in rows.values()]))
    for image, names in without.items():
        where = "any task" if len(names) == len(tasks) else ", ".join(names)
        log(
            f"{path}: holds no row of {image} of {where}, so it gets no weight there; add its predictions of "
            f"the images of {first.task(names[0]).fused_csv}"
        )
    return Member(name, "csv", path, predictions)


def _aligned(data: TaskData, images: list[str], values: np.ndarray) -> np.ndarray:
    """Return probabilities in the rows of the data, NaN where there are none."""
    table = pd.DataFrame(values, index=images)
    return table[~table.index.duplicated(keep="last")].reindex(data.images).to_numpy()
