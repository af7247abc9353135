"""Ctrl-C, SIGTERM, a closed terminal (SIGHUP): the work ends within seconds, whatever it is doing.

Imports nothing heavy: a signal may come while the libraries are still being loaded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType

from heatcrop.errors import CONTINUE

INTERRUPTED = 130
"""The exit code; finished work stays, and the same command continues from it."""

_GRACE_SECONDS, _AGAIN_SECONDS = 3.0, 0.01
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_reported = threading.Event()


def report_interruption() -> None:
    """Print how to continue."""
    _reported.set()
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(f"interrupted; {CONTINUE}", file=sys.stderr, flush=True)


def handle_signals() -> None:
    """Turn all three signals into KeyboardInterrupt, and end the process where Python reacts too late.

    Python handles a signal between two instructions. A network's pass over a batch is one instruction and
    may take a minute; so a thread, which is notified at once, ends the process after a few seconds. That is
    safe because files are written atomically. A second signal ends the process directly.
    """
    received = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if received.is_set():
            _exit()
        received.set()
        raise KeyboardInterrupt

    def again() -> None:
        received.clear()
        os.kill(os.getpid(), signal.SIGINT)

    def unraisable(what: sys.UnraisableHookArgs) -> None:
        """Send the signal again where Python drops the exception: in a ``__del__`` or in a callback."""
        if isinstance(what.exc_value, KeyboardInterrupt):
            threading.Timer(_AGAIN_SECONDS, again).start()
        else:
            sys.__unraisablehook__(what)

    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        while os.read(reader, 1)[0] not in _SIGNALS:
            pass
        time.sleep(_GRACE_SECONDS)
        _exit()

    threading.Thread(target=watch, daemon=True).start()
    sys.unraisablehook = unraisable
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # an ignored one, as under nohup, stays ignored
            signal.signal(number, handle)


def ignore_signals() -> None:
    """Ignore the signals while the process ends: its work is done, or its interruption is reported."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_soon(code: int) -> None:
    """End the process with `code` within seconds, even where a library's threads wait for something."""

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed
                stream.flush()
        os._exit(code)

    timer = threading.Timer(_GRACE_SECONDS, end)
    timer.daemon = True
    timer.start()


def _exit() -> None:
    if not _reported.is_set():
        report_interruption()
    os._exit(INTERRUPTED)
