"""Turn one task's heatmaps into boxes and a crop folder."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from attributes.dataset import TaskData
from attributes.splits import assign_folds
from attributes.tasks import class_folders
from learning.batches import InputForm
from learning.branch import Workshop, backbone_runner
from learning.probe import box_features
from runfolder.files import write_array, write_json
from runfolder.folder import TaskFolder
from runfolder.predictions import read_predictions
from runfolder.progress import progress
from stage2_crop.boxes import each_crop, find_crops, jitter_boxes, with_usual, write_boxes
from stage2_crop.crops import crop_names, write_crops
from stage2_crop.rule import CropRule, Crops
from stage2_crop.search import Judged, Judges, SearchPlan, search_rule

_PROBE_FOLDS = 5
_LEAST_JUDGES = 30
# Pictures whose crops tell the attribute's usual place where no search has drawn any.
_USUAL = 400


@dataclasses.dataclass(frozen=True)
class CropPlan:
    """What stage 2 does.

    Attributes
    ----------
    rule : CropRule
        Where the search starts, or the rule itself without one.
    search : SearchPlan
    jitter : float
        How far the crops that stage 3 trains on are cut around the rule, see
        :func:`stage2_crop.boxes.jitter_boxes`; 0 for none.
    jitters : int
        Such crops a training picture.
    quality : int
        JPEG quality of the crops people look at, 1..100.
    """

    rule: CropRule = CropRule()
    search: SearchPlan = SearchPlan()
    jitter: float = 0.15
    jitters: int = 4
    quality: int = 95


def run(data: TaskData, folder: TaskFolder, plan: CropPlan, shop: Workshop, cache: Path) -> dict[str, float]:
    """Run stage 2 for one task.

    Parameters
    ----------
    folder : TaskFolder
        Gets ``rule.json`` (the rule and how it was chosen), ``boxes.csv``, ``crops/`` and
        ``training_boxes.npy`` (the crops that stage 3 trains on).
    cache : Path
        For the probe's network.

    Returns
    -------
    dict of str to float
        Seconds spent on ``crop``, the search included.
    """
    started = time.perf_counter()
    table, probabilities = read_predictions(folder.predictions(1))
    held_out = (table.pop("network") != "final").to_numpy(bool)
    del table
    heatmaps = np.load(folder.heatmaps, mmap_mode="r")
    guess = probabilities.argmax(axis=1)
    invisible = guess == data.task.invisible
    rows = _judging_rows(data, held_out, plan.search.pictures, shop.seed)
    rule, curve = plan.rule, []
    if len(rows):
        rule, curve = _search(data, plan, shop, heatmaps, probabilities, invisible, rows, cache)
    known = rows if len(rows) else _some(data.rows("train"), _USUAL, shop.seed)
    rule = with_usual(rule, heatmaps[known], data.sizes[known], shop.form.fit, invisible[known])
    told = {"rule": dataclasses.asdict(rule), "start": dataclasses.asdict(plan.rule), "rows": len(rows)}
    told["curve"] = [dataclasses.asdict(one) for one in curve]
    write_json(folder.rule, {**told, "seconds": time.perf_counter() - started})
    folders = class_folders(data.task)
    labelled, truth = data.labelled, data.letters.argmax(axis=1)
    names = [
        folders[truth[i]] if labelled[i] else f"{folders[guess[i]]} (predicted)" for i in range(len(data))
    ]
    with progress(f"{data.task.short}: cut crops", len(data)) as bar:
        boxes = cut(data, folder, heatmaps, rule, invisible, names, shop.form, plan.quality, bar)
    trained = boxes[:, None, :].astype(np.int32)
    if plan.jitter:
        trained = np.repeat(trained, plan.jitters, axis=1)
        train_rows = data.rows("train", labelled=True)
        trained[train_rows] = jitter_boxes(
            heatmaps, data.sizes, shop.form.fit, rule, invisible, train_rows,
            plan.jitters, plan.jitter, shop.seed,
        )  # fmt: skip
    write_array(folder.training_boxes, trained)
    return {"crop": time.perf_counter() - started}


def cut(
    data: TaskData, folder: TaskFolder, heatmaps: np.ndarray, rule: CropRule, invisible: np.ndarray,
    folders: Sequence[str], form: InputForm, quality: int, done: Callable[[int], None] = lambda _: None,
) -> np.ndarray:  # fmt: skip
    """Cut every picture by the rule and leave ``crops/`` and ``boxes.csv``.

    Boxes are found here while other threads decode and cut, so that neither waits for the other.

    Parameters
    ----------
    folders : sequence of str
        Below its split, the folder of each picture's crop.

    Returns
    -------
    ndarray of int, shape (N, 4)
    """
    found = Crops()

    def boxes() -> Iterator[tuple[int, int, int, int]]:
        for crop in each_crop(heatmaps, data.sizes, form.fit, rule, invisible):
            found.append(crop)
            yield crop.box

    names = crop_names(data.images, folders, data.splits)
    write_crops(folder.crops, names, data.paths, boxes(), form.threads, quality, done)
    write_boxes(folder.boxes, data.images, data.splits, found, rule)
    return found.boxes


def _judging_rows(data: TaskData, held_out: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Draw rows whose maps come from networks that had not seen them; none where there are too few."""
    unseen = (data.splits == "val") | ((data.splits == "train") & held_out)
    rows = _some(np.flatnonzero(unseen & data.labelled), most, seed)
    enough = len(rows) >= _LEAST_JUDGES and len(np.unique(data.letters[rows].argmax(axis=1))) > 1
    return rows if enough else rows[:0]


def _some(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])


def _search(
    data: TaskData, plan: CropPlan, shop: Workshop, heatmaps: np.ndarray, probabilities: np.ndarray,
    invisible: np.ndarray, rows: np.ndarray, cache: Path,
) -> tuple[CropRule, list[Judged]]:  # fmt: skip
    """Choose the rule on the given rows."""
    letters, sizes, heat = data.letters[rows], data.sizes[rows], np.asarray(heatmaps[rows])
    judges = Judges(
        letters, data.soft[rows], probabilities[rows],
        assign_folds(letters, data.groups[rows], _PROBE_FOLDS, shop.seed), sizes.min(axis=1),
    )  # fmt: skip
    runner = backbone_runner(shop, cache)
    gone = invisible[rows]

    def boxes_of(rule: CropRule) -> list[tuple[int, int, int, int]]:
        whole = with_usual(rule, heat, sizes, shop.form.fit, gone)
        return [crop.box for crop in find_crops(heat, sizes, shop.form.fit, whole, gone)]

    paths = [data.paths[i] for i in rows]
    with progress(f"{data.task.short}: search the crop rule", None) as bar:
        return search_rule(
            plan.rule,
            plan.search.steps(data.task.invisible is not None),
            judges,
            boxes_of,
            lambda boxes: box_features(runner, shop.form, paths, boxes, bar),
            shop.seed,
        )
