"""Predict pictures nobody has labelled, from a finished run folder or an exported one."""

from __future__ import annotations

import contextlib
import csv
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from heatcrop.data.dataset import survey_images
from heatcrop.data.images import SUFFIXES
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError
from heatcrop.files import NOT_UTF8, printable
from heatcrop.nets.devices import DeviceName
from heatcrop.predict.outputs import BOX_COLUMNS, COLUMNS, table
from heatcrop.predict.predictor import Answer, Predictor, look_once, open_pipeline
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import DECIMALS, join_probabilities
from heatcrop.runs.progress import log, progress

# Imports nothing of MXNet, GluonCV or pandas: a test predicts where they are not installed.

_CHUNK = 256


class Named(Sequence[tuple[str, str]]):
    """Pictures as (image, path); of millions, no path is kept that can be put together.

    Attributes
    ----------
    images : sequence of str
        What the answer file calls them: relative to the folder, or as the CSV has it.
    paths : sequence of str
    """

    def __init__(self, images: Sequence[str], paths: Sequence[str]) -> None:
        self.images, self.paths = images, paths

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, place: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, place: slice) -> Named: ...
    def __getitem__(self, place: int | slice) -> tuple[str, str] | Named:
        if isinstance(place, slice):
            return Named(self.images[place], self.paths[place])
        return self.images[place], self.paths[place]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(self.images, self.paths, strict=True)


def find_images(source: Path) -> Named:
    """List the pictures that a picture, a folder or a CSV names."""
    if source.is_dir():
        found = list(_below(str(source)))
        if not found:
            raise DataError(f"{source}: holds no picture ({', '.join(sorted(SUFFIXES))})")
        return Named(found, [f"{source}/{name}" for name in found])
    if source.exists() and not source.is_file():  # a pipe's other end may never come
        raise DataError(f"{source}: is no regular file; give a picture, a folder of pictures or a CSV file")
    if source.suffix.lower() == ".csv":
        images = _from_csv(source)
        return Named(images, [str(source.parent / image) for image in images])
    if not source.is_file():
        raise DataError(f"{source}: no such picture, folder or CSV file")
    return Named([source.name], [str(source)])


def _below(root: str) -> Iterator[str]:
    """Pictures below a folder, relative to it, folder by folder; what cannot be read is passed by."""
    waiting = [("", True)]
    while waiting:
        name, is_folder = waiting.pop()
        path = os.path.join(root, name)
        if is_folder:
            with contextlib.suppress(OSError), os.scandir(path) as entries:
                inside = [
                    (f"{name}/{e.name}" if name else e.name, e.is_dir(follow_symlinks=False)) for e in entries
                ]
                waiting += sorted(inside, reverse=True)
        elif os.path.splitext(name)[1].lower() in SUFFIXES and os.path.isfile(path):
            yield name


def _from_csv(source: Path) -> list[str]:
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or []
            if "image" not in columns:
                found = ", ".join(columns)[:200] or "nothing"
                raise DataError(f"{source}:1: no column 'image'; found {found}")
            named = [(row["image"] or "").strip().replace("\\", "/") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source}: cannot be read as CSV ({str(error).splitlines()[0]})") from None
    images = [image for image in dict.fromkeys(named) if image]
    if not images:
        raise DataError(f"{source}: names no picture below its header; put one a row into the column 'image'")
    return images


