"""``boxes.csv``: the box of every picture, the file that stage 3 and people read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from learning.views import framed
from runfolder.files import write_table
from stage2_crop.rule import Crop, CropRule, find_crop


def find_crops(heatmaps: np.ndarray, sizes: np.ndarray, fit: str, rule: CropRule) -> list[Crop]:
    """Apply one rule to many heatmaps.

    Parameters
    ----------
    heatmaps : ndarray of float, shape (N, h, w)
    sizes : ndarray of int, shape (N, 2)
        Width and height of each picture in pixels.
    fit : {'stretch', 'pad'}
        How stage 1 framed the pictures.
    """
    found = []
    for heatmap, (width, height) in zip(heatmaps, sizes.tolist(), strict=True):
        view = framed((0, 0, width, height), fit)
        found.append(find_crop(heatmap, (view.x0, view.y0, view.x1, view.y1), width, height, rule))
    return found


def write_boxes(
    path: Path, images: Sequence[str], splits: Sequence[str], crops: Sequence[Crop], rule: CropRule
) -> None:
    """Write image,split,x0,y0,x1,y1,threshold,margin,fallback,score, one row a picture."""
    boxes = np.array([c.box for c in crops]).reshape(-1, 4)
    table = pd.DataFrame({"image": list(images), "split": list(splits)})
    for column, name in enumerate(("x0", "y0", "x1", "y1")):
        table[name] = boxes[:, column]
    table["threshold"], table["margin"] = rule.threshold, rule.margin
    table["fallback"] = [c.fallback for c in crops]
    table["score"] = [f"{c.score:.4f}" for c in crops]
    write_table(path, table)
