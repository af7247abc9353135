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

Key = tuple[str, int, int, str]  # task, class, index, subset
Job = tuple[str, int, Key, int, int]  # root, seed, key, side, quality
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
    """Draw a training and a test set of some tasks below `root`, unless they are there already.

    Parameters
    ----------
    root : Path
        The folder to fill: ``base/`` (training), ``rank/`` (test), ``boxes_true.csv`` and ``demo.json`` (the
        parameters). Tasks that it has stay as they are; an incomplete set is drawn again.
    per_class, test_per_class : int
        Images of each class of each task in the training and the test set.
    seed : int
        Each image depends on (seed, task, class, index, subset) alone, and so does the order of the rows.
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
        "side_px": side_px,
        "quality": quality,
    }
    _refuse_others(root, parameters)
    missing = missing_tasks(root, tasks)
    if not missing:
        return
    drawn = [name for name in _NAMES if name not in missing_tasks(root)]
    keys = [
        (name, class_index, index, subset)
        for subset, count in zip(_SUBSETS, (per_class, test_per_class), strict=True)
        for name in _NAMES
        for class_index in range(len(_CLASSES[name]))
        for index in range(count)
    ]
    for subset in _SUBSETS:
        for name in missing:
            (root / subset / "Images" / name).mkdir(parents=True, exist_ok=True)
    _write_parameters(root, parameters, drawn)
    rows = _read_tables(root, drawn)
    jobs = [(str(root), seed, key, side_px, quality) for key in keys if key[0] in missing]
    for row in _rows(jobs, workers):
        rows.append(row)
        progress(1)
    row_of = {row[1]: row for row in rows}
    order = np.random.default_rng((seed, 8)).permutation(len(keys))
    shuffled = (_image_name(seed, *keys[k]) for k in order)
    _write_tables(root, [row_of[image] for image in shuffled if image in row_of])
    _write_parameters(root, parameters, [*drawn, *missing])


def missing_tasks(root: Path, tasks: Sequence[str] = _NAMES) -> list[str]:
    """Return those of some tasks that a folder has no complete set of."""
    path = Path(root) / "demo.json"
    complete = path.exists() and all((root / name).exists() for name in _CSV_FILES)
    drawn = _parameters(path).get("tasks", []) if complete else []
    return [name for name in tasks if name not in drawn]


def _parameters(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RunError(
            f"{path}: is not valid JSON ({error}); delete the folder or choose another one"
        ) from None


def _refuse_others(root: Path, parameters: dict) -> None:
    """Raise RunError if `root` holds a set with other parameters."""
    path = root / "demo.json"
    found = _parameters(path) if path.exists() else parameters
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


def _write_parameters(root: Path, parameters: dict, tasks: Sequence[str]) -> None:
    """Write the parameters, with the tasks that are complete."""
    found = {**parameters, "tasks": [name for name in _NAMES if name in tasks]}
    write_atomic(root / "demo.json", (json.dumps(found, indent=1) + "\n").encode())


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


def _image_name(seed: int, task: str, class_index: int, index: int, subset: str) -> str:
    name = blake2b(repr((seed, task, class_index, index, subset)).encode(), digest_size=16).hexdigest()
    return f"Images/{task}/{name}.jpg"


def _draw(job: Job) -> Row:
    """Draw and save one image."""
    root, seed, (task, class_index, index, subset), side_px, quality = job
    key = (seed, _NAMES.index(task), class_index, index, _SUBSETS.index(subset))
    drawn = render(task, class_index, key, side_px)
    image = _image_name(seed, task, class_index, index, subset)
    encoded, data = cv2.imencode(".jpg", drawn.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise OSError(f"{root}/{subset}/{image}: OpenCV cannot encode the image as JPEG")
    write_atomic(Path(root) / subset / image, data.tobytes())
    return subset, image, task, drawn.label, drawn.box


def _read_tables(root: Path, tasks: Sequence[str]) -> list[Row]:
    """Read the rows of some tasks that :func:`_write_tables` has written."""
    if not tasks:
        return []

    def lines(table: str) -> list[list[str]]:
        with open(root / table, newline="") as file:
            return list(csv.reader(file))

    boxes = {image: tuple(box) for image, _, *box in lines("boxes_true.csv")}
    return [
        (subset, image, task, label, boxes[image])
        for subset, table in (("base", "base/Annotations/label.csv"), ("rank", "rank/Tests/answer.csv"))
        for image, task, label in lines(table)
        if task in tasks
    ]


def _write_tables(root: Path, rows: list[Row]) -> None:
    """Write the four tables after the images."""
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
