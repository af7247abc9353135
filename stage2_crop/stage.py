"""Stage 2: turn one task's heatmaps into boxes and a crop folder."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.data.splits import assign_folds
from heatcrop.data.tasks import class_folders
from heatcrop.files import write_array, write_json
from heatcrop.nets.backbones import InputForm
from heatcrop.nets.inference import Runner
from heatcrop.runs.predictions import read_arrays, write_arrays
from heatcrop.runs.progress import log, progress
from heatcrop.runs.reading import read_array, read_json
from heatcrop.training.batches import Images
from heatcrop.training.inputs import LiveInputs, part_size, predict
from heatcrop.training.probe import Box, box_features
from heatcrop.training.stage import IMAGES_PER_JOB, Job, Stage
from heatcrop.training.views import View
from stage2_crop.boxes import (
    ZOOM_VIEWS,
    Heatmaps,
    complete_rule,
    find_crops,
    jitter_boxes,
    predicted_boxes,
    surroundings,
    write_boxes,
)
from stage2_crop.crops import begin_crops, crop_names, cut_crops, end_crops
from stage2_crop.plan import CropRule, SearchedRule, Steps
from stage2_crop.search import Candidate, SearchRows, search_rule

_PROBE_FOLDS = 5
_MIN_SEARCH_ROWS = 30
# Images whose crops give the attribute's usual place where no search has drawn any.
_USUAL_ROWS = 400


class CropStage(Stage):
    """Stage 2 of one task.

    Its folder gets ``rule.json`` (the rule and how it was chosen), ``boxes.csv`` and ``boxes.npz``,
    ``crops/``, ``training_boxes.npy`` (the crops that stage 3 trains on) and, where the rule zooms,
    ``zoomed.npy`` and ``regions.npy``.
    """

    name = "crop"
    n_outputs: int
    """Of stage 1's networks. Whoever makes a stage that zooms sets it, and `heatmaps_from`."""
    heatmaps_from: Callable[[np.ndarray, np.ndarray, list[View], bool], np.ndarray]
    """The task's heatmaps, (B, h, w), from logits, class maps and views; of the kind ``spread`` or not."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        (self.data,), (self.folder,) = self.group.tasks, self.tasks
        stage1 = read_arrays(self.folder.predictions(1), ("full", "networks"), len(self.data))
        self._networks, self._full = stage1["networks"], stage1["full"]
        self._predicted = self._full.argmax(axis=1)

    def jobs(self) -> Iterator[list[Job]]:
        """List the jobs: choose the rule, zoom, crop the images part by part, join the boxes.

        Of the images that evaluate the rule the zoomed heatmaps are computed before it is chosen, of all
        others after, if it zooms.
        """
        yield [("choose_first_rule", [])]
        if self.plan.zoom:
            yield [("zoom", list(part)) for part in self._zoom_parts("first")]
        yield [("choose_rule", [])]
        if read_json(self.folder.rule, SearchedRule).rule.zoom:
            yield [("zoom", list(part)) for part in self._zoom_parts("rest")]
            yield [("join_zoomed", [])]
        yield [("crop", list(part)) for part in self._parts()]
        yield [("finish", [])]

    def choose_first_rule(self) -> None:
        """Choose the rule of the crops that zoom is around; without zoom, what the search begins with."""
        started, plan = time.perf_counter(), self.plan
        # Of an earlier rule, and networks that :meth:`zoom` has exported from earlier weights of stage 1.
        for file in (self.folder.zoomed, self.folder.regions, *self.cache.glob("*.onnx")):
            file.unlink(missing_ok=True)
        rule, curve, known = plan.first or plan.rule, [], self._known_rows
        if plan.search.pictures and not len(self._search_rows):
            few = f"; raise crop.search.pictures, which is {plan.search.pictures}"
            log(
                f"{self.data.task.short}: the crop rule is not searched, but taken as it is set: that takes "
                f"{_MIN_SEARCH_ROWS} images of two classes that a network did not train on"
                f"{few if plan.search.pictures < _MIN_SEARCH_ROWS else ''}"
            )
        elif not plan.search.pictures:
            log(f"{self.data.task.short}: the crop rule is not searched, but taken as it is set")
        else:
            kinds = {spread: self._heatmaps(spread)[known] for spread in (False, True)}  # the searched rows
            steps = plan.search.first_steps()
            if not self.folder.spread.is_file():  # stage 1 has made heatmaps of one kind
                steps = [step for step in steps if step[0] != "spread"]
            rule, curve = self._search(lambda rule: kinds[rule.spread], rule, steps)
        rule = complete_rule(rule, self._heatmaps(rule.spread)[known])
        self._write_rule(self.cache / "first.json", rule, None, curve, started)

    def zoom(self, which: str, network: str, first: int, end: int) -> None:
        """Compute the heatmaps of surroundings of some first crops, with the network of the rows."""
        context, form, rows = self.context, self.context.form, self._zoom_rows(which, network)[first:end]
        rule, paths = self._first_rule.rule, [self.data.paths[i] for i in rows]
        heatmaps = self._heatmaps(rule.spread)[rows]
        boxes = [crop.box for crop in find_crops(heatmaps, rule)]
        regions = surroundings(boxes, heatmaps.sizes, self.plan.zoom)
        images = Images(paths, regions[:, None], None, heatmaps.sizes)
        inputs = LiveInputs(images, form, ZOOM_VIEWS, open_trunk=self.open_trunk)
        exported = self.folder.network(1) if network == "final" else self.cache / f"{network}.onnx"
        files = self.folder.weights(1, network), exported
        runner = context.open_classifier(*files, inputs.shape, self.n_outputs, maps=True)
        found = []
        with progress(f"{self.data.task.short}: zoom", len(rows)) as bar:
            for logits, maps, index in predict(runner, inputs, np.arange(len(rows))):
                found.append(self.heatmaps_from(logits, maps, ZOOM_VIEWS.unit(), rule.spread))
                bar(len(index))
        zoomed = np.concatenate(found)
        write_arrays(self._zoom_file(which, network, first), rows=rows, zoomed=zoomed, regions=regions)

    def choose_rule(self) -> None:
        """Choose the rule, and make the folders of the crops."""
        started, plan, searched = time.perf_counter(), self.plan, self._first_rule
        known, first, curve = self._known_rows, searched.rule, []
        heatmaps = self._heatmaps(first.spread)[known]
        rule = dataclasses.replace(plan.rule, spread=first.spread) if plan.first else first
        if plan.zoom:
            rows, zoomed, regions = self._zoomed("first")
            at = np.searchsorted(rows, known)
            heatmaps = dataclasses.replace(heatmaps, zoomed=zoomed[at], regions=regions[at])
            rule = dataclasses.replace(rule, zoom=plan.zoom)
        if len(self._search_rows):  # they are the known ones
            start = dataclasses.replace(rule, usual=plan.rule.usual)
            rule, curve = self._search(lambda _: heatmaps, start, plan.search.last_steps(plan.zoom))
        rule = complete_rule(rule, heatmaps)
        if rule.place == "fixed" or not rule.enabled:  # zoom would cost a pass an image and change no crop
            rule = dataclasses.replace(rule, zoom=0.0)
        self._write_rule(
            self.folder.rule, rule, first if rule.zoom else None, [*searched.curve, *curve], started
        )
        begin_crops(self.folder.crops, self._names)

    def _write_rule(
        self, path: Path, rule: CropRule, first: CropRule | None, curve: list[Any], started: float
    ) -> None:
        rows, seconds = len(self._search_rows), time.perf_counter() - started
        record = {"rule": rule, "start": self.plan.rule, "first": first, "rows": rows, "curve": curve}
        write_json(path, record | {"seconds": seconds})

    def crop(self, first: int, end: int) -> None:
        """Crop a part of the images, and vary the crops that stage 3 trains on."""
        data, plan, part = self.data, self.plan, slice(first, end)
        rule = read_json(self.folder.rule, SearchedRule).rule
        crops = find_crops(self._zoomed_heatmaps[part], rule)
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
        near = functools.partial(jitter_boxes, self._zoomed_heatmaps, rows=rows, spread=plan.jitter)
        parts = [near(rule, count=plan.jitters - fixed, seed=self.context.seed)]
        if fixed:
            usual = dataclasses.replace(rule, place="fixed")
            parts.append(near(usual, count=fixed, seed=self.context.seed + 1))
        # An epoch takes the next box of a row: the kinds take turns.
        places = [(i + 0.5) / part.shape[1] for part in parts for i in range(part.shape[1])]
        turns = np.argsort(places, kind="stable")
        return np.concatenate(parts, axis=1)[:, turns]

    def finish(self) -> None:
        """Replace the crop folder, and write the boxes of all images."""
        parts = [read_arrays(self._part_file(first)) for first, _ in self._parts()]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        end_crops(self.folder.crops, self._names)
        rule = read_json(self.folder.rule, SearchedRule).rule
        write_array(self.folder.training_boxes, joined.pop("training"))
        predicted = predicted_boxes(joined["boxes"], self.data.sizes, rule)
        write_arrays(self.folder.boxes, **joined, predicted=predicted)
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

    def _heatmaps(self, spread: bool) -> Heatmaps:
        """Return the heatmaps of all images."""
        maps = read_array(self.folder.heatmaps_of(spread))
        invisible = self._predicted == self.data.task.invisible
        return Heatmaps(maps, self.data.sizes, self.context.form.fit, invisible)

    @functools.cached_property
    def _search_rows(self) -> np.ndarray:
        """Draw rows whose maps come from networks that did not train on them; none where too few are left."""
        data = self.data
        unseen = (data.splits == "val") | ((data.splits == "train") & (self._networks != "final"))
        unseen_rows = np.flatnonzero(unseen & data.labelled)
        rows = _sample(unseen_rows, self.plan.search.pictures, self.context.seed)
        enough = len(rows) >= _MIN_SEARCH_ROWS and len(np.unique(data.letters[rows].argmax(axis=1))) > 1
        return rows if enough else rows[:0]

    @functools.cached_property
    def _known_rows(self) -> np.ndarray:
        """Rows that give the location prior and the usual place."""
        if len(self._search_rows):
            return self._search_rows
        return _sample(self.data.rows("train"), _USUAL_ROWS, self.context.seed)

    @functools.cached_property
    def _backbone(self) -> tuple[Runner, InputForm]:
        return self.context.open_backbone(self.cache)

    def _search(
        self, heatmaps_of: Callable[[CropRule], Heatmaps], start: CropRule, steps: Steps
    ) -> tuple[CropRule, list[Candidate]]:
        """Search a rule on the rows for it, whose heatmaps by a rule are given."""
        data, seed, rows = self.data, self.context.seed, self._search_rows
        letters, paths = data.letters[rows], [data.paths[i] for i in rows]
        folds = assign_folds(letters, data.groups[rows], _PROBE_FOLDS, seed)
        shorter_side = data.sizes[rows].min(axis=1)
        search_rows = SearchRows(letters, data.soft[rows], self._full[rows], folds, shorter_side)

        def boxes_of(rule: CropRule) -> list[list[Box]]:
            heatmaps = heatmaps_of(rule)
            complete = complete_rule(rule, heatmaps)
            boxes = np.array([crop.box for crop in find_crops(heatmaps, complete)])
            rows = predicted_boxes(boxes, heatmaps.sizes, complete).tolist()
            return [[tuple(box) for box in row] for row in rows]

        with progress(f"{data.task.short}: search the crop rule", None) as bar:

            def features_of(boxes: Sequence[Sequence[Box]]) -> list[np.ndarray]:
                return box_features(*self._backbone, paths, boxes, bar)

            return search_rule(start, steps, search_rows, boxes_of, features_of)

    # --- zoom

    def join_zoomed(self) -> None:
        """Join what the jobs have zoomed into two files."""
        _, zoomed, regions = self._zoomed("first", "rest")
        write_array(self.folder.zoomed, zoomed)
        write_array(self.folder.regions, regions)

    def _zoom_rows(self, which: str, network: str) -> np.ndarray:
        """Return a network's rows: the ``first`` ones, which evaluate the rule, or the ``rest``.

        Where no rows evaluate it, all are the first.
        """
        own, searched = np.flatnonzero(self._networks == network), self._search_rows
        if not len(searched):
            return own if which == "first" else own[:0]
        return own[np.isin(own, searched, invert=which == "rest")]

    def _zoom_parts(self, which: str) -> list[tuple[str, str, int, int]]:
        """Divide the images: which ones, network, first and end of its rows."""
        return [
            (which, network, first, first + IMAGES_PER_JOB)
            for network in np.unique(self._networks).tolist()
            for first in range(0, len(self._zoom_rows(which, network)), IMAGES_PER_JOB)
        ]

    def _zoom_file(self, which: str, network: str, first: int) -> Path:
        return self.cache / f"{which}.{network}.{first}.zoomed.npz"

    def _zoomed(self, *which: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read rows, in order, and their zoomed heatmaps (R, h, w) and regions (R, 4)."""
        parts = [read_arrays(self._zoom_file(*part[:3])) for one in which for part in self._zoom_parts(one)]
        rows, zoomed, regions = (
            np.concatenate([part[name] for part in parts]) for name in ("rows", "zoomed", "regions")
        )
        order = np.argsort(rows)
        return rows[order], zoomed[order], regions[order]

    @property
    def _first_rule(self) -> SearchedRule:
        return read_json(self.cache / "first.json", SearchedRule)

    @functools.cached_property
    def _zoomed_heatmaps(self) -> Heatmaps:
        """The heatmaps; with the zoomed ones, where the rule zooms."""
        rule = read_json(self.folder.rule, SearchedRule).rule
        if not rule.zoom:
            return self._heatmaps(rule.spread)
        zoomed, regions = read_array(self.folder.zoomed), read_array(self.folder.regions)
        return dataclasses.replace(self._heatmaps(rule.spread), zoomed=zoomed, regions=regions)


def _sample(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])
