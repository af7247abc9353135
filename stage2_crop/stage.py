"""Turn one task's heatmaps into boxes and a crop folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from attributes.dataset import TaskData
from attributes.tasks import class_folders
from runfolder.folder import TaskFolder
from runfolder.predictions import read_predictions
from stage2_crop.boxes import find_crops, write_boxes
from stage2_crop.crops import crop_names, write_crops
from stage2_crop.rule import CropRule


@dataclasses.dataclass(frozen=True)
class CropPlan:
    """What stage 2 does.

    Attributes
    ----------
    rule : CropRule
    quality : int
        JPEG quality of the crops people look at, 1..100.
    """

    rule: CropRule = CropRule()
    quality: int = 95


def run(
    data: TaskData, folder: TaskFolder, plan: CropPlan, fit: str, threads: int,
    done: Callable[[int], None] = lambda _: None,
) -> None:  # fmt: skip
    """Run stage 2 for one task: ``boxes.csv`` and ``crops/``.

    Parameters
    ----------
    fit : {'stretch', 'pad'}
        How stage 1 framed the pictures.
    done : callable
        Told how many crops are written since.
    """
    table, probabilities = read_predictions(folder.predictions(1))
    crops = find_crops(np.load(folder.heatmaps, mmap_mode="r"), data.sizes, fit, plan.rule)
    write_boxes(folder.boxes, data.images, table["split"], crops, plan.rule)
    folders = class_folders(data.task)
    labelled, truth, guess = data.labelled, data.letters.argmax(axis=1), probabilities.argmax(axis=1)
    names = [
        folders[truth[i]] if labelled[i] else f"{folders[guess[i]]} (predicted)" for i in range(len(data))
    ]
    write_crops(
        folder.crops, crop_names(data.images, names, table["split"]), data.paths,
        np.array([c.box for c in crops]), threads, plan.quality, done,
    )  # fmt: skip
