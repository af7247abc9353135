"""Views: which rectangle of a picture a network looks at, and how it becomes the network's input.

The whole picture, a crop, a random resized crop, a test-time corner and their mirrors are all
one thing: a rectangle in the picture's pixels and a flip. Heatmaps travel back the same way.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np


@dataclasses.dataclass(frozen=True)
class View:
    """A rectangle in a picture's pixels, possibly mirrored.

    Attributes
    ----------
    x0, y0, x1, y1 : float
        Pixels, x1/y1 exclusive. The rectangle may reach beyond the picture; what lies outside
        is filled with mid-grey.
    flip : bool
        Mirror left to right after cutting.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    flip: bool = False

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0


def framed(box: tuple[float, float, float, float], fit: str) -> View:
    """Frame a box for a square input.

    Parameters
    ----------
    box : tuple (x0, y0, x1, y1)
        Pixels.
    fit : {'stretch', 'pad'}
        ``stretch`` shows exactly the box and distorts its aspect; ``pad`` grows the shorter side
        evenly, so that lengths keep their proportion.
    """
    x0, y0, x1, y1 = map(float, box)
    if fit == "stretch":
        return View(x0, y0, x1, y1)
    if fit != "pad":
        raise ValueError(f"fit is {fit!r}; expected 'stretch' or 'pad'")
    side = max(x1 - x0, y1 - y0)
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    return View(cx - side / 2, cy - side / 2, cx + side / 2, cy + side / 2)


def sample(picture: np.ndarray, view: View, side_px: int, fill: int = 128) -> np.ndarray:
    """Cut a view out of a picture and scale it to a square.

    Parameters
    ----------
    picture : ndarray of uint8, shape (H, W, 3)
    view : View
    side_px : int
        Side of the result.
    fill : int
        Grey level outside the picture.

    Returns
    -------
    ndarray of uint8, shape (side_px, side_px, 3)
    """
    height, width = picture.shape[:2]
    x0, y0 = int(np.floor(view.x0)), int(np.floor(view.y0))
    x1, y1 = max(x0 + 1, int(np.ceil(view.x1))), max(y0 + 1, int(np.ceil(view.y1)))
    inner = picture[max(0, y0) : max(0, min(height, y1)), max(0, x0) : max(0, min(width, x1))]
    if inner.size == 0:
        return np.full((side_px, side_px, 3), fill, np.uint8)
    scale_x, scale_y = side_px / (x1 - x0), side_px / (y1 - y0)
    # Scale what exists, then lay it on the canvas: padding first would scale grey for nothing.
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
    canvas = np.full((side_px, side_px, 3), fill, np.uint8)
    left, top = min(max(left, 0), side_px - size[0]), min(max(top, 0), side_px - size[1])
    canvas[top : top + size[1], left : left + size[0]] = scaled
    return canvas


def test_views(view: View, side_px: int, scales: tuple[int, ...], grid: int, flip: bool) -> list[View]:
    """List the views of test-time augmentation.

    Parameters
    ----------
    view : View
        What would be looked at without augmentation.
    side_px : int
        The network's input side.
    scales : tuple of int
        Sides in px to which the view would be scaled before a window of `side_px` is cut; a scale
        equal to `side_px` gives the view itself.
    grid : int
        Windows a row and a column at each larger scale (3 gives nine crops).
    flip : bool
        Add the mirror of each.

    Returns
    -------
    list of View
        Plain ones first, then their mirrors.
    """
    views = []
    for scale in scales:
        share = side_px / scale
        if share >= 1:
            views.append(view)
            continue
        for row in np.linspace(0, 1 - share, grid):
            for column in np.linspace(0, 1 - share, grid):
                x0, y0 = view.x0 + column * view.width, view.y0 + row * view.height
                views.append(View(x0, y0, x0 + share * view.width, y0 + share * view.height))
    return views + ([dataclasses.replace(v, flip=True) for v in views] if flip else [])


test_views.__test__ = False  # type: ignore[attr-defined]  # a name of the field, not a test of ours
