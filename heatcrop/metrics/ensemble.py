"""Join any number of finished predictions: calibrate each, weigh them, never below the best one.

Weights are convex. Their cross entropy on validation is a convex function of them, so that its least
value is found surely; and a mean of the members most often chosen, one after another and again
(Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004), leaves weak ones out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from heatcrop.metrics.fusion import fit_temperature, tempered
from heatcrop.metrics.score import average_precision

_STEPS = 20


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """How members are joined.

    Attributes
    ----------
    weights : tuple of float
        One a member, 0..1, which sum to 1.
    temperatures : tuple of float
        Each member's logits are divided by its own; exactly 1 takes its probabilities as they came.
    """

    weights: tuple[float, ...]
    temperatures: tuple[float, ...]


def equal_weights(n_members: int) -> Ensemble:
    """Members that count alike, as they came: what there is without rows to fit on."""
    return Ensemble((1 / n_members,) * n_members, (1.0,) * n_members)


def calibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """(N, C) probabilities at a temperature; at exactly 1 untouched, so that no rank changes."""
    return probabilities if temperature == 1 else tempered(probabilities, temperature)


def join(members: Sequence[np.ndarray], how: Ensemble) -> np.ndarray:
    """Weighted mean of the calibrated members.

    Parameters
    ----------
    members : sequence of ndarray of float, shape (N, C)
        Probabilities; what a member without weight says is not looked at.

    Returns
    -------
    ndarray of float64, shape (N, C)

    Examples
    --------
    >>> a, b = np.array([[0.8, 0.2]]), np.array([[0.4, 0.6]])
    >>> join([a, b], Ensemble((0.5, 0.5), (1.0, 1.0))).round(4).tolist()
    [[0.6, 0.4]]
    """
    tempers = zip(members, how.temperatures, how.weights, strict=True)
    return _mean([calibrated(p, t) if w else p for p, t, w in tempers], how.weights)


def fit_ensemble(members: Sequence[np.ndarray], letters: np.ndarray, soft: np.ndarray) -> Ensemble:
    """Choose temperatures and weights on validation rows that no member trained on.

    The same rule as for the two branches (:func:`.fusion.fit_fusion`): of all weights tried whose
    cross entropy is within one standard error of the least, the ones nearest to equal weights. Those whose
    AP is below that of the best member, as it came or calibrated, are not considered. Tried are each member
    alone, the way from equal weights to those of least cross entropy, and the greedy choice step by step.

    Parameters
    ----------
    members : sequence of ndarray of float, shape (N, C)
        Probabilities of K members.
    letters : ndarray of int8, shape (N, C)
    soft : ndarray of float, shape (N, C)

    Returns
    -------
    Ensemble
        Its AP on these rows is never below any member's. Equal weights when there are no rows.
    """
    n_members = len(members)
    if not len(letters):
        return equal_weights(n_members)
    temperatures = tuple(fit_temperature(p, soft) for p in members)
    told = [calibrated(p, t) for p, t in zip(members, temperatures, strict=True)]
    as_they_came = np.array([average_precision(p, letters) for p in members])
    tried = _candidates(told, soft)
    joined = [_mean(told, weights) for weights in tried]
    aps = np.array([average_precision(p, letters) for p in joined])
    allowed = np.flatnonzero(aps >= max(as_they_came.max(), aps[:n_members].max()))
    if not len(allowed):  # calibrated, even the best member ranks its rows a little worse than it did
        alone = np.eye(n_members)[int(as_they_came.argmax())]
        return Ensemble(tuple(alone.tolist()), (1.0,) * n_members)
    losses = np.array([_losses(p, soft) for p in joined])  # (W, N)
    best = allowed[int(np.argmin(losses[allowed].mean(axis=1)))]
    worse = losses - losses[best]
    error = worse.std(axis=1) / np.sqrt(len(letters))
    close = [i for i in allowed if worse[i].mean() <= error[i]]
    chosen = min(close, key=lambda i: float(np.square(tried[i] - 1 / n_members).sum()))
    return Ensemble(tuple(tried[chosen].tolist()), temperatures)


def _candidates(told: Sequence[np.ndarray], soft: np.ndarray) -> list[np.ndarray]:
    """Weights to try, (K,) each: every member alone first, in order."""
    n_members = len(told)
    equal, best = np.full(n_members, 1 / n_members), likeliest(told, soft)
    way = [(1 - share) * equal + share * best for share in np.linspace(0, 1, _STEPS + 1)]
    return [*np.eye(n_members), *way, *_greedy(told, soft)]


def likeliest(told: Sequence[np.ndarray], soft: np.ndarray) -> np.ndarray:
    """Find the convex weights of least cross entropy, (K,) float64."""
    stack = np.stack(told)  # (K, N, C)
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


def _greedy(told: Sequence[np.ndarray], soft: np.ndarray) -> list[np.ndarray]:
    """The means of ever more members, each the one that helps most, chosen with replacement."""
    counts, total, path = np.zeros(len(told)), np.zeros_like(told[0]), []
    for step in range(1, _STEPS + 1):
        losses = [_losses((total + p) / step, soft).mean() for p in told]
        chosen = int(np.argmin(losses))
        counts[chosen] += 1
        total = total + told[chosen]
        path.append(counts / step)
    return path


def _mean(told: Sequence[np.ndarray], weights: Sequence[float] | np.ndarray) -> np.ndarray:
    parts = [w * p for w, p in zip(weights, told, strict=True) if w]
    return np.asarray(np.sum(parts, axis=0, dtype=np.float64))


def _losses(probabilities: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Cross entropy of each row, (N,)."""
    return np.asarray(-(soft * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1))
