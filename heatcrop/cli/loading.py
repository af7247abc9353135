"""Open the data a configuration asks for: read, survey, set aside what is bad, split, sort by task."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from heatcrop.cli.config import Config
from heatcrop.cli.config_file import read_config
from heatcrop.data.dataset import TaskData, survey_images, task_data
from heatcrop.data.joined import APART, JoinedData, join_tasks, one_side
from heatcrop.data.readers import infer_tasks, read_annotations
from heatcrop.data.readers.collect import picture_paths, sources
from heatcrop.data.splits import assign_splits
from heatcrop.data.tasks import FASHIONAI, Task, resolve
from heatcrop.data.texts import Places, first_of_each
from heatcrop.errors import DataError, RunError
from heatcrop.files import ROWS_AT_ONCE, atomic_table, write_table
from heatcrop.rendered import write_dataset
from heatcrop.runs.fingerprint import files_stamp
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.progress import progress


@dataclasses.dataclass(frozen=True)
class Opened:
    """The data of a run.

    Attributes
    ----------
    tasks : dict of str to TaskData
        By full name, in the order of the tasks asked for.
    known : tuple of Task
        All tasks the configuration knows.
    rejected : DataFrame
        image, task, source, reason.
    notes : list of str
    boxes_true : DataFrame or None
        image, task, x0, y0, x1, y1 of rendered data.
    faults : list of str
        What is wrong with tasks and classes, and borne: a task that is left out, a class never trained on.
    joined : JoinedData or None
        All tasks as one, whichever were asked for, where they share a network.
    """

    tasks: dict[str, TaskData]
    known: tuple[Task, ...]
    rejected: pd.DataFrame
    notes: list[str]
    boxes_true: pd.DataFrame | None
    faults: list[str] = dataclasses.field(default_factory=list)
    joined: JoinedData | None = None


def config_of_run(folder: RunFolder) -> Config:
    """Read a run's own configuration, to open its data again.

    Raises
    ------
    RunError
        Where its data are not where it says.
    """
    config = read_config(folder.config)
    for root in config.data.roots if config.data.source == "files" else ():
        if not Path(root).exists():
            if Path(root).is_absolute():
                how = "which is not there; bring it back, or correct its path"
            else:
                how = f"which is not in {Path.cwd()}; start the command in the folder where the run was made"
            raise RunError(f"{folder.config}: data.roots has {root!r}, {how}")
    return config


def open_data(
    config: Config, wanted: Sequence[str], folder: RunFolder | None, strict: bool = True, keep: bool = True
) -> Opened:
    """Read and check the data of some tasks.

    Parameters
    ----------
    wanted : sequence of str
        Task names or short names; empty for all that have pictures.
    folder : RunFolder or None
        Where the survey of the pictures is kept, so that they are decoded only once, and where
        ``rejected.csv`` goes; None leaves nothing behind.
    strict : bool
        Stop when more rows are bad than the configuration allows.
    keep : bool
        False reads a survey that is there and writes nothing.

    Raises
    ------
    DataError, RunError
        Also when more than the configured share of pictures had to be set aside.
    """
    if config.network.shared_trunk and wanted:
        return _some_of(open_data(config, (), folder, strict, keep), wanted)
    tasks = config.known_tasks()
    if config.data.source == "rendered":
        roots = [_rendered(config)]
    else:
        roots = [Path(root) for root in config.data.roots]
    if tasks is None:
        tasks = _inferred(roots, config.data.layout)
    chosen = [resolve(name, tasks) for name in wanted]
    read = read_annotations(roots, tasks, config.data.layout)
    rows, rejected, notes = read.table, read.rejected, list(read.notes)
    if chosen:
        names = [task.name for task in chosen]
        # Good rows bear the whole name; rejected ones what their file says.
        spelled = {"", *(s.casefold() for task in chosen for s in (task.name, task.short))}
        rows = rows[rows["task"].isin(names)]
        rejected = rejected[rejected["task"].str.casefold().isin(spelled)]
    del read
    rows = rows.copy(deep=False)  # each copy of millions of rows counts
    if config.data.splits:
        rows["split"] = rows["split"].astype(object).replace(config.data.splits)
    rows = _limited(rows, config)
    rows, bad = _surveyed(rows, config, folder, keep)
    rejected = pd.concat([rejected, bad], ignore_index=True) if len(bad) else rejected
    if folder is not None and keep:
        write_table(folder.rejected, rejected)
    if strict:
        _refuse_rubbish(rejected, len(rows), config, folder)
    if rejected.shape[0]:
        notes.append(f"{len(rejected)} rows set aside, see rejected.csv")
    rows, paths = rows.drop(columns=["file", "line"]), picture_paths(rows)
    splits = assign_splits(rows, config.data.val_share, config.data.test_share, config.seed, paths)
    rows["split"] = one_side(rows, splits, paths) if config.network.shared_trunk else splits
    found: dict[str, TaskData] = {}
    faults: list[str] = []
    for task in chosen or tasks:
        if (rows["task"] == task.name).any():
            data = task_data(task, rows, paths)
            reason = _untrainable(data)
            if not reason:
                found[task.name] = data
                faults += _thin(data)
            elif chosen and strict:
                raise DataError(reason)
            else:
                faults.append(f"left out: {reason}")
        elif chosen:
            raise DataError(f"{task.name} has no usable picture in {', '.join(map(str, roots))}")
    if not found:
        nothing = f"no task has a usable picture in {', '.join(map(str, roots))}"
        raise DataError(faults[0].removeprefix("left out: ") if faults else nothing)
    truth = roots[0] / "boxes_true.csv"
    boxes = pd.read_csv(truth, dtype={"image": str, "task": str}) if truth.is_file() else None
    joined = join_tasks(list(found.values())) if config.network.shared_trunk else None
    if joined is not None and (apart := int((joined.splits == APART).sum())):
        notes.append(
            f"{apart} training rows are not trained on: another task validates or tests on the picture"
        )
    return Opened(found, tuple(tasks), rejected, notes, boxes, faults, joined)


def _some_of(opened: Opened, wanted: Sequence[str]) -> Opened:
    """Keep some tasks; how the others are split tells how these are, where they share a network."""
    names = [resolve(name, opened.known).name for name in wanted]
    for name in names:
        if name not in opened.tasks:
            raise DataError(f"{name} has no usable picture, or none to learn from")
    return dataclasses.replace(opened, tasks={name: opened.tasks[name] for name in dict.fromkeys(names)})


def _inferred(roots: Sequence[Path], layout: str) -> tuple[Task, ...]:
    """The tasks that all roots together speak of; one task's classes may be spread over them."""
    found: dict[str, Task] = {}
    for root in roots:
        for task in infer_tasks(root, layout):
            known = found.get(task.name, task)
            classes = known.classes
            if known != task:
                classes = tuple(sorted({*known.classes, *task.classes}))
            found[task.name] = Task(task.name, classes, known.kind)
    return tuple(found.values())


