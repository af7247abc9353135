"""What every layout shares: the folder of data, checks of a row and its image, and the rejected rows."""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heatcrop.data.labels import parse_letters
from heatcrop.data.readers.lines import read_lines
from heatcrop.data.tasks import FASHIONAI, Task, class_folders, resolve
from heatcrop.errors import DataError

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is

COLUMNS = ("image", "path", "task", "label", "split", "group", "source")
REJECTED = ("image", "task", "source", "reason")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "": ""}
NO_LABEL = ("", "?")

_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, eq=False)
class Annotations:
    """The rows of the annotation files, those that cannot be used, and other remarks for the user."""

    rows: pd.DataFrame
    """One row per image and task. ``image``: name as annotated, with ``/`` (unique within a task); ``path``:
    the file, absolute; ``task``: full name; ``label``: letters, ``''`` when unknown; ``split``: ``train``,
    ``val``, ``test`` or ``''`` when not given; ``group``: images that belong together, ``''`` for none;
    ``source``: ``file:row``."""
    rejected: pd.DataFrame
    """``image, task, source, reason``."""
    notes: list[str]


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
    if _CONTROL.search(image):
        return image, "the image's name holds a control character"
    if image[0] == "/" or _DRIVE.match(image):
        return image, "the path is absolute; give it relative to the data folder"
    if ".." in image.split("/"):
        return image, "the path leaves the data folder; give one below it"
    if "//" in image or "./" in image:
        image = posixpath.normpath(image)
    return image, ""


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


