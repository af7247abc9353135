"""Report on the data and the machine before a run."""

from __future__ import annotations

import difflib
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from heatcrop.cli.config import Config
from heatcrop.cli.estimate import Cost, expected_cost
from heatcrop.cli.loading import load_dataset
from heatcrop.cli.machine import memory_lines, report_machine
from heatcrop.cli.run_folders import refuse_foreign
from heatcrop.cli.startup import refuse_single_of_shared
from heatcrop.cli.tables import cost_table, new_table
from heatcrop.data.dataset import TaskData
from heatcrop.data.labels import format_letters
from heatcrop.data.splits import identical_groups
from heatcrop.errors import EngineError, WeightsError
from heatcrop.nets.weights.zoo_files import weights_file
from heatcrop.runs.folder import STAGES, RunFolder
from heatcrop.runs.progress import console, format_duration, log
from heatcrop.runs.records import refuse_old_records
from heatcrop.wording import counted
from stage1_cam.stage import fold_notes, fold_rows

SPLITS = ("train", "val", "test")
_MOST_REASONS = 10
_BAR = 16
_ABSENCE = re.compile(r"(no|not|without)([ _-].+)?|none|nothing|absent|missing|hidden|n/?a", re.IGNORECASE)
"""Names of classes that may mean that an image does not show the attribute."""
_RARE = 10
"""How many times as many images another class has, for a class to be reported as misspelt."""


def check(config: Config, wanted: list[str], folder: RunFolder, speed: bool = True) -> int:
    """Print tables on data and machine; return the number of problems found.

    The disk of the run folder must have enough space. With `speed`, a few images pass through the networks,
    to estimate time and disk space. RunError or UsageError where a run would be refused.
    """
    refuse_foreign(folder)
    refuse_old_records(folder)
    refuse_single_of_shared(config, wanted, STAGES)
    devices = report_machine(config)
    dataset = load_dataset(config, wanted, folder, strict=False, keep=False)
    console.print(_images_table(dataset.tasks))
    console.print(_classes_table(dataset.tasks))
    for note in (*dataset.notes, *dataset.problems):
        log(note)
    for group in dataset.groups:
        folds = config.plans(group.tasks[0].task)[0].folds
        for note in fold_notes(group, fold_rows(group, folds, config.seed)):
            log(note)
    problems = len(dataset.problems) + _report_rejected(dataset.rejected)
    problems += sum(_report_leakage(name, data) for name, data in dataset.tasks.items())
    if config.data.tasks == "infer":  # of listed classes, a misspelt one is rejected
        for data in dataset.tasks.values():
            _report_misspelt_classes(data)
    for data in dataset.tasks.values():
        _report_absence_class(data)
    if devices is None:  # reported above
        return problems + 1
    try:
        weights_file(config.network.weights)
        lines, unfit = memory_lines(config, dataset.tasks, devices)
        for line in lines:
            log(line)
        problems += unfit
        return problems + (_report_cost(expected_cost(config, dataset.tasks), folder.path) if speed else 0)
    except (EngineError, WeightsError) as error:
        log(f"the networks cannot be built: {error}")
        return problems + 1


def _images_table(tasks: dict[str, TaskData]) -> Table:
    table = new_table("images", "task", *SPLITS, "no label", "classes", "shorter side", "copies")
    for data in tasks.values():
        train = data.class_counts("train")
        side = data.sizes.min(axis=1)
        copies = len(data) - len(np.unique(identical_groups(data.paths)))
        table.add_row(
            data.task.short,
            *(str(len(data.rows(s))) for s in SPLITS),
            str(int((~data.labelled).sum())),
            f"{int((train > 0).sum())} of {len(train)}",
            f"{side.min()}..{side.max()} px",
            str(copies),
        )
    return table


