"""One process a run folder."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from runfolder.files import write_json

LOCK, NOTE = ".lock", ".holder.json"


class HeldError(Exception):
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
    HeldError
        At once, saying who holds it.
    """
    lock, note = FileLock(path / LOCK, timeout=0), path / NOTE
    try:
        lock.acquire()
    except Timeout:
        raise HeldError(
            f"{path}: {_holder(note)} is working on it; wait until it is done, or give another folder (--out)"
        ) from None
    try:
        since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        write_json(note, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def _holder(note: Path) -> str:
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
        return f"process {told['pid']} on {told['host']}, since {told['since']},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it took the lock a moment ago, and has not signed yet
