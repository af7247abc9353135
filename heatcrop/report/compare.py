"""Build the page that compares two runs, with its figures beside it."""

from __future__ import annotations

import contextlib
import dataclasses
import filecmp
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heatcrop.data.dataset import TaskData
from heatcrop.data.listing import REPORT_RECORD
from heatcrop.data.tasks import Task, folder_name
from heatcrop.errors import PROGRAM, DataError, RunError
from heatcrop.files import printable, write_json
from heatcrop.metrics.comparison import SIDES, Pair, compare_scores, find_changes, match_rows
from heatcrop.report.build import ReportPlan, replacing
from heatcrop.report.page import write_comparison_page
from heatcrop.report.results import TaskResults, read_results, read_settings
from heatcrop.report.thumbs import write_gallery
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.metrics import scored_branches
from heatcrop.runs.predictions import BRANCHES
from heatcrop.runs.progress import progress
from heatcrop.runs.records import StageInputs, read_record
from heatcrop.wording import counted

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is

FIGURES = "comparison.json"
RESAMPLES = 1000
"""Of the bootstrap."""
_Rows = tuple[np.ndarray, np.ndarray]
"""(M,) rows of the same images in each run's data."""
_COMPARED = "compared with"
"""The entry of a comparison's record that names the second run, relative to the first."""
_WHY = {
    "missing": "{other} does not have them",
    "split": "in another split of {other}",
    "unlabelled": "without a label in {other}",
    "label": "with another label in {other}",
}


@dataclasses.dataclass(frozen=True)
class ComparedRun:
    """One of the two runs."""

    folder: RunFolder
    known: tuple[Task, ...]
    """All tasks of its configuration."""
    tasks: dict[str, TaskData]
    """The finished ones."""
    boxes_true: pd.DataFrame | None

    @property
    def name(self) -> str:
        """Of the folder."""
        return printable(self.folder.path.resolve().name)


def comparison_page(first: RunFolder, second: RunFolder, out: Path | None) -> Path:
    """Return the page: ``index.html`` in `out`, by default in the first run's ``report/compare-<second>``.

    RunError where the folder, which is replaced, holds a user's other files or, unless it was asked for, the
    comparison with another run of the same name.
    """
    name = folder_name(second.path.resolve().name)
    home = first.report.parent / f"compare-{name}" if out is None else out
    if Path.cwd().is_relative_to(home.resolve()):
        raise RunError(f"{home}: would be replaced, and is or holds the current folder; give another --out")
    if os.path.lexists(home) and (home.is_symlink() or not home.is_dir()):
        raise RunError(f"{home}: the comparison needs this path, and it is no folder; give another --out")
    if home.is_dir() and any(home.iterdir()):
        record = read_record(home / REPORT_RECORD) or {"inputs": {"settings": {}}}
        other = record["inputs"]["settings"].get(_COMPARED)
        if other is None:
            raise RunError(f"{home}: holds files that are not a comparison's; give another --out")
        if out is None and other != _relative(first, second):
            raise RunError(
                f"{home}: holds the comparison with {first.path / other}; give --out a folder for this one"
            )
    return home / "index.html"


def build_comparison(page: Path, runs: Sequence[ComparedRun], limit: int = ReportPlan.rows) -> dict[str, Any]:
    """Write the page of a comparison, and ``comparison.json`` beside it; return its figures.

    `page` is that of :func:`comparison_page`; the images are at most `limit` a task, those that changed most.
    DataError where the runs have no image in common, or a prediction of one is missing.
    """
    a, b = runs
    split, common, notes = _find_common(a, b)
    pairs, changes = {}, {}
    for name, both in common.items():
        parts = [
            {branch: p[rows] for branch, p in scored_branches(run.tasks[name], run.folder.task(name)).items()}
            for run, rows in zip(runs, both, strict=True)
        ]
        letters = a.tasks[name].letters[both[0]]
        pairs[name] = Pair(letters, *parts)
        changes[name] = find_changes(letters, *(part["fused"] for part in parts))
    with progress("compare", len(pairs) * (1 + RESAMPLES)) as bar:
        scores = compare_scores(pairs, BRANCHES, RESAMPLES, bar)
    figures: dict[str, Any] = {
        "runs": {
            side: {"name": run.name, "path": printable(str(run.folder.path))}
            for side, run in zip(SIDES, runs, strict=True)
        },
        "split": split,
        "resamples": RESAMPLES,
        "tasks": {
            name: scores["tasks"][name] | _listed(a.tasks[name], common[name][0], changed)
            for name, changed in changes.items()
        },
        "mean": scores["mean"],
        "notes": notes,
    }
    compared = StageInputs({_COMPARED: _relative(a.folder, b.folder)})
    with replacing(page.parent, compared) as new:
        write_json(new / FIGURES, figures)
        galleries = [
            _galleries(new, page.parent, runs, name, both, changes[name], pairs[name], limit)
            for name, both in common.items()
        ]
        title = f"{a.name} and {b.name}"
        tasks = [a.tasks[name].task for name in common]
        write_comparison_page(new / page.name, title, tasks, figures, galleries)
    return figures


def _relative(first: RunFolder, second: RunFolder) -> str:
    # Relative, so that it holds when both are moved.
    return printable(Path(os.path.relpath(second.path.resolve(), first.path.resolve())).as_posix())


