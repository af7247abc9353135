"""FashionAI's layout: ``base/`` for training, ``rank/`` for the test, ``web/`` the warm-up set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from heatcrop.data.readers.collect import Collector, FindSplit
from heatcrop.data.readers.json_files import read_json
from heatcrop.data.readers.packed import PACKED, unpacked_name
from heatcrop.data.readers.root import clean_image
from heatcrop.data.readers.spelling import composed
from heatcrop.data.tasks import FASHIONAI
from heatcrop.errors import DataError
from heatcrop.wording import counted

_SPLITS = "split.csv"
_CLASSES = "classes.json"
_HEADER = ["image", "task", "label"]  # allowed, though the official files have none


def find(folder: Path, _split: FindSplit) -> Path | None:
    """Return the folder if it holds any file of the FashionAI layout."""
    return folder if any(_files(folder)) else None


def read(collector: Collector) -> None:
    """Add the rows of one root to the collector.

    ``base/Annotations/label.csv`` and ``web/Annotations/*.csv`` hold labelled rows, with an optional
    ``split.csv`` (header ``image,task,split``) beside; ``rank/Tests/question.csv`` holds test rows, whose
    labels may come from an answer file (any ``*answer*.csv`` in ``rank/Tests``, ``rank`` or the root). Where
    tasks are inferred, ``classes.json`` in the root names the classes of those that are not FashionAI's.
    Images are relative to ``base/``, ``web/`` and ``rank/``.
    """
    root = collector.root
    labels, questions, answer_files = _files(root.folder)
    for path in labels:
        sub = path.relative_to(root.folder).parts[0] + "/"
        table = next(iter(_tables(path.parent, "split")), path.with_name(_SPLITS))
        splits = _read_splits(collector, table)
        n_split = 0
        for source, (image, task, label) in _rows(collector, path):
            split = splits.get(_key(collector, image, task), "")
            n_split += bool(split)
            collector.add(source, image, task, label, split, sub=sub)
        if splits and n_split == 0:
            collector.notes.append(f"{root.name(table)}: names no row of {path.name}; is it of other data?")
    answers: dict[tuple[str, str], tuple[str, str]] = {}  # label and source
    for path in answer_files:
        for source, (image, task, label) in _rows(collector, path):
            known = collector.task(task)
            reason = collector.label(known, label)[1] if known else ""
            first, from_ = answers.get(key := _key(collector, image, task), (label, source))
            if not reason and first != label:
                reason = f"another label than {from_} ({label or '?'} here, {first or '?'} there)"
            if reason:
                collector.reject(image, task, source, reason)
            else:
                answers.setdefault(key, (label, source))
    for path in questions:
        for source, (image, task, label) in _rows(collector, path):
            label, _ = answers.pop(_key(collector, image, task), (label, ""))
            collector.add(source, image, task, label, "test", sub="rank/")
    for (image, task), (label, source) in answers.items():  # answers without a question
        collector.add(source, image, task, label, "test", sub="rank/")


def find_labels(collector: Collector) -> list[tuple[str, str, str]]:
    """List ``(split, task, label)`` of the root's files, FashionAI's tasks first in official order."""
    paths = chain(*_files(collector.root.folder))
    found = [("", task, label) for path in paths for _, (_, task, label) in _rows(collector, path)]
    official = {task: collector.task(task) for _, task, _ in found}
    last = len(FASHIONAI)
    return sorted(found, key=lambda row: FASHIONAI.index(known) if (known := official[row[1]]) else last)


def find_classes(collector: Collector) -> dict[str, list[str]]:
    """Read the root's ``classes.json``, task -> class names in label order; empty without one.

    DataError where the file is of another form.
    """
    path = collector.root.folder / _CLASSES
    if not path.is_file():
        return {}
    values = read_json(collector, path)
    lists = list(values.values()) if isinstance(values, dict) else [None]
    if not all(isinstance(names, list) and all(isinstance(one, str) for one in names) for names in lists):
        raise DataError(
            f"{collector.root.name(path)}: expected the class names of each task in label order, as "
            '{"wing_labels": ["plain", "striped"]}'
        )
    return dict(values)


def _files(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """List the files with labels, with questions and with answers."""
    rank = folder / "rank"
    labels = [*_tables(folder / "base/Annotations", "label"), *_tables(folder / "web/Annotations")]
    places = (rank / "Tests", rank, folder)
    # A root without rank/ may hold an unrelated CSV file with such a name.
    answers = [path for place in places for path in _tables(place, "*answer*") if rank.is_dir()]
    return (
        [path for path in labels if unpacked_name(path) != _SPLITS],
        _tables(rank / "Tests", "question"),
        answers,
    )


def _tables(folder: Path, stem: str = "*") -> list[Path]:
    """List the CSV files of a folder, compressed ones too."""
    return [path for ending in ("", *PACKED) for path in sorted(folder.glob(f"{stem}.csv{ending}"))]


def _rows(collector: Collector, path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield ``(source, [image, task, label])`` of each row; a header may name more columns."""
    header: list[str] = []
    for source, fields in collector.read(path):
        if not header:
            header = [field.casefold() for field in fields]
            if set(_HEADER) <= set(header):
                continue
            header = _HEADER
        if len(fields) != len(header):
            reason = f"{counted(len(fields), 'column(s)')}; expected {len(header)}: {', '.join(header)}"
            collector.reject(fields[0], fields[1] if len(fields) > 1 else "", source, reason)
        else:
            yield source, [fields[header.index(column)] for column in _HEADER]


def _key(collector: Collector, image: str, task: str) -> tuple[str, str]:
    """Identify a row in several files, which may write accents and tasks in different forms."""
    known = collector.task(task)
    return composed(clean_image(image)[0]), known.name if known else task


def _read_splits(collector: Collector, path: Path) -> dict[tuple[str, str], str]:
    splits: dict[tuple[str, str], str] = {}
    rows = collector.table(path, ("image", "task", "split")) if path.is_file() else ()
    for source, row in rows:
        split = collector.split(row["split"])
        if split:
            splits[_key(collector, row["image"], row["task"])] = split
        else:
            reason = f"split {row['split']!r}; expected train, val or test"
            collector.reject(row["image"], row["task"], source, reason)
    return splits
