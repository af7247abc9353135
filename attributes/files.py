"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path


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
def whole(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it takes `path`'s place.

    A run that is broken off leaves the old file or the new one, never a half.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    durable : bool
        Bring the bytes to the disk before the name, so that this holds for a power cut too.
    """
    # Beside the target, since a rename is one step only within a file system; one name a thread.
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


def write_whole(path: str | os.PathLike[str], data: bytes, durable: bool = False) -> None:
    """Write bytes to a file, whole or not at all; the folder must exist."""
    with whole(Path(path), durable) as partial:
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
