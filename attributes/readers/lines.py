"""Rows of a comma-separated file, each with its line number, so that one bad line spoils only itself."""

from __future__ import annotations

import csv
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attributes.errors import DataError


class Rows:
    """Rows of a file, taken apart each time they are asked for: millions of them take 16 bytes each.

    Parameters
    ----------
    data : bytes
        The file, its lines ended by a line feed.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._numbers, self._starts = array("Q"), array("Q")

    def append(self, number: int, start: int) -> None:
        """Add the line of that number, which starts at that byte and can be taken apart."""
        self._numbers.append(number)
        self._starts.append(start)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: int) -> tuple[int, list[str]]:
        start = self._starts[place]
        end = self._data.find(b"\n", start)
        return self._numbers[place], _fields(self._data[start : end if end >= 0 else None])

    def after(self, first: int) -> Iterator[tuple[int, list[str]]]:
        """All but the first few."""
        return (self[place] for place in range(first, len(self)))

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        return self.after(0)


def _fields(raw: bytes) -> list[str]:
    """Fields of a line without the blanks around them; UnicodeDecodeError or csv.Error where it has none."""
    text = raw.decode("utf-8")
    parts: Sequence[str] = text.split(",") if '"' not in text else next(csv.reader([text], strict=True))
    return [part.strip() for part in parts]


@dataclass
class Lines:
    """What a file holds, line by line.

    Attributes
    ----------
    rows : Rows
        Line numbers and fields.
    faults : list of (line number, text, reason)
        Lines that cannot be taken apart.
    n_empty : int
        Lines with nothing on them, which are passed over.
    """

    rows: Rows
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    n_empty: int = 0


def read_lines(path: str | os.PathLike[str], name: str | None = None) -> Lines:
    """Read a UTF-8 comma-separated file; a byte order mark and any kind of line end are fine.

    A field may stand in double quotes, but not run over the end of its line: a quote that is never closed
    would otherwise swallow the rest of the file.

    Parameters
    ----------
    path : path
    name : str, optional
        What messages call the file; the path itself by default.

    Raises
    ------
    DataError
        When the file cannot be read at all, holds nothing, or is in UTF-16.
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
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not data.strip():
        raise DataError(f"{name}: the file is empty")
    data = data.removesuffix(b"\n")
    result = Lines(Rows(data))
    number, start = 0, 0
    while start <= len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        raw, number = data[start:end], number + 1
        try:
            if not raw.strip():
                result.n_empty += 1
            elif _fields(raw):
                result.rows.append(number, start)
        except UnicodeDecodeError:
            shown = raw.decode("utf-8", errors="replace")
            result.faults.append((number, shown, "the row is not in UTF-8; save the file as UTF-8"))
        except csv.Error:
            reason = "a double quote is not closed, or stands inside a field"
            result.faults.append((number, raw.decode("utf-8"), reason))
        start = end + 1
    return result
