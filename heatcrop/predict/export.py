"""Export a finished run: ONNX networks and one JSON that says how to run them without this program."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from heatcrop.cli.config_file import read_config
from heatcrop.cli.run_folders import refuse_others
from heatcrop.cli.runner import network_context
from heatcrop.errors import REMAKE, RunError
from heatcrop.files import atomic_path, write_json
from heatcrop.nets.inference import open_network
from heatcrop.predict.description import UNFINISHED, as_json, describe_run, is_description
from heatcrop.runs.folder import RunFolder


def export_run(folder: RunFolder, out: Path) -> Path:
    """Copy the networks and write ``heatcrop.json``.

    Raises
    ------
    RunError
        When nothing is finished, a network is damaged, or `out` holds something else already.
    """
    if not folder.config.is_file():
        raise RunError(f"{folder.path}: is not a run folder (no config.yaml)")
    config = read_config(folder.config)
    if config.heatmap.by_gradient:
        raise RunError(
            f"{folder.path}: its heatmaps ({config.heatmap.method}) need a backward pass, which no ONNX file "
            "holds; to export, run again with --set heatmap.method=cam"
        )
    done = [t for t in config.known_tasks() or () if folder.task(t.name).finished]
    if not done:
        raise RunError(f"{folder.path}: no task is finished; run it first: python pipeline.py run --all")
    description = RunFolder(out).description
    if RunFolder(out).config.is_file():
        raise RunError(f"{out}: is a run folder itself; give --out a new or an empty folder")
    refuse_others(out, description, "an export's", is_description)
    exported, copies = [], {}
    for one in describe_run(config, folder, network_context(config, folder).form, done):
        new = {"full": out / f"{one.task.name}.stage1.onnx", "crop": out / f"{one.task.name}.stage3.onnx"}
        if one.outputs is not None:  # all tasks have the same ones
            new = {"full": out / "stage1.onnx", "crop": out / "stage3.onnx"}
        if one.trunk is not None:
            new["trunk"] = out / "trunk.onnx"
        for part, path in new.items():
            source = getattr(one, part)
            if not source.is_file():
                raise RunError(f"{source} is missing; run the stage again")
            if source not in copies.values():
                open_network(source, None, REMAKE)  # else whoever gets the export is told of the damage
            copies[path] = source
        exported.append(dataclasses.replace(one, **new))
    out.mkdir(parents=True, exist_ok=True)
    write_json(description, UNFINISHED)  # never the words of one export beside networks of another
    for path, source in copies.items():
        with atomic_path(path) as partial:
            shutil.copyfile(source, partial)
    write_json(description, as_json(exported, out))
    return description
