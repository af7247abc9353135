"""Start worker processes that end with their parent and leave Ctrl-C to it."""

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

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def end_with_parent() -> None:
    """End this worker process when its parent process ends for any reason.

    A worker that is still running would write into a run folder that the next process owns.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # ends blocked system calls as well

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT and SIGHUP in worker processes started in this block.

    A terminal sends both to all processes of its group, and each worker would print a traceback. The parent
    receives those that arrive meanwhile when the block ends.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # The first worker starts Python's resource tracker, which unblocks SIGINT in this process: start it now.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})  # inherited by workers
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
