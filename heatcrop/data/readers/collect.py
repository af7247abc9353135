"""What every layout shares: the checks of a row, and what becomes of those that cannot be used."""

from __future__ import annotations

import filecmp
import functools
import itertools
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heatcrop.data.labels import parse_letters
from heatcrop.data.readers.lines import (
    DELIMITERS,
    FIRST_ROWS,
    NOT_UTF8_ROW,
    are_numbered,
    load_text,
    parse_lines,
)
from heatcrop.data.readers.regions import Region, make_region
from heatcrop.data.readers.root import MOST_FOLDERS, Root, clean_image
from heatcrop.data.readers.spelling import composed, find_spelling, folded
from heatcrop.data.tasks import FASHIONAI, Task, class_folders, resolve
from heatcrop.errors import DataError
from heatcrop.wording import counted

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is

COLUMNS = ("image", "path", "task", "label", "split", "group", "source")
REJECTED = ("image", "task", "source", "reason")
REGIONS = ("image", "task", "x0", "y0", "x1", "y1", "width", "height")
SPLITS = {
    "": "",
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "holdout", "hold-out", "eval", "evaluation"), "test"),
}
FindSplit = Callable[[str], str | None]
"""`find_split` with the names of one run."""
NO_LABEL = ("", "?")
REGIONS_TABLE = "boxes_true.csv"
"""A root's table of true regions."""

_ENDING = re.compile(r"[-_ ]?(set|split|data|images|(19|20)\d\d)$")


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
    problems: list[str]
    """What was left out, beside rejected rows."""
    tasks: tuple[Task, ...]
    """Those of the run, given or inferred."""
    left_out: tuple[str, ...]
    """Names of tasks that the data holds and that cannot be inferred."""
    regions: pd.DataFrame
    """The true regions that are known: ``image, task, x0, y0, x1, y1`` in pixels, and ``width, height`` of
    the image when it was annotated, 0 when unknown."""


def find_split(name: str, renamed: Mapping[str, str]) -> str | None:
    """Return the split of a name in a file or of a folder; None when it is none.

    `renamed` has other names, in lower case, and overrides the usual ones.

    >>> find_split("Validation", {}), find_split("training_set", {}), find_split("beak", {})
    ('val', 'train', None)
    >>> find_split("Hold_Out", {}), find_split("train2017", {})
    ('test', 'train')
    >>> find_split("valid", {"val": "test"}), find_split("fold1", {"fold1": "train"})
    ('test', 'train')
    """
    text = name.casefold()
    plain = text.replace("_", "-").replace(" ", "-")
    usual = SPLITS.get(plain, SPLITS.get(_ENDING.sub("", plain) or plain))
    for key in (text, usual):
        if key is not None and key in renamed:
            return renamed[key]
    return usual


def split_in(name: str, split: FindSplit) -> str:
    """Return the part of a file's name that `split` finds a split for; '' without one, or with several.

    >>> split_in("coco_train2017.json", {"train2017": "train"}.get)
    'train2017'
    """
    stem = name.partition(".")[0]
    words = [stem] if split(stem) else [word for word in re.split(r"[-_ .]+", name) if split(word)]
    return words[0] if len(words) == 1 else ""


