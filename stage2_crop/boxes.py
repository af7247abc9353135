"""The boxes of many images by one rule, and ``boxes.csv``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.data.dataset import TaskData
from heatcrop.files import write_table
from heatcrop.training.views import TestViews, framed
from stage2_crop.plan import CropRule
from stage2_crop.rule import NO_CROP, Crop, find_crop, grid_positions, is_flat, usual_box, weigh_heat
from stage2_crop.square import Box, circumscribed_square, move_inside, widen

ZOOM_VIEWS = TestViews(flip=False)
"""Of `surroundings`: one forward pass."""
_LEAST_SPREAD = 0.05


@dataclasses.dataclass(frozen=True)
class Heatmaps:
    """Heatmaps of N images, and what a rule needs to know of the images."""

    maps: np.ndarray
    """(N, h, w) float."""
    sizes: np.ndarray
    """Width and height of each image in pixels, (N, 2) int."""
    fit: str
    """How stage 1 framed the images, see :func:`heatcrop.training.views.framed`."""
    invisible: np.ndarray
    """Where the attribute is predicted to be invisible, (N,) bool."""
    zoomed: np.ndarray | None = None
    """(N, h, w) float: heatmaps of `regions`, for rules that zoom."""
    regions: np.ndarray | None = None
    """(N, 4) int: the surroundings of a first crop, see :func:`surroundings`."""

    def __getitem__(self, rows: Any) -> Heatmaps:
        zoomed, regions = (None if one is None else one[rows] for one in (self.zoomed, self.regions))
        return Heatmaps(self.maps[rows], self.sizes[rows], self.fit, self.invisible[rows], zoomed, regions)


def concatenate(parts: Sequence[Heatmaps]) -> Heatmaps:
    """Join the heatmaps of several lots of images, which are all zoomed or none."""
    names = ("maps", "sizes", "invisible", "zoomed", "regions")
    found = {name: [getattr(part, name) for part in parts] for name in names}
    joined = {name: None if some[0] is None else np.concatenate(some) for name, some in found.items()}
    return Heatmaps(fit=parts[0].fit, **joined)  # type: ignore[arg-type]


def find_crops(heatmaps: Heatmaps, rule: CropRule) -> list[Crop]:
    """Apply one rule to many heatmaps: to the zoomed ones if it zooms, unless such a map gives no crop."""
    # A view of a memory map costs less to index.
    heatmaps = dataclasses.replace(heatmaps, maps=np.asarray(heatmaps.maps))
    return [_find(heatmaps, row, rule)[0] for row in range(len(heatmaps.maps))]


def deciding_heat(heatmaps: Heatmaps, row: int, rule: CropRule) -> tuple[np.ndarray, Box]:
    """Return the heat that the threshold was applied to, and the rectangle of the image that it covers.

    The heat is (GRID, GRID) float32, scaled so that its maximum is 1; all zero where there is none.
    """
    _, heatmap, frame = _find(heatmaps, row, rule)
    heat = weigh_heat(heatmap, frame, *heatmaps.sizes[row].tolist(), rule)
    return heat / max(float(heat.max()), 1e-12), frame


def _find(heatmaps: Heatmaps, row: int, rule: CropRule) -> tuple[Crop, np.ndarray, Box]:
    """Apply a rule to one image; return the crop, the map that it came from, and what that covers."""
    size, invisible = heatmaps.sizes[row].tolist(), bool(heatmaps.invisible[row])
    if rule.zoom and heatmaps.zoomed is not None and heatmaps.regions is not None:
        heatmap = np.asarray(heatmaps.zoomed[row])
        frame = framed(heatmaps.regions[row].tolist(), heatmaps.fit).box
        crop = find_crop(heatmap, frame, *size, rule, invisible)
        if crop.fallback not in NO_CROP:
            return crop, heatmap, frame
    heatmap, frame = heatmaps.maps[row], framed((0, 0, *size), heatmaps.fit).box
    return find_crop(heatmap, frame, *size, rule, invisible), heatmap, frame


def surroundings(boxes: Sequence[tuple[int, int, int, int]], sizes: np.ndarray, zoom: float) -> np.ndarray:
    """Widen boxes to `zoom` times their side and move them inside their images.

    A network's map has as few positions for a small region of the full image as the region has of the image.
    The same network that sees only the region's surroundings draws it several times as fine.

    Parameters
    ----------
    boxes : sequence of tuple of int (x0, y0, x1, y1)
        Of N images, in pixels.
    sizes : ndarray of int, shape (N, 2)
        Width and height of each image in pixels.
    zoom : float
        At least 1.

    Returns
    -------
    ndarray of int, shape (N, 4)

    Examples
    --------
    >>> surroundings([(40, 40, 60, 60), (0, 0, 20, 20)], np.array([[100, 100]] * 2), 2).tolist()
    [[30, 30, 70, 70], [0, 0, 40, 40]]
    """
    squares = (widen(circumscribed_square(box), (zoom - 1) / 2) for box in boxes)
    moved = [move_inside(square, *size) for square, size in zip(squares, sizes.tolist(), strict=True)]
    return np.array(moved, np.int64).reshape(-1, 4)


def predicted_boxes(boxes: np.ndarray, sizes: np.ndarray, rule: CropRule) -> np.ndarray:
    """Return the K boxes of each image whose logits stage 3 averages, (N, K, 4) int.

    `boxes` are the crops, (N, 4), and `sizes` the images' (N, 2) width and height in pixels. K is 2 for rules
    of both places, else 1.
    """
    if rule.place != "both" or rule.usual is None or not rule.enabled:
        return boxes[:, None]
    usual = [usual_box(rule.usual, *size) for size in sizes.tolist()]
    return np.stack([boxes, np.array(usual, boxes.dtype).reshape(-1, 4)], axis=1)


def complete_rule(rule: CropRule, heatmaps: Heatmaps) -> CropRule:
    """Complete a rule with the location prior and the attribute's usual place, where it does not know them.

    The usual place is the median, over the images whose heatmaps give a crop, of the crop's centre and side.
    Where no heatmap does, it stays unknown, and so does the prior where none has a location. The heatmaps
    must not be those of test images.
    """
    if rule.prior is None:
        rule = dataclasses.replace(rule, prior=fit_prior(heatmaps))
    if rule.usual is not None:
        return rule
    crops = find_crops(heatmaps, dataclasses.replace(rule, place="heatmap"))
    cut = np.array([not crop.fallback for crop in crops], bool)
    if not cut.any():
        return rule
    boxes, sizes = np.array([crop.box for crop in crops], np.float64)[cut], heatmaps.sizes[cut]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / sizes
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / sizes.min(axis=1)
    x, y, side = np.median(np.column_stack([centres, sides]), axis=0).tolist()
    return dataclasses.replace(rule, usual=(x, y, side))


def fit_prior(heatmaps: Heatmaps) -> tuple[float, float, float, float] | None:
    """Estimate where the attribute is in some images: mean and standard deviation of a Gaussian.

    Parameters
    ----------
    heatmaps : Heatmaps
        Not those of test images.

    Returns
    -------
    tuple of float (x, y, dx, dy), or None
        Shares of the image's width and height. Robust, since heat peaks at a wrong place in some images: the
        median of the peaks, and their median absolute deviation scaled to a Gaussian's standard deviation. To
        the variance of the peaks the median variance of the heat within an image is added, above half its
        maximum: the prior is that of all positions of a region, not of its middle. Heatmaps that are flat, or
        without heat inside the image, have no location and do not count; None where no other is left.
    """
    rule, found = CropRule(prior_weight=0.0), []
    for heatmap, size in zip(heatmaps.maps, heatmaps.sizes.tolist(), strict=True):
        frame = framed((0, 0, *size), heatmaps.fit).box
        heat = weigh_heat(np.asarray(heatmap), frame, *size, rule)
        if is_flat(heatmap, rule.least_contrast) or not heat.any():
            continue  # its first position would count as its peak
        x, y = grid_positions(frame)
        across, down = x / size[0], y / size[1]
        row, column = np.unravel_index(int(heat.argmax()), heat.shape)
        peak = across[column], down[row]
        heat = np.where(heat >= heat.max() / 2, heat, 0)
        total = max(float(heat.sum()), 1e-12)
        variance = (
            np.sum(heat.sum(axis=0) * (across - across[column]) ** 2) / total,
            np.sum(heat.sum(axis=1) * (down - down[row]) ** 2) / total,
        )
        found.append((peak, variance))
    if not found:
        return None
    peaks, within = np.array(found).swapaxes(0, 1)
    middle = np.median(peaks, axis=0)
    between = 1.4826 * np.median(np.abs(peaks - middle), axis=0)
    spread = np.maximum(np.hypot(between, np.sqrt(np.median(within, axis=0))), _LEAST_SPREAD)
    x, y, dx, dy = map(float, (*middle, *spread))
    return x, y, dx, dy


def jitter_boxes(
    heatmaps: Heatmaps, rule: CropRule, rows: np.ndarray, count: int, spread: float, seed: int
) -> np.ndarray:
    """Find (R, count, 4) int32 boxes of R images by rules around the chosen one, for training.

    A network that has seen one exact crop of each image generalises badly to a map that is a little hotter or
    cooler than those it was trained on, and the map of a new image always is. So the threshold is multiplied
    by 1 - `spread` to 1 + `spread`, and up to `spread` of the square's side is added to the margin or taken
    from it, both evenly; the usual place widens as the margin does, and keeps a tenth of its side. A box that
    would fall back where the chosen rule does not is replaced by the chosen rule's.
    """
    boxes = np.zeros((len(rows), count, 4), np.int32)
    for place, row in enumerate(rows.tolist()):
        one = heatmaps[row : row + 1]
        (plain,) = find_crops(one, rule)
        boxes[place] = plain.box
        if plain.fallback not in ("", "usual"):
            continue
        changes = np.random.default_rng((seed, row)).uniform(-spread, spread, (count, 2))
        for i, (warmer, wider) in enumerate(changes):
            threshold, margin = min(rule.threshold * (1 + warmer), 1.0), max(rule.margin + wider, 0.0)
            usual = rule.usual and (*rule.usual[:2], rule.usual[2] * max(1 + 2 * wider, 0.1))
            near = dataclasses.replace(rule, threshold=threshold, margin=margin, usual=usual)
            (crop,) = find_crops(one, near)
            if crop.fallback == plain.fallback:
                boxes[place, i] = crop.box
    return boxes


def write_boxes(
    path: Path, data: TaskData, rule: CropRule, boxes: np.ndarray, fallback: np.ndarray, score: np.ndarray
) -> None:
    """Write image,split,x0,y0,x1,y1,threshold,margin,fallback,score, one row an image of the data."""
    import pandas as pd  # not installed where only ONNX Runtime is

    table = pd.DataFrame({"image": list(data.images), "split": data.splits})
    table[["x0", "y0", "x1", "y1"]] = boxes
    table["threshold"], table["margin"] = rule.threshold, rule.margin
    table["fallback"], table["score"] = fallback, [f"{value:.4f}" for value in score]
    write_table(path, table)