def predict_images(
    source: Path,
    folder: RunFolder,
    out: Path,
    wanted: Sequence[str],
    engine: str,
    seen: Callable[[Predictor, Sequence[tuple[str, str, tuple[int, int]]], list[Answer]], None] | None = None,
    boxes: Path | None = None,
    device: DeviceName = "auto",
) -> tuple[int, int, list[tuple[str, str]]]:
    """Predict and write image,task,class,confidence,probabilities.

    Parameters
    ----------
    source, out : Path
        See :func:`heatcrop.predict.outputs.check_targets`, which is to be asked first.
    engine : {'auto', 'onnx', 'mxnet'}
        See :func:`open_pipeline`.
    seen : callable or None
        Given each task's predictor, its pictures (image, path, size) and all that was said of them.
    boxes : Path or None
        Where image,task,x0,y0,x1,y1,fallback goes: what was cut out of each picture, in its pixels.
    device : {'auto', 'cpu', 'gpu'}
        Of this machine, whatever the run was trained on.

    Returns
    -------
    rows, pictures : int
        Written rows and good pictures.
    bad : list of (image, reason)
        Pictures that could not be read.
    """
    pipeline = open_pipeline(folder, wanted, engine, device)
    named = find_images(source)
    with progress("check pictures", len(named)) as bar:
        found, reasons = survey_images(named.paths, pipeline.threads, bar)
    told = zip(named.images, reasons, strict=True)
    reasons = [reason if printable(image) == image else NOT_UTF8 for image, reason in told]
    bad = [(printable(image), reason) for image, reason in zip(named.images, reasons, strict=True) if reason]
    if len(bad) == len(named):
        raise DataError(f"{source}: no readable picture; for instance {bad[0][0]}: {bad[0][1]}")
    usable = np.flatnonzero([not reason for reason in reasons])
    with table(out, COLUMNS) as write, table(boxes, BOX_COLUMNS) as write_boxes:
        for tasks in pipeline.groups:
            predictors = [pipeline.predictor(task) for task in tasks]
            answers: list[list[Answer]] = [[] for _ in tasks]
            label = tasks[0].short if len(tasks) == 1 else f"{len(tasks)} tasks"
            with (
                _in_turn(write, len(tasks)) as writers,
                _in_turn(write_boxes, len(tasks)) as box_writers,
                progress(f"{label}: predict", len(usable)) as bar,
            ):
                for start in range(0, len(usable), _CHUNK):
                    part = usable[start : start + _CHUNK]
                    paths, images = [named.paths[i] for i in part], [named.images[i] for i in part]
                    for number, looked in enumerate(look_once(predictors, paths)):
                        answer = predictors[number](paths, found[part], looked)
                        if seen is not None:
                            answers[number].append(answer)
                        writers[number](_rows(tasks[number], images, answer.fused))
                        box_writers[number](_box_rows(tasks[number], images, answer))
                    bar(len(part))
            if seen is not None:
                pictures = [(*named[i], (int(found[i, 0]), int(found[i, 1]))) for i in usable]
                for predictor, said in zip(predictors, answers, strict=True):
                    seen(predictor, pictures, said)
    for image, reason in bad[:10]:
        log(f"left out {image}: {reason}")
    return len(usable) * len(pipeline.tasks), len(usable), bad


@contextlib.contextmanager
def _in_turn(write: Callable[[Any], None], count: int) -> Iterator[list[Callable[[Any], None]]]:
    """Give a writer a task; what they write in any order is laid down task after task.

    The first one's rows go where they belong at once, the others' wait in files without a name.
    """
    with contextlib.ExitStack() as stack:
        waiting = [
            stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", newline=""))
            for _ in range(count - 1)
        ]
        yield [write, *(csv.writer(file).writerows for file in waiting)]
        for file in waiting:
            file.seek(0)
            write(csv.reader(file))


def _box_rows(task: Task, images: Sequence[str], answer: Answer) -> Iterator[tuple[Any, ...]]:
    for image, box, why in zip(images, answer.boxes.tolist(), answer.fallbacks, strict=True):
        yield image, task.name, *box, why


def _rows(task: Task, images: Sequence[str], fused: np.ndarray) -> Iterator[tuple[str, ...]]:
    names = [task.classes[i] for i in fused.argmax(axis=1)]
    confident = [f"{p:.{DECIMALS}f}" for p in fused.max(axis=1)]
    return zip(images, [task.name] * len(images), names, confident, join_probabilities(fused), strict=True)
