"""Fixtures of several test files: commands in this process, and finished tiny runs that are made once."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before MXNet is loaded: more threads than cores compute the same bits, and slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from heatcrop.cli import commands
from tests.tiny_run import TASKS, Reference, comparable_files, file_stamps, make_project

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_deselected = 0

Call = Callable[..., tuple[int, str]]
"""Runs a command; returns its exit code and what it printed."""


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
        f"tasks.{TASKS[1]}.cam.heatmap=plain",
        f"tasks.{TASKS[1]}.cam.augment.shift=0.05",
        f"tasks.{TASKS[1]}.crop.jitters=3",
    )
    for word in ("--set", setting)
)
"""Settings of :func:`shared_run`: what tasks that share a network may have of their own, differs."""


def _finished(home: Path, name: str, *settings: str) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        words = ["run", "--all", "--config", "tiny.yaml", "--out", name, "--jobs", "1", *settings]
        code = _command(patch, home, *words)
    assert code == 0, f"the {name} run ended with code {code}; its messages are in the captured output"
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


def _command(patch: pytest.MonkeyPatch, home: Path, *words: object) -> int:
    patch.chdir(home)
    patch.setattr(sys, "argv", ["pipeline.py", *map(str, words)])
    return commands.main()


@pytest.fixture
def call(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process, in `home`; returns its exit code and what it printed."""

    def command(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = _command(monkeypatch, home, *words)
        return code, "".join(capsys.readouterr())

    return command


def find_chromium() -> str | None:
    """Return the browser named by CHROMIUM, or the first one found."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs a Chromium")


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
