"""Progress of long work on a terminal and elsewhere, and messages of other processes."""

import io
import multiprocessing
import re
import time

import pytest
from rich.console import Console

import heatcrop.runs.progress
from heatcrop.runs.progress import forward_to, log, progress, show_forwarded
from tests.tiny_run import wait_until


@pytest.fixture
def printed(monkeypatch):
    """Replace the console by one with the given properties; returns what it prints to."""
    monkeypatch.setattr(heatcrop.runs.progress, "_LINE_SECONDS", 0)

    def replace(**properties):
        out = io.StringIO()
        console = Console(file=out, width=100, **properties)
        monkeypatch.setattr(heatcrop.runs.progress, "console", console)
        return out

    return replace


def plain(out):
    """Return what was printed without control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_progress_is_lines_where_there_is_no_terminal(printed):
    out = printed()
    with progress("work", 4) as bar:
        bar(1)
        bar(2)
    lines = out.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["work: 1/4", "work: 3/4"]
    assert re.fullmatch(r"work: 3/4, \d+/s, 0 s left", lines[1])


def test_lines_are_rare(printed, monkeypatch):
    out = printed()
    monkeypatch.setattr(heatcrop.runs.progress, "_LINE_SECONDS", 60)
    with progress("work", 4) as bar:
        bar(1)
    assert out.getvalue() == ""


def test_progress_is_a_bar_with_rate_and_time_left_on_a_terminal(printed):
    out = printed(force_terminal=True)
    with progress("work", 4) as bar:
        for _ in range(3):
            bar(1)
            time.sleep(0.01)  # a rate needs steps at different times
        wait_until(lambda: re.search(r"work .*3/4.*/s.*:\d\d", plain(out)), seconds=30)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_no_color_is_obeyed(printed, monkeypatch, no_color, coloured):
    monkeypatch.setenv("NO_COLOR", no_color)
    out = printed(force_terminal=True, color_system="standard")
    with progress("work", 4) as bar:
        bar(3)
    assert bool(re.search(r"\x1b\[[0-9;]*(3[1-7]|9[1-7])m", out.getvalue())) == coloured


def work(queue, name):
    forward_to(queue.put)
    with progress(name, 2) as bar:
        bar(1)
        log(f"{name} logs")
        bar(1)


def test_the_parent_process_shows_the_messages_of_workers_in_order(printed):
    out = printed()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with show_forwarded(queue):
        workers = [context.Process(target=work, args=(queue, name)) for name in ("one", "two")]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0, 0]
    lines = [line.split(",")[0] for line in out.getvalue().splitlines()]
    for name in ("one", "two"):
        assert [line for line in lines if line.startswith(name)] == [
            f"{name}: 1/2",
            f"{name} logs",
            f"{name}: 2/2",
        ]
