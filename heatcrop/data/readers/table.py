"""A table with the header ``image,task,label``, and optionally ``split`` and ``group``.

Columns are separated by commas, semicolons or tabs, see `heatcrop.data.readers.lines`.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from heatcrop.data.images import SUFFIXES
from heatcrop.data.listing import OWN_TABLES, list_folder
from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.lines import DELIMITERS, load_text, parse_lines
from heatcrop.data.readers.naming import LABEL_COLUMNS
from heatcrop.data.readers.places import choose_file, files_in
from heatcrop.errors import DataError

USUAL_NAME = "annotations.csv"
ENDINGS = (".csv", ".tsv", ".tab")
_NEEDED = ("image", "task", "label")
_OPTIONAL = ", and optionally 'split' and 'group'"
_MOST_HEADER_BYTES = 65_536
_IMAGE_WORDS = {"image", "images", "image_id", "image_name", "image_path", "img", "path", "filepath"} | {
    "file",
    "filename",
    "file_name",
}


def find(folder: Path) -> Path | None:
    """Find a folder's file that has the header; `USUAL_NAME` comes before others.

    Raises DataError when several files fit and none has the usual name.
    """
    return choose_file(folder, [path for path in files_in(folder, ENDINGS) if fits(path)], USUAL_NAME)


def fits(path: Path) -> bool:
    """Return whether a file has the header."""
    return set(_NEEDED) <= set(_first_row(path))


def report_unused(collector: Collector) -> None:
    """Add a problem for each table in the root's folder, or one below, that resembles unread annotations."""
    root = collector.root.folder
    folders = [root, *(root / name for name in list_folder(root).folders)]
    for path in (path for folder in folders for path in files_in(folder, (*ENDINGS, ".txt"))):
        if path in collector.files:
            continue
        row = _first_row(path, faulty=True)
        if _resembles(row) and tuple(row) not in OWN_TABLES:
            missing = ", ".join(column for column in _NEEDED if column not in row)
            fault = f"its header {','.join(row)[:200]!r} lacks {missing}" if missing else "other data is read"
            collector.problems.append(
                f"{collector.root.name(path)}: resembles annotations and is not used: {fault}; give it the "
                f"header {','.join(_NEEDED)!r}, give it as --data, or move it away"
            )


def read(collector: Collector) -> None:
    """Add the rows of a table to the collector; images are relative to the file's folder.

    A label is letters (``nyn``) or a class name. A row without a label belongs to the test set.
    """
    for source, row in collector.table(collector.root.source, _NEEDED, _OPTIONAL):
        split, group = row.get("split", ""), row.get("group", "")
        collector.add(source, row["image"], row["task"], row["label"], split, group)


def find_labels(collector: Collector) -> list[tuple[str, str, str]]:
    """List ``(split, task, label)`` of the rows, sorted by task."""
    rows = collector.table(collector.root.source, _NEEDED, _OPTIONAL)
    found = [(row.get("split", ""), row["task"], row["label"]) for _, row in rows]
    return sorted(found, key=lambda row: row[1])


def _resembles(row: list[str]) -> bool:
    """Return whether a first row names images and labels, perhaps misspelt, or holds an image's name."""
    words = {word for field in row for word in (field, *re.findall(r"\w+", field))}
    if len(row) > 1 and any(field.endswith(tuple(SUFFIXES)) for field in row):
        return True
    return all(
        any(difflib.get_close_matches(word, known, n=1, cutoff=0.8) for word in words)
        for known in (_IMAGE_WORDS, LABEL_COLUMNS)
    )


def _first_row(path: Path, faulty: bool = False) -> list[str]:
    """Read a table's first row in lower case; nothing where there is none. A faulty one is a single field."""
    try:
        lines = parse_lines(load_text(path, n_bytes=_MOST_HEADER_BYTES)[0], DELIMITERS)
        rows = (row for _, row, fault in lines if row and (faulty or not fault))
        return [field.casefold() for field in next(rows, [])]
    except DataError:
        return []
