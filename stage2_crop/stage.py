"""Turn one task's heatmaps into boxes and a crop folder."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from heatcrop.data.dataset import TaskData
from heatcrop.data.splits import assign_folds
from heatcrop.data.tasks import class_folders
from heatcrop.files import join_tables, write_array, write_json
from heatcrop.runs.boxes import read_rule
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.predictions import read_networks
from heatcrop.runs.progress import progress
from heatcrop.runs.reading import read_array
from heatcrop.training.batches import InputForm
from heatcrop.training.branch import Workshop, backbone_runner
from heatcrop.training.inputs import part_size
from heatcrop.training.pieces import Piece, Seconds
from heatcrop.training.probe import box_features
from stage2_crop.boxes import crop_finder, find_crops, jitter_boxes, with_usual, write_boxes
from stage2_crop.crops import begin_crops, crop_names, cut_crops, end_crops
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
    jitter: Annotated[float, Field(ge=0, le=0.9)] = 0.15
    jitters: Annotated[int, Field(ge=1, le=100)] = 4
    quality: Annotated[int, Field(ge=1, le=100)] = 95


class CropWork:
    """Stage 2 of one task, in pieces.

    Parameters
    ----------
    data : TaskData
    folder : TaskFolder
        Gets ``rule.json`` (the rule and how it was chosen), ``boxes.csv``, ``crops/`` and
        ``training_boxes.npy`` (the crops that stage 3 trains on).
    plan : CropPlan
    shop : Workshop
    cache : Path
        For the probe's network, and for what pieces leave for each other.
    """

    def __init__(
        self, data: TaskData, folder: TaskFolder, plan: CropPlan, shop: Workshop, cache: Path
    ) -> None:
        self.data, self.folder, self.plan, self.shop, self.cache = data, folder, plan, shop, cache
        spoke, self._probabilities = read_networks(folder.predictions(1))
        self._held_out = spoke != "final"
        self._heatmaps = read_array(folder.heatmaps)
        self._guess = self._probabilities.argmax(axis=1)
        self._invisible = self._guess == data.task.invisible

    def rounds(self) -> Iterator[list[Piece]]:
        """List the pieces."""
        yield [("choose", [])]
        yield [("cut", [first, end]) for first, end in self._parts()]
        yield [("finish", [])]

    def _parts(self) -> list[tuple[int, int]]:
        n = len(self.data)
        each = part_size(n, 1)
        return [(first, min(n, first + each)) for first in range(0, n, each)]

    def choose(self) -> Seconds:
        """Choose the rule, and make the folders of crops."""
        started, data, plan, seed = time.perf_counter(), self.data, self.plan, self.shop.seed
        invisible = self._invisible
        rows = _judging_rows(data, self._held_out, plan.search.pictures, seed)
        rule, curve = plan.rule, []
        if len(rows):
            args = (self._heatmaps, self._probabilities, invisible, rows, self.cache)
            rule, curve = _search(data, plan, self.shop, *args)
        known = rows if len(rows) else _some(data.rows("train"), _USUAL, seed)
        rule = with_usual(
            rule, self._heatmaps[known], data.sizes[known], self.shop.form.fit, invisible[known]
        )
        told = {"rule": dataclasses.asdict(rule), "start": dataclasses.asdict(plan.rule), "rows": len(rows)}
        told["curve"] = [dataclasses.asdict(one) for one in curve]
        write_json(self.folder.rule, {**told, "seconds": time.perf_counter() - started})
        begin_crops(self.folder.crops, self._names)
        return {"crop": time.perf_counter() - started}

    def cut(self, first: int, end: int) -> Seconds:
        """Cut a part of the pictures."""
        started, data, plan, mine = time.perf_counter(), self.data, self.plan, slice(first, end)
        rule, fit = self._rule(), self.shop.form.fit
        with progress(f"{data.task.short}: cut crops", end - first) as bar:
            found = _cut_rows(
                data,
                self.folder.crops,
                self._names,
                self._heatmaps,
                rule,
                self._invisible,
                mine,
                self.shop.form,
                plan.quality,
                bar,
            )
        trained = found.boxes[:, None, :].astype(np.int32)
        if plan.jitter:
            trained = np.repeat(trained, plan.jitters, axis=1)
            train_rows = np.intersect1d(data.rows("train", labelled=True), np.arange(first, end))
            trained[train_rows - first] = jitter_boxes(
                self._heatmaps,
                data.sizes,
                fit,
                rule,
                self._invisible,
                train_rows,
                plan.jitters,
                plan.jitter,
                self.shop.seed,
            )
        self.cache.mkdir(parents=True, exist_ok=True)
        write_array(self._left(first, "training_boxes.npy"), trained)
        write_boxes(self._left(first, "boxes.csv"), data.images[mine], data.splits[mine], found, rule)
        return {"crop": time.perf_counter() - started}

    def finish(self) -> Seconds:
        """Give the crop folder its name, and write all boxes."""
        started, parts = time.perf_counter(), self._parts()
        trained = [np.load(self._left(first, "training_boxes.npy"), mmap_mode="r") for first, _ in parts]
        end_crops(self.folder.crops)
        join_tables(self.folder.boxes, [self._left(first, "boxes.csv") for first, _ in parts])
        write_array(self.folder.training_boxes, np.concatenate(trained))
        return {"crop": time.perf_counter() - started}

    def _left(self, first: int, what: str) -> Path:
        """What is left of a part until all of them are there."""
        return self.cache / f"{first}.{what}"

    def _rule(self) -> CropRule:
        told = read_rule(self.folder.rule)["rule"]
        return CropRule(**{**told, "usual": tuple(told["usual"]) if told["usual"] else None})

    @functools.cached_property
    def _names(self) -> list[str]:
        """The crops' names: labelled ones below their class, others below the predicted one."""
        data, folders = self.data, class_folders(self.data.task)
        labelled, truth, guess = data.labelled, data.letters.argmax(axis=1), self._guess
        return crop_names(
            data.images,
            [
                folders[truth[i]] if labelled[i] else f"{folders[guess[i]]} (predicted)"
                for i in range(len(data))
            ],
            data.splits,
        )


