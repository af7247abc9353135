"""``metrics.json``: the official score of every branch on every split that has answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from heatcrop.data.dataset import TaskData
from heatcrop.data.labels import YES
from heatcrop.files import write_json
from heatcrop.metrics.bootstrap import ap_interval
from heatcrop.metrics.invisible import detect_invisible
from heatcrop.metrics.localisation import localisation
from heatcrop.metrics.score import METRICS, scores
from heatcrop.metrics.selective import OperatingPoint, accuracy_interval
from heatcrop.metrics.submissions import write_submission
from heatcrop.runs.folder import RunFolder, TaskFolder
from heatcrop.runs.predictions import (
    BRANCHES,
    branch_file,
    confidences,
    is_uncropped,
    read_arrays,
    read_branches,
)
from heatcrop.runs.reading import damaged, missing
from heatcrop.runs.records import stage_times
from heatcrop.runs.thresholds import read_points
from heatcrop.wording import counted

_MOST_RESAMPLED = 50_000


def scored_branches(data: TaskData, folder: TaskFolder) -> dict[str, np.ndarray]:
    """Read each branch's probabilities, (N, C) float64; NaN only for training images.

    DataError where a branch lacks the prediction of a validation or test image.
    """
    found = read_branches(folder, data)
    for branch, probabilities in found.items():
        if not (file := branch_file(folder, branch)).is_file():
            raise missing(file)
        absent = np.flatnonzero(np.isnan(probabilities[:, 0]) & (data.splits != "train"))
        if len(absent):
            without = f"{counted(len(absent), 'image(s)')}, for instance {data.images[absent[0]]}"
            raise damaged(file, f"has no {branch} prediction of {without}")
    return found


def task_metrics(
    data: TaskData, folder: TaskFolder, split: str, boxes_true: pd.DataFrame | None
) -> dict[str, Any]:
    """Compute all figures of one task on one split."""
    rows, branches = data.rows(split, labelled=True), scored_branches(data, folder)
    crops = read_arrays(folder.boxes, ("boxes", "fallback"), len(data))
    uncropped, found = is_uncropped(crops["fallback"]), None
    if boxes_true is not None:
        found = localisation(data, uncropped, crops["boxes"], boxes_true, rows)
    fallbacks, fused, letters = uncropped[data.rows(split)], branches["fused"][rows], data.letters[rows]
    # The interval of very many images would take long, and is below 0.01 wide.
    fused_interval = ap_interval(fused, letters) if len(letters) <= _MOST_RESAMPLED else None
    return {
        **{branch: scores(p[rows], letters) for branch, p in branches.items()},
        "localisation": found,
        "crops": {"n": len(fallbacks), "fallback_rate": float(fallbacks.mean()) if len(fallbacks) else 0.0},
        **stage_times(folder),
        "n": len(rows),
        "fused_interval": fused_interval,
        "invisible": _invisible_figures(data, branches, rows),
        "sure": sure_figures(read_points(folder), fused, letters),
    }


def sure_figures(
    points: Sequence[OperatingPoint] | None, fused: np.ndarray, letters: np.ndarray
) -> list[dict[str, Any]] | None:
    """Apply thresholds that validation has chosen to (N, C) fused predictions; None without thresholds.

    Of each: ``promised`` accuracy, ``threshold`` and ``val_coverage`` as validation has them, and of these
    rows ``n`` that reach the threshold, their share ``coverage``, ``right`` of them, and their ``accuracy``
    with its 95 % interval, ``low`` and ``high``. Where there is no threshold, or no such row, they are None.
    """
    if points is None:
        return None
    confidence = confidences(fused)
    right = letters[np.arange(len(letters)), fused.argmax(axis=1)] == YES
    figures = []
    for point in points:
        known = {"promised": point.accuracy, "threshold": point.threshold, "val_coverage": point.coverage}
        found: dict[str, Any] = dict.fromkeys(("n", "coverage", "right", "accuracy", "low", "high"))
        if point.threshold is not None:
            sure = confidence >= point.threshold
            n, n_right = int(sure.sum()), int(right[sure].sum())
            found |= {"n": n, "coverage": n / len(sure), "right": n_right}
            if n:
                low, high = accuracy_interval(n_right, n)
                found |= {"accuracy": n_right / n, "low": low, "high": high}
        figures.append(known | found)
    return figures


def _invisible_figures(
    data: TaskData, branches: dict[str, np.ndarray], rows: np.ndarray
) -> dict[str, Any] | None:
    """Score each branch on the class ``Invisible``, with ``n`` images of it; None without that class."""
    invisible, letters = data.task.invisible, data.letters[rows]
    if invisible is None:
        return None
    figures = {name: detect_invisible(p[rows], letters, invisible) for name, p in branches.items()}
    return {**figures, "n": int((letters[:, invisible] == YES).sum())}


def report_split(tasks: dict[str, TaskData]) -> str:
    """Return the split that is reported: test where it has answers, else val."""
    tested = any(len(data.rows("test", labelled=True)) for data in tasks.values())
    return "test" if tested else "val"


def metrics_by_split(
    tasks: dict[str, TaskData], branches: Sequence[str], figures_of: Callable[[str, str], dict[str, Any]]
) -> dict[str, Any]:
    """Collect `figures_of` each task and split that has answers, in the form of ``metrics.json``.

    They hold a score for each of the `branches`. Splits other than the reported one are under ``"splits"``.
    """
    by_split: dict[str, Any] = {}
    for split in ("val", "test"):
        names = [name for name, data in tasks.items() if len(data.rows(split, labelled=True))]
        if names:
            figures = {name: figures_of(name, split) for name in names}
            mean = {
                branch: {k: float(np.mean([f[branch][k] for f in figures.values()])) for k in METRICS}
                for branch in branches
            }
            by_split[split] = {"tasks": figures, "mean": mean, "split": split}
    split = report_split(tasks)
    nothing = {"tasks": {}, "mean": {branch: {"map": None} for branch in branches}, "split": split}
    return {**by_split.pop(split, nothing), "splits": by_split}


def write_results(
    tasks: dict[str, TaskData], folder: RunFolder, boxes_true: pd.DataFrame | None
) -> dict[str, Any]:
    """Score a run; write ``metrics.json``, and the test images' fused predictions to ``submission.csv``."""
    metrics = metrics_by_split(
        tasks,
        BRANCHES,
        lambda name, split: task_metrics(tasks[name], folder.task(name), split, boxes_true),
    )
    write_json(folder.metrics, metrics)
    fused = {name: read_branches(folder.task(name), data)["fused"] for name, data in tasks.items()}
    rows = ((data.images[i], name, fused[name][i]) for name, data in tasks.items() for i in data.rows("test"))
    write_submission(folder.submission, rows)
    return metrics
