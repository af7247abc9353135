"""A Parquet table with the columns ``image, label``, and optionally ``task``, ``split`` and ``group``.

Parquet is read with pyarrow, which is optional.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.places import finder
from heatcrop.data.readers.table import COLUMNS, NEEDED, make_reader, note_unread
from heatcrop.errors import DataError

ENDINGS = (".parquet",)
_KNOWN = (*COLUMNS, "file_name")
"""Columns that may be written in any case; others are names of tasks."""
_NO_PYARROW = (
    "Parquet is read with the Python package pyarrow, which is not installed: python -m pip install pyarrow"
)


def fits(path: Path) -> bool:
    """Return whether a file is Parquet and has the columns."""
    return path.suffix.casefold() in ENDINGS and set(NEEDED) <= set(columns(path))


def _rows(collector: Collector) -> Iterator[tuple[str, dict[str, str]]]:
    note_unread(collector, columns(collector.root.source))
    for source, row in read_rows(collector, collector.root.source, NEEDED, COLUMNS):
        yield source, {column: as_text(value) for column, value in row.items()}


find = finder(ENDINGS, fits, "annotations.parquet")
read, find_labels = make_reader(_rows)


def columns(path: Path) -> list[str]:
    """List the columns of a Parquet file, without those of bytes; none of another file."""
    parquet = _import(str(path))
    try:
        return list(_names(parquet.read_schema(path)).values())
    except (OSError, ValueError):  # what pyarrow raises of a damaged file
        return []


def _names(schema: Any) -> dict[str, str]:
    """Map a schema's columns to what the readers call them."""
    names = [str(field.name) for field in schema if "binary" not in str(field.type)]
    times = Counter(map(str.casefold, names))  # of several that differ by case, none is renamed
    plain = {name: name.casefold() for name in names if times[name.casefold()] == 1}
    return {name: plain[name] if plain.get(name) in _KNOWN else name for name in names}


def read_rows(
    collector: Collector, path: Path, needed: tuple[str, ...], used: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(source, {column: value})`` of the rows of a Parquet file, by default of all columns.

    Raises DataError when it lacks a column that is `needed`, or cannot be read.
    """
    name = collector.root.name(path)
    parquet = _import(name)
    collector.files[path] = name
    try:
        with parquet.ParquetFile(path) as file:
            found = _names(file.schema_arrow)
            if missing := [column for column in needed if column not in found.values()]:
                raise DataError(
                    f"{name}: the columns {', '.join(found)[:200]} lack {', '.join(missing)}; expected "
                    f"{', '.join(needed)}, with the names of image files"
                )
            found = {column: name for column, name in found.items() if not used or name in used}
            number = 0
            for batch in file.iter_batches(columns=list(found)):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{name}:row {number}", {found[column]: value for column, value in row.items()}
    except OverflowError as error:
        raise DataError(
            f"{name}: holds a value that cannot be read ({error}); correct it, or remove its column"
        ) from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"{name}: is not a complete Parquet file ({reason}); write it again") from None


def as_text(value: object) -> str:
    """Write a value as it would be in a CSV file; nothing for none.

    >>> as_text(None), as_text(3.0), as_text(True), as_text(" a ")
    ('', '3', 'true', 'a')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _import(name: str) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{name}: {_NO_PYARROW}") from None
    return parquet
