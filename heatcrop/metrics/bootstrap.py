"""Bootstrap intervals of scores over images, paired between arms.

References
----------
Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: percentile intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from heatcrop.metrics.score import METRICS, average_precision

Predictions = Mapping[str, Sequence[np.ndarray]]
"""Of each task, one (N, C) array of probabilities a seed."""


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
        Receives 1 when a sample of a task, or the task itself, is scored for all arms.

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
        n = len(truth)
        # One sample at a time: those of a large data set would fill the memory.
        for number in range(1 + resamples):
            rows = rng.integers(0, n, n) if number else np.arange(n)
            for arm in (arm for arm in arms if task in arms[arm]):
                seeds = [[score(p[rows], truth[rows]) for score in METRICS.values()] for p in arms[arm][task]]
                scores[arm, task].append(np.mean(seeds, axis=0))
            done(1)
    out: dict[str, dict[str, np.ndarray]] = {}
    for arm, tasks in arms.items():
        out[arm] = {task: np.array(scores[arm, task]) for task in tasks}
        out[arm]["mean"] = np.mean(list(out[arm].values()), axis=0)
    return out


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
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, n, n) for _ in range(resamples))
    spread = 1.96 * float(np.std([average_precision(probabilities[i], letters[i]) for i in drawn], ddof=1))
    value = average_precision(probabilities, letters)
    return {"low": max(0.0, value - spread), "high": min(1.0, value + spread)}


def interval(values: np.ndarray) -> dict[str, float]:
    """Return the value (first entry) and the 95 % interval of the resamples (the others).

    >>> interval(np.r_[7, np.arange(41)])
    {'value': 7.0, 'low': 1.0, 'high': 39.0}
    """
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return {"value": float(values[0]), "low": float(low), "high": float(high)}
