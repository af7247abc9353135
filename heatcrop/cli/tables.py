"""Tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from heatcrop.runs.metrics import BRANCHES

if TYPE_CHECKING:
    import pandas as pd


def metrics_table(metrics: dict[str, Any]) -> Table:
    """Lay out the scores: a row a task, AP of each branch, and what fusion changed."""
    table = Table(
        title=f"official score (AP) on {metrics['split']}",
        title_justify="left",
        caption="right: fused accuracy; whole: pictures taken whole for want of a crop; "
        "inside: true regions wholly inside their crop",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("task", no_wrap=True)
    for name in (*BRANCHES, "change", "right", "whole", "inside", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, figures in metrics["tasks"].items():
        inside = (figures["localisation"] or {}).get("inside")
        table.add_row(
            name.removesuffix("_labels"),
            *(f"{figures[b]['map']:.3f}" for b in BRANCHES),
            f"{figures['fused']['map'] - figures['full']['map']:+.3f}",
            f"{figures['fused']['accuracy']:.0%}",
            f"{figures['crops']['fallback_rate']:.0%}",
            "" if inside is None else f"{inside:.0%}",
            str(figures["n"]),
        )
    mean = metrics["mean"]
    if metrics["tasks"]:
        table.add_section()
        table.add_row(
            "mean",
            *(f"{mean[b]['map']:.3f}" for b in BRANCHES),
            f"{mean['fused']['map'] - mean['full']['map']:+.3f}",
            f"{mean['fused']['accuracy']:.0%}",
        )
    return table


def members_table(table: pd.DataFrame, split: str) -> Table:
    """Lay out what each member of an ensemble adds, in the mean over the tasks: a row a member."""
    splits = ("val", "test") if split == "test" else ("val",)
    shown = Table(
        title="official score (AP), mean over tasks",
        title_justify="left",
        caption="adds: what the ensemble has more than one without the member; weights are fitted on val",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
    )
    shown.add_column("member", overflow="fold")
    for name in ("weight", *(f"{split} {what}" for split in splits for what in ("AP", "adds"))):
        shown.add_column(name, justify="right", no_wrap=True)
    rows = table[table["task"] == "mean"]
    for place, row in enumerate(rows.to_dict("records")):
        if place == len(rows) - 1:
            shown.add_section()
        figures = [f"{row['weight']:.2f}"]
        for name in splits:
            figures += [_figure(row[f"{name}_ap"], ".3f"), _figure(row[f"{name}_adds"], "+.3f")]
        shown.add_row(Text(row["member"]), *figures)
    return shown


def _figure(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def plan_table(plan: dict[str, dict[str, str]], stages: Sequence[str]) -> Table:
    """Lay out what a run would do: a row a task and stage, with the reason."""
    table = Table(
        title="what would run, and why",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
    )
    for name in ("task", "stage", "why"):
        table.add_column(name, no_wrap=name != "why", overflow="fold")
    for task, to_do in plan.items():
        for stage in stages:
            run = stage in to_do
            table.add_row(
                task if stage == stages[0] else "",
                Text(stage, "bold" if run else "dim"),
                Text(to_do.get(stage, "up to date"), "" if run else "dim"),
            )
    return table


def written_lines(written: Sequence[tuple[str, Path, str]]) -> list[str]:
    """Lay out what was written where, and what for; paths are never broken, so that they can be copied."""
    width = max(len(str(path)) for _, path, _ in written)
    return [f"{what + ':':<12}{str(path):<{width}}  {use}" for what, path, use in written]


def score_table(figures: dict[str, Any]) -> str:
    """Lay out a submission's score as plain text."""
    rows = [("task", "AP", "basic precision", "n")]
    rows += [
        (n, f"{t['ap']:.4f}", f"{t['basic_precision']:.4f}", str(t["n"])) for n, t in figures["tasks"].items()
    ]
    rows.append(("mean", f"{figures['map']:.4f}", f"{figures['basic_precision']:.4f}", ""))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{a:<{width}}  {b:>7}  {c:>15}  {d:>7}" for a, b, c, d in rows)
