"""Rows of a comma-separated file, each with its line number, so that one bad line spoils only itself."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path

from attributes.errors import DataError


@dataclass
class Lines:
    """What a file holds, line by line.

    Attributes
    ----------
    rows : list of (line number, list of str)
        Fields without the blanks around them.
    faults : list of (line number, text, reason)
        Lines that cannot be taken apart.
    n_empty : int
        Lines with nothing on them, which are passed over.
    """

    rows: list[tuple[int, list[str]]] = field(default_factory=list)
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
    result = Lines()
    for number, raw in enumerate(data.removesuffix(b"\n").split(b"\n"), start=1):
        if not raw.strip():
            result.n_empty += 1
            continue
        try:
            text = raw.decode("utf-8")
            fields = text.split(",") if '"' not in text else next(csv.reader([text], strict=True))
        except UnicodeDecodeError:
            shown = raw.decode("utf-8", errors="replace")
            result.faults.append((number, shown, "the row is not in UTF-8; save the file as UTF-8"))
        except csv.Error:
            reason = "a double quote is not closed, or stands inside a field"
            result.faults.append((number, text, reason))
        else:
            result.rows.append((number, [part.strip() for part in fields]))
    return result
