"""Stage 1: train the full-image classifier; write its predictions and heatmaps.

Training images get their heatmaps from networks that did not train on them: the training split is cut into
folds, and each fold is predicted by a network that trained on the others. A network draws sharper maps on
images that it has memorised than on new ones, and crops from such maps would teach stage 3 a precision that
no test image has.

Where several poolings are to be tried, the first fold's network is trained with each of them first, and they
are compared on the images that it has not seen: its fold and the validation split.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.data.groups import TaskGroup
from heatcrop.data.labels import YES
from heatcrop.data.splits import assign_folds
from heatcrop.files import atomic_array, atomic_path, write_json
from heatcrop.metrics.calibration import softmax
from heatcrop.nets.classifier import Classifier
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.predictions import read_arrays, write_arrays, write_predictions
from heatcrop.runs.progress import log
from heatcrop.runs.reading import read_json
from heatcrop.training.batches import Images
from heatcrop.training.inputs import CachedInputs
from heatcrop.training.stage import BranchStage, Job
from heatcrop.wording import counted
from stage1_cam.heatmaps import has_spread, heatmaps_of
from stage1_cam.pooling import PoolingFigures, choose_pooling

# Fewer do not show which pooling is better.
_MIN_COMPARED_ROWS = 30


class CamStage(BranchStage):
    """Stage 1 of one group of tasks.

    Each task's folder gets ``stage1/``: weights.params, network.onnx, the folds' weights, history.csv,
    predictions (.npz and .csv), heatmaps.npy; for tasks with an invisible class spread.npy, where several
    poolings were tried pooling.json, and where no training image shows a class trained_classes.json. Tasks
    that share networks get links to them.
    """

    name, number = "cam", 1
    seconds_as = {"compute_features": "train", "train": "train"}
    titles = {"compute_features": "features", "train": "train", "infer": "heatmaps of"}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._fold_of = fold_of = fold_rows(self.group, self.plan.folds, self.context.seed)
        self.networks = ["final", *(f"fold {fold}" for fold in range(fold_of.max(initial=-1) + 1))]
        self.network_of = np.array(self.networks)[fold_of + 1]
        self.compared = self.networks[1 if len(self.networks) > 1 else 0]
        """The network that is trained with each pooling."""
        poolings = dict.fromkeys((self.plan.pooling, *self.plan.poolings))
        self.trials = {f"pooling {pooling:g}": pooling for pooling in poolings}
        if len(self.trials) == 1 or len(self._compared_rows) < _MIN_COMPARED_ROWS:
            self.trials = {}
        self._figures = self.cache / "pooling.json"

    def jobs(self) -> Iterator[list[Job]]:
        if self.plan.folds > 1 and len(self.networks) == 1:
            log(
                f"{self.group.short}: all training images are one group; "
                "their heatmaps come from the network that they trained"
            )
        for note in fold_notes(self.group, self._fold_of):
            log(note)
        if self.plan.poolings and len(self._compared_rows) < _MIN_COMPARED_ROWS:
            log(
                f"{self.group.short}: to compare poolings takes {_MIN_COMPARED_ROWS} images that a network "
                f"did not train on, and there are {len(self._compared_rows)}; {self.plan.pooling:g} is taken"
            )
        steps = super().jobs()
        if self.trials:
            if isinstance(self.inputs, CachedInputs):
                yield next(steps)
            yield [("train", [trial]) for trial in self.trials]
            yield [("infer", list(part)) for part in self.parts(list(self.trials))]
            yield [("choose_pooling", [])]
        yield from steps

    def initial_classifier(self, network: str) -> Classifier:
        pooling = self.trials.get(network) or self.trials.get(self._chosen()) or self.plan.pooling
        classifier = self.context.classifier(self.inputs.shape, self.group.n_classes, pooling)
        self.context.maps.check(classifier.n_blocks)
        return classifier

    def training_rows(self, network: str) -> np.ndarray:
        return super().training_rows(self.compared if network in self.trials else network)

    def predicted_rows(self, network: str) -> np.ndarray:
        return self._compared_rows if network in self.trials else super().predicted_rows(network)

    def train(self, network: str) -> None:
        if not self.trials or network != self.compared:
            super().train(network)
            return
        chosen = self._chosen()  # it is this network already
        for file in (self.weights, self.exported, self.history):
            with atomic_path(file(network)) as partial:
                shutil.copyfile(file(chosen), partial)

    def weights(self, network: str) -> Path:
        return self.cache / f"{network}.params" if network in self.trials else super().weights(network)

    def choose_pooling(self) -> None:
        """Compare the networks that were trained with several poolings."""
        parts: dict[float, list[np.ndarray]] = {pooling: [] for pooling in self.trials.values()}
        for trial, first, _ in self.parts(list(self.trials)):
            parts[self.trials[trial]].append(read_arrays(self.predicted(trial, first), ("logits",))["logits"])
        logits = {pooling: np.concatenate(found) for pooling, found in parts.items()}
        rows = self._compared_rows
        tried = choose_pooling(logits, self.group.soft[rows], self.group.letters[rows], self.context.seed)
        write_json(self._figures, PoolingFigures(len(rows), tuple(tried)))
        found = ", ".join(f"{one.pooling:g}: {one.ap:.3f}" for one in tried)
        chosen = next(one.pooling for one in tried if one.chosen)
        log(
            f"{self.group.short}: AP by pooling {found} on {counted(len(rows), 'image(s)')}; {chosen:g} is "
            "taken"
        )

    @functools.cached_property
    def _compared_rows(self) -> np.ndarray:
        """The rows that the compared network has not trained on."""
        own = self.network_of[self.train_rows] == self.compared
        return np.union1d(self.val_rows, self.train_rows[own & (self.compared != "final")])

    def _chosen(self) -> str:
        """Return the trial whose pooling was chosen; an empty name without trials."""
        if not self.trials:
            return ""
        tried = read_json(self._figures, PoolingFigures).tried
        return next(f"pooling {one.pooling:g}" for one in tried if one.chosen)

    def images(self) -> Images:
        return Images(self.group.paths)

    def keep(self, logits: np.ndarray, maps: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        views = self.plan.test.unit()
        heatmaps, spread = (np.zeros((len(rows), *maps.shape[3:]), np.float32) for _ in range(2))
        for number in np.unique(self.group.task_of[rows]).tolist():
            of_task, classes = self.group.task_of[rows] == number, self.group.columns(number)
            outputs = logits[of_task][:, classes], maps[of_task][:, :, classes], views
            kind, known = self._heatmap(number)
            heatmaps[of_task] = heatmaps_of(*outputs, kind, *known)
            if has_spread(kind, *known):
                spread[of_task] = heatmaps_of(*outputs, "spread", *known)
        return {"logits": logits, "heatmaps": heatmaps, "spread": spread}

    def _heatmap(self, number: int) -> tuple[str, tuple[int | None, tuple[int, ...]]]:
        """Return the kind of a task's heatmaps, its invisible class, and the classes that were trained."""
        invisible = self.group.tasks[number].task.invisible
        return self.plans[number].heatmap, (invisible, self.group.trained_classes[number])

    def write_task(self, number: int, folder: TaskFolder) -> None:
        data = self.group.tasks[number]
        logits, networks = np.zeros(data.letters.shape, np.float32), np.full(len(data), "", "U8")
        for network, rows, part in self.predictions(number):
            logits[rows], networks[rows] = part["logits"], network
        kind, (invisible, trained) = self._heatmap(number)
        for file in (folder.spread, folder.pooling, folder.trained_classes):  # not every task has them
            file.unlink(missing_ok=True)
        self._write_heatmaps(number, "heatmaps", folder.heatmaps)
        if has_spread(kind, invisible, trained):
            self._write_heatmaps(number, "spread", folder.spread)
        if self.trials:
            write_json(folder.pooling, read_json(self._figures, PoolingFigures))
        if len(trained) < len(data.task.classes):
            write_json(folder.trained_classes, trained)
        probabilities = softmax(logits.astype(np.float64))
        full = write_predictions(folder.predictions_csv(1), data, probabilities, networks)
        write_arrays(folder.predictions(1), full=full, networks=networks)

    def _write_heatmaps(self, number: int, name: str, path: Path) -> None:
        shape = next(part[name].shape[1:] for _, _, part in self.predictions(number))
        with atomic_array(path, (len(self.group.tasks[number]), *shape), np.float32) as heatmaps:
            for _, rows, part in self.predictions(number):
                heatmaps[rows] = part[name]


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


def fold_notes(group: TaskGroup, fold_of: np.ndarray) -> Iterator[str]:
    """Yield a message for each task with classes whose training images are all in one of several folds."""
    for number, data in enumerate(group.tasks):
        rows, classes = group.rows_of(number), group.columns(number)
        folds, shown = fold_of[rows], group.letters[rows, classes] == YES
        counts = np.sum([shown[folds == fold].any(axis=0) for fold in range(fold_of.max() + 1)], axis=0)
        if (few := np.flatnonzero(counts == 1)).size:
            names = ", ".join(data.task.classes[i] for i in few)
            yield (
                f"{data.task.short}: the network that predicts the training images of {names} has trained on "
                "no such image: they are one group, or one image; divide the group, or add images"
            )
