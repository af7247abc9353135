"""The class ``Invisible`` as a detection: which images do not show the attribute."""

from __future__ import annotations

from typing import Any

import numpy as np

from heatcrop.data.labels import MAYBE, YES


def detect_invisible(probabilities: np.ndarray, letters: np.ndarray, invisible: int) -> dict[str, Any]:
    """Score how images are found that do not show the attribute.

    An image is found where the class is predicted, and it is one where the label has ``y`` there. Images with
    ``m`` there count neither way, as in the official score.

    Parameters
    ----------
    probabilities : ndarray of float, shape (N, C)
    letters : ndarray of int8, shape (N, C)
        Label codes: 2 for ``y``, 1 for ``m``, 0 for ``n``.
    invisible : int
        Index of the class.

    Returns
    -------
    dict
        ``precision``, ``recall`` and ``f1``, 0..1, None where they are not defined: without an image that is
        found, without one that is to be found, without either.

    Examples
    --------
    Of two images that do not show it one is found, and one other image is taken for one:

    >>> letters = np.array([[2, 0], [2, 0], [0, 2], [1, 2]])
    >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    >>> detect_invisible(p, letters, 0)
    {'precision': 0.5, 'recall': 0.5, 'f1': 0.5}
    """
    counted = letters[:, invisible] != MAYBE
    true = letters[counted, invisible] == YES
    found = probabilities[counted].argmax(axis=1) == invisible
    both = int((true & found).sum())
    totals = {"precision": int(found.sum()), "recall": int(true.sum())}
    shares = {name: both / total if total else None for name, total in totals.items()}
    either = sum(totals.values())
    return {**shares, "f1": 2 * both / either if either else None}
