"""The official score of the FashionAI Global Challenge 2018, attributes track, on arrays.

By the rules, a row's predicted class is that of the highest probability, which is its confidence. Rows whose
confidence is below a threshold are blocked. Of the others, label ``y`` at the predicted class counts as
predicted and correct, ``n`` as predicted only, ``m`` as neither. With P = correct / predicted, AP is the mean
of P over every number of blocked rows from 0 to N - 1; mAP is the mean of AP over the tasks; basic precision
is P with nothing blocked.

In other words: rank the rows by confidence, compute the precision of the top k for each k, and average. This
is neither the AP of VOC nor a mean reciprocal rank.

**What the rules leave open**

- *Equal confidences.* AP is the exact mean over all orders of the tied rows; `average_precision` derives it.
- *Rows before the first counted one* (``m`` rows at the top) have no P and are left out of the mean.
- *No counted row at all*: AP and basic precision are 0; no prediction was right.
- *Equal probabilities within a row*: the lowest class index is the predicted one.

References
----------
FashionAI Global Challenge 2018, "Attributes Recognition of Apparel", rules of evaluation (Alibaba Tianchi).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heatcrop.data.labels import MAYBE, NO, YES


def average_precision(probabilities: ArrayLike, letters: ArrayLike) -> float:
    """Compute the AP of one task: the mean over k of the precision of the k most confident rows.

    `probabilities`, (N, C), are any finite numbers in the order of the confidences; `letters`, (N, C), are
    label codes: 2 for ``y``, 1 for ``m``, 0 for ``n``.

    Examples
    --------
    Confidences 0.9 (right), 0.8 (wrong), 0.7 (right): (1/1 + 1/2 + 2/3) / 3.

    >>> letters = [[2, 0], [0, 2], [2, 0]]
    >>> round(average_precision([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], letters), 4)
    0.7222
    """
    return float(average_precisions(*_one_list(probabilities, letters))[0])


def average_precisions(confidence: NDArray[np.float64], outcome: NDArray[np.int8]) -> NDArray[np.float64]:
    """Compute the AP of each of R lists of predictions, as a bootstrap has them.

    Parameters
    ----------
    confidence : ndarray of float64, shape (R, N)
    outcome : ndarray of int8, shape (R, N)
        The letters at the predicted classes, see :func:`outcomes`.

    Returns
    -------
    ndarray of float64, shape (R,)

    Notes
    -----
    A tie of n = p + m rows, p counted (c of them correct) and m skipped, follows K counted rows of which C
    are correct. Over all orders of the tie:

    1. Which counted rows come first does not depend on the positions of the skipped ones. After h counted
       rows of the tie, h c / p are correct on average, so P = (C + h c / p) / (K + h) on average.
    2. The m skipped rows spread evenly over the p + 1 gaps before, between and after the counted ones:
       m / (p + 1) in each on average. A skipped row repeats the P before it. If K > 0, the sum of P over the
       tie is therefore

           sum over h = 0 .. p of  w_h (C + h c / p) / (K + h),
           w_0 = m / (p + 1),  w_h = 1 + m / (p + 1).

    3. If K = 0, the g skipped rows before the first counted one have no P, and the number of terms of the
       mean, D - g, depends on the order (D: N less the skipped rows of earlier ties). Given g, the other
       m - g spread evenly over p gaps, and the sum over the tie is p (1 + (m - g) / p) c / p. With S, the sum
       over all later ties, which does not depend on the order of this one,

           AP = sum over g = 0 .. m of  Pr(g) ((p + m - g) c / p + S) / (D - g),
           Pr(g) = m! / (m - g)! * (n - g - 1)! / n! * p.

    Sorting takes O(N log N), the rest O(N), however large the ties.
    """
    n_lists, length = confidence.shape
    order = np.argsort(-confidence, axis=1, kind="stable")
    confidence = np.take_along_axis(confidence, order, axis=1)
    outcome = np.take_along_axis(outcome, order, axis=1)
    # One entry per tie, most confident first, of one list after another.
    begins = np.ones(confidence.shape, bool)
    begins[:, 1:] = confidence[:, 1:] != confidence[:, :-1]
    start = np.flatnonzero(begins)
    of_list, place = np.divmod(start, length)
    n = np.diff(np.r_[start, confidence.size])
    p, c = (
        np.add.reduceat(chosen.ravel().astype(np.int64), start)
        for chosen in (outcome != MAYBE, outcome == YES)
    )
    m = n - p
    before, right_before = (_before(counts, place, of_list) for counts in (p, c))  # K and C

    # Step 2, for all ties after the first that counts: one term for each h, in one long array.
    later = np.flatnonzero(before)
    gap = m / (p + 1)
    skipped = gap[later] * right_before[later] / before[later]
    tie = np.repeat(later, p[later])
    h = np.arange(len(tie)) - np.repeat(np.cumsum(p[later]) - p[later], p[later]) + 1
    counted = (1 + gap[tie]) * (right_before[tie] + h * c[tie] / p[tie]) / (before[tie] + h)
    rest = np.zeros(n_lists)
    for ties, terms in ((later, skipped), (tie, counted)):
        rest += np.bincount(of_list[ties], terms, n_lists)

    # Step 3, for the first tie that counts, where a list has one.
    first = np.flatnonzero((before == 0) & (p > 0))
    n_terms = length - place[first]  # D
    found = np.zeros(n_lists)
    found[of_list[first]] = (c[first] + rest[of_list[first]]) / n_terms
    for i in np.flatnonzero(m[first]).tolist():
        n_first, p_first, m_first = (int(counts[first[i]]) for counts in (n, p, m))
        g = np.arange(m_first + 1)
        all_skipped = np.cumprod(np.r_[1.0, (m_first - g[:-1]) / (n_first - g[:-1])])
        chance = all_skipped * p_first / (n_first - g)
        right = (n_first - g) * c[first[i]] / p_first
        number = of_list[first[i]]
        found[number] = (chance * (right + rest[number]) / (n_terms[i] - g)).sum()
    return found


def _before(
    counts: NDArray[np.int64], place: NDArray[np.int64], of_list: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Sum the counts of all earlier ties of the same list."""
    sums: NDArray[np.int64] = np.cumsum(counts) - counts
    sums -= sums[place == 0][of_list]
    return sums


