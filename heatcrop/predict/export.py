"""Export a finished run: ONNX networks and one JSON that describes how to run them without this program."""

from __future__ import annotations

import shutil
from pathlib import Path

from heatcrop.errors import RunError
from heatcrop.files import atomic_path, write_json
from heatcrop.nets.inference import open_network
from heatcrop.predict.description import UNFINISHED
from heatcrop.predict.trained_run import TrainedRun, describe_run
from heatcrop.runs.folder import RunFolder


def export_run(run: TrainedRun, out: Path) -> Path:
    """Copy the networks and write ``heatcrop.json``.

    RunError where nothing is finished, a network is damaged, or `out` is a run folder.
    """
    maps = run.context.maps
    if maps.by_gradient:
        raise RunError(
            f"{run.folder.path}: its heatmaps ({maps.method}) need a backward pass, which no ONNX file "
            "holds; to export, run again with --set heatmap.method=cam"
        )
    if RunFolder(out).config.is_file():
        raise RunError(f"{out}: is a run folder itself; give --out a new or an empty folder")
    description, path = describe_run(run, run.choose(())), RunFolder(out).description
    copies: dict[Path, Path] = {}  # target: source

    def exported(source: Path, name: str) -> Path:
        if not source.is_file():
            raise RunError(f"{source} is missing; run the stage again")
        if source not in copies.values():
            open_network(source)  # a damaged one is found here, not by the user of the export
        copies[out / name] = source
        return out / name

    tasks = {}
    for name, one in description.tasks.items():
        prefix = "" if run.shared else f"{name}."  # of shared networks, all tasks have the same
        full = exported(one.full.network, f"{prefix}stage1.onnx")
        crop = exported(one.crop.network, f"{prefix}stage3.onnx")
        tasks[name] = one.model_copy(
            update={
                "full": one.full.model_copy(update={"network": full}),
                "crop": one.crop.model_copy(update={"network": crop}),
            }
        )
    trunk = exported(description.trunk, "trunk.onnx") if description.trunk else None
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, UNFINISHED)  # the description never fits networks of another export
    for target, source in copies.items():
        with atomic_path(target) as partial:
            shutil.copyfile(source, partial)
    write_json(path, description.model_copy(update={"tasks": tasks, "trunk": trunk}).as_json(out))
    return path
