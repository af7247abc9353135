"""Load the data set of a configuration: read, check every image, reject bad rows, split, sort by task."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from heatcrop.cli.config import Config
from heatcrop.cli.config_file import read_config
from heatcrop.data.dataset import TaskData, survey_images, task_data
from heatcrop.data.exclusions import Exclusion, exclude_rows, read_exclusions
from heatcrop.data.groups import HELD_OUT, TaskGroup, align_splits, shared_group, single_group
from heatcrop.data.readers import read_annotations
from heatcrop.data.readers.root import Access
from heatcrop.data.splits import assign_splits, group_copies
from heatcrop.data.tasks import FASHIONAI, Task, resolve
from heatcrop.errors import PROGRAM, DataError, RunError, UsageError
from heatcrop.files import write_table
from heatcrop.rendered import missing_tasks, write_dataset
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.progress import log, progress
from heatcrop.runs.records import file_stamps, fingerprint
from heatcrop.wording import counted


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The data of a run."""

    tasks: dict[str, TaskData]
    """By full name, in the order of the tasks asked for."""
    groups: tuple[TaskGroup, ...]
    """The same tasks, by network. Where tasks share one, all of them, whichever were asked for."""
    known: tuple[Task, ...]
    """All tasks that the configuration knows."""
    left_out: tuple[str, ...]
    """Names of other tasks of the data, which the configuration leaves out or which cannot be inferred."""
    rejected: pd.DataFrame
    """image, task, source, reason."""
    notes: list[str]
    problems: list[str]
    """What does not stop the run: a task that is skipped, a class without a training image."""
    boxes_true: pd.DataFrame | None
    """image, task, x0, y0, x1, y1 of the true regions, in pixels; None where none is known."""
    stamps: dict[str, str]
    """Fingerprint of each task's image files: their sizes and modification times."""


def config_of_run(folder: RunFolder) -> Config:
    """Read a run's configuration, to load its data again; RunError where the data is no longer there."""
    config = read_config(folder.config)
    roots = config.data.roots if config.data.source == "files" else ()
    missing = [root for root in roots if not expanded(root).exists()]
    if len(missing) == len(roots):  # a run continues without one of several
        for root in missing:
            how = f"in {Path.cwd()}; start the command in the folder where the run was made, or correct it"
            if expanded(root).is_absolute():
                how = "there; bring it back, or correct its path"
            raise RunError(f"{folder.config}: data.roots has {root!r}, which is not {how}")
    return config


