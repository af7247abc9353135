"""Submission and answer files in FashionAI's format, and the official score of one against the other."""

from __future__ import annotations

import csv
import os
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
from heatcrop.errors import DataError
from heatcrop.files import atomic_path
from heatcrop.metrics.score import mean_score, score_task

DECIMALS = 8  # with four, 5 to 8 % of real rows are tied


@dataclass(frozen=True, eq=False)
class SubmissionRows:
    """The rows of one task in a file: images, (N, C) probabilities (float64) or label codes (int8), lines."""

    images: tuple[str, ...]
    values: NDArray[Any]
    lines: tuple[int, ...]


def read_submission(path: str | os.PathLike[str], tasks: Sequence[Task]) -> dict[str, SubmissionRows]:
    """Read ``image,task,p1;p2;…`` rows, by full task name.

    The file has no header, like a submission; or one with ``image``, ``task`` and ``probabilities`` among its
    columns, like the output of the ``predict`` command.

    Raises DataError on the first fault: an unknown task, a wrong number of probabilities, one that is not
    finite or below 0, a row of zeros, a repeated row, a wrong number of columns, a file without rows.
    """
    return _read(path, tasks, "probabilities", _parse_probabilities)


def read_answers(path: str | os.PathLike[str], tasks: Sequence[Task]) -> dict[str, SubmissionRows]:
    """Read ``image,task,letters`` rows, by full task name; a header ``image,task,label`` is allowed.

    Raises DataError on the first fault, as in `read_submission`, or an invalid label.
    """
    return _read(path, tasks, "label", _parse_answer)


def score_files(
    submission_path: str | os.PathLike[str], answers_path: str | os.PathLike[str], tasks: Sequence[Task]
) -> dict[str, Any]:
    """Compute the official score of a submission.

    The answers may cover some of the tasks; every answered row needs a prediction.

    Returns
    -------
    dict
        ``{"map", "basic_precision", "tasks": {name: {"ap", "basic_precision", "n"}}, "ignored_rows"}``;
        ``ignored_rows`` counts predictions without an answer.

    Raises
    ------
    DataError
        When a file has a fault, or a prediction is missing.
    """
    submission, answers = read_submission(submission_path, tasks), read_answers(answers_path, tasks)
    missing, scores = [], {}
    for name, answered in answers.items():
        predicted = submission.get(name)
        places = {image: row for row, image in enumerate(predicted.images if predicted else ())}
        rows = np.array([places.get(image, -1) for image in answered.images])
        absent = np.flatnonzero(rows < 0)
        missing += [(answered.lines[row], answered.images[row], name) for row in absent]
        if predicted and not len(absent):
            scores[name] = score_task(predicted.values[rows], answered.values)
    if missing:
        line, image, name = min(missing)
        more = f" and {len(missing) - 1:,} more rows" if len(missing) > 1 else ""
        raise DataError(
            f"{answers_path}:{line}: {image} of {name}{more} has no prediction in {submission_path}; "
            "every answered row needs one"
        )
    mean = mean_score(scores)
    return {
        "map": mean.ap,
        "basic_precision": mean.basic_precision,
        "tasks": {
            name: {"ap": score.ap, "basic_precision": score.basic_precision, "n": score.n}
            for name, score in scores.items()
        },
        "ignored_rows": sum(len(predicted.images) for predicted in submission.values()) - mean.n,
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
            writer.writerow([image, task, ";".join(f"{value:.{DECIMALS}f}" for value in values)])


def _read(
    path: str | os.PathLike[str],
    tasks: Sequence[Task],
    column: str,
    parse: Callable[[str, int], NDArray[Any]],
) -> dict[str, SubmissionRows]:
    """Read the rows by task; raise the first fault of the file."""
    rows: dict[str, dict[str, tuple[int, NDArray[Any]]]] = {}  # line and values by task and image
    for line, name, image, text in _fields(path, column):
        try:
            task = resolve(name, tasks)
            parsed = parse(text, len(task.classes))
        except (DataError, ValueError) as error:
            raise DataError(f"{path}:{line}: {error}") from None
        image, reason = clean_image(image)
        if reason:
            raise DataError(f"{path}:{line}: {image!r}: {reason}")
        earlier, _ = rows.setdefault(task.name, {}).setdefault(image, (line, parsed))
        if earlier != line:
            place = f"{path}:{line}: {image} of {task.name}"
            raise DataError(f"{place} is in row {earlier} too; drop one of them")
    found = {}
    for name, known in rows.items():
        lines, values = zip(*known.values(), strict=True)
        found[name] = SubmissionRows(tuple(known), np.stack(values), lines)
    return found


def _fields(path: str | os.PathLike[str], column: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield ``(line, task, image, text of column)`` of each row."""
    header: list[str] = []
    n_rows = 0
    for line, fields, fault in read_lines(path):
        if fault:
            raise DataError(f"{path}:{line}: {fault}")
        if not fields:
            continue
        if not header:
            header = [field.casefold() for field in fields]
            if {"image", "task"} <= set(header):
                if column not in header:
                    raise DataError(f"{path}:{line}: the header {','.join(header)!r} lacks {column}")
                continue
            header = ["image", "task", column]
        if len(fields) != len(header):
            expected = f"expected {len(header)}: {','.join(header)}"
            raise DataError(f"{path}:{line}: {len(fields)} columns; {expected}")
        n_rows += 1
        task, image, text = (fields[header.index(name)] for name in ("task", "image", column))
        yield line, task, image, text
    if not n_rows:
        raise DataError(f"{path}: holds a header and no rows")


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
