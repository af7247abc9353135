"""What every layout shares: checking a row and its picture, and keeping count of what is set aside."""

from __future__ import annotations

import posixpath
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from heatcrop.data.labels import parse_letters
from heatcrop.data.readers.lines import Lines, read_lines
from heatcrop.data.readers.listing import PictureFolders
from heatcrop.data.tasks import FASHIONAI, Task, class_folders, resolve
from heatcrop.data.texts import PicturePaths
from heatcrop.errors import DataError

COLUMNS = ("image", "path", "task", "label", "split", "group", "source")
REJECTED = ("image", "task", "source", "reason")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "": ""}
NO_LABEL = ("", "?")
_CODED = ("folder", "task", "label", "split", "group", "file")

_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, eq=False)
class Annotations:
    """Everything the annotation files say, and what of it could not be used.

    Attributes
    ----------
    table : DataFrame
        One row a picture and task, in little memory. ``image``: path as annotated, with ``/`` (unique
        within a task); ``folder``: what it is below, see `picture_paths`; ``task``: whole name;
        ``label``: letters, ``''`` when unknown; ``split``: ``train``, ``val``, ``test`` or ``''`` when not
        given; ``group``: pictures that belong together, ``''`` for none; ``file`` and ``line``: where the
        row stands, see `sources`. All texts but ``image`` are categories.
    rejected : DataFrame
        ``image, task, source, reason`` of the rows that were set aside.
    notes : list of str
        What else is worth telling, in sentences.
    """

    table: pd.DataFrame
    rejected: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> pd.DataFrame:
        """The table in plain texts, made each time: ``image, path, task, label, split, group, source``.

        ``path`` is absolute, ``source`` is ``file:row``.
        """
        told = {"path": list(picture_paths(self.table)), "source": sources(self.table)}
        return pd.DataFrame({name: told.get(name) or self.table[name].tolist() for name in COLUMNS})


def picture_paths(table: pd.DataFrame) -> PicturePaths:
    """The absolute path of each row of `Annotations.table`, or of some of its rows."""
    folders = table["folder"].cat
    return PicturePaths(
        folders.categories.tolist(), folders.codes.to_numpy(), table["image"].to_numpy(object)
    )


def sources(table: pd.DataFrame) -> list[str]:
    """Where each row of `Annotations.table`, or of some of its rows, comes from: ``file:row``."""
    where = zip(table["file"].tolist(), table["line"].tolist(), table["image"].tolist(), strict=True)
    return [_source(file, line, image) for file, line, image in where]


def _source(file: str, line: int, image: str) -> str:
    return f"{file}:{line}" if line else file + image


class Row(NamedTuple):
    """A row as its file has it, before anything is checked.

    Where no file has it, since the picture's place says all, `line` is 0 and `file` what is put before
    the picture's name.
    """

    image: str
    task: str
    label: str
    split: str
    group: str
    file: str
    line: int

    @property
    def source(self) -> str:
        return _source(self.file, self.line, self.image)


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


class _Coded:
    """Texts of which many are alike, row by row: each is kept once, and a number a row."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}
        self._codes = array("i")

    def append(self, text: str) -> None:
        number = self._numbers.setdefault(text, len(self._texts))
        if number == len(self._texts):
            self._texts.append(text)
        self._codes.append(number)

    def __getitem__(self, row: int) -> str:
        return self._texts[self._codes[row]]

    def column(self) -> pd.Categorical:
        codes = np.array(self._codes, np.int32)
        return pd.Categorical.from_codes(codes, pd.Index(self._texts, dtype=object))


class Collector:
    """Takes rows one by one, keeps the good, sets the bad aside with a reason, and counts the rest."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)
        self.notes: list[str] = []
        self.strangers: Counter[str] = Counter()  # rows by the task they name, where it is not ours
        self._images: list[str] = []
        self._lines = array("Q")
        self._coded = {name: _Coded() for name in _CODED}
        self._rejected: list[tuple[str, str, str, str]] = []
        self._files: list[str] = []
        self._seen: dict[str, dict[str, int]] = {}  # task to image to row
        self._tasks: dict[str, Task | None] = {}
        self._labels: dict[tuple[str, str], tuple[str, str]] = {}
        self._first = 0  # row of this root
        self._dropped = self._hidden = 0

    def start_root(self) -> None:
        """From here on, rows come from the next root."""
        self._first = len(self._images)

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
        label, split = "", row.split
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
            known = "" if earlier is None else self._coded["label"][earlier]
            if earlier is not None and earlier < self._first:
                self._dropped += 1
                self._hidden += not known and bool(label)
                return
            if earlier is None:
                reason = folders.find(sub + image)
            else:
                told = (self._coded["file"][earlier], self._lines[earlier], image)
                reason = f"duplicate of {_source(*told)}"
                if label != known:
                    reason += f", with another label ({label or '?'} here, {known or '?'} there)"
        if reason or task is None:
            self.reject(image, row.task, row.source, reason)
            return
        self._seen.setdefault(task.name, {})[image] = len(self._images)
        self._images.append(image)
        self._lines.append(row.line)
        folder = f"{folders.root}/{sub}"[:-1]
        values = (folder, task.name, label, split, row.group, row.file)
        for column, value in zip(self._coded.values(), values, strict=True):
            column.append(value)

    def finish(self) -> Annotations:
        """All that was collected; DataError when nothing is left to work with."""
        left_out = {name: count for name, count in self.strangers.items() if _is_fashionai(name)}
        if not self._images:
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
        images = pd.Series(self._images, dtype=object)
        self._images.clear()  # of millions of rows, one copy at a time
        coded = {name: column.column() for name, column in self._coded.items()}
        table = pd.DataFrame({"image": images, **coded, "line": np.array(self._lines, np.uint32)}, copy=False)
        return Annotations(table, pd.DataFrame(self._rejected, columns=list(REJECTED)), self.notes)

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
