"""Run the stages of a group of tasks, each only when what it was made from has changed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from heatcrop.cli.config import Config
from heatcrop.cli.config_file import dump_config
from heatcrop.data.groups import TaskGroup, single_group
from heatcrop.errors import RunError
from heatcrop.files import write_json
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.nets.classifier import NetworkContext, NetworkPlan
from heatcrop.nets.inference import Runner as NetworkRunner
from heatcrop.runs.executors import Executor, InlineExecutor, JobGraph
from heatcrop.runs.folder import STAGES, RunFolder
from heatcrop.runs.lock import read_note, working_for
from heatcrop.runs.progress import log
from heatcrop.runs.records import (
    StageInputs,
    file_fault,
    fingerprint,
    flatten,
    is_current,
    read_record,
    rows_fingerprint,
    why_outdated,
    write_record,
)
from heatcrop.runs.swap import is_sheet, remove_own

if TYPE_CHECKING:
    from heatcrop.training.stage import Stage

# Raised when a stage's code makes something else from the same settings and data.
_CODE = {"cam": 4, "crop": 4, "finetune": 4}
_NEEDS = {"crop": ("cam", "heatmaps"), "finetune": ("crop", "boxes")}


def network_context(config: Config, folder: RunFolder) -> NetworkContext:
    """Collect what all networks of a run share."""
    net, runtime = config.network, config.runtime
    plan = NetworkPlan(net.backbone, net.weights, net.frozen_blocks, net.dropout, net.dilated)
    form = InputForm(net.input_px, net.fit, backbone(net.backbone), runtime.threads)
    return NetworkContext(
        plan, form, folder.trunk, runtime.engine, config.seed, runtime.device, runtime.amp, config.heatmap
    )


class StageRunner:
    """Runs the stages of a run.

    Parameters
    ----------
    config : Config
    folder : RunFolder
    groups : sequence of TaskGroup
        All groups of the run: a change of one task is a change of all that share its network.
    stamps : dict of str to str, optional
        Fingerprint of the image files of each task; not needed by a worker.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        groups: Sequence[TaskGroup],
        stamps: dict[str, str] | None = None,
    ) -> None:
        self.config, self.folder, self.groups, self._stamps = config, folder, groups, stamps or {}
        self.context = network_context(config, folder)
        self._stage: tuple[tuple[str, str, str], Stage] | None = None
        self._up_to_date: dict[str, list[str]] = {}

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
            plans = [dict(zip(STAGES, self.config.plans(data.task), strict=True)) for data in group.tasks]
            names = [data.task.name for data in group.tasks]
            cams = [
                StageInputs(
                    flatten({"cam": plan["cam"], **self._shared_settings(group)}),
                    rows_fingerprint(data),
                    self._stamps.get(data.task.name, ""),
                    _CODE["cam"],
                )
                for data, plan in zip(group.tasks, plans, strict=True)
            ]
            together = fingerprint([cam.fingerprint for cam in cams])
            crops = [
                StageInputs(flatten({"crop": plan["crop"]}), code=_CODE["crop"], previous=together)
                for plan in plans
            ]
            finetunes = [flatten({"finetune": plan["finetune"]}) for plan in plans]
            before = fingerprint([crop.fingerprint for crop in crops], finetunes)
            for name, cam, crop, settings in zip(names, cams, crops, finetunes, strict=True):
                found["cam", name] = dataclasses.replace(cam, previous=together)
                found["crop", name] = crop
                found["finetune", name] = StageInputs(settings, code=_CODE["finetune"], previous=before)
        return found

    def _shared_settings(self, group: TaskGroup) -> dict[str, Any]:
        form = self.context.form
        network = dataclasses.asdict(self.context.network) | {"input_px": form.side_px, "fit": form.fit}
        shared = {"shared_trunk": len(group.tasks) > 1}
        return {"network": network | shared, "seed": self.config.seed, "heatmap": self.config.heatmap}

    def is_current(self, stage: str, group: TaskGroup) -> bool:
        """Return whether a stage has nothing to do for any task of a group."""
        return all(
            is_current(self.folder.task(name).record(stage), self.inputs[stage, name].fingerprint)
            for name in (data.task.name for data in group.tasks)
        )

    def plan(self, stages: Sequence[str], group: TaskGroup) -> dict[str, dict[str, str]]:
        """Return, by short task name, the stages that would run and why."""
        plans: dict[str, dict[str, str]] = {data.task.short: {} for data in group.tasks}
        for data in group.tasks:
            reasons = plans[data.task.short]
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
        if self.is_current(stage, group):
            self._clear(stage, group)
            self._up_to_date.setdefault(group.short, []).append(stage)
            return
        folders = {data.task.name: self.folder.task(data.task.name) for data in group.tasks}
        self._require_earlier(stage, group)
        self.folder.description.unlink(missing_ok=True)  # it describes networks that are about to change
        for folder in folders.values():
            for outdated in STAGES[STAGES.index(stage) :]:
                folder.record(outdated).unlink(missing_ok=True)
            remove_own(folder.sheets, is_sheet)  # the report makes new ones
        started, seconds = time.perf_counter(), Counter[str]()
        inputs = {name: self.inputs[stage, name] for name in folders}
        made_from = fingerprint([one.fingerprint for one in inputs.values()])
        for step in self._open(stage, group, made_from).jobs():
            for took in (yield [(stage, group.name, made_from, method, args) for method, args in step]):
                seconds.update(took)
        if hasattr(os, "sync"):
            os.sync()  # crops are many, and flushed together, before the stage counts as done
        if len(group.tasks) > 1:
            self._write_outputs(group)
        for data in group.tasks:
            name, share = data.task.name, len(data) / len(group)
            took = {what: share * value for what, value in seconds.items()}
            write_record(folders[name].record(stage), inputs[name], folders[name].artefacts(stage), took)
        self._stage = None
        self._clear(stage, group)
        log(f"{group.short}: {stage} in {time.perf_counter() - started:.0f} s")

    def perform(
        self, stage: str, group: str, made_from: str, method: str, arguments: list[Any]
    ) -> dict[str, float]:
        """Do one job, here or in a worker process; return its seconds."""
        return self._open(stage, self._group(group), made_from).perform(method, arguments)

    def worker(self, executor: Executor, group: TaskGroup) -> StageRunner | WorkerSpec:
        """Return what an executor passes to :func:`perform` with the jobs of a group."""
        return self if isinstance(executor, InlineExecutor) else WorkerSpec.of(self, group)

    def finish(self) -> None:
        """Log what was up to date; write again what no stage records, where it is missing or damaged."""
        for name, stages in self._up_to_date.items():
            log(f"{name}: {', '.join(stages)} up to date")
        network, record = self.folder.trunk_network, self.folder.trunk / ".trunk.json"
        if self.config.network.frozen_blocks:
            if not network.is_file() or file_fault(record):
                self.__dict__.pop("trunk", None)
                assert self.trunk is not None
                log(f"{network.name} was missing or damaged; it has been written again")
            if read_record(record) is None or file_fault(record):
                write_record(record, StageInputs({}), [network.name], {})
        for group in self.groups:
            if len(group.tasks) > 1:
                self._write_outputs(group)

    def _open(self, stage: str, group: TaskGroup, made_from: str) -> Stage:
        """Return a stage; the last one is kept, with the networks and files that it has open."""
        key = (stage, group.name, made_from)
        if self._stage is None or self._stage[0] != key:
            self._stage = None
            plans = [self.config.plans(data.task)[STAGES.index(stage)] for data in group.tasks]
            arguments = (group, self.folder, plans, self.context, lambda: self.trunk, made_from)
            self._stage = key, _stage_class(stage)(*arguments)
        return self._stage[1]

    def _group(self, name: str) -> TaskGroup:
        """Find a group by name; a task of a group of several is a group of its own in stage 2."""
        for group in self.groups:
            if group.name == name:
                return group
        data = next(data for group in self.groups for data in group.tasks if data.task.name == name)
        return single_group(data)

    def _require_earlier(self, stage: str, group: TaskGroup) -> None:
        """Refuse a stage without the files of the one before it, or with those of other images."""
        if stage not in _NEEDS:
            return
        before, artefact = _NEEDS[stage]
        for data in group.tasks:
            folder = self.folder.task(data.task.name)
            needed: Path = getattr(folder, artefact)
            if not needed.is_file():
                raise RunError(
                    f"{needed} is missing; run the stage before it first: "
                    f"python pipeline.py stage {before} --task {data.task.name}"
                )
            require_same_rows(self.folder, data.task.name, self.inputs["cam", data.task.name].rows)

    def _write_outputs(self, group: TaskGroup) -> None:
        """Write which outputs of shared networks belong to which task."""
        spans = [group.columns(number) for number in range(len(group.tasks))]
        names = [data.task.name for data in group.tasks]
        outputs = {name: [span.start, span.stop] for name, span in zip(names, spans, strict=True)}
        write_json(self.folder.outputs, outputs)

    def _clear(self, stage: str, group: TaskGroup) -> None:
        """Remove what a finished stage no longer needs, also after it was killed before it could."""
        cache = self.folder.cache / group.name / stage
        if not self.config.runtime.keep_cache:
            shutil.rmtree(cache, ignore_errors=True)
        for checkpoint in cache.glob("*.checkpoint"):
            checkpoint.unlink()


