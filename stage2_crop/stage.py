"""Stage 2: turn one task's heatmaps into boxes and a crop folder."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.data.splits import assign_folds
from heatcrop.data.tasks import class_folders
from heatcrop.files import write_array, write_json
from heatcrop.runs.predictions import read_arrays, write_arrays
from heatcrop.runs.progress import progress
from heatcrop.runs.reading import read_array, read_json
from heatcrop.training.inputs import part_size
from heatcrop.training.probe import Box, box_features
from heatcrop.training.stage import Job, Stage
from stage2_crop.boxes import Heatmaps, complete_rule, find_crops, jitter_boxes, write_boxes
from stage2_crop.crops import begin_crops, crop_names, cut_crops, end_crops
from stage2_crop.plan import CropRule, SearchedRule
from stage2_crop.search import Candidate, SearchRows, search_rule

_PROBE_FOLDS = 5
_MIN_SEARCH_ROWS = 30
# Images whose crops give the attribute's usual place where no search has drawn any.
_USUAL_ROWS = 400


class CropStage(Stage):
    """Stage 2 of one task.

    Its folder gets ``rule.json`` (the rule and how it was chosen), ``boxes.csv`` and ``boxes.npz``,
    ``crops/``, and ``training_boxes.npy``, the crops that stage 3 trains on.
    """

    name = "crop"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        (self.data,), (self.folder,) = self.group.tasks, self.tasks
        stage1 = read_arrays(self.folder.predictions(1), ("full", "networks"), len(self.data))
        self._held_out, self._full = stage1["networks"] != "final", stage1["full"]
        self._predicted = self._full.argmax(axis=1)
        heatmaps, invisible = read_array(self.folder.heatmaps), self._predicted == self.data.task.invisible
        self._heatmaps = Heatmaps(heatmaps, self.data.sizes, self.context.form.fit, invisible)

    def jobs(self) -> Iterator[list[Job]]:
        """List the jobs: choose the rule, crop the images part by part, join the boxes."""
        yield [("choose_rule", [])]
        yield [("crop", list(part)) for part in self._parts()]
        yield [("finish", [])]

    def choose_rule(self) -> None:
        """Choose the rule, and make the folders of the crops."""
        started, start, curve = time.perf_counter(), self.plan.rule, []
        rule, rows = start, self._search_rows()
        if len(rows):
            rule, curve = self._search(rows)
        known = rows if len(rows) else _sample(self.data.rows("train"), _USUAL_ROWS, self.context.seed)
        rule = complete_rule(rule, self._heatmaps[known])
        record: dict[str, Any] = {"rule": dataclasses.asdict(rule), "start": dataclasses.asdict(start)}
        record |= {"rows": len(rows), "curve": [dataclasses.asdict(one) for one in curve]}
        write_json(self.folder.rule, {**record, "seconds": time.perf_counter() - started})
        begin_crops(self.folder.crops, self._names)

    def crop(self, first: int, end: int) -> None:
        """Crop a part of the images, and vary the crops that stage 3 trains on."""
        data, plan, part = self.data, self.plan, slice(first, end)
        rule = read_json(self.folder.rule, SearchedRule).rule
        crops = find_crops(self._heatmaps[part], rule)
        boxes = np.array([crop.box for crop in crops], np.int64).reshape(-1, 4)
        with progress(f"{data.task.short}: cut crops", end - first) as bar:
            names, paths = self._names[part], data.paths[part]
            cut_crops(self.folder.crops, names, paths, boxes, self.context.form.threads, plan.quality, bar)
        training = np.repeat(boxes[:, None].astype(np.int32), plan.jitters if plan.jitter else 1, axis=1)
        if plan.jitter:
            train = np.intersect1d(data.rows("train", labelled=True), np.arange(first, end))
            training[train - first] = self._training_boxes(rule, train)
        write_arrays(
            self._part_file(first),
            boxes=boxes,
            fallback=np.array([crop.fallback for crop in crops], "U16"),
            score=np.array([crop.score for crop in crops], np.float64),
            training=training,
        )

    def _training_boxes(self, rule: CropRule, rows: np.ndarray) -> np.ndarray:
        """Vary the crops of some rows, (R, jitters, 4): where the heatmap points and at the usual place."""
        plan, fixed = self.plan, round(self.plan.fixed_share * self.plan.jitters)
        if not rule.enabled or rule.usual is None or rule.place == "fixed":
            fixed = 0
        near = functools.partial(jitter_boxes, self._heatmaps, rows=rows, spread=plan.jitter)
        parts = [near(rule, count=plan.jitters - fixed, seed=self.context.seed)]
        if fixed:
            usual = dataclasses.replace(rule, place="fixed")
            parts.append(near(usual, count=fixed, seed=self.context.seed + 1))
        # An epoch takes the next box of a row: the kinds take turns.
        turns = np.argsort([(i + 0.5) / part.shape[1] for part in parts for i in range(part.shape[1])])
        return np.concatenate(parts, axis=1)[:, turns]

    def finish(self) -> None:
        """Replace the crop folder, and write the boxes of all images."""
        parts = [read_arrays(self._part_file(first)) for first, _ in self._parts()]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        end_crops(self.folder.crops)
        write_array(self.folder.training_boxes, joined.pop("training"))
        write_arrays(self.folder.boxes, **joined)
        rule = read_json(self.folder.rule, SearchedRule).rule
        write_boxes(self.folder.boxes_csv, self.data, rule, **joined)

    def _parts(self) -> list[tuple[int, int]]:
        n, size = len(self.data), part_size(len(self.data), 1)
        return [(first, min(n, first + size)) for first in range(0, n, size)]

    def _part_file(self, first: int) -> Path:
        return self.cache / f"{first}.boxes.npz"

    @functools.cached_property
    def _names(self) -> list[str]:
        """Names of the crops: labelled images below their class, others below the predicted one."""
        data, folders = self.data, class_folders(self.data.task)
        labels = zip(data.labelled, data.letters.argmax(axis=1), self._predicted, strict=True)
        below = [folders[y] if known else f"{folders[p]} (predicted)" for known, y, p in labels]
        return crop_names(data.images, below, data.splits)

    def _search_rows(self) -> np.ndarray:
        """Draw rows whose maps come from networks that did not train on them; none where too few are left."""
        data = self.data
        unseen = (data.splits == "val") | ((data.splits == "train") & self._held_out)
        unseen_rows = np.flatnonzero(unseen & data.labelled)
        rows = _sample(unseen_rows, self.plan.search.pictures, self.context.seed)
        enough = len(rows) >= _MIN_SEARCH_ROWS and len(np.unique(data.letters[rows].argmax(axis=1))) > 1
        return rows if enough else rows[:0]

    def _search(self, rows: np.ndarray) -> tuple[CropRule, list[Candidate]]:
        """Search the rule on the given rows."""
        data, form, seed = self.data, self.context.form, self.context.seed
        letters, heatmaps, paths = data.letters[rows], self._heatmaps[rows], [data.paths[i] for i in rows]
        folds = assign_folds(letters, data.groups[rows], _PROBE_FOLDS, seed)
        shorter_side = heatmaps.sizes.min(axis=1)
        search_rows = SearchRows(letters, data.soft[rows], self._full[rows], folds, shorter_side)
        runner = self.context.open_backbone(self.cache)

        def boxes_of(rule: CropRule) -> list[Box]:
            return [crop.box for crop in find_crops(heatmaps, complete_rule(rule, heatmaps))]

        with progress(f"{data.task.short}: search the crop rule", None) as bar:
            return search_rule(
                self.plan.rule,
                self.plan.search.steps(),
                search_rows,
                boxes_of,
                lambda boxes: box_features(runner, form, paths, boxes, bar),
                seed,
            )


def _sample(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])
