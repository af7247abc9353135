"""Zoom: compute the heatmap once more, inside the surroundings of a first crop.

A network's map has as few positions for a small region of the full image as the region has of the image. The
same network that sees only the region's surroundings draws it several times as fine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heatcrop.training.views import TestViews
from stage2_crop.square import circumscribed_square, move_inside, widen

ZOOM_VIEWS = TestViews(flip=False)
"""One forward pass."""


def surroundings(boxes: Sequence[tuple[int, int, int, int]], sizes: np.ndarray, zoom: float) -> np.ndarray:
    """Widen boxes to `zoom` times their side and move them inside their images.

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
