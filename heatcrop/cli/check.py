"""Tell what the data and the machine are, before hours are spent."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from heatcrop.cli.config import Config
from heatcrop.cli.estimate import Cost, expected_cost
from heatcrop.cli.loading import load_dataset
from heatcrop.cli.machine import machine_lines, memory_lines
from heatcrop.data.dataset import TaskData
from heatcrop.data.labels import format_letters
from heatcrop.data.splits import identical_groups, leakage
from heatcrop.errors import EngineError, WeightsError
from heatcrop.nets.devices import Devices
from heatcrop.runs.progress import console, log

SPLITS = ("train", "val", "test")
_MOST_REASONS = 10
_BAR = 16


def check(config: Config, wanted: list[str], folder: Path, speed: bool = True) -> int:
    """Print tables on data and machine; return the number of problems found.

    Parameters
    ----------
    folder : Path
        Where the run would lie: its disk is the one that must have room.
    speed : bool
        Let a few pictures go through the networks, to tell time and disk space.
    """
    lines, devices = machine_lines(config)
    for line in lines:
        log(line)
    opened = load_dataset(config, wanted, None, strict=False)
    console.print(_pictures_table(opened.tasks))
    console.print(_classes_table(opened.tasks))
    for note in (*opened.notes, *opened.problems):
        log(note)
    problems = len(opened.problems) + _tell_rejected(opened.rejected)
    for name, data in opened.tasks.items():
        problems += _tell_leakage(name, data)
    if devices is None:  # told above
        return problems + 1
    problems += _tell_memory(config, opened.tasks, devices)
    return problems + (_tell_cost(config, opened.tasks, folder) if speed else 0)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    return table


def _pictures_table(tasks: dict[str, TaskData]) -> Table:
    table = _table("pictures", "task", *SPLITS, "no label", "classes", "shorter side", "copies")
    for data in tasks.values():
        train = _per_class(data, "train")
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
    table = _table("labels by class", "task", "class", *SPLITS)
    table.columns[1].justify = "left"
    table.add_column("train")
    for data in tasks.values():
        counts = np.stack([_per_class(data, split) for split in SPLITS], axis=1)
        most = max(1, int(counts[:, 0].max()))
        for i, name in enumerate(data.task.classes):
            bar = "━" * int(np.ceil(_BAR * counts[i, 0] / most))
            table.add_row(data.task.short if i == 0 else "", Text(name), *map(str, counts[i]), bar or "none")
    return table


def _per_class(data: TaskData, split: str) -> np.ndarray:
    rows = data.rows(split, labelled=True)
    return np.bincount(data.letters[rows].argmax(axis=1), minlength=len(data.task.classes))


def _tell_rejected(rejected: pd.DataFrame) -> int:
    """Tell each reason with its number and first example; return how many rows were set aside."""
    by_reason = rejected.groupby("reason", sort=False)
    for i, (reason, rows) in enumerate(by_reason):
        if i == _MOST_REASONS:
            log(f"... and {by_reason.ngroups - i} more reasons")
            break
        times = f" ({len(rows)} rows, this is the first)" if len(rows) > 1 else ""
        log(f"rejected {rows.iloc[0]['source']}: {reason}{times}")
    return len(rejected)


def _tell_leakage(name: str, data: TaskData) -> int:
    """Tell what sits on two sides of a split, or under two labels; return how many kinds there are."""
    problems = 0
    leaks = leakage(_rows(data))
    for kind, text in (("split", "byte-identical in two splits"), ("label", "under two labels")):
        found = leaks[leaks["kind"] == kind]
        if len(found):
            problems += 1
            first = found.iloc[0]
            pair = f"{first['image']} ({first[kind]}) and {first['same_as']} ({first['same_' + kind]})"
            many = f"{len(found)} picture{'s' * (len(found) > 1)}"
            log(f"{name}: {many} {text}, for instance {pair}")
    sides = pd.Series(data.splits).groupby(data.groups).nunique()
    torn = sides[(sides > 1) & (sides.index != "")]
    if len(torn):
        problems += 1
        log(f"{name}: {len(torn)} groups in more than one split, for instance {torn.index[0]}")
    return problems


def _tell_memory(config: Config, tasks: dict[str, TaskData], devices: Devices) -> int:
    """Tell whether the batches fit the cards; return how many do not, 0 where none can be made."""
    try:
        lines, problems = memory_lines(config, tasks, devices)
    except (EngineError, WeightsError):
        return 0  # told with the cost
    for line in lines:
        log(line)
    return problems


def _tell_cost(config: Config, tasks: dict[str, TaskData], folder: Path) -> int:
    """Tell time and disk space; return 1 where the disk is too small or the networks cannot be made."""
    try:
        cost = expected_cost(config, tasks)
    except (EngineError, WeightsError) as error:
        log(f"the networks cannot be made: {error}")
        return 1
    log(_cost_line(cost))
    existing = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
    free = shutil.disk_usage(existing).free
    log(f"free on the disk of {folder}: {_bytes(free)}")
    if free >= cost.kept_bytes + cost.cache_bytes:
        return 0
    log("the disk is too small; give --out a folder on a larger one")
    return 1


def _cost_line(cost: Cost) -> str:
    at_once = f"{cost.jobs} {cost.unit}{'s' * (cost.jobs > 1)} at once"
    return (
        f"expected, from a few pictures on this machine as busy as it is now: about {_time(cost.seconds)} "
        f"with {at_once}; {_bytes(cost.kept_bytes)} stay in the run folder, and up to "
        f"{_bytes(cost.cache_bytes)} more while it runs"
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bytes(n: float) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{max(1, round(n / 1e6))} MB"


def _rows(data: TaskData) -> pd.DataFrame:
    kinds, which = np.unique(data.letters, axis=0, return_inverse=True)
    labels = np.array([format_letters(k) if (k == 2).any() else "" for k in kinds], object)[which]
    splits, which = np.unique(data.splits, return_inverse=True)
    # Few different texts, each kept once however many rows bear it.
    columns = {
        "image": data.images,
        "path": data.paths,
        "label": labels,
        "split": splits.astype(object)[which],
    }
    return pd.DataFrame(columns, dtype=object).assign(task=data.task.name)
