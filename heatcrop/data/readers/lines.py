"""Rows of a comma-separated file with their line numbers, so that one bad line affects only itself."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from heatcrop.errors import DataError


def read_lines(path: str | os.PathLike[str], name: str | None = None) -> Iterator[tuple[int, list[str], str]]:
    """Yield number, fields and fault of each line of a UTF-8 comma-separated file, called `name` in messages.

    Numbers start at 1. An empty line has no fields. Where a line cannot be parsed, the fault is the reason,
    and the line's text is the only field; otherwise it is ''.

    A byte order mark and any kind of line end are allowed. A field may be in double quotes but must
    end on its line: an unclosed quote would otherwise swallow the rest of the file.

    Raises DataError when the file cannot be read at all, is empty, or is in UTF-16.
    """
    name = name or str(path)
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{name}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{name}: is in UTF-16; save it as CSV in UTF-8")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise DataError(f"{name}: the file is empty")
    for number, raw in enumerate(data.splitlines(), 1):
        try:
            text = raw.decode("utf-8")
            # csv only where needed: it refuses NUL characters (Python 3.10) and very long fields.
            fields = next(csv.reader([text], strict=True)) if '"' in text else text.split(",")
        except UnicodeDecodeError:
            text = raw.decode("utf-8", errors="replace")
            yield number, [text], "the row is not in UTF-8; save the file as UTF-8"
        except csv.Error:
            yield number, [text], "a double quote is not closed, or stands inside a field"
        else:
            yield number, [field.strip() for field in fields] if raw.strip() else [], ""
