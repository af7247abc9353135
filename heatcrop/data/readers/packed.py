"""Compressed text files, and files of spreadsheets, which are refused."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from heatcrop.data.listing import is_system
from heatcrop.errors import DataError
from heatcrop.wording import counted

PACKED = (".gz", ".bz2", ".xz", ".zip")
ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers")
FAULTS = (EOFError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile)
"""What a damaged or encrypted file raises while it is read."""

_UNPACK = ", which is not read; unpack it and give the folder, or move it away"
_ZIP = b"PK\x03\x04"
_OLD_EXCEL = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_STREAMS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
_IN_SPREADSHEETS = frozenset({"[Content_Types].xml", "mimetype", "Index/Document.iwa"})


def unpacked_name(path: Path) -> str:
    """Return a file's name in lower case, without the ending of its compression.

    >>> unpacked_name(Path("Labels.csv.gz"))
    'labels.csv'
    """
    name = path.name.casefold()
    return next((name.removesuffix(ending) for ending in PACKED if name.endswith(ending)), name)


class PackedError(DataError):
    """A file is a spreadsheet or an archive, of which no text can be read."""


@contextlib.contextmanager
def open_unpacked(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a file, and decompress it where its content is gzip, bzip2, xz, or a ZIP archive of one file.

    PackedError, which calls the file `name`, where it is a spreadsheet, or an archive of several files.
    """
    if path.name.casefold().endswith(ARCHIVES):
        raise PackedError(f"{name}: is an archive{_UNPACK}")
    with path.open("rb") as file:
        head = file.read(len(_OLD_EXCEL))
        file.seek(0)
        unpack = next((unpack for mark, unpack in _STREAMS if head.startswith(mark)), None)
        if unpack is not None:
            with unpack(file) as stream:
                yield cast(IO[bytes], stream)
        elif head.startswith(_ZIP):
            with zipfile.ZipFile(file) as archive, archive.open(_only_member(archive, name)) as stream:
                yield stream
        elif head.startswith(_OLD_EXCEL):
            raise PackedError(_spreadsheet(name))
        else:
            yield file


def _only_member(archive: zipfile.ZipFile, name: str) -> str:
    """Return the only file of an archive, beside those that systems add."""
    members = [one.filename for one in archive.infolist() if not one.is_dir()]
    if not _IN_SPREADSHEETS.isdisjoint(members):
        raise PackedError(_spreadsheet(name))
    members = [member for member in members if not any(map(is_system, member.split("/")))]
    if len(members) != 1:
        holds = counted(len(members), "file(s)")
        raise PackedError(f"{name}: is an archive of {holds}{_UNPACK}")
    return members[0]


def _spreadsheet(name: str) -> str:
    return f"{name}: is a spreadsheet, which is not read; save it as CSV in UTF-8"
