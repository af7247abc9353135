"""Fuse any number of predictions: calibrate each, weight them, never score below the best one.

Weights are convex. Their cross entropy on validation is a convex function of them, so its minimum is
found reliably; greedy selection leaves weak members out.

References
----------
Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004.
Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3: the one-standard-error rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from heatcrop.metrics.calibration import cross_entropy, fit_temperature, tempered
from heatcrop.metrics.score import average_precision

_STEPS, _STANDARD_ERRORS = 20, 2.0


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """How members are fused."""

    weights: tuple[float, ...]
    """One per member, 0..1; they sum to 1."""
    temperatures: tuple[float, ...]
    """Each member's logits are divided by its own; exactly 1 leaves its probabilities unchanged."""


def calibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Temper (N, C) probabilities; at exactly 1 they stay untouched, so that no rank changes."""
    return probabilities if temperature == 1 else tempered(probabilities, temperature)


def weighted_mean(members: Sequence[np.ndarray], weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Average (N, C) predictions as float64; a member of weight 0 may hold NaN."""
    parts = [w * p for w, p in zip(weights, members, strict=True) if w]
    return np.asarray(np.sum(parts, axis=0, dtype=np.float64))


def fuse_members(members: Sequence[np.ndarray], ensemble: Ensemble) -> np.ndarray:
    """Compute the weighted mean, (N, C) float64, of the calibrated (N, C) probabilities of members.

    >>> a, b = np.array([[0.8, 0.2]]), np.array([[0.4, 0.6]])
    >>> fuse_members([a, b], Ensemble((0.5, 0.5), (1.0, 1.0))).round(4).tolist()
    [[0.6, 0.4]]
    """
    rows = zip(members, ensemble.temperatures, ensemble.weights, strict=True)
    return weighted_mean([calibrated(p, t) if w else p for p, t, w in rows], ensemble.weights)


def choose_weights(
    members: Sequence[np.ndarray],
    tried: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    letters: np.ndarray,
    soft: np.ndarray,
) -> np.ndarray:
    """Choose the (K,) weights of K members by the one-standard-error rule, with two of them.

    Two, since most rows are predicted by networks of folds: they trained on fewer images than those whose
    predictions will be fused, and differ from each other more. Of all weights whose cross entropy is within
    two standard errors of the least, the difference taken row by
    row, choose the ones nearest to equal weights. Weights whose AP is below that of any reference (N, C) are
    not considered; the references are predictions of some of the weights.
    """
    least_ap = max(average_precision(p, letters) for p in references)
    fused = [weighted_mean(members, weights) for weights in tried]
    allowed = np.flatnonzero([average_precision(p, letters) >= least_ap for p in fused])
    losses = np.array([cross_entropy(p, soft) for p in fused])  # (len(tried), N)
    best = allowed[int(np.argmin(losses[allowed].mean(axis=1)))]
    excess = losses - losses[best]
    error = excess.std(axis=1) / np.sqrt(len(letters))
    close = [tried[int(i)] for i in allowed if excess[i].mean() <= _STANDARD_ERRORS * error[i]]
    return min(close, key=lambda weights: float(np.square(weights - 1 / len(members)).sum()))


def fit_ensemble(members: Sequence[np.ndarray], letters: np.ndarray, soft: np.ndarray) -> Ensemble:
    """Choose temperatures and weights on (N, C) validation rows that no member trained on.

    Tries each member alone, the path from equal weights to those of least cross entropy, and the steps of
    greedy selection; see :func:`choose_weights`. The AP on these rows is never below any calibrated
    member's. Weights are equal when there are no rows.
    """
    n_members = len(members)
    if not len(letters):
        return Ensemble((1 / n_members,) * n_members, (1.0,) * n_members)
    temperatures = tuple(fit_temperature(p, soft) for p in members)
    adjusted = [calibrated(p, t) for p, t in zip(members, temperatures, strict=True)]
    equal, best = np.full(n_members, 1 / n_members), least_loss_weights(adjusted, soft)
    path = [(1 - share) * equal + share * best for share in np.linspace(0, 1, _STEPS + 1)]
    tried = [*np.eye(n_members), *path, *_greedy_weights(adjusted, soft)]
    weights = choose_weights(adjusted, tried, adjusted, letters, soft)
    return Ensemble(tuple(weights.tolist()), temperatures)


def least_loss_weights(members: Sequence[np.ndarray], soft: np.ndarray) -> np.ndarray:
    """Find the convex weights of least cross entropy, (K,) float64."""
    from scipy.optimize import minimize  # slow to import, and prediction does not fit

    stack = np.stack(members)  # (K, N, C)
    n_members, n_rows = stack.shape[:2]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(np.tensordot(weights, stack, 1), 1e-12)
        slope = -np.einsum("knc,nc->k", stack, soft / mixed) / n_rows
        return float(-(soft * np.log(mixed)).sum() / n_rows), slope

    found = minimize(
        loss,
        np.full(n_members, 1 / n_members),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * n_members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"maxiter": 500, "ftol": 1e-10},
    ).x
    weights = np.where(found < 1e-6, 0.0, found)
    return np.asarray(weights / weights.sum())


def _greedy_weights(members: Sequence[np.ndarray], soft: np.ndarray) -> list[np.ndarray]:
    """Select the member that helps most, with replacement, step by step; the (K,) weights of each step."""
    counts, total, path = np.zeros(len(members)), np.zeros_like(members[0]), []
    for step in range(1, _STEPS + 1):
        losses = [cross_entropy((total + p) / step, soft).mean() for p in members]
        chosen = int(np.argmin(losses))
        counts[chosen] += 1
        total = total + members[chosen]
        path.append(counts / step)
    return path
