"""Walk the stages in order, each only when what it was made from has changed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import stage1_cam.stage
import stage2_crop.stage
import stage3_finetune.stage
from attributes.dataset import TaskData
from attributes.errors import DataError
from attributes.submissions import write_submission
from attributes.tasks import Task, resolve
from learning.backbones import backbone
from learning.batches import InputForm
from learning.branch import Workshop
from learning.cards import Devices
from learning.devices import find_devices
from learning.gradients import MapPlan
from learning.inference import Runner
from learning.network import NetworkPlan
from program.changes import Origin, origin, why_outdated
from program.config import Config, dump_config, read_config
from program.data import Opened, open_data, to_be_drawn
from program.description import as_json, describe_run
from program.errors import RunError
from program.limits import memory_limit
from program.metrics import report_split, run_metrics
from program.workers import side_by_side
from runfolder.files import write_json, write_text
from runfolder.fingerprint import files_stamp, fingerprint, is_current
from runfolder.folder import RunFolder, TaskFolder
from runfolder.leftovers import is_ours, sweep
from runfolder.lock import HeldError, hold
from runfolder.predictions import read_parts
from runfolder.progress import say

STAGES = ("cam", "crop", "finetune")
# Raised when a stage's code changes what it makes from the same plan and data.
_CODE = {"cam": 3, "crop": 3, "finetune": 3}


def run_folder(config: Config, out: Path | None) -> RunFolder:
    """The run's folder: `out`, or ``runs/<name>``."""
    return RunFolder(out if out is not None else Path("runs") / config.name)


def workshop(config: Config, folder: RunFolder) -> Workshop:
    """Collect what all tasks and stages share."""
    net = config.network
    plan = NetworkPlan(net.backbone, net.weights, net.frozen_blocks, net.dropout, net.dilated)
    form = InputForm(net.input_px, net.fit, backbone(net.backbone), config.runtime.threads)
    how = config.runtime
    return Workshop(plan, form, folder.trunk, how.engine, config.seed, how.device, how.amp, config.heatmap)


