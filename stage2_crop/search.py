"""Choose a task's crop rule on validation, by fused AP.

One setting at a time, the others held: threshold, margin, least side, greatest side, what to do
where nothing is predicted to be visible, and whether to crop at all. Each candidate's crops are judged
by what they add to the full image: a linear probe on the crops' features, fused with stage 1's
predictions. Rows are training pictures whose heatmaps and predictions come from networks that had
not seen them, and validation pictures; no test picture is looked at.

Validation sets are small and the best of a dozen noisy figures is an optimist's choice. So a
candidate must be better than the configured value by more than two standard errors of the
difference: the one-standard-error rule (Breiman et al., "Classification and Regression Trees", 1984,
section 3.4.3), made stricter because a dozen differences are looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from heatcrop.metrics.fusion import fit_fusion, fuse
from heatcrop.metrics.score import average_precision
from heatcrop.training.probe import Box, probe_predictions
from stage2_crop.rule import CropRule, GreatestSide, Margin, Share, Threshold

_RESAMPLES = 200
_STANDARD_ERRORS = 2.0


@dataclasses.dataclass(frozen=True)
class SearchPlan:
    """Which rules are tried.

    Attributes
    ----------
    pictures : int
        How many pictures judge; 0 leaves the configured rule as it is.
    thresholds, margins, least_sides, greatest_sides : tuple of float
        Values tried beside the configured one, see :class:`CropRule`. Hotter thresholds and thinner
        margins than these often score a little higher still, by cutting into the region itself: the
        defaults stop where a person looking at the crops would.
    """

    pictures: Annotated[int, Field(ge=0, le=1_000_000_000)] = 400
    thresholds: Annotated[tuple[Threshold, ...], Field(min_length=1)] = (0.3, 0.45, 0.6)
    margins: Annotated[tuple[Margin, ...], Field(min_length=1)] = (0.1, 0.15, 0.3)
    least_sides: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.2, 0.35)
    greatest_sides: Annotated[tuple[GreatestSide, ...], Field(min_length=1)] = (0.6, 0.8, 0.95)

    def steps(self, names_invisible: bool) -> list[tuple[str, tuple[Any, ...]]]:
        """The settings in the order they are searched, each with its values."""
        steps: list[tuple[str, tuple[Any, ...]]] = [
            ("threshold", self.thresholds),
            ("margin", self.margins),
            ("least_side", self.least_sides),
            ("greatest_side", self.greatest_sides),
        ]
        if names_invisible:
            steps.append(("invisible", ("whole", "usual", "crop")))
        return [*steps, ("enabled", (True, False))]


@dataclasses.dataclass(frozen=True)
class Judged:
    """One candidate's figures; a row of ``rule.json``'s curve.

    Attributes
    ----------
    setting, value
        What was tried.
    crop_ap, fused_ap : float
        AP of the probe on the crops alone, and fused with the full image.
    weight : float
        Of the crops in the fusion.
    difference, error : float
        Mean and standard error (bootstrap over rows) of its fused AP less the configured value's.
    side : float
        Median side of its crops as a share of the picture's shorter side.
    chosen : bool
    """

    setting: str
    value: Any
    crop_ap: float
    fused_ap: float
    weight: float
    difference: float
    error: float
    side: float
    chosen: bool = False


@dataclasses.dataclass(frozen=True)
class Judges:
    """The rows that judge.

    Attributes
    ----------
    letters : ndarray of int8, shape (N, C)
    soft, full : ndarray of float, shape (N, C)
        Soft labels, and the full image's probabilities from networks that had not seen the rows.
    folds : ndarray of int, shape (N,)
        Of the probe.
    shorter_side : ndarray of int, shape (N,)
        Of each picture, in pixels.
    """

    letters: np.ndarray
    soft: np.ndarray
    full: np.ndarray
    folds: np.ndarray
    shorter_side: np.ndarray


def search_rule(
    start: CropRule,
    steps: Sequence[tuple[str, Sequence[Any]]],
    judges: Judges,
    boxes_of: Callable[[CropRule], Sequence[Box]],
    features_of: Callable[[Sequence[Sequence[Box]]], Sequence[np.ndarray]],
    seed: int = 0,
) -> tuple[CropRule, list[Judged]]:
    """Improve a rule one setting at a time.

    Parameters
    ----------
    start : CropRule
        The configured rule.
    steps : sequence of (setting, values)
    judges : Judges
        N rows.
    boxes_of : callable
        Given a rule, the N boxes that it cuts.
    features_of : callable
        Given some boxes of each of the N rows, their features, (K_i, F) each; never asked twice for the
        same box.

    Returns
    -------
    rule : CropRule
    curve : list of Judged
        Every candidate tried, in order.
    """
    known: list[dict[Box, np.ndarray]] = [{} for _ in judges.letters]
    resamples = np.random.default_rng(seed).integers(
        0, len(judges.letters), (_RESAMPLES, len(judges.letters))
    )
    figures: dict[tuple[Box, ...], tuple[np.ndarray, float, float, float]] = {}

    def learn(candidates: Sequence[Sequence[Box]]) -> None:
        missing = [
            list(dict.fromkeys(box for box in row if box not in known[i]))
            for i, row in enumerate(zip(*candidates, strict=True))
        ]
        for i, (new, found) in enumerate(zip(missing, features_of(missing), strict=True)):
            known[i].update(zip(new, found, strict=True))

    def judge(boxes: Sequence[Box]) -> tuple[np.ndarray, float, float, float]:
        key = tuple(boxes)
        if key not in figures:
            features = np.stack([known[i][box] for i, box in enumerate(boxes)])
            crop = probe_predictions(
                features, judges.letters.argmax(axis=1), judges.letters.shape[1], judges.folds
            )
            how = fit_fusion(judges.full, crop, judges.letters, judges.soft)
            fused = fuse(judges.full, crop, how)
            resampled = np.array([average_precision(fused[r], judges.letters[r]) for r in resamples])
            figures[key] = (
                resampled,
                average_precision(crop, judges.letters),
                average_precision(fused, judges.letters),
                how.weight,
            )
        return figures[key]

    rule, curve = start, []
    for setting, values in steps:
        if not rule.enabled:
            break
        values = [getattr(rule, setting), *(v for v in values if v != getattr(rule, setting))]
        rules = [dataclasses.replace(rule, **{setting: value}) for value in values]
        boxes = [list(boxes_of(one)) for one in rules]
        learn(boxes)
        base = judge(boxes[0])[0]
        tried = []
        for value, cut in zip(values, boxes, strict=True):
            resampled, crop_ap, fused_ap, weight = judge(cut)
            gain = resampled - base
            sides = np.array([box[2] - box[0] for box in cut]) / judges.shorter_side
            tried.append(
                Judged(
                    setting,
                    value,
                    crop_ap,
                    fused_ap,
                    weight,
                    float(gain.mean()),
                    float(gain.std()),
                    float(np.median(sides)),
                )
            )
        best = int(np.argmax([one.fused_ap for one in tried]))
        if tried[best].fused_ap - tried[0].fused_ap <= _STANDARD_ERRORS * tried[best].error:
            best = 0
        tried[best] = dataclasses.replace(tried[best], chosen=True)
        curve += tried
        rule = rules[best]
    return rule, curve
