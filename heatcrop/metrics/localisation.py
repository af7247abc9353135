"""How well crops contain the true regions, where these are known (rendered data)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heatcrop.data.dataset import TaskData

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is


def overlap(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Compute the areas of the intersections of (N, 4) boxes with (N, 4) boxes, row by row."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    return np.asarray(np.prod(np.maximum(high - low, 0).astype(np.float64), axis=1))


def area(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Compute the areas of (N, 4) boxes x0, y0, x1, y1."""
    return np.asarray(np.prod((boxes[:, 2:] - boxes[:, :2]).astype(np.float64), axis=1))


def iou(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Compute intersection over union of (N, 4) boxes with (N, 4) boxes, row by row.

    >>> iou(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2]])).round(4).tolist()
    [0.3333]
    """
    inter = overlap(a, b)
    return inter / np.maximum(area(a) + area(b) - inter, 1e-12)


def true_boxes(data: TaskData, table: pd.DataFrame) -> NDArray[np.float64]:
    """Select the true boxes of a task's images, (N, 4); NaN where the image shows no region.

    `table` has the columns ``image, task, x0, y0, x1, y1``.
    """
    known = table[table["task"] == data.task.name].drop_duplicates("image").set_index("image")
    return known.reindex(list(data.images))[["x0", "y0", "x1", "y1"]].to_numpy(np.float64)


def localisation(
    data: TaskData,
    uncropped: NDArray[np.bool_],
    boxes: NDArray[np.int64],
    table: pd.DataFrame,
    rows: NDArray[np.int64],
) -> dict[str, float]:
    """Score the crops of some `rows` against the true regions in a table, see `true_boxes`.

    `uncropped`, (N,), are images whose crop is the full image; `boxes`, (N, 4), are the crops.

    Returned are ``n``: rows with a region; ``inside``: share of regions entirely inside their crop;
    ``covered``: mean share of a region's area inside its crop; ``iou``: mean of region and crop;
    ``side_ratio``: median of the crop's side over the region's longer side; ``inside_cropped``: `inside`
    among cropped images.
    """
    truth = true_boxes(data, table)
    rows = rows[~np.isnan(truth[rows, 0])]
    if not len(rows):
        return {"n": 0}
    true, crop = truth[rows], boxes[rows].astype(np.float64)
    covered = overlap(true, crop) / area(true)
    inside = covered > 1 - 1e-9
    cropped = ~uncropped[rows]
    side = (crop[:, 2:] - crop[:, :2]).max(axis=1) / (true[:, 2:] - true[:, :2]).max(axis=1)
    return {
        "n": int(len(rows)),
        "inside": float(inside.mean()),
        "inside_cropped": float(inside[cropped].mean()) if cropped.any() else float("nan"),
        "covered": float(covered.mean()),
        "iou": float(iou(true, crop).mean()),
        "side_ratio": float(np.median(side)),
    }
