"""From a box to the square that is cropped: circumscribe, widen, move inside the image."""

from __future__ import annotations

import math

Box = tuple[float, float, float, float]


def circumscribed_square(box: Box) -> Box:
    """Grow the shorter side of a box evenly until it is a square.

    >>> circumscribed_square((10, 20, 30, 80))
    (-10.0, 20.0, 50.0, 80.0)
    """
    x0, y0, x1, y1 = box
    half = max(x1 - x0, y1 - y0) / 2
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    return cx - half, cy - half, cx + half, cy + half


def widen(square: Box, margin: float, least_px: float = 0.0) -> Box:
    """Widen a square around its centre.

    Parameters
    ----------
    square : tuple (x0, y0, x1, y1)
    margin : float
        On each side, as a share of the square's side.
    least_px : float
        The result's side is at least this.

    >>> widen((10, 10, 20, 20), 0.1)
    (9.0, 9.0, 21.0, 21.0)
    """
    x0, y0, x1, y1 = square
    half = max((x1 - x0) * (1 + 2 * margin), least_px) / 2
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    return cx - half, cy - half, cx + half, cy + half


def move_inside(square: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Move a square inside the image instead of cutting it off, and round it to integer pixels.

    Parameters
    ----------
    square : tuple (x0, y0, x1, y1)
        Pixels.
    width, height : int
        Of the image, in pixels.

    Returns
    -------
    tuple of int (x0, y0, x1, y1)
        Inside the image, x1/y1 exclusive. A square larger than the image's shorter side keeps its full
        extent along the longer one, so that nothing inside it is lost: it is then as wide (or as high)
        as the image and no longer a square.

    >>> move_inside((-10, 5, 30, 45), 100, 100)
    (0, 5, 40, 45)
    >>> move_inside((0, 0, 120, 120), 200, 100)
    (0, 0, 120, 100)
    """
    x0, y0, x1, y1 = square
    side = max(1, math.ceil(round(max(x1 - x0, y1 - y0), 6)))
    wide, high = min(side, width), min(side, height)
    left = min(max(round((x0 + x1 - wide) / 2), 0), width - wide)
    top = min(max(round((y0 + y1 - high) / 2), 0), height - high)
    return left, top, left + wide, top + high
