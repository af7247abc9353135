"""The crop rule: which box a heatmap gives, or why the image is not cropped."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from stage2_crop.component import choose, components, scale_heat, upsample
from stage2_crop.plan import CropRule
from stage2_crop.square import Box, circumscribed_square, move_inside, widen

GRID = 112
"""Side of the grid that maps are upsampled to: a position is under 1 % of the image's side."""
_LEAST_PRIOR = 1e-6


NO_CROP = ("flat", "empty", "tiny", "huge")
"""Fallbacks that the heatmap is the reason for."""


@dataclasses.dataclass(frozen=True)
class Crop:
    """What the rule decided for one image."""

    box: tuple[int, int, int, int]
    """(x0, y0, x1, y1) in pixels of the image, x1/y1 exclusive."""
    fallback: str
    """'' for a heatmap crop; 'usual' for the attribute's usual place; otherwise why the box is the full
    image: flat, empty, tiny, huge, invisible, off."""
    score: float
    """Share of the map's heat inside the chosen component, 0..1; 0 for a fallback."""


def is_flat(heatmap: np.ndarray, least_contrast: float) -> bool:
    """Return whether a map's peak hardly exceeds its median."""
    heat = np.sort(np.asarray(heatmap, np.float32), axis=None)  # NaN last
    low, top = float(heat[0]), float(heat[-1])
    middle = float(heat[(len(heat) - 1) // 2] + heat[len(heat) // 2]) / 2
    spread = max(abs(low), abs(top))
    return not np.isfinite(spread) or spread <= 1e-12 or top - middle < least_contrast * spread


def find_crop(
    heatmap: np.ndarray,
    frame: Box,
    width: int,
    height: int,
    rule: CropRule,
    invisible: bool = False,
) -> Crop:
    """Find the box that a heatmap gives.

    Parameters
    ----------
    heatmap : ndarray of float, shape (h, w)
        Class activation map; any scale, negative values allowed.
    frame : tuple (x0, y0, x1, y1)
        The rectangle of the image, in its pixels, that the map covers; may extend beyond the image where
        the network's input was padded.
    width, height : int
        Of the image, in pixels.
    rule : CropRule
    invisible : bool
        Whether the full-image network predicts that the attribute is invisible.
    """
    uncropped = (0, 0, width, height)
    if not rule.enabled:
        return Crop(uncropped, "off", 0.0)
    gone = invisible and rule.invisible != "crop"
    if (gone and rule.invisible == "whole") or (gone and rule.usual is None):
        return Crop(uncropped, "invisible", 0.0)
    if rule.usual is not None and (gone or rule.place == "fixed"):
        return Crop(usual_box(rule.usual, width, height), "usual", 0.0)
    if is_flat(heatmap, rule.least_contrast):
        return Crop(uncropped, "flat", 0.0)
    heat = weigh_heat(heatmap, frame, width, height, rule)
    threshold = rule.threshold * float(heat.max())
    if threshold <= 0:
        return Crop(uncropped, "empty", 0.0)
    fx0, fy0, fx1, fy1 = frame
    step_x, step_y = (fx1 - fx0) / GRID, (fy1 - fy0) / GRID
    chosen = choose(components(heat, threshold), rule.by, rule.together)
    if chosen is None:
        return Crop(uncropped, "empty", 0.0)
    if chosen.area < rule.least_area:
        return Crop(uncropped, "tiny", 0.0)
    x0, y0, x1, y1 = chosen.box
    box = (fx0 + x0 * step_x, fy0 + y0 * step_y, fx0 + x1 * step_x, fy0 + y1 * step_y)
    square = widen(circumscribed_square(box), rule.margin, rule.least_side * min(width, height))
    left, top, right, bottom = inside = move_inside(square, width, height)
    if math.sqrt((right - left) * (bottom - top) / (width * height)) > rule.greatest_side:
        return Crop(uncropped, "huge", 0.0)
    return Crop(inside, "", chosen.mass)


def weigh_heat(heatmap: np.ndarray, frame: Box, width: int, height: int, rule: CropRule) -> np.ndarray:
    """Scale and upsample a heatmap, and multiply it by the location prior.

    Returns (GRID, GRID) float32 in 0..1, and 0 outside the image. The parameters are those of
    :func:`find_crop`.
    """
    heat = upsample(scale_heat(heatmap, rule.percentile), GRID)
    x, y = grid_positions(frame)
    heat *= ((y >= 0) & (y <= height))[:, None] & ((x >= 0) & (x <= width))
    if rule.prior is None or not rule.prior_weight:
        return heat
    return heat * location_prior(rule.prior, frame, width, height) ** rule.prior_weight


def grid_positions(frame: Box) -> tuple[np.ndarray, np.ndarray]:
    """Return x of the grid's columns and y of its rows, (GRID,) each: their centres in the image's pixels.

    >>> x, y = grid_positions((0, 0, 112, 224))
    >>> x[:2].tolist(), y[:2].tolist()
    ([0.5, 1.5], [1.0, 3.0])
    """
    x0, y0, x1, y1 = frame
    centres = (np.arange(GRID) + 0.5) / GRID
    return x0 + centres * (x1 - x0), y0 + centres * (y1 - y0)


def usual_box(usual: tuple[float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    """Place the usual square, see :class:`stage2_crop.plan.CropRule`, in an image."""
    x, y, half = usual[0] * width, usual[1] * height, usual[2] * min(width, height) / 2
    return move_inside((x - half, y - half, x + half, y + half), width, height)


def location_prior(
    prior: tuple[float, float, float, float], frame: Box, width: int, height: int
) -> np.ndarray:
    """Compute the location prior at the grid positions of a frame, (GRID, GRID) float32 in 0..1.

    `prior` holds mean and standard deviation of a Gaussian, see :class:`stage2_crop.plan.CropRule`.
    """
    x, y = grid_positions(frame)
    mean_x, mean_y, spread_x, spread_y = prior
    along_x = np.exp(-(((x / width - mean_x) / spread_x) ** 2) / 2)
    along_y = np.exp(-(((y / height - mean_y) / spread_y) ** 2) / 2)
    # Not 0 anywhere: a map that is hot only far away keeps its component.
    return np.asarray(np.maximum(along_y[:, None] * along_x, _LEAST_PRIOR), np.float32)
