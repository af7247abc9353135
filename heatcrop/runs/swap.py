"""Replace a folder at once: it is built in a staging folder beside, and swapped in when it is complete.

Files in the old folder that the program did not write, such as notes, move to the new one, and a folder of
other files is refused.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from heatcrop.errors import RunError
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.lock import LOCK, NOTE

IsOwn = Callable[[PurePosixPath], bool]
"""Returns whether a file, named relative to the folder, is one that the program writes there."""

# As heatcrop.files.atomic_path names a file that is being written.
_PARTIAL = re.compile(r"\..+\.\d+-\d+\.partial")
_SWAPPED = ("crops", "report")


def staging_folder(home: Path) -> Path:
    """Return where a folder is built: beside it, on the same file system."""
    return home.with_name(f".{home.name}.partial")


def swap_in(home: Path, is_own: IsOwn) -> None:
    """Put the staging folder in the place of `home`; when that fails the old folder stays."""
    new, old = staging_folder(home), _old(home)
    recover(home, keep_staging=True)
    if home.exists():
        for name in _foreign_files(home, is_own):
            if not (new / name).exists():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(home / name, new / name, follow_symlinks=False)
                except OSError:
                    shutil.copy2(home / name, new / name, follow_symlinks=False)
        home.rename(old)
    try:
        new.rename(home)
    except OSError:
        if old.exists():
            old.rename(home)
        raise
    _remove(old)


def recover(home: Path, keep_staging: bool = False) -> None:
    """Undo what a killed process left: put the old folder back, and remove the staging folder."""
    old = _old(home)
    if old.is_dir() and not home.exists():
        old.rename(home)
    _remove(old)
    if not keep_staging:
        shutil.rmtree(staging_folder(home), ignore_errors=True)


def remove_own(home: Path, is_own: IsOwn) -> None:
    """Remove the program's files from a folder, and the folder if nothing else is in it."""
    foreign = set(_foreign_files(home, is_own))
    for place, _, files in os.walk(home, topdown=False):
        for path in (Path(place) / name for name in files):
            if path.relative_to(home) not in foreign:
                path.unlink(missing_ok=True)
        if not os.listdir(place):
            os.rmdir(place)


def is_remnant(path: Path) -> bool:
    """Return whether a file of a new run folder was left by a process that was killed early."""
    return path.name in (LOCK, NOTE) or _PARTIAL.fullmatch(path.name) is not None


def refuse_others(
    path: Path, first_file: Path, whose: str, is_own: Callable[[str], bool], instead: str = ""
) -> None:
    """Raise RunError where a folder to be written has files that are not `whose`, such as "a run's".

    `first_file` is written into such a folder first: where `is_own` accepts its text, the folder is the
    program's. `instead` is what to do where ``--out`` is not the folder itself.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: is a file; {instead or 'give --out a folder'}")
    instead = instead or "give --out a new or an empty folder"
    if first_file.is_file():
        if not is_own(first_file.read_text(encoding="utf-8", errors="replace")):
            raise RunError(f"{first_file}: was not written by this program; {instead}")
    elif path.is_dir() and not all(map(is_remnant, path.iterdir())):
        raise RunError(f"{path}: has files that are not {whose}; {instead}")


def remove_remnants(folder: RunFolder) -> None:
    """Remove unfinished files and folders; call it only while the run folder is owned.

    Crop folders, which have many files, are not searched: they are complete when they have their name.
    """
    crops = (task / "crops" for task in folder.path.iterdir() if task.is_dir())
    # Comparisons with other runs, which are swapped in below the report.
    left = folder.report.parent.glob(".compare-*")
    comparisons = {path.with_name(path.stem[1:]) for path in left if path.suffix in (".partial", ".old")}
    for home in (folder.report.parent, *crops, *comparisons):
        recover(home)
    for place, folders, files in os.walk(folder.path):
        folders[:] = [name for name in folders if name not in _SWAPPED]
        for name in filter(_PARTIAL.fullmatch, files):
            (Path(place) / name).unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    """Remove a folder, or the link to one."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _old(home: Path) -> Path:
    return home.with_name(f".{home.name}.old")


def _foreign_files(home: Path, is_own: IsOwn) -> Iterator[Path]:
    for place, folders, files in os.walk(home):
        inside = PurePosixPath(Path(place).relative_to(home).as_posix())
        for name in [*files, *(name for name in folders if os.path.islink(os.path.join(place, name)))]:
            if not is_own(inside / name):
                yield Path(inside / name)
