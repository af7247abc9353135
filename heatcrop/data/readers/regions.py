"""True regions: the boxes that annotation tools have around what shows a class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_PX = 1_000_000
"""A coordinate beyond it is no image's."""


@dataclass(frozen=True)
class Region:
    """A box of an image."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the image when it was annotated; (0, 0) when unknown."""

    @property
    def area(self) -> float:
        """Area in square pixels."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)

    @property
    def is_full(self) -> bool:
        """Whether the box is the full image, as of an image that was only classified."""
        return 0 < self.size[0] * self.size[1] <= self.area


def make_region(values: Sequence[object], size: tuple[int, int] = (0, 0)) -> tuple[Region | None, str]:
    """Make a region of x0, y0, x1, y1, cut off at the image's edges where its size is known.

    Returns the region, and the reason why there is none, or ``''``.

    >>> make_region((-2, 0, 6, "4"), (5, 9))[0]
    Region(box=(0.0, 0.0, 5.0, 4.0), size=(5, 9))
    >>> make_region((3, 0, 3, 4))[1]
    'the box 3, 0, 3, 4 (x0, y0, x1, y1) has no area inside the image'
    """
    shown = ", ".join(str(value)[:20] for value in values)
    try:
        x0, y0, x1, y1 = (float(value) for value in values)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None, f"the box {shown} is not four numbers; expected x0, y0, x1, y1 in pixels"
    if not all(abs(value) <= MOST_PX for value in (x0, y0, x1, y1)):
        return None, f"the box {shown} holds a number that is no pixel; expected x0, y0, x1, y1 in pixels"
    right, bottom = (side or math.inf for side in size)
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(right)), min(y1, float(bottom))
    if x0 >= x1 or y0 >= y1:
        return None, f"the box {shown} (x0, y0, x1, y1) has no area inside the image"
    return Region((x0, y0, x1, y1), size), ""


def around(points: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the box around points, given as x, y, x, y and so on.

    >>> around([3, 1, 5, 2, 4, 9])
    (3, 1, 5, 9)
    """
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])


def enclose(
    corner: tuple[float, float], width: float, height: float, degrees: float
) -> tuple[float, float, float, float]:
    """Return the box around a rectangle that is turned clockwise around a corner, its left upper one.

    >>> [round(value, 6) for value in enclose((10, 10), 4, 2, 90)]
    [8.0, 10.0, 10.0, 14.0]
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    right, down = (width * cos, width * sin), (-height * sin, height * cos)
    xs = [corner[0] + dx for dx in (0.0, right[0], down[0], right[0] + down[0])]
    ys = [corner[1] + dy for dy in (0.0, right[1], down[1], right[1] + down[1])]
    return min(xs), min(ys), max(xs), max(ys)


def turn(box: tuple[float, float, float, float], degrees: float) -> tuple[float, float, float, float]:
    """Return the box around a box that is turned clockwise around its centre.

    >>> [round(value, 6) for value in turn((0, 0, 4, 2), 90)]
    [1.0, -1.0, 3.0, 3.0]
    """
    if not degrees or not math.isfinite(degrees):
        return box
    x0, y0, x1, y1 = box
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    across, down = (x1 - x0) / 2, (y1 - y0) / 2
    corner = (x0 + across - across * cos + down * sin, y0 + down - across * sin - down * cos)
    return enclose(corner, x1 - x0, y1 - y0, degrees)
