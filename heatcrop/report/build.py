"""Build the report of a run: sheets, plots, pictures and the page, whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import filecmp
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from heatcrop.data.dataset import TaskData
from heatcrop.files import atomic_path
from heatcrop.report.page import Scores, TaskPart, write_page
from heatcrop.report.plots import scores_plot, task_plots
from heatcrop.report.rows import TaskRows, choose_rows, gather, read_settings
from heatcrop.report.sheets import plan_sheets, write_overview, write_sheets
from heatcrop.report.thumbs import gallery_rows
from heatcrop.runs.built import building, take_place
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.progress import progress
from heatcrop.runs.records import StageInputs, fingerprint, is_current, read_record, write_record

# In the report's folder, and what of this package a report is made by.
_MADE_OF, _OWN = ".report.json", (".py", ".j2", ".js", ".css")
# What is ours in the folder of a page that does not tell, as those of earlier versions.
_KNOWN = ("assets", "index.html", "plots", "sheets", "thumbs")


@dataclasses.dataclass(frozen=True)
class ReportPlan:
    """How much is shown.

    Attributes
    ----------
    rows : int
        Validation and test pictures in the gallery, at most, a task; a tenth more from training.
    tiles : int
        Pictures on a class's contact sheet, at most.
    worst_first : bool
        Order the sheets by the true class's probability, the lowest first, without a random sample.
    seed : int
        Draws the random samples.
    threads : int
    """

    rows: int = 400
    tiles: int = 24
    worst_first: bool = False
    seed: int = 0
    threads: int = 2


def build_report(
    folder: RunFolder,
    tasks: dict[str, TaskData],
    metrics: dict[str, Any],
    plan: ReportPlan = ReportPlan(),
    anew: bool = True,
) -> Path:
    """Write ``report/index.html`` and the files beside it, and the sheets beside the crop folders too.

    Built in a folder beside, which takes the old report's place when it is complete. Tasks whose
    first two stages have not run yet are left out; where stage 3 has not run, the full image speaks
    alone.

    Parameters
    ----------
    tasks : dict of str to TaskData
        By full name.
    metrics : dict
        As ``metrics.json`` holds them.
    anew : bool
        Also where the report that is there was made of the same.

    Returns
    -------
    Path
        Of the page, to be opened in a browser without any server.
    """
    settings, home = read_settings(folder), folder.report.parent
    mark = _mark(folder, tasks, metrics, settings, plan)
    if not anew and is_current(home / _MADE_OF, StageInputs({}, mark).fingerprint):
        return folder.report
    beside: list[Path] = []
    with _rebuilt(home, mark, beside) as new:
        parts = []
        for data in tasks.values():
            part = _task_part(new, folder, data, settings, metrics["split"], plan)
            if part is not None:
                parts.append(part)
        for part in parts:
            _beside_crops(new, folder.task(part.task.name).sheets, part)
            beside.append(folder.task(part.task.name).sheets)
        scores = Scores(metrics, scores_plot(new, metrics))
        name = str(settings.get("name") or folder.path.resolve().name)
        write_page(new / folder.report.name, name, settings, parts, scores)
    return folder.report


def _mark(
    folder: RunFolder,
    tasks: dict[str, TaskData],
    metrics: dict[str, Any],
    settings: dict[str, Any],
    plan: ReportPlan,
) -> str:
    """Fingerprint of what a report is made of, this package's own files among it."""
    own = sorted(p for p in Path(__file__).parent.rglob("*") if p.suffix in _OWN)
    stages = [folder.task(name).record(stage) for name in tasks for stage in ("cam", "crop", "finetune")]
    made_of = [(read_record(path) or {"fingerprint": ""})["fingerprint"] for path in stages]
    rows = [[data.task, list(data.images), list(data.splits), data.letters] for data in tasks.values()]
    shown = {name: values for name, values in settings.items() if name != "runtime"}
    return fingerprint(
        [path.read_text(encoding="utf-8") for path in own],
        dataclasses.replace(plan, threads=1),
        _timeless(metrics),
        shown,
        made_of,
        *(part for row in rows for part in row),
    )


