"""Fine-tune stage 1's network on one task's crops and fuse both branches."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attributes.dataset import TaskData
from learning.augment import Augmentation
from learning.batches import Pictures
from learning.branch import (
    Workshop,
    fit,
    load_classifier,
    make_inputs,
    new_classifier,
    open_classifier,
    predict,
    save_classifier,
)
from learning.checkpoint import Checkpoint
from learning.fusion import Fusion, fit_fusion, fuse
from learning.inference import Runner, softmax
from learning.inputs import TestViews
from learning.train import TrainingPlan
from runfolder.boxes import read_boxes
from runfolder.files import whole, write_json, write_table
from runfolder.folder import TaskFolder
from runfolder.predictions import read_predictions, write_predictions
from runfolder.progress import progress


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
    views: int = 4
    test: TestViews = TestViews()
    cross_fit: bool = True


def run(
    data: TaskData,
    folder: TaskFolder,
    plan: FinetunePlan,
    shop: Workshop,
    trunk: Runner | None,
    cache: Path,
    mark: str = "",
) -> dict[str, float]:
    """Run stage 3 for one task.

    The crops are cut from the original pictures by ``boxes.csv`` rather than read back from the
    crop folder: the pixels are the same, without a second JPEG compression, and augmentation can
    reach beyond the cut.

    Parameters
    ----------
    folder : TaskFolder
        Gets ``stage3/``: weights.params, network.onnx, history.csv, predictions.csv, fused.csv,
        fusion.json.
    cache : Path
        For cached features, and for checkpoints of the training.
    mark : str
        The stage's fingerprint: a training that broke off goes on only under the same one.

    Returns
    -------
    dict of str to float
        Seconds spent on ``finetune``.
    """
    started, short = time.perf_counter(), data.task.short
    train_rows, val_rows = data.rows("train", labelled=True), data.rows("val", labelled=True)
    boxes = read_boxes(folder.boxes)[1]
    cached = len(val_rows) + (1 + plan.views) * len(train_rows) if trunk else 0
    with progress(f"{short}: crop features", cached) as bar:
        inputs = make_inputs(
            shop,
            trunk,
            Pictures(data.paths, boxes, np.load(folder.training_boxes, mmap_mode="r"), data.sizes),
            train_rows,
            plan.augment,
            plan.test,
            plan.views,
            cache,
            bar,
            val_rows,
        )
    table, full = read_predictions(folder.predictions(1))
    spoke = table.pop("network").to_numpy(str)
    del table
    folds = sorted(set(spoke[train_rows]) - {"final"}) if plan.cross_fit else []
    history: list[dict[str, Any]] = []
    logits = np.zeros((len(data), len(data.task.classes)), np.float64)
    network = np.full(len(data), "", dtype=object)
    for name in ("final", *folds):
        net = new_classifier(shop, inputs.shape, len(data.task.classes), shop.seed)
        load_classifier(net, folder.weights(1) if name == "final" else folder.fold_weights(name))
        rows = train_rows if name == "final" else train_rows[spoke[train_rows] != name]
        with progress(f"{short}: fine-tune {name}", plan.training.epochs) as bar:
            history += fit(
                net, inputs, data.soft, data.letters, rows, val_rows, plan.training, shop.seed + 1, name, bar,
                Checkpoint(cache / f"{name}.checkpoint", f"{mark} {name}"), shop.devices,
            )  # fmt: skip
        if name == "final":
            with whole(folder.weights(3)) as partial:
                save_classifier(net, partial)
        shown = np.flatnonzero((spoke == name) & ((data.splits != "train") | (name != "final")))
        onnx = folder.network(3) if name == "final" else cache / "fold.onnx"
        with progress(f"{short}: predict crops with {name}", len(shown)) as bar:
            for some, _, index in predict(open_classifier(shop, net, inputs.shape, onnx), inputs, shown):
                logits[index], network[index] = some, name
                bar(len(index))
    crop = softmax(logits)
    fitted = np.union1d(val_rows, train_rows[network[train_rows] != ""])
    how = fit_fusion(full[fitted], crop[fitted], data.letters[fitted], data.soft[fitted])
    shown = np.flatnonzero(network != "")
    who = ([data.images[i] for i in shown], data.splits[shown])
    fused = fuse(full[shown], crop[shown], how)
    write_table(folder.history(3), pd.DataFrame(history))
    write_predictions(folder.predictions(3), *who, crop[shown], data.task.classes, network[shown])
    write_predictions(folder.fused, *who, fused, data.task.classes, network[shown])
    write_json(
        folder.fusion,
        {**dataclasses.asdict(how), "rows": len(fitted), "fitted_on": "val + folds" if folds else "val"},
    )
    return {"finetune": time.perf_counter() - started}


def read_fusion(path: Path) -> Fusion:
    """Read ``fusion.json``."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return Fusion(**{f.name: float(values[f.name]) for f in dataclasses.fields(Fusion)})
