"""Compressed text files, and files of spreadsheets, which are refused."""

from __future__ import annotations

import contextlib
import importlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from heatcrop.data.listing import is_system
from heatcrop.errors import DataError
from heatcrop.wording import counted

PACKED = (".gz", ".bz2", ".xz", ".zip")
ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".numbers")
_UNPACK = ", which is not read; unpack it and give the folder, or move it away"
_ZIP = b"PK\x03\x04"
_OLD_EXCEL = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MODULES = ((b"\x1f\x8b", "gzip"), (b"BZh", "bz2"), (b"\xfd7zXZ\0", "lzma"))
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
        if head.startswith(_OLD_EXCEL):
            raise PackedError(_spreadsheet(name))
        module = next((module for mark, module in _MODULES if head.startswith(mark)), "")
        if not module and not head.startswith(_ZIP):
            yield file
            return
        try:
            with _open_stream(file, module, name) as stream:
                yield stream
        except (DataError, MemoryError):
            raise
        except Exception as error:  # damaged and encrypted files raise many kinds; a module may be missing
            fix = "unpack it, or compress it again"
            raise DataError(f"{name}: cannot be unpacked ({error}); {fix}") from None


@contextlib.contextmanager
def _open_stream(file: IO[bytes], module: str, name: str) -> Iterator[IO[bytes]]:
    """Open what is in a compressed file; '' is the module of ZIP archives."""
    if module:
        with importlib.import_module(module).open(file) as stream:
            yield stream
    else:
        with zipfile.ZipFile(file) as archive, archive.open(_only_member(archive, name)) as stream:
            yield stream


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
