"""Rows of a comma-separated file, each with its line number, so that one bad line spoils only itself."""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heatcrop.errors import DataError


class Rows:
    """Rows of a file, taken apart each time they are asked for: nothing is kept but the file's bytes.

    Parameters
    ----------
    data : bytes
        The file, its lines ended by a line feed.
    count : int
        Rows in it.
    faulty : set of int
        Numbers of the lines that cannot be taken apart.
    """

    def __init__(self, data: bytes, count: int, faulty: set[int]) -> None:
        self._data, self._count, self._faulty = data, count, faulty

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> tuple[int, list[str]]:
        if not 0 <= place < self._count:
            raise IndexError(f"there is no row {place} of {self._count}")
        return next(self.after(place))

    def after(self, first: int) -> Iterator[tuple[int, list[str]]]:
        """All but the first few."""
        some = (line for line in _lines(self._data) if line[0] not in self._faulty and line[1].strip())
        return ((number, _fields(raw)) for number, raw in itertools.islice(some, first, None))

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        return self.after(0)


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each line with its number."""
    number, start = 0, 0
    while start <= len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        number += 1
        yield number, data[start:end]
        start = end + 1


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
    count, n_empty = 0, 0
    faults: list[tuple[int, str, str]] = []
    for number, raw in _lines(data):
        try:
            if not raw.strip():
                n_empty += 1
            elif _fields(raw):
                count += 1
        except UnicodeDecodeError:
            shown = raw.decode("utf-8", errors="replace")
            faults.append((number, shown, "the row is not in UTF-8; save the file as UTF-8"))
        except csv.Error:
            reason = "a double quote is not closed, or stands inside a field"
            faults.append((number, raw.decode("utf-8"), reason))
    return Lines(Rows(data, count, {number for number, _, _ in faults}), faults, n_empty)
