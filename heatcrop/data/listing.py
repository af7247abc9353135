"""List the images of a folder, and report what is skipped: one rule for every command and layout.

Skipped are hidden and system files and folders, and folders that this program wrote.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from heatcrop.data.images import OTHER_SUFFIXES, SUFFIXES, has_signature
from heatcrop.files import printable

# Imports nothing of pandas: prediction works where it is not installed.

# By the name in lower case; names that start with a dot are hidden.
_SYSTEM = frozenset(
    {
        "$recycle.bin",
        "recycler",
        "recycled",
        "system volume information",
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "__macosx",
        "icon\r",
        "network trash folder",
        "temporary items",
        "thevolumesettingsfolder",
        "lost+found",
        "@eadir",  # of network storage, as the next ones
        "#recycle",
        "#snapshot",
        "@recycle",
        "@recently-snapshot",
        "@tmp",
        "@__thumb",
        "__pycache__",
    }
)

SYSTEM = "hidden or system files or folders; rename those that are meant"
OWN = "folders that this program wrote; to use one, give it as the folder itself"
LINK = "links to folders, which are not followed; give the folder itself"
FORMAT = "images in a format that is not read; save them as JPEG, PNG or TIFF"
NAME = "images by their content, not by the end of their names; rename them, for instance to .jpg"
UNREADABLE = "folders that cannot be read; change their permissions"

REPORT_RECORD = ".report.json"
"""In the page's folder: the fingerprint of what the page was made from, and the files that belong to it."""
CONVERSION_RECORD = ".converted.json"
"""In a folder in another tool's format: the files that were written."""
RUN_HEADER = "# What this run was made with, written anew each time: put settings into a file of your own.\n"
"""The first line of a run folder's ``config.yaml``."""
UNFINISHED: dict[str, Any] = {"format": 1, "finished": False}
"""The ``heatcrop.json`` of an export until its last network is written."""
PREDICTION_COLUMNS = ("image", "task", "class", "confidence", "probabilities")
SURE_COLUMNS = (*PREDICTION_COLUMNS, "sure")
"""Of predictions with a threshold."""
BOX_COLUMNS = ("image", "task", "x0", "y0", "x1", "y1", "fallback")
OWN_TABLES = (PREDICTION_COLUMNS, SURE_COLUMNS, BOX_COLUMNS)
"""The headers of the tables that ``predict`` writes, also beside the images."""
# Beside a task's crops and sheets; one of them is there at any moment.
_TASK_FILES = frozenset({".cam.json", ".crop.json", ".finetune.json", "boxes.npz", "rule.json"})
_TASK_FOLDERS = ("crops", "sheets")


@dataclasses.dataclass(frozen=True)
class Listing:
    """What one folder holds, by name, sorted."""

    folders: list[str]
    images: list[str]
    """Files to read as images; their content may turn out to be something else."""
    others: list[str]
    """Files that are no images."""
    skipped: list[tuple[str, str]]
    """Name and reason of what could hold an image and is not read."""


def is_system(name: str) -> bool:
    """Return whether a file or folder is hidden or the operating system's.

    >>> is_system(".ipynb_checkpoints"), is_system("Thumbs.db"), is_system("photos")
    (True, True, False)
    """
    return name.startswith(".") or name.casefold() in _SYSTEM


def is_description(text: str) -> bool:
    """Return whether the text of a ``heatcrop.json`` is a run's or an export's, even an interrupted one's."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and (values == UNFINISHED or {"input", "tasks"} <= set(values))


def is_own_folder(path: Path, beside: Collection[str] = ()) -> bool:
    """Return whether this program wrote a folder: a run or a part of it, an export, a page, a format's files.

    `beside` are the names of the files in the same folder, which show whether that one is a task's.
    """
    if path.name in _TASK_FOLDERS and not _TASK_FILES.isdisjoint(beside):
        return True
    if os.path.lexists(path / REPORT_RECORD) or os.path.lexists(path / CONVERSION_RECORD):
        return True
    if _head(path / "config.yaml", len(RUN_HEADER)) == RUN_HEADER:
        return True
    return is_description(_head(path / "heatcrop.json"))


def list_folder(path: Path) -> Listing:
    """List a folder, without what is below its subfolders; OSError where it cannot be read."""
    with os.scandir(path) as entries:
        found = sorted((entry.name, _is_folder(entry)) for entry in entries)
    names = {name for name, _ in found}
    listing = Listing([], [], [], [])
    for name, is_folder in found:
        if is_folder:
            hidden = is_system(name)
            if hidden or is_own_folder(path / name, names):
                listing.skipped.append((name, SYSTEM if hidden else OWN))
            else:
                listing.folders.append(name)
            continue
        suffix = os.path.splitext(name)[1].casefold()
        if is_system(name):
            if suffix in SUFFIXES:
                listing.skipped.append((name, SYSTEM))
            elif name[0] != ".":
                listing.others.append(name)
        elif suffix in SUFFIXES:
            listing.images.append(name)
        elif suffix in OTHER_SUFFIXES:
            listing.skipped.append((name, FORMAT))
        elif not has_signature(path / name):
            listing.others.append(name)
        elif suffix:
            listing.skipped.append((name, NAME))
        else:
            listing.images.append(name)
    return listing


def walk(root: Path) -> Iterator[tuple[list[str], Listing]]:
    """Yield the parts of the path of each folder below a root, and what it holds.

    Links to folders are skipped. A folder that cannot be read has skipped '', which is itself.
    """
    waiting: list[list[str]] = [[]]
    while waiting:
        parts = waiting.pop()
        folder = root.joinpath(*parts)
        try:
            listing = list_folder(folder)
        except OSError:
            yield parts, Listing([], [], [], [("", UNREADABLE)])
            continue
        # A link could lead back to a folder above.
        links = {name for name in listing.folders if os.path.islink(folder / name)}
        folders = [name for name in listing.folders if name not in links]
        waiting += [[*parts, name] for name in folders]
        skipped = [*listing.skipped, *((name, LINK) for name in sorted(links))]
        yield parts, dataclasses.replace(listing, folders=folders, skipped=skipped)


def find_below(root: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Find the images below a folder.

    Returns the paths of images relative to it, folder by folder, and path and reason of what is skipped.
    The folder itself is read whatever its name and whoever wrote it.
    """
    images: list[list[str]] = []
    skipped: list[tuple[list[str], str]] = []
    for parts, listing in walk(root):
        images += [[*parts, name] for name in listing.images]
        skipped += [([*parts, name] if name else parts, reason) for name, reason in listing.skipped]
    paths = ["/".join(parts) for parts in sorted(images)]
    return paths, [("/".join(parts) or ".", reason) for parts, reason in sorted(skipped)]


def skip_lines(skipped: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield one line for each reason: how many were skipped, the first one, and the fix.

    >>> list(skip_lines([("a.psd", FORMAT), ("b.psd", FORMAT)]))
    ['2 skipped, for instance a.psd: images in a format that is not read; save them as JPEG, PNG or TIFF']
    """

    def reason(one: tuple[str, str]) -> str:
        return one[1]

    for text, group in itertools.groupby(sorted(skipped, key=reason), reason):
        names = [name for name, _ in group]
        yield f"{len(names):,} skipped, for instance {printable(names[0])}: {text}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to what this user may not see
        return False


def _head(path: Path, length: int = -1) -> str:
    """Read the start of a text file; '' where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(length)
    except OSError:
        return ""
