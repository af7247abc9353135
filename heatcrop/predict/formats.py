"""Folders in the formats of other tools, which never replace a user's other file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from heatcrop.data.labels import DECIMALS
from heatcrop.data.listing import CONVERSION_RECORD
from heatcrop.data.readers.root import clean_image
from heatcrop.data.tasks import Task
from heatcrop.data.writers import FORMATS
from heatcrop.data.writers.records import Record
from heatcrop.errors import RunError
from heatcrop.files import atomic_path, write_json, write_text
from heatcrop.predict.images import Image
from heatcrop.predict.predictor import Prediction
from heatcrop.runs.progress import progress
from heatcrop.runs.swap import refuse_others

# Imports nothing of pandas: prediction works where it is not installed.


def format_folder(out: Path, name: str, boxes: Path | None = None) -> Path:
    """Return the folder of a table's predictions in a format, ``<predictions>_<format>`` beside it.

    RunError where it cannot be written, or where the table of the `boxes` would be in it.
    """
    folder = out.with_name(f"{out.stem}_{name}")
    if boxes is not None and Path(os.path.realpath(boxes)).is_relative_to(os.path.realpath(folder)):
        raise RunError(f"{boxes}: is in the folder of --format {name}; give another --boxes")
    refuse_other_files(folder, "give another --out, or leave --format out")
    return folder


def refuse_other_files(folder: Path, instead: str = "") -> None:
    """Raise RunError where a folder has files that are not of a format that this program wrote."""
    record = folder / CONVERSION_RECORD
    refuse_others(folder, record, "a conversion's", lambda text: _files(text) is not None, instead)


def prediction_records(
    name: str, task: Task, images: Sequence[Image], predictions: Sequence[Prediction]
) -> Iterator[Record]:
    """Yield the predictions of one task in a format, given those of the images in chunks."""
    boxes = (box for part in predictions for box in part.boxes.tolist())
    fused = (row for part in predictions for row in part.fused.tolist())
    for image, box, row in zip(images, boxes, fused, strict=True):
        file = os.path.abspath(image.path) if FORMATS[name].absolute else image.name
        yield Record(file, image.size, task.name, task.classes, probabilities=rounded(row), crop=tuple(box))


def rounded(probabilities: Sequence[float]) -> tuple[float, ...]:
    """Round probabilities as in the tables."""
    return tuple(round(value, DECIMALS) for value in probabilities)


def write_format(folder: Path, files: Mapping[str, Any], images: Mapping[str, str] | None = None) -> None:
    """Write a folder's files, and copies of images, by name.

    What an earlier conversion left and this one does not have is removed. RunError where a file to be written
    exists and is not the program's.
    """
    images = images or {}
    record = folder / CONVERSION_RECORD
    names = [*files, *images]
    old = set(_files(record.read_text(encoding="utf-8")) or ()) if record.is_file() else set()
    for name in names:
        if name not in old and os.path.lexists(folder / name):
            raise RunError(
                f"{folder / name}: was not written by this program; move it away, or give another --out"
            )
    write_json(record, {"files": sorted({*old, *names})})  # first: an interruption leaves the program's files
    for name in old.difference(names):
        (folder / name).unlink(missing_ok=True)
    with progress("copy images", len(images)) as bar:
        for name, path in images.items():
            with atomic_path(folder / name, durable=False) as partial:
                shutil.copyfile(path, partial)
            bar(1)
    for name, value in files.items():
        if isinstance(value, str):
            write_text(folder / name, value)
        else:
            write_json(folder / name, value)
    write_json(record, {"files": sorted(names)})


def _files(text: str) -> list[str] | None:
    """Return the files that a record lists, all below its folder; None where it is no record."""
    try:
        values = json.loads(text)
        names = values["files"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    valid = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if valid and not any(clean_image(name)[1] for name in names) else None