def _cut_rows(
    data: TaskData,
    root: Path,
    names: Sequence[str],
    heatmaps: np.ndarray,
    rule: CropRule,
    invisible: np.ndarray,
    rows: slice,
    form: InputForm,
    quality: int,
    done: Callable[[int], None],
) -> Crops:
    """Cut some pictures by the rule."""
    crop_of = crop_finder(heatmaps[rows], data.sizes[rows], form.fit, rule, invisible[rows])
    return cut_crops(root, names[rows], data.paths[rows], crop_of, form.threads, quality, done)


def cut(
    data: TaskData,
    folder: TaskFolder,
    heatmaps: np.ndarray,
    rule: CropRule,
    invisible: np.ndarray,
    folders: Sequence[str],
    form: InputForm,
    quality: int,
    done: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """Cut every picture by the rule, in one go, and leave ``crops/`` and ``boxes.csv``.

    Parameters
    ----------
    folders : sequence of str
        Below its split, the folder of each picture's crop.

    Returns
    -------
    ndarray of int, shape (N, 4)
    """
    names, rows = crop_names(data.images, folders, data.splits), slice(0, len(data))
    begin_crops(folder.crops, names)
    found = _cut_rows(data, folder.crops, names, heatmaps, rule, invisible, rows, form, quality, done)
    end_crops(folder.crops)
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
    data: TaskData,
    plan: CropPlan,
    shop: Workshop,
    heatmaps: np.ndarray,
    probabilities: np.ndarray,
    invisible: np.ndarray,
    rows: np.ndarray,
    cache: Path,
) -> tuple[CropRule, list[Judged]]:
    """Choose the rule on the given rows."""
    letters, sizes, heat = data.letters[rows], data.sizes[rows], np.asarray(heatmaps[rows])
    judges = Judges(
        letters,
        data.soft[rows],
        probabilities[rows],
        assign_folds(letters, data.groups[rows], _PROBE_FOLDS, shop.seed),
        sizes.min(axis=1),
    )
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
