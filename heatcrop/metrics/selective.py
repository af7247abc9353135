"""Selective classification: answer where the confidence reaches a threshold, and leave the rest to people.

A higher threshold answers fewer images (coverage) and more of them rightly (accuracy).

References
----------
Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NIPS 2017: a threshold whose error
is bounded with confidence, where the bounds that are tried share the error probability. Their binary search
is not used: it expects that fewer rows are easier to bound, which is wrong where few rows are left.
Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
Biometrika 26, 1934: exact bounds of a share.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

ACCURACIES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99)
"""For which a threshold is chosen."""
LEAST_SHOWN = 0.7
"""Of them on the page: thresholds of lower ones are close to each other."""
LEVELS = 10
"""Thresholds that are tried: they answer 10 %, 20 % ... of the rows."""
ERROR = 0.05
"""Probability that the accuracy above a chosen threshold is below the wanted one after all."""


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold for a wanted accuracy."""

    accuracy: float
    """Wanted of the images whose confidence is at least the threshold, 0..1."""
    threshold: float | None
    """Of the confidence, 0..1; None where the validation rows support none."""
    coverage: float | None
    """Share of the validation rows whose confidence is at least the threshold."""


def accuracy_bound(right: int, n: int, error: float) -> float:
    """Compute the lower bound of an accuracy, of which `right` of `n` images are a sample (Clopper-Pearson).

    The accuracy is below the bound with a probability of at most `error`.

    >>> round(accuracy_bound(10, 10, 0.05), 4), accuracy_bound(0, 10, 0.05)
    (0.7411, 0.0)
    """
    from scipy.special import betaincinv  # the quantile; scipy.stats takes a second to import

    return float(betaincinv(right, n - right + 1, error)) if right else 0.0


def accuracy_interval(right: int, n: int) -> tuple[float, float]:
    """Compute both ends of the 95 % interval of an accuracy (Clopper-Pearson).

    >>> [round(end, 4) for end in accuracy_interval(5, 10)]
    [0.1871, 0.8129]
    """
    return accuracy_bound(right, n, 0.025), 1 - accuracy_bound(n - right, n, 0.025)


def choose_threshold(confidence: np.ndarray, right: np.ndarray, accuracy: float) -> OperatingPoint:
    """Choose the smallest threshold above which at least a share `accuracy` of the images is right.

    Except with a probability of :data:`ERROR`, this holds for all images of which these rows are a random
    sample. :data:`LEVELS` thresholds are tried, which answer equal steps of the rows, each with its part of
    that probability, so that the choice among them is covered too.

    Parameters
    ----------
    confidence : ndarray of float, shape (N,)
        Of rows that neither network has trained on.
    right : ndarray of bool, shape (N,)
    accuracy : float
        0..1.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, n_right = confidence[order], np.cumsum(right[order])
    for level in range(LEVELS, 0, -1) if len(ranked) else ():
        threshold = float(ranked[math.ceil(len(ranked) * level / LEVELS) - 1])
        # Rows of the same confidence are answered together.
        n = int(np.searchsorted(-ranked, -threshold, side="right"))
        if accuracy_bound(int(n_right[n - 1]), n, ERROR / LEVELS) >= accuracy:
            return OperatingPoint(accuracy, threshold, n / len(ranked))
    return OperatingPoint(accuracy, None, None)


def coverage_curve(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the coverage of every threshold, rising, and the accuracy of the rows that it answers.

    Both have shape (T,), an entry for each of the T different confidences.

    >>> confidence, right = np.array([0.9, 0.6, 0.6, 0.5]), np.array([True, True, False, False])
    >>> [values.round(3).tolist() for values in coverage_curve(confidence, right)]
    [[0.25, 0.75, 1.0], [1.0, 0.667, 0.5]]
    """
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.diff(confidence[order], append=-1.0))
    return (last + 1) / len(order), np.cumsum(right[order])[last] / (last + 1)
