"""Labels: one letter per class, the soft labels that training uses, and probabilities as text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heatcrop.wording import counted

YES, MAYBE, NO = 2, 1, 0
DECIMALS = 8
"""Of a written probability: fewer would tie 5 to 8 % of the rows of a real submission."""

_LETTERS = "nmy"  # by code

# The share of `y` and the total share of all `m`, by the number of `m`; the last entry: four and more.
_YES_SHARE = np.array([1.0, 0.8, 0.7, 0.7, 0.6])
_MAYBE_TOTAL = np.array([0.0, 0.2, 0.3, 0.3, 0.4])


def parse_letters(text: str, n_classes: int) -> NDArray[np.int8]:
    """Parse a label such as ``nnymn`` into (C,) codes: 2 for ``y``, 1 for ``m``, 0 for ``n``.

    A label has a letter per class: one ``y`` (yes), any number of ``m`` (maybe), ``n`` (no) elsewhere.

    Raises
    ------
    ValueError
        With the reason: an unknown letter, a wrong length, no ``y``, or more than one.

    Examples
    --------
    >>> parse_letters("nnymn", 5)
    array([0, 0, 2, 1, 0], dtype=int8)
    >>> parse_letters("nnyny", 5)
    Traceback (most recent call last):
    ...
    ValueError: label 'nnyny' has two y; exactly one is allowed
    """
    shown = repr(text if len(text) <= 40 else text[:37] + "...")
    unknown = sorted(set(text) - set(_LETTERS))
    if unknown:
        raise ValueError(f"label {shown} holds {unknown[0]!r}; only the letters y, m and n are allowed")
    if len(text) != n_classes:
        found, wanted = counted(len(text), "letter(s)"), counted(n_classes, "class(es)")
        raise ValueError(f"label {shown} has {found}; the task has {wanted}")
    n_yes = text.count("y")
    if n_yes == 0:
        raise ValueError(f"label {shown} has no y; exactly one is needed")
    if n_yes > 1:
        count = "two" if n_yes == 2 else n_yes
        raise ValueError(f"label {shown} has {count} y; exactly one is allowed")
    return np.array([_LETTERS.index(letter) for letter in text], dtype=np.int8)


def format_letters(letters: NDArray[np.int8]) -> str:
    """Write a label's codes, shape (C,), as letters.

    >>> format_letters(np.array([0, 0, 2, 1, 0], np.int8))
    'nnymn'
    """
    return "".join(_LETTERS[int(code)] for code in letters)


def soft_labels(letters: NDArray[np.int8]) -> NDArray[np.float32]:
    """Compute training targets, (N, C) float32, by the rule of the competition entry.

    The ``y`` gets 1, 0.8, 0.7, 0.7 or 0.6 beside no, one, two, three or more ``m``, which share the rest
    equally. The codes `letters` have exactly one 2 in each row. Each row of the result sums to 1.

    >>> soft_labels(np.array([[0, 2, 0], [1, 2, 0], [1, 2, 1]], np.int8)).tolist()  # doctest: +ELLIPSIS
    [[0.0, 1.0, 0.0], [0.2..., 0.8..., 0.0], [0.1..., 0.69..., 0.1...]]
    """
    yes, maybe = letters == YES, letters == MAYBE
    n_maybe = maybe.sum(axis=1)
    rule = np.minimum(n_maybe, len(_YES_SHARE) - 1)
    each = _MAYBE_TOTAL[rule] / np.maximum(n_maybe, 1)
    return np.asarray(yes * _YES_SHARE[rule][:, None] + maybe * each[:, None], np.float32)


def join_probabilities(probabilities: np.ndarray) -> list[str]:
    """Write probabilities, shape (N, C), as ``p1;p2;…`` with 8 decimals.

    >>> join_probabilities(np.array([[0.25, 0.75]]))
    ['0.25000000;0.75000000']
    """
    return [";".join(f"{p:.{DECIMALS}f}" for p in row) for row in probabilities]
