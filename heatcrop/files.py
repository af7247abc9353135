"""Write files atomically: a reader finds the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is


def write_bytes(path: str, data: bytes) -> None:
    """Write a file in place, with as few calls to the system as can be; a full disk is an OSError."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(number, rest) :]
    finally:
        os.close(number)


@contextlib.contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it takes `path`'s place.

    A run that is broken off leaves the old file or the new one, never a half.

    Parameters
    ----------
    path : Path
        Its folder is made where it is missing.
    durable : bool
        Bring the bytes to the disk before the name, so that this holds for a power cut too.
    """
    # Beside the target, since a rename is one step only within a file system; one name a thread.
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
            error.filename = str(path)  # a full disk does not say which file it had no room for
        raise
    finally:
        partial.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what :func:`whole` left beside `path` in processes that were killed.

    What a living process of this machine may still be writing stays, and so does everything where
    processes cannot be asked for without harm (Windows).
    """
    if os.name != "posix":
        return
    ours = re.compile(re.escape(_stem(path)) + r"\.(\d+)-\d+\.partial")
    # What cannot be listed or removed, or is gone meanwhile, is no reason to stop.
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in list(entries):
            found = ours.fullmatch(entry.name)
            if found and entry.is_file(follow_symlinks=False) and not _lives(int(found[1])):
                os.unlink(entry.path)


def _stem(path: Path) -> str:
    """How names of unfinished files begin; a name may have 255 bytes, and a letter up to four."""
    return "." + path.name.encode("utf-8", "surrogateescape")[:100].decode("utf-8", "ignore")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # asks, and sends nothing
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's; no process's number, and so no name of ours
        return True
    return True


def write_atomic(path: str | os.PathLike[str], data: bytes, durable: bool = False) -> None:
    """Write bytes to a file, whole or not at all; the folder must exist."""
    with atomic_path(Path(path), durable) as partial:
        partial.write_bytes(data)


def reserve(path: Path, n_bytes: int) -> None:
    """Have the disk keep room for a file that is going to be written bit by bit.

    A full disk is then an OSError before the work begins, not hours into it.
    """
    if not n_bytes or not hasattr(os, "posix_fallocate"):
        return
    with path.open("rb+") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # what file systems say that cannot
                raise


ROWS_AT_ONCE = 10_000
"""Rows of a table that are turned into text at once."""


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON; NaN becomes null, since JSON has no word for it."""
    write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV with a header."""
    with atomic_table(path) as write:
        write(table)


@contextlib.contextmanager
def atomic_table(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Write a CSV with a header, part by part, whole or not at all; give what it yields each part's rows."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        begun = False

        def write(rows: pd.DataFrame) -> None:
            nonlocal begun
            rows.to_csv(file, index=False, header=not begun, lineterminator="\n", chunksize=ROWS_AT_ONCE)
            begun = True

        yield write


def join_tables(path: Path, parts: Sequence[Path]) -> None:
    """Write one CSV from several with the same header."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        for number, part in enumerate(parts):
            with part.open("rb") as rows:
                header = rows.readline()
                file.write(header if not number else b"")
                shutil.copyfileobj(rows, file)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file, to be opened by memory map."""
    array = np.ascontiguousarray(array)
    header = np.lib.format.header_data_from_array_1_0(array)
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data.cast("B") if array.size else b"")  # numpy's own writing hides why it failed


def link(path: Path, target: Path) -> None:
    """Let a path stand for another file, by a relative link; by a copy where there are no links.

    Whoever writes to the path later takes the link away, not what it stands for.
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
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


@contextlib.contextmanager
def atomic_array(path: Path, shape: tuple[int, ...], dtype: Any) -> Iterator[np.ndarray]:
    """Give a new array on disk to be filled; when the block ends well it becomes the ``.npy`` file `path`.

    The disk reserves the room at once: a full disk is an OSError here, not a crash while the array is filled.
    """
    with atomic_path(path) as partial:
        array = np.lib.format.open_memmap(partial, "w+", dtype, shape)
        reserve(partial, partial.stat().st_size)
        yield array
        array.flush()
        del array
