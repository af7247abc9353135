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
       m - g spread evenly over p gaps, and the sum over the tie is p (1 + (m - g) / p) c / p. With R, the sum
       over all later ties, which does not depend on the order of this one,

           AP = sum over g = 0 .. m of  Pr(g) ((p + m - g) c / p + R) / (D - g),
           Pr(g) = m! / (m - g)! * (n - g - 1)! / n! * p.

    Sorting takes O(N log N), the rest O(N), however large the ties.

    Examples
    --------
    Confidences 0.9 (right), 0.8 (wrong), 0.7 (right): (1/1 + 1/2 + 2/3) / 3.

    >>> letters = [[2, 0], [0, 2], [2, 0]]
    >>> round(average_precision([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], letters), 4)
    0.7222
    """
    confidence, outcome = _outcomes(probabilities, letters)
    order = np.argsort(-confidence, kind="stable")
    confidence, outcome = confidence[order], outcome[order]
    counted, correct = outcome != MAYBE, outcome == YES
    if not counted.any():
        return 0.0
    # One entry per tie, most confident first.
    start = np.flatnonzero(np.r_[True, confidence[1:] != confidence[:-1]])
    n = np.diff(np.r_[start, len(confidence)])
    p = np.add.reduceat(counted.astype(np.int64), start)
    c = np.add.reduceat(correct.astype(np.int64), start)
    m = n - p
    before = np.cumsum(p) - p  # K
    right_before = np.cumsum(c) - c  # C
    first = int(np.flatnonzero(p)[0])

    # Step 2, for all ties after the first that counts: one term for each h, in one long array.
    later = np.arange(len(n)) > first
    gap = m / (p + 1)
    rest = float((gap[later] * right_before[later] / before[later]).sum())
    tie = np.repeat(np.flatnonzero(later), p[later])
    h = np.arange(len(tie)) - np.repeat(np.cumsum(p[later]) - p[later], p[later]) + 1
    terms = (1 + gap[tie]) * (right_before[tie] + h * c[tie] / p[tie]) / (before[tie] + h)
    rest += float(terms.sum())

    # Step 3, for the first tie that counts.
    n_first, p_first, m_first = int(n[first]), int(p[first]), int(m[first])
    share = float(c[first]) / p_first
    n_terms = len(confidence) - int(start[first])  # D
    g = np.arange(m_first + 1)
    all_skipped = np.cumprod(np.r_[1.0, (m_first - g[:-1]) / (n_first - g[:-1])])
    chance = all_skipped * p_first / (n_first - g)
    return float((chance * ((n_first - g) * share + rest) / (n_terms - g)).sum())


def basic_precision(probabilities: ArrayLike, letters: ArrayLike) -> float:
    """Compute correct / predicted with nothing blocked; rows with ``m`` at the predicted class are skipped.

    >>> basic_precision([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], [[2, 0], [1, 2], [0, 2]])
    0.5
    """
    _, outcome = _outcomes(probabilities, letters)
    counted = int((outcome != MAYBE).sum())
    return float((outcome == YES).sum()) / counted if counted else 0.0


def accuracy(probabilities: ArrayLike, letters: ArrayLike) -> float:
    """Compute the share of rows whose predicted class is the ``y``; an ``m`` does not count as correct.

    >>> accuracy([[0.9, 0.1], [0.8, 0.2]], [[2, 0], [1, 2]])
    0.5
    """
    _, outcome = _outcomes(probabilities, letters)
    return float((outcome == YES).mean())


def _outcomes(probabilities: ArrayLike, letters: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Return each row's confidence and the letter at its predicted class, both (N,)."""
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


METRICS: dict[str, Callable[..., float]] = {
    "map": average_precision,
    "basic_precision": basic_precision,
    "accuracy": accuracy,
}
