"""Open run folders: own one while working on it, and never write into a folder of other files."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heatcrop.cli.config import Config
from heatcrop.cli.config_file import is_resolved, read_config
from heatcrop.cli.loading import Dataset, config_of_run, load_dataset
from heatcrop.cli.runner import require_same_rows
from heatcrop.data.tasks import FASHIONAI, Task, resolve
from heatcrop.errors import DataError, RunError, UsageError
from heatcrop.predict.description import read_description
from heatcrop.runs.folder import RunFolder, run_again
from heatcrop.runs.lock import locked
from heatcrop.runs.progress import log
from heatcrop.runs.reading import read_csv
from heatcrop.runs.records import refuse_old_records, rows_fingerprint
from heatcrop.runs.swap import refuse_others, remove_remnants

if TYPE_CHECKING:
    from heatcrop.report.compare import ComparedRun


def run_folder(config: Config, out: Path | None) -> RunFolder:
    """Return the run's folder: `out`, or ``runs/<name>``."""
    return RunFolder(out if out is not None else Path("runs") / config.name)


@contextlib.contextmanager
def owned(folder: RunFolder, new: bool = True) -> Iterator[None]:
    """Own a run folder for the length of the block, and remove what dead processes left in it.

    `new` makes the folder where there is none. RunError where another process owns it, it is not a run's, or
    an earlier version made it.
    """
    if new:
        refuse_foreign(folder)
        folder.path.mkdir(parents=True, exist_ok=True)
    else:
        refuse_no_run(folder)
    refuse_old_records(folder)
    with locked(folder.path):
        remove_remnants(folder)
        yield


def refuse_foreign(folder: RunFolder) -> None:
    """Raise RunError where a folder has files that are not a run's."""
    refuse_others(folder.path, folder.config, "a run's", is_resolved)


def refuse_no_run(folder: RunFolder) -> None:
    """Raise RunError where a folder is not a run's."""
    if not folder.config.is_file():
        raise RunError(f"{folder.path}: is not a run folder (no config.yaml)")


def known_tasks(folder: RunFolder) -> tuple[Task, ...]:
    """Return the tasks of a run, from its configuration; RunError where the folder is not a run's."""
    refuse_no_run(folder)
    return read_config(folder.config).known_tasks() or ()


def _is_run(path: Path) -> bool:
    config = RunFolder(path).config
    return config.is_file() and is_resolved(config.read_text(encoding="utf-8", errors="replace"))


def tasks_to_score(predictions: Path, run: Path | None, config: Path | None) -> Sequence[Task]:
    """Return the tasks of a run, of an exported one or of a configuration.

    Without either, those of the run whose folder holds the predictions, else FashionAI's. UsageError where
    both are given, or the configuration does not list the tasks.
    """
    if run is not None and config is not None:
        raise UsageError("--run and --config: both name the tasks; give one of them")
    if config is None and (run := scored_run(predictions, run)) is not None:
        folder = RunFolder(run)
        if folder.description.is_file() and not folder.config.is_file():
            description = read_description(folder.description)
            return [description.task(name) for name in description.tasks]
        if tasks := known_tasks(folder):
            return tasks
        raise RunError(f"{folder.config}: its tasks are not known yet; finish the run first")
    if config is None:
        return FASHIONAI
    found = read_config(config).known_tasks()
    if found is None:
        raise UsageError(
            f"{config}: data.tasks is infer, so it lists no tasks; give the run instead: --run runs/<name>"
        )
    return found


def scored_run(predictions: Path, run: Path | None) -> Path | None:
    """Return the run that is given, else the one whose folder holds the predictions."""
    return predictions.parent if run is None and _is_run(predictions.parent) else run


def count_seen(folder: RunFolder, answered: Mapping[str, Collection[str]]) -> int:
    """Count the answered images, given by task, that a run trained or validated on."""
    seen, columns = 0, ("image", "split")
    for name, images in answered.items():
        file = folder.task(name).predictions_csv(1)
        if file.is_file():  # not in an exported folder
            table = read_csv(file, columns, dtype=str, keep_default_na=False, usecols=columns.__contains__)
            seen += int((table["image"].isin(images) & table["split"].isin(["train", "val"])).sum())
    return seen


def finished_tasks(folder: RunFolder) -> list[Task]:
    """List the tasks that a run has finished, in the order of its configuration."""
    return [task for task in known_tasks(folder) if folder.task(task.name).finished]


def require_finished(folder: RunFolder, wanted: Sequence[str] = ()) -> list[Task]:
    """Return the tasks asked for, by default all finished ones; RunError where one is not finished."""
    finished = finished_tasks(folder)
    if not finished:
        raise RunError(f"{folder.path}: no task is finished; run it first: {folder.command('run', '--all')}")
    chosen = [resolve(name, known_tasks(folder)) for name in wanted]
    for task in chosen:
        if task not in finished:
            again = run_again(folder, task.name)
            raise RunError(f"{folder.path}: {task.name} is not finished; run it first: {again}")
    return chosen or finished


def reload_dataset(folder: RunFolder, wanted: Sequence[str] = (), keep: bool = True) -> Dataset:
    """Load the data of a run's finished tasks again, or of those `wanted`, from its configuration.

    For `keep` see `load_dataset`. RunError where the folder is not a run's, a task is not finished, or the
    data has changed.
    """
    finished = [task.name for task in require_finished(folder, wanted)]
    dataset = load_dataset(config_of_run(folder), finished, folder, keep=keep)
    for name, data in dataset.tasks.items():
        require_same_rows(folder, name, rows_fingerprint(data))
    return dataset


def compared_runs(paths: Sequence[Path]) -> list[ComparedRun]:
    """Load two finished runs, and write nothing; UsageError unless they are two different ones."""
    from heatcrop.report.compare import ComparedRun

    if len(paths) != 2:
        raise UsageError(f"--run: {len(paths)} runs are given; two can be compared, more in pairs")
    if paths[0].resolve() == paths[1].resolve():
        raise UsageError(f"{paths[1]}: is given twice; give two different runs")
    folders = [RunFolder(path) for path in paths]
    for folder in folders:  # both, before the data of one is loaded, or even rendered again
        refuse_no_run(folder)
        refuse_old_records(folder)
        require_finished(folder)
    found = []
    for folder in folders:
        dataset = reload_dataset(folder, keep=False)
        found.append(ComparedRun(folder, known_tasks(folder), dataset.tasks, dataset.boxes_true))
    return found


def with_finished(folder: RunFolder, dataset: Dataset) -> Dataset:
    """Add the tasks that earlier commands have finished, so that scores and submission keep them."""
    others = {task.name for task in finished_tasks(folder)} - set(dataset.tasks)
    if not others:
        return dataset
    try:
        return reload_dataset(folder)
    except (DataError, RunError) as error:
        log(f"not in the scores: {', '.join(sorted(others))} ({error})")
        return dataset