def _basic_precisions(confidence: NDArray[np.float64], outcome: NDArray[np.int8]) -> NDArray[np.float64]:
    counted = (outcome != MAYBE).sum(axis=1)
    return np.asarray((outcome == YES).sum(axis=1) / np.maximum(counted, 1))


def _accuracies(confidence: NDArray[np.float64], outcome: NDArray[np.int8]) -> NDArray[np.float64]:
    return np.asarray((outcome == YES).mean(axis=1))


def outcomes(probabilities: ArrayLike, letters: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Find each row's confidence and the letter at its predicted class, both (N,).

    Arguments are those of :func:`average_precision`. ValueError where shapes differ or there is no row, where
    a probability is not finite, and for other codes.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    codes = np.asarray(letters)
    if values.ndim != 2 or values.shape != codes.shape:
        raise ValueError(f"probabilities {values.shape} and letters {codes.shape} must both be (N, C)")
    if 0 in values.shape:
        raise ValueError(f"there is nothing to score in arrays of shape {values.shape}")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise ValueError(f"the probabilities of row {row} are not finite: {values[row].tolist()}")
    if not np.isin(codes, (NO, MAYBE, YES)).all():
        raise ValueError("letters must be the codes 2 (y), 1 (m) and 0 (n)")
    predicted = values.argmax(axis=1)
    rows = np.arange(len(values))
    return values[rows, predicted], codes[rows, predicted].astype(np.int8)


def _one_list(probabilities: ArrayLike, letters: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    confidence, outcome = outcomes(probabilities, letters)
    return confidence[None], outcome[None]


METRICS: dict[str, Callable[[NDArray[np.float64], NDArray[np.int8]], NDArray[np.float64]]] = {
    "map": average_precisions,
    "basic_precision": _basic_precisions,
    "accuracy": _accuracies,
}
"""Of R lists of N predictions, from confidences and outcomes, both (R, N), to (R,).

The basic precision is correct / predicted with nothing blocked: rows with ``m`` at the predicted class are
skipped. The accuracy is the share of rows whose predicted class is the ``y``: an ``m`` counts as not correct.
"""


def scores(probabilities: ArrayLike, letters: ArrayLike) -> dict[str, float]:
    """Compute all :data:`METRICS` of one task, of (N, C) probabilities and label codes.

    >>> found = scores([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], [[2, 0], [1, 2], [0, 2]])
    >>> found["basic_precision"], round(found["accuracy"], 4)
    (0.5, 0.3333)
    """
    one = _one_list(probabilities, letters)
    return {name: float(score(*one)[0]) for name, score in METRICS.items()}
