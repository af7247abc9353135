"""Which pictures are there, asked a folder at a time."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from pathlib import Path

import numpy as np


class PictureFolders:
    """Whether pictures exist, with one listing a folder instead of one look a picture.

    A listing keeps the 64 bits of each name's hash. Of two names with the same hash, which nobody is going
    to see, one might be thought to be there and would be set aside when it is opened.
    """

    def __init__(self, root: Path) -> None:
        self.root = os.path.abspath(root)
        self._real = os.path.realpath(root)
        self._listings: dict[str, dict[str, array[int]] | str] = {}

    def find(self, relative: str) -> str:
        """The reason why a picture below the root cannot be used, or ``''``."""
        folder, _, name = relative.rpartition("/")
        listing = self._listings.get(folder)
        if listing is None:
            listing = self._listings[folder] = self._list(folder)
        if isinstance(listing, str):
            return listing
        kind = next((kind for kind, hashes in listing.items() if _is_in(hash(name), hashes)), "missing")
        if kind == "link":  # rare, so the dear look is taken only here
            path = f"{self.root}/{relative}"
            kind = "file" if os.path.isfile(path) else "missing"
            if not self._inside(path):
                return f"the link leads out of the data folder, to {os.path.realpath(path)}"
        if kind == "missing":
            return f"the picture is missing: there is no {relative}"
        return "" if kind == "file" else f"{relative} is a folder, not a picture"

    def _inside(self, path: str) -> bool:
        return os.path.realpath(path).startswith(self._real.rstrip(os.sep) + os.sep)

    def _list(self, folder: str) -> dict[str, array[int]] | str:
        path = os.path.join(self.root, folder)
        if folder and not self._inside(path):
            return f"the folder {folder} leads out of the data folder, to {os.path.realpath(path)}"
        hashes = {kind: array("q") for kind in ("file", "link", "folder")}
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    kind = "link" if entry.is_symlink() else "folder" if entry.is_dir() else "file"
                    hashes[kind].append(hash(entry.name))
        except (FileNotFoundError, NotADirectoryError):
            return f"the picture is missing: there is no folder {folder}"
        except OSError as error:
            return f"the folder {folder} cannot be read: {error.strerror}"
        return {kind: array("q", np.sort(found).tobytes()) for kind, found in hashes.items()}


def _is_in(value: int, ordered: array[int]) -> bool:
    at = bisect_left(ordered, value)
    return at < len(ordered) and ordered[at] == value
