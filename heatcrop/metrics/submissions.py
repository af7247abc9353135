"""Submission and answer files in FashionAI's format, and the official score of one against the other."""

from __future__ import annotations

import csv
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heatcrop.data.labels import join_probabilities, parse_letters
from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.lines import DELIMITERS, load_text, parse_lines
from heatcrop.data.readers.root import clean_image
from heatcrop.data.tasks import Task, resolve
from heatcrop.errors import DataError
from heatcrop.files import atomic_path
from heatcrop.metrics.score import scores
from heatcrop.wording import counted


class Row(NamedTuple):
    """A row's line in its file, and its probabilities (float64) or label codes (int8), shape (C,)."""

    line: int
    values: NDArray[Any]


Rows = dict[str, dict[str, Row]]
"""Rows by full task name and image, in the order of the file."""


def read_submission(path: str | os.PathLike[str], tasks: Sequence[Task]) -> Rows:
    """Read ``image,task,p1;p2;…`` rows, by full task name.

    The file has no header, like a submission; or one with ``image``, ``task`` and ``probabilities`` among its
    columns, like the output of the ``predict`` command.

    Raises DataError on the first fault: an unknown task, a wrong number of probabilities, one that is not
    finite or below 0, a row of zeros, a repeated row, a wrong number of columns, a file without rows.
    """
    return _read(path, tasks, "probabilities", _parse_probabilities)


def read_answers(path: str | os.PathLike[str], tasks: Sequence[Task]) -> Rows:
    """Read ``image,task,letters`` rows, by full task name; a header ``image,task,label`` is allowed.

    Instead of letters a row may have the name of its class, and other delimiters than commas divide the
    columns, as in annotations.

    Raises DataError on the first fault, as in `read_submission`, or an invalid label.
    """
    return _read(path, tasks, "label", functools.partial(_parse_answer, Collector(tasks)), DELIMITERS)


def score_files(
    submission_path: str | os.PathLike[str], answers_path: str | os.PathLike[str], tasks: Sequence[Task]
) -> dict[str, Any]:
    """Compute the official score of a submission.

    The answers may cover some of the tasks; every answered row needs a prediction. Returned are ``{"map",
    "basic_precision", "tasks": {name: {"ap", "basic_precision", "n"}}, "ignored_rows"}``; the last counts
    predictions without an answer. Raises DataError when a file has a fault, or a prediction is missing.
    """
    submission, answers = read_submission(submission_path, tasks), read_answers(answers_path, tasks)
    missing: list[tuple[int, str, str]] = []
    figures: dict[str, dict[str, Any]] = {}
    for name, answered in answers.items():
        predicted = submission.get(name, {})
        absent = [(row.line, image, name) for image, row in answered.items() if image not in predicted]
        missing += absent
        if not absent:
            probabilities = np.stack([predicted[image].values for image in answered])
            letters = np.stack([row.values for row in answered.values()])
            found = scores(probabilities, letters)
            precision = found["basic_precision"]
            figures[name] = {"ap": found["map"], "basic_precision": precision, "n": len(letters)}
    if missing:
        line, image, name = min(missing)
        more = f" and {counted(len(missing) - 1, 'more row(s)')} have" if len(missing) > 1 else " has"
        raise DataError(
            f"{answers_path}:{line}: {image} of {name}{more} no prediction in {submission_path}; "
            "every answered row needs one"
        )
    return {
        "map": float(np.mean([one["ap"] for one in figures.values()])),
        "basic_precision": float(np.mean([one["basic_precision"] for one in figures.values()])),
        "tasks": figures,
        "ignored_rows": sum(map(len, submission.values())) - sum(one["n"] for one in figures.values()),
    }


def write_submission(path: str | os.PathLike[str], rows: Iterable[tuple[str, str, ArrayLike]]) -> None:
    """Write ``image,task,p1;p2;…`` rows without a header, with 8 decimals.

    A row is an image as annotated (``Images/<task>/<id>.jpg``), the task's full name and (C,) floats.
    """
    with atomic_path(Path(path)) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for image, task, probabilities in rows:
            values = np.asarray(probabilities, dtype=np.float64)
            if values.ndim != 1 or not np.isfinite(values).all():
                raise ValueError(f"the probabilities of {image} must be (C,) finite numbers, got {values}")
            writer.writerow([image, task, *join_probabilities(values[None])])


def _read(
    path: str | os.PathLike[str],
    tasks: Sequence[Task],
    column: str,
    parse: Callable[[Task, str], NDArray[Any]],
    delimiters: str = ",",
) -> Rows:
    """Read the rows by task; raise the first fault of the file."""
    header: list[str] = []
    rows: Rows = {}
    for line, fields, fault in parse_lines(load_text(path)[0], delimiters):
        place = f"{path}:{line}"
        if fault:
            raise DataError(f"{place}: {fault}")
        if not fields:
            continue
        if not header:
            header = [field.casefold() for field in fields]
            if {"image", "task"} <= set(header):
                if column not in header:
                    raise DataError(f"{place}: the header {','.join(header)!r} lacks {column}")
                continue
            header = ["image", "task", column]
        if len(fields) != len(header):
            raise DataError(
                f"{place}: {counted(len(fields), 'column(s)')}; expected {len(header)}: {','.join(header)}"
            )
        name, image, text = (fields[header.index(key)] for key in ("task", "image", column))
        try:
            task = resolve(name, tasks)
            parsed = parse(task, text)
        except (DataError, ValueError) as error:
            raise DataError(f"{place}: {error}") from None
        image, reason = clean_image(image)
        if reason:
            raise DataError(f"{place}: {image!r}: {reason}")
        earlier = rows.setdefault(task.name, {}).setdefault(image, Row(line, parsed)).line
        if earlier != line:
            raise DataError(f"{place}: {image} of {task.name} is in row {earlier} too; drop one of them")
    if not rows:
        raise DataError(f"{path}: holds a header and no rows")
    return rows


def _parse_answer(known: Collector, task: Task, text: str) -> NDArray[np.int8]:
    if text == "?":
        raise ValueError("the label is '?': this is a list of questions; expected letters y, m and n")
    letters, reason = known.label(task, text)
    try:
        return parse_letters(text if reason else letters, len(task.classes))
    except ValueError as error:
        raise ValueError(f"{error}, or the name of a class: {', '.join(task.classes)}") from None


def _parse_probabilities(task: Task, text: str) -> NDArray[np.float64]:
    parts = text.split(";")
    if len(parts) != len(task.classes):
        raise ValueError(
            f"{counted(len(parts), 'probabilit(y|ies)')}; the task has {len(task.classes)} classes (p1;p2;…)"
        )
    try:
        values = np.array([float(part) for part in parts])
    except ValueError:
        raise ValueError(f"{text[:80]!r} holds something that is no number; expected p1;p2;…") from None
    if not np.isfinite(values).all():
        raise ValueError(f"{text[:80]!r} holds a number that is not finite")
    if (values < 0).any() or not values.any():
        raise ValueError(f"{text[:80]!r} are no probabilities; expected none below 0, and one above it")
    return values
