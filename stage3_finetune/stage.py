"""Fine-tune stage 1's network on one task's crops and fuse both branches."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from heatcrop.data.dataset import TaskData
from heatcrop.data.texts import take
from heatcrop.files import write_json, write_table
from heatcrop.metrics.fusion import Fusion, fit_fusion, fuse
from heatcrop.nets.inference import Runner, softmax
from heatcrop.runs.boxes import read_cuts
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.predictions import read_networks, write_predictions
from heatcrop.runs.progress import progress
from heatcrop.runs.reading import damaged, read_array, read_json
from heatcrop.training.augment import Augmentation
from heatcrop.training.batches import Pictures
from heatcrop.training.branch import Workshop, load_classifier, predict
from heatcrop.training.inputs import TestViews
from heatcrop.training.loop import TrainingPlan
from heatcrop.training.pieces import BranchWork, Seconds


@dataclasses.dataclass(frozen=True)
class FinetunePlan:
    """What stage 3 does.

    Attributes
    ----------
    training : TrainingPlan
    augment : Augmentation
    views : int
        Augmented views of each training crop that are cached behind a frozen trunk.
    test : TestViews
    cross_fit : bool
        Fit the fusion on training pictures too: for each of stage 1's folds a crop network is
        trained without it, so that both branches have spoken about every training picture without
        having seen it. Costs one more training; without it a small validation split decides alone.
    """

    training: TrainingPlan = TrainingPlan()
    augment: Augmentation = Augmentation()
    views: Annotated[int, Field(ge=1, le=1000)] = 4
    test: TestViews = TestViews()
    cross_fit: bool = True


class FinetuneWork(BranchWork):
    """Stage 3 of one task, in pieces.

    The crops are cut from the original pictures by ``boxes.csv`` rather than read back from the
    crop folder: the pixels are the same, without a second JPEG compression, and augmentation can
    reach beyond the cut.

    Parameters
    ----------
    folder : TaskFolder
        Gets ``stage3/``: weights.params, network.onnx, history.csv, predictions.csv, fused.csv,
        fusion.json.
    data, plan, shop, trunk, cache, mark
        As for :class:`heatcrop.training.pieces.BranchWork`.
    """

    stage, section = 3, "finetune"

    def __init__(
        self,
        data: TaskData,
        folder: TaskFolder,
        plan: FinetunePlan,
        shop: Workshop,
        trunk: Callable[[], Runner | None],
        cache: Path,
        mark: str = "",
    ) -> None:
        super().__init__(data, plan, shop, trunk, cache, mark)
        self.folder, self.plan = folder, plan
        self._spoke, self._full = self._said_before()
        folds = sorted(set(self._spoke[self.train_rows]) - {"final"}) if plan.cross_fit else []
        self.names = ["final", *folds]

    def _said_before(self) -> tuple[np.ndarray, np.ndarray]:
        """Which of stage 1's networks spoke of each row, (N,) str, and what it said, (N, C)."""
        return read_networks(self.folder.predictions(1))

    def pictures(self) -> Pictures:
        boxes = read_cuts(self.folder.boxes, len(self.data))[1]
        trained = read_array(self.folder.training_boxes)
        return Pictures(self.data.paths, boxes, trained, self.data.sizes)

    def compute(self, part: int) -> Seconds:
        """Compute a part of the cached features."""
        started = time.perf_counter()
        with progress(f"{self.data.task.short}: crop features", self.features.pictures_in(part)) as bar:
            self.compute_features(part, bar)
        return {"finetune": time.perf_counter() - started}

    def train(self, name: str) -> Seconds:
        """Fine-tune one of stage 1's networks."""
        started, short, seed = time.perf_counter(), self.data.task.short, self.shop.seed + 1
        rows = self.train_rows
        if name != "final":
            rows = rows[self._spoke[rows] != name]
        net = self.new_network()
        load_classifier(net, self.folder.weights(1) if name == "final" else self.folder.fold_weights(name))
        with progress(f"{short}: fine-tune {name}", self.plan.training.epochs) as bar:
            self.train_network(name, net, rows, seed, self._weights(name), self._exported(name), bar)
        return {"finetune": time.perf_counter() - started}

    def look(self, name: str, first: int, end: int) -> Seconds:
        """Predict a part of a network's crops."""
        started, rows = time.perf_counter(), self.shown(name)[first:end]
        runner = self.runner(name, self._weights(name), self._exported(name))
        logits = np.zeros((len(rows), len(self.data.task.classes)), np.float64)
        done = 0
        with progress(f"{self.data.task.short}: predict crops with {name}", len(rows)) as bar:
            for some, _, index in predict(runner, self.inputs, rows):
                logits[done : done + len(index)] = some
                done += len(index)
                bar(len(index))
        self.leave_looks(name, first, logits=logits)
        return {"finetune": time.perf_counter() - started}

    def finish(self) -> Seconds:
        """Put together what the networks have said, and fuse."""
        started = time.perf_counter()
        logits, network = self._said()
        history = pd.DataFrame(self.history(self.names))
        write_fused(self.folder, self.data, softmax(logits), network, self._full, history)
        return {"finetune": time.perf_counter() - started}

    def _said(self) -> tuple[np.ndarray, np.ndarray]:
        """What was said of each row's crop, (N, C) logits, and by which network, (N,); '' for none."""
        logits = np.zeros((len(self.data), len(self.data.task.classes)), np.float64)
        network = np.full(len(self.data), "", dtype=object)
        for _, (name, first, end) in self.all_looks():
            rows = self.shown(name)[first:end]
            logits[rows], network[rows] = self.looks(name, first)["logits"], name
        return logits, network

    def shown(self, name: str) -> np.ndarray:
        """The rows that a network looks at: training rows only those that it has not seen."""
        return np.flatnonzero((self._spoke == name) & ((self.data.splits != "train") | (name != "final")))

    def _weights(self, name: str) -> Path:
        return self.folder.weights(3) if name == "final" else self.cache / f"{name}.params"

    def _exported(self, name: str) -> Path:
        return self.folder.network(3) if name == "final" else self.cache / f"{name}.onnx"


