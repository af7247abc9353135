"""A table with the header ``image,task,label``, and optionally ``split`` and ``group``.

Columns are separated by commas, semicolons or tabs, see `heatcrop.data.readers.lines`; the file may be
compressed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.lines import DELIMITERS, load_text, parse_lines
from heatcrop.data.readers.packed import PACKED
from heatcrop.data.readers.places import finder
from heatcrop.errors import DataError

ENDINGS = (".csv", ".tsv", ".tab", *PACKED)
NEEDED = ("image", "task", "label")
OF_SUSPECTS = {"suggested", "suspect"}
"""Columns of a run's ``suspects.csv``, which names a part of the images for `data.excluded`."""
_MOST_HEADER_BYTES = 65_536


def fits(path: Path) -> bool:
    """Return whether a file has the header, and is no copy of a run's list of doubtful labels."""
    header = set(first_row(path))
    return set(NEEDED) <= header and not OF_SUSPECTS.issubset(header)


def make_reader(
    list_rows: Callable[[Collector], Iterable[tuple[str, Mapping[str, str]]]],
) -> tuple[Callable[[Collector], None], Callable[[Collector], list[tuple[str, str, str]]]]:
    """Make the functions `read` and `find_labels` of a table with these columns.

    Images are relative to the file's folder. A label is letters (``nyn``) or a class name. A row without a
    label belongs to the test set.
    """

    def read(collector: Collector) -> None:
        for source, row in list_rows(collector):
            split, group = row.get("split", ""), row.get("group", "")
            collector.add(source, row["image"], row["task"], row["label"], split, group)

    def find_labels(collector: Collector) -> list[tuple[str, str, str]]:
        found = [(row.get("split", ""), row["task"], row["label"]) for _, row in list_rows(collector)]
        return sorted(found, key=lambda row: row[1])

    return read, find_labels


find = finder(ENDINGS, fits, "annotations.csv")
read, find_labels = make_reader(
    lambda collector: collector.table(collector.root.source, NEEDED, ", and optionally 'split' and 'group'")
)


def first_row(path: Path) -> list[str]:
    """Read a table's first row in lower case; nothing where there is none."""
    try:
        lines = parse_lines(load_text(path, n_bytes=_MOST_HEADER_BYTES)[0], DELIMITERS)
        rows = (row for _, row, fault in lines if row and not fault)
        return [field.casefold() for field in next(rows, [])]
    except DataError:
        return []
