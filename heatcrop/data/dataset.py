"""One task's pictures, labels and splits as arrays: what the stages work on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from heatcrop.data.images import ImageError, image_size, read_image
from heatcrop.data.labels import parse_letters, soft_labels
from heatcrop.data.tasks import Task
from heatcrop.data.texts import take

if TYPE_CHECKING:
    import pandas as pd  # pictures are predicted where it is not installed


@dataclasses.dataclass(frozen=True)
class TaskData:
    """The usable pictures of one task.

    Attributes
    ----------
    task : Task
    images : tuple of str
        As annotated, unique.
    paths : sequence of str
        Where the files are.
    sizes : ndarray of int, shape (N, 2)
        Width and height in pixels.
    letters : ndarray of int8, shape (N, C)
        2 for y, 1 for m, 0 for n; a row of zeros has no label.
    splits : ndarray of str, shape (N,)
        train, val or test; like the groups, texts of which each is kept once.
    groups : ndarray of str, shape (N,)
        '' for none.
    """

    task: Task
    images: tuple[str, ...]
    paths: Sequence[str]
    sizes: np.ndarray
    letters: np.ndarray
    splits: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, split: str, labelled: bool = False) -> np.ndarray:
        """Indices of a split's rows, in order; with `labelled` only those that have a label."""
        chosen = self.splits == split
        if labelled:
            chosen &= self.labelled
        return np.flatnonzero(chosen)

    @property
    def labelled(self) -> np.ndarray:
        """(N,) bool."""
        return np.asarray((self.letters == 2).any(axis=1))

    @property
    def soft(self) -> np.ndarray:
        """(N, C) float32 soft labels; zeros where there is no label."""
        soft = np.zeros(self.letters.shape, np.float32)
        soft[self.labelled] = soft_labels(self.letters[self.labelled])
        return soft

    def label_texts(self) -> list[str]:
        """Class name of each row's y, '' without a label."""
        return [self.task.classes[int(r.argmax())] if (r == 2).any() else "" for r in self.letters]


def task_data(task: Task, rows: pd.DataFrame, paths: Sequence[str] | None = None) -> TaskData:
    """Make a task's arrays from annotation rows that also have ``width`` and ``height``.

    Parameters
    ----------
    paths : sequence of str, optional
        Of all rows; by default their ``path``.
    """
    images = rows["image"].to_numpy(object)
    of_task = np.flatnonzero((rows["task"] == task.name).to_numpy(bool))
    of_task = of_task[np.argsort(images[of_task], kind="stable")]
    images = images[of_task]
    paths = take(rows["path"].tolist() if paths is None else paths, of_task)
    known: dict[str, np.ndarray] = {"": np.zeros(len(task.classes), np.int8)}
    letters = np.empty((len(images), len(task.classes)), np.int8)
    for i, text in enumerate(rows["label"].to_numpy(object)[of_task]):
        if text not in known:
            known[text] = parse_letters(text, len(task.classes))
        letters[i] = known[text]
    return TaskData(
        task,
        tuple(images),
        paths,
        np.column_stack([rows[side].to_numpy(np.int64)[of_task] for side in ("width", "height")]),
        letters,
        rows["split"].to_numpy(object)[of_task],
        rows["group"].to_numpy(object)[of_task],
    )


def survey_images(
    paths: Sequence[str], threads: int = 2, done: Callable[[int], None] = lambda _: None
) -> tuple[np.ndarray, list[str]]:
    """Decode every picture once, at an eighth of its scale where that is possible.

    A truncated file is found only by decoding it, and it must be found before hours of training
    rather than in the middle of them.

    Returns
    -------
    sizes : ndarray of int, shape (N, 2)
        Width and height in pixels; 0 for a picture that cannot be read.
    reasons : list of str
        '' for a good picture, otherwise why it cannot be read.
    """

    def look(path: str) -> tuple[tuple[int, int], str]:
        try:
            size = image_size(path)
            read_image(path, at_least_px=1)
        except ImageError as error:
            return (0, 0), error.reason
        return size, ""

    sizes = np.zeros((len(paths), 2), np.int64)
    reasons: list[str] = []
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(paths), 256):
            for size, reason in pool.map(look, paths[start : start + 256]):
                sizes[len(reasons)] = size
                reasons.append(reason)
            done(min(256, len(paths) - start))
    return sizes, reasons
