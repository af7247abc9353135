"""Export a finished run: ONNX networks and one JSON that says how to run them without this program."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from learning.branch import OUTPUTS
from program.config import read_config
from program.errors import RunError
from program.run import workshop
from runfolder.boxes import read_rule
from runfolder.files import write_json
from runfolder.folder import RunFolder
from stage3_finetune.stage import read_fusion


def export_run(folder: RunFolder, out: Path) -> Path:
    """Copy the networks and write ``heatcrop.json``.

    Raises
    ------
    RunError
        When nothing is finished, or `out` holds something else already.
    """
    if not folder.config.is_file():
        raise RunError(f"{folder.path}: is not a run folder (no config.yaml)")
    config = read_config(folder.config)
    if config.heatmap.by_gradient:
        raise RunError(
            f"{folder.path}: its heatmaps ({config.heatmap.method}) need a backward pass, which no ONNX file "
            "holds; to export, run again with --set heatmap.method=cam"
        )
    shop = workshop(config, folder)
    done = [t for t in config.known_tasks() or () if folder.task(t.name).finished]
    if not done:
        raise RunError(f"{folder.path}: no task is finished; run it first: python pipeline.py run --all")
    description = out / "heatcrop.json"
    if out.exists() and any(out.iterdir()) and not description.is_file():
        raise RunError(f"{out}: holds other files; give --out an empty or a new folder")
    out.mkdir(parents=True, exist_ok=True)
    trunk = None
    if shop.network.frozen_blocks:
        shutil.copyfile(folder.trunk / "trunk.onnx", out / "trunk.onnx")
        trunk = "trunk.onnx"
    tasks = {}
    for task in done:
        files = folder.task(task.name)
        cam, _, finetune = config.plans(task)
        for number in (1, 3):
            if not files.network(number).is_file():
                raise RunError(f"{files.network(number)} is missing; run the stage again")
            shutil.copyfile(files.network(number), out / f"{task.name}.stage{number}.onnx")
        tasks[task.name] = {
            "classes": list(task.classes),
            "full": {"network": f"{task.name}.stage1.onnx", "views": dataclasses.asdict(cam.test)},
            "heatmap": cam.heatmap,
            "crop_rule": read_rule(files.rule)["rule"],
            "crop": {"network": f"{task.name}.stage3.onnx", "views": dataclasses.asdict(finetune.test)},
            "fusion": dataclasses.asdict(read_fusion(files.fusion)),
        }
    spec = shop.form.backbone
    write_json(description, {
        "input": {"side_px": shop.form.side_px, "fit": shop.form.fit, "layout": "N,3,H,W", "channels": "RGB",
                  "mean": spec.mean, "std": spec.std, "range": "(x / 255 - mean) / std"},
        "trunk": trunk,
        "outputs": OUTPUTS,
        "tasks": tasks,
    })  # fmt: skip
    return description
