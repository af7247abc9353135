"""The pages of a run and of a comparison: an HTML file each, with a style sheet and scripts."""

from __future__ import annotations

import dataclasses
import functools
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from heatcrop.data.tasks import Task, short_names
from heatcrop.files import update_text, write_text
from heatcrop.metrics.selective import LEAST_SHOWN
from heatcrop.report.drawing import palette
from heatcrop.report.sheets import Sheet
from heatcrop.report.thumbs import address
from heatcrop.runs.predictions import BRANCHES
from heatcrop.wording import counted

HERE = Path(__file__).parent
_SHARED = ("report.css", "crop.js", "images.js", "gallery.js")
ASSETS = (*_SHARED, "rule.js", "report.js")
COMPARISON_ASSETS = (*_SHARED, "compare.js")


@dataclasses.dataclass(frozen=True)
class TaskPart:
    """What the page shows of one task."""

    task: Task
    gallery: dict[str, Any]
    """What the scripts read: name, short, classes, colours, counts by split, rows."""
    images: Sequence[str]
    """Names of all images, also of those that the gallery does not show."""
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
    sheets: dict[str, str] | None = None,
) -> None:
    """Write the page and its assets; without `metrics`, as in ``metrics.json``, the gallery alone.

    `sheets` are the folders of the tasks' sheets, relative to the page's, by full name of the task.
    """
    titles = short_names(part.task for part in parts)
    _write(
        path,
        "page.html.j2",
        ASSETS,
        name=name,
        facts=_facts(settings, parts),
        parts=parts,
        titles=titles,
        branches=BRANCHES,
        metrics=metrics,
        least_shown=LEAST_SHOWN,
        plot=plot,
        sheets={name: Path(path).as_posix() for name, path in (sheets or {}).items()},
        truth_known=any(row["region"] for part in parts for row in part.gallery["rows"]),
        data={
            "split": metrics["split"] if metrics else "",
            "palette": palette().tobytes().hex(),
            "tasks": [part.gallery | {"short": titles[part.task.name]} for part in parts],
        },
    )


def write_comparison_page(
    path: Path, name: str, tasks: list[Task], figures: dict[str, Any], galleries: list[dict[str, Any]]
) -> None:
    """Write the page of a comparison and its assets.

    `figures` as in ``comparison.json``; of each task, `galleries` has what the scripts read: ``runs``, the
    galleries of both runs with a row for each changed image, and the ``changes`` of these rows.
    """
    sides = {side.upper(): run["name"] for side, run in figures["runs"].items()}
    images, titles = sum(found["n"] for found in figures["tasks"].values()), short_names(tasks)
    galleries = [
        {key: figures["tasks"][task.name][key] for key in ("n", "fixed", "lost")}
        | {"changes": found["changes"]}
        | {"runs": [run | {"short": titles[task.name]} for run in found["runs"]]}
        for task, found in zip(tasks, galleries, strict=True)
    ]
    _write(
        path,
        "compare.html.j2",
        COMPARISON_ASSETS,
        name=name,
        facts=[counted(len(tasks), "common task(s)"), counted(images, "common image(s)")],
        titles=titles,
        branches=BRANCHES,
        figures=figures,
        data={
            "sides": list(sides),
            "names": list(sides.values()),
            "palette": palette().tobytes().hex(),
            "tasks": galleries,
        },
    )


def _write(path: Path, template: str, assets: tuple[str, ...], **values: Any) -> None:
    """Write a page and its assets."""
    scripts = [asset for asset in assets if asset.endswith(".js")]
    page = templates().get_template(template).render(scripts=scripts, **values)
    (path.parent / "assets").mkdir(parents=True, exist_ok=True)
    for asset in assets:
        shutil.copyfile(HERE / "assets" / asset, path.parent / "assets" / asset)
    write_text(path, page)


def write_links(path: Path, sheet: Sheet, part: TaskPart, page: str) -> None:
    """Write the HTML file beside a sheet, which links its images to the originals and to the page.

    `page` is the page's path relative to the file's folder. An unchanged file is not written again.
    """
    shown, areas = {row["at"] for row in part.gallery["rows"]}, []
    for tile in sheet.tiles:
        original = address(tile.path, path.parent)
        if original is not None:
            areas.append((original, f"original of {tile.name}", tile.image))
        if tile.row in shown:
            fragment = quote(f"{part.task.name}/{tile.name}", safe="")
            areas.append((f"{quote(page)}#{fragment}", f"{tile.name} in the report", tile.crop))
    template = templates().get_template("sheet.html.j2")
    html = template.render(
        title=f"{part.task.short}, {sheet.split}, {sheet.title}",
        page=page,
        sheet=sheet,
        areas=areas,
        missing=sum(tile.row not in shown for tile in sheet.tiles),
    )
    update_text(path, html)


@functools.cache
def templates() -> Environment:
    """Return the environment of the templates."""
    # Class names come from users' files: everything is escaped.
    env = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"number": _number, "minus": _minus, "address": quote}
    env.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return env


def _facts(settings: dict[str, Any], parts: list[TaskPart]) -> list[str]:
    """Summarize the run: numbers of tasks and images, the network."""
    images = {name for part in parts for name in part.images}  # some are in several tasks
    facts = [counted(len(parts), "task(s)"), counted(len(images), "image(s)")]
    network = settings.get("network")
    if isinstance(network, dict):
        facts += [str(network.get("backbone") or ""), f"{network.get('input_px')} px"]
    return [fact for fact in facts if fact]


def _known(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)


def _minus(a: float | None, b: float | None) -> float | None:
    return a - b if _known(a, b) else None  # type: ignore[operator]


def _number(value: float | None, form: str) -> str:
    """Format with a minus sign that is not a hyphen; a dash where there is no value."""
    return format(value, form).replace("-", "−") if _known(value) else "–"
