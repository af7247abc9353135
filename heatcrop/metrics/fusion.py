"""Fuse the full-image and the crop branch: an ensemble of two members with one free weight."""

from __future__ import annotations

import dataclasses

import numpy as np

from heatcrop.metrics.calibration import fit_temperature
from heatcrop.metrics.ensemble import Ensemble, calibrated, choose_weights, fuse_members

WEIGHTS = tuple(round(0.05 * i, 2) for i in range(21))
"""Weights of the crop branch that are tried; 0 is the full image alone."""


@dataclasses.dataclass(frozen=True)
class Fusion:
    """How the two branches are fused: the crop branch's weight, 0..1, and what divides their logits."""

    weight: float
    full_temperature: float = 1.0
    crop_temperature: float = 1.0


def fuse(full: np.ndarray, crop: np.ndarray, fusion: Fusion) -> np.ndarray:
    """Compute the weighted mean, (N, C) float64, of the calibrated (N, C) probabilities of both branches.

    At weight 0 it is exactly the calibrated full image.
    """
    weights = 1 - fusion.weight, fusion.weight
    return fuse_members([full, crop], Ensemble(weights, (fusion.full_temperature, fusion.crop_temperature)))


def fit_fusion(full: np.ndarray, crop: np.ndarray, letters: np.ndarray, soft: np.ndarray) -> Fusion:
    """Choose temperatures and weight on (N, C) rows that neither branch trained on.

    Of :data:`WEIGHTS` the one that :func:`heatcrop.metrics.ensemble.choose_weights` chooses, with the
    calibrated full image as the reference: fusion is never worse than it on these rows. Calibration itself
    reorders rows of more than two classes a little, to the worse or to the better. Weights are equal, without
    calibration, when there are no rows.
    """
    if not len(letters):
        return Fusion(0.5)
    temperatures = fit_temperature(full, soft), fit_temperature(crop, soft)
    branches = calibrated(full, temperatures[0]), calibrated(crop, temperatures[1])
    tried = [np.array([1 - weight, weight]) for weight in WEIGHTS]
    weights = choose_weights(branches, tried, [branches[0]], letters, soft)
    return Fusion(float(weights[1]), *temperatures)


def cross_fused(
    full: np.ndarray, crop: np.ndarray, letters: np.ndarray, soft: np.ndarray, parts: int = 5
) -> np.ndarray:
    """Fuse (N, C) rows, each by temperatures and a weight that are fitted without it; (N, C) float64.

    The rows are divided into `parts` at random, always in the same way. :func:`fit_fusion` on all rows has
    seen each row's label; confidences for a choice on these rows must not.
    """
    part_of, fused = np.random.default_rng(0).permutation(len(letters)) % parts, np.zeros(full.shape)
    for part in range(parts):
        own, others = part_of == part, part_of != part
        if own.any():
            fusion = fit_fusion(full[others], crop[others], letters[others], soft[others])
            fused[own] = fuse(full[own], crop[own], fusion)
    return fused
