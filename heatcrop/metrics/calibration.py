"""Probabilities from logits, their cross entropy, and temperature scaling.

References
----------
Guo et al., "On Calibration of Modern Neural Networks", ICML 2017: one temperature divides a network's logits.
"""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn (..., C) logits into probabilities.

    >>> softmax(np.array([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def cross_entropy(probabilities: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Compute the cross entropy in nats of each row, (N,), of (N, C) probabilities against soft labels."""
    return np.asarray(-(soft * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1))


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits behind (N, C) probabilities by a temperature and normalise again.

    >>> tempered(np.array([[0.8, 0.2]]), 2.0).round(4).tolist()
    [[0.6667, 0.3333]]
    """
    # The logs of probabilities are logits up to a constant per row.
    return softmax(np.log(np.maximum(probabilities, 1e-8)) / temperature)


def fit_temperature(probabilities: np.ndarray, soft: np.ndarray) -> float:
    """Find the temperature, 0.25..8, of least cross entropy on held-out (N, C) rows; 1 without rows."""
    if not len(soft):
        return 1.0
    from scipy.optimize import minimize_scalar  # slow to import, and prediction does not fit

    def loss(log_t: float) -> float:
        return float(cross_entropy(tempered(probabilities, float(np.exp(log_t))), soft).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.25), np.log(8)), method="bounded").x))
