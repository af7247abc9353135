"""Choose a task's crop rule on rows that no network trained on, by log-likelihood.

One setting at a time, the others held: the kind of heatmap, the location prior's weight, threshold, zoom,
least side, whether to crop a fixed place instead or as well, and whether to crop at all. Each candidate is
evaluated by a linear probe on the crops' features: by the log-likelihood of the labels, of the probe alone
and fused with stage 1's predictions, each with its temperature; the mean of both counts. The probe is weaker
than the network that stage 3 fine-tunes, and its fusion leans on the full image: there, crops that show less
of the attribute can seem as good as any. Whether to crop at all is decided by the fused predictions. Rows are
training images whose heatmaps and predictions come from networks that did not train on them, and validation
images; test images are not used.

A candidate must be better than the configured value by two and a half standard errors of the difference
(:func:`heatcrop.metrics.choice.clearly_best`). The error is that of the rows alone; the probe's training
varies too, and between equally good boxes differences are 1.4 times as large. Moreover, the best of some
fifteen candidates is an optimistic choice. AP, the final score, depends on the order of the rows only and
separates candidates less well (`docs/crop-search.md` has the measurements). The search should begin with
crops that are rather too large: where a tighter one is better, it is clearly so, whereas a crop that loses
part of the region costs little on each image. The fixed place, and crops without zoom, which costs a forward
pass, need to be better only; both places together by one standard error, where the fixed one is not better.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from heatcrop.metrics.calibration import cross_entropy, tempered
from heatcrop.metrics.choice import clearly_best
from heatcrop.metrics.fusion import fit_fusion, fuse
from heatcrop.metrics.score import average_precision
from heatcrop.training.probe import Box, probe_predictions
from stage2_crop.plan import CropRule

_LEAST = 1e-4
"""Probability that one row's loss is bounded by: the probe knows no class that its other folds lack."""
_CLEARLY = 2.5
"""Standard errors that a candidate must be better by."""
_EASIER = {("zoom", 0.0): 0.0, ("place", "fixed"): 0.0, ("place", "both"): 1.0}
"""Settings and values that must be better by fewer standard errors, in the order in which they are taken.

Zoom in vain costs a forward pass; a crop that follows a heatmap in vain would only reveal what the full-image
network thinks; the usual place beside the heatmap's protects from heatmaps that other images mislead.
"""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """The figures of one candidate; an entry of the ``curve`` in ``rule.json``."""

    setting: str
    value: Any
    crop_ap: float
    fused_ap: float
    """AP of the probe on the crops alone, and fused with the full image."""
    weight: float
    """Of the crops in the fusion."""
    score: float
    """What candidates are compared by: mean log-likelihood of the labels in nats, of both or of the fused."""
    difference: float
    error: float
    """Mean and standard error, over rows, of its score less the configured value's."""
    side: float
    """Median side of its crops as a share of the image's shorter side."""
    chosen: bool = False


@dataclasses.dataclass(frozen=True)
class SearchRows:
    """The N rows that candidates are evaluated on."""

    letters: np.ndarray
    """Label codes, (N, C) int8."""
    soft: np.ndarray
    full: np.ndarray
    """Soft labels, and the full image's probabilities from networks that did not train on the row, (N, C)."""
    folds: np.ndarray
    """Of the probe, (N,) int."""
    shorter_side: np.ndarray
    """Of each image, in pixels, (N,) int."""


def search_rule(
    start: CropRule,
    steps: Sequence[tuple[str, Sequence[Any]]],
    rows: SearchRows,
    boxes_of: Callable[[CropRule], Sequence[Sequence[Box]]],
    features_of: Callable[[Sequence[Sequence[Box]]], Sequence[np.ndarray]],
) -> tuple[CropRule, list[Candidate]]:
    """Improve a rule one setting at a time; return it with every candidate tried, in order.

    `steps` are pairs of a setting and its values; one that comes again is searched again if the rule has
    changed since. `boxes_of` returns the boxes of each row by a rule, first the crop, `features_of` the
    features, (K, F), of K boxes of each row; those of a box are computed once, and the probe gets the mean of
    a row's boxes.
    """
    n_rows, n_classes = rows.letters.shape
    known: list[dict[Box, np.ndarray]] = [{} for _ in range(n_rows)]

    @functools.cache
    def evaluate(boxes: tuple[tuple[Box, ...], ...]) -> tuple[list[float], np.ndarray, float]:
        """Compute AP of crops and fused, the log-likelihood of each row by both, (2, N), and the weight."""
        features = np.stack([np.mean([known[i][box] for box in row], axis=0) for i, row in enumerate(boxes)])
        crop = probe_predictions(features, rows.letters.argmax(axis=1), n_classes, rows.folds)
        fusion = fit_fusion(rows.full, crop, rows.letters, rows.soft)
        both = tempered(crop, fusion.crop_temperature), fuse(rows.full, crop, fusion)
        scores = [average_precision(branch, rows.letters) for branch in both]
        likelihoods = [-cross_entropy(np.maximum(branch, _LEAST), rows.soft) for branch in both]
        return scores, np.array(likelihoods), fusion.weight

    rule, curve = start, []
    left_at: dict[str, CropRule] = {}
    for setting, values in steps:
        if not rule.enabled:
            break
        if left_at.get(setting) == rule:
            continue
        values = [getattr(rule, setting), *(v for v in values if v != getattr(rule, setting))]
        rules = [dataclasses.replace(rule, **{setting: value}) for value in values]
        boxes = [tuple(map(tuple, boxes_of(one))) for one in rules]
        missing = [
            list(dict.fromkeys(box for of_rule in row for box in of_rule if box not in known[i]))
            for i, row in enumerate(zip(*boxes, strict=True))
        ]
        for i, (new, found) in enumerate(zip(missing, features_of(missing), strict=True)):
            known[i].update(zip(new, found, strict=True))
        shares = np.array([0.0, 1.0] if setting == "enabled" else [0.5, 0.5])
        base = evaluate(boxes[0])[1]
        tried = []
        for value, cut in zip(values, boxes, strict=True):
            scores, likelihoods, weight = evaluate(cut)
            likelihood = shares @ likelihoods
            gain = likelihood - shares @ base
            error = gain.std() / np.sqrt(n_rows)
            sides = [max(crop[2] - crop[0], crop[3] - crop[1]) for crop, *_ in cut]
            side = np.median(np.array(sides) / rows.shorter_side)
            figures = map(float, (*scores, weight, likelihood.mean(), gain.mean(), error, side))
            tried.append(Candidate(setting, value, *figures))
        best = choose_candidate(tried)
        tried[best] = dataclasses.replace(tried[best], chosen=True)
        curve += tried
        rule = left_at[setting] = rules[best]
    return rule, curve


def choose_candidate(tried: Sequence[Candidate]) -> int:
    """Return the place of the chosen candidate among those of one setting, the configured value first.

    The best one is chosen if it is clearly better; otherwise the first of :data:`_EASIER` that is better by
    its number of standard errors.
    """
    if best := clearly_best([one.score for one in tried], [one.error for one in tried], _CLEARLY):
        return best
    place_of = {(one.setting, one.value): place for place, one in enumerate(tried)}
    for value, by in _EASIER.items():
        place = place_of.get(value, 0)
        if tried[place].score > tried[0].score + by * tried[place].error:
            return place
    return 0