class Walk:
    """One walk through the stages of a run."""

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self.config, self.folder = config, folder
        self.shop = workshop(config, folder)
        self._trunk: Runner | None = None
        self._trunk_open = False

    def trunk(self) -> Runner | None:
        """Open the frozen part once, when the first stage needs it."""
        if not self._trunk_open:
            self._trunk, self._trunk_open = self.shop.trunk(), True
        return self._trunk

    def marks(self, data: TaskData) -> dict[str, str]:
        """Fingerprint of each stage: its plan, its inputs, its code, and the stages before it."""
        cam, crop, finetune = self.config.plans(data.task)
        shared = (self.shop.network, self.shop.form.side_px, self.shop.form.fit, self.config.seed)
        facts = (list(data.images), list(data.splits), list(data.groups), data.task, data.letters,
                 files_stamp(data.paths), *self._maps().values())  # fmt: skip
        marks = {"cam": fingerprint(_CODE["cam"], cam, shared, *facts)}
        marks["crop"] = fingerprint(_CODE["crop"], crop, marks["cam"])
        marks["finetune"] = fingerprint(_CODE["finetune"], finetune, marks["crop"])
        return marks

    def origins(self, data: TaskData) -> dict[str, Origin]:
        """The same that :meth:`marks` hashes, part by part, for telling people what changed."""
        cam, crop, finetune = self.config.plans(data.task)
        network = dataclasses.asdict(self.shop.network)
        network |= {"input_px": self.shop.form.side_px, "fit": self.shop.form.fit}
        shared = {"network": network, "seed": self.config.seed, **self._maps()}
        return {
            "cam": origin({"cam": cam, **shared}, _CODE["cam"], data),
            "crop": origin({"crop": crop}, _CODE["crop"]),
            "finetune": origin({"finetune": finetune}, _CODE["finetune"]),
        }

    def _maps(self) -> dict[str, MapPlan]:
        """How maps are made, where not by CAM: finished runs that know of no other way stay current."""
        return {"heatmap": self.shop.maps} if self.shop.maps != MapPlan() else {}

    def to_do(self, stages: Sequence[str], data: TaskData) -> dict[str, str]:
        """Which of some stages would run, and why; those that are up to date are not named."""
        marks, origins = self.marks(data), self.origins(data)
        folder, out = self.folder.task(data.task.name), {}
        for stage in stages:
            if is_current(folder.marker(stage), marks[stage]):
                continue
            before = f"after {list(out)[-1]}" if out else "the stage before it was done anew"
            out[stage] = why_outdated(folder.marker(stage), origins[stage]) or before
        return out

    def stage(self, stage: str, data: TaskData) -> bool:
        """Run one stage of one task unless it is up to date; tell whether it ran."""
        task, folder = data.task, self.folder.task(data.task.name)
        mark = self.marks(data)[stage]
        if is_current(folder.marker(stage), mark):
            self._clear(stage, data)
            return False
        self._needs(stage, folder)
        if stage != "cam":
            same_rows(folder, data)
        # Its own, and the later stages': what they made from its former artefacts is out of date.
        for outdated in STAGES[STAGES.index(stage) :]:
            folder.marker(outdated).unlink(missing_ok=True)
        shutil.rmtree(folder.sheets, ignore_errors=True)  # the report lays new ones
        cam, crop, finetune = self.config.plans(task)
        cache = self._cache(stage, data)
        started = time.perf_counter()
        if stage == "crop":
            seconds = stage2_crop.stage.run(data, folder, crop, self.shop, cache)
        elif stage == "cam":
            seconds = stage1_cam.stage.run(data, folder, cam, self.shop, self.trunk(), cache, mark)
        else:
            seconds = stage3_finetune.stage.run(data, folder, finetune, self.shop, self.trunk(), cache, mark)
        if hasattr(os, "sync"):
            os.sync()  # crops are many, and brought to the disk together, before the stage counts as done
        told = {"fingerprint": mark, "seconds": seconds, "files": folder.artefacts(stage)}
        write_json(folder.marker(stage), {**told, "made_from": dataclasses.asdict(self.origins(data)[stage])})
        self._clear(stage, data)
        say(f"{task.short}: {stage} in {time.perf_counter() - started:.0f} s")
        return True

    def is_current(self, stages: Sequence[str], data: TaskData) -> bool:
        """Tell whether there is nothing to do."""
        marks, folder = self.marks(data), self.folder.task(data.task.name)
        current = all(is_current(folder.marker(stage), marks[stage]) for stage in stages)
        for stage in stages if current else ():
            self._clear(stage, data)
        return current

    def _cache(self, stage: str, data: TaskData) -> Path:
        return self.folder.cache / data.task.name / stage

    def _clear(self, stage: str, data: TaskData) -> None:
        """Remove what a finished stage has no more need of, also where it was killed before it could."""
        cache = self._cache(stage, data)
        if not self.config.runtime.keep_cache:
            shutil.rmtree(cache, ignore_errors=True)
        for checkpoint in cache.glob("*.checkpoint"):
            checkpoint.unlink()

    def _needs(self, stage: str, folder: TaskFolder) -> None:
        """Refuse a stage whose predecessor has left nothing."""
        need = {"crop": ("cam", folder.heatmaps), "finetune": ("crop", folder.boxes)}.get(stage)
        if need and not need[1].is_file():
            raise RunError(
                f"{need[1]} is missing; run the stage before it first: "
                f"python pipeline.py stage {need[0]} --task {folder.path.name}"
            )