def _refuse_rubbish(rejected: pd.DataFrame, good: int, config: Config, folder: RunFolder | None) -> None:
    """Stop before training when more than the allowed share of rows is bad."""
    count, total = len(rejected), good + len(rejected)
    allowed = config.data.max_rejected_share
    if count <= allowed * total:
        return
    example = rejected.iloc[0]
    table = f"all of them are in {folder.rejected}; " if folder is not None else ""
    more = min(1.0, count / total + 0.01)
    raise RunError(
        f"{count} of {total} rows cannot be used ({count / total:.1%}, more than the allowed {allowed:.1%}), "
        f"for instance {example['source']}: {example['reason']}; {table}"
        f"mend them, or allow more: --set data.max_rejected_share={more:.2f}"
    )


def rendered_folder(config: Config) -> Path:
    """Where the rendered default lies, or will."""
    how = config.data.rendered
    return Path(how.folder) / f"{how.per_class}+{how.test_per_class}-seed{config.seed}"


def to_be_drawn(config: Config) -> bool:
    """Whether the pictures have to be drawn first; their table of true boxes is written last of all."""
    return config.data.source == "rendered" and not (rendered_folder(config) / "boxes_true.csv").is_file()


def _rendered(config: Config) -> Path:
    """Draw the rendered default, all tasks of it so that the folder serves every later run, or find it."""
    how, root = config.data.rendered, rendered_folder(config)
    total = (how.per_class + how.test_per_class) * sum(len(task.classes) for task in FASHIONAI)
    with progress("render images", total) as bar:
        write_dataset(
            root,
            how.per_class,
            how.test_per_class,
            config.seed,
            workers=config.runtime.threads,
            progress=bar,
        )
    return root


