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
from heatcrop.runs.predictions import write_predictions
from stage2_crop.rule import CropRule


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
    write_predictions(to.predictions(1), images, splits, full, classes, ["final"] * n)
    write_array(to.heatmaps, rng.normal(size=(n, 7, 7)).astype(np.float32))
    late = splits != "train"
    late_images = np.array(images)[late].tolist()
    write_predictions(to.predictions(3), late_images, splits[late], crop[late], classes)
    write_predictions(to.fused, late_images, splits[late], (0.5 * full + 0.5 * crop)[late], classes)
    sizes_array = np.array(sizes)
    table = pd.DataFrame(
        {
            "image": images,
            "split": splits,
            "x0": 0,
            "y0": 2,
            "x1": sizes_array.min(1) // 2,
            "y1": 2 + sizes_array.min(1) // 2,
            "threshold": 0.35,
            "margin": 0.1,
            "fallback": "",
            "score": 0.5,
        }
    )
    table.loc[::5, ["x0", "y0", "fallback"]] = [0, 0, "flat"]
    table.loc[::5, ["x1", "y1"]] = sizes_array[::5]
    table.loc[1::5, "fallback"] = "usual"
    write_table(to.boxes, table)
    curve = [
        {
            "setting": setting,
            "value": value,
            "crop_ap": 0.5,
            "fused_ap": 0.5 + i / 50,
            "weight": 0.5,
            "difference": i / 50,
            "error": 0.01 * i,
            "side": 0.4,
            "chosen": i == 1,
        }
        for setting, values in (
            ("threshold", (0.6, 0.3)),
            ("invisible", ("crop", "whole")),
            ("enabled", (True, False)),
        )
        for i, value in enumerate(values)
    ]
    rule = {**dataclasses.asdict(CropRule()), "threshold": 0.35}
    write_json(to.rule, {"rule": rule, "start": rule, "rows": 9, "curve": curve})
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
