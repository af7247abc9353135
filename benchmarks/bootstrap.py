"""Compute bootstrap intervals of scores over images, paired between arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from heatcrop.metrics.score import accuracy, average_precision, basic_precision

METRICS: dict[str, Callable[..., float]] = {
    "map": average_precision,
    "basic_precision": basic_precision,
    "accuracy": accuracy,
}

Predictions = Mapping[str, Sequence[np.ndarray]]
"""Of each task, one (N, C) array of probabilities a seed."""


def bootstrap(
    arms: Mapping[str, Predictions], letters: Mapping[str, np.ndarray], resamples: int, seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """Score every arm on the same resampled images.

    Parameters
    ----------
    arms : mapping of arm to task to predictions of each seed
    letters : mapping of task to ndarray of int8, shape (N, C)
    resamples : int

    Returns
    -------
    dict of arm to task to ndarray of float, shape (1 + resamples, 3)
        Columns are those of :data:`METRICS`, averaged over seeds; row 0 is the sample itself. Images
        are drawn with replacement within each task, the same ones for all arms and seeds, so that
        differences between arms are paired. The mean over tasks comes as task ``mean``.
    """
    rng = np.random.default_rng(seed)
    resampled = {
        task: [np.arange(len(truth)), *rng.integers(0, len(truth), (resamples, len(truth)))]
        for task, truth in letters.items()
    }
    out: dict[str, dict[str, np.ndarray]] = {}
    for arm, tasks in arms.items():
        out[arm] = {
            task: np.array([_mean_metrics(seeds, letters[task], rows) for rows in resampled[task]])
            for task, seeds in tasks.items()
        }
        out[arm]["mean"] = np.mean(list(out[arm].values()), axis=0)
    return out


def _mean_metrics(seeds: Sequence[np.ndarray], letters: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Compute the metrics of some rows, averaged over seeds."""
    return np.mean([[score(p[rows], letters[rows]) for score in METRICS.values()] for p in seeds], axis=0)


def interval(values: np.ndarray) -> dict[str, float]:
    """Return the value (first entry) and the 95 % interval of the resamples (the others).

    >>> interval(np.r_[7, np.arange(41)])
    {'value': 7.0, 'low': 1.0, 'high': 39.0}
    """
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return {"value": float(values[0]), "low": float(low), "high": float(high)}
