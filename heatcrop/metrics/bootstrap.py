"""Bootstrap intervals of scores over images, paired between arms.

References
----------
Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: percentile intervals.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from heatcrop.metrics.score import METRICS, average_precisions, outcomes

Predictions = Mapping[str, Sequence[np.ndarray]]
"""Of each task, one (N, C) array of probabilities a seed."""

_DRAWN_AT_ONCE = 100_000
"""Rows of samples that are scored together, which bounds the memory."""


def bootstrap(
    arms: Mapping[str, Predictions],
    letters: Mapping[str, np.ndarray],
    resamples: int,
    seed: int = 0,
    done: Callable[[int], None] = lambda _: None,
) -> dict[str, dict[str, np.ndarray]]:
    """Score every arm on the same resampled images.

    Parameters
    ----------
    arms : mapping of arm to task to predictions of each seed
    letters : mapping of task to ndarray of int8, shape (N, C)
    resamples : int
    seed : int
    done : callable
        Receives the number of samples of a task, the task itself as one, that are newly scored for all arms.

    Returns
    -------
    dict of arm to task to ndarray of float, shape (1 + resamples, 3)
        Columns are those of :data:`heatcrop.metrics.score.METRICS`, averaged over seeds; row 0 is the sample
        itself. Images are drawn with replacement within each task, the same ones for all arms and seeds, so
        that differences between arms are paired. The mean over tasks comes as task ``mean``.
    """
    rng = np.random.default_rng(seed)
    scores: dict[tuple[str, str], list[np.ndarray]] = {(arm, task): [] for arm in arms for task in arms[arm]}
    for task, truth in letters.items():
        known = {
            arm: [outcomes(p, truth) for p in tasks[task]] for arm, tasks in arms.items() if task in tasks
        }
        for rows in itertools.chain([np.arange(len(truth))[None]], _resamples(len(truth), resamples, rng)):
            for arm, seeds in known.items():
                of_seeds = [[score(a[rows], b[rows]) for score in METRICS.values()] for a, b in seeds]
                scores[arm, task].append(np.mean(of_seeds, axis=0).T)
            done(len(rows))
    out: dict[str, dict[str, np.ndarray]] = {}
    for arm, tasks in arms.items():
        out[arm] = {task: np.concatenate(scores[arm, task]) for task in tasks}
        out[arm]["mean"] = np.mean(list(out[arm].values()), axis=0)
    return out


def _resamples(n: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Draw n of n rows with replacement, (k, n) int, k samples at a time: all could fill the memory."""
    at_once = max(1, _DRAWN_AT_ONCE // max(1, n))
    for first in range(0, resamples, at_once):
        yield rng.integers(0, n, (min(at_once, resamples - first), n))


def ap_interval(
    probabilities: np.ndarray, letters: np.ndarray, resamples: int = 200
) -> dict[str, float] | None:
    """Return the 95 % interval of one task's AP over its images; None where it has fewer than two.

    It is normal, with the standard deviation of the resamples (Efron and Tibshirani, chapter 12.3), which
    needs fewer of them than percentiles do.

    Parameters
    ----------
    probabilities : ndarray of float, shape (N, C)
    letters : ndarray of int8, shape (N, C)
        See :func:`heatcrop.metrics.score.average_precision`.
    resamples : int

    Returns
    -------
    dict of str to float, or None
        ``low`` and ``high``, within 0 and 1.
    """
    n = len(letters)
    if n < 2:
        return None
    confidence, outcome = outcomes(probabilities, letters)
    drawn = _resamples(n, resamples, np.random.default_rng(0))
    scores = np.concatenate([average_precisions(confidence[rows], outcome[rows]) for rows in drawn])
    spread = 1.96 * float(np.std(scores, ddof=1))
    value = float(average_precisions(confidence[None], outcome[None])[0])
    return {"low": max(0.0, value - spread), "high": min(1.0, value + spread)}


def interval(values: np.ndarray) -> dict[str, float]:
    """Return the value (first entry) and the 95 % interval of the resamples (the others).

    >>> interval(np.r_[7, np.arange(41)])
    {'value': 7.0, 'low': 1.0, 'high': 39.0}
    """
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return {"value": float(values[0]), "low": float(low), "high": float(high)}
