"""Members of an ensemble: finished runs and submission files, read and checked against the first run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heatcrop.cli.config_file import read_config
from heatcrop.data.dataset import TaskData
from heatcrop.data.tasks import Task, resolve
from heatcrop.errors import DataError, RunError, UsageError
from heatcrop.metrics.submissions import read_submission
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_table as read_predictions
from heatcrop.runs.progress import log

SPLITS = ("val", "test")
FUSED = "fused"
"""What tables call the ensemble itself; no member's name."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A run or a submission file, and what it says of the pictures that all members must know.

    Attributes
    ----------
    name, kind : str
        `kind` is ``run`` or ``csv``.
    path : Path
    said : dict of str to ndarray of float, shape (N, C)
        By task, in the rows of its data; NaN where it says nothing. A task without weight is not there.
    """

    name: str
    kind: str
    path: Path
    said: dict[str, np.ndarray]


def member_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each member, unlike the others'."""
    if len(paths) < 2:
        raise UsageError("one member is no ensemble; give --run several times, or --run and --csv")
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise UsageError(f"{path}: is given twice (as {seen[path.resolve()]}); give each member once")
        seen[path.resolve()] = path
    short = [path.name for path in seen]
    clear = len(set(short)) == len(short) and FUSED not in short
    return short if clear else [str(path) for path in paths]


def finished_tasks(folder: RunFolder, wanted: Sequence[str]) -> list[Task]:
    if not folder.config.is_file():
        raise RunError(f"{folder.path}: is not a run folder (no config.yaml)")
    known = read_config(folder.config).known_tasks() or ()
    done = [task for task in known if folder.task(task.name).finished]
    if not done:
        raise RunError(f"{folder.path}: no task is finished; run it first: python pipeline.py run --all")
    chosen = [resolve(name, known) for name in wanted]
    for task in chosen:
        if task not in done:
            raise RunError(
                f"{folder.path}: {task.name} is not finished; run it first: "
                f"python pipeline.py run --task {task.short}"
            )
    return chosen or done


def run_member(name: str, folder: RunFolder, first: RunFolder, tasks: dict[str, TaskData]) -> Member:
    """Read a run, and make sure that it is of the same tasks, classes and pictures."""
    if not folder.config.is_file():
        raise RunError(f"{folder.path}: is not a run folder (no config.yaml)")
    known = {task.name: task for task in read_config(folder.config).known_tasks() or ()}
    said = {}
    for task, data in tasks.items():
        own = known.get(task)
        if own is None or not folder.task(task).finished:
            done = ", ".join(n for n in known if folder.task(n).finished) or "nothing"
            raise RunError(
                f"{folder.path}: {task} is not finished there, only {done}; expected the tasks of "
                f"{first.path}: finish it, or choose tasks with --task"
            )
        if own.classes != data.task.classes:
            raise RunError(
                f"{folder.config}: {task} has the classes {', '.join(own.classes)}; expected those of "
                f"{first.config}: {', '.join(data.task.classes)}"
            )
        file = folder.task(task).fused_csv
        table, probabilities = read_predictions(file)
        for split in SPLITS:
            has = set(table["image"][table["split"] == split])
            _same_pictures(file, has, {data.images[i] for i in data.rows(split)}, split, first)
        said[task] = _aligned(data, table["image"].tolist(), probabilities)
    return Member(name, "run", folder.path, said)


def _same_pictures(file: Path, has: set[str], expected: set[str], split: str, first: RunFolder) -> None:
    other, missing = sorted(has - expected), sorted(expected - has)
    if other or missing:
        example = f"{other[0]} is none of them" if other else f"{missing[0]} is missing"
        raise RunError(
            f"{file}: {len(has)} {split} pictures, of which {len(has & expected)} are {first.path}'s; "
            f"expected the same {len(expected)} ({example}): train members on the same data and splits"
        )


def file_member(
    name: str, path: Path, first: RunFolder, known: Sequence[Task], tasks: dict[str, TaskData]
) -> Member:
    """Read a submission file, and make sure that it knows every picture where it is to have a weight."""
    found = read_submission(path, known)
    said, silent = {}, []
    for task, data in tasks.items():
        rows = found.get(task)
        val = [data.images[i] for i in data.rows("val", labelled=True)]
        if rows is None or not set(val) & set(rows.images):
            silent.append(task)
            continue
        for split, expected in (("validation", val), ("test", [data.images[i] for i in data.rows("test")])):
            missing = sorted(set(expected) - set(rows.images))
            if missing:
                raise DataError(
                    f"{path}: {len(missing)} of {len(expected)} {split} pictures of {task} have no row, for "
                    f"instance {missing[0]}; expected all of them, as in {first.task(task).fused_csv}"
                )
        said[task] = _aligned(data, rows.images, rows.values)
    if silent:
        where = "any task" if not said else ", ".join(silent)
        log(
            f"{path}: holds no row of a validation picture of {where}, so it gets no weight there; add its "
            f"predictions of the pictures that {first.task(silent[0]).fused_csv} calls val"
        )
    return Member(name, "csv", path, said)


def _aligned(data: TaskData, images: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Probabilities in the rows of the data, NaN where there are none."""
    place = {image: i for i, image in enumerate(images)}
    out = np.full(data.letters.shape, np.nan)
    known = [i for i, image in enumerate(data.images) if image in place]
    out[known] = values[[place[data.images[i]] for i in known]]
    return out
