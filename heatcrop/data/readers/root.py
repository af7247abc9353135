"""A folder of data: which images are below it, how they are spelled there, and links that lead out of it."""

from __future__ import annotations

import functools
import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

from heatcrop.data.readers.spelling import find_spelling, folded
from heatcrop.files import printable

MOST_FOLDERS = 100
"""An image below more folders is refused."""
_DRIVE = re.compile(r"[A-Za-z]:")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
CONTROL_REASON = "the image's name holds a control character"


def clean_image(text: str) -> tuple[str, str]:
    """Write an image's path with ``/``; return it with the reason why it is refused, or ``''``.

    >>> clean_image("Images\\\\neck\\\\1.jpg")
    ('Images/neck/1.jpg', '')
    >>> clean_image("../secret.jpg")
    ('../secret.jpg', 'the path leaves the data folder; give one below it')
    """
    image = text.replace("\\", "/")
    if not image:
        return image, "no image is named"
    if CONTROL.search(image):
        return image, CONTROL_REASON
    if image[0] == "/" or _DRIVE.match(image):
        return image, "the path is absolute; give it relative to the data folder, or set data.absolute_paths"
    if ".." in image.split("/"):
        return image, "the path leaves the data folder; give one below it"
    if image.count("/") > MOST_FOLDERS:
        return image, f"the path has more than {MOST_FOLDERS} folders; move the image up"
    if "//" in image or "./" in image:
        image = posixpath.normpath(image)
    return image, ""


@dataclass(frozen=True)
class Access:
    """Which images outside their root are allowed."""

    follow_links: bool = False
    absolute_paths: bool = False


NO_ACCESS = Access()


@dataclass(eq=False)
class Root:
    """A folder of data, with one listing per subfolder instead of one system call per image.

    `source` holds the annotations: a CSV file in the folder, or the folder itself. File names in messages
    start with `prefix`. `label` is a name that no other root has, and `split` the split of rows without one.
    With `given_file` the user has named the file, and other files beside it do not matter.
    """

    folder: Path
    source: Path
    prefix: str = ""
    label: str = ""
    split: str = ""
    access: Access = NO_ACCESS
    given_file: bool = False

    def __post_init__(self) -> None:
        self.path = os.path.abspath(self.folder)
        self._real = os.path.realpath(self.folder)
        self.label = self.label or Path(self._real).name or "data"
        self._listing = functools.cache(self._list)
        self._on_disk = functools.cache(self._spelled)
        self._spellings = functools.cache(self._group)

    def name(self, path: Path) -> str:
        """Name a file in messages."""
        return self.prefix + printable(path.relative_to(self.folder).as_posix())

    def find(self, relative: str) -> tuple[str, str]:
        """Return an image's path below the root, as on disk, and why it cannot be used, or ``''``.

        A name that is not there may be that of one file in another Unicode form or case.
        """
        reason = self._fault(relative)
        if reason and (spelled := self._on_disk(relative)) != relative:
            return spelled, self._fault(spelled)
        return relative, reason

    def _fault(self, relative: str) -> str:
        folder, _, name = relative.rpartition("/")
        listing = self._listing(folder)
        if isinstance(listing, str):
            return listing
        kind = listing.get(name, "missing")
        if kind == "link":
            path = f"{self.path}/{relative}"
            kind = "file" if os.path.isfile(path) else "missing"
            if not self._inside(path):
                leads = f"the link leads out of the data folder, to {os.path.realpath(path)}"
                return f"{leads}; to allow it, set data.follow_links"
        if kind == "missing":
            return f"the image is missing: there is no {relative}"
        return "" if kind == "file" else f"{relative} is a folder, not an image"

    def _spelled(self, relative: str) -> str:
        """Spell a path as on disk, where one entry of each folder fits."""
        folder, _, name = relative.rpartition("/")
        if folder and isinstance(self._listing(folder), str):
            folder = self._on_disk(folder)
        listing = self._listing(folder)
        if not isinstance(listing, str) and name not in listing:
            there = self._spellings(folder).get(folded(name), ())
            if len(fitting := find_spelling(name, there)) == 1:
                name = there[fitting[0]]
        return f"{folder}/{name}" if folder else name

    def _group(self, folder: str) -> dict[str, list[str]]:
        """Group a folder's entries by what all spellings of a name have in common."""
        listing = self._listing(folder)
        spellings: dict[str, list[str]] = {}
        for name in listing if isinstance(listing, dict) else ():
            spellings.setdefault(folded(name), []).append(name)
        return spellings

    def _inside(self, path: str) -> bool:
        inside = os.path.realpath(path).startswith(self._real.rstrip(os.sep) + os.sep)
        return inside or self.access.follow_links

    def _list(self, folder: str) -> dict[str, str] | str:
        """Return the kind of each entry by name, or why there is no listing."""
        path = os.path.join(self.path, folder)
        if folder and not self._inside(path):
            leads = f"the folder {folder} leads out of the data folder, to {os.path.realpath(path)}"
            return f"{leads}; to allow it, set data.follow_links"
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