def write_fused(
    folder: TaskFolder,
    data: TaskData,
    crop: np.ndarray,
    network: np.ndarray,
    full: np.ndarray,
    history: pd.DataFrame,
) -> None:
    """Fuse what both branches have said of one task, and leave its files.

    Parameters
    ----------
    crop, full : ndarray of float, shape (N, C)
        Probabilities.
    network : ndarray of str, shape (N,)
        Who spoke of the crop; '' for nobody, whose rows are left out.
    """
    train_rows = data.rows("train", labelled=True)
    fitted = np.union1d(data.rows("val", labelled=True), train_rows[network[train_rows] != ""])
    how = fit_fusion(full[fitted], crop[fitted], data.letters[fitted], data.soft[fitted])
    shown = np.flatnonzero(network != "")
    who = (take(data.images, shown), data.splits[shown])
    fused = fuse(full[shown], crop[shown], how)
    write_table(folder.history(3), history)
    write_predictions(folder.predictions(3), *who, crop[shown], data.task.classes, network[shown])
    write_predictions(folder.fused, *who, fused, data.task.classes, network[shown])
    fitted_on = "val + folds" if history["network"].nunique() > 1 else "val"
    write_json(folder.fusion, {**dataclasses.asdict(how), "rows": len(fitted), "fitted_on": fitted_on})


def read_fusion(path: Path) -> Fusion:
    """Read ``fusion.json``.

    Raises
    ------
    DataError
        Where it lacks a number.
    """
    values = read_json(path)
    names = [f.name for f in dataclasses.fields(Fusion)]
    for name in names:
        if type(values.get(name)) not in (int, float):
            raise damaged(path, f"{name} is {values.get(name)!r}; expected a number")
    return Fusion(**{name: float(values[name]) for name in names})
