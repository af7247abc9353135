"""Measure how well heatmaps locate the true region, independent of the crop rule (rendered data).

References
----------
Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020, and the extension of
2022: one box a threshold, each metric with its best threshold.
Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016: the pointing game.
"""

from __future__ import annotations

import numpy as np

from benchmarks.arms import squares
from heatcrop.metrics.localisation import iou
from heatcrop.training.views import framed
from stage2_crop.component import components
from stage2_crop.plan import CropRule
from stage2_crop.rule import GRID, grid_positions, weigh_heat

LEVELS = (0.3, 0.5, 0.7)
THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))


def max_box_accuracy(best_iou: np.ndarray) -> dict[str, float]:
    """Compute MaxBoxAccV2 from the IoU of each image's best box at each threshold.

    Parameters
    ----------
    best_iou : ndarray of float, shape (T, N)

    Returns
    -------
    dict
        Share of images that reach each IoU level with its best threshold, and their mean.

    Examples
    --------
    >>> max_box_accuracy(np.array([[0.9, 0.2], [0.4, 0.6]]))
    {'iou_0.3': 1.0, 'iou_0.5': 0.5, 'iou_0.7': 0.5, 'max_box_acc_v2': 0.6666666666666666}
    """
    found = {f"iou_{level}": float((best_iou >= level).mean(axis=1).max()) for level in LEVELS}
    return {**found, "max_box_acc_v2": float(np.mean(list(found.values())))}


def heat_iou(heatmaps: np.ndarray, sizes: np.ndarray, fit: str, truth: np.ndarray) -> np.ndarray:
    """Compute the IoU of each image's best component with the true box, at each threshold, (T, N)."""
    out = np.zeros((len(THRESHOLDS), len(heatmaps)))
    for n, (heatmap, (width, height)) in enumerate(zip(heatmaps, sizes.tolist(), strict=True)):
        view = framed((0, 0, width, height), fit)
        heat = weigh_heat(heatmap, view.box, width, height, CropRule(prior_weight=0.0))
        scale = np.array([view.width, view.height] * 2) / GRID
        for t, threshold in enumerate(THRESHOLDS):
            found = components(heat, threshold * max(float(heat.max()), 1e-12))
            if found:
                boxes = np.array([c.box for c in found]) * scale + [view.x0, view.y0] * 2
                boxes = np.clip(boxes, 0, [width, height] * 2)
                out[t, n] = iou(boxes, np.tile(truth[n], (len(boxes), 1))).max()
    return out


def square_iou(centres: np.ndarray, sizes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Compute the IoU of squares around fixed centres, of each side instead of each threshold, (T, N)."""
    return np.array(
        [iou(squares(centres, np.full(len(sizes), side), sizes).astype(float), truth) for side in THRESHOLDS]
    )


def pointing(
    heatmaps: np.ndarray,
    sizes: np.ndarray,
    fit: str,
    truth: np.ndarray,
    regions: np.ndarray | None = None,
    rule: CropRule | None = None,
) -> float:
    """Compute the share of images whose heatmap's maximum lies in the true box.

    The maps cover the images or, with `regions` (N, 4), those; with a `rule` its location prior counts.
    """
    maxima = []
    rule = rule or CropRule(prior_weight=0.0)
    for i, (heatmap, (width, height)) in enumerate(zip(heatmaps, sizes.tolist(), strict=True)):
        frame = framed((0, 0, width, height) if regions is None else regions[i].tolist(), fit).box
        heat = weigh_heat(heatmap, frame, width, height, rule)
        row, column = np.unravel_index(int(heat.argmax()), heat.shape)
        x, y = grid_positions(frame)
        maxima.append((x[column] / width, y[row] / height))
    return point_hits(np.array(maxima).reshape(-1, 2), sizes, truth)


def point_hits(points: np.ndarray, sizes: np.ndarray, truth: np.ndarray) -> float:
    """Compute the share of points, (N, 2) in shares of width and height, that lie in the true boxes."""
    pixels = points * sizes
    return float(((truth[:, :2] <= pixels) & (pixels <= truth[:, 2:])).all(axis=1).mean())
