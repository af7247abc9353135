"""Train the full-image classifier of one task and leave predictions and heatmaps in the run folder.

Training pictures get their heatmaps from networks that did not train on them: the training split
is cut into folds, and each fold is looked at by a network that trained on the others. A network
that has memorised its pictures draws sharper maps on them than it will on new ones, and crops cut
from such maps would teach stage 3 a precision that no test picture has.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from attributes.dataset import TaskData
from attributes.splits import assign_folds
from learning.augment import Augmentation
from learning.batches import Pictures
from learning.branch import (
    Workshop,
    fit,
    make_inputs,
    new_classifier,
    open_mapped,
    predict,
    save_classifier,
)
from learning.checkpoint import Checkpoint
from learning.inference import Runner, softmax
from learning.inputs import Inputs, TestViews
from learning.rowfile import RowFile
from learning.train import TrainingPlan
from runfolder.files import whole, write_table
from runfolder.folder import TaskFolder
from runfolder.predictions import write_predictions
from runfolder.progress import progress, say
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


@dataclasses.dataclass
class Found:
    """What the networks said of all rows, filled in network by network."""

    logits: np.ndarray  # (N, C) float32
    heatmaps: RowFile  # (N, h, w) float32
    network: np.ndarray  # (N,) str

    def write(self, folder: TaskFolder, data: TaskData) -> None:
        """Leave ``heatmaps.npy`` and ``predictions.csv``."""
        with whole(folder.heatmaps) as partial:
            self.heatmaps.save(partial)
        write_predictions(
            folder.predictions(1), data.images, data.splits, softmax(self.logits.astype(np.float64)),
            data.task.classes, self.network.tolist(),
        )  # fmt: skip


def run(
    data: TaskData,
    folder: TaskFolder,
    plan: CamPlan,
    shop: Workshop,
    trunk: Runner | None,
    cache: Path,
    mark: str = "",
) -> dict[str, float]:
    """Run stage 1 for one task.

    Parameters
    ----------
    data : TaskData
    folder : TaskFolder
        Gets ``stage1/``: weights.params, network.onnx, history.csv, predictions.csv, heatmaps.npy.
    plan : CamPlan
    shop : Workshop
    trunk : Runner or None
        The opened frozen part.
    cache : Path
        For cached features, and for checkpoints of the training.
    mark : str
        The stage's fingerprint: a training that broke off goes on only under the same one.

    Returns
    -------
    dict of str to float
        Seconds spent on ``train`` (features and training) and ``cam`` (predictions and heatmaps).
    """
    started, looking = time.perf_counter(), 0.0
    short = data.task.short
    train_rows, val_rows = data.rows("train", labelled=True), data.rows("val", labelled=True)
    cached = len(val_rows) + (1 + plan.views) * len(train_rows) if trunk else 0
    with progress(f"{short}: features", cached) as bar:
        inputs = make_inputs(
            shop,
            trunk,
            Pictures(data.paths),
            train_rows,
            plan.augment,
            plan.test,
            plan.views,
            cache,
            bar,
            val_rows,
        )
    history: list[dict[str, Any]] = []
    found: Found | None = None
    fold_of = fold_rows(data, plan.folds, shop.seed)
    if plan.folds > 1 and (fold_of < 0).all():
        say(
            f"{short}: all training pictures are one group; their heatmaps come from the network they trained"
        )
    for fold in (-1, *range(int(fold_of.max()) + 1)):
        name = "final" if fold < 0 else f"fold {fold}"
        rows = train_rows if fold < 0 else train_rows[fold_of[train_rows] != fold]
        net = new_classifier(shop, inputs.shape, len(data.task.classes), shop.seed)
        shop.maps.check(len(net.blocks))
        with progress(f"{short}: train {name}", plan.training.epochs) as bar:
            history += fit(
                net, inputs, data.soft, data.letters, rows, val_rows, plan.training, shop.seed, name, bar,
                Checkpoint(cache / f"{name}.checkpoint", f"{mark} {name}"), shop.devices,
            )  # fmt: skip
        with whole(folder.weights(1) if fold < 0 else folder.fold_weights(name)) as partial:
            save_classifier(net, partial)
        turned = time.perf_counter()
        exported = folder.network(1) if fold < 0 else cache / "fold.onnx"
        runner = open_mapped(shop, net, inputs.shape, exported)
        shown = np.flatnonzero(fold_of == fold)
        with progress(f"{short}: heatmaps of {name}", len(shown)) as bar:
            found = look(runner, inputs, shown, plan, data, name, found, cache / "heatmaps", bar)
        looking += time.perf_counter() - turned
    if found is None:
        raise ValueError(f"{data.task.name}: no picture to look at")
    write_table(folder.history(1), pd.DataFrame(history))
    found.write(folder, data)
    return {"train": time.perf_counter() - started - looking, "cam": looking}


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
    runner: Runner, inputs: Inputs, rows: np.ndarray, plan: CamPlan, data: TaskData, name: str,
    found: Found | None, file: Path, done: Callable[[int], None] = lambda _: None,
) -> Found | None:  # fmt: skip
    """Predict rows and take the predicted class's heatmap of each, in the same forward pass.

    Heatmaps are collected in `file`: those of millions of pictures are more than memory holds.
    """
    views = plan.test.unit()
    for logits, maps, index in predict(runner, inputs, rows):
        if found is None:
            n = len(data)
            file.parent.mkdir(parents=True, exist_ok=True)
            heatmaps = RowFile(file, n, maps.shape[-2:], np.float32)
            found = Found(np.zeros((n, logits.shape[1]), np.float32), heatmaps, np.full(n, "", object))
        found.logits[index], found.network[index] = logits, name
        found.heatmaps.write(index, predicted_heatmaps(logits, maps, views, plan.heatmap))
        done(len(index))
    return found
