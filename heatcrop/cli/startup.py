"""What surrounds the stages of a run: its configuration file, what is logged, who does the work."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence

from heatcrop.cli.config import Config
from heatcrop.cli.config_file import dump_config, read_config
from heatcrop.cli.loading import Dataset, expanded, load_dataset, missing_images
from heatcrop.cli.prediction import trained_run
from heatcrop.cli.run_folders import finished_tasks, refuse_foreign
from heatcrop.cli.runner import StageRunner, devices_of
from heatcrop.data.dataset import TaskData
from heatcrop.data.tasks import FASHIONAI, resolve, short_names
from heatcrop.errors import DataError, RunError, UsageError
from heatcrop.files import write_json, write_text
from heatcrop.nets.classifier import TrainingEngine, training_engine
from heatcrop.nets.devices import Devices, choose_trainer
from heatcrop.predict.description import read_description
from heatcrop.predict.trained_run import describe_run
from heatcrop.report.tensorboard import event_writer, write_events
from heatcrop.runs.executors import Executor, InlineExecutor, open_executor
from heatcrop.runs.folder import STAGES, RunFolder
from heatcrop.runs.limits import memory_limit
from heatcrop.runs.metrics import report_split
from heatcrop.runs.progress import log
from heatcrop.runs.thresholds import read_points, update_thresholds
from heatcrop.wording import counted


def serve_training(config: Config, scheduler: str | None) -> bool:
    """Join the processes that a launcher has started; return whether this one has trained for the first.

    The first runs the pipeline. UsageError for a Dask scheduler beside a launcher.
    """
    engine = engine_of(config)
    if engine.processes() == 1:
        return False
    if scheduler:
        raise UsageError("--scheduler: a launcher (torchrun) has started several processes; use one of both")
    engine.use_threads(config.runtime.threads)
    return engine.serve(devices_of(config))


def engine_of(config: Config) -> TrainingEngine:
    """Return the training engine of a configuration."""
    runtime = config.runtime
    return training_engine(choose_trainer(runtime.trainer, config.network.backbone, runtime.device))


def begin_run(config: Config, folder: RunFolder, wanted: Sequence[str], stages: Sequence[str]) -> None:
    """Refuse what cannot run, and write the configuration of a new run."""
    refuse_single_of_shared(config, wanted, stages)
    if other := _other_data(config, folder):
        if tuple(stages) != STAGES:
            raise RunError(
                f"{folder.path}: was made from {other}, and this command is for other data; give --config "
                f"{folder.config}, or another --out"
            )
        log(f"{folder.path}: was made from {other}; tasks of other data replace its tasks in the results")
    devices_of(config)
    if config.runtime.tensorboard:
        event_writer()  # a missing package is reported now, not after hours
    if not folder.config.is_file():
        write_text(folder.config, dump_config(config))


def _other_data(config: Config, folder: RunFolder) -> str:
    """Name the data that a run folder was made from, where it is other data than that of a configuration.

    Data whose folders are gone may have been moved, and is taken for the same.
    """
    if not any(folder.path.glob("*/.cam.json")) or not folder.config.is_file():
        return ""
    with contextlib.suppress(UsageError):  # of a version with other settings
        made, now = read_config(folder.config).data, config.data
        if made.source == "rendered" != now.source:
            return "rendered images"
        there = [expanded(root).resolve() for root in made.roots if expanded(root).exists()]
        given = [expanded(root).resolve() for root in now.roots] if now.source == "files" else []
        if made.source == "files" and there and not set(there) & set(given):
            return ", ".join(made.roots)
    return ""


def refuse_single_of_shared(config: Config, wanted: Sequence[str], stages: Sequence[str]) -> None:
    """Raise UsageError where one task of those that share a network is to be trained."""
    if config.network.shared_trunk and wanted and tuple(stages) != ("crop",):
        raise UsageError(
            f"--task {wanted[0]}: with network.shared_trunk one network learns all tasks together; "
            "give --all instead (stage crop takes --task), or --set network.shared_trunk=false"
        )


def first_task(
    config: Config, wanted: Sequence[str], stages: Sequence[str], scheduler: str | None
) -> list[tuple[list[str], tuple[str, ...]]]:
    """Choose a task of the rendered default that runs alone before the others, and its stages; [] for none.

    It computes with all cores, and only its images are rendered by then. Where all tasks run at once anyway,
    none comes first.
    """
    if config.data.source != "rendered" or scheduler or config.network.shared_trunk or len(stages) < 2:
        return []
    tasks = [resolve(name) for name in wanted] or FASHIONAI
    if parallel_jobs(config, len(tasks)) >= len(tasks):
        return []
    shortest = min(tasks, key=lambda task: len(task.classes))
    return [([shortest.name], STAGES[:2])]


def choose_executor(
    runner: StageRunner, dataset: Dataset, stages: Sequence[str], scheduler: str | None
) -> contextlib.AbstractContextManager[Executor]:
    """Log what is going to run, and choose the executor that runs it."""
    config, folder = runner.config, runner.folder
    now = config.with_tasks(dataset.known, dataset.left_out)
    write_text(folder.config, dump_config(_with_others(now, folder, dataset.tasks, stages)))
    for note in (*dataset.notes, *dataset.problems):
        log(note)
    if report_split(dataset.tasks) == "val":
        log("no test images with answers: scores are on val, which also chose rule and fusion")
    n_tasks, n_images = len(dataset.tasks), sum(map(len, dataset.tasks.values()))
    jobs = parallel_jobs(config, n_tasks)
    where = f"spread over the workers of {scheduler}" if scheduler else f"{jobs} at once"
    log(f"{counted(n_images, 'image(s)')}, {counted(n_tasks, 'task(s)')}, {where}; run folder {folder.path}")
    for note in device_notes(devices_of(config)):
        log(note)
    if not any(runner.plan(stages, dataset.tasks).values()):
        return contextlib.nullcontext(InlineExecutor())
    # Under a limit on memory libraries may crash where they get none; in a worker that can be reported.
    isolated = memory_limit() is not None and engine_of(config).processes() == 1
    return open_executor(jobs, scheduler, isolated)


def _with_others(
    config: Config, folder: RunFolder, running: Collection[str], stages: Sequence[str]
) -> Config:
    """Return the configuration to store, also that of tasks and stages that this command does not run.

    Where these were made by other plans, these plans stay, and the command's become changes of its own tasks.
    """
    tasks = {task.name: task for task in config.known_tasks() or ()}
    with contextlib.suppress(UsageError):  # of a version with other settings
        made = read_config(folder.config)
        others = [
            (task, number)
            for task in made.known_tasks() or ()
            for number, stage in enumerate(STAGES)
            if tasks.get(task.name) == task and folder.task(task.name).record(stage).is_file()
            if task.name not in running or stage not in stages
        ]
        if any(made.plans(task)[number] != config.plans(task)[number] for task, number in others):
            regimes = ("cam", "crop", "finetune", "design", "length", "tasks")
            kept = config.model_copy(update={name: getattr(made, name) for name in regimes})
            return kept.with_plans_of(config, [tasks[name] for name in running], stages)
    return config


def finish_stages(runner: StageRunner, dataset: Dataset) -> None:
    """Repair what no stage records, and describe the finished tasks for prediction."""
    config, folder = read_config(runner.folder.config), runner.folder
    with runner.times.part("other"):
        runner.finish()
        if config.runtime.tensorboard:
            for name in dataset.tasks:
                write_events(folder.task(name))
            log(f"events: tensorboard --logdir {folder.path}")
        describe_finished(config, folder, dataset.tasks)


def describe_finished(config: Config, folder: RunFolder, tasks: Mapping[str, TaskData]) -> None:
    """Choose the thresholds of finished tasks, and write ``heatcrop.json``, where they are not up to date.

    `config` is the run's, with its tasks resolved; `tasks` are those whose data is known.
    """
    for name, data in tasks.items():
        if folder.task(name).finished:
            update_thresholds(folder.task(name), data)
    if config.heatmap.by_gradient:  # ONNX Runtime has no backward pass
        folder.description.unlink(missing_ok=True)
        return
    with contextlib.suppress(DataError, RunError):
        described = read_description(folder.description).tasks
        if all(one.thresholds == read_points(folder.task(name)) for name, one in described.items()):
            return
    try:
        if finished_tasks(folder):
            run = trained_run(config, folder)
            description = describe_run(run, run.choose(()))
            write_json(folder.description, description.as_json(folder.path))
    except (DataError, RunError) as error:  # an earlier task has lost a file: no reason to fail this one
        log(f"{folder.description.name} was not written: {error}")


def plan_run(
    config: Config, folder: RunFolder, wanted: Sequence[str], stages: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Return, by short task name, which stages a run would do and why; write nothing."""
    refuse_foreign(folder)
    refuse_single_of_shared(config, wanted, stages)
    if missing := missing_images(config, wanted):
        known = config.known_tasks() or ()
        tasks = [resolve(name, known) for name in wanted] or known
        rest = [task.name for task in tasks if task not in missing]
        planned = plan_run(config, folder, rest, stages) if rest else {}
        why = dict.fromkeys(stages, "its images must be rendered first")
        return {name: planned.get(name, why) for name in short_names(tasks).values()}
    dataset = load_dataset(config, wanted, folder, keep=False)
    return StageRunner(config, folder, dataset.groups, dataset.stamps).plan(stages, dataset.tasks)


def device_notes(devices: Devices) -> list[str]:
    """Describe where a run trains: on GPUs, or on the CPU though there is a driver."""
    if devices.training:
        names = ", ".join(card.name for card in devices.training)
        return [f"training on {names}" + (", in mixed precision" if devices.amp else "")]
    return [f"training on the CPU: {devices.reason}"] if devices.driver else []


def parallel_jobs(config: Config, n_tasks: int) -> int:
    """Return how many jobs to run at once.

    On a CPU each of several jobs computes with one core; a GPU is not shared.
    """
    if engine_of(config).processes() > 1:  # all of them train one network after the other
        return 1
    if config.runtime.jobs != "auto":
        return config.runtime.jobs
    on_gpu = devices_of(config).training
    return 1 if on_gpu else min(max(1, config.runtime.threads), n_tasks)
