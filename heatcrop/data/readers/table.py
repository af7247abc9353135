"""A table with the header ``image,label``, and optionally ``task``, ``split`` and ``group``.

Columns are separated by commas, semicolons or tabs, see `heatcrop.data.readers.lines`; the file may be
compressed. Without the column ``task``, its only task is named after the folder.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from heatcrop.data.readers.collect import Collector, FindSplit
from heatcrop.data.readers.lines import DELIMITERS, FIRST_ROWS, load_text, parse_lines
from heatcrop.data.readers.naming import name_task
from heatcrop.data.readers.packed import PACKED
from heatcrop.data.readers.places import choose_file, files_in
from heatcrop.data.readers.root import Root, clean_image
from heatcrop.errors import DataError
from heatcrop.wording import counted

ENDINGS = (".csv", ".tsv", ".tab", *PACKED)
NEEDED = ("image", "label")
COLUMNS = ("image", "task", "label", "split", "group")
OF_SUSPECTS = {"suggested", "suspect"}
"""Columns of a run's ``suspects.csv``, which names a part of the images for `data.excluded`."""
_MOST_HEADER_BYTES = 65_536


def fits(path: Path) -> bool:
    """Return whether a file has the header, and the column ``task`` or the name of an image that is there.

    Other programs write such headers as well. The image is in one of the first rows, and below the file's
    folder or ``images/`` in it; the reader then rejects rows whose path lacks ``images/``.
    """
    if not has_header(path):
        return False
    header, *rows = first_rows(path)
    images = [clean_image(field) for row in rows for field in row]
    places, root = (path.parent, path.parent / "images"), Root(path.parent, path)
    return (
        "task" in header
        or any(os.path.isfile(place / image) for place in places for image, _ in images)
        or any(not reason and not root.find(image)[1] for image, reason in images)  # in another spelling
    )


def has_header(path: Path) -> bool:
    """Return whether a file has the header, and is no copy of a run's list of doubtful labels."""
    header = first_rows(path)[0]
    return set(NEEDED) <= set(header) and not OF_SUSPECTS.issubset(header)


def find(folder: Path, _split: FindSplit, fits: Callable[[Path], bool] = fits) -> Path | None:
    """Return a folder's only table, or that called ``annotations.csv``; those with the column ``task`` first.

    Raises DataError when there are several.
    """
    fitting = list(filter(fits, files_in(folder, ENDINGS)))
    named = [path for path in fitting if "task" in first_rows(path)[0]]
    return choose_file(folder, named or fitting, "annotations.csv")


def make_reader(
    list_rows: Callable[[Collector], Iterable[tuple[str, Mapping[str, str]]]],
) -> tuple[Callable[[Collector], None], Callable[[Collector], list[tuple[str, str, str]]]]:
    """Make the functions `read` and `find_labels` of a table with these columns.

    Images are relative to the file's folder. A label is letters (``nyn``) or a class name. A row without a
    label belongs to the test set.
    """

    def with_tasks(collector: Collector) -> Iterator[tuple[str, str, Mapping[str, str]]]:
        """Yield source, task and columns of the rows; note where the task is that of all."""
        rows, only = iter(list_rows(collector)), ""
        first = list(itertools.islice(rows, 1))
        note_unread(collector, first[0][1] if first else ())
        if first and "task" not in first[0][1]:
            first += rows
            only = name_task(collector, {row["label"] for _, row in first})
            where = collector.root.name(collector.root.source)
            collector.notes.append(f"{where}: without a column 'task', its rows are of one task, {only}")
        for source, row in itertools.chain(first, rows):
            yield source, row.get("task", only), row

    def read(collector: Collector) -> None:
        for source, task, row in with_tasks(collector):
            split, group = row.get("split", ""), row.get("group", "")
            collector.add(source, row["image"], task, row["label"], split, group)

    def find_labels(collector: Collector) -> list[tuple[str, str, str]]:
        found = [(row.get("split", ""), task, row["label"]) for _, task, row in with_tasks(collector)]
        return sorted(found, key=lambda row: row[1])

    return read, find_labels


read, find_labels = make_reader(
    lambda collector: collector.table(
        collector.root.source, NEEDED, ", and optionally 'task', 'split' and 'group'"
    )
)


def note_unread(collector: Collector, columns: Iterable[str]) -> None:
    """Note which columns of the current root's table are not read."""
    if unread := [column for column in columns if column not in COLUMNS]:
        where, shown = collector.root.name(collector.root.source), ", ".join(unread)[:200]
        n, known = counted(len(unread), "column(s)"), ", ".join(COLUMNS)
        collector.notes.append(f"{where}: {n} not read, {shown!r}; those that are read are called {known}")


def first_rows(path: Path) -> list[list[str]]:
    """Read a table's first row in lower case, and the next ones; an empty row where there is none."""
    try:
        lines = parse_lines(load_text(path, n_bytes=_MOST_HEADER_BYTES)[0], DELIMITERS)
        rows = (row for _, row, fault in lines if row and not fault)
        header = [field.casefold() for field in next(rows, [])]
        return [header, *itertools.islice(rows, FIRST_ROWS)]
    except DataError:
        return [[]]