def _limited(rows: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Keep the first few rows of each task, split and class, for a quick look."""
    limit = config.data.limit_per_class
    if limit is None:
        return rows
    alike = [rows["task"], rows["split"], rows["label"].str.find("y")]
    return rows.groupby(alike, sort=False, observed=True).head(limit)


def _surveyed(
    rows: pd.DataFrame, config: Config, folder: RunFolder | None, keep: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add width and height, and set aside pictures that cannot be decoded."""
    # A picture of several tasks is looked at once.
    paths = picture_paths(rows)
    first, which = np.unique(first_of_each(paths), return_inverse=True)
    distinct = paths.take(first)
    facts, reasons, others = _known_survey(folder, distinct)
    stamps = files_stamp(distinct)
    missing = np.flatnonzero((facts[:, :2] != stamps).any(axis=1))
    if len(missing):
        with progress("check pictures", len(missing)) as bar:
            sizes, told = survey_images(distinct.take(missing), config.runtime.threads, bar)
        facts[missing, :2], facts[missing, 2:], reasons[missing] = stamps[missing], sizes, told
        if folder is not None and keep:
            _write_survey(folder.survey, others, distinct, facts, reasons)
    rows = rows.assign(width=facts[which, 2], height=facts[which, 3])
    reasons = reasons[which]
    spoilt = reasons != ""
    bad = rows[spoilt]
    told = {"image": bad["image"].tolist(), "task": bad["task"].tolist(), "source": sources(bad)}
    return rows[~spoilt] if spoilt.any() else rows, pd.DataFrame({**told, "reason": reasons[spoilt].tolist()})


_FACTS = ("bytes", "modified", "width", "height")


def _write_survey(
    path: Path, others: pd.DataFrame, paths: Sequence[str], facts: np.ndarray, reasons: np.ndarray
) -> None:
    columns = ["path", *_FACTS, "reason"]
    with atomic_table(path) as write:
        if len(others):
            write(others[columns])
        for start in range(0, len(paths), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            now = pd.DataFrame(facts[some], columns=list(_FACTS))
            write(now.assign(path=list(paths[some]), reason=reasons[some])[columns])


def _known_survey(
    folder: RunFolder | None, paths: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """What earlier commands found of some distinct paths, and of others; a damaged survey is made anew.

    Returns
    -------
    facts : ndarray of int64, shape (N, 4)
        -1 of what is not known.
    reasons : ndarray of object, shape (N,)
    others : DataFrame
    """
    facts, reasons = np.full((len(paths), len(_FACTS)), -1, np.int64), np.full(len(paths), "", object)
    others = pd.DataFrame(columns=["path", *_FACTS, "reason"])
    if folder is None or not folder.survey.is_file():
        return facts, reasons, others
    types = {"path": str, "reason": str, **dict.fromkeys(_FACTS, np.int64)}
    found, places = [others], Places(paths)
    try:
        with pd.read_csv(
            folder.survey, dtype=types, keep_default_na=False, usecols=list(types), chunksize=ROWS_AT_ONCE
        ) as parts:
            for part in parts:
                at = places.of(part["path"].tolist())
                own = at >= 0
                facts[at[own]] = part.loc[own, list(_FACTS)].to_numpy(np.int64)
                reasons[at[own]] = part.loc[own, "reason"].to_numpy(object)
                found.append(part[~own])
    except (ValueError, KeyError, OSError):
        return np.full_like(facts, -1), np.full_like(reasons, ""), others
    return facts, reasons, pd.concat([part for part in found if len(part)] or [others], ignore_index=True)


def _untrainable(data: TaskData) -> str:
    """Say why a task cannot be trained; '' when it can."""
    train = data.rows("train", labelled=True)
    present = len(np.unique(data.letters[train].argmax(axis=1))) if len(train) else 0
    if present >= 2:
        return ""
    return (
        f"{data.task.name}: {len(train)} labelled training pictures of {present} classes; at least two "
        f"classes are needed to learn a difference. Add pictures, or leave the task out with --task"
    )


def _thin(data: TaskData) -> list[str]:
    """Tell the classes that no network will know."""
    counts = {
        split: np.bincount(data.letters[rows].argmax(axis=1), minlength=len(data.task.classes))
        for split in ("train", "val", "test")
        if len(rows := data.rows(split, labelled=True))
    }
    unknown = counts["train"] == 0
    asked = unknown & (sum(c for split, c in counts.items() if split != "train") > 0)
    told = [("tested but never trained on", asked), ("classes without a training picture", unknown & ~asked)]
    return [
        f"{data.task.name}: {words}: {', '.join(data.task.classes[i] for i in np.flatnonzero(which))}"
        for words, which in told
        if np.any(which)
    ]
