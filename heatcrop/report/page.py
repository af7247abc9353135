"""The page: scores, sheets, plots and the gallery, in one HTML file with a style sheet and a script."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from heatcrop.data.tasks import Task
from heatcrop.files import write_text
from heatcrop.report.heat import heat_colours
from heatcrop.report.sheets import Sheet
from heatcrop.runs.predictions import BRANCHES

HERE = Path(__file__).parent
ASSETS = ("report.css", "pictures.js", "report.js")


@dataclasses.dataclass(frozen=True)
class TaskPart:
    """What the page shows of one task.

    Attributes
    ----------
    plots : list of dict
        See :func:`heatcrop.report.plots.task_plots`.
    overview : str or None
        The overview sheet's path below the report.
    sheets : list of Sheet
    gallery : list of dict
        See :func:`heatcrop.report.thumbs.gallery_rows`.
    counts : dict of str to dict
        By split, of all pictures, shown or not.
    threshold : float
        Of the crop rule.
    fit : str
        How the network's input framed the picture.
    """

    task: Task
    plots: list[dict[str, str]]
    overview: str | None
    sheets: list[Sheet]
    gallery: list[dict[str, object]]
    counts: dict[str, dict[str, int]]
    threshold: float
    fit: str


@dataclasses.dataclass(frozen=True)
class Scores:
    """What is known where pictures have answers.

    Attributes
    ----------
    metrics : dict
        As ``metrics.json`` holds them.
    plot : dict or None
        See :func:`heatcrop.report.plots.scores_plot`.
    """

    metrics: dict[str, Any]
    plot: dict[str, str] | None


def write_page(
    path: Path, name: str, settings: dict[str, Any], parts: list[TaskPart], scores: Scores | None = None
) -> None:
    """Write the page to `path` and its assets beside it; without scores, the gallery alone."""
    # Class names come from people's files: everything is escaped unless it says otherwise.
    env = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"figure": _figure, "percent": _percent, "change": _change, "points": _points}
    env.filters["address"] = quote
    env.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    page = env.get_template("page.html.j2").render(
        name=name,
        facts=_facts(settings, parts),
        parts=[_shown(part) for part in parts],
        scores=None if scores is None else _scores(scores.metrics, scores.plot, parts),
        data=_data(parts, "" if scores is None else scores.metrics["split"]),
    )
    for asset in ASSETS:
        (path.parent / "assets").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / "assets" / asset, path.parent / "assets" / asset)
    write_text(path, page)


def _facts(settings: dict[str, Any], parts: list[TaskPart]) -> list[str]:
    """What was run, in a few words each."""
    total = sum(count["n"] for part in parts for count in part.counts.values())
    tasks = len(parts)
    facts = [f"{tasks} task{'s' * (tasks != 1)}", f"{total:,} picture{'s' * (total != 1)}"]
    network = settings.get("network")
    if isinstance(network, dict):
        facts += [str(network.get("backbone") or ""), f"{network.get('input_px')} px"]
    return [fact for fact in facts if fact]


def _scores(metrics: dict[str, Any], plot: dict[str, str] | None, parts: list[TaskPart]) -> dict[str, Any]:
    """The section of scores."""
    return {
        "split": metrics["split"],
        "cards": _cards(metrics["mean"]),
        "tables": _tables(metrics, parts),
        "counts": _sum_counts(parts),
        "plot": plot,
    }


def _cards(mean: dict[str, Any]) -> list[dict[str, Any]]:
    """The big figures."""
    cards = [{"branch": b, "map": mean[b].get("map"), "accuracy": mean[b].get("accuracy")} for b in BRANCHES]
    full, fused = cards[0], cards[2]
    gains = {key: _minus(fused[key], full[key]) for key in ("map", "accuracy")}
    return [*cards, {"branch": "change", **gains}]


def _tables(metrics: dict[str, Any], parts: list[TaskPart]) -> list[dict[str, Any]]:
    """One table of scores a split, the reported one first."""
    by_split = {metrics["split"]: metrics, **metrics.get("splits", {})}
    tables = []
    for split, figures in by_split.items():
        lines = []
        for part in parts:
            found = figures["tasks"].get(part.task.name)
            line: dict[str, Any] = {"task": part.task.name, "short": part.task.short}
            line["found"] = found is not None
            if found is not None:
                line |= {b: found[b]["map"] for b in BRANCHES}
                line["change"] = _minus(line["fused"], line["full"])
                line["accuracy"] = [found["full"]["accuracy"], found["fused"]["accuracy"]]
                line["fallback"] = found["crops"]["fallback_rate"]
                line["inside"] = (found["localisation"] or {}).get("inside")
                line["n"] = found["n"] if "n" in found else part.counts[split]["labelled"]
            lines.append(line)
        mean = {b: figures["mean"][b].get("map") for b in BRANCHES}
        mean["change"] = _minus(mean["fused"], mean["full"])
        tables.append({"split": split, "lines": lines, "mean": mean, "scored": bool(figures["tasks"])})
    return tables


def _shown(part: TaskPart) -> dict[str, Any]:
    """A task's sheets and plots for the template."""
    by_split: dict[str, list[Sheet]] = {}
    for sheet in part.sheets:
        by_split.setdefault(sheet.split, []).append(sheet)
    return {
        "task": part.task,
        "plots": part.plots,
        "overview": part.overview,
        "sheets": by_split,
        "order": part.sheets[0].order if part.sheets else "",
    }


def _sum_counts(parts: list[TaskPart]) -> dict[str, dict[str, int]]:
    """Counts of all tasks together, by split."""
    total: dict[str, dict[str, int]] = {}
    for part in parts:
        for split, counts in part.counts.items():
            into = total.setdefault(split, dict.fromkeys(counts, 0))
            for key, value in counts.items():
                into[key] += value
    return total


def _data(parts: list[TaskPart], split: str) -> dict[str, Any]:
    """What the script reads."""
    tasks = [
        {
            "name": part.task.name,
            "short": part.task.short,
            "classes": list(part.task.classes),
            "colours": heat_colours(part.threshold).tobytes().hex(),
            "fit": part.fit,
            "counts": part.counts,
            "rows": part.gallery,
        }
        for part in parts
    ]
    return {"split": split, "branches": list(BRANCHES), "tasks": tasks}


def _minus(a: float | None, b: float | None) -> float | None:
    return None if _absent(a) or _absent(b) else a - b  # type: ignore[operator]


def _absent(value: Any) -> bool:
    return value is None or not math.isfinite(value)


def _figure(value: float | None) -> str:
    """Four decimals, a dash for nothing."""
    return "–" if _absent(value) else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "–" if _absent(value) else f"{value:.1%}"


def _change(value: float | None) -> str:
    """Four decimals with a sign that is not a hyphen."""
    return "–" if _absent(value) else f"{value:+.4f}".replace("-", "−")


def _points(value: float | None) -> str:
    """A difference of two shares, in percentage points."""
    return "–" if _absent(value) else f"{100 * float(value or 0):+.1f} points".replace("-", "−")
