"""Write files atomically: a reader finds the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is


ROWS_AT_ONCE = 10_000
"""Rows of a table that are converted to text at once."""

_HEADER = threading.Lock()
"""Held while the header of a ``.npy`` file is parsed, see `map_array`."""

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

NOT_UTF8 = "the file's name is not in UTF-8; rename it"
"""Why an image is rejected whose name `printable` must change."""


def printable(name: str) -> str:
    r"""Replace what is not UTF-8 in a file's name by ``?``, so that it can be written to files.

    >>> printable("caf\udce9.jpg"), printable("café.jpg")
    ('caf?.jpg', 'café.jpg')
    """
    return name.encode("utf-8", "replace").decode()


@contextlib.contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends without an error, it replaces `path`.

    Its folder is created if missing. `durable`: write the bytes to the disk before the name, so that even a
    power cut leaves the old file or the new one.
    """
    # Beside the target, since a rename is atomic only within a file system; one name per thread.
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f"{_stem(path)}.{os.getpid()}-{threading.get_ident()}.partial"
    try:
        with _named(path, partial):
            yield partial
            if durable:
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what `atomic_path` left beside `path` in processes that were killed.

    Files of a living process of this machine stay, and so does everything on Windows, where a process cannot
    be probed without side effects.
    """
    if os.name != "posix":
        return
    leftover = re.compile(re.escape(_stem(path)) + r"\.(\d+)-\d+\.partial")
    # A file that cannot be listed or removed, or that is gone meanwhile, is no reason to stop.
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in list(entries):
            found = leftover.fullmatch(entry.name)
            if found and entry.is_file(follow_symlinks=False) and not _is_alive(int(found[1])):
                os.unlink(entry.path)


def _stem(path: Path) -> str:
    """Start the name of a temporary file; a name may have 255 bytes, and a letter up to four."""
    return "." + path.name.encode("utf-8", "surrogateescape")[:100].decode("utf-8", "ignore")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends no signal
    except (OSError, OverflowError) as error:  # another user's process; a number that no process has
        return not isinstance(error, ProcessLookupError)
    return True


def write_atomic(path: str | os.PathLike[str], data: bytes, durable: bool = False) -> None:
    """Write bytes."""
    with atomic_path(Path(path), durable) as partial:
        partial.write_bytes(data)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, not atomically, with few system calls: after each, a thread waits for the interpreter.

    OSError, which names the file, where the disk is full.
    """
    with _named(path):
        descriptor = os.open(path, _WRITE, 0o666)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    write_atomic(path, text.encode("utf-8"), durable=True)


def update_text(path: Path, text: str) -> None:
    """Write UTF-8 text unless the file holds it already."""
    if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
        write_text(path, text)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON; NaN and infinity become null."""
    from pydantic_core import to_jsonable_python

    plain = to_jsonable_python(value, inf_nan_mode="null", fallback=lambda number: number.item())
    write_text(path, json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV with a header."""
    join_tables(path, [table])


def join_tables(path: Path, parts: Iterable[pd.DataFrame]) -> None:
    """Write tables one below the other to a CSV with one header."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        for number, rows in enumerate(parts):
            rows.to_csv(file, index=False, header=not number, lineterminator="\n", chunksize=ROWS_AT_ONCE)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file, for `map_array`."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        # NumPy hides the reason of an error where it knows that it writes to a file.
        np.lib.format.write_array(SimpleNamespace(write=file.write), array, allow_pickle=False)


def link(path: Path, target: Path) -> None:
    """Link a path to another file by a relative symbolic link; copy the file where links are not supported.

    An atomic write to the path later replaces the link, not its target.
    """
    if path == target:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_path(path, durable=False) as partial:
            os.symlink(os.path.relpath(target, path.parent), partial)
    except OSError:  # a file system without links, or a user who may not make them
        with atomic_path(path) as partial:
            shutil.copyfile(target, partial)


@contextlib.contextmanager
def atomic_array(path: Path, shape: tuple[int, ...], dtype: Any) -> Iterator[np.ndarray]:
    """Yield a new array on disk; when the block ends without an error, it becomes the ``.npy`` file `path`.

    A full disk is an OSError at once, not a crash while the array is filled.
    """
    with atomic_path(path) as partial:
        array = create_rows(partial, shape, dtype)
        yield array
        array.flush()


def create_rows(path: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap:
    """Make a ``.npy`` file of zeros whose room on the disk is reserved; OSError where there is too little.

    The file may be larger than memory. Read it with ``map_array(path)[rows]``, anew for each batch: the pages
    that a memory map has touched count as the process's memory for as long as it exists.
    """
    with _named(path):
        array = np.lib.format.open_memmap(path, "w+", dtype, shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("rb+") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
                except OSError as error:  # not every file system can
                    if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                        raise
    return array


def map_array(path: Path) -> np.memmap:
    """Memory-map a ``.npy`` file; ValueError or EOFError where it is truncated or none.

    Threads may call it concurrently. They may not call `numpy.load`, which parses the header with `ast`: the
    threads of CPython 3.11 share its depth counter (python/cpython issue 106905), so that now and then one of
    them fails with a SystemError.
    """
    with _HEADER:
        return np.load(path, mmap_mode="r", allow_pickle=False)


def write_rows(path: Path, rows: np.ndarray, values: np.ndarray) -> None:
    """Write (B, ...) values, rounded to the file's type, to the (B,) rows of a file.

    Threads may write different rows concurrently. OSError where the disk is full. (Writing through a memory
    map would end the process with SIGBUS.)
    """
    array = map_array(path)
    values = np.ascontiguousarray(values, array.dtype)
    with _named(path), path.open("rb+", buffering=0) as file:
        for row, value in zip(rows.tolist(), values, strict=True):
            place = array.offset + row * value.nbytes
            if os.pwrite(file.fileno(), value.tobytes(), place) != value.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _named(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Name the file in an error that names none, as that of a full disk, or its temporary one."""
    try:
        yield
    except OSError as error:
        # A copy of a file names the source too, also where the disk of the target is full.
        if error.errno and (error.filename in (None, str(partial)) or error.errno in _NO_ROOM):
            error.filename, error.filename2 = str(path), None
        raise
