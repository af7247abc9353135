"""Train the full-image classifier of one task and leave predictions and heatmaps in the run folder.

Training pictures get their heatmaps from networks that did not train on them: the training split
is cut into folds, and each fold is looked at by a network that trained on the others. A network
that has memorised its pictures draws sharper maps on them than it will on new ones, and crops cut
from such maps would teach stage 3 a precision that no test picture has.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from heatcrop.data.dataset import TaskData
from heatcrop.data.splits import assign_folds
from heatcrop.files import atomic_path, write_table
from heatcrop.nets.classifier import NetworkContext
from heatcrop.nets.inference import Runner, softmax
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.predictions import write_predictions
from heatcrop.runs.progress import log, progress
from heatcrop.training.augment import Augmentation
from heatcrop.training.batches import Images
from heatcrop.training.inputs import Inputs
from heatcrop.training.loop import TrainingPlan
from heatcrop.training.pieces import BranchWork, Piece, Seconds
from heatcrop.training.prediction import predict
from heatcrop.training.rowfile import create_rows, write_rows
from heatcrop.training.views import TestViews
from stage1_cam.heatmaps import predicted_heatmaps


@dataclasses.dataclass(frozen=True)
class CamPlan:
    """What stage 1 does.

    Attributes
    ----------
    training : TrainingPlan
    augment : Augmentation
    views : int
        Augmented views of each training picture that are cached behind a frozen trunk.
    folds : int
        Networks that share the training pictures' heatmaps; 1 takes them from the final network,
        which has trained on them (for comparison only).
    test : TestViews
    heatmap : {'plain', 'contrast', 'distance'}
        See :func:`stage1_cam.heatmaps.class_heatmap`.
    """

    training: TrainingPlan = TrainingPlan()
    augment: Augmentation = Augmentation()
    views: int = 4
    folds: int = 3
    test: TestViews = TestViews()
    heatmap: Literal["plain", "contrast", "distance"] = "distance"


Look = tuple[np.ndarray, np.ndarray, np.ndarray, str]
"""What a network has said: rows (B,), their logits (B, C) and heatmaps (B, h, w), the network's name."""


