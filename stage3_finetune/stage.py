"""Stage 3: fine-tune stage 1's networks on the crops, then fuse both predictions.

The crops are cut from the original images by the boxes rather than read from the crop folder: the same pixels
without a second JPEG compression, and augmentation can reach beyond the crop.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heatcrop.data.dataset import TaskData
from heatcrop.files import link, write_json, write_table
from heatcrop.metrics.calibration import softmax
from heatcrop.metrics.fusion import fit_fusion, fuse
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.predictions import read_arrays, write_arrays, write_predictions
from heatcrop.runs.reading import read_array
from heatcrop.training.batches import Images
from heatcrop.training.stage import BranchStage


class FinetuneStage(BranchStage):
    """Stage 3 of one group of tasks.

    Each task's folder gets ``stage3/``: weights.params, network.onnx, history.csv, predictions (.npz and
    .csv), fused.csv and fusion.json; tasks that share networks get links to them.
    """

    name, number = "finetune", 3
    titles = {"compute_features": "crop features", "train": "fine-tune", "infer": "predict crops with"}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._full = [
            read_arrays(folder.predictions(1), ("full", "networks"), len(data))
            for folder, data in zip(self.tasks, self.group.tasks, strict=True)
        ]
        # Stage 1's network that predicted each row: its weights are fine-tuned to predict the row's crop.
        self._network_of = np.concatenate([one["networks"] for one in self._full])
        folds = sorted(set(self._network_of[self.train_rows].tolist()) - {"final"})
        self.networks = ["final", *(folds if self.plan.cross_fit else ())]

    def images(self) -> Images:
        boxes = [
            read_arrays(folder.boxes, ("boxes",), len(data))["boxes"]
            for folder, data in zip(self.tasks, self.group.tasks, strict=True)
        ]
        training = [read_array(folder.training_boxes) for folder in self.tasks]
        if len(training) > 1:  # an epoch takes a row's next box: tasks with fewer of them repeat theirs
            most = math.lcm(*(each.shape[1] for each in training))
            training = [np.concatenate([np.tile(one, (1, most // one.shape[1], 1)) for one in training])]
        return Images(self.group.paths, np.concatenate(boxes), training[0], self.group.sizes)

    def network_rows(self, network: str) -> np.ndarray:
        return self.train_rows[(self._network_of[self.train_rows] != network) | (network == "final")]

    def predicted_rows(self, network: str) -> np.ndarray:
        unseen = (self.group.splits != "train") | (network != "final")
        return np.flatnonzero((self._network_of == network) & unseen)

    def initial_weights(self, network: str) -> Path | None:
        folder = self.networks_folder
        return folder.weights(1) if network == "final" else folder.fold_weights(network)

    def weights(self, network: str) -> Path:
        return self.networks_folder.weights(3) if network == "final" else self.cache / f"{network}.params"

    def keep(self, logits: np.ndarray, maps: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"logits": logits.astype(np.float64)}

    def finish(self) -> None:
        history = pd.DataFrame(self.history())
        logits, networks = np.zeros(self.group.letters.shape), np.full(len(self.group), "", "U8")
        for network, rows, part in self.predictions():
            logits[rows], networks[rows] = part["logits"], network
        for number, (data, folder) in enumerate(zip(self.group.tasks, self.tasks, strict=True)):
            rows, classes = self.group.rows_of(number), self.group.columns(number)
            crop, full = softmax(logits[rows, classes]), self._full[number]["full"]
            write_fused(folder, data, full, crop, networks[rows], len(self.networks) > 1)
            write_table(folder.history(3), history)
            for file in (folder.weights(3), folder.network(3)):
                link(file, self.networks_folder.stage(3) / file.name)


def write_fused(
    folder: TaskFolder,
    data: TaskData,
    full: np.ndarray,
    crop: np.ndarray,
    networks: np.ndarray,
    cross_fitted: bool,
) -> None:
    """Fit the fusion of one task's two branches, and write their predictions.

    Parameters
    ----------
    folder : TaskFolder
    data : TaskData
    full, crop : ndarray of float, shape (N, C)
        Probabilities of the full image and of the crop.
    networks : ndarray of str, shape (N,)
        Which network predicted the crop; '' for none, whose rows are left out.
    cross_fitted : bool
        Whether training rows have predictions to fit on.
    """
    train_rows, predicted = data.rows("train", labelled=True), np.flatnonzero(networks != "")
    fitted = np.union1d(data.rows("val", labelled=True), np.intersect1d(train_rows, predicted))
    fusion = fit_fusion(full[fitted], crop[fitted], data.letters[fitted], data.soft[fitted])
    fused = fuse(full, crop, fusion)
    branches = {
        "crop": write_predictions(folder.predictions_csv(3), data, crop, networks, predicted),
        "fused": write_predictions(folder.fused_csv, data, fused, networks, predicted),
    }
    write_arrays(folder.predictions(3), **branches, networks=networks)
    fitted_on = {"rows": len(fitted), "fitted_on": "val + folds" if cross_fitted else "val"}
    write_json(folder.fusion, {**dataclasses.asdict(fusion), **fitted_on})
