"""Build the report of a run: sheets, plots, images and the page. The old report is replaced at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import filecmp
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heatcrop.data.dataset import TaskData
from heatcrop.data.listing import REPORT_RECORD
from heatcrop.data.tasks import distinct_names
from heatcrop.files import atomic_path
from heatcrop.report.page import TaskPart, write_links, write_page
from heatcrop.report.results import TaskResults, choose_rows, read_results, read_settings, write_suspects
from heatcrop.report.sheets import plan_sheets, write_overview, write_sheet
from heatcrop.report.thumbs import write_gallery
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.progress import progress
from heatcrop.runs.records import (
    TIMES,
    StageInputs,
    fingerprint,
    is_current,
    read_record,
    reported_sheets,
    rows_fingerprint,
    write_record,
)
from heatcrop.runs.swap import staging_folder, swap_in

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is


@dataclasses.dataclass(frozen=True)
class ReportPlan:
    """How much the report shows."""

    rows: int = 400
    """Validation and test images in a task's gallery, at most; a tenth more from training."""
    tiles: int = 24
    """Images on a class's contact sheet, at most."""
    worst_first: bool = False
    """Order the sheets by the true class's probability, the lowest first, without a random sample."""


def build_report(
    folder: RunFolder,
    tasks: dict[str, TaskData],
    metrics: dict[str, Any],
    boxes_true: pd.DataFrame | None = None,
    plan: ReportPlan = ReportPlan(),
    anew: bool = True,
) -> Path:
    """Write ``report/index.html`` with its files, and the sheets beside the crop folders; return the page.

    Tasks whose first two stages have not run yet are left out; where stage 3 has not run, the report shows
    the full image's predictions only. `tasks` are by full name, `metrics` as in ``metrics.json``,
    `boxes_true` the true regions, see :func:`heatcrop.metrics.localisation.true_boxes`. Unless `anew`, a
    report that was made from the same inputs stays.
    """
    settings, home = read_settings(folder), folder.report.parent
    boxes: list[Any] = []
    if boxes_true is not None:
        boxes = [boxes_true["image"].tolist(), boxes_true[["x0", "y0", "x1", "y1"]].to_numpy(float)]
    inputs = StageInputs({}, _fingerprint(folder, tasks, plan, *boxes, _shown(metrics), _shown(settings)))
    if not anew and is_current(home / REPORT_RECORD, inputs.fingerprint):
        return folder.report
    from heatcrop.report.plots import scores_plot  # matplotlib takes seconds to import

    others: list[Path] = []
    known = reported_sheets(folder)
    with replacing(home, inputs, others) as new:
        found = (
            _task_part(new, folder, data, settings, metrics["split"], boxes_true, plan)
            for data in tasks.values()
        )
        parts = [part for part in found if part is not None]
        for part in parts:
            task = folder.task(part.task.name)
            others += [*_move_sheets(new, task.sheets, part, folder.report, known), task.suspects]
            if not _same(new / part.overview, task.overview):
                with atomic_path(task.overview, durable=False) as partial:
                    shutil.copyfile(new / part.overview, partial)
        name = str(settings.get("name") or folder.path.resolve().name)
        plot = scores_plot(new, metrics, [part.task for part in parts])
        homes = {task: os.path.relpath(folder.task(task).sheets, home) for task in tasks}
        write_page(new / folder.report.name, name, settings, parts, metrics, plot, homes)
    return folder.report


def write_first_sheet(folder: RunFolder, data: TaskData) -> Path:
    """Write a few crops of each class of a task that has just been cropped on one sheet; return its file."""
    results = read_results(data, folder, read_settings(folder))
    assert results is not None, "stage 2 has not run"
    file = folder.task(data.task.name).overview
    write_overview(file, results, "test" if len(data.rows("test", labelled=True)) else "val")
    return file


def build_gallery(page: Path, name: str, settings: dict[str, Any], tasks: list[TaskResults]) -> Path:
    """Write the gallery of unlabelled images to `page`, whose folder is replaced; return `page`."""
    with replacing(page.parent, StageInputs({})) as new:
        parts = []
        folders = distinct_names(results.data.task.name for results in tasks)
        for results, own in zip(tasks, folders, strict=True):
            results = dataclasses.replace(results, folder=own)
            chosen = choose_rows(results, ReportPlan.rows)
            with progress(f"{results.data.task.short}: gallery", len(chosen)) as bar:
                gallery = write_gallery(new, results, chosen, page.parent, bar)
            parts.append(TaskPart(results.data.task, gallery, results.data.images))
        write_page(new / page.name, name, settings, parts)
    return page


