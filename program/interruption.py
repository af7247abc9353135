"""Ctrl-C and SIGTERM: the work ends within seconds, whatever it is doing."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

INTERRUPTED = 130
"""Exit code of both; what is finished stays, and the same command goes on with it."""

_GRACE_SECONDS = 3.0


@contextlib.contextmanager
def interruptible(tell: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Turn SIGTERM into what Ctrl-C is, and end the process where that is not heard in time.

    Python hears a signal between two of its own steps. A network's pass over a batch is one step and may
    take a minute; so a thread, which the signal reaches at once, ends the process after a few seconds.
    Files are written whole or not at all, which is why that is safe. A second signal ends it directly.

    Parameters
    ----------
    tell : callable
        Prints how to go on. The block gets it back as one that does so once, whoever calls it first.
    """
    tell = functools.cache(tell)
    if threading.current_thread() is not threading.main_thread():
        yield tell
        return
    heard = threading.Event()

    def leave() -> None:
        tell()
        os._exit(INTERRUPTED)

    def handle(_number: int, _frame: FrameType | None) -> None:
        if heard.is_set():
            leave()
        heard.set()
        raise KeyboardInterrupt

    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        with os.fdopen(reader, "rb", buffering=0) as signals:
            while number := signals.read(1):
                if number[0] in (signal.SIGINT, signal.SIGTERM):
                    time.sleep(_GRACE_SECONDS)
                    leave()

    # One that is ignored, as under nohup, stays ignored.
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield tell
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(writer)
