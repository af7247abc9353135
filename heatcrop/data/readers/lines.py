"""Rows of a delimited text file with their line numbers, so that one bad line affects only itself."""

from __future__ import annotations

import codecs
import csv
import functools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from heatcrop.data.readers.packed import open_unpacked
from heatcrop.errors import DataError

DELIMITERS = ",;\t|"
"""What separates the columns of an annotation file; of equally frequent ones, the first."""
NOT_UTF8_ROW = "the row is not in UTF-8; save the file as UTF-8"

FIRST_ROWS = 20
"""Rows that are examined for a column without a header."""
_MARKS = (  # UTF-32 first: its mark starts like that of UTF-16
    (codecs.BOM_UTF8, "UTF-8"),
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f\x81\x8d\x8f\x90\x9d\xff]")  # in Windows-1252
_SEPARATOR = re.compile(rb"\s*\"?sep=([,;\t|])\"?\s*", re.IGNORECASE)


def load_text(path: str | os.PathLike[str], name: str | None = None, n_bytes: int = -1) -> tuple[bytes, str]:
    """Return a file's text in UTF-8 without byte order mark, and the encoding that it is in.

    UTF-16 is recognised with and without a mark. A file in which no line beyond ASCII is UTF-8 is read as
    Windows-1252 (which includes Latin-1's letters). In other files, lines that are not UTF-8 stay as they
    are. With `n_bytes`, only the start of the file is read. A compressed file is unpacked.

    Raises DataError when the file cannot be read at all, or is empty.
    """
    name = name or str(path)
    try:
        with open_unpacked(Path(path), name) as file:
            data = file.read(n_bytes)
    except FileNotFoundError:
        raise DataError(f"{name}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "")
    encoding = encoding or _unmarked(data)
    if encoding == "UTF-8":
        data = data.removeprefix(codecs.BOM_UTF8)
    else:
        text = data.decode(encoding, errors="replace").removeprefix("\ufeff")
        data = text.encode("utf-8", errors="replace")
    if not data.strip():
        raise DataError(f"{name}: the file is empty")
    return data, encoding


def parse_lines(data: bytes, delimiters: str = ",") -> Iterator[tuple[int, list[str], str]]:
    """Yield number, fields and fault of each line of a text in UTF-8.

    Numbers start at 1. An empty line has no fields. Where a line cannot be parsed, the fault is the reason,
    and the line's text is the only field; otherwise it is ''. The delimiter is the most frequent one of
    `delimiters` outside the quotes of the first line that is not empty; a line ``sep=;`` names it.

    Any kind of line end is allowed. A field may be in double quotes but must end on its line: an unclosed
    quote would otherwise swallow the rest of the file.
    """
    delimiter = ""
    for number, raw in enumerate(data.splitlines(), 1):
        if not delimiter and raw.strip():
            if len(delimiters) > 1 and (named := _SEPARATOR.fullmatch(raw)):
                delimiter = named[1].decode()
                continue
            unquoted = re.sub(rb'"[^"]*"', b"", raw)
            delimiter = max(delimiters, key=lambda one: unquoted.count(one.encode()))
        try:
            text = raw.decode("utf-8")
            # csv only where needed: it refuses NUL characters (Python 3.10) and very long fields.
            fields = _quoted_fields(text, delimiter) if '"' in text else text.split(delimiter or ",")
        except UnicodeDecodeError:
            text = raw.decode("utf-8", errors="replace")
            yield number, [text], NOT_UTF8_ROW
        except csv.Error:
            yield number, [text], "a double quote is not closed, or stands inside a field"
        else:
            yield number, [field.strip() for field in fields] if raw.strip() else [], ""


def are_numbered(rows: Sequence[Sequence[str]], n_columns: int) -> bool:
    """Return whether rows start with numbers of their own, for which the header of `n_columns` has no column.

    >>> are_numbered([["1", "a.jpg"], ["2", "b.jpg"]], 1)
    True
    """
    first = rows[:FIRST_ROWS]
    return 2 * sum(len(row) == n_columns + 1 and row[0].isdigit() for row in first) > len(first)


def _quoted_fields(text: str, delimiter: str) -> list[str]:
    """Divide a line at its delimiters outside quotes, which may have spaces before and behind them."""
    divide = functools.partial(csv.reader, strict=True, delimiter=delimiter, skipinitialspace=True)
    try:
        return next(divide([text]))
    except csv.Error:  # also of spaces behind a quote
        return next(divide([re.sub(rf'" +(?={re.escape(delimiter)}|$)', '"', text)]))


def _unmarked(data: bytes) -> str:
    """Recognise the encoding of a file without byte order mark."""
    start = data[:64]
    for first, encoding in ((1, "UTF-16-LE"), (0, "UTF-16-BE")):
        # ASCII in UTF-16: a zero in every second place, and none in the others.
        zeros, others = start[first::2], start[1 - first :: 2]
        if len(start) >= 16 and zeros.count(0) >= 0.8 * len(zeros) and not others.count(0):
            return encoding
    beyond = [] if data.isascii() else [line for line in data.splitlines() if not line.isascii()]
    if beyond and not _NO_TEXT.search(data) and not any(map(_is_utf8, beyond)):
        return "Windows-1252"
    return "UTF-8"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
