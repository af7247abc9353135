"""Whose a run folder is: this process's for as long as it works on it, and never somebody's other files'."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from heatcrop.cli.config import Config
from heatcrop.cli.config_file import is_resolved
from heatcrop.errors import RunError
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.leftovers import is_ours, sweep
from heatcrop.runs.lock import HeldError, hold


def run_folder(config: Config, out: Path | None) -> RunFolder:
    """The run's folder: `out`, or ``runs/<name>``."""
    return RunFolder(out if out is not None else Path("runs") / config.name)


@contextlib.contextmanager
def claimed(folder: RunFolder, new: bool = True) -> Iterator[None]:
    """Keep a run folder to this process for the length of the block, and clear up after dead ones.

    Parameters
    ----------
    new : bool
        Make the folder where there is none.

    Raises
    ------
    RunError
        When another process works on it, or it is no run's.
    """
    if new:
        make_folder(folder)
    else:
        refuse_no_run(folder)
    try:
        with hold(folder.path):
            sweep(folder)
            yield
    except HeldError as error:
        raise RunError(str(error)) from None


def make_folder(folder: RunFolder) -> None:
    """Make the run folder, or refuse one that holds somebody's other files."""
    refuse_foreign(folder)
    folder.path.mkdir(parents=True, exist_ok=True)


def refuse_foreign(folder: RunFolder) -> None:
    """RunError where a folder holds what no run has left there."""
    refuse_others(folder.path, folder.config, "a run's", is_resolved)


def refuse_others(path: Path, mark: Path, whose: str, ours: Callable[[str], bool]) -> None:
    """RunError where a folder is to be written to that holds somebody's other files.

    Parameters
    ----------
    mark : Path
        The file that is written into such a folder first: where it is ours, so is the folder.
    whose : str
        Such as "a run's", for the message.
    ours : callable
        Whether the text of such a file can be ours: somebody else's may have its name.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: is a file; give --out a folder")
    if mark.is_file():
        if not ours(mark.read_text(encoding="utf-8", errors="replace")):
            raise RunError(f"{mark}: was not written by this program; give --out a new or an empty folder")
    elif path.is_dir() and not all(map(is_ours, path.iterdir())):
        raise RunError(f"{path}: holds files that are not {whose}; give --out a new or an empty folder")


def refuse_no_run(folder: RunFolder) -> None:
    """RunError where a folder is not a run's."""
    if not folder.config.is_file():
        raise RunError(f"{folder.path}: is not a run folder (no config.yaml)")
