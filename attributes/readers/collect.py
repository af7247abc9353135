"""What every layout shares: checking a row, finding its picture, and keeping count of what is set aside."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from attributes.errors import DataError
from attributes.labels import parse_letters
from attributes.readers.lines import Lines, read_lines
from attributes.tasks import FASHIONAI, Task, class_folders, resolve

COLUMNS = ("image", "path", "task", "label", "split", "group", "source")
REJECTED = ("image", "task", "source", "reason")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "": ""}
NO_LABEL = ("", "?")

_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, eq=False)
class Annotations:
    """Everything the annotation files say, and what of it could not be used.

    Attributes
    ----------
    rows : DataFrame
        One row a picture and task. ``image``: path as annotated, with ``/`` (unique within a task);
        ``path``: absolute; ``task``: whole name; ``label``: letters, ``''`` when unknown; ``split``:
        ``train``, ``val``, ``test`` or ``''`` when not given; ``group``: pictures that belong together,
        ``''`` for none; ``source``: ``file:row``.
    rejected : DataFrame
        ``image, task, source, reason`` of the rows that were set aside.
    notes : list of str
        What else is worth telling, in sentences.
    """

    rows: pd.DataFrame
    rejected: pd.DataFrame
    notes: list[str] = field(default_factory=list)


class Row(NamedTuple):
    """A row as its file has it, before anything is checked."""

    image: str
    task: str
    label: str
    split: str
    group: str
    source: str


@dataclass(frozen=True)
class Root:
    """A folder of data; `prefix` is put before file names when there are several."""

    folder: Path
    prefix: str = ""

    def name(self, path: Path) -> str:
        return self.prefix + path.relative_to(self.folder).as_posix()


def clean_image(text: str) -> tuple[str, str]:
    """A picture's path with ``/``, and the reason it is refused or ``''``.

    Examples
    --------
    >>> clean_image("Images\\\\neck\\\\1.jpg")
    ('Images/neck/1.jpg', '')
    >>> clean_image("../secret.jpg")
    ('../secret.jpg', 'the path leaves the data folder; give one below it')
    """
    image = text.replace("\\", "/")
    if not image:
        return image, "no picture is named"
    if _CONTROL.search(image):
        return image, "the picture's name holds a control character"
    if image[0] == "/" or _DRIVE.match(image):
        return image, "the path is absolute; give it relative to the data folder"
    if ".." in image and ".." in image.split("/"):
        return image, "the path leaves the data folder; give one below it"
    if "//" in image or "./" in image:
        image = posixpath.normpath(image)
    return image, ""


class PictureFolders:
    """Whether pictures exist, with one listing a folder instead of one look a picture."""

    def __init__(self, root: Path) -> None:
        self.root = os.path.abspath(root)
        self._real = os.path.realpath(root)
        self._listings: dict[str, dict[str, str] | str] = {}

    def find(self, relative: str) -> tuple[str, str]:
        """The absolute path of a picture, and the reason it cannot be used or ``''``."""
        folder, _, name = relative.rpartition("/")
        listing = self._listings.get(folder)
        if listing is None:
            listing = self._listings[folder] = self._list(folder)
        path = f"{self.root}/{relative}"
        if isinstance(listing, str):
            return path, listing
        kind = listing.get(name, "missing")
        if kind == "link":  # rare, so the dear look is taken only here
            kind = "file" if os.path.isfile(path) else "missing"
            if not self._inside(path):
                return path, f"the link leads out of the data folder, to {os.path.realpath(path)}"
        if kind == "missing":
            return path, f"the picture is missing: there is no {relative}"
        return path, "" if kind == "file" else f"{relative} is a folder, not a picture"

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
            return f"the picture is missing: there is no folder {folder}"
        except OSError as error:
            return f"the folder {folder} cannot be read: {error.strerror}"


class Collector:
    """Takes rows one by one, keeps the good, sets the bad aside with a reason, and counts the rest."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)
        self.notes: list[str] = []
        self.strangers: Counter[str] = Counter()  # rows by the task they name, where it is not ours
        self._rows: tuple[list[str], ...] = tuple([] for _ in COLUMNS)
        self._rejected: list[tuple[str, str, str, str]] = []
        self._files: list[str] = []
        self._seen: dict[str, dict[str, int]] = {}  # task to image to row
        self._tasks: dict[str, Task | None] = {}
        self._labels: dict[tuple[str, str], tuple[str, str]] = {}
        self._groups: dict[str, str] = {}  # each text once, however many rows bear it
        self._first = 0  # row of this root
        self._dropped = self._hidden = 0

    def start_root(self) -> None:
        """From here on, rows come from the next root."""
        self._first = len(self._rows[0])

    def lines(self, root: Root, path: Path) -> tuple[str, Lines]:
        """A file's name and lines; lines that cannot be taken apart are set aside."""
        name = root.name(path)
        self._files.append(name)
        lines = read_lines(path, name)
        for number, text, reason in lines.faults:
            self.reject(text[:200], "", f"{name}:{number}", reason)
        if lines.n_empty:
            self.notes.append(f"{name}: {lines.n_empty:,} empty lines passed over")
        return name, lines

    def reject(self, image: str, task: str, source: str, reason: str) -> None:
        self._rejected.append((image, task, source, reason))

    def task(self, text: str) -> Task | None:
        """The task a row names, or None when it is not asked for."""
        if text not in self._tasks:
            try:
                self._tasks[text] = resolve(text, self.tasks)
            except DataError:
                self._tasks[text] = None
        return self._tasks[text]

    def label(self, task: Task, text: str) -> tuple[str, str]:
        """Letters of a label, which may be a class name, and the reason it is refused or ``''``."""
        key = (task.name, text)
        if key not in self._labels:
            self._labels[key] = _letters(task, text)
        return self._labels[key]

    def add(self, folders: PictureFolders, sub: str, row: Row) -> None:
        """Check one row; `sub` (``base/`` or ``''``) is what its path is relative to within the root."""
        image, reason = clean_image(row.image)
        task = None if reason else self.task(row.task)
        label, split, path = "", row.split, ""
        if not reason and task is None:
            self.strangers[row.task] += 1
            if _is_fashionai(row.task):
                return  # a task of the data that this run leaves out: counted, not set aside
            reason = f"unknown task {row.task!r}"
        if task is not None:
            label, reason = self.label(task, row.label)
        if not reason and not label:  # nothing can be learned from it
            reason = "" if split in ("", "test") else f"no label, though it is a row of {split}"
            split = "test"
        if task is not None and not reason:
            earlier = self._seen.get(task.name, {}).get(image)
            known = "" if earlier is None else self._rows[COLUMNS.index("label")][earlier]
            if earlier is not None and earlier < self._first:
                self._dropped += 1
                self._hidden += not known and bool(label)
                return
            if earlier is None:
                path, reason = folders.find(sub + image)
            else:
                reason = f"duplicate of {self._rows[COLUMNS.index('source')][earlier]}"
                if label != known:
                    reason += f", with another label ({label or '?'} here, {known or '?'} there)"
        if reason or task is None:
            self.reject(image, row.task, row.source, reason)
            return
        self._seen.setdefault(task.name, {})[image] = len(self._rows[0])
        group = self._groups.setdefault(row.group, row.group)
        values = (image, path, task.name, label, split, group, row.source)
        for column, value in zip(self._rows, values, strict=True):
            column.append(value)

    def finish(self) -> Annotations:
        """All that was collected; DataError when nothing is left to work with."""
        left_out = {name: count for name, count in self.strangers.items() if _is_fashionai(name)}
        if not self._rows[0]:
            raise DataError(self._nothing())
        if left_out:
            told = ", ".join(f"{name} {count:,}" for name, count in left_out.items())
            self.notes.append(f"{sum(left_out.values()):,} rows of other tasks left out: {told}")
        if self._dropped:
            told = f"{self._dropped:,} duplicate rows dropped, first root wins"
            if self._hidden:
                told += f" ({self._hidden:,} of them have a label that the first root lacks)"
            self.notes.append(told)
        if self._rejected:
            self.notes.append(f"{len(self._rejected):,} rows set aside, see `rejected`")
        self._seen.clear()
        columns = {}
        for name, texts in zip(COLUMNS, self._rows, strict=True):
            columns[name] = np.array(texts, object)
            texts.clear()  # of millions of rows, one copy at a time
        rows = pd.DataFrame(columns, copy=False)
        return Annotations(rows, pd.DataFrame(self._rejected, columns=list(REJECTED)), self.notes)

    def _nothing(self) -> str:
        if self.strangers and all(self.task(name) is None for name in self._tasks):
            found = ", ".join(f"{name} ({count:,} rows)" for name, count in self.strangers.most_common(12))
            asked = ", ".join(task.name for task in self.tasks) or "none"
            return (
                f"no row belongs to a task of this run ({asked}); the data holds: {found}. Name the tasks "
                "under `tasks` in the configuration, each with `name` as the data spells it and `classes` "
                "in label order"
            )
        if not self._rejected:
            where = ", ".join(self._files) or "the data"
            return f"{where}: no row with a picture; expected one row a picture below the header"
        image, task, source, reason = self._rejected[0]
        return f"none of the {len(self._rejected):,} rows can be used; the first, {source}: {reason}"


def _letters(task: Task, text: str) -> tuple[str, str]:
    if text in NO_LABEL:
        return "", ""
    wanted = text.casefold()
    for names in (task.classes, class_folders(task)):
        for index, name in enumerate(names):
            if name.casefold() == wanted:
                return "n" * index + "y" + "n" * (len(names) - index - 1), ""
    try:
        parse_letters(text, len(task.classes))
    except ValueError as error:
        if set(text) <= set("ymn"):
            return "", str(error)
        known = ", ".join(task.classes)
        return "", f"label {text!r} is neither letters y, m, n nor a class of {task.name}: {known}"
    return text, ""


def _is_fashionai(name: str) -> bool:
    try:
        resolve(name, FASHIONAI)
    except DataError:
        return False
    return True
