"""Views: which rectangle of an image a network sees, and how it becomes the network's input.

The full image, a crop, a random resized crop, a test-time corner and their mirrors are all the same: a
rectangle in the image's pixels and a flip. Heatmaps are mapped back the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

_GREY = 128
"""Of the area outside an image."""


@dataclasses.dataclass(frozen=True)
class View:
    """A rectangle in an image's pixels, x1/y1 exclusive, which `flip` mirrors left to right after cutting.

    The rectangle may reach beyond the image; mid-grey fills the outside.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    flip: bool = False

    @property
    def box(self) -> tuple[float, float, float, float]:
        return self.x0, self.y0, self.x1, self.y1

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0


@dataclasses.dataclass(frozen=True)
class TestViews:
    """Test-time augmentation.

    Attributes
    ----------
    scales : tuple of float
        The image is scaled to this multiple of the input side, and windows of the input side are cut; 1 is
        the image itself.
    grid : int
        Windows per row and column at scales above 1 (3 gives nine crops); a single one shows the middle.
    flip : bool
        Add the mirror of each.
    """

    __test__ = False
    scales: Annotated[tuple[Annotated[float, Field(ge=1, le=10)], ...], Field(min_length=1)] = (1.0,)
    grid: Annotated[int, Field(ge=1, le=100)] = 3
    flip: bool = True

    def unit(self) -> list[View]:
        """List the views of a unit square, plain ones first, then their mirrors.

        The first one, which validates, is the entire square, or without scale 1 the most central window.
        """
        views = []
        for scale in self.scales:
            share = 1000 / round(1000 * scale)
            if share >= 1:
                views.append(View(0, 0, 1, 1))
                continue
            places = np.linspace(0, 1 - share, self.grid).tolist() if self.grid > 1 else [(1 - share) / 2]
            views += [View(x, y, x + share, y + share) for y in places for x in places]
        first = min(views, key=lambda v: (v.width < 1, abs(v.x0 + v.x1 - 1) + abs(v.y0 + v.y1 - 1)))
        views.insert(0, views.pop(views.index(first)))
        return views + ([dataclasses.replace(v, flip=True) for v in views] if self.flip else [])

    def single(self) -> TestViews:
        """Return the plan of one view: the entire square, or at the least of greater scales the middle."""
        return TestViews((min(self.scales),), grid=1, flip=False)

    def on(self, view: View) -> list[View]:
        """List the views of an image's base view."""
        x, y, w, h = view.x0, view.y0, view.width, view.height
        return [View(x + u.x0 * w, y + u.y0 * h, x + u.x1 * w, y + u.y1 * h, u.flip) for u in self.unit()]


def framed(box: Iterable[float], fit: str) -> View:
    """Frame a box (x0, y0, x1, y1) for a square input.

    With `fit` ``stretch`` the view is exactly the box and its aspect is distorted; ``pad`` grows the shorter
    side evenly, so that lengths keep their proportion.
    """
    x0, y0, x1, y1 = map(float, box)
    if fit == "stretch":
        return View(x0, y0, x1, y1)
    if fit != "pad":
        raise ValueError(f"fit is {fit!r}; expected 'stretch' or 'pad'")
    side = max(x1 - x0, y1 - y0)
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    return View(cx - side / 2, cy - side / 2, cx + side / 2, cy + side / 2)


def sample(image: np.ndarray, view: View, side_px: int) -> np.ndarray:
    """Cut a view out of an (H, W, 3) uint8 image and scale it to (side_px, side_px, 3)."""
    height, width = image.shape[:2]
    x0, y0 = int(np.floor(view.x0)), int(np.floor(view.y0))
    x1, y1 = max(x0 + 1, int(np.ceil(view.x1))), max(y0 + 1, int(np.ceil(view.y1)))
    inner = image[max(0, y0) : max(0, min(height, y1)), max(0, x0) : max(0, min(width, x1))]
    if inner.size == 0:
        return np.full((side_px, side_px, 3), _GREY, np.uint8)
    scale_x, scale_y = side_px / (x1 - x0), side_px / (y1 - y0)
    # Scale the image's part, then lay it on the canvas: padding first would scale grey in vain.
    left, right = round((max(0, x0) - x0) * scale_x), round((min(width, x1) - x0) * scale_x)
    top, bottom = round((max(0, y0) - y0) * scale_y), round((min(height, y1) - y0) * scale_y)
    size = (max(1, right - left), max(1, bottom - top))
    shrinks = inner.shape[1] > size[0] and inner.shape[0] > size[1]
    scaled = cv2.resize(inner, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if view.flip:
        scaled = scaled[:, ::-1]
        left = side_px - left - size[0]
    if size == (side_px, side_px):
        return np.ascontiguousarray(scaled)
    canvas = np.full((side_px, side_px, 3), _GREY, np.uint8)
    left, top = min(max(left, 0), side_px - size[0]), min(max(top, 0), side_px - size[1])
    canvas[top : top + size[1], left : left + size[0]] = scaled
    return canvas
