"""Draw outlines, strokes and shadows on a supersampled canvas.

The canvas has twice the side of the final image; :meth:`Canvas.finish` shrinks it, which smooths every edge.
Points are ``ndarray of float, shape (N, 2)`` with columns x, y in canvas pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .cloth import Cloth

SUPERSAMPLE = 2
_NEUTRAL = 200  # the value of an 8-bit shade map that leaves a colour as it is


def _spline_weights(steps: int) -> np.ndarray:
    """Catmull-Rom weights of four control points, (steps, 4)."""
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[:, None]
    powers = np.concatenate([np.ones_like(t), t, t**2, t**3], axis=1)
    basis = 0.5 * np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])
    return powers @ basis


_WEIGHTS = _spline_weights(8)


def curve(*points: Sequence[float] | np.ndarray) -> np.ndarray:
    """Interpolate a smooth open curve through `points` (two points: a straight line), (N, 2)."""
    p = np.asarray(points, dtype=float)
    if len(p) < 3:
        return p
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    groups = np.stack([p[:-3], p[1:-2], p[2:-1], p[3:]], axis=1)  # (segments, 4, 2)
    smooth = np.einsum("sk,gkd->gsd", _WEIGHTS, groups).reshape(-1, 2)
    return np.concatenate([smooth, p[-2:-1]])


def join(*paths) -> np.ndarray:
    """Concatenate curves and single points; corners arise where they meet."""
    return np.concatenate([np.atleast_2d(np.asarray(path, dtype=float)) for path in paths])


def mirror(points: np.ndarray) -> np.ndarray:
    """Mirror a path at x = 0 and reverse its direction."""
    return np.asarray(points, dtype=float)[::-1] * (-1.0, 1.0)


def symmetric(right: np.ndarray) -> np.ndarray:
    """Close a right half (from the upper middle to the lower middle) with its mirror image."""
    return join(right, mirror(right))


def ellipse(x: float, y: float, radius_x: float, radius_y: float, count: int = 25) -> np.ndarray:
    """Return `count` points on an ellipse around (x, y), (count, 2)."""
    angle = np.linspace(0, 2 * np.pi, count)
    return np.stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)], axis=1)


def resample(path: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the points at `shares` (0-1, of the number of points) of a path, (len(shares), 2)."""
    knots = np.linspace(0, 1, len(path))
    return np.stack([np.interp(shares, knots, path[:, k]) for k in (0, 1)], axis=1)


