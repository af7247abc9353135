"""FashionAI's own layout: ``base/`` to train on, ``rank/`` to be tested on, ``web/`` the warm-up set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from heatcrop.data.readers.collect import SPLITS, Collector, Root, Row, clean_image
from heatcrop.data.readers.lines import Rows
from heatcrop.data.readers.listing import PictureFolders
from heatcrop.data.tasks import FASHIONAI, Task, resolve
from heatcrop.errors import DataError

# A row that is a header, which the official files do not have.
_HEADER = ["image", "task", "label"]


def fits(folder: Path) -> bool:
    """Whether a folder holds anything of the FashionAI layout."""
    return bool(_labels(folder) or _questions(folder) or _answers(folder))


def read(root: Root, collector: Collector) -> None:
    """Give the rows of one root to the collector.

    ``base/Annotations/label.csv`` and ``web/Annotations/*.csv`` hold labelled rows, with an optional
    ``split.csv`` (header ``image,task,split``) beside; ``rank/Tests/question.csv`` holds test rows, whose
    labels may come from an answer file (any ``*answer*.csv`` in ``rank/Tests``, ``rank`` or the root).
    Pictures are relative to ``base/``, ``web/`` and ``rank/``.
    """
    folders = PictureFolders(root.folder)
    for path in _labels(root.folder):
        sub = path.relative_to(root.folder).parts[0] + "/"
        splits = _read_splits(root, collector, path.with_name("split.csv"))
        used = 0
        for file, line, (image, task, label) in _rows(root, collector, path):
            split = splits.get((clean_image(image)[0], task), "")
            used += bool(split)
            collector.add(folders, sub, Row(image, task, label, split, "", file, line))
        if splits and used == 0:
            collector.notes.append(
                f"{root.name(path.with_name('split.csv'))}: names no row of {path.name}; is it of other data?"
            )
    answers: dict[tuple[str, str], tuple[str, str, int]] = {}
    for path in _answers(root.folder):
        for file, line, (image, task, label) in _rows(root, collector, path):
            known = collector.task(task)
            reason = collector.label(known, label)[1] if known else ""
            if reason:
                collector.reject(image, task, f"{file}:{line}", reason)
            else:
                answers.setdefault((clean_image(image)[0], task), (label, file, line))
    for path in _questions(root.folder):
        for file, line, (image, task, label) in _rows(root, collector, path):
            label, *_ = answers.pop((clean_image(image)[0], task), (label, "", 0))
            collector.add(folders, "rank/", Row(image, task, label, "test", "", file, line))
    for (image, task), (label, file, line) in answers.items():  # answers nobody asked a question for
        collector.add(folders, "rank/", Row(image, task, label, "test", "", file, line))


def infer_tasks(root: Root) -> tuple[Task, ...]:
    """The tasks of FashionAI that the root's files name, in official order."""
    collector = Collector(FASHIONAI)
    found = set()
    for path in (*_labels(root.folder), *_questions(root.folder), *_answers(root.folder)):
        found |= {task for _, _, (_, task, _) in _rows(root, collector, path) if collector.task(task)}
    names = {resolve(task, FASHIONAI).name for task in found}
    return tuple(task for task in FASHIONAI if task.name in names)


def _labels(folder: Path) -> list[Path]:
    base = folder / "base" / "Annotations" / "label.csv"
    web = sorted((folder / "web" / "Annotations").glob("*.csv"))
    return [path for path in (base, *web) if path.is_file() and path.name != "split.csv"]


def _questions(folder: Path) -> list[Path]:
    path = folder / "rank" / "Tests" / "question.csv"
    return [path] if path.is_file() else []


def _answers(folder: Path) -> list[Path]:
    places = (folder / "rank" / "Tests", folder / "rank", folder)
    # A root without rank/ may hold a CSV that is called answers by chance.
    return [path for place in places for path in sorted(place.glob("*answer*.csv"))] * places[1].is_dir()


def _rows(root: Root, collector: Collector, path: Path) -> Iterator[tuple[str, int, list[str]]]:
    """``(file, line, [image, task, label])`` of each row that has three columns."""
    name, lines = collector.lines(root, path)
    for number, fields in lines.rows:
        if len(fields) == 3:
            if number == 1 and [field.casefold() for field in fields] == _HEADER:
                continue
            yield name, number, fields
        else:
            reason = f"{len(fields)} columns; expected 3: image, task, label"
            collector.reject(fields[0], fields[1] if len(fields) > 1 else "", f"{name}:{number}", reason)


def _read_splits(root: Root, collector: Collector, path: Path) -> dict[tuple[str, str], str]:
    if not path.is_file():
        return {}
    name, lines = collector.lines(root, path)
    _check_header(name, lines.rows)
    splits = {}
    for number, fields in lines.rows.after(1):
        split = SPLITS.get(fields[2].casefold()) if len(fields) == 3 else None
        if split:
            splits[clean_image(fields[0])[0], fields[1]] = split
        else:
            found = f"split {fields[2]!r}" if len(fields) == 3 else f"{len(fields)} columns"
            reason = f"{found}; expected image, task and one of train, val, test"
            collector.reject(fields[0], fields[1] if len(fields) > 1 else "", f"{name}:{number}", reason)
    return splits


def _check_header(name: str, rows: Rows) -> None:
    found = [field.casefold() for field in rows[0][1]] if len(rows) else []
    if found != ["image", "task", "split"]:
        raise DataError(f"{name}:1: the header is {','.join(found)!r}; expected 'image,task,split'")
