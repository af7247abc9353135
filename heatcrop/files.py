"""Write files atomically: a reader finds the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is


ROWS_AT_ONCE = 10_000
"""Rows of a table that are converted to text at once."""

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
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.errno and error.filename in (None, str(partial)):
            error.filename = str(path)  # the error of a full disk names no file
        raise
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


def reserve(path: Path, n_bytes: int) -> None:
    """Reserve disk space for a file that is written in parts, so that a full disk is an OSError at once."""
    if not n_bytes or not hasattr(os, "posix_fallocate"):
        return
    with path.open("rb+") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # the file system cannot reserve
                raise


def write_atomic(path: str | os.PathLike[str], data: bytes, durable: bool = False) -> None:
    """Write bytes."""
    with atomic_path(Path(path), durable) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    write_atomic(path, text.encode("utf-8"), durable=True)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON; NaN and infinity become null."""
    write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV with a header."""
    with atomic_table(path) as write:
        write(table)


@contextlib.contextmanager
def atomic_table(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Write a CSV with a header in parts; yield a function that appends rows."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        has_header = False

        def write(rows: pd.DataFrame) -> None:
            nonlocal has_header
            rows.to_csv(file, index=False, header=not has_header, lineterminator="\n", chunksize=ROWS_AT_ONCE)
            has_header = True

        yield write


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file, for `numpy.load` with a memory map."""
    array = np.ascontiguousarray(array)
    header = np.lib.format.header_data_from_array_1_0(array)
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data.cast("B") if array.size else b"")  # np.save hides the reason of an error


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
    except (OSError, NotImplementedError):
        with atomic_path(path) as partial:
            shutil.copyfile(target, partial)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


@contextlib.contextmanager
def atomic_array(path: Path, shape: tuple[int, ...], dtype: Any) -> Iterator[np.ndarray]:
    """Yield a new array on disk; when the block ends without an error, it becomes the ``.npy`` file `path`.

    A full disk is an OSError at once, not a crash while the array is filled.
    """
    with atomic_path(path) as partial:
        array = np.lib.format.open_memmap(partial, "w+", dtype, shape)
        reserve(partial, partial.stat().st_size)
        yield array
        array.flush()


def create_rows(path: Path, shape: tuple[int, ...], dtype: str) -> None:
    """Make a ``.npy`` file of zeros whose room on the disk is reserved; OSError where there is too little.

    The file may be larger than memory. Read it with ``np.load(path, mmap_mode="r")[rows]``, anew for each
    batch: the pages that a memory map has touched count as the process's memory for as long as it exists.
    """
    with _named(path):
        np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
        reserve(path, path.stat().st_size)


def write_rows(path: Path, rows: np.ndarray, values: np.ndarray) -> None:
    """Write (B, ...) values, rounded to the file's type, to the (B,) rows of a file.

    Threads may write different rows concurrently. OSError where the disk is full. (Writing through a memory
    map would end the process with SIGBUS.)
    """
    array = np.load(path, mmap_mode="r")
    values = np.ascontiguousarray(values, array.dtype)
    with _named(path), path.open("rb+", buffering=0) as file:
        for row, value in zip(rows.tolist(), values, strict=True):
            place = array.offset + row * value.nbytes
            if os.pwrite(file.fileno(), value.tobytes(), place) != value.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in an error of the system."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
