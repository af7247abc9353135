"""Labels: one letter a class, and the soft labels that training makes of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

YES, MAYBE, NO = 2, 1, 0

_CODES = {"y": YES, "m": MAYBE, "n": NO}
_LETTERS = "nmy"  # by code

# What `y` gets and what the `m` share, by the number of `m` (the last one: four and more).
_YES_SHARE = np.array([1.0, 0.8, 0.7, 0.7, 0.6])
_MAYBE_TOTAL = np.array([0.0, 0.2, 0.3, 0.3, 0.4])


def parse_letters(text: str, n_classes: int) -> NDArray[np.int8]:
    """The codes of a label such as ``nnymn``.

    Parameters
    ----------
    text : str
        One letter a class: exactly one ``y`` (yes), any number of ``m`` (maybe), ``n`` (no) elsewhere.
    n_classes : int
        How many letters there must be.

    Returns
    -------
    (C,) int8
        2 for ``y``, 1 for ``m``, 0 for ``n``.

    Raises
    ------
    ValueError
        With the reason: a foreign letter, a wrong length, no ``y``, or more than one.

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
    foreign = sorted(set(text) - set(_CODES))
    if foreign:
        raise ValueError(f"label {shown} holds {foreign[0]!r}; only the letters y, m and n are allowed")
    if len(text) != n_classes:
        raise ValueError(f"label {shown} has {len(text)} letters; the task has {n_classes} classes")
    n_yes = text.count("y")
    if n_yes != 1:
        count = {0: "no", 2: "two"}.get(n_yes, str(n_yes))
        raise ValueError(
            f"label {shown} has {count} y; exactly one is {'needed' if n_yes == 0 else 'allowed'}"
        )
    return np.array([_CODES[letter] for letter in text], dtype=np.int8)


def format_letters(letters: NDArray[np.int8]) -> str:
    """The text of a label's codes, ``(C,)``.

    Examples
    --------
    >>> format_letters(np.array([0, 0, 2, 1, 0], np.int8))
    'nnymn'
    """
    return "".join(_LETTERS[int(code)] for code in letters)


def soft_labels(letters: NDArray[np.int8]) -> NDArray[np.float32]:
    """Targets for training, by the rule of the competition entry.

    ==============  =====  ======================
    letters         ``y``  each ``m``
    ==============  =====  ======================
    ``y`` alone     1
    one ``m``       0.8    0.2
    two ``m``       0.7    0.15
    three ``m``     0.7    0.1
    more            0.6    0.4 / how many
    ==============  =====  ======================

    Parameters
    ----------
    letters : (N, C) int8
        Codes as `parse_letters` gives them, exactly one 2 in each row.

    Returns
    -------
    (N, C) float32
        Each row sums to 1.

    Examples
    --------
    >>> soft_labels(np.array([[0, 2, 0], [1, 2, 0], [1, 2, 1]], np.int8)).tolist()  # doctest: +ELLIPSIS
    [[0.0, 1.0, 0.0], [0.2..., 0.8..., 0.0], [0.1..., 0.69..., 0.1...]]
    """
    letters = np.asarray(letters)
    if letters.ndim != 2:
        raise ValueError(f"letters must be (N, C), got shape {letters.shape}")
    yes = letters == YES
    if not (yes.sum(axis=1) == 1).all():
        row = int(np.flatnonzero(yes.sum(axis=1) != 1)[0])
        raise ValueError(f"row {row} of the letters has {int(yes[row].sum())} y; exactly one is needed")
    maybe = letters == MAYBE
    n_maybe = maybe.sum(axis=1)
    rule = np.minimum(n_maybe, len(_YES_SHARE) - 1)
    each = _MAYBE_TOTAL[rule] / np.maximum(n_maybe, 1)
    soft: NDArray[np.float32] = (yes * _YES_SHARE[rule][:, None] + maybe * each[:, None]).astype(np.float32)
    return soft


def soft_label(letters: NDArray[np.int8]) -> NDArray[np.float32]:
    """The target of one label: ``(C,)`` codes to ``(C,)`` shares, see `soft_labels`.

    Examples
    --------
    >>> soft_label(parse_letters("ymnn", 4))
    array([0.8, 0.2, 0. , 0. ], dtype=float32)
    """
    soft: NDArray[np.float32] = soft_labels(np.asarray(letters)[None])[0]
    return soft
