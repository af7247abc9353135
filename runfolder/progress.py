"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)
_QUIET_SECONDS = 10.0


_quiet = False


def be_quiet() -> None:
    """Show no progress from this process: it works beside others, and one of them speaks."""
    global _quiet
    _quiet = True


def say(line: str) -> None:
    """Print one line for the user."""
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
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                   TextColumn("{task.fields[rate]}"), TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(title, total=total, rate="")
            started = time.perf_counter()

            def advance(count: int = 1) -> None:
                bar.advance(task, count)
                done = bar.tasks[0].completed
                bar.update(task, rate=f"{done / max(1e-9, time.perf_counter() - started):.0f}/s")

            yield advance
        return
    done, started, last = 0, time.perf_counter(), time.perf_counter()

    def plain(count: int = 1) -> None:
        nonlocal done, last
        done += count
        now = time.perf_counter()
        if now - last >= _QUIET_SECONDS:
            last = now
            rate = done / (now - started)
            left = "" if total is None else f", {max(0, total - done) / max(rate, 1e-9):.0f} s left"
            say(f"{title}: {done}{'' if total is None else f'/{total}'}, {rate:.0f}/s{left}")

    yield plain