def _find_common(a: ComparedRun, b: ComparedRun) -> tuple[str, dict[str, _Rows], list[str]]:
    """Find the split, the tasks and the images that two runs have in common, and describe the others."""
    names, notes = _common_tasks(a, b)
    common, tested = _common_images(a, b, names, "test")
    if common:
        return "test", common, notes + tested
    common, validated = _common_images(a, b, names, "val")
    if common:
        only = "no labelled test image is common; scores are on val, which also chose rule and fusion"
        return "val", common, [only, *notes, *validated]
    reasons = "; ".join([*notes, *tested][:4])
    raise DataError(
        f"{a.folder.path} and {b.folder.path}: have no labelled image in common that both test or validate "
        f"on ({reasons}); run one of them again on the images, tasks and splits of the other: {PROGRAM} run "
        f"--all --config {a.folder.config} --out <new folder>, and what differs as --set key=value"
    )


def _common_tasks(a: ComparedRun, b: ComparedRun) -> tuple[list[str], list[str]]:
    """List the tasks that both runs have finished with the same classes, and describe the others."""
    names, notes = [], []
    for run, other, letter in ((a, b, "B"), (b, a, "A")):
        for name in run.tasks:
            if name not in other.tasks:
                known = any(task.name == name for task in other.known)
                why = f"is not finished in {letter}" if known else f"{letter} does not have it"
                notes.append(f"{name}: left out, {why}")
            elif run is a and run.tasks[name].task.classes != other.tasks[name].task.classes:
                notes.append(f"{name}: left out, its classes or their order differ between A and B")
            elif run is a:
                names.append(name)
    return names, notes


def _common_images(
    a: ComparedRun, b: ComparedRun, names: Sequence[str], split: str
) -> tuple[dict[str, _Rows], list[str]]:
    """Find the images of a split that both runs score, by task, and describe the others."""
    common, notes = {}, []
    for name in names:
        one, two = a.tasks[name], b.tasks[name]
        rows, others, not_in_b = match_rows(one, two, split)
        not_in_a = match_rows(two, one, split)[2]
        del not_in_a["label"]  # the same images as in the other direction
        for of, other, left_out in (("A", "B", not_in_b), ("B", "A", not_in_a)):
            notes += [
                f"{name}: {counted(n, f'{split} image(s)')} of {of} left out, {_WHY[why].format(other=other)}"
                for why, n in left_out.items()
            ]
        if len(rows):
            common[name] = rows, others
            notes += _other_files(name, one, two, rows, others)
        else:
            notes.append(f"{name}: left out, no {split} image has the same label in both runs")
    return common, notes


def _other_files(name: str, a: TaskData, b: TaskData, rows: np.ndarray, others: np.ndarray) -> list[str]:
    """Describe images of equal name whose files differ."""
    different = 0
    for one, two in zip(rows.tolist(), others.tolist(), strict=True):
        with contextlib.suppress(OSError):  # one that is gone cannot be compared
            paths = a.paths[one], b.paths[two]
            different += paths[0] != paths[1] and not filecmp.cmp(*paths, shallow=False)
    if not different:
        return []
    images = counted(different, "image(s) of equal name (is|are)")
    return [f"{name}: {images} another file in B, and compared all the same"]


def _listed(data: TaskData, rows: np.ndarray, changed: np.ndarray) -> dict[str, Any]:
    """Count and name the images that changed."""
    named = {
        kind: [data.images[row] for row in rows[changed == sign].tolist()]
        for kind, sign in (("wrong_to_right", 1), ("right_to_wrong", -1))
    }
    counts = {"fixed": len(named["wrong_to_right"]), "lost": len(named["right_to_wrong"])}
    return {"n": len(changed), **counts, **named}


def _galleries(
    root: Path,
    home: Path,
    runs: Sequence[ComparedRun],
    name: str,
    common: _Rows,
    changed: np.ndarray,
    pair: Pair,
    limit: int,
) -> dict[str, Any]:
    """Write the images of one task that changed, as both runs crop them; return what the scripts read."""
    chosen = np.flatnonzero(changed)
    if len(chosen) > limit:
        truth = pair.letters[chosen].argmax(axis=1)
        gain = np.abs(pair.b["fused"][chosen, truth] - pair.a["fused"][chosen, truth])
        chosen = np.sort(chosen[np.argsort(-gain, kind="stable")[:limit]])
    galleries = []
    with progress(f"{runs[0].tasks[name].task.short}: images", 2 * len(chosen)) as bar:
        for side, run, rows in zip(SIDES, runs, common, strict=True):
            results = _results(run, name)
            results = dataclasses.replace(results, folder=f"{side}/{results.folder}")
            galleries.append(write_gallery(root, results, rows[chosen], home, bar))
    listed = [{1: "fixed", -1: "lost"}[sign] for sign in changed[chosen].tolist()]
    return {"runs": galleries, "changes": listed}


def _results(run: ComparedRun, name: str) -> TaskResults:
    data = run.tasks[name]
    results = read_results(data, run.folder, read_settings(run.folder), run.boxes_true)
    assert results is not None, "the task is not finished"
    return results