def load_dataset(
    config: Config, wanted: Sequence[str], folder: RunFolder | None, strict: bool = True, keep: bool = True
) -> Dataset:
    """Load and check the data of some tasks.

    Parameters
    ----------
    config : Config
    wanted : sequence of str
        Task names or short names; empty for all that have images.
    folder : RunFolder or None
        Where the result of checking the images is kept, so that they are decoded only once, and where
        ``rejected.csv`` goes; None writes nothing.
    strict : bool
        Stop when more rows are rejected than the configuration allows.
    keep : bool
        False reads earlier results and writes nothing.

    Raises
    ------
    DataError, RunError
    """
    how = config.data
    with _rendering(config, wanted):
        roots = _roots(config, wanted)
        read = read_annotations(
            roots,
            config.known_tasks(),
            how.layout,
            splits=how.splits,
            left_out=how.left_out,
            access=Access(how.follow_links, how.absolute_paths),
            others=[expanded(path) for path in how.excluded],
        )
    tasks = read.tasks
    if fault := config.unknown_override(tasks):  # of tasks that are inferred; others are checked before
        raise UsageError(fault)
    chosen = [resolve(name, tasks) for name in wanted]
    shared = config.network.shared_trunk
    rows, rejected, notes = read.rows, read.rejected, list(read.notes)
    if chosen and not shared:
        # Accepted rows have the full name; rejected ones what their file holds.
        names = {"", *(text.casefold() for task in chosen for text in (task.name, task.short))}
        rows = rows[rows["task"].isin([task.name for task in chosen])]
        rejected = rejected[rejected["task"].str.casefold().isin(names)]
    if config.data.limit_per_class is not None:
        same = [rows["task"], rows["split"], rows["label"].str.find("y")]
        rows = rows.groupby(same, sort=False, observed=True).head(config.data.limit_per_class)
    rows, unreadable = _surveyed(rows, config, folder, keep)
    rejected = pd.concat([rejected, unreadable], ignore_index=True) if len(unreadable) else rejected
    if (kept := folder if keep else None) is not None:
        write_table(kept.rejected, rejected)
    if strict:
        _refuse_many_rejected(rejected, len(rows), config, kept)
    if len(rejected) and kept is not None:
        notes.append(f"{counted(len(rejected), 'row(s)')} rejected, see rejected.csv")
    rows = rows.assign(group=group_copies(rows))
    splits = assign_splits(rows, config.data.val_share, config.data.test_share, config.seed)
    notes += _unlabelled_test_sets(rows, config.data.test_share)
    rows = rows.assign(split=align_splits(rows, splits) if shared else splits)
    rows, excluded, unknown = exclude_rows(rows, _exclusions(config, tasks, folder), read.rows)
    notes += excluded
    places, problems = ", ".join(map(str, roots)), unknown
    found: dict[str, TaskData] = {}
    untrainable: dict[str, str] = {}
    for task in tasks if shared or not chosen else chosen:
        data = task_data(task, rows)
        if not len(data):
            if task in chosen:
                raise DataError(f"{task.name} has no usable image in {places}")
        elif reason := _untrainable(data):
            reason = "; ".join([reason, *excluded])
            if task in chosen and strict:
                raise DataError(reason)
            untrainable[task.name] = reason
        else:
            found[task.name] = data
    if not found:
        raise DataError(next(iter(untrainable.values()), f"no task has a usable image in {places}"))
    problems += [f"skipped: {reason}" for reason in untrainable.values()]
    boxes, misfits = _true_boxes(read.regions, rows)
    problems += misfits
    groups = (shared_group(list(found.values())),) if shared else tuple(map(single_group, found.values()))
    for group in groups:
        _refuse_held_out(group)
        problems += _missing_classes(group)
    if held_out := int(sum((group.splits == HELD_OUT).sum() for group in groups)):
        notes.append(
            f"{counted(held_out, 'training row(s) (is|are)')} not trained on: another task validates or "
            "tests on the image"
        )
    in_order = rows[rows["task"].isin(list(found))].sort_values("image", kind="stable")
    stamps = {
        str(task): fingerprint(part[["bytes", "modified"]].to_numpy(np.int64))
        for task, part in in_order.groupby("task", observed=True)
    }
    asked = {name: found[name] for name in [task.name for task in chosen] or found if name in found}
    if not asked:
        raise DataError("; ".join(untrainable[task.name] for task in chosen))
    # What a rendering that was interrupted leaves is no fault of the user's.
    problems = [*(read.problems if how.source == "files" else ()), *problems]
    return Dataset(asked, groups, tasks, read.left_out, rejected, notes, problems, boxes, stamps)


@contextlib.contextmanager
def _rendering(config: Config, wanted: Sequence[str]) -> Iterator[None]:
    """Let one process at a time render images, and read the tables of what is rendered."""
    root = rendered_folder(config)
    if not missing_images(config, wanted):
        yield
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root.with_name(f".{root.name}.lock"))
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        log(f"waiting for another process that renders images into {root}")
        held = lock.acquire()
    with held:
        yield


def _roots(config: Config, wanted: Sequence[str]) -> list[Path]:
    """Return the folders and files of the data; render the default's missing images of the tasks first."""
    if config.data.source == "files":
        return [expanded(root) for root in config.data.roots]
    root, workers, missing = rendered_folder(config), config.runtime.threads, missing_images(config, wanted)
    sizes = (config.data.rendered.per_class, config.data.rendered.test_per_class)
    total = sum(sizes) * sum(len(task.classes) for task in missing)
    with progress("render images", total) as bar:
        write_dataset(root, *sizes, config.seed, [task.name for task in missing], workers, bar)
    return [root]


