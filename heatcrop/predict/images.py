"""Predict unlabelled images with a finished run folder or an exported one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from pathlib import Path

import numpy as np

from heatcrop.data.dataset import survey_images
from heatcrop.data.images import SUFFIXES
from heatcrop.data.labels import DECIMALS, join_probabilities
from heatcrop.data.listing import find_below, skip_lines
from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.root import CONTROL, CONTROL_REASON, Access, Root, clean_image
from heatcrop.data.readers.table import ENDINGS
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError
from heatcrop.files import NOT_UTF8, printable
from heatcrop.predict.outputs import BOX_COLUMNS, COLUMNS, SURE_COLUMNS, table
from heatcrop.predict.predictor import Pipeline, Prediction
from heatcrop.runs.predictions import confidences
from heatcrop.runs.progress import log, progress

# Imports nothing of MXNet, GluonCV or pandas: a test predicts where they are not installed.

_CHUNK = 256


@dataclasses.dataclass(frozen=True)
class Image:
    """An image to predict."""

    name: str
    """Relative to the given folder, or as the given CSV has it."""
    path: str
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels; (0, 0) until the image is read."""


def find_images(source: Path) -> list[Image]:
    """List the images that an image file, a folder or a CSV names; log what is skipped below a folder."""
    if source.is_dir():
        names, skipped = find_below(source)
        _report(source, names, skipped, f"holds no image ({', '.join(sorted(SUFFIXES))})")
        return [Image(name, f"{source}/{name}") for name in names]
    if source.exists() and not source.is_file():  # opening a pipe would wait for its other end
        raise DataError(f"{source}: is no regular file; give an image, a folder of images or a CSV file")
    if source.name.casefold().endswith(ENDINGS):
        return _from_csv(source)
    if not source.is_file():
        raise DataError(f"{source}: no such image, folder or CSV file")
    return [Image(source.name, str(source))]


def _from_csv(source: Path) -> list[Image]:
    """List the images that a table names in its column ``image``, each once; log what is left out."""
    folder, collector = source.parent, Collector(())
    prefix = "" if folder == Path() else f"{folder.as_posix()}/"
    root = Root(folder, source, prefix, access=Access(follow_links=True))
    collector.start(root)
    images: dict[str, Image] = {}  # by path
    for place, row in collector.table(source, ("image",)):
        name, _ = clean_image(row["image"])  # here it may be outside the table's folder
        path = str(folder / (name if os.path.isabs(name) else root.find(name)[0]))
        if not name:
            collector.reject("", "", place, "rows without a name in the column 'image'; add it")
        elif path in images:
            collector.reject(name, "", place, "rows that name an image again, which is predicted once")
        else:
            images[path] = Image(name, path)
    skipped = [(os.path.basename(place), reason) for *_, place, reason in collector.rejected]
    fix = "names no image below its header; give one per row in the column 'image'"
    _report(source, images, skipped, fix)
    return list(images.values())


def _report(source: Path, found: Sized, skipped: Sequence[tuple[str, str]], empty: str) -> None:
    """Log what is skipped; DataError, whose message has it, where nothing is found."""
    lines = list(skip_lines(skipped))
    if not found:
        raise DataError("; ".join([f"{source}: {empty}", *lines]))
    for line in lines:
        log(f"{source}: {line}")


def predict_images(
    source: Path,
    pipeline: Pipeline,
    out: Path,
    boxes: Path | None = None,
    on_task: Callable[[Task, Sequence[Image], Sequence[Prediction]], None] | None = None,
    sure: Mapping[str, float] | None = None,
) -> tuple[int, list[tuple[str, str]]]:
    """Predict images and write image,task,class,confidence,probabilities.

    `boxes` gets image,task,x0,y0,x1,y1,fallback: each image's crop, in its pixels. `on_task` is called with
    each task, the images and the predictions of their chunks. `sure` has, by task, the confidence from which
    on a prediction is sure: the table then has a column of that name, true or false. Returns the number of
    predicted images, and name and reason of those that could not be read.
    """
    found = find_images(source)
    with progress("check images", len(found)) as bar:
        sizes, reasons = survey_images([image.path for image in found], pipeline.form.threads, bar)
    images, bad = [], []
    for image, size, reason in zip(found, sizes.tolist(), reasons, strict=True):
        if printable(image.name) != image.name:
            reason = NOT_UTF8
        elif CONTROL.search(image.name):
            reason = CONTROL_REASON
        if reason:
            bad.append((printable(image.name), reason))
        else:
            images.append(dataclasses.replace(image, size=tuple(size)))
    if not images:
        raise DataError(f"{source}: no readable image; for instance {bad[0][0]}: {bad[0][1]}")
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    with (
        table(out, COLUMNS if sure is None else SURE_COLUMNS) as write,
        table(boxes, BOX_COLUMNS) as write_boxes,
    ):
        for tasks in pipeline.groups():
            predictions: list[list[Prediction]] = [[] for _ in tasks]
            label = tasks[0].short if len(tasks) == 1 else f"{len(tasks)} tasks"
            with progress(f"{label}: predict", len(images)) as bar:
                for chunk in chunks:
                    paths, sizes = [i.path for i in chunk], np.array([i.size for i in chunk])
                    for parts, part in zip(predictions, pipeline.predict(tasks, paths, sizes), strict=True):
                        if on_task is None:
                            part = dataclasses.replace(part, heatmaps=part.heatmaps[:0])
                        parts.append(part)
                    bar(len(chunk))
            # The tables are ordered by task, but tasks that share a network are predicted together.
            for task, parts in zip(tasks, predictions, strict=True):
                for chunk, part in zip(chunks, parts, strict=True):
                    write(_rows(task, chunk, part.fused, None if sure is None else sure[task.name]))
                    found_boxes = zip(chunk, part.boxes.tolist(), part.fallbacks, strict=True)
                    write_boxes((image.name, task.name, *box, why) for image, box, why in found_boxes)
                if on_task is not None:
                    on_task(task, images, parts)
    for name, reason in bad[:10]:
        log(f"skipped {name}: {reason}")
    return len(images), bad


def _rows(
    task: Task, images: Sequence[Image], fused: np.ndarray, least: float | None
) -> Iterator[tuple[str, ...]]:
    found = zip(images, fused.argmax(axis=1), confidences(fused), join_probabilities(fused), strict=True)
    for image, top, confidence, probabilities in found:
        row = image.name, task.name, task.classes[top], f"{confidence:.{DECIMALS}f}", probabilities
        yield row if least is None else (*row, str(bool(confidence >= least)).lower())
