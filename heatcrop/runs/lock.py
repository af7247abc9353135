"""Own a run folder: one process writes into it at a time, and its workers end with it."""

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

from heatcrop.errors import RunError
from heatcrop.files import write_json

LOCK, NOTE = ".lock", ".holder.json"
_TRIES, _CHECK_SECONDS = 5, 2.0


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Own an existing run folder for the length of the block.

    The operating system releases the lock when the process ends in whatever way, so a dead process leaves
    none. A note beside the lock names the owner. RunError at once, naming the owner, where there is another.
    """
    from filelock import FileLock, Timeout  # not installed where only ONNX Runtime is

    lock, note = FileLock(path / LOCK, timeout=0), path / NOTE
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            f"{path}: {_owner(note)} is working on it; wait until it is done, or give another folder (--out)"
        ) from None
    try:
        since = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        write_json(note, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def read_note(path: Path) -> str:
    """Return the note of a run folder's owner; '' where there is none."""
    try:
        return (path / NOTE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def working_for(path: Path, note: str) -> Iterator[None]:
    """Work in a run folder for its owner, and end this process when the owner releases the folder.

    A worker on another machine may not notice that the process it works for is gone, and another one may own
    the folder by then.

    `note` is the owner's, see :func:`read_note`. RunError when the owner has released the folder, or this
    machine does not see it.
    """
    for _ in range(_TRIES):  # a network file system may take a moment to show a new file
        if read_note(path) == note:
            break
        time.sleep(1)
    else:
        raise RunError(
            f"{path}: is not the folder that the run was started in, or that run has ended; all machines "
            "must see it at this path"
        )
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_CHECK_SECONDS):
            if read_note(path) != note:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _owner(note: Path) -> str:
    try:
        record = json.loads(note.read_text(encoding="utf-8"))
        return f"process {record['pid']} on {record['host']}, since {record['since']},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it locked the folder a moment ago, and has not written its note yet