def _stage_class(stage: str) -> type[Stage]:
    # Imported when a stage runs: a command that finds everything up to date needs none of it.
    from stage1_cam.stage import CamStage
    from stage2_crop.stage import CropStage
    from stage3_finetune.stage import FinetuneStage

    return {"cam": CamStage, "crop": CropStage, "finetune": FinetuneStage}[stage]


@dataclasses.dataclass(frozen=True)
class WorkerSpec:
    """What a worker process needs to know of a group, with paths that hold in any working directory."""

    config: str
    folder: Path
    lock: str
    groups: tuple[TaskGroup, ...]

    @classmethod
    def of(cls, runner: StageRunner, group: TaskGroup) -> WorkerSpec:
        """Describe a group to workers, each of which computes on one thread."""
        config, folder = runner.config.changed("runtime", threads=1), runner.folder.path.absolute()
        if config.network.weights not in ("imagenet", "none"):
            config = config.changed("network", weights=os.path.abspath(config.network.weights))
        tasks = [
            dataclasses.replace(data, paths=[os.path.abspath(path) for path in data.paths])
            for data in group.tasks
        ]
        paths = [path for data in tasks for path in data.paths]
        absolute = dataclasses.replace(group, tasks=tuple(tasks), paths=paths)
        return cls(dump_config(config), folder, read_note(runner.folder.path), (absolute,))

    @contextlib.contextmanager
    def runner(self) -> Iterator[StageRunner]:
        """Open the run in a worker process, as long as the process that owns it holds the folder."""
        with working_for(self.folder, self.lock):
            yield _worker_runner(self.config, self.folder, self.groups)


