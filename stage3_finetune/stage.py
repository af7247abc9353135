"""Stage 3: fine-tune networks on the crops, then fuse their predictions with stage 1's.

The crops are cut from the original images by the boxes rather than read from the crop folder: the same pixels
without a second JPEG compression, and augmentation can reach beyond the crop.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.data.splits import assign_folds
from heatcrop.files import write_json
from heatcrop.metrics.calibration import softmax
from heatcrop.metrics.fusion import fit_fusion, fuse
from heatcrop.nets.classifier import Classifier
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.predictions import read_arrays, unseen_rows, write_arrays, write_predictions
from heatcrop.runs.progress import log, progress
from heatcrop.runs.reading import read_array
from heatcrop.training.batches import Images
from heatcrop.training.inputs import INFERENCE_BATCH
from heatcrop.training.probe import probe_labels
from heatcrop.training.stage import BranchStage, Job

_PROBE_FOLDS = 5


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
        # A row's crop is predicted by the network of the fold whose network has predicted the image, unless
        # that has trained on it.
        network_of = np.concatenate([one["networks"] for one in self._full])
        self.network_of = np.where((self.group.splits == "train") & (network_of == "final"), "", network_of)
        folds = sorted(set(network_of[self.train_rows].tolist()) - {"final"})
        self.networks = ["final", *(folds if self.plan.cross_fit else ())]

    def initial_classifier(self, network: str) -> Classifier:
        classifier = self.context.classifier(self.inputs.shape, self.group.n_classes)
        if self.plan.start == "full_image":
            classifier.load(self.networks_folder.weights(1, network))
        return classifier

    def jobs(self) -> Iterator[list[Job]]:
        """Also check the labels of each fold, beside its predictions."""
        for step in super().jobs():
            checks: list[Job] = [("check_labels", [network]) for network in self.networks[1:]]
            yield step + checks if "infer" in dict(step) else step

    def check_labels(self, network: str) -> None:
        """Predict the rows of a fold once more, by probes on the features that their network computes.

        The network does not know their labels; a probe knows all of them but those of a fifth of the rows.
        """
        group, seed = self.group, self.context.seed
        rows = np.intersect1d(self.predicted_rows(network), self.train_rows)
        found, exported = (
            np.full((len(rows), group.n_classes), np.nan),
            self.cache / f"{network}.features.onnx",
        )
        runner = self.context.open_features(
            self.weights(network), exported, self.inputs.shape, group.n_classes
        )
        batch = max(1, INFERENCE_BATCH // self.inputs.n_views)

        def pooled(x: np.ndarray) -> np.ndarray:
            features = runner(x.reshape(-1, *x.shape[2:]))[0].mean(axis=(2, 3))
            return np.asarray(features.reshape(*x.shape[:2], -1).mean(axis=1))

        for number in np.unique(group.task_of[rows]).tolist():
            own, columns = group.task_of[rows] == number, group.columns(number)
            task_rows = rows[own]
            letters = group.letters[task_rows, columns]
            folds = assign_folds(letters, group.groups[task_rows], _PROBE_FOLDS, seed)

            def features_of(index: np.ndarray, task_rows: np.ndarray = task_rows) -> Iterator[np.ndarray]:
                return (part for part, _ in self.inputs.testing(task_rows[index], batch, work=pooled))

            with progress(f"{group.short}: check labels of {network}", None):
                found[own, columns] = probe_labels(
                    features_of, letters.argmax(axis=1), letters.shape[1], folds, seed
                )
        write_arrays(self._checked(network), rows=rows, probabilities=found)

    def _checked(self, network: str) -> Path:
        return self.cache / f"{network}.labels.npz"

    def _probe(self, number: int) -> np.ndarray:
        """Join what the probes of all folds predict of one task, (N, C); NaN elsewhere."""
        span, columns = self.group.rows_of(number), self.group.columns(number)
        joined = np.full(self.group.tasks[number].letters.shape, np.nan)
        for network in self.networks[1:]:
            checked = read_arrays(self._checked(network), ("rows", "probabilities"))
            own = (checked["rows"] >= span.start) & (checked["rows"] < span.stop)
            joined[checked["rows"][own] - span.start] = checked["probabilities"][own, columns]
        return joined

    def images(self) -> Images:
        boxes = [
            read_arrays(folder.boxes, ("predicted",), len(data))["predicted"]
            for folder, data in zip(self.tasks, self.group.tasks, strict=True)
        ]
        training = [read_array(folder.training_boxes) for folder in self.tasks]
        # An epoch takes a row's next box, and a prediction averages over boxes: tasks with fewer repeat them.
        return Images(self.group.paths, _repeated(boxes), _repeated(training), self.group.sizes)

    def write_task(self, number: int, folder: TaskFolder) -> None:
        data, full = self.group.tasks[number], self._full[number]["full"]
        logits, networks = np.zeros(data.letters.shape), np.full(len(data), "", "U8")
        for network, rows, part in self.predictions(number):
            logits[rows], networks[rows] = part["logits"], network
        crop, predicted = softmax(logits), np.flatnonzero(networks != "")
        fitted = unseen_rows(data, networks != "")
        if not len(fitted):
            log(
                f"{data.task.short}: there is no labelled image that a network did not train on to fit the "
                "fusion; both branches get equal weights"
            )
        fusion = fit_fusion(full[fitted], crop[fitted], data.letters[fitted], data.soft[fitted])
        fused = fuse(full, crop, fusion)
        branches = {
            "crop": write_predictions(folder.predictions_csv(3), data, crop, networks, predicted),
            "fused": write_predictions(folder.fused_csv, data, fused, networks, predicted),
        }
        write_arrays(folder.predictions(3), **branches, networks=networks, probe=self._probe(number))
        splits = sorted(set(data.splits[fitted]), reverse=True)
        fitted_on = " + ".join({"train": "folds"}.get(split, split) for split in splits)
        record = {**dataclasses.asdict(fusion), "rows": len(fitted), "fitted_on": fitted_on}
        write_json(folder.fusion, record)


def _repeated(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate the (R, K, 4) boxes of several tasks, whose K differ; that of one task as it is."""
    if len(boxes) == 1:
        return boxes[0]
    most = math.lcm(*(one.shape[1] for one in boxes))
    return np.concatenate([np.tile(one, (1, most // one.shape[1], 1)) for one in boxes])
