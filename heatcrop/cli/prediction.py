"""Read what prediction, export and ensembles need of run folders, from their configurations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heatcrop.cli.config import Config
from heatcrop.cli.config_file import read_config
from heatcrop.cli.loading import config_of_run, load_dataset
from heatcrop.cli.run_folders import known_tasks, refuse_no_run, require_finished
from heatcrop.cli.runner import network_context
from heatcrop.errors import EngineError
from heatcrop.nets.devices import DeviceName, choose_trainer, find_devices
from heatcrop.predict.fuse import WEIGHTS, is_weights, write_ensemble
from heatcrop.predict.members import file_member, member_names, run_member
from heatcrop.predict.trained_run import TrainedRun
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.swap import refuse_others

if TYPE_CHECKING:
    import pandas as pd


def trained_run(config: Config, folder: RunFolder) -> TrainedRun:
    """Return what a configuration determines of a run's predictions."""
    tasks, context = config.known_tasks() or (), network_context(config, folder)
    settings = config.model_dump(mode="json")
    return TrainedRun(folder, tasks, config.plans, context, config.network.shared_trunk, settings)


def read_trained_run(folder: RunFolder, engine: str = "auto", device: DeviceName = "auto") -> TrainedRun:
    """Read a run's configuration, for an engine and a device of this machine."""
    refuse_no_run(folder)
    return trained_run(config_for(read_config(folder.config), engine, device), folder)


def config_for(config: Config, engine: str, device: DeviceName) -> Config:
    """Change engine and device; mixed precision stays where the run used it and a GPU of this machine can."""
    try:
        trainer = choose_trainer(config.runtime.trainer, config.network.backbone, device)
    except EngineError:  # what trained the run is not installed here
        trainer = "mxnet"
    amp = config.runtime.amp and bool(find_devices(device, trainer=trainer).training)
    return config.changed("runtime", engine=engine, device=device, amp=amp)


def fuse_runs(
    runs: Sequence[Path], files: Sequence[Path], wanted: Sequence[str], out: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Fuse finished runs and submission files, see :func:`heatcrop.predict.fuse.write_ensemble`.

    The data of the first run gives images, splits and answers. The files must have rows of the validation
    images too. `wanted` are task names; empty for all that the first run has finished.
    """
    names = member_names([*runs, *files])
    refuse_others(out, out / WEIGHTS, "an ensemble's", is_weights)
    first = RunFolder(runs[0])
    chosen = [task.name for task in require_finished(first, wanted)]
    dataset = load_dataset(config_of_run(first), chosen, first, keep=False)
    members = []
    for name, folder in zip(names, map(RunFolder, runs), strict=False):
        members.append(run_member(name, folder, known_tasks(folder), first, dataset.tasks))
    for name, path in zip(names[len(runs) :], files, strict=True):
        members.append(file_member(name, path, first, dataset.known, dataset.tasks))
    return write_ensemble(dataset.tasks, members, out)
