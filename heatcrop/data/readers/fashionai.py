"""FashionAI's layout: ``base/`` for training, ``rank/`` for the test, ``web/`` the warm-up set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from heatcrop.data.readers.collect import SPLITS, Collector, Root, Row, clean_image
from heatcrop.data.readers.listing import ImageFolders
from heatcrop.data.tasks import FASHIONAI, Task
from heatcrop.errors import DataError

_HEADER = ["image", "task", "label"]  # allowed, though the official files have none


def fits(folder: Path) -> bool:
    """Check whether a folder holds any file of the FashionAI layout."""
    return bool(_labels(folder) or _questions(folder) or _answers(folder))


def read(root: Root, collector: Collector) -> None:
    """Add the rows of one root to the collector.

    ``base/Annotations/label.csv`` and ``web/Annotations/*.csv`` hold labelled rows, with an optional
    ``split.csv`` (header ``image,task,split``) beside; ``rank/Tests/question.csv`` holds test rows, whose
    labels may come from an answer file (any ``*answer*.csv`` in ``rank/Tests``, ``rank`` or the root).
    Images are relative to ``base/``, ``web/`` and ``rank/``.
    """
    folders = ImageFolders(root.folder)
    for path in _labels(root.folder):
        sub = path.relative_to(root.folder).parts[0] + "/"
        splits = _read_splits(root, collector, path.with_name("split.csv"))
        n_split = 0
        for source, (image, task, label) in _rows(root, collector, path):
            split = splits.get((clean_image(image)[0], task), "")
            n_split += bool(split)
            collector.add(folders, sub, Row(image, task, label, split, "", source))
        if splits and n_split == 0:
            collector.notes.append(
                f"{root.name(path.with_name('split.csv'))}: names no row of {path.name}; is it of other data?"
            )
    answers: dict[tuple[str, str], tuple[str, str]] = {}  # label and source
    for path in _answers(root.folder):
        for source, (image, task, label) in _rows(root, collector, path):
            known = collector.task(task)
            reason = collector.label(known, label)[1] if known else ""
            if reason:
                collector.reject(image, task, source, reason)
            else:
                answers.setdefault((clean_image(image)[0], task), (label, source))
    for path in _questions(root.folder):
        for source, (image, task, label) in _rows(root, collector, path):
            label, _ = answers.pop((clean_image(image)[0], task), (label, ""))
            collector.add(folders, "rank/", Row(image, task, label, "test", "", source))
    for (image, task), (label, source) in answers.items():  # answers without a question
        collector.add(folders, "rank/", Row(image, task, label, "test", "", source))


def infer_tasks(root: Root) -> tuple[Task, ...]:
    """Find FashionAI's tasks that the root's files name, in official order."""
    collector = Collector(FASHIONAI)
    paths = (*_labels(root.folder), *_questions(root.folder), *_answers(root.folder))
    found = {collector.task(task) for path in paths for _, (_, task, _) in _rows(root, collector, path)}
    return tuple(task for task in FASHIONAI if task in found)


def _labels(folder: Path) -> list[Path]:
    base = folder / "base" / "Annotations" / "label.csv"
    web = sorted((folder / "web" / "Annotations").glob("*.csv"))
    return [path for path in (base, *web) if path.is_file() and path.name != "split.csv"]


def _questions(folder: Path) -> list[Path]:
    path = folder / "rank" / "Tests" / "question.csv"
    return [path] if path.is_file() else []


def _answers(folder: Path) -> list[Path]:
    places = (folder / "rank" / "Tests", folder / "rank", folder)
    # A root without rank/ may hold an unrelated CSV file with such a name.
    return [path for place in places for path in sorted(place.glob("*answer*.csv"))] * places[1].is_dir()


def _rows(root: Root, collector: Collector, path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield ``(source, [image, task, label])`` of each row that has three columns."""
    for source, fields in collector.read(root, path):
        if len(fields) != 3:
            reason = f"{len(fields)} columns; expected 3: image, task, label"
            collector.reject(fields[0], fields[1] if len(fields) > 1 else "", source, reason)
        elif not source.endswith(":1") or [field.casefold() for field in fields] != _HEADER:
            yield source, fields


def _read_splits(root: Root, collector: Collector, path: Path) -> dict[tuple[str, str], str]:
    if not path.is_file():
        return {}
    rows = collector.read(root, path)
    _, header = next(rows, ("", []))
    if [field.casefold() for field in header] != ["image", "task", "split"]:
        found = ",".join(header).casefold()
        raise DataError(f"{root.name(path)}:1: the header is {found!r}; expected 'image,task,split'")
    splits = {}
    for source, fields in rows:
        split = SPLITS.get(fields[2].casefold()) if len(fields) == 3 else None
        if split:
            splits[clean_image(fields[0])[0], fields[1]] = split
        else:
            found = f"split {fields[2]!r}" if len(fields) == 3 else f"{len(fields)} columns"
            reason = f"{found}; expected image, task and one of train, val, test"
            collector.reject(fields[0], fields[1] if len(fields) > 1 else "", source, reason)
    return splits
