"""A drawn task with made-up results of all three stages, for tests of what is computed from them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from heatcrop.data.dataset import TaskData
from heatcrop.data.images import write_jpeg
from heatcrop.data.tasks import Task
from heatcrop.files import write_array, write_json, write_table
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import write_arrays, write_predictions
from stage2_crop.boxes import Heatmaps, find_crops, write_boxes
from stage2_crop.plan import CropRule


def draw_task(
    folder: RunFolder, name: str, classes: tuple[str, ...], n: int, labelled_test: bool, seed: int
) -> TaskData:
    """Draw images and write the files of all three stages."""
    rng = np.random.default_rng(seed)
    task = Task(name, classes)
    home = folder.path.parent / "images & more"
    home.mkdir(exist_ok=True)
    images, paths, sizes = [], [], []
    for i in range(n):
        width, height = int(rng.integers(40, 90)), int(rng.integers(40, 90))
        path = home / f"{name} {i}#'.jpg"
        write_jpeg(path, rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        images.append(f"Images/{name}/{i}<b>.jpg")
        paths.append(str(path))
        sizes.append((width, height))
    splits = np.array(["train", "val", "test", "test"] * n)[:n]
    letters = np.zeros((n, len(classes)), np.int8)
    letters[np.arange(n), rng.integers(0, len(classes), n)] = 2
    if not labelled_test:
        letters[splits == "test"] = 0
    data = TaskData(task, tuple(images), tuple(paths), np.array(sizes), letters, splits, np.full(n, ""))
    to = folder.task(name)
    full, crop = (rng.dirichlet(np.ones(len(classes)), n) for _ in range(2))
    heatmaps = rng.normal(size=(n, 7, 7)).astype(np.float32)
    heatmaps[np.arange(n), rng.integers(1, 6, n), rng.integers(1, 6, n)] += 8
    heatmaps[::5] = 1.0
    write_array(to.heatmaps, heatmaps)
    networks, late = np.full(n, "final"), np.flatnonzero(splits != "train")
    networks = np.where(np.arange(n) % 8 == 0, "fold 0", networks)  # every second training image
    written = write_predictions(to.predictions_csv(1), data, full, networks)
    write_arrays(to.predictions(1), full=written, networks=networks)
    late_networks = np.where(splits != "train", "final", "")
    crop_written = write_predictions(to.predictions_csv(3), data, crop, networks, late)
    fused_written = write_predictions(to.fused_csv, data, 0.5 * full + 0.5 * crop, networks, late)
    write_arrays(to.predictions(3), crop=crop_written, fused=fused_written, networks=late_networks)
    sizes_array = np.array(sizes)
    rule = CropRule(prior=(0.5, 0.5, 0.5, 0.5), usual=(0.5, 0.5, 0.5))
    crops = find_crops(Heatmaps(heatmaps, sizes_array, "pad", np.zeros(n, bool)), rule)
    boxes, fallback = np.array([one.box for one in crops]), np.array([one.fallback for one in crops])
    arrays = {"boxes": boxes, "fallback": fallback, "score": np.full(n, 0.5)}
    write_arrays(to.boxes, **arrays)
    write_boxes(to.boxes_csv, data, rule, **arrays)
    curve = [
        {
            "setting": setting,
            "value": value,
            "crop_ap": 0.5,
            "fused_ap": 0.5 + i / 50,
            "score": 0.5 + i / 50,
            "weight": 0.5,
            "difference": i / 50,
            "error": 0.01 * i,
            "side": 0.4,
            "chosen": i == 1,
        }
        for setting, values in (
            ("threshold", (0.6, 0.3)),
            ("zoom", (2.0, 0.0)),
            ("threshold", (0.3, 0.45)),
            ("invisible", ("crop", "whole")),
            ("enabled", (True, False)),
        )
        for i, value in enumerate(values)
    ]
    values = dataclasses.asdict(rule)
    write_json(to.rule, {"rule": values, "start": values, "rows": 9, "curve": curve})
    for stage, network in ((1, "final"), (1, "fold 0"), (3, "final"), (3, "fold 0")):
        lines = pd.DataFrame(
            {
                "network": network,
                "epoch": [1, 2],
                "learning_rate": 0.1,
                "train_loss": [2.0, 1.0],
                "val_loss": [2.0, 1.5],
                "val_map": [0.2, 0.5],
                "val_accuracy": 0.3,
                "seconds": 1.0,
            }
        )
        old = pd.read_csv(to.history(stage)) if to.history(stage).is_file() else None
        write_table(to.history(stage), pd.concat([old, lines]))
    return data
