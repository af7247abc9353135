"""A table with the header ``image,task,label``, and optionally ``split`` and ``group``.

Columns are separated by commas, semicolons or tabs, see `heatcrop.data.readers.lines`; the file may be
compressed.
"""

from __future__ import annotations

from pathlib import Path

from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.lines import DELIMITERS, load_text, parse_lines
from heatcrop.data.readers.packed import PACKED
from heatcrop.data.readers.places import choose_file, files_in
from heatcrop.errors import DataError

USUAL_NAME = "annotations.csv"
ENDINGS = (".csv", ".tsv", ".tab", *PACKED)
NEEDED = ("image", "task", "label")
OF_SUSPECTS = {"suggested", "suspect"}
"""Columns of a run's ``suspects.csv``, which names a part of the images for `data.excluded`."""
_OPTIONAL = ", and optionally 'split' and 'group'"
_MOST_HEADER_BYTES = 65_536


def find(folder: Path) -> Path | None:
    """Find a folder's file that has the header; `USUAL_NAME` comes before others.

    Raises DataError when several files fit and none has the usual name.
    """
    return choose_file(folder, [path for path in files_in(folder, ENDINGS) if fits(path)], USUAL_NAME)


def fits(path: Path) -> bool:
    """Return whether a file has the header, and is no copy of a run's list of doubtful labels."""
    header = set(first_row(path))
    return set(NEEDED) <= header and not OF_SUSPECTS.issubset(header)


def read(collector: Collector) -> None:
    """Add the rows of a table to the collector; images are relative to the file's folder.

    A label is letters (``nyn``) or a class name. A row without a label belongs to the test set.
    """
    for source, row in collector.table(collector.root.source, NEEDED, _OPTIONAL):
        split, group = row.get("split", ""), row.get("group", "")
        collector.add(source, row["image"], row["task"], row["label"], split, group)


def find_labels(collector: Collector) -> list[tuple[str, str, str]]:
    """List ``(split, task, label)`` of the rows, sorted by task."""
    rows = collector.table(collector.root.source, NEEDED, _OPTIONAL)
    found = [(row.get("split", ""), row["task"], row["label"]) for _, row in rows]
    return sorted(found, key=lambda row: row[1])


def first_row(path: Path) -> list[str]:
    """Read a table's first row in lower case; nothing where there is none."""
    try:
        lines = parse_lines(load_text(path, n_bytes=_MOST_HEADER_BYTES)[0], DELIMITERS)
        rows = (row for _, row, fault in lines if row and not fault)
        return [field.casefold() for field in next(rows, [])]
    except DataError:
        return []
