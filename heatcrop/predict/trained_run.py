"""Describe a run, export it, and open its networks on MXNet, from its configuration and weights."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.data.listing import UNFINISHED
from heatcrop.data.tasks import Task, resolve
from heatcrop.errors import RunError
from heatcrop.files import atomic_path, write_json, write_text
from heatcrop.metrics.fusion import Fusion
from heatcrop.nets.classifier import NetworkContext
from heatcrop.nets.inference import Runner, open_network
from heatcrop.predict.card import model_card
from heatcrop.predict.description import (
    CARD,
    FORMAT,
    Branch,
    Description,
    InputDescription,
    TaskDescription,
    with_hashes,
)
from heatcrop.runs.folder import RunFolder, TaskFolder, run_again
from heatcrop.runs.progress import log
from heatcrop.runs.reading import missing, read_json
from heatcrop.runs.records import flatten, read_record
from heatcrop.runs.thresholds import read_points
from stage2_crop.plan import SearchedRule


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run folder, and what its configuration determines of its predictions."""

    folder: RunFolder
    tasks: tuple[Task, ...]
    """All that the configuration knows."""
    plans: Callable[[Task], tuple[Any, Any, Any]]
    """Returns the plans of the three stages for a task."""
    context: NetworkContext
    shared: bool
    """Whether all tasks share their networks."""
    settings: dict[str, Any]
    """The configuration as plain values."""

    def choose(self, wanted: Sequence[str]) -> list[Task]:
        """Find tasks by name, by default all that are finished and have the networks that are configured.

        RunError where a wanted one is not, or there are none.
        """
        begun = [task for task in self.tasks if self.folder.task(task.name).path.is_dir()]
        chosen, usable = [resolve(name, begun or self.tasks) for name in wanted], []
        for task in chosen or self.tasks:
            finished, other = self.folder.task(task.name).finished, self._other_network(task)
            if finished and not other:
                usable.append(task)
                continue
            fault, again = other if finished else "is not finished", run_again(self.folder, task.name)
            fault = f"{self.folder.path}: {task.name} {fault}; run it first: {again}"
            if chosen:
                raise RunError(fault)
            if finished:
                log(fault)
        if not usable:
            run = self.folder.command("run", "--all")
            raise RunError(f"{self.folder.path}: no task is finished; run it first: {run}")
        return usable

    def _other_network(self, task: Task) -> str:
        """Describe the network of a task that was made with other settings than those of the run now."""
        record = read_record(self.folder.task(task.name).record("cam"))
        made = record["inputs"]["settings"] if record else {}
        now = flatten({"network": self.context.settings})
        del now["network.dropout"]  # it does not change predictions
        other = [f"{name}={made[name]}" for name, value in now.items() if made.get(name, value) != value]
        return f"was made with {', '.join(other)}, other than {self.folder.config} has" if other else ""


def read_outputs(folder: RunFolder) -> dict[str, tuple[int, int]]:
    """Read which outputs of shared networks belong to which task."""
    return read_json(folder.outputs, dict[str, tuple[int, int]])


def describe_run(run: TrainedRun, tasks: Sequence[Task]) -> Description:
    """Describe some finished tasks, at least one; RunError or DataError where a file of one is unusable."""
    folder, form = run.folder, run.context.form
    outputs = read_outputs(folder) if run.shared else {}
    descriptions = {}
    for task in tasks:
        files = folder.task(task.name)
        networks = folder.shared if run.shared else files
        for path in (files.weights(1), files.weights(3)):
            if not path.is_file():
                raise missing(path)
        cam, _, finetune = run.plans(task)
        searched = read_json(files.rule, SearchedRule)
        descriptions[task.name] = TaskDescription(
            classes=task.classes,
            kind=task.kind,
            invisible=task.invisible,
            outputs=list(outputs[task.name]) if task.name in outputs else None,
            full=Branch(network=networks.network(1), views=cam.test),
            heatmap="spread" if searched.rule.spread else cam.heatmap,
            trained=read_json(files.trained_classes, list[int]) if files.trained_classes.is_file() else None,
            crop_rule=searched.rule,
            first_rule=searched.first,
            crop=Branch(network=networks.network(3), views=finetune.test),
            fusion=read_json(files.fusion, Fusion),
            thresholds=read_points(files),
        )
    backbone = form.backbone
    return Description(
        format=FORMAT if run.shared else 1,
        input=InputDescription(
            side_px=form.side_px, fit=form.fit, mean=backbone.mean, std=backbone.std, backbone=backbone.name
        ),
        trunk=folder.trunk_network if run.context.network.frozen_blocks else None,
        tasks=descriptions,
    )


def export_run(run: TrainedRun, out: Path, **terms: str) -> Path:
    """Copy the networks, and write the model card and ``heatcrop.json``, which has the hashes of all files.

    For the `terms` see :func:`heatcrop.predict.card.model_card`. RunError where nothing is finished, a
    network is damaged, or `out` is a run folder.
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
    card = model_card(run.folder, run.settings, description, **terms)
    copies: dict[Path, Path] = {}  # target: source

    def exported(source: Path, name: str) -> Path:
        if not source.is_file():
            raise missing(source)
        if source not in copies.values():
            open_network(source)  # a damaged one is found here, not by the user of the export
        copies[out / name] = source
        return out / name

    tasks = {}
    for name, one in description.tasks.items():
        # Of shared networks, all tasks have the same.
        prefix = "" if run.shared else f"{run.folder.task(name).path.name}."
        branches = {
            branch: part.model_copy(update={"network": exported(part.network, f"{prefix}{stage}.onnx")})
            for branch, part, stage in (("full", one.full, "stage1"), ("crop", one.crop, "stage3"))
        }
        tasks[name] = one.model_copy(update=branches)
    trunk = exported(description.trunk, "trunk.onnx") if description.trunk else None
    write_json(path, UNFINISHED)  # the description never fits networks of another export
    for target, source in copies.items():
        with atomic_path(target) as partial:
            shutil.copyfile(source, partial)
    write_text(out / CARD, card)
    values = description.model_copy(update={"tasks": tasks, "trunk": trunk}).as_json(out)
    write_json(path, with_hashes(values, out, [*(target.name for target in copies), CARD]))
    return path


def open_networks(run: TrainedRun) -> tuple[Runner | None, Callable[[Task], tuple[Runner, Runner]]]:
    """Build the frozen part, if any, and a function that builds a task's two networks from their weights."""
    shape = run.context.image_shape
    with tempfile.TemporaryDirectory() as scratch:  # an export is not the run's
        trunk = dataclasses.replace(run.context, trunk_folder=Path(scratch)).open_trunk(export=False)
    if trunk is not None:
        shape = trunk(np.zeros((1, *shape), np.float32))[0].shape[1:]

    @functools.lru_cache(maxsize=1)  # tasks that share their networks follow one another
    def opened(files: TaskFolder, n_outputs: int) -> tuple[Runner, Runner]:
        with tempfile.TemporaryDirectory() as scratch:
            files_1, files_3 = ((files.weights(n), Path(scratch) / f"{n}.onnx") for n in (1, 3))
            full = run.context.open_classifier(*files_1, shape, n_outputs, maps=True)
            return full, run.context.open_classifier(*files_3, shape, n_outputs)

    def branches(task: Task) -> tuple[Runner, Runner]:
        if run.shared:
            n_outputs = max(end for _, end in read_outputs(run.folder).values())
            return opened(run.folder.shared, n_outputs)
        return opened(run.folder.task(task.name), len(task.classes))

    return trunk, branches