def end_axes(centre: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the direction of a limb's end, and half its width across, each (2,)."""
    along = centre[-1] - centre[-2]
    along /= max(np.linalg.norm(along), 1e-9)
    return along, np.array([-along[1], along[0]]) * radius[-1]


def tube(centre: np.ndarray, radius: np.ndarray, round_start: bool = False) -> np.ndarray:
    """Outline a limb along `centre` (N, 2) with a half width `radius` (N,) at each point.

    The outline begins and ends at the limb's start, so that an open stroke along it leaves the start without
    a line. `round_start` caps the start with a half circle.
    """
    along = np.gradient(centre, axis=0)
    length = np.maximum(np.linalg.norm(along, axis=1), 1e-9)
    along /= length[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    bend = np.gradient(np.unwrap(np.arctan2(along[:, 1], along[:, 0]))) / length
    most = 0.8 / np.maximum(np.abs(bend), 1e-9)  # the inner side of a bend must not fold over itself
    inner = np.minimum(radius, most)
    left = centre + across * np.where(bend > 0, inner, radius)[:, None]
    right = centre - across * np.where(bend < 0, inner, radius)[:, None]
    if not round_start:
        return join(left, right[::-1])
    angle = np.linspace(0, np.pi, 9)[1:-1, None]
    cap = centre[0] - (np.cos(angle) * across[0] + np.sin(angle) * along[0]) * radius[0]
    return join(centre[0] - along[0] * radius[0], cap[4:], left, right[::-1], cap[:3])


class Canvas:
    """Hold the pixels of an image while it is drawn.

    Parameters
    ----------
    side_px : int
        Side of the finished image in pixels.
    unit : float
        One head height of the figure in canvas pixels; line widths and blurs are proportional to it.
    light : float
        Direction of the light, from -1.0 (left) to 1.0 (right).
    rng : numpy.random.Generator
        Used for the folds of cloth only.
    """

    def __init__(self, side_px: int, unit: float, light: float, rng: np.random.Generator):
        self.side = side_px * SUPERSAMPLE
        self.pixels = np.zeros((self.side, self.side, 3), np.uint8)
        self.unit, self.light, self.rng = unit, light, rng

    def window(self, points: np.ndarray, pad: float = 3) -> tuple[int, int, int, int] | None:
        """Return the rectangle x0, y0, x1, y1 around `points`, clipped to the canvas; None if it is empty."""
        low = np.clip(np.floor(points.min(axis=0) - pad), 0, self.side).astype(int)
        high = np.clip(np.ceil(points.max(axis=0) + pad), 0, self.side).astype(int)
        if (high - low < 2).any():
            return None
        return low[0], low[1], high[0], high[1]

    def fill(
        self,
        points,
        cloth: Cloth,
        *,
        volume=0.3,
        folds=0.0,
        shadow=0.0,
        line=1.0,
        closed=True,
        line_colour=None,
        form=None,
    ) -> None:
        """Fill an outline with cloth, shade it as a round body, and draw its edge.

        Parameters
        ----------
        points : ndarray of float, shape (N, 2)
            Outline in canvas pixels.
        cloth : Cloth
        volume : float
            Darkness of the side that is turned from the light, 0-1.
        folds : float
            Strength of random vertical folds, 0-1.
        shadow : float
            Strength of the shadow on the pixels around the outline, 0-1.
        line : float
            Width of the edge in hundredths of a head; 0 for none.
        closed : bool
            False leaves the edge between the last and the first point open.
        line_colour : Colour, optional
            Colour of the edge; the cloth's own by default.
        form : ndarray of float, shape (M, 2), optional
            Outline of the body that `points` is a part of; shading it as one body leaves no seam.
        """
        reach = 0.14 * self.unit if shadow else 3
        box = self.window(points if form is None else form, reach)
        if box is None:
            return
        x0, y0, x1, y1 = box
        view = self.pixels[y0:y1, x0:x1]
        mask = _mask(points, box)
        if shadow or volume or folds:
            quarter = (max(1, (x1 - x0) // 4), max(1, (y1 - y0) // 4))
            shaded = mask if form is None else _mask(form, box)
            small = cv2.resize(shaded, quarter, interpolation=cv2.INTER_AREA)
        if shadow:
            _multiply(view, 1 - shadow * self._blurred(small, 0.045, (0.03 * -self.light, 0.05)))
        texture = cloth.texture(x0, y0, x1 - x0, y1 - y0)
        if volume or folds:
            _multiply(texture, self._shade(small, volume, folds))
        cv2.copyTo(texture, mask, view)
        if line:
            self.stroke(points, line_colour or cloth.line, line, closed=closed)

    def _blurred(self, small, sigma_heads, shift_heads=(0.0, 0.0)) -> np.ndarray:
        """Blur and move a quarter-size mask; lengths in heads, result 0-1."""
        blur = blurred(small, sigma_heads * self.unit / 4)
        return _moved(blur, shift_heads[0] * self.unit / 4, shift_heads[1] * self.unit / 4) / np.float32(255)

    def _shade(self, small, volume, folds) -> np.ndarray:
        blur = self._blurred(small, 0.12)
        away, step = 0.10 * self.light * self.unit / 4, 0.03 * self.unit / 4
        inside, lit = _moved(blur, away, -step), _moved(blur, -away, step)
        shade = 0.98 - volume * (1 - inside) + 0.10 * volume * (inside - lit)
        if folds:
            height, width = small.shape
            cells = (
                max(3, int(0.55 * height * 4 / self.unit) + 2),
                max(4, int(5.0 * width * 4 / self.unit) + 3),
            )
            noise = self.rng.normal(0, 1, cells).astype(np.float32)
            shade += 0.07 * folds * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        return shade

    def stroke(self, points, colour, width=1.0, closed=False) -> None:
        """Draw a line along `points`; `width` in hundredths of a head."""
        thickness = max(1, int(round(width * 0.014 * self.unit)))
        fixed = np.round(np.asarray(points) * 16).astype(np.int32)
        cv2.polylines(self.pixels, [fixed], closed, colour, thickness, cv2.LINE_AA, shift=4)

    def dot(self, point, radius, colour) -> None:
        """Draw a filled circle; `radius` in canvas pixels."""
        centre = tuple(int(round(v * 16)) for v in point)
        cv2.circle(self.pixels, centre, int(radius * 16), colour, -1, cv2.LINE_AA, shift=4)

    def soft(self, points, strength: float, sigma_heads: float, colour=None) -> None:
        """Draw a blurred patch that darkens by `strength`, or tints with `colour` at that opacity."""
        box = self.window(points, 3 * sigma_heads * self.unit)
        if box is None:
            return
        x0, y0, x1, y1 = box
        view = self.pixels[y0:y1, x0:x1]
        small = np.zeros((max(1, (y1 - y0) // 4), max(1, (x1 - x0) // 4)), np.uint8)
        cv2.fillPoly(small, [np.round((points - (x0, y0)) * 4).astype(np.int32)], 255, shift=4)
        cover = strength * self._blurred(small, sigma_heads)
        if colour is None:
            _multiply(view, 1 - cover)
        else:
            opacity = cv2.resize(cover, (x1 - x0, y1 - y0))[..., None]
            view[:] = view + (np.array(colour, np.float32) - view) * opacity

    def finish(self) -> np.ndarray:
        """Return the finished image, ndarray of uint8 RGB, shape (side_px, side_px, 3)."""
        side = self.side // SUPERSAMPLE
        return cv2.resize(self.pixels, (side, side), interpolation=cv2.INTER_AREA)


def _mask(points: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Return a uint8 mask of the rectangle `box`: 255 inside the outline, 0 outside."""
    x0, y0, x1, y1 = box
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [np.round((points - (x0, y0)) * 16).astype(np.int32)], 255, shift=4)
    return mask


def blurred(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Approximate a Gaussian blur with two box blurs, whose time does not grow with `sigma_px`."""
    side = 2 * int(round(0.9 * sigma_px)) + 1
    for _ in range(2):
        image = cv2.blur(image, (side, side), borderType=cv2.BORDER_REPLICATE)
    return image


def _moved(mask: np.ndarray, x: float, y: float) -> np.ndarray:
    """Shift a mask by integer pixels; the edge is repeated."""
    x, y = int(round(x)), int(round(y))
    if x == 0 and y == 0:
        return mask
    height, width = mask.shape
    rows = np.clip(np.arange(height) - y, 0, height - 1)
    columns = np.clip(np.arange(width) - x, 0, width - 1)
    return mask[rows[:, None], columns]


def _multiply(view: np.ndarray, factor: np.ndarray) -> None:
    """Multiply an image in place by a smaller map of factors (0 to 1.27)."""
    shade = np.clip(factor * _NEUTRAL, 0, 255).astype(np.uint8)
    shade = cv2.resize(shade, (view.shape[1], view.shape[0]), interpolation=cv2.INTER_LINEAR)
    cv2.multiply(view, cv2.merge([shade, shade, shade]), dst=view, scale=1 / _NEUTRAL)
