"""Run some stages of some tasks, here or elsewhere, and score what they leave."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from heatcrop.cli.config import Config
from heatcrop.cli.config_file import dump_config, read_config
from heatcrop.cli.holding import make_folder, refuse_foreign, refuse_no_run
from heatcrop.cli.limits import memory_limit
from heatcrop.cli.loading import Opened, config_of_run, open_data, to_be_drawn
from heatcrop.cli.prediction import trained_run
from heatcrop.cli.walk import Walk, in_turn, same_rows
from heatcrop.data.dataset import TaskData
from heatcrop.data.tasks import Task, resolve
from heatcrop.data.texts import absolute
from heatcrop.errors import DataError, RunError, UsageError
from heatcrop.files import write_json, write_text
from heatcrop.metrics.submissions import write_submission
from heatcrop.nets.cards import Devices
from heatcrop.nets.devices import find_devices
from heatcrop.predict.description import read_description
from heatcrop.predict.trained_run import describe_run
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.lock import HeldError, lent, signature
from heatcrop.runs.metrics import report_split, run_metrics
from heatcrop.runs.predictions import read_parts
from heatcrop.runs.progress import log
from heatcrop.runs.workers import in_rounds
from heatcrop.training.pieces import Seconds


def plan_stages(
    config: Config, folder: RunFolder, wanted: Sequence[str], stages: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Tell what :func:`run_stages` would do, and write nothing.

    Returns
    -------
    dict of str to dict
        By short task name, each stage that would run with the reason; empty where all is up to date.
    """
    refuse_foreign(folder)
    refuse_one_of_joined(config, wanted, stages)
    if to_be_drawn(config):
        known = config.known_tasks() or ()
        tasks = [resolve(name, known) for name in wanted] or known
        return {task.short: dict.fromkeys(stages, "its pictures are to be drawn first") for task in tasks}
    opened = open_data(config, wanted, folder, keep=False)
    walk = Walk(config, folder, opened.joined)
    return {data.task.short: walk.to_do(stages, data) for data in opened.tasks.values()}


def run_stages(
    config: Config,
    folder: RunFolder,
    wanted: Sequence[str],
    stages: Sequence[str],
    scheduler: str | None = None,
) -> Opened:
    """Run some stages of some tasks; with all three, score and submission follow.

    Parameters
    ----------
    wanted : sequence of str
        Task names; empty for all that have pictures.
    stages : sequence of str
        Of :data:`STAGES`, in order.
    scheduler : str, optional
        Address of a Dask scheduler whose workers do the work.
    """
    refuse_one_of_joined(config, wanted, stages)
    devices = find_devices(config.runtime.device, config.runtime.amp)
    make_folder(folder)
    if not folder.config.is_file():
        write_text(folder.config, dump_config(config))
    opened = open_data(config, wanted, folder)
    write_text(folder.config, dump_config(config.with_tasks(opened.known)))
    for note in (*opened.notes, *opened.faults):
        log(note)
    if report_split(opened.tasks) == "val":
        log("no test pictures with answers: figures are of val, which also chose rule and fusion")
    jobs = parallel_jobs(config, len(opened.tasks))
    pictures = sum(len(data) for data in opened.tasks.values())
    tasks = f"{len(opened.tasks)} task{'s' * (len(opened.tasks) > 1)}"
    how = f"{jobs} at once"
    if scheduler:
        how = f"spread over the workers of {scheduler}"
    log(f"{pictures} pictures, {tasks}, {how}; run folder {folder.path}")
    for note in device_notes(devices):
        log(note)
    walk = Walk(config, folder, opened.joined)
    worked = False
    for some, units in walk.steps(stages, list(opened.tasks.values())):
        worked |= _walk_through(walk, some, units, jobs, scheduler)
    walk.mend()
    if worked or not _is_described(folder):
        _describe(config, folder, opened.known)
    return opened


def refuse_one_of_joined(config: Config, wanted: Sequence[str], stages: Sequence[str]) -> None:
    """Refuse to train one task of those that share a network.

    Raises
    ------
    UsageError
    """
    if config.network.shared_trunk and wanted and tuple(stages) != ("crop",):
        raise UsageError(
            f"--task {wanted[0]}: with network.shared_trunk one network learns all tasks together; "
            "say --all instead (stage crop takes --task), or --set network.shared_trunk=false"
        )


