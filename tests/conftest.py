"""What several files of tests use, and what is left out on a machine without a browser, which is told."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heatcrop.cli import commands

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_left_out = 0


@pytest.fixture
def call(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run a command in this process, in the test file's own `home`; its exit code and what it printed."""

    def command(*words: object) -> tuple[int, str]:
        monkeypatch.chdir(home)
        monkeypatch.setattr(sys, "argv", ["pipeline.py", *map(str, words)])
        capsys.readouterr()
        code = commands.main()
        return code, "".join(capsys.readouterr())

    return command


def find_chromium() -> str | None:
    """The browser named by CHROMIUM, or the first one found."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs a Chromium")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave browser tests out for want of a browser, but never where a machine says what is tested."""
    global _left_out
    if find_chromium() or os.environ.get("CI"):
        return
    without = [item for item in items if item.get_closest_marker("browser")]
    items[:] = [item for item in items if item not in without]
    config.hook.pytest_deselected(items=without)
    _left_out = len(without)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left_out:
        terminalreporter.write_line(
            f"{_left_out} tests of the page in a browser were left out: no Chromium was found. "
            "To run them too: apt install chromium (or set CHROMIUM to the path of one)"
        )
