"""Compute the boxes of the controls, which crop without the heatmap.

Each has the size of the method's own crops of the same task, so that only the place differs. The true
boxes, which no method can know, are the exception.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from heatcrop.runs.predictions import is_uncropped
from stage2_crop.rule import usual_box
from stage2_crop.square import circumscribed_square, move_inside, widen


def sides_of(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the longer side of (N, 4) boxes as a share of the image's shorter side, (N,)."""
    return (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / sizes.min(axis=1)


def squares(centres: np.ndarray, sides: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Place squares inside their images.

    Parameters
    ----------
    centres : ndarray of float, shape (N, 2)
        x, y as shares of width and height.
    sides : ndarray of float, shape (N,)
        As shares of the shorter side.
    sizes : ndarray of int, shape (N, 2)
        Width, height in pixels.

    Returns
    -------
    ndarray of int, shape (N, 4)

    Examples
    --------
    >>> squares(np.array([[0.5, 0.5], [0, 0]]), np.array([0.5, 0.1]), np.array([[200, 100]] * 2)).tolist()
    [[75, 25, 125, 75], [0, 0, 10, 10]]
    """
    places = zip(*centres.T.tolist(), sides.tolist(), strict=True)
    boxes = [usual_box(place, *size) for place, size in zip(places, sizes.tolist(), strict=True)]
    return np.array(boxes, np.int64).reshape(-1, 4)


def typical_crops(
    sides: np.ndarray, fallback: np.ndarray, splits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the training rows whose crops give a fixed box its place, and the median side for all N images.

    `sides` (N,) are those of the method's crops. Crops at the usual place count, full images do not, and
    neither do those of test images. Without any crop, all training rows and the full image's side are taken.
    """
    cropped = ~is_uncropped(fallback) & (splits != "test")
    fitted = np.flatnonzero(cropped & (splits == "train"))
    side = np.median(sides[cropped]) if cropped.any() else 1.0
    return fitted if len(fitted) else np.flatnonzero(splits == "train"), np.full(len(sides), side)


def centre_boxes(sides: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return a square in the middle of every image, (N, 4)."""
    return squares(np.full((len(sizes), 2), 0.5), sides, sizes)


def fixed_boxes(
    middle: Callable[..., np.ndarray],
    boxes: np.ndarray,
    fitted: np.ndarray,
    sides: np.ndarray,
    sizes: np.ndarray,
) -> np.ndarray:
    """Return squares at the mean or median place of the method's crops of the `fitted` rows, (N, 4)."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / sizes
    return squares(np.tile(middle(centres[fitted], axis=0), (len(sizes), 1)), sides, sizes)


def random_boxes(sides: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return squares at uniformly random places with the method's own sides permuted, (N, 4)."""
    sides = rng.permutation(sides)
    half = np.minimum(sides[:, None] * sizes.min(axis=1)[:, None] / 2 / sizes, 0.5)
    return squares(half + rng.uniform(size=(len(sizes), 2)) * (1 - 2 * half), sides, sizes)


def jittered(
    boxes: np.ndarray, sizes: np.ndarray, spread: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Vary squares for training as stage 2 varies the usual place, (N, count, 4).

    Each side is multiplied by 1 - 2 `spread` to 1 + 2 `spread`, evenly, and the middle stays, unless the
    square reaches beyond the image, whose `sizes` (N, 2) are in pixels. A box that is the full image stays.
    """
    full = (boxes == np.concatenate([np.zeros_like(sizes), sizes], axis=1)).all(axis=1)
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2 / sizes, sides_of(boxes, sizes)
    out = np.stack(
        [
            squares(centres, sides * (1 + 2 * rng.uniform(-spread, spread, len(boxes))), sizes)
            for _ in range(count)
        ],
        axis=1,
    )
    out[full] = boxes[full][:, None]
    return out


def true_squares(boxes: np.ndarray, sizes: np.ndarray, margin: float = 0.1) -> np.ndarray:
    """Return squares around the true regions, and the full image where there is none (NaN), (N, 4)."""
    out = np.concatenate([np.zeros_like(sizes), sizes], axis=1).astype(np.int64)
    for i in np.flatnonzero(~np.isnan(boxes[:, 0])):
        square = widen(circumscribed_square(tuple(boxes[i])), margin)
        out[i] = move_inside(square, *sizes[i].tolist())
    return out


def moved_to(truth: np.ndarray, boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Move squares to the middles of the true regions, (N, 4).

    Those of images without a region (NaN) stay, and so do boxes that are the full image.
    """
    full = (boxes == np.concatenate([np.zeros_like(sizes), sizes], axis=1)).all(axis=1)
    moved, out = np.flatnonzero(~np.isnan(truth[:, 0]) & ~full), boxes.copy()
    centres = (truth[moved, :2] + truth[moved, 2:]) / 2 / sizes[moved]
    out[moved] = squares(centres, sides_of(boxes, sizes)[moved], sizes[moved])
    return out
