"""Fixtures of several test files: commands in this process, and finished tiny runs that are made once."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Before MXNet is loaded: more threads than cores compute the same bits, and slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from heatcrop.cli import commands
from tests.tiny_run import TASKS, TINY, Reference, comparable_files, differences, file_stamps, make_project

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_deselected = 0

Call = Callable[..., tuple[int, str]]
"""Runs a command; returns its exit code and what it printed."""


@pytest.fixture(scope="session", autouse=True)
def no_fsync() -> Iterator[None]:
    """Do not wait for the disk: only a loss of power, which no test can cause, makes a difference."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heatcrop.files.os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few rendered images and ``tiny.yaml``, see :mod:`tests.tiny_run`."""
    home = tmp_path_factory.mktemp("tiny")
    make_project(home)
    return home


@pytest.fixture(scope="session")
def home(tiny_home: Path) -> Path:
    """The folder that :func:`call` runs commands in; test files with data of their own override it."""
    return tiny_home


@pytest.fixture(scope="session")
def finished_run(tiny_home: Path) -> Iterator[Path]:
    """A finished tiny run that tests only read."""
    yield from _finished(tiny_home, "run")


@pytest.fixture(scope="session")
def shared_run(tiny_home: Path) -> Iterator[Path]:
    """A finished tiny run whose tasks share a network, that tests only read."""
    yield from _finished(tiny_home, "shared", *SHARED)


SHARED = tuple(
    word
    for setting in (
        "network.shared_trunk=true",
        f"tasks.{TASKS[0]}.crop.rule.spread=true",
        f"tasks.{TASKS[1]}.cam.heatmap=plain",
        f"tasks.{TASKS[1]}.cam.augment.shift=0.05",
        f"tasks.{TASKS[1]}.crop.jitters=3",
        f"tasks.{TASKS[1]}.crop.rule.place=both",
    )
    for word in ("--set", setting)
)
"""Settings of :func:`shared_run`: what tasks that share a network may have of their own, differs."""


def _finished(home: Path, name: str, *settings: str) -> Iterator[Path]:
    with without_plots():
        code, printed = run_command(home, "run", "--all", *TINY, "--out", name, "--jobs", "1", *settings)
    assert code == 0, printed
    before = file_stamps(home / name)
    yield home / name
    assert file_stamps(home / name) == before, f"a test has changed {name}, which others read; copy it"


@pytest.fixture
def run_copy(finished_run: Path) -> Iterator[Path]:
    """A copy of the finished run that a test may change, at the same depth so that links in it hold."""
    yield from _copy(finished_run)


@pytest.fixture
def shared_copy(shared_run: Path) -> Iterator[Path]:
    """A copy of the run whose tasks share a network."""
    yield from _copy(shared_run)


def _copy(run: Path) -> Iterator[Path]:
    copy = run.with_name(f"copy-of-{run.name}")
    shutil.copytree(run, copy, symlinks=True)
    yield copy
    shutil.rmtree(copy)


@pytest.fixture(scope="session")
def undisturbed(finished_run: Path) -> Reference:
    """The files of the finished run, to compare others with."""
    return Reference(comparable_files(finished_run), 0.0, 0.0)


def run_command(home: Path, *words: object) -> tuple[int, str]:
    """Run a command in this process, in a folder; return its exit code and what it printed."""
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        patch.chdir(home)
        patch.setattr(sys, "argv", ["pipeline.py", *map(str, words)])
        code = commands.main()
    return code, printed.getvalue()


@pytest.fixture(scope="module")
def call(home: Path) -> Call:
    """Run a command in this process, in `home`; returns its exit code and what it printed."""
    return functools.partial(run_command, home)


@contextlib.contextmanager
def without_plots() -> Iterator[None]:
    """Leave the plots out of reports; they take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heatcrop.report.plots.task_plots", lambda *_: [])
        patch.setattr("heatcrop.report.plots.scores_plot", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def no_plots() -> Iterator[None]:
    """See :func:`without_plots`."""
    with without_plots():
        yield


@pytest.fixture
def resume(call: Call, run_copy: Path, undisturbed: Reference, no_plots: None) -> Callable[..., list[str]]:
    """Give the command that made the run again; returns how the copy differs from an undisturbed run."""

    def command() -> list[str]:
        code, printed = call("run", "--all", *TINY, "--out", run_copy.name, "--jobs", "1")
        assert code == 0, printed
        return differences(run_copy, undisturbed)

    return command


def find_chromium() -> str | None:
    """Return the browser named by CHROMIUM, or the first one found."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium."""
    from playwright.sync_api import sync_playwright

    from tests.browser import SWITCHES

    path = find_chromium()
    assert path, "no Chromium was found: apt-get install -y chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, pages: dict[str, Path]) -> Iterator[Callable[..., Page]]:
    """Open one of a test file's `pages`, see :func:`tests.browser.visits`."""
    from tests.browser import visits

    yield from visits(browser, pages)


@pytest.fixture(scope="module")
def opened(browser: Browser, pages: dict[str, Path]) -> Iterator[Callable[..., Page]]:
    """Open a page once for several tests, which start from what "Reset" leaves."""
    from tests.browser import visits

    for visit in visits(browser, pages):
        yield functools.cache(visit)


@pytest.fixture
def page(opened: Callable[..., Page]) -> Page:
    """The report with the filters that it opens with."""
    page = opened("report")
    page.click("#clear")
    return page


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs a Chromium")
    config.addinivalue_line("markers", "soak: takes long and repeats what shorter tests cover; see make soak")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect browser tests where there is no browser, except in CI."""
    global _deselected
    if find_chromium() or os.environ.get("CI"):
        return
    found = [item for item in items if item.get_closest_marker("browser")]
    items[:] = [item for item in items if item not in found]
    config.hook.pytest_deselected(items=found)
    _deselected = len(found)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _deselected:
        terminalreporter.write_line(
            f"{_deselected} browser tests were deselected: no Chromium was found. "
            "To run them too: apt install chromium (or set CHROMIUM to the path of one)"
        )
