"""Texts: names that can be written down, and many texts in little memory.

Paths are put together when asked for, and where a text stands is looked up by its hash.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

NOT_UTF8 = "the file's name is not in UTF-8; rename it"
"""Why a picture is left out whose name :func:`printable` must change."""


def printable(name: str) -> str:
    r"""A file's name with ``?`` for what is not in UTF-8, which no file of ours can hold.

    Examples
    --------
    >>> printable("caf\udce9.jpg"), printable("café.jpg")
    ('caf?.jpg', 'café.jpg')
    """
    return name.encode("utf-8", "replace").decode()


class PicturePaths(Sequence[str]):
    """Paths ``<folder>/<name>`` of which only folders and names are kept.

    A path is longer than all else that is known of a picture, and asked for once or twice.

    Parameters
    ----------
    folders : sequence of str
        Few.
    which : ndarray of int, shape (N,)
        The folder of each.
    names : sequence of str
        N names below their folder; kept as they are, so that others can share them.

    Examples
    --------
    >>> paths = PicturePaths(["/data/base", "/data/rank"], np.array([0, 1, 1]), ["1.jpg", "2.jpg", "3.jpg"])
    >>> paths[-1], list(paths[:2])
    ('/data/rank/3.jpg', ['/data/base/1.jpg', '/data/rank/2.jpg'])
    """

    def __init__(
        self, folders: Sequence[str], which: NDArray[Any], names: Sequence[str] | NDArray[np.object_]
    ) -> None:
        if len(which) != len(names):
            raise ValueError(f"{len(which)} folders are told for {len(names)} names")
        self._folders, self._which, self._names = tuple(folders), which, names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> PicturePaths: ...
    def __getitem__(self, place: int | slice) -> str | PicturePaths:
        if isinstance(place, slice):
            return PicturePaths(self._folders, self._which[place], self._names[place])
        return f"{self._folders[self._which[place]]}/{self._names[place]}"

    def __iter__(self) -> Iterator[str]:
        for which, name in zip(self._which, self._names, strict=True):
            yield f"{self._folders[which]}/{name}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PicturePaths({len(self)} below {', '.join(map(repr, self._folders))})"

    def take(self, index: NDArray[Any]) -> PicturePaths:
        """Keep the given ones, in the order given."""
        if isinstance(self._names, np.ndarray):
            return PicturePaths(self._folders, self._which[index], self._names[index])
        return PicturePaths(self._folders, self._which[index], [self._names[i] for i in index])

    def absolute(self) -> PicturePaths:
        """The same files, whatever the working directory."""
        return PicturePaths(tuple(map(os.path.abspath, self._folders)), self._which, self._names)


def take(texts: Sequence[str], index: NDArray[Any]) -> Sequence[str]:
    """Keep the given ones of some texts; of paths that are put together when asked for, the like."""
    return texts.take(index) if isinstance(texts, PicturePaths) else [texts[i] for i in index]


def absolute(paths: Sequence[str]) -> Sequence[str]:
    """Paths of the same files, whatever the working directory."""
    return paths.absolute() if isinstance(paths, PicturePaths) else tuple(map(os.path.abspath, paths))


class Places:
    """Where texts stand among others: 16 bytes for each of these, where a dict takes over a hundred.

    Texts are looked up by their hash and then compared.

    Parameters
    ----------
    among : sequence of str
        Of equal ones, the first is found.
    """

    def __init__(self, among: Sequence[str]) -> None:
        hashes = _hashes(among)
        self._among, self._order = among, np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]

    def of(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """The place of each, (N,); -1 for one that is not among them.

        Examples
        --------
        >>> Places(["b", "a", "c"]).of(["c", "x", "b"]).tolist()
        [2, -1, 0]
        """
        hashes = _hashes(texts)
        at = np.searchsorted(self._hashes, hashes, "left")
        found = np.full(len(hashes), -1, np.int64)
        rows = np.arange(len(hashes))
        while len(rows):  # a second time only for texts of one hash that differ
            rows = rows[at[rows] < len(self._order)]
            rows = rows[self._hashes[at[rows]] == hashes[rows]]
            places = self._order[at[rows]]
            pairs = zip(rows, places, strict=True)
            same = np.array([texts[row] == self._among[place] for row, place in pairs], bool)
            found[rows[same]] = places[same]
            rows = rows[~same]
            at[rows] += 1
        return found


def first_of_each(texts: Sequence[str]) -> NDArray[np.int64]:
    """The place of the first text that equals each text, (N,): its own where no earlier one does.

    Examples
    --------
    >>> first_of_each(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    hashes = _hashes(texts)
    order = np.argsort(hashes, kind="stable")
    first = np.arange(len(hashes))
    begins = np.r_[True, hashes[order][1:] != hashes[order][:-1]][: len(order)]
    many = np.flatnonzero(~begins | ~np.r_[begins[1:], True][: len(order)])
    known: dict[str, int] = {}
    for place in np.sort(order[many]).tolist():
        first[place] = known.setdefault(texts[place], place)
    return first


def _hashes(texts: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, texts), np.int64, len(texts))
