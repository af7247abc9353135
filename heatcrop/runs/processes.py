"""Worker processes that never outlive, and never outshout, the one that started them."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


def end_with_parent() -> None:
    """Have this worker process end when the one that started it is gone, however it went.

    A worker that goes on after its parent was killed would write into a run folder that the next
    process takes for its own.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)  # at once, whatever it is doing

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Start worker processes in this block, and Ctrl-C reaches only the one that started them.

    A terminal sends it to all; each worker would print a traceback of its own, even while it is
    still importing. The parent hears a Ctrl-C of that moment when the block ends.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # With its first worker Python starts a helper, after which it unblocks what we are about to block.
    resource_tracker.ensure_running()
    deaf = {signal.SIGINT, signal.SIGHUP}  # a terminal that is closed tells all of them as well
    before = signal.pthread_sigmask(signal.SIG_BLOCK, deaf)  # new processes inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
