"""Run the stages of a group of tasks, each only when what it was made from has changed."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from heatcrop.cli.config import Config
from heatcrop.cli.config_file import dump_config
from heatcrop.data.groups import TaskGroup, single_group
from heatcrop.data.tasks import short_names
from heatcrop.errors import RunError
from heatcrop.files import write_json
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.nets.classifier import NetworkContext, NetworkPlan
from heatcrop.nets.devices import Devices
from heatcrop.nets.inference import Runner as NetworkRunner
from heatcrop.nets.weights.zoo_files import weights_file
from heatcrop.runs.executors import Executor, InlineExecutor, JobGraph
from heatcrop.runs.folder import STAGES, RunFolder, run_again
from heatcrop.runs.lock import read_note, working_for
from heatcrop.runs.progress import format_duration, log
from heatcrop.runs.records import (
    StageInputs,
    file_fault,
    file_stamps,
    fingerprint,
    flatten,
    is_current,
    read_record,
    reported_sheets,
    rows_fingerprint,
    why_outdated,
    write_record,
)
from heatcrop.runs.swap import remove_own
from heatcrop.timing import RunTimes, Spent, now

if TYPE_CHECKING:
    import numpy as np

    from heatcrop.data.dataset import TaskData
    from heatcrop.training.stage import Stage
    from heatcrop.training.views import View
    from stage2_crop.stage import CropStage

# Raised when a stage's code makes something else from the same settings and data.
_CODE = {"cam": 11, "crop": 19, "finetune": 10}
_NEEDS = {"crop": ("cam", "heatmaps"), "finetune": ("crop", "boxes")}


def network_context(config: Config, folder: RunFolder) -> NetworkContext:
    """Collect what all networks of a run share."""
    net, runtime = config.network, config.runtime
    plan = NetworkPlan(net.backbone, net.weights, net.frozen_blocks, net.dropout, net.dilated)
    form = InputForm(net.input_px, net.fit, backbone(net.backbone), runtime.threads)
    return NetworkContext(
        plan,
        form,
        folder.trunk,
        runtime.engine,
        config.seed,
        runtime.device,
        runtime.trainer,
        runtime.amp,
        config.heatmap,
    )


def devices_of(config: Config) -> Devices:
    """Find where a run computes; EngineError where the device that it requires does not work."""
    return network_context(config, RunFolder(Path())).devices


class StageRunner:
    """Runs the stages of a run.

    `groups` are all of the run: a change of one task is a change of all that share its network. `stamps` are
    fingerprints of each task's image files, and `times` gets what the stages take; a worker needs neither.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        groups: Sequence[TaskGroup],
        stamps: dict[str, str] | None = None,
        times: RunTimes | None = None,
    ) -> None:
        self.config, self.folder, self.groups, self._stamps = config, folder, groups, stamps or {}
        self._titles = short_names(data.task for group in groups for data in group.tasks)
        self.times = times or RunTimes()
        self.context = network_context(config, folder)
        self._stage: tuple[tuple[str, str, str], Stage] | None = None

    @functools.cached_property
    def trunk(self) -> NetworkRunner | None:
        """The frozen part of the networks, exported and opened when a stage first needs it."""
        (self.folder.trunk / ".trunk.json").unlink(missing_ok=True)  # written again when the run ends
        return self.context.open_trunk()

    @functools.cached_property
    def inputs(self) -> dict[tuple[str, str], StageInputs]:
        """What each stage of each task is made from, by stage and task."""
        found = {}
        for group in self.groups:
            network = self.context.settings | {"shared_trunk": len(group.tasks) > 1}
            if file := weights_file(self.config.network.weights):
                size, modified = file_stamps([str(file)])[0].tolist()
                network["weights_file"] = f"{size} bytes, modified {modified}"
            shared = {"network": network, "seed": self.config.seed, "heatmap": self.config.heatmap}
            earlier = ""
            for number, stage in enumerate(STAGES):
                inputs = []
                for data in group.tasks:
                    settings, rows, stamp = {stage: self.config.plans(data.task)[number]}, "", ""
                    if stage == "cam":
                        settings |= shared
                        rows, stamp = rows_fingerprint(data), self._stamps.get(data.task.name, "")
                    inputs.append(StageInputs(flatten(settings), rows, stamp, _CODE[stage], earlier))
                earlier = fingerprint([one.fingerprint for one in inputs])
                for data, one in zip(group.tasks, inputs, strict=True):
                    if stage != "crop":  # the networks train on all tasks of the group
                        one = dataclasses.replace(one, previous=earlier)
                    found[stage, data.task.name] = one
        return found

    def is_current(self, stage: str, group: TaskGroup) -> bool:
        """Return whether a stage has nothing to do for any task of a group."""
        return all(
            is_current(self.folder.task(name).record(stage), self.inputs[stage, name].fingerprint)
            for name in (data.task.name for data in group.tasks)
        )

    def plan(self, stages: Sequence[str], tasks: Collection[str]) -> dict[str, dict[str, str]]:
        """Return, by short name of some tasks, the stages that would run and why."""
        plans: dict[str, dict[str, str]] = {}
        for group in self.groups:
            for data in (data for data in group.tasks if data.task.name in tasks):
                reasons = plans.setdefault(self._titles[data.task.name], {})
                for stage in stages:
                    unit = group if stage != "crop" else single_group(data)
                    if not reasons and self.is_current(stage, unit):
                        continue  # after a stage that runs, the later ones run too
                    earlier = f"after {list(reasons)[-1]}" if reasons else "an earlier stage has changed"
                    if len(unit.tasks) > 1 and not reasons:
                        earlier = "it shares a network with a task that changed"
                    record = self.folder.task(data.task.name).record(stage)
                    reasons[stage] = why_outdated(record, self.inputs[stage, data.task.name]) or earlier
        return plans

    def run_stage(self, stage: str, group: TaskGroup) -> JobGraph:
        """Yield the jobs of one stage; none where its artefacts are up to date."""
        title = self._titles.get(group.name, group.short)
        times = self.times.stages.setdefault(title, {})
        if self.is_current(stage, group):
            self._clear(stage, group)
            times.setdefault(stage, None)
            return
        folders = {data.task.name: self.folder.task(data.task.name) for data in group.tasks}
        self._require_earlier(stage, group)
        reported = reported_sheets(self.folder)
        self.folder.description.unlink(missing_ok=True)  # it describes networks that are about to change
        for folder in folders.values():
            for outdated in STAGES[STAGES.index(stage) :]:
                folder.record(outdated).unlink(missing_ok=True)
            # The report makes new sheets.
            sheets = Path(os.path.normpath(folder.sheets))
            remove_own(sheets, lambda name, sheets=sheets: sheets / name in reported)
        began, spent = now(), dict[str, Spent]()
        inputs = {name: self.inputs[stage, name] for name in folders}
        made_from = fingerprint([one.fingerprint for one in inputs.values()])
        for step in self._open(stage, group, made_from).jobs():
            for what, took in (yield [(stage, group.name, made_from, method, args) for method, args in step]):
                spent[what] = spent.get(what, Spent()) + took
        if hasattr(os, "sync"):
            os.sync()  # crops are many, and flushed together, before the stage counts as done
        self._write_outputs(group)
        for data in group.tasks:
            name, share = data.task.name, len(data) / len(group)
            took = {what: share * value for what, value in spent.items()}
            write_record(folders[name].record(stage), inputs[name], folders[name].artefacts(stage), took)
        self._stage = None
        self._clear(stage, group)
        times[stage] = sum(spent.values(), Spent())
        log(f"{title}: {stage} in {format_duration((now() - began).wall)}")
        if stage == "crop":
            from heatcrop.report.build import write_first_sheet

            for data in group.tasks:
                log(f"{title}: a sheet of its crops: {write_first_sheet(self.folder, data)}")

    def perform(
        self, stage: str, group: str, made_from: str, method: str, arguments: list[Any]
    ) -> tuple[str, Spent]:
        """Do one job, here or in a worker process; return what its time is reported under, and the time."""
        began = now()
        name = self._open(stage, self._group(stage, group), made_from).perform(method, arguments)
        return name, now() - began

    def worker(self, executor: Executor, group: TaskGroup) -> Callable[..., tuple[str, Spent]]:
        """Return the function that does a group's jobs where the executor runs them."""
        if isinstance(executor, InlineExecutor):
            return self.perform
        config = self.config.changed("runtime", threads=1)
        if config.network.weights not in ("imagenet", "none"):
            config = config.changed("network", weights=os.path.abspath(config.network.weights))
        tasks = [dataclasses.replace(one, paths=list(map(os.path.abspath, one.paths))) for one in group.tasks]
        paths = [path for data in tasks for path in data.paths]
        absolute = dataclasses.replace(group, tasks=tuple(tasks), paths=paths)
        folder = self.folder.path
        return functools.partial(
            perform_for, dump_config(config), folder.absolute(), read_note(folder), absolute
        )

    def finish(self) -> None:
        """Log what was up to date; write again what no stage records, where it is missing or damaged."""
        for name, stages in self.times.stages.items():
            if current := [stage for stage, spent in stages.items() if spent is None]:
                log(f"{name}: {', '.join(current)} up to date")
        network, record = self.folder.trunk_network, self.folder.trunk / ".trunk.json"
        if self.config.network.frozen_blocks:
            if not network.is_file() or file_fault(record):
                self.__dict__.pop("trunk", None)
                assert self.trunk is not None
                log(f"{network.name} was missing or damaged; it has been written again")
            if read_record(record) is None or file_fault(record):
                write_record(record, StageInputs({}), [network.name], {})
        for group in self.groups:
            self._write_outputs(group)

    def _open(self, stage: str, group: TaskGroup, made_from: str) -> Stage:
        """Return a stage; the last one is kept, with the networks and files that it has open."""
        key = (stage, group.name, made_from)
        if self._stage is None or self._stage[0] != key:
            # Imported when a stage runs: a command that finds everything up to date needs none of it.
            from stage1_cam.stage import CamStage
            from stage2_crop.stage import CropStage
            from stage3_finetune.stage import FinetuneStage

            self._stage = None
            classes: dict[str, type[Stage]] = {"cam": CamStage, "crop": CropStage, "finetune": FinetuneStage}
            plans = [self.config.plans(data.task)[STAGES.index(stage)] for data in group.tasks]
            arguments = (group, self.folder, plans, self.context, lambda: self.trunk, made_from)
            self._stage = key, classes[stage](*arguments)
            if isinstance(self._stage[1], CropStage):
                self._describe_networks(self._stage[1], group.tasks[0])
        return self._stage[1]

    def _describe_networks(self, stage: CropStage, data: TaskData) -> None:
        """Describe the outputs of stage 1's networks to stage 2, which computes heatmaps once more."""
        from stage1_cam.heatmaps import heatmaps_of

        members = ((group, i) for group in self.groups for i in range(len(group.tasks)))
        group, number = next((g, i) for g, i in members if g.tasks[i].task.name == data.task.name)
        classes = group.columns(number)
        usual = self.config.plans(data.task)[0].heatmap
        known = data.task.invisible, group.trained_classes[number]

        def heatmaps(logits: np.ndarray, maps: np.ndarray, views: list[View], spread: bool) -> np.ndarray:
            kind = "spread" if spread else usual
            return heatmaps_of(logits[:, classes], maps[:, :, classes], views, kind, *known)

        stage.n_outputs, stage.heatmaps_from = group.n_classes, heatmaps

    def _group(self, stage: str, name: str) -> TaskGroup:
        """Find a group by name; in stage 2 each task of a group is one, and may have the group's name."""
        singles = (single_group(data) for group in self.groups for data in group.tasks)
        return next(group for group in (singles if stage == "crop" else self.groups) if group.name == name)

    def _require_earlier(self, stage: str, group: TaskGroup) -> None:
        """Refuse a stage without the one before it, since all before that, or with that of other images."""
        if stage not in _NEEDS:
            return
        before, artefact = _NEEDS[stage]
        for data in group.tasks:
            name, folder = data.task.name, self.folder.task(data.task.name)
            record, needed = folder.record(before), getattr(folder, artefact)
            if not needed.is_file() or not record.is_file():
                fault = "is missing" if not needed.is_file() else "was left by an unfinished or earlier run"
                together = before == "cam" and self.config.network.shared_trunk
                tasks = ("--all",) if together else ("--task", name)
                earlier = self.folder.command("stage", before, *tasks)
                raise RunError(f"{needed} {fault}; run the stage before it first: {earlier}")
            require_same_rows(self.folder, name, self.inputs["cam", name].rows)
            if changed := why_outdated(record, self.inputs[before, name]):
                log(f"{name}: continues from stage {before} as it is, which is not as set now ({changed})")

    def _write_outputs(self, group: TaskGroup) -> None:
        """Write which outputs of shared networks belong to which task."""
        if len(group.tasks) > 1:
            spans = [(data.task.name, group.columns(number)) for number, data in enumerate(group.tasks)]
            write_json(self.folder.outputs, {name: [span.start, span.stop] for name, span in spans})

    def _clear(self, stage: str, group: TaskGroup) -> None:
        """Remove what a finished stage no longer needs, also after it was killed before it could."""
        cache = self.folder.cache_of(group, stage)
        if not self.config.runtime.keep_cache:
            shutil.rmtree(cache, ignore_errors=True)
        for checkpoint in cache.glob("*.checkpoint"):
            checkpoint.unlink()


def perform_for(config: str, folder: Path, note: str, group: TaskGroup, *job: Any) -> tuple[str, Spent]:
    """Do one job in a worker process, which keeps its networks from job to job.

    Paths are absolute, so that they hold in any working directory. `note` is that of the process that owns
    the folder; without it, a worker does nothing.
    """
    with working_for(folder, note):
        runner = _open_run(config, folder)
        runner.groups = (group,)
        return runner.perform(*job)


@functools.lru_cache(maxsize=1)
def _open_run(config: str, folder: Path) -> StageRunner:
    return StageRunner(Config.model_validate(yaml.safe_load(config)), RunFolder(folder), ())


def require_same_rows(folder: RunFolder, task: str, rows: str) -> None:
    """Refuse to continue from the predictions of other images, or of the same ones with other splits.

    `rows` is the fingerprint of the task's rows now, see :func:`heatcrop.runs.records.rows_fingerprint`.
    """
    record = read_record(folder.task(task).record("cam"))
    if record is not None and record["inputs"]["rows"] != rows:
        raise RunError(
            f"{folder.task(task).predictions(1)}: belongs to other images, labels or splits than the data "
            f"has now; run all stages again: {run_again(folder, task)}"
        )
