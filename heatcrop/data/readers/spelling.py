"""Names that differ only by case or by Unicode form."""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

_Place = TypeVar("_Place", bound=Hashable)


def composed(name: str) -> str:
    """Return a name with accents composed (NFC); macOS writes them decomposed."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return what all spellings of a name have in common: composed, and without case.

    >>> folded("CAF\\u00c9") == folded("cafe\\u0301")
    True
    """
    return composed(composed(name).casefold())


def find_spelling(name: str, names: Sequence[str]) -> list[int]:
    """Return where `names` has a name: exactly, otherwise in another Unicode form, otherwise by case.

    More than one place is returned only for names that differ from all of them.

    >>> find_spelling("a", ["A", "a"]), find_spelling("a", ["A", "b"]), find_spelling("AB", ["Ab", "aB"])
    ([1], [0], [0, 1])
    """
    for form in (str, composed, folded):
        wanted = form(name)
        if found := [place for place, other in enumerate(names) if form(other) == wanted]:
            return found
    return []


def merge_spellings(places: Mapping[str, set[_Place]]) -> tuple[dict[str, str], list[list[str]]]:
    """Find which names mean the same.

    Names that differ only by Unicode form do. Names that differ by case do unless one place has two.

    Parameters
    ----------
    places : mapping
        Where each name occurs (a split of a root, for instance), by name.

    Returns
    -------
    spellings : dict
        The name to use for each name: the first of those that mean the same.
    apart : list of list of str
        Names that differ by case alone and are kept apart.
    """
    groups: dict[str, dict[str, list[str]]] = {}
    for name in places:
        groups.setdefault(folded(name), {}).setdefault(composed(name), []).append(name)
    spellings: dict[str, str] = {}
    apart = []
    for forms in groups.values():
        found = [set().union(*(places[name] for name in names)) for names in forms.values()]
        together = sum(map(len, found)) == len(set().union(*found))
        if not together:
            apart.append([names[0] for names in forms.values()])
        first = next(iter(forms.values()))[0]
        for names in forms.values():
            spellings |= dict.fromkeys(names, first if together else names[0])
    return spellings, apart