def build_gallery(
    page: Path, name: str, settings: dict[str, Any], tasks: list[TaskRows], plan: ReportPlan = ReportPlan()
) -> Path:
    """Write the same gallery of pictures that nobody has labelled, without scores, sheets and plots.

    Parameters
    ----------
    page : Path
        The page's file; its folder is made anew.
    name : str
        The page's title.
    settings : dict
        The run's configuration, see :func:`heatcrop.report.rows.read_settings`.
    tasks : list of TaskRows

    Returns
    -------
    Path
        `page`.
    """
    with _rebuilt(page.parent) as new:
        parts = []
        for rows in tasks:
            chosen = choose_rows(rows, plan.rows, plan.seed)
            with progress(f"{rows.data.task.short}: gallery", len(chosen)) as bar:
                shown = gallery_rows(new, rows, chosen, page.parent, plan.threads, bar)
            counts = {split: rows.counts(split) for split in np.unique(rows.data.splits).tolist()}
            parts.append(TaskPart(rows.data.task, [], None, [], shown, counts, rows.threshold, rows.fit))
        write_page(new / page.name, name, settings, parts)
    return page


def _timeless(told: Any) -> Any:
    """Figures without what a clock has told, which the page does not show."""
    if isinstance(told, dict):
        return {name: _timeless(value) for name, value in told.items() if name != "seconds"}
    return told


@contextlib.contextmanager
def _rebuilt(home: Path, mark: str = "", beside: Sequence[Path] = ()) -> Iterator[Path]:
    """Give a folder to build in, which takes the place of `home` when the block is done.

    Parameters
    ----------
    mark : str
        Of what it is made of.
    beside : sequence of Path
        What else must be there, or it is out of date: sheets, which a stage that runs again takes away.
    """
    new = building(home)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        made = sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file())
        made += [Path(os.path.relpath(path, home)).as_posix() for path in beside]
        write_record(new / _MADE_OF, StageInputs({}, mark), made, {})
        take_place(home, _made_before(home))
    finally:
        shutil.rmtree(new, ignore_errors=True)


def may_be_rebuilt(home: Path) -> bool:
    """Whether a folder is that of a page: it says so, or holds nothing else, as those of earlier versions."""
    return _told(home) is not None or all(path.name in _KNOWN for path in home.iterdir())


def _made_before(home: Path) -> Callable[[PurePosixPath], bool]:
    """What in a page's folder is ours: the rest goes along when it is made anew."""
    made = _told(home)
    if made is None:
        return lambda name: name.parts[0] in _KNOWN
    return lambda name: name.as_posix() in made


def _told(home: Path) -> set[str] | None:
    """The files that a page's folder says are ours; None where it does not say."""
    try:
        return {_MADE_OF, *map(str, json.loads((home / _MADE_OF).read_text(encoding="utf-8"))["files"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _beside_crops(building: Path, home: Path, part: TaskPart) -> None:
    """Lay a task's sheets beside its crops: ``sheets/<split>/<class name>.jpg`` tells of the folder
    ``crops/<split>/<class name>/``, which holds crops and nothing else. What is the same stays as it is."""
    wanted = {home / sheet.split / Path(sheet.file).name: building / sheet.file for sheet in part.sheets}
    for old in set(home.glob("*/*.jpg")) - set(wanted):
        old.unlink()
    for to, file in wanted.items():
        if to.is_file() and filecmp.cmp(file, to, shallow=False):
            continue
        with atomic_path(to) as partial:
            try:
                os.link(file, partial)  # the same file twice costs nothing
            except OSError:
                shutil.copyfile(file, partial)


def _task_part(
    root: Path, folder: RunFolder, data: TaskData, settings: dict[str, Any], split: str, plan: ReportPlan
) -> TaskPart | None:
    """Write one task's files below `root` and describe them."""
    rows = gather(data, folder, settings)
    if rows is None:
        return None
    # A task without answers on the reported split is judged on the one that has some.
    judged = split if len(data.rows(split, labelled=True)) else "val"
    plots = task_plots(root, rows, folder.task(data.task.name), judged)
    sheets = plan_sheets(rows, plan.tiles, plan.seed, plan.worst_first)
    chosen = choose_rows(rows, plan.rows, plan.seed)
    with progress(f"{data.task.short}: report", len(sheets) + len(chosen)) as bar:
        overview = write_overview(root, rows, judged, plan.seed, plan.threads)
        write_sheets(root, rows, sheets, plan.threads, bar)
        gallery = gallery_rows(root, rows, chosen, folder.report.parent, plan.threads, bar)
    counts = {name: rows.counts(name) for name in ("test", "val", "train")}
    return TaskPart(data.task, plots, overview, sheets, gallery, counts, rows.threshold, rows.fit)
