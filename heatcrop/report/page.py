"""The page: scores, sheets, plots and the gallery, in one HTML file with a style sheet and two scripts."""

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
from heatcrop.report.drawing import heat_colours
from heatcrop.report.sheets import Sheet
from heatcrop.runs.predictions import BRANCHES

HERE = Path(__file__).parent
ASSETS = ("report.css", "images.js", "report.js")


@dataclasses.dataclass(frozen=True)
class TaskPart:
    """What the page shows of one task.

    Attributes
    ----------
    counts : dict of str to dict
        By split, see :meth:`heatcrop.report.results.TaskResults.counts`.
    threshold : float
        Of the crop rule.
    fit : str
        How the network's input framed the images.
    gallery : list of dict
        See :func:`heatcrop.report.thumbs.gallery_rows`.
    plots : list of dict
        See :func:`heatcrop.report.plots.task_plots`.
    overview : str
        The overview sheet's path below the report.
    sheets : list of Sheet
    """

    task: Task
    counts: dict[str, dict[str, int]]
    threshold: float
    fit: str
    gallery: list[dict[str, object]]
    plots: list[dict[str, str]] = dataclasses.field(default_factory=list)
    overview: str = ""
    sheets: list[Sheet] = dataclasses.field(default_factory=list)


def write_page(
    path: Path,
    name: str,
    settings: dict[str, Any],
    parts: list[TaskPart],
    metrics: dict[str, Any] | None = None,
    plot: dict[str, str] | None = None,
) -> None:
    """Write the page and its assets.

    Parameters
    ----------
    path : Path
    name : str
        The page's title.
    settings : dict
        The run's configuration.
    parts : list of TaskPart
    metrics : dict, optional
        As in ``metrics.json``; without them the page is the gallery alone.
    plot : dict, optional
        See :func:`heatcrop.report.plots.scores_plot`.
    """
    # Class names come from users' files: everything is escaped.
    env = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"figure": _figure, "percent": _percent, "minus": _minus, "signed": _signed}
    env.filters["address"] = quote
    env.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    page = env.get_template("page.html.j2").render(
        name=name,
        facts=_facts(settings, parts),
        parts=parts,
        branches=BRANCHES,
        metrics=metrics,
        counts=None if metrics is None else _sum_counts(parts, metrics["split"]),
        plot=plot,
        data=_gallery_data(parts, "" if metrics is None else metrics["split"]),
    )
    (path.parent / "assets").mkdir(parents=True, exist_ok=True)
    for asset in ASSETS:
        shutil.copyfile(HERE / "assets" / asset, path.parent / "assets" / asset)
    write_text(path, page)


def _facts(settings: dict[str, Any], parts: list[TaskPart]) -> list[str]:
    """Summarize the run: numbers of tasks and images, the network."""
    images = sum(count["n"] for part in parts for count in part.counts.values())
    facts = [f"{len(parts)} task{'s' * (len(parts) != 1)}", f"{images:,} image{'s' * (images != 1)}"]
    network = settings.get("network")
    if isinstance(network, dict):
        facts += [str(network.get("backbone") or ""), f"{network.get('input_px')} px"]
    return [fact for fact in facts if fact]


def _sum_counts(parts: list[TaskPart], split: str) -> dict[str, int]:
    """Add up the counts of all tasks on one split."""
    counts = [part.counts[split] for part in parts]
    return {kind: sum(count[kind] for count in counts) for kind in (counts[0] if counts else ())}


def _gallery_data(parts: list[TaskPart], split: str) -> dict[str, Any]:
    """Collect what the scripts read."""
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


def _known(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)


def _minus(a: float | None, b: float | None) -> float | None:
    return a - b if _known(a, b) else None  # type: ignore[operator]


def _figure(value: float | None) -> str:
    return f"{value:.4f}" if _known(value) else "–"


def _percent(value: float | None) -> str:
    return f"{value:.1%}" if _known(value) else "–"


def _signed(value: float | None, decimals: int = 4) -> str:
    """Format with a sign that is not a hyphen."""
    return f"{value:+.{decimals}f}".replace("-", "−") if _known(value) else "–"