class Collector:
    """Check rows one by one; keep the good ones, and record why the others are rejected."""

    root: Root
    """The current one."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)
        self.notes: list[str] = []
        self._rows: list[tuple[str, ...]] = []  # in the order of COLUMNS
        self.rejected: list[tuple[str, str, str, str]] = []  # in the order of REJECTED
        self._places: dict[tuple[str, str], int] = {}  # of each task and image in the rows
        self._root_start = 0  # the first row of the current root
        self._files: list[str] = []
        self._tasks: dict[str, Task | None] = {}
        self._other_tasks: Counter[str] = Counter()  # number of rows by task name
        self._dropped = self._dropped_labels = 0
        self.label = functools.cache(_letters)

    def start(self, root: Root) -> None:
        """Start the next root: its rows yield to those of earlier roots."""
        self.root = root
        self._root_start = len(self._rows)

    def read(self, path: Path) -> Iterator[tuple[str, list[str]]]:
        """Yield ``(source, fields)`` of a file's rows; reject lines that cannot be parsed."""
        name = self.root.name(path)
        self._files.append(name)
        n_empty = 0
        for number, fields, fault in read_lines(path, name):
            if fault:
                self.reject(fields[0][:200], "", f"{name}:{number}", fault)
            elif fields:
                yield f"{name}:{number}", fields
            else:
                n_empty += 1
        if n_empty:
            self.notes.append(f"{name}: {n_empty:,} empty lines skipped")

    def table(
        self, path: Path, needed: Sequence[str], optional: str = ""
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield ``(source, {column: text})`` of each row that has as many columns as the header."""
        rows, n_rejected = self.read(path), len(self.rejected)
        source, fields = next(rows, ("", []))
        if not fields:
            *_, source, reason = self.rejected[n_rejected]
            raise DataError(f"{source}: no row of the file can be read; {reason}")
        header = [text.casefold() for text in fields]
        missing = [column for column in needed if column not in header]
        if missing or len(set(header)) < len(header):
            fault = f"lacks {', '.join(missing)}" if missing else "names a column twice"
            raise DataError(
                f"{source}: the header {','.join(header)[:200]!r} {fault}; expected "
                f"{','.join(needed)!r}{optional}, separated by commas"
            )
        for source, fields in rows:
            if len(fields) == len(header):
                yield source, dict(zip(header, fields, strict=True))
            else:
                self.reject(fields[0], "", source, f"{len(fields)} columns; the header has {len(header)}")

    def reject(self, image: str, task: str, source: str, reason: str) -> None:
        """Record why a row cannot be used."""
        self.rejected.append((image, task, source, reason))

    def task(self, text: str) -> Task | None:
        """Find the task that a row names; None when the run does not have it."""
        if text not in self._tasks:
            self._tasks[text] = resolve_or_none(text, self.tasks)
        return self._tasks[text]

    def add(
        self, source: str, image: str, name: str, label: str, split: str, group: str = "", sub: str = ""
    ) -> None:
        """Check one row as its file has it; its image is relative to `sub` (``base/``) within the root."""
        image, reason = clean_image(image)
        if reason:
            self.reject(image, name, source, reason)
            return
        task = self.task(name)
        if task is None:
            self._other_tasks[name] += 1
            # Rows of other FashionAI tasks are only counted.
            if resolve_or_none(name, FASHIONAI) is None:
                self.reject(image, name, source, f"unknown task {name!r}")
            return
        label, reason = self.label(task, label)
        if not reason and not label:  # an image without a label can only be predicted
            reason = "" if split in ("", "test") else f"no label, though it is a row of {split}"
            split = "test"
        if not reason:
            place = self._places.get((task.name, image))
            if place is None:
                reason = self.root.find(sub + image)
            else:
                *_, known, _, _, first = self._rows[place]
                if place < self._root_start:
                    self._dropped += 1
                    self._dropped_labels += not known and bool(label)
                    return
                reason = f"duplicate of {first}"
                if label != known:
                    reason += f", with another label ({label or '?'} here, {known or '?'} there)"
        if reason:
            self.reject(image, name, source, reason)
            return
        self._places[task.name, image] = len(self._rows)
        path = f"{self.root.path}/{sub}{image}"
        self._rows.append((image, path, task.name, label, split, group, source))

    def finish(self) -> Annotations:
        """Return all rows; DataError when none can be used."""
        import pandas as pd

        if not self._rows:
            raise DataError(self._no_rows())
        left_out = {name: n for name, n in self._other_tasks.items() if resolve_or_none(name, FASHIONAI)}
        if left_out:
            counts = ", ".join(f"{name} {count:,}" for name, count in left_out.items())
            self.notes.append(f"{sum(left_out.values()):,} rows of other tasks left out: {counts}")
        if self._dropped:
            note = f"{self._dropped:,} duplicate rows dropped, first root wins"
            if self._dropped_labels:
                note += f" ({self._dropped_labels:,} of them have a label that the first root lacks)"
            self.notes.append(note)
        if self.rejected:
            self.notes.append(f"{len(self.rejected):,} rows rejected, see `rejected`")
        return Annotations(
            pd.DataFrame(self._rows, columns=list(COLUMNS), dtype=object),
            pd.DataFrame(self.rejected, columns=list(REJECTED), dtype=object),
            self.notes,
        )

    def _no_rows(self) -> str:
        if self._other_tasks and not any(self._tasks.values()):
            found = ", ".join(f"{name} ({n:,} rows)" for name, n in self._other_tasks.most_common(12))
            expected = ", ".join(task.name for task in self.tasks) or "none"
            return (
                f"no row belongs to a task of this run ({expected}); the data holds: {found}. Name the tasks "
                "under `tasks` in the configuration, each with `name` as in the data and `classes` in label "
                "order"
            )
        if not self.rejected:
            where = ", ".join(self._files) or "the data"
            return f"{where}: no row with an image; expected one row per image below the header"
        _, _, source, reason = self.rejected[0]
        return f"none of the {len(self.rejected):,} rows can be used; the first, {source}: {reason}"


def _letters(task: Task, text: str) -> tuple[str, str]:
    """Convert a label or class name to letters; return them with the reason for refusal, or ``''``."""
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


def resolve_or_none(name: str, tasks: Sequence[Task]) -> Task | None:
    """Find the task of a full or short name; None without one."""
    try:
        return resolve(name, tasks)
    except DataError:
        return None