class CamWork(BranchWork):
    """Stage 1 of one task, in pieces.

    Parameters
    ----------
    folder : TaskFolder
        Gets ``stage1/``: weights.params, network.onnx, history.csv, predictions.csv, heatmaps.npy.
    data, plan, shop, trunk, cache, mark
        As for :class:`heatcrop.training.pieces.BranchWork`.
    """

    stage, section = 1, "cam"
    mapped = True

    def __init__(
        self,
        data: TaskData,
        folder: TaskFolder,
        plan: CamPlan,
        shop: NetworkContext,
        trunk: Callable[[], Runner | None],
        cache: Path,
        mark: str = "",
    ) -> None:
        super().__init__(data, plan, shop, trunk, cache, mark)
        self.folder, self.plan = folder, plan
        self._fold_of = fold_rows(data, plan.folds, shop.seed)
        self.names = ["final", *(f"fold {fold}" for fold in range(int(self._fold_of.max(initial=-1)) + 1))]

    def pictures(self) -> Images:
        return Images(self.data.paths)

    def rounds(self) -> Iterator[list[Piece]]:
        if not len(self.data):
            raise ValueError(f"{self.data.task.name}: no picture to look at")
        if self.plan.folds > 1 and len(self.names) == 1:
            log(
                f"{self.data.task.short}: all training pictures are one group; "
                "their heatmaps come from the network they trained"
            )
        yield from super().rounds()

    def compute(self, part: int) -> Seconds:
        """Compute a part of the cached features."""
        started = time.perf_counter()
        with progress(f"{self.data.task.short}: features", self.features.images_in(part)) as bar:
            self.compute_features(part, bar)
        return {"train": time.perf_counter() - started}

    def train(self, name: str) -> Seconds:
        """Train one network."""
        started, short, seed = time.perf_counter(), self.data.task.short, self.shop.seed
        rows = self.train_rows
        if name != "final":
            rows = rows[self._fold_of[rows] != _number(name)]
        net = self.new_network()
        self.shop.maps.check(len(net.net.blocks))
        with progress(f"{short}: train {name}", self.plan.training.epochs) as bar:
            self.train_network(name, net, rows, seed, self._weights(name), self._exported(name), bar)
        return {"train": time.perf_counter() - started}

    def look(self, name: str, first: int, end: int) -> Seconds:
        """Predict a part of a network's rows and take their heatmaps."""
        started, rows = time.perf_counter(), self.shown(name)[first:end]
        runner = self.runner(name, self._weights(name), self._exported(name))
        logits, heatmaps = [], []
        with progress(f"{self.data.task.short}: heatmaps of {name}", len(rows)) as bar:
            for some, maps in self._look(runner, rows):
                logits.append(some)
                heatmaps.append(maps)
                bar(len(some))
        self.leave_looks(name, first, logits=np.concatenate(logits), heatmaps=np.concatenate(heatmaps))
        return {"cam": time.perf_counter() - started}

    def _look(self, runner: Runner, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return look(runner, self.inputs, rows, self.plan)

    def finish(self) -> Seconds:
        """Put together what the networks have said."""
        started = time.perf_counter()
        write_looks(self.folder, self.data, self._said())
        write_table(self.folder.history(1), pd.DataFrame(self.history(self.names)))
        return {"cam": time.perf_counter() - started}

    def _said(self) -> Iterator[Look]:
        for _, (name, first, end) in self.all_looks():
            said = self.looks(name, first)
            yield self.shown(name)[first:end], said["logits"], said["heatmaps"], name

    def shown(self, name: str) -> np.ndarray:
        """The rows that a network looks at."""
        return np.flatnonzero(self._fold_of == _number(name))

    def _weights(self, name: str) -> Path:
        return self.folder.weights(1) if name == "final" else self.folder.fold_weights(name)

    def _exported(self, name: str) -> Path:
        return self.folder.network(1) if name == "final" else self.cache / f"{name}.onnx"


def _number(name: str) -> int:
    """The fold that a network has not seen; -1 for the final one."""
    return -1 if name == "final" else int(name.removeprefix("fold "))


def fold_rows(data: TaskData, n_folds: int, seed: int) -> np.ndarray:
    """The fold whose network looks at each row, (N,) int.

    -1 is the final network, which trains on all training rows: it looks at all others, and at the
    training rows too where there are no two groups to hold apart.
    """
    fold_of, rows = np.full(len(data), -1), data.rows("train", labelled=True)
    if n_folds > 1 and len(rows):
        folds = assign_folds(data.letters[rows], list(data.groups[rows]), n_folds, seed)
        fold_of[rows] = folds if folds.max() > 0 else -1
    return fold_of


def look(
    runner: Runner, inputs: Inputs, rows: np.ndarray, plan: CamPlan
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield logits (B, C) of rows in turn, and the predicted class's heatmap (B, h, w) of each.

    Both come from the same forward pass.
    """
    views = plan.test.unit()
    for logits, maps, _ in predict(runner, inputs, rows):
        yield logits, predicted_heatmaps(logits, maps, views, plan.heatmap)


def write_looks(folder: TaskFolder, data: TaskData, looks: Iterable[Look]) -> None:
    """Leave ``heatmaps.npy`` and ``predictions.csv`` of what the networks have said of all rows.

    Parameters
    ----------
    looks : iterable of Look
        Parts of the rows, in any order. Their heatmaps go straight to the file: those of millions of
        pictures are more than memory holds.
    """
    n = len(data)
    logits, network = np.zeros((n, len(data.task.classes)), np.float32), np.full(n, "", object)
    with atomic_path(folder.heatmaps) as partial:
        for rows, some, heatmaps, name in looks:
            if not partial.exists():
                create_rows(partial, (n, *heatmaps.shape[1:]), "float32")
            write_rows(partial, rows, heatmaps)
            logits[rows], network[rows] = some, name
    write_predictions(
        folder.predictions(1),
        data.images,
        data.splits,
        softmax(logits.astype(np.float64)),
        data.task.classes,
        network.tolist(),
    )
