"""Tasks that share a network: one unit of training, whose rows are those of its tasks one after another.

A task that has a network for itself is a group of one, with the task's own rows. In a group of several, a row
has a label for the classes of its own task only; the others are marked in its soft label.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from heatcrop.data.dataset import TaskData
from heatcrop.data.labels import YES
from heatcrop.data.splits import connected_groups

SHARED = "shared_trunk"
"""The name of a group of several tasks."""
OTHER_TASK = -1.0
"""In a soft label: the class belongs to another task than the row."""
HELD_OUT = "apart"
"""The split of a training row whose image another task of the group validates or tests on."""


@dataclasses.dataclass(frozen=True)
class TaskGroup:
    """One or more tasks that one network classifies; the rows are those of one task after another."""

    tasks: tuple[TaskData, ...]
    paths: Sequence[str]
    sizes: np.ndarray
    """Width and height in pixels, (N, 2) int."""
    letters: np.ndarray
    """Label codes of the classes of all tasks, (N, C) int8; 0 for the classes of other tasks."""
    splits: np.ndarray
    """train, val, test or :data:`HELD_OUT`, (N,) str."""
    groups: np.ndarray
    """Rows of one group must stay in one fold, (N,) str."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def name(self) -> str:
        """The task's name, or :data:`SHARED`."""
        return self.tasks[0].task.name if len(self.tasks) == 1 else SHARED

    @property
    def short(self) -> str:
        """The name for messages."""
        return self.tasks[0].task.short if len(self.tasks) == 1 else SHARED

    @property
    def n_classes(self) -> int:
        """Classes of all tasks, the outputs of the network."""
        return int(self.letters.shape[1])

    def columns(self, number: int) -> slice:
        """Return the classes of one task among those of all."""
        return _span([len(data.task.classes) for data in self.tasks], number)

    def rows_of(self, number: int) -> slice:
        """Return the rows of one task among those of all."""
        return _span([len(data) for data in self.tasks], number)

    @functools.cached_property
    def trained_classes(self) -> list[tuple[int, ...]]:
        """Of each task, the classes that the network trains on, by their number in the task."""
        found = []
        for number in range(len(self.tasks)):
            rows, classes = self.rows_of(number), self.columns(number)
            trained = self.letters[rows, classes][self.splits[rows] == "train"] == YES
            found.append(tuple(np.flatnonzero(trained.any(axis=0)).tolist()))
        return found

    @functools.cached_property
    def task_of(self) -> np.ndarray:
        """Number of each row's task, (N,) int."""
        return np.repeat(np.arange(len(self.tasks)), [len(data) for data in self.tasks])

    @property
    def labelled(self) -> np.ndarray:
        """Whether a row has a label, ndarray of bool, shape (N,)."""
        return np.asarray((self.letters == YES).any(axis=1))

    @functools.cached_property
    def soft(self) -> np.ndarray:
        """Soft labels, ndarray of float32, shape (N, C); :data:`OTHER_TASK` at the classes of other tasks."""
        soft = np.full(self.letters.shape, OTHER_TASK, np.float32)
        for number, data in enumerate(self.tasks):
            soft[self.rows_of(number), self.columns(number)] = data.soft
        return soft

    def rows(self, split: str) -> np.ndarray:
        """Return the indices of a split's labelled rows, in order."""
        return np.flatnonzero((self.splits == split) & self.labelled)


def single_group(data: TaskData) -> TaskGroup:
    """Make the group of one task."""
    return TaskGroup((data,), data.paths, data.sizes, data.letters, data.splits, data.groups)


def shared_group(tasks: Sequence[TaskData]) -> TaskGroup:
    """Make the group of tasks that share a network.

    A training row is held out, neither trained on nor validated on, where another task validates or tests
    on the same image or on one of its group. Rows of one fold are those that some chain of groups and
    byte-identical images connects, whatever their task.
    """
    paths = [path for data in tasks for path in data.paths]
    units = connected_groups(np.concatenate([data.groups for data in tasks]).tolist(), paths)
    splits = np.concatenate([data.splits for data in tasks]).astype("U5")
    evaluated = np.zeros(int(units.max()) + 1, bool)
    evaluated[units[splits != "train"]] = True
    splits[(splits == "train") & evaluated[units]] = HELD_OUT
    letters = np.zeros((len(paths), sum(len(data.task.classes) for data in tasks)), np.int8)
    sizes = np.concatenate([data.sizes for data in tasks])
    group = TaskGroup(tuple(tasks), paths, sizes, letters, splits, units.astype(str))
    for number, data in enumerate(tasks):
        letters[group.rows_of(number), group.columns(number)] = data.letters
    return group


def align_splits(rows: pd.DataFrame, splits: pd.Series[str]) -> pd.Series[str]:
    """Bring an image that several tasks label, and its group, into one split.

    Of connected rows, those whose split was not given take a given one where there is any, else that of the
    first row by task and name. Given splits, as in `rows`, stay; `splits` are those that
    :func:`heatcrop.data.splits.assign_splits` makes of them, task by task.
    """
    given = rows["split"].to_numpy(object) != ""
    units = connected_groups(rows["group"].tolist(), rows["path"].tolist())
    names, tasks = (rows[column].astype(str).to_numpy(str) for column in ("image", "task"))
    order = np.lexsort((names, tasks, ~given))
    first = np.empty(int(units.max(initial=-1)) + 1, np.int64)
    first[units[order[::-1]]] = order[::-1]
    values = splits.to_numpy(object)
    values = np.where(given, values, values[first[units]])
    return pd.Series(values, index=splits.index, dtype=object, name="split")


def _span(sizes: Sequence[int], number: int) -> slice:
    return slice(sum(sizes[:number]), sum(sizes[: number + 1]))