def _exclusions(config: Config, tasks: Sequence[Task], folder: RunFolder | None) -> list[Exclusion]:
    """Read the images that are left out of training."""
    found = []
    for path in map(expanded, config.data.excluded):
        if folder is not None and path.resolve().is_relative_to(folder.path.resolve()):
            raise RunError(
                f"{path}: this run writes the file again, so that it would change its own data; copy the "
                "file, or give the new run a name of its own with --set name=..."
            )
        found += read_exclusions(path, tasks)
    return found


def expanded(root: str) -> Path:
    """Return the path of a root, with ``~`` and environment variables replaced where it does not exist."""
    path = Path(root)
    return path if path.exists() else Path(os.path.expanduser(os.path.expandvars(root)))


def _refuse_many_rejected(
    rejected: pd.DataFrame, good: int, config: Config, folder: RunFolder | None
) -> None:
    """Stop before training when more than the allowed share of rows is bad."""
    count, total = len(rejected), good + len(rejected)
    allowed = config.data.max_rejected_share
    if count <= allowed * total:
        return
    example = rejected.iloc[0]
    table = f"{PROGRAM} check lists the reasons" if folder is None else f"all are in {folder.rejected}"
    more = min(1.0, count / total + 0.01)
    raise RunError(
        f"{count} of {total} rows cannot be used ({count / total:.1%}, more than the allowed {allowed:.1%}), "
        f"for instance {example['source']}: {example['reason']}; {table}; "
        f"fix them, or allow more: --set data.max_rejected_share={more:.2f}"
    )


def rendered_folder(config: Config) -> Path:
    """Return the folder of the rendered default."""
    how = config.data.rendered
    return Path(how.folder) / f"{how.per_class}+{how.test_per_class}-seed{config.seed}"


def missing_images(config: Config, wanted: Sequence[str]) -> list[Task]:
    """Return those of some tasks, all if none is named, whose images must be rendered first."""
    if config.data.source != "rendered":
        return []
    tasks = FASHIONAI if config.network.shared_trunk or not wanted else [resolve(name) for name in wanted]
    missing = missing_tasks(rendered_folder(config), [task.name for task in tasks])
    return [task for task in FASHIONAI if task.name in missing]


_SURVEY = dict.fromkeys(("bytes", "modified", "width", "height"), np.int64)


