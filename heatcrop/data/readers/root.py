"""A folder of data, and which images exist in it."""

from __future__ import annotations

import functools
import os
from pathlib import Path


class Root:
    """A folder of data, with one listing per subfolder instead of one system call per image.

    `source` holds the annotations: a CSV file in the folder, or the folder itself. File names in messages
    start with `prefix`.
    """

    def __init__(self, folder: Path, source: Path, prefix: str = "") -> None:
        self.folder = folder
        self.source = source
        self.prefix = prefix
        self.path = os.path.abspath(folder)
        self._real = os.path.realpath(folder)
        self._listing = functools.cache(self._list)

    def name(self, path: Path) -> str:
        """Name a file in messages."""
        return self.prefix + path.relative_to(self.folder).as_posix()

    def find(self, relative: str) -> str:
        """Return why an image below the root cannot be used, or ``''``."""
        folder, _, name = relative.rpartition("/")
        listing = self._listing(folder)
        if isinstance(listing, str):
            return listing
        kind = listing.get(name, "missing")
        if kind == "link":
            path = f"{self.path}/{relative}"
            kind = "file" if os.path.isfile(path) else "missing"
            if not self._inside(path):
                return f"the link leads out of the data folder, to {os.path.realpath(path)}"
        if kind == "missing":
            return f"the image is missing: there is no {relative}"
        return "" if kind == "file" else f"{relative} is a folder, not an image"

    def _inside(self, path: str) -> bool:
        return os.path.realpath(path).startswith(self._real.rstrip(os.sep) + os.sep)

    def _list(self, folder: str) -> dict[str, str] | str:
        """Return the kind of each entry by name, or why there is no listing."""
        path = os.path.join(self.path, folder)
        if folder and not self._inside(path):
            return f"the folder {folder} leads out of the data folder, to {os.path.realpath(path)}"
        try:
            with os.scandir(path) as entries:
                return {
                    entry.name: "link" if entry.is_symlink() else "folder" if entry.is_dir() else "file"
                    for entry in entries
                }
        except (FileNotFoundError, NotADirectoryError):
            return f"the image is missing: there is no folder {folder}"
        except OSError as error:
            return f"the folder {folder} cannot be read: {error.strerror}"