@functools.lru_cache(maxsize=1)
def _open_run(config: str, folder: Path) -> StageRunner:
    return StageRunner(Config.model_validate(yaml.safe_load(config)), RunFolder(folder), ())


def _worker_runner(config: str, folder: Path, groups: tuple[TaskGroup, ...]) -> StageRunner:
    """Return this worker's runner, which keeps its networks from job to job."""
    runner = _open_run(config, folder)
    runner.groups = groups
    return runner


def perform(worker: StageRunner | WorkerSpec, *job: Any) -> dict[str, float]:
    """Do one job: in this process, or in a worker process that is given a :class:`WorkerSpec`."""
    if isinstance(worker, StageRunner):
        return worker.perform(*job)
    with worker.runner() as runner:
        return runner.perform(*job)


def require_same_rows(folder: RunFolder, task: str, rows: str) -> None:
    """Refuse to continue from the predictions of other images, or of the same ones with other splits.

    Parameters
    ----------
    folder : RunFolder
    task : str
    rows : str
        Fingerprint of the task's rows now, see :func:`heatcrop.runs.records.rows_fingerprint`.
    """
    record = read_record(folder.task(task).record("cam"))
    if record is not None and record["inputs"]["rows"] != rows:
        raise RunError(
            f"{folder.task(task).predictions(1)}: belongs to other images, labels or splits than the data "
            f"has now; run all stages again: python pipeline.py run --task {task}"
        )