def may_be_rebuilt(home: Path) -> bool:
    """Whether a folder is a page's, or empty."""
    return _files(home) is not None or not any(home.iterdir())


def _fingerprint(folder: RunFolder, tasks: dict[str, TaskData], *shown: Any) -> str:
    """Hash what a report is made from, including this package's files."""
    files = sorted(Path(__file__).parent.rglob("*"))
    sources = [path.read_bytes().hex() for path in files if path.suffix in (".py", ".j2", ".js", ".css")]
    records = [folder.task(name).record(stage) for name in tasks for stage in ("cam", "crop", "finetune")]
    stages = [(read_record(path) or {"fingerprint": ""})["fingerprint"] for path in records]
    return fingerprint(sources, stages, *shown, *map(rows_fingerprint, tasks.values()))


def _shown(values: Any) -> Any:
    """Leave out durations and the machine's settings, which the page does not show."""
    if isinstance(values, dict):
        return {name: _shown(value) for name, value in values.items() if name not in (*TIMES, "runtime")}
    return values


@contextlib.contextmanager
def replacing(home: Path, inputs: StageInputs, others: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield a folder to build in, which replaces `home` when the block ends without an error.

    Its record holds `inputs`, and `others` (sheets, which a stage removes, and suspects) that must exist too
    for the page to be current.
    """
    new = staging_folder(home)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        files = sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file())
        files += [Path(os.path.relpath(path, home)).as_posix() for path in others]
        write_record(new / REPORT_RECORD, inputs, files, {})
        old = _files(home) or set()
        swap_in(home, lambda name: name.as_posix() in old)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _files(home: Path) -> set[str] | None:
    """Read which files of a folder belong to its page; None where there is no record."""
    record = read_record(home / REPORT_RECORD)
    return None if record is None else {REPORT_RECORD, *record["files"]}


def _move_sheets(root: Path, home: Path, part: TaskPart, page: Path, known: set[Path]) -> list[Path]:
    """Move a task's sheets to ``sheets/<split>/<class name>.jpg``, beside ``crops/<split>/<class name>/``.

    Each gets an HTML file of the same name. Unchanged sheets are not written again, and those of the `known`
    ones of an earlier report that there are no more are removed. Return the sheets.
    """
    sheets = {home / sheet.split / f"{sheet.stem}.jpg": sheet for sheet in part.sheets}
    links = {path.with_name(f"{sheet.stem}.html"): sheet for path, sheet in sheets.items()}
    for old in {*home.glob("*/*.jpg"), *home.glob("*/*.html")} - {*sheets, *links}:
        if Path(os.path.normpath(old)) in known:
            old.unlink()
    for path, sheet in sheets.items():
        if not _same(root / sheet.file, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(root / sheet.file, path)
    for path, sheet in links.items():
        write_links(path, sheet, part, Path(os.path.relpath(page, path.parent)).as_posix())
    shutil.rmtree(root / "sheets" / home.parent.name, ignore_errors=True)
    return list(sheets)


def _same(one: Path, other: Path) -> bool:
    """Whether two files have the same content; the other one may be missing."""
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _task_part(
    root: Path,
    folder: RunFolder,
    data: TaskData,
    settings: dict[str, Any],
    split: str,
    boxes_true: pd.DataFrame | None,
    plan: ReportPlan,
) -> TaskPart | None:
    """Write one task's files below `root` and describe them."""
    from heatcrop.report.plots import task_plots

    results = read_results(data, folder, settings, boxes_true)
    if results is None:
        return None
    # A task without labels on the reported split shows its validation images.
    shown = split if len(data.rows(split, labelled=True)) else "val"
    plots = task_plots(root, results, folder.task(data.task.name), shown)
    sheets = plan_sheets(results, plan.tiles, plan.worst_first)
    chosen = choose_rows(results, plan.rows)
    with progress(f"{data.task.short}: report", len(sheets) + len(chosen)) as bar:
        overview = f"sheets/{results.folder}.jpg"
        write_overview(root / overview, results, shown)
        for number, sheet in enumerate(sheets):
            sheets[number] = write_sheet(root, results, sheet)
            bar(1)
        gallery = write_gallery(root, results, chosen, folder.report.parent, bar)
    write_suspects(folder.task(data.task.name).suspects, results)
    # The key of the task's own settings, for a command that changes them: the short name has precedence.
    own = settings.get("tasks")
    short = isinstance(own, dict) and data.task.short in own
    gallery["section"] = data.task.short if short else data.task.name
    return TaskPart(data.task, gallery, data.images, plots, overview, sheets)
