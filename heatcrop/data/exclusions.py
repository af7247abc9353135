"""Images that a user takes out of training, listed in CSV files such as a task's ``suspects.csv``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.root import Root, clean_image
from heatcrop.data.readers.spelling import composed
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
    """As the list has it."""
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
    folder = "" if path.parent == Path() else f"{path.parent.as_posix()}/"
    collector = Collector(tasks, {})
    collector.start(Root(path.parent, path, folder))
    found = []
    for source, row in collector.table(path, ("image",), f", and optionally 'task' and {_FLAG!r}"):
        flag = row.get(_FLAG, "1")
        if flag not in ("0", "1"):
            raise DataError(f"{source}: {_FLAG} is {flag!r}; expected 1, or 0 to keep the image")
        if flag == "0":
            continue
        try:
            task = resolve(row["task"], tasks).name if row.get("task") else ""
        except DataError as error:
            raise DataError(f"{source}: {error}") from None
        found.append(Exclusion(source, row["image"], task))
    if collector.rejected:  # of annotations such rows are left out; here each is meant
        *_, source, reason = collector.rejected[0]
        raise DataError(f"{source}: {reason}")
    return found


def exclude_rows(
    rows: pd.DataFrame, exclusions: Sequence[Exclusion], known: pd.DataFrame
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Leave rows out of training and validation; rows of the test set stay, so that scores stay comparable.

    Parameters
    ----------
    rows : DataFrame
        With ``image, task, split``.
    exclusions : sequence of Exclusion
    known : DataFrame
        All rows of the data with ``image, task``, also those of tasks that are not asked for.

    Returns
    -------
    rows : DataFrame
        Without those that are excluded.
    notes, problems : list of str
        How many were left out, and how many lines name what no row of `known` is.
    """
    named = {(_key(one.image), one.task) for one in exclusions}
    keys = zip(map(_key, rows["image"]), rows["task"], strict=True)
    chosen = np.array([(image, task) in named or (image, "") in named for image, task in keys], bool)
    tested = chosen & (rows["split"].to_numpy(object) == "test")
    notes, problems = [], []
    if n_left_out := int(np.count_nonzero(chosen & ~tested)):
        notes.append(f"{counted(n_left_out, 'row(s)')} left out of training and validation by data.excluded")
    if n_tested := int(np.count_nonzero(tested)):
        notes.append(
            counted(n_tested, "row(s) of the test set (stays|stay), though data.excluded names (it|them)")
        )
    known_images = known["image"].map(_key)
    pairs = set(zip(known_images, known["task"], strict=True)) | {(image, "") for image in known_images}
    if unknown := [one for one in exclusions if (_key(one.image), one.task) not in pairs]:
        problems.append(
            f"data.excluded names {counted(len(unknown), 'image(s)')} that the data does not have, for "
            f"instance {unknown[0].source}: {unknown[0].image}{' of ' * bool(unknown[0].task)}"
            f"{unknown[0].task}; write names as the annotations do"
        )
    return rows[~chosen | tested], notes, problems


def _key(image: str) -> str:
    """Identify an image, whose name may have backslashes and accents in either Unicode form."""
    return composed(clean_image(image)[0]).lstrip("/")  # images of the data have no slash in front
