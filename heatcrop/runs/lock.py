"""One process a run folder."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from heatcrop.errors import RunError
from heatcrop.files import write_json

LOCK, NOTE = ".lock", ".holder.json"
_TRIES, _EVERY_SECONDS = 5, 2.0


class LockedError(RunError):
    """Another process works on the run folder; the message says which."""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keep other processes from writing into a run folder for the length of the block.

    The operating system holds the lock, and lets go of it when the process ends in whatever way; so one
    that a dead process left behind is no lock. Who holds it lies beside it in a note.

    Parameters
    ----------
    path : Path
        An existing folder.

    Raises
    ------
    LockedError
        At once, saying who holds it.
    """
    lock, note = FileLock(path / LOCK, timeout=0), path / NOTE
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(
            f"{path}: {_holder(note)} is working on it; wait until it is done, or give another folder (--out)"
        ) from None
    try:
        since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        write_json(note, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def signature(path: Path) -> str:
    """The note of whoever holds a run folder; '' when nobody does."""
    try:
        return (path / NOTE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def lent(path: Path, held_by: str) -> Iterator[None]:
    """Work in a run folder for the process that holds it, and end this one when that lets go of it.

    A worker on another machine may not hear that the process it works for is gone, and another one may
    take the folder.

    Parameters
    ----------
    path : Path
    held_by : str
        The holder's :func:`signature`.

    Raises
    ------
    LockedError
        When it does not hold the folder.
    """
    for _ in range(_TRIES):  # a network file system may take a moment to show what is new
        if signature(path) == held_by:
            break
        time.sleep(1)
    else:
        raise LockedError(f"{path}: is not the folder that the run was started in, or that run has ended")
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY_SECONDS):
            if signature(path) != held_by:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _holder(note: Path) -> str:
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
        return f"process {told['pid']} on {told['host']}, since {told['since']},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it took the lock a moment ago, and has not signed yet
