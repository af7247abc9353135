"""Fuse two branches' predictions: calibrate each, weigh them, never below the full image alone.

Calibration follows Guo et al., "On Calibration of Modern Neural Networks", ICML 2017: one
temperature divides a branch's logits. Branches of different confidence would otherwise be averaged
by how loudly each speaks.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from heatcrop.metrics.score import average_precision

WEIGHTS = tuple(round(0.05 * i, 2) for i in range(21))
"""Weights of the crop branch that are tried; 0 is the full image alone."""


@dataclasses.dataclass(frozen=True)
class Fusion:
    """How two branches are fused.

    Attributes
    ----------
    weight : float
        Of the crop branch, 0..1.
    full_temperature, crop_temperature : float
        Logits are divided by these.
    """

    weight: float = 0.5
    full_temperature: float = 1.0
    crop_temperature: float = 1.0


def log_probabilities(probabilities: np.ndarray, floor: float = 1e-8) -> np.ndarray:
    """Logs of (N, C) probabilities, which are logits up to a constant a row."""
    return np.asarray(np.log(np.maximum(probabilities, floor)))


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits behind (N, C) probabilities by a temperature and normalise again.

    >>> tempered(np.array([[0.8, 0.2]]), 2.0).round(4).tolist()
    [[0.6667, 0.3333]]
    """
    logits = log_probabilities(probabilities) / temperature
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def fit_temperature(probabilities: np.ndarray, soft: np.ndarray) -> float:
    """Find the temperature of least cross entropy on held-out rows.

    Parameters
    ----------
    probabilities, soft : ndarray of float, shape (N, C)

    Returns
    -------
    float
        Within 0.25..8; 1 when there are no rows.
    """
    if not len(soft):
        return 1.0
    from scipy.optimize import minimize_scalar  # pictures are predicted where it is not installed

    def loss(log_t: float) -> float:
        p = tempered(probabilities, float(np.exp(log_t)))
        return float(-(soft * np.log(np.maximum(p, 1e-12))).sum(axis=1).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.25), np.log(8)), method="bounded").x))


def fuse(full: np.ndarray, crop: np.ndarray, how: Fusion) -> np.ndarray:
    """Weighted mean of the calibrated branches.

    Parameters
    ----------
    full, crop : ndarray of float, shape (N, C)
        Probabilities of each branch.

    Returns
    -------
    ndarray of float64, shape (N, C)
        Probabilities; at weight 0 exactly the calibrated full image.
    """
    return (1 - how.weight) * tempered(full, how.full_temperature) + how.weight * tempered(
        crop, how.crop_temperature
    )


def fit_fusion(full: np.ndarray, crop: np.ndarray, letters: np.ndarray, soft: np.ndarray) -> Fusion:
    """Choose temperatures and weight on validation rows that neither branch trained on.

    Validation sets are small, and the best of 21 noisy figures is an optimist's. So the rule is the
    one-standard-error rule (Breiman et al., "Classification and Regression Trees", 1984, section
    3.4.3): of all weights whose cross entropy is within one standard error of the least, the
    difference taken row by row, the one nearest to equal weights. Weights whose AP is below that of
    the full image alone are not considered, so that fusion is never worse on these rows.

    Parameters
    ----------
    full, crop : ndarray of float, shape (N, C)
        Probabilities.
    letters : ndarray of int8, shape (N, C)
    soft : ndarray of float, shape (N, C)

    Returns
    -------
    Fusion
        Equal weights and no calibration when there are no rows.
    """
    if not len(letters):
        return Fusion()
    base = Fusion(0.0, fit_temperature(full, soft), fit_temperature(crop, soft))
    tried = [dataclasses.replace(base, weight=w) for w in WEIGHTS]
    fused = [fuse(full, crop, how) for how in tried]
    aps = np.array([average_precision(p, letters) for p in fused])
    losses = np.array([-(soft * np.log(np.maximum(p, 1e-12))).sum(axis=1) for p in fused])  # (W, N)
    # As it came and calibrated, the full image ranks rows a little differently: neither may be undercut.
    as_it_came = average_precision(fuse(full, crop, Fusion(0.0)), letters)
    allowed = np.flatnonzero(aps >= max(aps[0], as_it_came))
    if not len(allowed):
        return dataclasses.replace(base, full_temperature=1.0)
    best = allowed[int(np.argmin(losses[allowed].mean(axis=1)))]
    worse = losses - losses[best]
    error = worse.std(axis=1) / np.sqrt(len(letters))
    close = [i for i in allowed if worse[i].mean() <= error[i]]
    return tried[min(close, key=lambda i: abs(WEIGHTS[i] - 0.5))]
