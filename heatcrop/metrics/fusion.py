"""Fuse the full-image and the crop branch: an ensemble of two members with one free weight."""

from __future__ import annotations

import dataclasses

import numpy as np

from heatcrop.metrics.calibration import fit_temperature, tempered
from heatcrop.metrics.ensemble import choose_weights, weighted_mean

WEIGHTS = tuple(round(0.05 * i, 2) for i in range(21))
"""Weights of the crop branch that are tried; 0 is the full image alone."""


@dataclasses.dataclass(frozen=True)
class Fusion:
    """How the two branches are fused.

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


def fuse(full: np.ndarray, crop: np.ndarray, fusion: Fusion) -> np.ndarray:
    """Compute the weighted mean of the calibrated branches.

    Parameters
    ----------
    full, crop : ndarray of float, shape (N, C)
        Probabilities of each branch.

    Returns
    -------
    ndarray of float64, shape (N, C)
        Probabilities; at weight 0 exactly the calibrated full image.
    """
    branches = tempered(full, fusion.full_temperature), tempered(crop, fusion.crop_temperature)
    return weighted_mean(branches, (1 - fusion.weight, fusion.weight))


def fit_fusion(full: np.ndarray, crop: np.ndarray, letters: np.ndarray, soft: np.ndarray) -> Fusion:
    """Choose temperatures and weight on rows that neither branch trained on.

    Of :data:`WEIGHTS` the one that :func:`heatcrop.metrics.ensemble.choose_weights` chooses, with the full
    image alone as the reference: fusion is never worse on these rows.

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
    temperatures = fit_temperature(full, soft), fit_temperature(crop, soft)
    branches = tempered(full, temperatures[0]), tempered(crop, temperatures[1])
    tried = [np.array([1 - weight, weight]) for weight in WEIGHTS]
    # Calibrated and uncalibrated, the full image ranks rows a little differently: fusion is below neither.
    weights = choose_weights(branches, tried, [tempered(full, 1.0), branches[0]], letters, soft)
    if weights is None:
        return Fusion(0.0, 1.0, temperatures[1])
    return Fusion(float(weights[1]), *temperatures)