def plan_stages(
    config: Config, folder: RunFolder, wanted: Sequence[str], stages: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Tell what :func:`run_stages` would do, and write nothing.

    Returns
    -------
    dict of str to dict
        By short task name, each stage that would run with the reason; empty where all is up to date.
    """
    _refuse_foreign(folder)
    walk = Walk(config, folder)
    if to_be_drawn(config):
        known = config.known_tasks() or ()
        tasks = [resolve(name, known) for name in wanted] or known
        return {task.short: dict.fromkeys(stages, "its pictures are to be drawn first") for task in tasks}
    opened = open_data(config, wanted, folder, keep=False)
    return {data.task.short: walk.to_do(stages, data) for data in opened.tasks.values()}


def run_stages(config: Config, folder: RunFolder, wanted: Sequence[str], stages: Sequence[str]) -> Opened:
    """Run some stages of some tasks; with all three, score and submission follow.

    Parameters
    ----------
    wanted : sequence of str
        Task names; empty for all that have pictures.
    stages : sequence of str
        Of :data:`STAGES`, in order.
    """
    devices = find_devices(config.runtime.device, config.runtime.amp)
    _claim(folder)
    if not folder.config.is_file():
        write_text(folder.config, dump_config(config))
    opened = open_data(config, wanted, folder)
    write_text(folder.config, dump_config(config.with_tasks(opened.known)))
    for note in (*opened.notes, *opened.faults):
        say(note)
    if report_split(opened.tasks) == "val":
        say("no test pictures with answers: figures are of val, which also chose rule and fusion")
    jobs = min(parallel_jobs(config), len(opened.tasks))
    pictures = sum(len(data) for data in opened.tasks.values())
    tasks = f"{len(opened.tasks)} task{'s' * (len(opened.tasks) > 1)}"
    say(f"{pictures} pictures, {tasks}, {jobs} at once; run folder {folder.path}")
    for note in device_notes(devices):
        say(note)
    walk = Walk(config, folder)
    work = []
    for data in opened.tasks.values():
        if walk.is_current(stages, data):
            say(f"{data.task.short}: {', '.join(stages)} up to date")
        else:
            work.append((config, folder, data, tuple(stages)))
    # The longest first, so that the last ones end together.
    work.sort(key=lambda item: -len(item[2]))
    if work:
        folder.description.unlink(missing_ok=True)  # it tells of networks that are about to change
    # Under a limit on memory, libraries may crash where they get none; in a worker process that can be told.
    if min(jobs, len(work)) > 1 or (work and memory_limit() is not None):
        for _ in side_by_side(_run_task_beside_others, work, jobs):
            pass
    else:
        for _, _, data, _ in work:
            _run_task(walk, data, stages)
    if work or not folder.description.is_file():
        _describe(config, folder, walk.shop.form, opened.known)
    return opened


def _describe(config: Config, folder: RunFolder, form: InputForm, known: Sequence[Task]) -> None:
    """Write what prediction must be told of all finished tasks, these commands' and earlier ones'."""
    if config.heatmap.by_gradient:  # what ONNX Runtime cannot do
        folder.description.unlink(missing_ok=True)
        return
    done = [task for task in known if folder.task(task.name).finished]
    try:
        described = describe_run(config, folder, form, done)
    except RunError as error:  # an earlier task has lost a file: no reason to fail this one
        say(f"{folder.description.name} was not written: {error}")
        return
    if described:
        write_json(folder.description, as_json(described, folder.path))


def device_notes(devices: Devices) -> list[str]:
    """Tell where a run trains, where that is worth a line: on GPUs, or on the CPU though there is one."""
    if devices.training:
        names = ", ".join(card.name for card in devices.training)
        return [f"training on {names}" + (", in mixed precision" if devices.amp else "")]
    return [f"training on the CPU: {devices.reason}"] if devices.driver else []


def parallel_jobs(config: Config) -> int:
    """How many tasks to work on at once.

    MXNet's training keeps one core busy whatever its thread count, so on a CPU two tasks side by
    side take little longer than one; a GPU is shared by none.
    """
    if config.runtime.jobs != "auto":
        return config.runtime.jobs
    on_gpu = find_devices(config.runtime.device, config.runtime.amp).training
    return 1 if on_gpu else max(1, config.runtime.threads)


def _run_task(walk: Walk, data: TaskData, stages: Sequence[str]) -> None:
    """Run some stages of one task."""
    idle = [stage for stage in stages if not walk.stage(stage, data)]
    if idle:
        say(f"{data.task.short}: {', '.join(idle)} up to date")


def _run_task_beside_others(config: Config, folder: RunFolder, data: TaskData, stages: Sequence[str]) -> None:
    """The same in a worker process, on one thread."""
    _run_task(Walk(config.one_thread(), folder), data, stages)


@contextlib.contextmanager
def claimed(folder: RunFolder, new: bool = True) -> Iterator[None]:
    """Keep a run folder to this process for the length of the block, and clear up after dead ones.

    Parameters
    ----------
    new : bool
        Make the folder where there is none.

    Raises
    ------
    RunError
        When another process works on it, or it is no run's.
    """
    if not new:
        _is_run(folder)
    _claim(folder)
    try:
        with hold(folder.path):
            sweep(folder)
            yield
    except HeldError as error:
        raise RunError(str(error)) from None


def _claim(folder: RunFolder) -> None:
    """Make the run folder, or refuse one that holds somebody's other files."""
    _refuse_foreign(folder)
    folder.path.mkdir(parents=True, exist_ok=True)


def _refuse_foreign(folder: RunFolder) -> None:
    path = folder.path
    if path.exists() and not path.is_dir():
        raise RunError(f"{path}: is a file; give --out a folder")
    if path.is_dir() and not folder.config.is_file() and not all(map(is_ours, path.iterdir())):
        raise RunError(f"{path}: holds files that are not a run's; give --out a new or an empty folder")


def _is_run(folder: RunFolder) -> None:
    if not folder.config.is_file():
        raise RunError(f"{folder.path}: is not a run folder (no config.yaml)")


def finish_run(folder: RunFolder, opened: Opened) -> dict[str, Any]:
    """Score the run and write ``metrics.json`` and ``submission.csv``."""
    metrics = run_metrics(opened.tasks, folder, opened.boxes_true)
    write_json(folder.metrics, metrics)
    write_submission(folder.submission, _tested(folder, opened))
    return metrics


def _tested(folder: RunFolder, opened: Opened) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield picture, task and fused probabilities of the test pictures."""
    for name in opened.tasks:
        for table, probabilities in read_parts(folder.task(name).fused):
            tested = (table["split"] == "test").to_numpy()
            for image, p in zip(table["image"][tested], probabilities[tested], strict=True):
                yield image, name, p


def reopen(folder: RunFolder) -> Opened:
    """Open the data of a finished run again, as its own configuration says; only finished tasks.

    Raises
    ------
    RunError
        When the folder is no run, or nothing in it is finished.
    """
    _is_run(folder)
    config = read_config(folder.config)
    finished = [t.name for t in config.known_tasks() or () if folder.task(t.name).finished]
    if not finished:
        raise RunError(f"{folder.path}: no task is finished; run it first: python pipeline.py run --all")
    opened = open_data(config, finished, folder)
    for name, data in opened.tasks.items():
        same_rows(folder.task(name), data)
    return opened


def with_finished(folder: RunFolder, opened: Opened) -> Opened:
    """Add the tasks that earlier commands have finished, so that figures and submission keep them."""
    config = read_config(folder.config)
    others = {t.name for t in config.known_tasks() or () if folder.task(t.name).finished} - set(opened.tasks)
    if not others:
        return opened
    try:
        return reopen(folder)
    except (DataError, RunError) as error:
        say(f"left out of the figures: {', '.join(sorted(others))} ({error})")
        return opened


def same_rows(folder: TaskFolder, data: TaskData) -> None:
    """Refuse to go on from what stage 1 said of other pictures, or of the same ones split otherwise.

    Raises
    ------
    RunError
    """
    start, same = 0, True
    for table, _ in read_parts(folder.predictions(1)):
        rows = slice(start, start + len(table))
        same &= tuple(table["image"]) == data.images[rows]
        same &= np.array_equal(table["split"].to_numpy(str), data.splits[rows])
        start += len(table)
    if not same or start != len(data):
        raise RunError(
            f"{folder.predictions(1)}: is of other pictures or another split than the data has now; "
            f"run all stages again: python pipeline.py run --task {data.task.short}"
        )
