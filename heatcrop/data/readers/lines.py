"""Rows of a comma-separated file with their line numbers, so that one bad line affects only itself."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

from heatcrop.errors import DataError


@dataclass
class Lines:
    """The lines of a file.

    Attributes
    ----------
    rows : list of (line number, fields)
    faults : list of (line number, text, reason)
        Lines that cannot be parsed.
    n_empty : int
        Lines without text.
    """

    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    n_empty: int = 0


def read_lines(path: str | os.PathLike[str], name: str | None = None) -> Lines:
    """Read a UTF-8 comma-separated file; a byte order mark and any kind of line end are allowed.

    A field may be in double quotes but must end on its line: an unclosed quote would otherwise swallow the
    rest of the file.

    Parameters
    ----------
    path : path
    name : str, optional
        The file's name in messages; by default its path.

    Raises
    ------
    DataError
        When the file cannot be read at all, is empty, or is in UTF-16.
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
    lines = Lines()
    for number, raw in enumerate(data.splitlines(), 1):
        try:
            if not raw.strip():
                lines.n_empty += 1
            else:
                text = raw.decode("utf-8")
                # Only where needed: csv refuses NUL characters (Python 3.10) and very long fields.
                fields = next(csv.reader([text], strict=True)) if '"' in text else text.split(",")
                lines.rows.append((number, [text.strip() for text in fields]))
        except UnicodeDecodeError:
            shown = raw.decode("utf-8", errors="replace")
            lines.faults.append((number, shown, "the row is not in UTF-8; save the file as UTF-8"))
        except csv.Error:
            reason = "a double quote is not closed, or stands inside a field"
            lines.faults.append((number, raw.decode("utf-8"), reason))
    return lines
