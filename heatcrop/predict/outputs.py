"""The two tables that ``predict`` writes, which never replace a user's other file."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from heatcrop.data.listing import BOX_COLUMNS, SURE_COLUMNS
from heatcrop.data.listing import PREDICTION_COLUMNS as COLUMNS
from heatcrop.errors import RunError, UsageError
from heatcrop.files import atomic_path, remove_leftovers

# Of tables in other formats, which a person who names a file so expects.
_OTHER_FORMATS = {
    *(".xlsx", ".xls", ".ods", ".parquet", ".feather", ".json", ".jsonl", ".html", ".tsv"),
    *(".gz", ".bz2", ".xz", ".zst", ".zip"),
}


def check_targets(source: Path, out: Path, boxes: Path | None = None) -> None:
    """Check that both tables can be written, before the work starts.

    A table's path may be new, an empty file, or an older table of the same kind; a link stays a link. The
    `source` of the images must not be replaced even if it is such a table.
    """
    _check(source, out, (COLUMNS, SURE_COLUMNS), "--out")
    if boxes is None:
        return
    _check(source, boxes, (BOX_COLUMNS,), "--boxes")
    one, other = (Path(os.path.realpath(path)) for path in (out, boxes))
    if one == other or one in other.parents or other in one.parents:
        raise UsageError(
            f"{boxes}: --out and --boxes need two files, neither below the other; give another --boxes"
        )


def _check(source: Path, path: Path, tables: Sequence[Sequence[str]], option: str) -> None:
    if path.suffix.lower() in _OTHER_FORMATS:
        name = path.with_name(f"{path.name.partition('.')[0] or 'answers'}.csv")
        raise UsageError(f"{path}: {option} writes a plain CSV file; name it {name}")
    parent = next(filter(os.path.lexists, path.parents), Path())  # `.` and `/` have no parents
    if not parent.is_dir():
        raise RunError(f"{path}: cannot be written, since {parent} is no folder; give another {option}")
    if not os.path.lexists(path):
        return
    if not path.exists():
        raise RunError(f"{path}: is a broken link; give another {option}, or delete it first")
    if path.is_dir():
        raise RunError(f"{path}: is a folder; give {option} the name of a CSV file")
    if not path.is_file():
        raise RunError(f"{path}: is no regular file; give another {option}")
    if source.exists() and path.samefile(source):
        raise RunError(f"{path}: is the input; give another {option}")
    headers = [",".join(columns) for columns in tables]
    with path.open("rb") as file:
        first = file.readline(max(map(len, headers)) + 3)
    if first and first.rstrip(b"\r\n") not in [header.encode() for header in headers]:
        raise RunError(
            f"{path}: exists, and is not a table written by {option} (its first line is not "
            f"{headers[0]}); give another {option}, or delete it first"
        )


@contextlib.contextmanager
def table(path: Path | None, columns: Sequence[str]) -> Iterator[Callable[[Any], None]]:
    """Write a CSV with a header atomically, row by row; without a path, nothing."""
    if path is None:
        yield lambda _: None
        return
    path = Path(os.path.realpath(path))  # a link stays, and its target is written
    remove_leftovers(path)
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        yield writer.writerows
