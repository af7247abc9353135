"""Compare the predictions of two runs on the images that both score."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from heatcrop.data.dataset import TaskData
from heatcrop.data.labels import YES
from heatcrop.metrics.bootstrap import bootstrap, interval
from heatcrop.metrics.score import METRICS

SIDES = ("a", "b")
"""The two runs, in the order in which they are given; changes are from the first to the second."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """What two runs predict of the same M images of a task."""

    letters: np.ndarray
    """(M, C) int8 label codes, the same in both runs."""
    a: dict[str, np.ndarray]
    b: dict[str, np.ndarray]
    """(M, C) probabilities by branch."""


def match_rows(a: TaskData, b: TaskData, split: str) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """Find the images of a split that two runs score with the same label.

    An image that the other run trains or validates on, or labels differently, is no measure of both.

    Returns
    -------
    rows, others : ndarray of int, shape (M,)
        Rows of the images in `a` and in `b`, in the order of `a`.
    left_out : Counter of str
        Labelled images of the split in `a` that are not among them, by what they are in `b`: ``missing``,
        in another ``split``, ``unlabelled``, or with another ``label``.
    """
    places, labelled = {image: row for row, image in enumerate(b.images)}, b.labelled
    found, left_out = [], Counter[str]()
    for row in a.rows(split, labelled=True).tolist():
        other = places.get(a.images[row])
        if other is None:
            left_out["missing"] += 1
        elif b.splits[other] != split:
            left_out["split"] += 1
        elif not labelled[other]:
            left_out["unlabelled"] += 1
        elif not np.array_equal(a.letters[row], b.letters[other]):
            left_out["label"] += 1
        else:
            found.append((row, other))
    rows, others = np.array(found, np.intp).reshape(-1, 2).T
    return rows, others, left_out


def find_changes(letters: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Find which predictions turn from wrong to right (1) and from right to wrong (-1); 0 is no change.

    Right is a predicted class whose letter is ``y``, as in :data:`heatcrop.metrics.score.METRICS`.

    >>> letters = np.array([[2, 0], [2, 0], [1, 2]])
    >>> a, b = np.array([[1, 0], [0, 1], [1, 0]]), np.array([[0, 1], [1, 0], [1, 0]])
    >>> find_changes(letters, a, b).tolist()
    [-1, 1, 0]
    """
    rows = np.arange(len(letters))
    right_a, right_b = (letters[rows, p.argmax(axis=1)] == YES for p in (a, b))
    return np.asarray(right_b.astype(np.int8) - right_a.astype(np.int8))


def compare_scores(
    pairs: Mapping[str, Pair],
    branches: Sequence[str],
    resamples: int,
    done: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """Score both runs on each task, and their means over the tasks.

    Returns ``{"tasks": {task: figures}, "mean": figures}``. Figures have, by branch and metric of
    :data:`heatcrop.metrics.score.METRICS`, ``a``, ``b`` and ``change`` (b - a), each with the ends of its
    95 % interval. Both runs are scored on the same resampled images, so that the interval of the change is
    paired. `done` as in :func:`heatcrop.metrics.bootstrap.bootstrap`.
    """
    # No task's name: one may be called mean.
    names = {task: f"task {task}" for task in pairs}
    letters = {names[task]: pair.letters for task, pair in pairs.items()}
    arms = {
        f"{side} {branch}": {names[task]: [getattr(pair, side)[branch]] for task, pair in pairs.items()}
        for side in SIDES
        for branch in branches
    }
    scored = bootstrap(arms, letters, resamples, done=done)

    def figures(name: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for branch in branches:
            a, b = (scored[f"{side} {branch}"][name].T for side in SIDES)
            found[branch] = {
                metric: {"a": interval(a[i]), "b": interval(b[i]), "change": interval(b[i] - a[i])}
                for i, metric in enumerate(METRICS)
            }
        return found

    return {"tasks": {task: figures(name) for task, name in names.items()}, "mean": figures("mean")}
