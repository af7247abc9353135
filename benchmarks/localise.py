"""How well heatmaps find the true region, whatever rule cuts them (rendered data).

Measures of Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right" (CVPR 2020 and
the extension of 2022): a box per threshold, each measure with the threshold that serves it best.
"""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.arms import squares
from heatcrop.metrics.localisation import iou
from heatcrop.training.views import framed
from stage2_crop.component import components, scale_heat, upsample
from stage2_crop.rule import GRID

LEVELS = (0.3, 0.5, 0.7)
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))


def max_box_accuracy(best_iou: np.ndarray) -> dict[str, float]:
    """MaxBoxAccV2 from the IoU of each picture's best box at each threshold.

    Parameters
    ----------
    best_iou : ndarray of float, shape (T, N)

    Returns
    -------
    dict
        One entry an IoU level (the best threshold's share of pictures that reach it) and their mean.

    Examples
    --------
    >>> max_box_accuracy(np.array([[0.9, 0.2], [0.4, 0.6]]))
    {'iou_0.3': 1.0, 'iou_0.5': 0.5, 'iou_0.7': 0.5, 'max_box_acc_v2': 0.6666666666666666}
    """
    found = {f"iou_{level}": float((best_iou >= level).mean(axis=1).max()) for level in LEVELS}
    return {**found, "max_box_acc_v2": float(np.mean(list(found.values())))}


def heat_iou(heatmaps: np.ndarray, sizes: np.ndarray, fit: str, truth: np.ndarray) -> np.ndarray:
    """IoU of each picture's best component with the true box, at each threshold, (T, N)."""
    out = np.zeros((len(THRESHOLDS), len(heatmaps)))
    for n, (heatmap, (width, height)) in enumerate(zip(heatmaps, sizes.tolist(), strict=True)):
        view = framed((0, 0, width, height), fit)
        heat = upsample(scale_heat(heatmap), GRID)
        scale = np.array([view.width, view.height] * 2) / GRID
        for t, threshold in enumerate(THRESHOLDS):
            found = components(heat, threshold)
            if found:
                boxes = np.array([c.box for c in found]) * scale + [view.x0, view.y0] * 2
                boxes = np.clip(boxes, 0, [width, height] * 2)
                out[t, n] = iou(boxes, np.tile(truth[n], (len(boxes), 1))).max()
    return out


def square_iou(centres: np.ndarray, sizes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The same for squares around fixed centres, of every side instead of every threshold."""
    return np.array(
        [iou(squares(centres, np.full(len(sizes), side), sizes).astype(float), truth) for side in THRESHOLDS]
    )


def pointing(heatmaps: np.ndarray, sizes: np.ndarray, fit: str, truth: np.ndarray) -> float:
    """Share of pictures whose hottest place lies in the true box (Zhang et al., ECCV 2016)."""
    hottest = []
    for heatmap, (width, height) in zip(heatmaps, sizes.tolist(), strict=True):
        view = framed((0, 0, width, height), fit)
        heat = cv2.resize(heatmap.astype(np.float32), (GRID, GRID))
        row, column = np.unravel_index(int(heat.argmax()), heat.shape)
        x = view.x0 + (column + 0.5) / GRID * view.width
        y = view.y0 + (row + 0.5) / GRID * view.height
        hottest.append((x / width, y / height))
    return point_hits(np.array(hottest).reshape(-1, 2), sizes, truth)


def point_hits(points: np.ndarray, sizes: np.ndarray, truth: np.ndarray) -> float:
    """Share of points, (N, 2) as shares of width and height, that lie in the true boxes."""
    pixels = points * sizes
    return float(((truth[:, :2] <= pixels) & (pixels <= truth[:, 2:])).all(axis=1).mean())
