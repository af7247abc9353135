"""Submission and answer files in FashionAI's form, and the official score of one against the other."""

from __future__ import annotations

import csv
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heatcrop.data.labels import parse_letters
from heatcrop.data.readers.collect import clean_image
from heatcrop.data.readers.lines import read_lines
from heatcrop.data.tasks import Task, resolve
from heatcrop.data.texts import Places, first_of_each
from heatcrop.errors import DataError
from heatcrop.files import atomic_path
from heatcrop.metrics.score import mean_score, score_tasks

DECIMALS = 8  # with four, 5 to 8 % of real rows fall into ties


@dataclass(frozen=True, eq=False)
class TaskRows:
    """The rows of one task in a file.

    Attributes
    ----------
    images : tuple of str
        Paths as the file has them, with ``/``.
    values : (N, C) array
        Probabilities (float64) or the codes of letters (int8).
    lines : tuple of int
        Where each row stands in the file.
    """

    images: tuple[str, ...]
    values: NDArray[Any]
    lines: tuple[int, ...]


def read_predictions(path: str | os.PathLike[str], tasks: Sequence[Task]) -> dict[str, TaskRows]:
    """Read ``image,task,p1;p2;…`` rows, by whole task name.

    A file without a header, as it is handed in; or with one that names ``image``, ``task`` and
    ``probabilities`` among its columns, as the ``predict`` command writes it.

    Raises
    ------
    DataError
        On the first fault: an unknown task, a wrong number of probabilities, one that is no finite number
        or below 0, a row of zeros, one that comes twice, too few columns, a file without rows.
    """
    return {name: read.rows() for name, read in _predictions(path, tasks).items()}


def read_answers(path: str | os.PathLike[str], tasks: Sequence[Task]) -> dict[str, TaskRows]:
    """Read ``image,task,letters`` rows, by whole task name; a header ``image,task,label`` is allowed.

    Raises
    ------
    DataError
        On the first fault, as `read_predictions`, or a label that is not one.
    """
    return {name: read.rows() for name, read in _answers(path, tasks).items()}


def score_files(
    predictions_path: str | os.PathLike[str], answers_path: str | os.PathLike[str], tasks: Sequence[Task]
) -> dict[str, Any]:
    """The official score of a submission.

    Parameters
    ----------
    predictions_path, answers_path : path
        The answers may cover some of the tasks; the predictions must cover every answered row.
    tasks : sequence of Task

    Returns
    -------
    dict
        ``{"map", "basic_precision", "tasks": {name: {"ap", "basic_precision", "n"}}, "ignored_rows"}``;
        ``ignored_rows`` counts predictions that nobody asked for.

    Raises
    ------
    DataError
        When a file has a fault, or a prediction is missing.
    """
    predictions, answers = _predictions(predictions_path, tasks), _answers(answers_path, tasks)
    places = {
        name: Places(predictions[name].images if name in predictions else ()).of(asked.images)
        for name, asked in answers.items()
    }
    missing = [
        (asked.lines[i], asked.images[i], name)
        for name, asked in answers.items()
        for i in np.flatnonzero(places[name] < 0).tolist()
    ]
    if missing:
        line, image, name = min(missing)
        more = f" and {len(missing) - 1:,} more rows" if len(missing) > 1 else ""
        raise DataError(
            f"{answers_path}:{line}: {image} of {name}{more} has no prediction in {predictions_path}; "
            "every answered row needs one"
        )
    n_predicted = sum(len(read.images) for read in predictions.values())
    chosen = {name: predictions[name].array()[at] for name, at in places.items()}
    scores = score_tasks(chosen, {name: asked.array() for name, asked in answers.items()})
    mean = mean_score(scores)
    return {
        "map": mean.ap,
        "basic_precision": mean.basic_precision,
        "tasks": {
            name: {"ap": score.ap, "basic_precision": score.basic_precision, "n": score.n}
            for name, score in scores.items()
        },
        "ignored_rows": n_predicted - mean.n,
    }


def write_submission(path: str | os.PathLike[str], rows: Iterable[tuple[str, str, ArrayLike]]) -> None:
    """Write ``image,task,p1;p2;…`` rows without a header, with 8 decimals; whole or not at all.

    Parameters
    ----------
    path : path
        Its folder must exist.
    rows : iterable of (image, task, probabilities)
        ``image`` as annotated (``Images/<task>/<id>.jpg``), ``task`` the whole name, ``(C,)`` floats.
    """
    with atomic_path(Path(path)) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for image, task, probabilities in rows:
            values = np.asarray(probabilities, dtype=np.float64)
            if values.ndim != 1 or not np.isfinite(values).all():
                raise ValueError(f"the probabilities of {image} must be (C,) finite numbers, got {values}")
            writer.writerow([image, task, ";".join(f"{value:.{DECIMALS}f}" for value in values)])