def _classes_table(tasks: dict[str, TaskData]) -> Table:
    table = new_table("labels by class", "task", "class", *SPLITS, texts=2)
    table.add_column("train")
    for data in tasks.values():
        counts = np.stack([data.class_counts(split) for split in SPLITS], axis=1)
        most = max(1, int(counts[:, 0].max()))
        for i, name in enumerate(data.task.classes):
            bar = "━" * int(np.ceil(_BAR * counts[i, 0] / most))
            table.add_row(data.task.short if i == 0 else "", Text(name), *map(str, counts[i]), bar or "none")
    return table


def _report_rejected(rejected: pd.DataFrame) -> int:
    """Log each reason with its count and first example; return the number of rejected rows."""
    by_reason = rejected.groupby("reason", sort=False)
    for i, (reason, rows) in enumerate(by_reason):
        if i == _MOST_REASONS:
            log(f"... and {counted(by_reason.ngroups - i, 'more reason(s)')}")
            break
        times = f" ({len(rows)} rows, this is the first)" if len(rows) > 1 else ""
        log(f"rejected {rows.iloc[0]['source']}: {reason}{times}")
    return len(rejected)


def _report_leakage(name: str, data: TaskData) -> int:
    """Log images in two splits or with two labels; return the number of kinds of leakage."""
    problems, contents, labelled = 0, identical_groups(data.paths), data.labelled
    first = np.unique(contents, return_index=True)[1][contents]
    other_label = (data.letters != data.letters[first]).any(axis=1) & labelled & labelled[first]
    for text, found, shown in (
        ("byte-identical in two splits", data.splits != data.splits[first], data.splits.item),
        ("under two labels", other_label, lambda row: format_letters(data.letters[row])),
    ):
        if found.any():
            problems += 1
            row = int(found.argmax())
            pair = " and ".join(f"{data.images[i]} ({shown(i)})" for i in (row, first[row]))
            log(f"{name}: {counted(int(found.sum()), 'image(s)')} {text}, for instance {pair}")
    splits = pd.Series(data.splits).groupby(data.groups).nunique()
    divided = splits[(splits > 1) & (splits.index != "")]
    if len(divided):
        problems += 1
        log(
            f"{name}: {counted(len(divided), 'group(s)')} in more than one split, for instance "
            f"{divided.index[0]}"
        )
    return problems


def _report_misspelt_classes(data: TaskData) -> None:
    """Log rare classes that are spelt nearly as a frequent one, which wrong labels may have made."""
    totals = sum(data.class_counts(split) for split in SPLITS)
    counts = dict(zip(data.task.classes, map(int, totals), strict=True))
    for name, n in counts.items():
        known = {other.casefold(): other for other in counts if 0 < _RARE * n <= counts[other]}
        for near in difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.8):
            log(
                f"{data.task.short}: class {name!r} has {counted(n, 'image(s)')} and {known[near]!r} "
                f"{counts[known[near]]}; if it is a misspelling, correct the label"
            )


def _report_absence_class(data: TaskData) -> None:
    """Log a class that seems to be that of images without the attribute, under another name."""
    if data.task.invisible is not None:
        return
    for name in data.task.classes:
        if _ABSENCE.fullmatch(name.strip()):
            log(
                f"{data.task.short}: if class {name!r} is that of images that do not show the attribute, "
                "call it Invisible: the heatmap is then evidence for the attribute, and finding it is scored "
                "by itself"
            )


def _report_cost(cost: Cost, folder: Path) -> int:
    """Log time and disk space; return 1 where the disk is too small."""
    console.print(cost_table(cost.stages))
    time, jobs = format_duration(max(1, cost.total.wall)), counted(cost.jobs, f"{cost.unit}(s)")
    log(
        "expected, from a few images on this machine under its present load: "
        f"about {time} with {jobs} at once, without rendering and report; {_bytes(cost.kept_bytes)} stay in "
        f"the run folder, and up to {_bytes(cost.cache_bytes)} more during the run"
    )
    existing = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(existing).free
    log(f"free on the disk of {folder}: {_bytes(free)}")
    if free >= cost.kept_bytes + cost.cache_bytes:
        return 0
    log("the disk is too small; give --out a folder on a larger one")
    return 1


def _bytes(n: float) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{max(1, round(n / 1e6))} MB"
