"""``metrics.json``: the official score of every branch on every split that has answers."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from heatcrop.data.dataset import TaskData
from heatcrop.metrics.localisation import localisation
from heatcrop.metrics.score import score_task
from heatcrop.runs.boxes import is_uncropped, read_cuts
from heatcrop.runs.folder import RunFolder, TaskFolder
from heatcrop.runs.predictions import read_aligned
from heatcrop.runs.reading import damaged

BRANCHES = ("full", "crop", "fused")


def branch_probabilities(data: TaskData, folder: TaskFolder) -> dict[str, np.ndarray]:
    """Read each branch's (N, C) probabilities, NaN where a branch did not speak: of training pictures."""
    found, places, shown = {}, pd.Index(data.images, dtype=object), np.flatnonzero(data.splits != "train")
    files = {"full": folder.predictions(1), "crop": folder.predictions(3), "fused": folder.fused}
    for branch, file in files.items():
        found[branch] = read_aligned(file, places, data.letters.shape)
        silent = shown[np.isnan(found[branch][shown, 0])]
        if len(silent):
            example = data.images[silent[0]]
            raise damaged(file, f"has no row of {len(silent)} pictures, for instance {example}")
    return found


def task_metrics(
    data: TaskData, folder: TaskFolder, split: str, boxes_true: pd.DataFrame | None
) -> dict[str, Any]:
    """All figures of one task on one split."""
    rows = data.rows(split, labelled=True)
    out: dict[str, Any] = {}
    for branch, probabilities in branch_probabilities(data, folder).items():
        score = score_task(probabilities[rows], data.letters[rows])
        out[branch] = {"map": score.ap, "basic_precision": score.basic_precision, "accuracy": score.accuracy}
    fallback, boxes = read_cuts(folder.boxes, len(data))
    whole = is_uncropped(fallback)
    out["localisation"] = None
    if boxes_true is not None:
        out["localisation"] = localisation(data, whole, boxes, boxes_true, rows)
    fell = whole[data.rows(split)]
    out["crops"] = {"n": int(len(fell)), "fallback_rate": float(fell.mean()) if len(fell) else 0.0}
    out["seconds"] = stage_seconds(folder)
    out["n"] = int(len(rows))
    return out


def stage_seconds(folder: TaskFolder) -> dict[str, float]:
    """Seconds each step took when it was last run."""
    seconds: dict[str, float] = {}
    for stage in ("cam", "crop", "finetune"):
        try:
            seconds.update(json.loads(folder.marker(stage).read_text(encoding="utf-8"))["seconds"])
        except (OSError, ValueError, KeyError):
            continue
    return seconds


def report_split(tasks: dict[str, TaskData]) -> str:
    """The split that is reported: test where it has answers, else val."""
    tested = any(len(data.rows("test", labelled=True)) for data in tasks.values())
    return "test" if tested else "val"


def run_metrics(
    tasks: dict[str, TaskData], folder: RunFolder, boxes_true: pd.DataFrame | None
) -> dict[str, Any]:
    """All figures of a run, in the form of ``metrics.json``.

    Splits other than the reported one come under ``"splits"``.
    """
    split = report_split(tasks)
    by_split = {}
    for name in ("val", "test"):
        figures = {
            task: task_metrics(data, folder.task(task), name, boxes_true)
            for task, data in tasks.items()
            if len(data.rows(name, labelled=True))
        }
        if figures:
            by_split[name] = {"tasks": figures, "mean": _mean(figures), "split": name}
    if split not in by_split:
        return {"tasks": {}, "mean": {b: {"map": None} for b in BRANCHES}, "split": split, "splits": {}}
    return {**by_split[split], "splits": {k: v for k, v in by_split.items() if k != split}}


def _mean(figures: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    keys = ("map", "basic_precision", "accuracy")
    return {b: {k: float(np.mean([f[b][k] for f in figures.values()])) for k in keys} for b in BRANCHES}
