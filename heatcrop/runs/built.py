"""Folders that are built beside, and take their place when they are complete.

What somebody else has put into such a folder goes along with each rebuilding: notes, a copy, a picture.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

Ours = Callable[[PurePosixPath], bool]
"""Whether a file, named from its built folder on, is one that this program writes there."""


def is_crop(name: PurePosixPath) -> bool:
    """Whether a file of a crop folder is a crop: ``<split>/<class>/<picture id>.jpg``."""
    return len(name.parts) == 3 and name.suffix == ".jpg"


def is_sheet(name: PurePosixPath) -> bool:
    """Whether a file of a folder of sheets is a sheet: ``<split>/<class>.jpg``."""
    return len(name.parts) == 2 and name.suffix == ".jpg"


def building(home: Path) -> Path:
    """Where a folder is built: beside, on the same file system, under a name that nobody types."""
    return home.with_name(f".{home.name}.partial")


def _aside(home: Path) -> Path:
    return home.with_name(f".{home.name}.old")


def take_place(home: Path, ours: Ours) -> None:
    """Put a built folder where an older one may lie; when that fails the older one stays."""
    new, old = building(home), _aside(home)
    sweep_built(home, keep_building=True)
    if home.exists():
        for name in _others(home, ours):
            _copy(home / name, new / name)
        home.rename(old)
    try:
        new.rename(home)
    except OSError:
        if old.exists():
            old.rename(home)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sweep_built(home: Path, keep_building: bool = False) -> None:
    """Clear up what a killed process left of a built folder; one that was about to be replaced comes back."""
    old = _aside(home)
    if old.is_dir() and not home.exists():
        old.rename(home)
    shutil.rmtree(old, ignore_errors=True)
    if not keep_building:
        shutil.rmtree(building(home), ignore_errors=True)


def clear_built(home: Path, ours: Ours) -> None:
    """Take away what is ours of a folder, and the folder if nothing else is in it."""
    others = set(_others(home, ours))
    for place, _, files in os.walk(home, topdown=False):
        for name in files:
            path = Path(place) / name
            if path.relative_to(home) not in others:
                path.unlink(missing_ok=True)
        if not os.listdir(place):
            os.rmdir(place)


def _others(home: Path, ours: Ours) -> Iterator[Path]:
    """Names of files that are not ours, from `home` on."""
    for place, folders, files in os.walk(home):
        inside = PurePosixPath(Path(place).relative_to(home).as_posix())
        for name in [*files, *(name for name in folders if os.path.islink(os.path.join(place, name)))]:
            if not ours(inside / name):
                yield Path(inside / name)


def _copy(path: Path, to: Path) -> None:
    """The same file at a second place, which costs nothing where there are hard links."""
    if to.exists():
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, to, follow_symlinks=False)
    except OSError:
        shutil.copy2(path, to, follow_symlinks=False)
