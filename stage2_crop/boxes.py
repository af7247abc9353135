"""The boxes of many images by one rule, and ``boxes.csv``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from heatcrop.data.dataset import TaskData
from heatcrop.files import write_table
from heatcrop.training.views import framed
from stage2_crop.plan import CropRule
from stage2_crop.rule import Crop, find_crop


def find_crops(
    heatmaps: np.ndarray, sizes: np.ndarray, fit: str, rule: CropRule, invisible: np.ndarray
) -> list[Crop]:
    """Apply one rule to many heatmaps.

    Parameters
    ----------
    heatmaps : ndarray of float, shape (N, h, w)
    sizes : ndarray of int, shape (N, 2)
        Width and height of each image in pixels.
    fit : {'stretch', 'pad'}
        How stage 1 framed the images, see :func:`heatcrop.training.views.framed`.
    invisible : ndarray of bool, shape (N,)
        Where the attribute is predicted to be invisible.
    """
    views = [framed((0, 0, width, height), fit) for width, height in sizes.tolist()]
    frames = [(view.x0, view.y0, view.x1, view.y1) for view in views]
    maps = np.asarray(heatmaps)  # a view of a memory map, which costs less to index
    rows = zip(maps, frames, sizes.tolist(), invisible.tolist(), strict=True)
    return [find_crop(one, frame, *size, rule, gone) for one, frame, size, gone in rows]


def complete_rule(
    rule: CropRule, heatmaps: np.ndarray, sizes: np.ndarray, fit: str, invisible: np.ndarray
) -> CropRule:
    """Complete a rule that needs the attribute's usual place and does not know it yet.

    The usual place is the median, over the images whose heatmaps give a crop, of the crop's centre and side.
    Where no heatmap does, it stays unknown and images are not cropped.

    Parameters
    ----------
    rule : CropRule
    heatmaps, sizes, fit, invisible
        Of the images to learn it from, as in :func:`find_crops`; none of the test split.
    """
    if rule.invisible != "usual" or rule.usual is not None:
        return rule
    crops = find_crops(heatmaps, sizes, fit, rule, invisible)
    cut = np.array([not crop.fallback for crop in crops], bool)
    if not cut.any():
        return rule
    boxes = np.array([crop.box for crop in crops], np.float64)[cut]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / sizes[cut]
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / sizes[cut].min(axis=1)
    x, y, side = np.median(np.column_stack([centres, sides]), axis=0).tolist()
    return dataclasses.replace(rule, usual=(x, y, side))


def jitter_boxes(
    heatmaps: np.ndarray,
    sizes: np.ndarray,
    fit: str,
    rule: CropRule,
    invisible: np.ndarray,
    rows: np.ndarray,
    count: int,
    spread: float,
    seed: int,
) -> np.ndarray:
    """Find boxes of some images by rules around the chosen one, for training.

    A network that has seen one exact crop of each image generalises badly to a map that is a little hotter or
    cooler than those it was trained on, and the map of a new image always is.

    Parameters
    ----------
    rows : ndarray of int, shape (R,)
        Which images.
    count : int
        Boxes of each image.
    spread : float
        The threshold is multiplied by 1 - spread to 1 + spread, and up to `spread` of the square's
        side is added to the margin or taken from it, both evenly. The usual place widens as the margin does.

    Returns
    -------
    ndarray of int32, shape (R, count, 4)
        Other parameters are those of :func:`find_crops`. A box that would fall back where the chosen
        rule does not is replaced by the chosen rule's.
    """
    boxes = np.zeros((len(rows), count, 4), np.int32)
    for place, row in enumerate(rows.tolist()):
        rng = np.random.default_rng((seed, row))
        one = (heatmaps[row : row + 1], sizes[row : row + 1], fit)
        plain = find_crops(*one, rule, invisible[row : row + 1])[0]
        boxes[place] = plain.box
        for i, (warmer, wider) in enumerate(rng.uniform(-spread, spread, (count, 2))):
            if plain.fallback not in ("", "usual"):
                continue
            near = dataclasses.replace(
                rule, threshold=min(rule.threshold * (1 + warmer), 1.0), margin=max(rule.margin + wider, 0.0)
            )
            if rule.usual is not None:
                near = dataclasses.replace(near, usual=(*rule.usual[:2], rule.usual[2] * (1 + 2 * wider)))
            crop = find_crops(*one, near, invisible[row : row + 1])[0]
            if crop.fallback == plain.fallback:
                boxes[place, i] = crop.box
    return boxes


def write_boxes(
    path: Path, data: TaskData, rule: CropRule, boxes: np.ndarray, fallback: np.ndarray, score: np.ndarray
) -> None:
    """Write image,split,x0,y0,x1,y1,threshold,margin,fallback,score, one row an image.

    Parameters
    ----------
    path : Path
    data : TaskData
        N images.
    rule : CropRule
    boxes : ndarray of int, shape (N, 4)
    fallback : ndarray of str, shape (N,)
    score : ndarray of float, shape (N,)
    """
    import pandas as pd  # not installed where only ONNX Runtime is

    table = pd.DataFrame({"image": list(data.images), "split": data.splits})
    table[["x0", "y0", "x1", "y1"]] = boxes
    table["threshold"], table["margin"] = rule.threshold, rule.margin
    table["fallback"], table["score"] = fallback, [f"{value:.4f}" for value in score]
    write_table(path, table)
