"""``boxes.csv``: the box of every picture, the file that stage 3 and people read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from heatcrop.files import ROWS_AT_ONCE, atomic_table
from heatcrop.training.views import framed
from stage2_crop.rule import Crop, CropRule, find_crop


def find_crops(
    heatmaps: np.ndarray, sizes: np.ndarray, fit: str, rule: CropRule, invisible: np.ndarray
) -> list[Crop]:
    """Apply one rule to many heatmaps.

    Parameters
    ----------
    heatmaps : ndarray of float, shape (N, h, w)
    sizes : ndarray of int, shape (N, 2)
        Width and height of each picture in pixels.
    fit : {'stretch', 'pad'}
        How stage 1 framed the pictures.
    invisible : ndarray of bool, shape (N,)
        Where the full image says that the attribute is not in the picture.
    """
    return list(map(crop_finder(heatmaps, sizes, fit, rule, invisible), range(len(heatmaps))))


def crop_finder(
    heatmaps: np.ndarray, sizes: np.ndarray, fit: str, rule: CropRule, invisible: np.ndarray
) -> Callable[[int], Crop]:
    """Make the function that applies the rule to the i-th of the same; threads may call it at once."""
    maps = np.asarray(heatmaps)  # of a memory map, a view that costs less to index

    def find(i: int) -> Crop:
        return _crop(maps[i], sizes[i].tolist(), fit, rule, bool(invisible[i]))

    return find


def _crop(heatmap: np.ndarray, size: tuple[int, int], fit: str, rule: CropRule, invisible: bool) -> Crop:
    width, height = size
    view = framed((0, 0, width, height), fit)
    return find_crop(heatmap, (view.x0, view.y0, view.x1, view.y1), width, height, rule, invisible)


def with_usual(
    rule: CropRule, heatmaps: np.ndarray, sizes: np.ndarray, fit: str, invisible: np.ndarray
) -> CropRule:
    """Complete a rule that wants the attribute's usual place and does not know it yet.

    The usual place is the median, over the pictures whose heatmaps give a crop, of the crop's centre and
    side. Where no heatmap does, it stays unknown and the whole picture is taken.

    Parameters
    ----------
    rule : CropRule
    heatmaps, sizes, fit, invisible
        Of the pictures to learn it from, as in :func:`find_crops`; no test pictures, please.
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
    """Cut some pictures by rules that lie around the chosen one, for training.

    A network that has only seen one exact cut is at a loss before a map that is a little hotter or
    cooler than those it was trained on; and no map of a new picture is exactly like them.

    Parameters
    ----------
    rows : ndarray of int, shape (R,)
        Which pictures.
    count : int
        Boxes a picture.
    spread : float
        The threshold is multiplied by 1 - spread to 1 + spread, and up to `spread` of the square's
        side is added to the margin or taken from it, both evenly. The usual place widens as the margin does.

    Returns
    -------
    ndarray of int32, shape (R, count, 4)
        Other parameters are those of :func:`find_crops`. A cut that would fall back where the chosen
        rule does not is left out in favour of the chosen rule's.
    """
    boxes = np.zeros((len(rows), count, 4), np.int32)
    for place, row in enumerate(rows.tolist()):
        rng = np.random.default_rng((seed, row))
        one = (heatmaps[row], sizes[row].tolist(), fit)
        plain = _crop(*one, rule, bool(invisible[row]))
        for i, (warmer, wider) in enumerate(rng.uniform(-spread, spread, (count, 2))):
            near = dataclasses.replace(
                rule, threshold=min(rule.threshold * (1 + warmer), 1.0), margin=max(rule.margin + wider, 0.0)
            )
            if rule.usual is not None:
                near = dataclasses.replace(near, usual=(*rule.usual[:2], rule.usual[2] * (1 + 2 * wider)))
            crop = plain if plain.fallback not in ("", "usual") else _crop(*one, near, bool(invisible[row]))
            boxes[place, i] = crop.box if crop.fallback == plain.fallback else plain.box
    return boxes


def write_boxes(
    path: Path, images: Sequence[str], splits: Sequence[str], crops: Sequence[Crop], rule: CropRule
) -> None:
    """Write image,split,x0,y0,x1,y1,threshold,margin,fallback,score, one row a picture."""
    import pandas as pd  # pictures are predicted where it is not installed

    with atomic_table(path) as write:
        # At least once: a table without rows has a header all the same.
        for start in range(0, max(1, len(crops)), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            some = crops[rows]
            boxes = np.array([c.box for c in some]).reshape(-1, 4)
            table = pd.DataFrame({"image": list(images[rows]), "split": list(splits[rows])})
            for column, name in enumerate(("x0", "y0", "x1", "y1")):
                table[name] = boxes[:, column]
            table["threshold"], table["margin"] = rule.threshold, rule.margin
            table["fallback"] = [c.fallback for c in some]
            table["score"] = [f"{c.score:.4f}" for c in some]
            write(table)
