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

INTERRUPTED = 130
"""Exit code of all; what is finished stays, and the same command goes on with it."""

_GRACE_SECONDS, _AGAIN_SECONDS = 3.0, 0.01
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_told = threading.Event()


def tell() -> None:
    """Print how to go on."""
    _told.set()
    with contextlib.suppress(OSError):  # the terminal may be gone
        print("interrupted; the same command goes on with what is finished", file=sys.stderr, flush=True)


def listen() -> None:
    """From now on the others are what Ctrl-C is, and the process ends where Python does not hear it in time.

    Python hears a signal between two of its own steps. A network's pass over a batch is one step and may
    take a minute; so a thread, which the signal reaches at once, ends the process after a few seconds.
    Files are written whole or not at all, which is why that is safe. A second signal ends it directly.
    """
    heard = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if heard.is_set():
            _leave()
        heard.set()
        raise KeyboardInterrupt

    def again() -> None:
        heard.clear()
        os.kill(os.getpid(), signal.SIGINT)

    def unraisable(what: sys.UnraisableHookArgs) -> None:
        """Say it once more, where Python drops what is raised: in a ``__del__``, in a library's callback."""
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
        _leave()

    threading.Thread(target=watch, daemon=True).start()
    sys.unraisablehook = unraisable
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # one that is ignored, as under nohup, stays ignored
            signal.signal(number, handle)


def listen_no_more() -> None:
    """Let nothing change how the process ends: its work is done, or told to be broken off."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _leave() -> None:
    if not _told.is_set():
        tell()
    os._exit(INTERRUPTED)