def _walk_through(
    walk: Walk, stages: Sequence[str], tasks: Sequence[TaskData], jobs: int, scheduler: str | None
) -> bool:
    """Take some tasks through some stages; return whether there was anything to do."""
    config, folder = walk.config, walk.folder
    work = []
    for data in tasks:
        if walk.is_current(stages, data):
            log(f"{data.task.short}: {', '.join(stages)} up to date")
        else:
            work.append(data)
    # The longest first, so that the last ones end together.
    work.sort(key=lambda data: -len(data))
    if work:
        folder.description.unlink(missing_ok=True)  # it tells of networks that are about to change
    spread = bool(scheduler) or jobs > 1
    # Under a limit on memory, libraries may crash where they get none; in a worker process that can be told.
    if work and (spread or memory_limit() is not None):
        # Pieces of several tasks take turns here, so each task has a walk of its own.
        shared = [
            (_elsewhere(config, folder, data), Walk(config, folder, walk.joined).rounds(stages, data))
            for data in work
        ]
        in_rounds(_do_beside_others, shared, jobs, scheduler)
    else:
        for data in work:
            in_turn(walk, data, stages)
    return bool(work)


def _is_described(folder: RunFolder) -> bool:
    """Whether what prediction must be told is there, and can be read."""
    try:
        read_description(folder.description)
    except RunError:
        return False
    return True


def _describe(config: Config, folder: RunFolder, known: Sequence[Task]) -> None:
    """Write what prediction must be told of all finished tasks, these commands' and earlier ones'."""
    if config.heatmap.by_gradient:  # what ONNX Runtime cannot do
        folder.description.unlink(missing_ok=True)
        return
    done = [task for task in known if folder.task(task.name).finished]
    if not done:
        return
    try:
        description = describe_run(trained_run(config, folder), done)
    except (DataError, RunError) as error:  # an earlier task has lost a file: no reason to fail this one
        log(f"{folder.description.name} was not written: {error}")
        return
    write_json(folder.description, description.as_json(folder.path))


def device_notes(devices: Devices) -> list[str]:
    """Tell where a run trains, where that is worth a line: on GPUs, or on the CPU though there is one."""
    if devices.training:
        names = ", ".join(card.name for card in devices.training)
        return [f"training on {names}" + (", in mixed precision" if devices.amp else "")]
    return [f"training on the CPU: {devices.reason}"] if devices.driver else []


def parallel_jobs(config: Config, n_tasks: int) -> int:
    """How many processes to work in at once.

    MXNet's training keeps one core busy whatever its thread count, so on a CPU two tasks side by
    side take little longer than one; a GPU is shared by none.
    """
    if config.runtime.jobs != "auto":
        return config.runtime.jobs
    on_gpu = find_devices(config.runtime.device, config.runtime.amp).training
    return 1 if on_gpu else min(max(1, config.runtime.threads), n_tasks)


@functools.lru_cache(maxsize=1)
def _walk(config: str, folder: Path) -> Walk:
    """A worker process's walk, kept from piece to piece."""
    return Walk(Config.model_validate(yaml.safe_load(config)), RunFolder(folder))


def _elsewhere(config: Config, folder: RunFolder, data: TaskData) -> tuple[Config, RunFolder, str, TaskData]:
    """What a worker needs to know, with paths that hold in another working directory."""
    config = config.one_thread()
    weights = config.network.weights
    if weights not in ("imagenet", "none"):
        network = config.network.model_copy(update={"weights": os.path.abspath(weights)})
        config = config.model_copy(update={"network": network})
    data = dataclasses.replace(data, paths=absolute(data.paths))
    folder = RunFolder(folder.path.absolute())
    return config, folder, signature(folder.path), data


def _do_beside_others(task: tuple[Config, RunFolder, str, TaskData], *errand: Any) -> Seconds:
    """Do one piece in a worker process, on one thread."""
    config, folder, held_by, data = task
    try:
        with lent(folder.path, held_by):
            return _walk(dump_config(config), folder.path).do(data, *errand)
    except HeldError as error:
        raise RunError(f"{error}; all machines must see it under this path") from None


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
    refuse_no_run(folder)
    config = config_of_run(folder)
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
        log(f"left out of the figures: {', '.join(sorted(others))} ({error})")
        return opened
