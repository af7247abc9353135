"""Which images exist, with one listing per folder."""

from __future__ import annotations

import os
from pathlib import Path


class ImageFolders:
    """Check that images exist below a folder, with one listing per folder instead of one call per image."""

    def __init__(self, root: Path) -> None:
        self.root = os.path.abspath(root)
        self._real = os.path.realpath(root)
        self._listings: dict[str, dict[str, str] | str] = {}  # kind by name, or why there is no listing

    def find(self, relative: str) -> str:
        """Return why an image below the root cannot be used, or ``''``."""
        folder, _, name = relative.rpartition("/")
        if folder not in self._listings:
            self._listings[folder] = self._list(folder)
        listing = self._listings[folder]
        if isinstance(listing, str):
            return listing
        kind = listing.get(name, "missing")
        if kind == "link":
            path = f"{self.root}/{relative}"
            kind = "file" if os.path.isfile(path) else "missing"
            if not self._inside(path):
                return f"the link leads out of the data folder, to {os.path.realpath(path)}"
        if kind == "missing":
            return f"the image is missing: there is no {relative}"
        return "" if kind == "file" else f"{relative} is a folder, not an image"

    def _inside(self, path: str) -> bool:
        return os.path.realpath(path).startswith(self._real.rstrip(os.sep) + os.sep)

    def _list(self, folder: str) -> dict[str, str] | str:
        path = os.path.join(self.root, folder)
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
