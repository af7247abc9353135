"""Write rendered images as a data set in FashionAI's layout."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import blake2b
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from heatcrop.data.tasks import FASHIONAI
from heatcrop.errors import RunError
from heatcrop.files import write_atomic
from heatcrop.runs.processes import end_with_parent, interrupts_blocked

from .rendering import render

RENDERER_VERSION = 1  # to be raised whenever the same seed draws other images
_NAMES = tuple(task.name for task in FASHIONAI)
_CLASSES = {task.name: task.classes for task in FASHIONAI}
_SUBSETS = ("base", "rank")  # training and test
_CSV_FILES = (
    "base/Annotations/label.csv",
    "rank/Tests/question.csv",
    "rank/Tests/answer.csv",
    "boxes_true.csv",
)

Job = tuple[str, str, int, int, int, int, int]  # folder, task, class, index, seed, side, quality
Row = tuple[str, str, str, str, tuple | None]  # subset, image, task, label, box


def write_dataset(
    root: Path,
    per_class: int,
    test_per_class: int,
    seed: int,
    tasks: Sequence[str] = _NAMES,
    workers: int = 2,
    progress: Callable[[int], None] = lambda count: None,
    side_px: int = 512,
    quality: int = 92,
) -> None:
    """Draw a training and a test set below `root`, unless they are complete already.

    Parameters
    ----------
    root : Path
        The folder to fill: ``base/`` (training), ``rank/`` (test), ``boxes_true.csv`` and ``demo.json`` (the
        parameters). An incomplete set is drawn again.
    per_class, test_per_class : int
        Images of each class of each task in the training and the test set.
    seed : int
        Each image depends on (seed, task, class, index, subset) alone.
    tasks : sequence of str
        Full names.
    workers : int
        Processes; the files do not depend on their number. More than one are started with "spawn", so a
        script that calls this needs ``if __name__ == "__main__":``.
    progress : callable
        Called with the number of images drawn since the last call.
    side_px, quality : int
        Side of the images in pixels; JPEG quality, 1-100.

    Raises
    ------
    ValueError
        If a task is unknown.
    RunError
        If `root` holds a set with other parameters.
    """
    root = Path(root)
    unknown = [name for name in tasks if name not in _NAMES]
    if unknown:
        raise ValueError(f"unknown task {unknown[0]!r}; expected one of {', '.join(_NAMES)}")
    parameters = {
        "renderer_version": RENDERER_VERSION,
        "per_class": per_class,
        "test_per_class": test_per_class,
        "seed": seed,
        "tasks": list(tasks),
        "side_px": side_px,
        "quality": quality,
    }
    if _is_complete(root, parameters):
        return
    jobs = [
        (str(root / subset), name, class_index, index, seed, side_px, quality)
        for subset, count in zip(_SUBSETS, (per_class, test_per_class), strict=True)
        for name in tasks
        for class_index in range(len(_CLASSES[name]))
        for index in range(count)
    ]
    for subset in _SUBSETS:
        for name in tasks:
            (root / subset / "Images" / name).mkdir(parents=True, exist_ok=True)
    write_atomic(root / "demo.json", (json.dumps(parameters, indent=1) + "\n").encode())
    rows = []
    for row in _rows(jobs, workers):
        rows.append(row)
        progress(1)
    _write_tables(root, rows, seed)


def _is_complete(root: Path, parameters: dict) -> bool:
    """Whether `root` holds the set with these parameters; RunError if they are others."""
    path = root / "demo.json"
    if not path.exists():
        return False
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise RunError(
            f"{path}: is not valid JSON ({error}); delete the folder or choose another one"
        ) from None
    differing = [
        f"{key} is {found.get(key)!r}, expected {value!r}"
        for key, value in parameters.items()
        if found.get(key) != value
    ]
    if differing:
        raise RunError(
            f"{root}: holds images rendered with other parameters ({'; '.join(differing)}); "
            "choose another folder"
        )
    return all((root / name).exists() for name in _CSV_FILES)


def _rows(jobs: list[Job], workers: int) -> Iterator[Row]:
    """Draw all images and yield their rows in the order of `jobs`."""
    if workers <= 1:
        yield from map(_draw, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        with interrupts_blocked():
            rows = pool.map(_draw, jobs, chunksize=8)
        yield from rows


def _start_worker() -> None:
    end_with_parent()
    cv2.setNumThreads(1)


def _draw(job: Job) -> Row:
    """Draw and save one image."""
    folder, task, class_index, index, seed, side_px, quality = job
    subset = Path(folder).name
    key = (seed, _NAMES.index(task), class_index, index, _SUBSETS.index(subset))
    drawn = render(task, class_index, key, side_px)
    name = blake2b(repr((seed, task, class_index, index, subset)).encode(), digest_size=16).hexdigest()
    image = f"Images/{task}/{name}.jpg"
    encoded, data = cv2.imencode(".jpg", drawn.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise OSError(f"{folder}/{image}: OpenCV cannot encode the image as JPEG")
    write_atomic(Path(folder) / image, data.tobytes())
    return subset, image, task, drawn.label, drawn.box


def _write_tables(root: Path, rows: list[Row], seed: int) -> None:
    """Write the four tables, shuffled, after the images: they mark the set as complete."""
    rows = [rows[k] for k in np.random.default_rng((seed, 8)).permutation(len(rows))]
    train, test = ([row for row in rows if row[0] == subset] for subset in _SUBSETS)
    tables = {
        "base/Annotations/label.csv": [(image, task, text) for _, image, task, text, _ in train],
        "rank/Tests/question.csv": [(image, task, "?") for _, image, task, _, _ in test],
        "rank/Tests/answer.csv": [(image, task, text) for _, image, task, text, _ in test],
        "boxes_true.csv": [
            ("image", "task", "x0", "y0", "x1", "y1"),
            *((image, task, *(box or ("",) * 4)) for _, image, task, _, box in rows),
        ],
    }
    for name, lines in tables.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(root / name, text.getvalue().encode())
