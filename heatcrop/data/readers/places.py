"""Files that may hold annotations: in a folder, and in its folders of splits."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from heatcrop.data.listing import is_own_folder
from heatcrop.data.readers.collect import FindSplit
from heatcrop.errors import DataError
from heatcrop.files import printable


def files_in(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """List a folder's files whose names have one of some endings, in lower case; hidden ones excepted."""
    try:
        names = os.listdir(folder)
    except OSError:  # reported by whoever reads the images
        return []
    found = [folder / name for name in sorted(names) if name[0] != "." and name.casefold().endswith(endings)]
    return [path for path in found if path.is_file()]


def with_splits(folder: Path, split: FindSplit, others: Sequence[str] = ()) -> list[Path]:
    """List a folder and, of those in it, the folders of splits and `others`."""
    try:
        with os.scandir(folder) as entries:  # of many images, only folders with such a name are examined
            named = [one for one in entries if one.name in others or split(one.name)]
            inside = sorted(one.name for one in named if one.is_dir())
    except OSError:
        return [folder]
    return [folder, *(folder / name for name in inside if not is_own_folder(folder / name))]


def finder(
    endings: tuple[str, ...], fits: Callable[[Path], bool], usual_name: str
) -> Callable[[Path, FindSplit], Path | None]:
    """Make the function that finds a folder's only file that fits, see `choose_file`."""
    return lambda folder, _: choose_file(folder, list(filter(fits, files_in(folder, endings))), usual_name)


def choose_file(folder: Path, fitting: Sequence[Path], usual_name: str) -> Path | None:
    """Choose the only one of some files that hold annotations, or the one with the usual name.

    Raises DataError when several files fit and none has the usual name.
    """
    usual = [path for path in fitting if path.name.casefold() == usual_name]
    if len(fitting) > 1 and len(usual) != 1:
        names = ", ".join(printable(path.name) for path in fitting)
        raise DataError(
            f"{folder}: several files could hold the annotations ({names}); give those that are meant, each "
            f"with --data, or call one of them {usual_name}"
        )
    return next(iter(usual or fitting), None)
