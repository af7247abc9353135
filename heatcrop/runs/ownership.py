"""Never write into a folder of other files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from heatcrop.errors import RunError
from heatcrop.runs.swap import is_remnant


def refuse_others(path: Path, first_file: Path, whose: str, is_own: Callable[[str], bool]) -> None:
    """Raise RunError where a folder to be written has files that are not `whose`, such as "a run's".

    `first_file` is written into such a folder first: where `is_own` accepts its text, the folder is the
    program's.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: is a file; give --out a folder")
    if first_file.is_file():
        if not is_own(first_file.read_text(encoding="utf-8", errors="replace")):
            raise RunError(
                f"{first_file}: was not written by this program; give --out a new or an empty folder"
            )
    elif path.is_dir() and not all(map(is_remnant, path.iterdir())):
        raise RunError(f"{path}: has files that are not {whose}; give --out a new or an empty folder")
