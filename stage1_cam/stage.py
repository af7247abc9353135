"""Stage 1: train the full-image classifier; write its predictions and heatmaps.

Training images get their heatmaps from networks that did not train on them: the training split is cut into
folds, and each fold is predicted by a network that trained on the others. A network draws sharper maps on
images that it has memorised than on new ones, and crops from such maps would teach stage 3 a precision that
no test image has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from heatcrop.data.groups import TaskGroup
from heatcrop.data.splits import assign_folds
from heatcrop.files import atomic_array
from heatcrop.metrics.calibration import softmax
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.predictions import write_arrays, write_predictions
from heatcrop.runs.progress import log
from heatcrop.training.batches import Images
from heatcrop.training.stage import BranchStage
from stage1_cam.heatmaps import heatmaps_of


class CamStage(BranchStage):
    """Stage 1 of one group of tasks.

    Each task's folder gets ``stage1/``: weights.params, network.onnx, the folds' weights, history.csv,
    predictions (.npz and .csv) and heatmaps.npy; tasks that share networks get links to them.
    """

    name, number = "cam", 1
    seconds_as = {"compute_features": "train", "train": "train"}
    titles = {"compute_features": "features", "train": "train", "infer": "heatmaps of"}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        fold_of = fold_rows(self.group, self.plan.folds, self.context.seed)
        self.networks = ["final", *(f"fold {fold}" for fold in range(fold_of.max(initial=-1) + 1))]
        self.network_of = np.array(self.networks)[fold_of + 1]
        if self.plan.folds > 1 and len(self.networks) == 1:
            log(
                f"{self.group.short}: all training images are one group; "
                "their heatmaps come from the network that they trained"
            )

    def images(self) -> Images:
        return Images(self.group.paths)

    def keep(self, logits: np.ndarray, maps: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        views, heatmaps = self.plan.test.unit(), np.empty((len(rows), *maps.shape[3:]), np.float32)
        for number in np.unique(self.group.task_of[rows]).tolist():
            of_task, classes = self.group.task_of[rows] == number, self.group.columns(number)
            heatmaps[of_task] = heatmaps_of(
                logits[of_task][:, classes],
                maps[of_task][:, :, classes],
                views,
                self.plans[number].heatmap,
                self.group.tasks[number].task.invisible,
            )
        return {"logits": logits, "heatmaps": heatmaps}

    def write_task(self, number: int, folder: TaskFolder) -> None:
        data = self.group.tasks[number]
        logits, networks = np.zeros(data.letters.shape, np.float32), np.full(len(data), "", "U8")
        shape = next(part["heatmaps"].shape[1:] for _, _, part in self.predictions(number))
        with atomic_array(folder.heatmaps, (len(data), *shape), np.float32) as heatmaps:
            for network, rows, part in self.predictions(number):
                heatmaps[rows], logits[rows], networks[rows] = part["heatmaps"], part["logits"], network
        probabilities = softmax(logits.astype(np.float64))
        full = write_predictions(folder.predictions_csv(1), data, probabilities, networks)
        write_arrays(folder.predictions(1), full=full, networks=networks)


def fold_rows(group: TaskGroup, n_folds: int, seed: int) -> np.ndarray:
    """Choose the fold whose network predicts each row, (N,) int; -1 for the final network.

    That one trains on all training rows. It predicts all others, and the training rows too where there are no
    two groups to separate.
    """
    fold_of, rows = np.full(len(group), -1), group.rows("train")
    if n_folds > 1 and len(rows):
        folds = assign_folds(group.letters[rows], list(group.groups[rows]), n_folds, seed)
        fold_of[rows] = folds if folds.max() > 0 else -1
    return fold_of
