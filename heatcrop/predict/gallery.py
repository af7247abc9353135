"""The gallery beside a table of predictions: the report's page, for unlabelled images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heatcrop.data.dataset import TaskData
from heatcrop.data.tasks import Task
from heatcrop.errors import RunError
from heatcrop.predict.images import Image
from heatcrop.predict.predictor import Pipeline, Prediction
from heatcrop.report.build import may_be_rebuilt
from heatcrop.report.results import TaskResults
from heatcrop.runs.predictions import BRANCHES
from stage2_crop.boxes import concatenate


def gallery_page(out: Path, boxes: Path | None = None) -> Path:
    """Return the page of a table's gallery: ``<predictions>_gallery/index.html`` beside the table.

    :func:`heatcrop.predict.outputs.check_targets` has checked `out` and `boxes`. RunError where the gallery's
    folder, which is replaced, is no folder or holds a user's other files.
    """
    folder = out.with_name(f"{out.stem}_gallery")
    instead = "give another --out, or --no-gallery"
    if boxes is not None and Path(os.path.realpath(boxes)).is_relative_to(os.path.realpath(folder)):
        raise RunError(f"{boxes}: is in the gallery's folder, which is replaced; give another --boxes")
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
        raise RunError(f"{folder}: the gallery needs this path, and it is no folder; {instead}")
    if folder.is_dir() and not may_be_rebuilt(folder):
        raise RunError(f"{folder}: holds files that are not a gallery's; {instead}")
    return folder / "index.html"


def gallery_rows(
    pipeline: Pipeline, task: Task, images: Sequence[Image], predictions: Sequence[Prediction]
) -> TaskResults:
    """Collect what the gallery shows of one task, given the predictions of the images in chunks."""
    n, described = len(images), pipeline.description.tasks[task.name]
    data = TaskData(
        task,
        tuple(image.name for image in images),
        tuple(image.path for image in images),
        np.array([image.size for image in images]),
        np.zeros((n, len(task.classes)), np.int8),
        np.full(n, "new"),
        np.full(n, ""),
    )
    return TaskResults(
        data,
        {branch: np.concatenate([getattr(p, branch) for p in predictions]) for branch in BRANCHES},
        np.concatenate([p.boxes for p in predictions]),
        np.array([fallback for p in predictions for fallback in p.fallbacks]),
        concatenate([p.heatmaps for p in predictions]),
        described.crop_rule,
        np.zeros(n, bool),
        full_temperature=described.fusion.full_temperature,
    )
