"""Show the progress of long work: bars on a terminal, a line every ten seconds elsewhere.

Worker processes print nothing. They forward messages, ``(kind, *arguments)``, to the process that started
them, which shows the bars of all workers together.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from heatcrop.timing import Spent
from heatcrop.wording import counted

# Names of files, tasks and classes are printed as they are: `[red]` and `:cat:` are no markup.
console = Console(stderr=True, highlight=False, markup=False, emoji=False)
_LINE_SECONDS, _FORWARD_SECONDS = 10.0, 0.2

_forward: Callable[[tuple[Any, ...]], Any] | None = None  # to the process that shows this one's messages
_keys = itertools.count()


def forward_to(send: Callable[[tuple[Any, ...]], Any]) -> None:
    """Forward the log lines and the progress of this process by a function; see :func:`show_forwarded`."""
    global _forward
    _forward = send


def log(line: str) -> None:
    """Print one line for the user."""
    if _forward is not None:
        _forward(("log", line))
    else:
        console.print(line, soft_wrap=True)


@contextlib.contextmanager
def progress(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show progress while the block runs; call the yielded function with the number of items done since.

    `total` is None if it is unknown. Many small steps that are forwarded become few large ones.
    """
    key = f"{socket.gethostname()} {os.getpid()} {next(_keys)}"
    lock, waiting, sent = threading.Lock(), 0, 0.0
    with contextlib.nullcontext(_forward) if _forward is not None else _display() as send:

        def step(count: int) -> None:
            nonlocal waiting, sent
            with lock:
                waiting, now = waiting + count, time.monotonic()
                if _forward is None or now - sent >= _FORWARD_SECONDS:
                    send(("step", key, waiting))
                    waiting, sent = 0, now

        send(("start", key, title, total))
        try:
            yield step
        finally:
            if waiting:
                send(("step", key, waiting))
            send(("end", key))


@contextlib.contextmanager
def show_forwarded(queue: Any) -> Iterator[None]:
    """Show, while the block runs, the messages that other processes forward to a queue."""
    with _display() as show:

        def receive() -> None:
            while message := queue.get():
                show(message)

        receiver = threading.Thread(target=receive, daemon=True)
        receiver.start()
        try:
            yield
        finally:
            queue.put(None)
            receiver.join(timeout=5)  # a killed worker may have left the queue locked


@contextlib.contextmanager
def _display() -> Iterator[Callable[[tuple[Any, ...]], None]]:
    """Yield a function that shows messages: as bars on a terminal, as lines elsewhere."""
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    ids: dict[Hashable, TaskID] = {}

    def show(message: tuple[Any, ...]) -> None:
        match message:
            case "log", line:
                log(line)
            case "start", key, title, total:
                ids[key] = bars.add_task(title, total=total, printed=bars.get_time())
            case "step", key, count:
                bars.advance(ids[key], count)
                if not console.is_terminal:
                    print_line(next(task for task in bars.tasks if task.id == ids[key]))
            case "end", key:
                bars.remove_task(ids.pop(key))

    def print_line(task: Task) -> None:
        now = bars.get_time()
        if now - task.fields["printed"] < _LINE_SECONDS:
            return
        bars.update(task.id, printed=now)
        elapsed, total, left = task.elapsed or 0.0, "", ""
        if task.remaining is not None:
            seconds = max(0, task.remaining) * elapsed / max(task.completed, 1)
            total, left = f"/{task.total:.0f}", f", {format_duration(seconds)} left"
        log(f"{task.description}: {task.completed:.0f}{total}, {_rate(task.completed, elapsed)}{left}")

    with bars if console.is_terminal else contextlib.nullcontext():
        yield show


class _RateColumn(ProgressColumn):
    """Mean rate since the start of a task."""

    def render(self, task: Task) -> Text:
        return Text(_rate(task.completed, task.elapsed or 0))


def _rate(done: float, seconds: float) -> str:
    """Format a rate, or its inverse for slow work.

    >>> _rate(50, 2.0), _rate(2, 30.0), _rate(0, 5.0)
    ('25/s', '15 s each', '')
    """
    if not done:
        return ""
    return f"{done / max(seconds, 1e-9):.0f}/s" if done >= seconds else f"{seconds / done:.0f} s each"


def speed_line(images: int, tasks: int, spent: Spent) -> str:
    """Write how fast images were predicted.

    >>> speed_line(24, 8, Spent(16.0, 30.0))
    '24 images for 8 tasks in 16 s (30 s of CPU time): 1.5 images a second'
    """
    took = f"{format_duration(spent.wall)} ({format_duration(spent.cpu)} of CPU time)"
    rate = images / max(spent.wall, 1e-9)
    return (
        f"{counted(images, 'image(s)')} for {counted(tasks, 'task(s)')} in {took}: {rate:.3g} images a second"
    )


def format_duration(seconds: float) -> str:
    """Word a duration.

    >>> [format_duration(seconds) for seconds in (42.0, 100.0, 1234.0, 9000.0, 360_000.0)]
    ['42 s', '1.7 min', '21 min', '2.5 h', '100 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    number, unit = (seconds / 60, "min") if seconds < 5400 else (seconds / 3600, "h")
    return f"{number:.1f} {unit}" if number < 9.95 else f"{number:.0f} {unit}"