class _Read:
    """What was read of a task so far: of millions of rows, no object a row but the picture's name."""

    def __init__(self, n_classes: int, kind: str) -> None:
        self.images: list[str] = []
        self.lines, self._values, self._n_classes = array("Q"), array(kind), n_classes

    def append(self, image: str, line: int, values: NDArray[Any]) -> None:
        self.images.append(image)
        self.lines.append(line)
        self._values.extend(values.tolist())

    def array(self) -> NDArray[Any]:
        """(N, C) numbers, which lie where they were read to."""
        return np.asarray(self._values).reshape(-1, self._n_classes)

    def rows(self) -> TaskRows:
        return TaskRows(tuple(self.images), self.array(), tuple(self.lines))


def _predictions(path: str | os.PathLike[str], tasks: Sequence[Task]) -> dict[str, _Read]:
    return _read(path, tasks, "probabilities", "d", _parse_probabilities)


def _answers(path: str | os.PathLike[str], tasks: Sequence[Task]) -> dict[str, _Read]:
    return _read(path, tasks, "label", "b", _parse_answer)


def _read(
    path: str | os.PathLike[str],
    tasks: Sequence[Task],
    column: str,
    kind: str,
    parse: Callable[[str, int], NDArray[Any]],
) -> dict[str, _Read]:
    """The rows by task; the first fault of the file is raised."""
    found: dict[str, _Read] = {}
    try:
        for number, name, image, text in _fields(path, column):
            try:
                task = resolve(name, tasks)
                values = parse(text, len(task.classes))
            except (DataError, ValueError) as error:
                raise DataError(f"{path}:{number}: {error}") from None
            image, reason = clean_image(image)
            if reason:
                raise DataError(f"{path}:{number}: {image!r}: {reason}")
            found.setdefault(task.name, _Read(len(task.classes), kind)).append(image, number, values)
    except DataError:
        _refuse_repeated(path, found)  # an earlier fault, which only all rows together show
        raise
    _refuse_repeated(path, found)
    return found


def _refuse_repeated(path: str | os.PathLike[str], found: dict[str, _Read]) -> None:
    """Raise for the first row whose picture an earlier one of its task has."""
    repeated = []
    for name, read in found.items():
        first = first_of_each(read.images)
        later = np.flatnonzero(first < np.arange(len(first)))
        if len(later):
            row = int(later[0])
            repeated.append((read.lines[row], read.images[row], name, read.lines[int(first[row])]))
    if repeated:
        number, image, name, earlier = min(repeated)
        raise DataError(f"{path}:{number}: {image} of {name} is in row {earlier} too; drop one of them")


def _fields(path: str | os.PathLike[str], column: str) -> Iterator[tuple[int, str, str, str]]:
    """``(line, task, image, text)`` of each row, the text being that of `column`."""
    lines = read_lines(path)
    if lines.faults:
        number, _, reason = lines.faults[0]
        raise DataError(f"{path}:{number}: {reason}")
    rows, first = lines.rows, 0
    header = [field.casefold() for field in rows[0][1]]
    if {"image", "task"} <= set(header):
        if column not in header:
            raise DataError(f"{path}:{rows[0][0]}: the header {','.join(header)!r} lacks {column}")
        first = 1
    else:
        header = ["image", "task", column]
    if len(rows) == first:
        raise DataError(f"{path}: holds a header and no rows")
    places = [header.index(name) for name in ("task", "image", column)]
    for number, fields in rows.after(first):
        if len(fields) != len(header):
            expected = f"expected {len(header)}: {','.join(header)}"
            raise DataError(f"{path}:{number}: {len(fields)} columns; {expected}")
        task, image, text = (fields[place] for place in places)
        yield number, task, image, text


def _parse_answer(text: str, n_classes: int) -> NDArray[np.int8]:
    if text == "?":
        raise ValueError("the label is '?': this is a list of questions; expected letters y, m and n")
    return parse_letters(text, n_classes)


def _parse_probabilities(text: str, n_classes: int) -> NDArray[np.float64]:
    parts = text.split(";")
    if len(parts) != n_classes:
        raise ValueError(f"{len(parts)} probabilities; the task has {n_classes} classes (p1;p2;…)")
    try:
        values = np.array([float(part) for part in parts])
    except ValueError:
        raise ValueError(f"{text[:80]!r} holds something that is no number; expected p1;p2;…") from None
    if not np.isfinite(values).all():
        raise ValueError(f"{text[:80]!r} holds a number that is not finite")
    if (values < 0).any() or not values.any():
        raise ValueError(f"{text[:80]!r} are no probabilities; expected none below 0, and one above it")
    return values
