"""Images that a user takes out of training, listed in CSV files such as a task's ``suspects.csv``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from heatcrop.data.readers.lines import DELIMITERS, read_lines
from heatcrop.data.tasks import Task, resolve
from heatcrop.errors import DataError
from heatcrop.wording import counted

_FLAG = "suspect"


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """A line of a list."""

    source: str
    """``file:line``, for messages."""
    image: str
    """As annotated."""
    task: str
    """Full name; '' for every task that has the image."""


def read_exclusions(path: Path, tasks: Sequence[Task]) -> list[Exclusion]:
    """Read a list of images.

    Parameters
    ----------
    path : Path
        CSV with a column ``image``. In a column ``task``, each row names its task, by full or short name; in
        a column ``suspect``, rows with 0 are ignored, so that ``suspects.csv`` can be given as it is.
    tasks : sequence of Task

    Raises
    ------
    DataError
        When the file cannot be read, has no column ``image``, or a row names another task or a flag other
        than 0 and 1; with file and line.
    """
    rows = ((number, row, fault) for number, row, fault in read_lines(path, delimiters=DELIMITERS) if row)
    first, header, fault = next(rows, (1, [], ""))
    columns = {name.casefold(): at for at, name in enumerate(header)}
    if fault or "image" not in columns:
        raise DataError(
            f"{path}:{first}: has no column image; expected the header image, or image,task, in UTF-8"
        )
    found = []
    for number, row, fault in rows:
        source = f"{path}:{number}"
        if fault or len(row) != len(header):
            fault = fault or f"{counted(len(row), 'column(s)')}; the header has {len(header)}"
            raise DataError(f"{source}: {fault}")
        cells = {name: row[at] for name, at in columns.items()}
        flag = cells.get(_FLAG, "1")
        if flag not in ("0", "1"):
            raise DataError(f"{source}: {_FLAG} is {flag!r}; expected 1, or 0 to keep the image")
        if flag == "0":
            continue
        try:
            task = resolve(cells["task"], tasks).name if cells.get("task") else ""
        except DataError as error:
            raise DataError(f"{source}: {error}") from None
        found.append(Exclusion(source, cells["image"], task))
    return found


def exclude_rows(
    rows: pd.DataFrame, exclusions: Sequence[Exclusion]
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Leave rows out of training and validation; rows of the test set stay, so that scores stay comparable.

    Parameters
    ----------
    rows : DataFrame
        With ``image, task, split``.
    exclusions : sequence of Exclusion

    Returns
    -------
    rows : DataFrame
        Without those that are excluded.
    notes, problems : list of str
        How many were left out, and of how many lines no row has the image.
    """
    named: dict[str, set[str]] = {}
    for one in exclusions:
        named.setdefault(one.image, set()).add(one.task)
    images, tasks = rows["image"].to_numpy(object), rows["task"].to_numpy(object)
    chosen = np.fromiter(
        (
            not named.get(image, set()).isdisjoint(("", task))
            for image, task in zip(images, tasks, strict=True)
        ),
        bool,
        len(rows),
    )
    tested = chosen & (rows["split"].to_numpy(object) == "test")
    notes, problems = [], []
    if n_left_out := int(np.count_nonzero(chosen & ~tested)):
        notes.append(f"{counted(n_left_out, 'row(s)')} left out of training and validation by data.excluded")
    if n_tested := int(np.count_nonzero(tested)):
        notes.append(
            counted(n_tested, "row(s) of the test set (stays|stay), though data.excluded names (it|them)")
        )
    known = set(images)
    if unknown := [one for one in exclusions if one.image not in known]:
        problems.append(
            f"data.excluded names {counted(len(unknown), 'image(s)')} that the data does not have, for "
            f"instance {unknown[0].source}: {unknown[0].image}; write names as the annotations do"
        )
    return rows[~chosen | tested], notes, problems
