"""The images, labels and splits of one task as arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from heatcrop.data.images import ImageError, image_size, read_image
from heatcrop.data.labels import YES, parse_letters, soft_labels
from heatcrop.data.tasks import Task

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is


@dataclasses.dataclass(frozen=True)
class TaskData:
    """The usable images of one task."""

    task: Task
    images: tuple[str, ...]
    """Names as annotated, unique."""
    paths: Sequence[str]
    sizes: np.ndarray
    """Width and height in pixels, (N, 2) int."""
    letters: np.ndarray
    """2 for y, 1 for m, 0 for n, (N, C) int8; a row of zeros has no label."""
    splits: np.ndarray
    """train, val or test, (N,) object."""
    groups: np.ndarray
    """Images of one group stay in one split, (N,) object; '' for none."""

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, split: str, labelled: bool = False) -> np.ndarray:
        """Return the indices of a split's rows, in order; with `labelled` only those with a label."""
        chosen = self.splits == split
        if labelled:
            chosen &= self.labelled
        return np.flatnonzero(chosen)

    def class_counts(self, split: str) -> np.ndarray:
        """Count a split's labelled images by class, (C,) int."""
        rows = self.rows(split, labelled=True)
        return np.bincount(self.letters[rows].argmax(axis=1), minlength=len(self.task.classes))

    @property
    def labelled(self) -> np.ndarray:
        """Which rows have a label, (N,) bool."""
        return np.asarray((self.letters == YES).any(axis=1))

    @property
    def soft(self) -> np.ndarray:
        """Soft labels, (N, C) float32; zeros where there is no label."""
        soft = np.zeros(self.letters.shape, np.float32)
        soft[self.labelled] = soft_labels(self.letters[self.labelled])
        return soft


def task_data(task: Task, rows: pd.DataFrame) -> TaskData:
    """Build a task's arrays, sorted by image name, from annotation rows of any tasks.

    `rows` have the columns of `heatcrop.data.readers.Annotations.rows`, ``width`` and ``height``.
    """
    rows = rows[rows["task"] == task.name].sort_values("image", kind="stable")
    n_classes = len(task.classes)
    codes = {text: parse_letters(text, n_classes) for text in set(rows["label"]) if text}
    codes[""] = np.zeros(n_classes, np.int8)
    return TaskData(
        task,
        tuple(rows["image"]),
        rows["path"].tolist(),
        rows[["width", "height"]].to_numpy(np.int64),
        np.array([codes[text] for text in rows["label"]], np.int8).reshape(-1, n_classes),
        rows["split"].to_numpy(object),
        rows["group"].to_numpy(object),
    )


def survey_images(
    paths: Sequence[str], threads: int = 2, done: Callable[[int], None] = lambda _: None
) -> tuple[np.ndarray, list[str]]:
    """Decode every image once, at an eighth of its scale where possible.

    A truncated file is found only by decoding it. This check finds it before training starts. `done` receives
    the number of images checked since its last call. Returned are width and height in pixels, (N, 2) int, and
    why each image cannot be read; (0, 0) and a reason for a bad image, '' for a good one.
    """

    def survey(path: str) -> tuple[tuple[int, int], str]:
        try:
            size = image_size(path)
            read_image(path, at_least_px=1)
        except ImageError as error:
            return (0, 0), error.reason
        return size, ""

    found: list[tuple[tuple[int, int], str]] = []
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(paths), 256):
            found += pool.map(survey, paths[start : start + 256])
            done(min(256, len(paths) - start))
    sizes, reasons = zip(*found, strict=True) if found else ((), ())
    return np.array(sizes, np.int64).reshape(-1, 2), list(reasons)