class Collector:
    """Check rows one by one; keep the good ones, and record why the others are rejected."""

    root: Root
    """The current one."""

    def __init__(
        self,
        tasks: Sequence[Task],
        renamed_splits: Mapping[str, str] | None = None,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self.tasks = tuple(tasks)
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.files: dict[Path, str] = {}
        """Those that were read or reported, and their names in messages."""
        self._rows: list[tuple[str, ...]] = []  # in the order of COLUMNS
        self.rejected: list[tuple[str, str, str, str]] = []  # in the order of REJECTED
        self._places: dict[tuple[str, str], int] = {}  # of each task and image in the rows
        self._root_start = 0  # the first row of the current root
        self._tasks: dict[str, Task | None] = {}
        self._other_tasks: Counter[str] = Counter()  # number of rows by task name
        self._left_out = dict(left_out or {})  # the reason by task name
        self._dropped = self._dropped_labels = 0
        self._contradicted: list[str] = []
        self.paths: dict[str, str] = {}  # of the images that rows use, by name
        self._names: dict[str, str] = {}  # of images by path
        self._not_used: set[str] = set()  # images that are named in other rows
        self._ends_not_used: set[str] = set()  # ends of their paths
        self._same_name: dict[str, list[str]] = {}  # further images by the name that is annotated
        self._respelt_labels: list[str] = []
        self._guessed: set[str] = set()  # rows whose letters depend on a guessed encoding
        self._read_by_guess: list[str] = []
        # Number and first source of what is left out, by what it has in common.
        self._counted: dict[tuple[str, str], tuple[int, str]] = {}
        self._regions: dict[int, Region] = {}  # by row
        # Of the roots' tables, by folder, task and image, with their sources.
        self._table_of_regions: dict[tuple[str, str, str], tuple[Region, str]] = {}
        # Rows that have such a name, if the folder of their annotations is left out.
        self._named_in_folder: dict[tuple[str, str, str], list[int]] = {}
        self.label = functools.cache(self._label)
        self._official = functools.cache(lambda name: resolve_or_none(name, FASHIONAI))
        self.split = functools.cache(lambda name: find_split(name, renamed_splits or {}))
        self._usual_split = functools.cache(lambda name: find_split(name, {}))

    def start(self, root: Root) -> None:
        """Start the next root: its rows yield to those of earlier roots."""
        self.root = root
        self._root_start = len(self._rows)

    def read_regions(self) -> None:
        """Read the current root's table of true regions, where it has one; call it before its rows are added.

        A table that cannot be read is a problem, and its rows that cannot be used are rejected.
        """
        path = self.root.folder / REGIONS_TABLE
        if path in self.files or not path.is_file():  # several roots may have one folder
            return
        try:
            for source, row in self.table(path, REGIONS[:6]):
                corners = [row[column] for column in REGIONS[2:6]]
                if not any(corners):  # of an image that does not show the region
                    continue
                region, reason = make_region(corners)
                if region is None:
                    self.reject(row["image"], row["task"], source, reason)
                elif task := self.task(row["task"]):
                    image = self._relative(row["image"])
                    key = self.root.path, task.name, composed(clean_image(image)[0])
                    found = region, source
                    if other := self._table_of_regions.get(key):
                        rest = "of an image and task that have others; the largest counts"
                        self.count("true region(s)", rest, source)
                        found = max(other, found, key=lambda one: one[0].area)
                    self._table_of_regions[key] = found
                else:
                    self.count("true region(s)", "of tasks that the run does not have", source)
        except DataError as error:
            self.problems.append(f"{error}; the true regions of this file are left out")

    def count(self, what: str, rest: str, source: str) -> None:
        """Count what is left out of a row that is used, or a row that is none; reported as a note.

        `what` is worded for `counted`, and `rest` follows it.
        """
        n, first = self._counted.get((what, rest), (0, source))
        self._counted[what, rest] = n + 1, first

    def counted_notes(self) -> list[str]:
        """Write what was counted."""
        return [
            f"{counted(n, what)} {rest}, for instance {first}"
            for (what, rest), (n, first) in self._counted.items()
        ]

    def read(self, path: Path) -> Iterator[tuple[str, list[str]]]:
        """Yield ``(source, fields)`` of a file's rows; reject lines that cannot be parsed."""
        name = self.root.name(path)
        self.files[path] = name
        n_empty, (data, encoding) = 0, load_text(path, name)
        for number, fields, fault in parse_lines(data, DELIMITERS):
            source = f"{name}:{number}"
            if encoding == "Windows-1252" and not "".join(fields).isascii():
                self._guessed.add(source)
            if fault:
                self.reject(fields[0][:200], "", source, fault)
            elif fields:
                yield source, fields
            else:
                n_empty += 1
        if n_empty:
            self.notes.append(f"{name}: {counted(n_empty, 'empty line(s)')} skipped")

    def table(
        self, path: Path, needed: Sequence[str], optional: str = ""
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield ``(source, {column: text})`` of each row that has as many columns as the header.

        Columns without a name are ignored; so is a first column of row numbers that the header lacks.
        """
        rows, n_rejected = self.read(path), len(self.rejected)
        source, fields = next(rows, ("", []))
        if not fields:
            if len(self.rejected) == n_rejected:
                raise DataError(
                    f"{self.root.name(path)}: holds no row; expected the header {','.join(needed)!r}"
                )
            *_, source, reason = self.rejected[n_rejected]
            raise DataError(f"{source}: no row of the file can be read; {reason}")
        header = [text.casefold() for text in fields]
        named = [column for column in header if column]
        missing = [column for column in needed if column not in header]
        if missing or len(set(named)) < len(named):
            fault = f"lacks {', '.join(missing)}" if missing else "names a column twice"
            raise DataError(
                f"{source}: the header {','.join(header)[:200]!r} {fault}; expected "
                f"{','.join(needed)!r}{optional}, separated by commas, semicolons or tabs, in UTF-8 or UTF-16"
            )
        first = list(itertools.islice(rows, FIRST_ROWS))
        if are_numbered([row for _, row in first], len(header)):
            header = ["", *header]
        while not header[-1]:
            header.pop()
        for source, fields in itertools.chain(first, rows):
            while len(fields) > len(header) and not fields[-1]:
                fields.pop()
            if len(fields) == len(header):
                yield source, {column: text for column, text in zip(header, fields, strict=True) if column}
            else:
                reason = f"{counted(len(fields), 'column(s)')}; the header has {len(header)}"
                self.reject(fields[0], "", source, reason)

    def reject(self, image: str, task: str, source: str, reason: str) -> None:
        """Record why a row cannot be used."""
        self._note_unused(image)
        self.rejected.append((image, task, source, reason))

    @property
    def n_seen(self) -> int:
        """Number of rows so far, used or not."""
        return len(self._rows) + len(self.rejected) + self._dropped + self._other_tasks.total()

    def is_named(self, root: Root, image: str) -> bool:
        """Return whether a row, used or not, names an image that is below a root."""
        if f"{root.path}/{image}" in self._names:
            return True
        ends = _ends(folded(image))
        return ends[0] in self._ends_not_used or not self._not_used.isdisjoint(ends)

    def folders_of(self, root: Root) -> set[str]:
        """List the folders of the images that rows use, relative to a root and below it."""
        start = f"{root.path}/"
        paths = (path.removeprefix(start) for path in self._names if path.startswith(start))
        return {posixpath.dirname(path) for path in paths}

    def _note_unused(self, image: str) -> None:
        ends = _ends(folded(clean_image(image)[0]).lstrip("/"))
        self._not_used.add(ends[0])
        self._ends_not_used.update(ends)

    def task(self, text: str) -> Task | None:
        """Find the task that a row names; None when the run does not have it."""
        if text not in self._tasks:
            self._tasks[text] = None if text in self._left_out else resolve_or_none(text, self.tasks)
        return self._tasks[text]

    def add(
        self,
        source: str,
        image: str,
        name: str,
        label: str,
        split: str,
        group: str = "",
        sub: str = "",
        region: Region | None = None,
    ) -> None:
        """Check one row as its file has it; its image is relative to `sub` (``base/``) within the root."""
        image = self._relative(image, sub)
        outside = self.root.access.absolute_paths and os.path.isabs(image)
        image, reason = (image, "") if outside else clean_image(image)
        reason = reason or ("" if name else "no task is named")
        if reason:
            self.reject(image, name, source, reason)
            return
        task = self.task(name)
        if task is None:
            self._other_tasks[name] += 1
            self._note_unused(image)
            # Rows of other FashionAI tasks are only counted, and so are those of tasks that are left out.
            if name not in self._left_out and self._official(name) is None:
                self.reject(image, name, source, f"unknown task {name!r}")
            return
        label, reason = self.label(task, label)
        given, usual = self.split(split or self.root.split), self._usual_split(split or self.root.split)
        if usual and given and given != usual:
            self.count("row(s)", f"given as {usual} used as {given} (data.splits)", source)
        if given is None:
            reason = f"split {split!r}; expected train, val, test or nothing"
        elif not reason and not label:  # an image without a label can only be predicted
            unlabelled = given in ("", "test") or usual in ("", "test")
            reason = "" if unlabelled else f"no label, though it is a row of {given}"
            given = "test"
        if not reason:
            path, reason = self._find(image, sub, outside)
            if reason and source in self._guessed:
                reason = NOT_UTF8_ROW
        annotated = image
        if not reason:
            image = self._name(path, image, sub)
            place = self._places.get((task.name, image))
            if place is not None:
                *_, known, known_split, _, first = self._rows[place]
                if place < self._root_start:
                    self._drop(source, (label, str(given)), first, (known, known_split))
                    return
                reason = f"duplicate of {first}"
                if label != known:
                    reason += f", with another label ({label or '?'} here, {known or '?'} there)"
            elif not outside and not path.endswith(f"/{sub}{annotated}"):
                there = path.removeprefix(f"{self.root.path}/{sub}")
                example = f"{source} names {annotated}, which is {there}"
                self.count("image(s)", "found under a name that differs by case or by Unicode form", example)
        if reason:
            self.reject(image, name, source, reason)
            return
        if region is None and self._table_of_regions:
            key = self.root.path, task.name, composed(annotated)
            region, _ = self._table_of_regions.pop((*key[:2], composed(sub + annotated)), (None, ""))
            if region is None and key in self._table_of_regions:
                self._named_in_folder.setdefault(key, []).append(len(self._rows))
        self._use_region(len(self._rows), region, source)
        self._places[task.name, image] = len(self._rows)
        self._rows.append((image, path, task.name, label, str(given), group, source))
        if source in self._guessed:
            self._read_by_guess.append(source)

    def _use_region(self, row: int, region: Region | None, source: str) -> None:
        if region is not None and region.is_full:
            self.count("box(es)", "around the full image, not used as true regions", source)
        elif region is not None:
            self._regions[row] = region

    def _relative(self, image: str, sub: str = "") -> str:
        """Write an absolute path below the current root, where allowed, relative to `sub` in it."""
        allowed = self.root.access.absolute_paths
        return image.removeprefix(f"{self.root.path}/{sub}") if allowed else image

    def _label(self, task: Task, text: str) -> tuple[str, str]:
        letters, reason, exact = match_label(task, text)
        if not reason and not exact:
            self._respelt_labels.append(f"{text!r} as {task.classes[letters.index('y')]!r} of {task.name}")
        return letters, reason

    def _find(self, image: str, sub: str, outside: bool) -> tuple[str, str]:
        if outside:  # it is an absolute path
            path = os.path.normpath(image)
            return path, "" if os.path.isfile(path) else f"the image is missing: there is no {image}"
        spelled, reason = self.root.find(sub + image)
        return f"{self.root.path}/{spelled}", reason

    def _name(self, path: str, image: str, sub: str) -> str:
        """Name an image: as annotated, and with its folder in front where another image has that name.

        Copies of one image, which have the same name in two folders, keep it.
        """
        image = image.lstrip("/")
        if path in self._names:
            return self._names[path]
        name = image
        if image in self.paths:
            others = [image, *self._same_name.get(image, ())]
            name = next((other for other in others if _same_bytes(path, self.paths[other])), "")
        if not name:
            labels = (f"{self.root.label}-{number}" for number in itertools.count(2))
            longer = (f"{label}/{sub}{image}" for label in itertools.chain([self.root.label], labels))
            name = next(one for one in longer if one not in self.paths)
            self._same_name.setdefault(image, []).append(name)
            rest = "with the name of another image; the folder's name is put in front"
            self.count("image(s)", rest, name)
        self.paths.setdefault(name, path)
        self._names[path] = name
        return name

    def _drop(self, source: str, found: tuple[str, str], first: str, known: tuple[str, str]) -> None:
        """Count a copy in a later root, and what its label and split contradict."""
        self._dropped += 1
        self._dropped_labels += bool(found[0]) and not known[0]
        for here, there in zip(found, known, strict=True):
            if here and there and here != there:
                self._contradicted.append(f"{source} has {here}, {first} has {there}")

    def finish(self) -> Annotations:
        """Return all rows; DataError when none can be used."""
        import pandas as pd

        for key, rows in self._named_in_folder.items():
            region, source = self._table_of_regions.pop(key, (None, ""))
            if region is not None and len(rows) > 1:
                rest = "with the name of images in several folders not used; name the folder, too"
                self.count("true region(s)", rest, source)
            else:
                self._use_region(rows[0], region, source)
        for _, source in self._table_of_regions.values():
            self.count("true region(s)", "of images that are not used", source)
        if not self._rows:
            raise DataError(self._no_rows())
        left_out = {
            name: n
            for name, n in self._other_tasks.items()
            if name not in self._left_out and self._official(name)
        }
        if left_out:
            counts = ", ".join(f"{name} {count:,}" for name, count in left_out.items())
            self.notes.append(
                f"{counted(sum(left_out.values()), 'row(s)')} of other tasks left out: {counts}"
            )
        if self._dropped:
            note = f"{counted(self._dropped, 'duplicate row(s)')} dropped, first root wins"
            if self._dropped_labels:
                note += f" ({self._dropped_labels:,} of them with a label that the first root lacks)"
            self.notes.append(note)
        self._add_notes()
        return Annotations(
            pd.DataFrame(self._rows, columns=list(COLUMNS), dtype=object),
            pd.DataFrame(self.rejected, columns=list(REJECTED), dtype=object),
            self.notes,
            self.problems,
            self.tasks,
            tuple(self._left_out),
            pd.DataFrame(
                [
                    (self._rows[place][0], self._rows[place][2], *region.box, *region.size)
                    for place, region in sorted(self._regions.items())
                ],
                columns=list(REGIONS),
            ),
        )

    def _add_notes(self) -> None:
        """Report what was read under another name, dropped or left out."""
        self.notes += self.counted_notes()
        self.notes += _example(
            self._read_by_guess,
            "row(s)",
            "not in UTF-8, for instance ",
            ", read as Windows-1252; if letters are wrong, save the file as UTF-8",
        )
        if self._respelt_labels:
            self.notes.append(f"labels in another spelling: {', '.join(self._respelt_labels)}")
        rest = "in later roots with another label or split, which is dropped, for instance "
        self.problems += _example(self._contradicted, "cop(y|ies)", rest, "; correct one of them")
        if self._dropped_labels:
            self.problems.append(
                f"{counted(self._dropped_labels, 'label(s)')} of copies in later roots dropped, since the "
                "first root has the image without a label; change the order of the roots"
            )
        for name, reason in self._left_out.items():
            if reason and (rows := self._other_tasks[name]):
                self.problems.append(f"task {name!r} left out ({counted(rows, 'image(s)')}): {reason}")
            elif self._other_tasks[name]:
                self.notes.append(f"task {name!r} left out ({counted(self._other_tasks[name], 'image(s)')})")
            elif not reason:
                self.problems.append(
                    f"data.left_out names {name!r}, which is the task of no row; write it as the data does"
                )

    def _no_rows(self) -> str:
        if self._other_tasks and not any(self._tasks.values()):
            found = ", ".join(
                f"{name} ({counted(n, 'row(s)')})" for name, n in self._other_tasks.most_common(12)
            )
            expected = ", ".join(task.name for task in self.tasks) or "none"
            return (
                f"no row belongs to a task of this run ({expected}); the data holds: {found}. Take the "
                "data's tasks with --set data.tasks=infer, or name them under data.tasks in the "
                "configuration, each with `name` as in the data and `classes` in label order"
            )
        if not self.rejected and self.problems:
            return f"no image can be used; {self.problems[0]}"
        if not self.rejected:
            where = ", ".join(self.files.values()) or "the data"
            return f"{where}: no row with an image; expected one row per image below the header"
        _, _, source, reason = self.rejected[0]
        n = len(self.rejected)
        which = f"none of the {n:,} rows can be used; the first" if n > 1 else "the only row cannot be used"
        return f"{which}, {source}: {reason}"


def match_label(task: Task, text: str) -> tuple[str, str, bool]:
    """Convert a label, class name or class folder to letters.

    Returns the letters, the reason for refusal or ``''``, and whether the name is spelled as in the task. Of
    classes that differ by case, a name that equals none of them exactly is refused.
    """
    if text in NO_LABEL:
        return "", "", True
    for names in (task.classes, class_folders(task)):
        if text in names:
            return _one_hot(names.index(text), len(names)), "", True
    for names in (task.classes, class_folders(task)):
        found = find_spelling(text, names)
        if len(found) > 1:
            either = " or ".join(repr(names[place]) for place in found)
            return "", f"label {text!r} differs only by case from {either}; write one of them", False
        if found:
            return _one_hot(found[0], len(names)), "", False
    try:
        parse_letters(text, len(task.classes))
    except ValueError as error:
        if set(text) <= set("ymn"):
            return "", str(error), False
        known = ", ".join(task.classes)
        return "", f"label {text!r} is neither letters y, m, n nor a class of {task.name}: {known}", False
    return text, "", True


def _one_hot(place: int, n_classes: int) -> str:
    return "n" * place + "y" + "n" * (n_classes - place - 1)


def _example(found: Sequence[str], what: str, rest: str, fix: str = "") -> list[str]:
    """Write how many were found, and the first one; nothing where there is none."""
    return [f"{counted(len(found), what)} {rest}{found[0]}{fix}"] if found else []


def _ends(path: str) -> list[str]:
    """List a path, and what is left of it without its first folders.

    >>> _ends("a/b/1.jpg")
    ['a/b/1.jpg', 'b/1.jpg', '1.jpg']
    """
    parts = path.split("/")[-MOST_FOLDERS:]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _same_bytes(one: str, other: str) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def resolve_or_none(name: str, tasks: Sequence[Task]) -> Task | None:
    """Find the task of a full or short name; None without one."""
    try:
        return resolve(name, tasks)
    except DataError:
        return None
