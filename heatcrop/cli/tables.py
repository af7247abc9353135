"""Tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from heatcrop.runs.folder import STAGES
from heatcrop.runs.metrics import BRANCHES
from heatcrop.runs.progress import format_duration, log
from heatcrop.timing import RunTimes, Spent

if TYPE_CHECKING:
    import pandas as pd


def new_table(title: str, *columns: str, caption: str | None = None, texts: int = 1) -> Table:
    """Return a table without rows; the first columns hold `texts`, the others numbers."""
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.title_justify = table.caption_justify = "left"
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < texts else "right", overflow="fold")
    return table


def metrics_table(metrics: dict[str, Any]) -> Table:
    """Tabulate the scores: a row per task, AP of each branch, and what fusion changed."""
    title = f"official score (AP) on {metrics['split']}"
    columns = ("task", *BRANCHES, "change", "right", "no crop", "inside", "n")
    caption = "right: fused accuracy; no crop: images used uncropped; inside: true regions inside their crop"
    table = new_table(title, *columns, caption=caption)
    table.collapse_padding = True
    for name, figures in metrics["tasks"].items():
        inside = (figures["localisation"] or {}).get("inside")
        table.add_row(
            name.removesuffix("_labels"),
            *_score_cells(figures),
            f"{figures['fused']['accuracy']:.0%}",
            f"{figures['crops']['fallback_rate']:.0%}",
            "" if inside is None else f"{inside:.0%}",
            str(figures["n"]),
        )
    if metrics["tasks"]:
        mean = metrics["mean"]
        table.add_section()
        table.add_row("mean", *_score_cells(mean), f"{mean['fused']['accuracy']:.0%}")
    return table


def invisible_table(metrics: dict[str, Any]) -> Table | None:
    """Tabulate how images are found that do not show the attribute; None where no task has such a class."""
    scored = {name: found for name, task in metrics["tasks"].items() if (found := task.get("invisible"))}
    if not scored:
        return None
    title = f"images that do not show the attribute (Invisible) on {metrics['split']}"
    columns = ("task", "F1 full", "F1 crop", "F1 fused", "precision", "recall", "n")
    table = new_table(title, *columns, caption="precision, recall: of the fused predictions; n: such images")
    for name, found in scored.items():
        values = [found[branch]["f1"] for branch in BRANCHES]
        values += [found["fused"][key] for key in ("precision", "recall")]
        cells = ("" if value is None else f"{value:.2f}" for value in values)
        table.add_row(name.removesuffix("_labels"), *cells, str(found["n"]))
    return table


def _score_cells(figures: dict[str, Any]) -> list[str]:
    change = figures["fused"]["map"] - figures["full"]["map"]
    return [*(f"{figures[branch]['map']:.3f}" for branch in BRANCHES), f"{change:+.3f}"]


def times_table(times: RunTimes) -> Table:
    """Tabulate where the time of a run went: a row per group of tasks and per other part."""
    total = times.total

    def summary(spent: Spent) -> tuple[str, str]:
        return _spent_cell(spent), f"{spent.wall / total.wall:.0%}" if total.wall else ""

    columns = ("task", *STAGES, "all", "share")
    ran = f"; {times.at_once} jobs at once" if (times.at_once or 0) > 1 else ""
    caption = f"passed: {format_duration(times.passed)}{ran}; other: starting, waiting, and between jobs"
    table = new_table("where the time went: seconds (CPU seconds)", *columns, caption=caption)
    table.collapse_padding = True
    for group, stages in times.stages.items():
        cells = [_spent_cell(stages[stage]) if stage in stages else "" for stage in STAGES]
        table.add_row(group, *cells, *summary(times.jobs(group)))
    table.add_section()
    by_stage = [times.jobs(stage=stage) for stage in STAGES]
    table.add_row("all tasks", *map(_spent_cell, by_stage), *summary(times.jobs()))
    table.add_row("share", *(summary(spent)[1] for spent in by_stage))
    table.add_section()
    for name, spent in times.parts.items():
        table.add_row(name, *[""] * len(STAGES), *summary(spent))
    table.add_row("total", *[""] * len(STAGES), *summary(total))
    return table


def _spent_cell(spent: Spent | None) -> str:
    return "up to date" if spent is None else f"{_seconds(spent.wall)} ({_seconds(spent.cpu)})"


def _seconds(value: float) -> str:
    """Write seconds with a decimal where they are few."""
    return f"{value:,.1f}" if value < 9.95 else f"{value:,.0f}"


def cost_table(stages: dict[str, Spent]) -> Table:
    """Tabulate what the stages of a run are expected to take."""
    table = new_table("expected time", "stage", "time", "CPU time")
    for stage, spent in stages.items():
        table.add_row(stage, format_duration(spent.wall), format_duration(spent.cpu))
    return table


def comparison_table(figures: dict[str, Any]) -> Table:
    """Tabulate a comparison: a row per task with the fused AP of both runs and the images that changed."""
    paths = (f"{side.upper()} is {run['path']}" for side, run in figures["runs"].items())
    title = f"official score (AP) on {figures['split']}, fused; {', '.join(paths)}"
    columns = ("task", "A", "B", "change", "from", "to", "fixed", "lost", "n")
    caption = (
        "fixed: wrong in A and right in B; lost: right in A and wrong in B; intervals are paired, over images"
    )
    table = new_table(title, *columns, caption=caption)
    table.collapse_padding = True
    tasks = figures["tasks"]
    total = {key: sum(found[key] for found in tasks.values()) for key in ("fixed", "lost", "n")}
    for name, found in [*tasks.items(), ("mean", figures["mean"] | total)]:
        if found is not tasks.get(name):
            table.add_section()
        ap = found["fused"]["map"]
        change = ap["change"]
        table.add_row(
            name.removesuffix("_labels"),
            *(f"{ap[side]['value']:.3f}" for side in ("a", "b")),
            *(f"{change[end]:+.3f}" for end in ("value", "low", "high")),
            *(str(found[key]) for key in ("fixed", "lost", "n")),
        )
    return table


def members_table(table: pd.DataFrame, split: str) -> Table:
    """Tabulate what each member of an ensemble adds, as the mean over the tasks: a row per member."""
    splits = ("val", "test") if split == "test" else ("val",)
    columns = [f"{split} {what}" for split in splits for what in ("AP", "adds")]
    caption = "adds: the gain over the ensemble without the member; weights are fitted on val"
    title = "official score (AP), mean over tasks"
    shown = new_table(title, "member", "weight", *columns, caption=caption)
    rows = table.tail(table["member"].nunique()).to_dict("records")  # the means come last
    for number, row in enumerate(rows, 1):
        if number == len(rows):
            shown.add_section()
        cells = [f"{row['weight']:.2f}"]
        for name in splits:
            for value, form in ((row[f"{name}_ap"], ".3f"), (row[f"{name}_adds"], "+.3f")):
                cells.append("" if math.isnan(value) else format(value, form))
        shown.add_row(Text(row["member"]), *cells)
    return shown


def plan_table(plan: dict[str, dict[str, str]], stages: Sequence[str]) -> Table:
    """Tabulate what a run would do: a row per task and stage, with the reason."""
    table = new_table("what would run, and why", "task", "stage", "why", texts=3)
    for column in table.columns[:2]:
        column.no_wrap = True
    for task, reasons in plan.items():
        for stage in stages:
            runs = stage in reasons
            table.add_row(
                task if stage == stages[0] else "",
                Text(stage, "bold" if runs else "dim"),
                Text(reasons.get(stage, "up to date"), "" if runs else "dim"),
            )
    return table


def log_written(*written: tuple[str, Path, str]) -> None:
    """Log what was written, where, and its use; paths are never broken, so that they can be copied."""
    width = max(len(str(path)) for _, path, _ in written)
    for what, path, use in written:
        log(f"{what + ':':<12}{str(path):<{width}}  {use}")


def score_table(figures: dict[str, Any]) -> str:
    """Tabulate a submission's score as plain text."""
    rows = [("task", "AP", "basic precision", "n")]
    rows += [
        (n, f"{t['ap']:.4f}", f"{t['basic_precision']:.4f}", str(t["n"])) for n, t in figures["tasks"].items()
    ]
    rows.append(("mean", f"{figures['map']:.4f}", f"{figures['basic_precision']:.4f}", ""))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{a:<{width}}  {b:>7}  {c:>15}  {d:>7}" for a, b, c, d in rows)