def _surveyed(
    rows: pd.DataFrame, config: Config, folder: RunFolder | None, keep: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add bytes, time, width and height of each image file; reject images that cannot be decoded."""
    paths = pd.unique(rows["path"].to_numpy(object))  # an image of several tasks is checked once
    known, stamps = _known_survey(folder), file_stamps(paths)
    survey = known.reindex(paths)
    changed = np.flatnonzero((survey[["bytes", "modified"]].to_numpy() != stamps).any(axis=1))
    survey = survey.assign(bytes=stamps[:, 0], modified=stamps[:, 1])
    if len(changed):
        with progress("check images", len(changed)) as bar:
            sizes, reasons = survey_images(paths[changed].tolist(), config.runtime.threads, bar)
        survey.iloc[changed, survey.columns.get_indexer(["width", "height"])] = sizes
        survey.iloc[changed, survey.columns.get_loc("reason")] = reasons
        if folder is not None and keep:
            others = known[~known.index.isin(paths)]
            write_table(folder.survey, pd.concat([others, survey.astype(_SURVEY)]).reset_index(names="path"))
    rows = rows.join(survey.astype(_SURVEY), on="path")
    bad = rows["reason"] != ""
    return rows[~bad].drop(columns="reason"), rows.loc[bad, ["image", "task", "source", "reason"]]


def _known_survey(folder: RunFolder | None) -> pd.DataFrame:
    """Read what earlier commands found, by path; nothing from a damaged file, which is written again."""
    kinds = {"path": str, **_SURVEY, "reason": str}
    with contextlib.suppress(ValueError, KeyError, OSError):
        if folder is not None:
            table = pd.read_csv(folder.survey, dtype=kinds, keep_default_na=False, usecols=list(kinds))
            return table.drop_duplicates("path").set_index("path")
    return pd.DataFrame(columns=list(kinds)).astype(kinds).set_index("path")


def _true_boxes(regions: pd.DataFrame, rows: pd.DataFrame) -> tuple[pd.DataFrame | None, list[str]]:
    """Cut the true regions of usable images off at their edges; leave out those of another image size.

    Returns image, task, x0, y0, x1, y1, or None where no region is left, and problems.
    """
    sizes = rows[["image", "task", "width", "height"]]
    found = regions.merge(sizes, on=["image", "task"], suffixes=("_annotated", ""))
    width, height = found["width"], found["height"]
    other = (found["width_annotated"] > 0) & (
        (found["width_annotated"] != width) | (found["height_annotated"] != height)
    )
    boxes = found[["image", "task", "x0", "y0", "x1", "y1"]].assign(
        x0=found["x0"].clip(lower=0),
        y0=found["y0"].clip(lower=0),
        x1=np.minimum(found["x1"], width),
        y1=np.minimum(found["y1"], height),
    )
    outside = ~other & ((boxes["x0"] >= boxes["x1"]) | (boxes["y0"] >= boxes["y1"]))
    problems = []
    if other.any():
        first = found[other].iloc[0]
        problems.append(
            f"{counted(other.sum(), 'true region(s)')} left out, for instance of {first['image']}: it was "
            f"annotated at {first['width_annotated']}x{first['height_annotated']} pixels and has "
            f"{first['width']}x{first['height']} (upright); annotate the image as it is"
        )
    if outside.any():
        first = found[outside].iloc[0]
        problems.append(
            f"{counted(outside.sum(), 'true region(s)')} left out, for instance of {first['image']}: outside "
            f"the image, which has {first['width']}x{first['height']} pixels; correct the box"
        )
    boxes = boxes[~(other | outside)].reset_index(drop=True)
    return (boxes if len(boxes) else None), problems


def _unlabelled_test_sets(rows: pd.DataFrame, test_share: float) -> Iterator[str]:
    """Yield a note on each task whose images without a label are its test set, so that none is cut off."""
    for task, part in rows.groupby("task", observed=True):
        unlabelled = part["label"] == ""
        given = part["split"].isin(["test", ""])
        if (
            test_share
            and unlabelled.any()
            and given.all()
            and not (part["split"] == "test")[~unlabelled].any()
        ):
            n = int(unlabelled.sum())
            yield (
                f"{task}: {counted(n, 'image(s) without a label (is|are)')} taken as its test set, so that "
                "none is cut off the labelled ones; remove them, or give splits, where that is not meant"
            )


def _untrainable(data: TaskData) -> str:
    """Return why a task cannot be trained; '' when it can."""
    train = data.class_counts("train")
    present = np.count_nonzero(train)
    if present >= 2:
        return ""
    return (
        f"{data.task.name}: {counted(train.sum(), 'labelled training image(s)')} of "
        f"{counted(present, 'class(es)')}; at least two "
        f"classes are needed. Add images, or choose other tasks with --task"
    )


def _refuse_held_out(group: TaskGroup) -> None:
    """Raise DataError where too few training rows of a task are left beside those that are held out."""
    for number, data in enumerate(group.tasks):
        if (present := len(group.trained_classes[number])) < 2:
            raise DataError(
                f"{data.task.name}: training images of {counted(present, 'class(es)')} are left for the "
                "shared network, since other tasks validate or test on the others; at least two classes are "
                "needed. Give an image the same split in all tasks, or set network.shared_trunk=false"
            )


def _missing_classes(group: TaskGroup) -> list[str]:
    """List the classes that a network will not learn."""
    problems = []
    for number, data in enumerate(group.tasks):
        unknown = ~np.isin(np.arange(len(data.task.classes)), group.trained_classes[number])
        tested = unknown & (data.class_counts("val") + data.class_counts("test") > 0)
        found = {"tested but never trained on": tested, "classes without a training image": unknown & ~tested}
        problems += [
            f"{data.task.name}: {what}: {', '.join(data.task.classes[i] for i in np.flatnonzero(which))}"
            for what, which in found.items()
            if np.any(which)
        ]
    return problems
