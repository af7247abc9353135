"""Hugging Face's ImageFolder: ``metadata.csv``, ``.jsonl`` or ``.parquet`` with a column ``file_name``.

Other columns are tasks, and their values classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from heatcrop.data.readers import parquet, table
from heatcrop.data.readers.annotated import Annotated, Label, make_reader
from heatcrop.data.readers.collect import Collector, FindSplit, find_split
from heatcrop.data.readers.json_files import read_head
from heatcrop.data.readers.lines import load_text
from heatcrop.data.readers.naming import LABEL_COLUMNS
from heatcrop.data.readers.packed import PACKED, unpacked_name
from heatcrop.data.readers.places import choose_file, files_in, with_splits
from heatcrop.errors import DataError

ENDINGS = (".jsonl",)
IMAGE = "file_name"
_STEM = "metadata"
_ALL_ENDINGS = tuple(
    f"{_STEM}{ending}{packed}" for ending in (".csv", ".jsonl", ".parquet") for packed in ("", *PACKED)
)
_NO_TASK = (IMAGE, "split", "group")
_SIZES = frozenset({"width", "height", "size", "image_width", "image_height"})
_MOST_CLASSES = 20
"""More values than this, each in less than two rows on average, are no classes."""
_FREE_TEXT_WORDS = 4
"""Nor are values that differ in most rows and have as many words on average."""


def find(folder: Path, split: FindSplit) -> Path | None:
    """Return the folder if it, or a folder of a split in it, has a table of metadata.

    Raises DataError when one has several, or pyarrow is missing.
    """
    return folder if _tables(folder, split) else None


def fits(path: Path) -> bool:
    """Return whether a file has the column ``file_name`` and no other reader's name for it."""
    stem, suffix = os.path.splitext(unpacked_name(path))
    if suffix == ".jsonl":
        return f'"{IMAGE}"' in read_head(path).partition("\n")[0].casefold()
    if stem != _STEM:
        return False
    if suffix == ".parquet":
        return IMAGE in parquet.columns(path)
    return suffix == ".csv" and IMAGE in table.first_rows(path)[0]


def _tables(folder: Path, split: FindSplit) -> list[Path]:
    found = []
    for place in with_splits(folder, split):
        fitting = [path for path in files_in(place, _ALL_ENDINGS) if fits(path)]
        found.append(choose_file(place, fitting, f"{_STEM}.csv"))
    return [path for path in found if path is not None]


def _images(collector: Collector) -> tuple[list[Annotated], list[str]]:
    """Return the images of all tables, and their tasks.

    A column ``split`` or the folder of a split gives the split. A column called ``label`` or similar is the
    task that is named after the data folder. Columns whose values are no classes are left out with a note.
    """
    root = collector.root
    paths = [root.source] if root.source.is_file() else _tables(root.folder, collector.split)
    rows = [row for path in paths for row in _rows(collector, path)]
    names = list(dict.fromkeys(name for _, _, values in rows for name in values if name not in _NO_TASK))
    columns = []
    for name in names:
        reason = why_no_classes(name, [values.get(name) for _, _, values in rows])
        if reason and collector.task(name) is None:
            where = root.name(paths[0])
            collector.notes.append(f"{where}: the column {name!r} is left out, since it holds {reason}")
        else:
            columns.append(name)
    if rows and not columns:
        found = f"the columns {', '.join(names)} hold no classes" if names else "it has no other columns"
        raise DataError(f"{root.name(paths[0])}: {found}; expected {IMAGE}, and a column for each task")
    plain = [name for name in columns if name.casefold() in LABEL_COLUMNS and collector.task(name) is None]
    tasks = {name: "" if [name] == plain else name for name in columns}
    images = []
    for source, folder, values in rows:
        image = parquet.as_text(values[IMAGE])
        found_labels = {tasks[name]: parquet.as_text(values.get(name)) for name in columns}
        labels = [Label(task, text) for task, text in found_labels.items() if text]
        if labels and len(labels) < len(columns):
            collector.count("row(s)", "without a class in some columns", source)
        inside = folder or f"{image.partition('/')[0]}/" * ("/" in image)
        by_folder = inside[:-1] if collector.split(inside[:-1]) else ""
        split, group = (parquet.as_text(values.get(name)) for name in ("split", "group"))
        images.append(Annotated(source, image, split or by_folder, labels, (folder, ""), group))
    return images, list(tasks.values())


read, find_labels = make_reader(_images)


def _rows(collector: Collector, path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield source, folder of the table with ``/`` at its end, and values of each row."""
    inside = path.parent.relative_to(collector.root.folder).as_posix()
    folder = "" if inside == "." else f"{inside}/"
    suffix = os.path.splitext(unpacked_name(path))[1]
    rows: Iterator[tuple[str, dict[str, Any]]]
    if suffix == ".parquet":
        rows = parquet.read_rows(collector, path, (IMAGE,))
    elif suffix == ".jsonl":
        rows = _json_lines(collector, path)
    else:
        rows = collector.table(path, (IMAGE,), ", and a column for each task")
    for source, values in rows:
        if isinstance(values.get(IMAGE), str) and values[IMAGE].strip():
            yield source, folder, values
        else:
            collector.reject("", "", source, f"{IMAGE} is missing; expected the path of an image")


def _json_lines(collector: Collector, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    name = collector.root.name(path)
    collector.files[path] = name
    for number, line in enumerate(load_text(path, name)[0].splitlines(), 1):
        if not line.strip():
            continue
        source = f"{name}:{number}"
        try:
            values = from_json(line)
        except ValueError as error:
            collector.reject("", "", source, f"the line is not valid JSON ({error})")
            continue
        if isinstance(values, dict):
            for column in [one for one in values if one.casefold() in {*_NO_TASK} - {*values}]:
                values[column.casefold()] = values.pop(column)
            yield source, values
        else:
            collector.reject("", "", source, f"the line is no JSON object; expected {IMAGE} and classes")


def why_no_classes(name: str, values: Sequence[Any]) -> str:
    """Return what a column holds if that is clearly no classes, else ``''``."""
    given = [value for value in values if value is not None and value != ""]
    if any(isinstance(value, (list, dict)) for value in given):
        return "lists or objects"
    texts = [text for text in map(parquet.as_text, given) if text]
    if not texts:
        return "nothing"
    if all(map(_is_number, texts)):
        if name.casefold() in _SIZES:
            return "sizes of images"
        if any(not text.lstrip("+-").isdigit() for text in texts):
            return "numbers with decimals"
    if all(find_split(text, {}) for text in texts):
        return "names of splits; to use them, call it 'split'"
    distinct = len(set(texts))
    words = sum(len(text.split()) for text in texts) / len(texts)
    if distinct > len(texts) / 2 and (distinct > _MOST_CLASSES or words >= _FREE_TEXT_WORDS):
        return "another value in nearly every row"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
