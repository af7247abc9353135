"""The pictures of several tasks as those of one, whose classes are theirs one after another.

One network can then learn all of them: a row is asked only its own task's classes, the others are marked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd

from heatcrop.data.dataset import TaskData
from heatcrop.data.splits import connected_groups
from heatcrop.data.tasks import Task

NAME = "shared_trunk"
"""What the joined tasks are called where one task would be named."""
NOT_ASKED = -1.0
"""In a soft label: of a class that is none of the picture's task."""
APART = "apart"
"""The split of a training row whose picture another task validates or tests on."""


@dataclasses.dataclass(frozen=True)
class JoinedData(TaskData):
    """The rows of several tasks, one task after another.

    ``task`` has the classes of all, ``letters`` an N for each that is not asked. Rows of one group are those
    that some chain of groups and byte-identical pictures joins, whatever their task.

    Attributes
    ----------
    parts : tuple of TaskData
    """

    parts: tuple[TaskData, ...] = ()

    def columns(self, number: int) -> slice:
        """Where the classes of a part lie among all."""
        sizes = [len(part.task.classes) for part in self.parts]
        return slice(sum(sizes[:number]), sum(sizes[: number + 1]))

    def rows_of(self, number: int) -> slice:
        """Where the rows of a part lie among all."""
        sizes = [len(part) for part in self.parts]
        return slice(sum(sizes[:number]), sum(sizes[: number + 1]))

    @property
    def soft(self) -> np.ndarray:
        """(N, C) float32 soft labels, `NOT_ASKED` at the classes of other tasks."""
        soft = np.full(self.letters.shape, NOT_ASKED, np.float32)
        for number, part in enumerate(self.parts):
            soft[self.rows_of(number), self.columns(number)] = part.soft
        return soft


def join_tasks(parts: Sequence[TaskData]) -> JoinedData:
    """Join tasks.

    A training row is set apart, neither trained on nor validated on, where another task validates or tests
    on the same picture or on one of its group.
    """
    classes = [f"{part.task.name} {name}" for part in parts for name in part.task.classes]
    letters = np.zeros((sum(map(len, parts)), len(classes)), np.int8)
    paths = [path for part in parts for path in part.paths]
    units = connected_groups(np.concatenate([part.groups for part in parts]).tolist(), paths)
    splits = np.concatenate([part.splits for part in parts]).astype("U5")
    held_out = np.zeros(int(units.max()) + 1, bool)
    held_out[units[splits != "train"]] = True
    splits[(splits == "train") & held_out[units]] = APART
    joined = JoinedData(
        Task(NAME, tuple(classes)),
        tuple(image for part in parts for image in part.images),
        tuple(paths),
        np.concatenate([part.sizes for part in parts]),
        letters,
        splits,
        units.astype(str),
        tuple(parts),
    )
    for number, part in enumerate(parts):
        letters[joined.rows_of(number), joined.columns(number)] = part.letters
    return joined


def one_side(rows: pd.DataFrame, splits: pd.Series[str], paths: Sequence[str]) -> pd.Series[str]:
    """Bring a picture that several tasks know, and its group, into one split.

    Of what belongs together, rows whose split was not given take a given one where there is any, else that of
    the first row by task and name. Given splits stay.

    Parameters
    ----------
    rows : DataFrame
        With ``image, task, split, group``; `split` as the data gives it.
    splits : Series of str
        As `heatcrop.data.splits.assign_splits` makes them, task by task.
    paths : sequence of str
        Of the rows.
    """
    given = rows["split"].to_numpy(object) != ""
    units = connected_groups(rows["group"].tolist(), paths)
    order = np.lexsort(
        (rows["image"].astype(str).to_numpy(str), rows["task"].astype(str).to_numpy(str), ~given)
    )
    first = np.empty(int(units.max(initial=-1)) + 1, np.int64)
    first[units[order[::-1]]] = order[::-1]
    values = splits.to_numpy(object)
    values = np.where(given, values, values[first[units]])
    return pd.Series(values, index=splits.index, dtype=object, name="split")
