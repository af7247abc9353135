"""Progress of long work: bars with rate and time left on a terminal, plain lines elsewhere.

Worker processes write nothing themselves: they send what they have to say to the process that
started them, which shows all their bars together and their lines above.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)
_QUIET_SECONDS = 10.0

_quiet = False
_parent: Any = None  # a queue to the process that started this one
_numbers = itertools.count()


def be_quiet() -> None:
    """Show no progress from this process: it works beside others that measure time."""
    global _quiet
    _quiet = True


def speak_through(queue: Any) -> None:
    """Send all that this process has to say to the one that listens at the other end of a queue."""
    global _parent
    _parent = queue


def log(line: str) -> None:
    """Print one line for the user."""
    if _parent is not None:
        _parent.put(("say", line))
    else:
        console.print(line, markup=False, soft_wrap=True)


@contextlib.contextmanager
def progress(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show progress while the block runs; call what it gives with the number of items done since.

    Parameters
    ----------
    total : int or None
        None where nobody knows beforehand.
    """
    if _quiet:
        yield lambda _: None
        return
    if _parent is not None:
        key = (os.getpid(), next(_numbers))
        _parent.put(("start", key, title, total))
        try:
            yield lambda count=1: _parent.put(("step", key, count))
        finally:
            _parent.put(("end", key))
        return
    with _shown() as display:
        display.start(0, title, total)
        try:
            yield lambda count=1: display.step(0, count)
        finally:
            display.end(0)


@contextlib.contextmanager
def listening(queue: Any) -> Iterator[None]:
    """Show, while the block runs, what other processes send by :func:`speak_through`."""
    with _shown() as display:
        show = {"say": log, "start": display.start, "step": display.step, "end": display.end}

        def listen() -> None:
            while message := queue.get():
                kind, *what = message
                show[kind](*what)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            yield
        finally:
            queue.put(None)
            listener.join(timeout=5)  # a worker that was killed may have left the queue locked


class _Display(Protocol):
    """Bars by key; each is started once, and ended once or never."""

    def start(self, key: Hashable, title: str, total: int | None) -> None: ...
    def step(self, key: Hashable, count: int) -> None: ...
    def end(self, key: Hashable) -> None: ...


@contextlib.contextmanager
def _shown() -> Iterator[_Display]:
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Bars(bars)


class _Bars:
    """On a terminal."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._found: dict[Hashable, tuple[TaskID, float]] = {}

    def start(self, key: Hashable, title: str, total: int | None) -> None:
        self._found[key] = self._bars.add_task(title, total=total, rate=""), time.perf_counter()

    def step(self, key: Hashable, count: int) -> None:
        task, started = self._found[key]
        self._bars.advance(task, count)
        done = next(one.completed for one in self._bars.tasks if one.id == task)
        self._bars.update(task, rate=_rate(done, time.perf_counter() - started))

    def end(self, key: Hashable) -> None:
        self._bars.remove_task(self._found.pop(key)[0])


class _Lines:
    """Where nobody can see a line change: a new one, now and then."""

    def __init__(self) -> None:
        self._found: dict[Hashable, dict[str, Any]] = {}

    def start(self, key: Hashable, title: str, total: int | None) -> None:
        now = time.perf_counter()
        self._found[key] = {"title": title, "total": total, "done": 0, "started": now, "last": now}

    def step(self, key: Hashable, count: int) -> None:
        bar, now = self._found[key], time.perf_counter()
        bar["done"] += count
        if now - bar["last"] < _QUIET_SECONDS:
            return
        bar["last"] = now
        done, total, seconds = bar["done"], bar["total"], now - bar["started"]
        left = ""
        if total is not None:
            left = f", {format_duration(max(0, total - done) * seconds / max(done, 1e-9))} left"
        of = "" if total is None else f"/{total}"
        console.print(
            f"{bar['title']}: {done}{of}, {_rate(done, seconds)}{left}", markup=False, soft_wrap=True
        )

    def end(self, key: Hashable) -> None:
        del self._found[key]


def _rate(done: float, seconds: float) -> str:
    """How fast it goes, the right way round for slow things.

    >>> _rate(50, 2.0), _rate(2, 30.0), _rate(0, 5.0)
    ('25/s', '15 s each', '')
    """
    if not done:
        return ""
    if done >= seconds:
        return f"{done / max(seconds, 1e-9):.0f}/s"
    return f"{seconds / done:.0f} s each"


def format_duration(seconds: float) -> str:
    """Word a duration.

    >>> format_duration(42.0), format_duration(600.0), format_duration(9000.0)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
