"""The one decision of stage 2: which box a heatmap asks for, or why the whole picture is taken."""

from __future__ import annotations

import dataclasses
import sys
from array import array
from collections.abc import Sequence
from typing import Annotated, Literal, overload

import numpy as np
from pydantic import Field

from stage2_crop.component import choose, components, scale_heat, upsample
from stage2_crop.square import circumscribed_square, move_inside, widen

GRID = 112
"""Side of the grid that maps are upsampled to: a position is under 1 % of the picture's side."""
_CENTRES = (np.arange(GRID) + 0.5) / GRID

Threshold = Annotated[float, Field(ge=1e-6, le=1)]
Margin = Annotated[float, Field(ge=0, le=10)]
Share = Annotated[float, Field(ge=0, le=1)]
GreatestSide = Annotated[float, Field(ge=1e-6, le=1000)]
UpTo1000 = Annotated[float, Field(ge=0, le=1000)]


@dataclasses.dataclass(frozen=True)
class CropRule:
    """How a heatmap becomes a box.

    Attributes
    ----------
    threshold : float
        Share of the map's reference that a position must reach, (0, 1].
    margin : float
        Added on each side, as a share of the square's side.
    percentile : float
        The map's reference, see :func:`stage2_crop.component.scale_heat`.
    by : {'area', 'mass'}
    together : float
        See :func:`stage2_crop.component.choose`.
    least_side, greatest_side : float
        Bounds of the crop's side as a share of the picture's shorter side. Below the first the
        square is widened to it. Above the second the crop would not enlarge anything: whole picture.
    least_area : float
        A component below this share of the map is noise: whole picture.
    least_contrast : float
        A map whose peak is not above its median by this share of its range says nothing about where:
        whole picture.
    invisible : {'whole', 'usual', 'crop'}
        What to cut where the full image says that the attribute is not in the picture: nothing, the place
        where the attribute usually lies, or what the heatmap asks for all the same. Cutting nothing shows
        the crop network nothing that the full image has not seen; the usual place is a second look.
    usual : tuple of float (x, y, side), or None
        The usual place: the square's centre as a share of the picture's width and height, and its side as
        a share of the shorter side. None until it is known, see :func:`stage2_crop.boxes.with_usual`.
    enabled : bool
        False: every picture whole, for tasks that no crop serves.
    """

    threshold: Threshold = 0.35
    margin: Margin = 0.1
    percentile: Annotated[float, Field(ge=0, le=100)] = 100.0
    by: Literal["area", "mass"] = "mass"
    together: Share = 0.0
    least_side: Share = 0.2
    greatest_side: GreatestSide = 0.95
    least_area: Share = 0.002
    least_contrast: UpTo1000 = 0.05
    invisible: Literal["whole", "usual", "crop"] = "whole"
    usual: tuple[UpTo1000, UpTo1000, UpTo1000] | None = None
    enabled: bool = True


@dataclasses.dataclass(frozen=True)
class Crop:
    """What the rule decided for one picture.

    Attributes
    ----------
    box : tuple of int (x0, y0, x1, y1)
        Pixels of the picture, x1/y1 exclusive.
    fallback : str
        '' for a heatmap crop; 'usual' for the attribute's usual place; otherwise why it is the whole
        picture: flat, empty, tiny, huge, invisible, off.
    score : float
        Share of the map's heat inside the chosen component, 0..1; 0 for a fallback.
    """

    box: tuple[int, int, int, int]
    fallback: str
    score: float


class Crops(Sequence[Crop]):
    """What the rule decided for many pictures, 32 bytes each."""

    def __init__(self) -> None:
        self._sides, self._scores = array("q"), array("d")
        self._fallbacks: list[str] = []

    def append(self, crop: Crop) -> None:
        self._sides.extend(crop.box)
        self._scores.append(crop.score)
        self._fallbacks.append(sys.intern(crop.fallback))

    def __len__(self) -> int:
        return len(self._scores)

    @overload
    def __getitem__(self, place: int) -> Crop: ...
    @overload
    def __getitem__(self, place: slice) -> list[Crop]: ...
    def __getitem__(self, place: int | slice) -> Crop | list[Crop]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place = range(len(self))[place]  # counts from the end below 0, IndexError beyond
        x0, y0, x1, y1 = self._sides[4 * place : 4 * place + 4]
        return Crop((x0, y0, x1, y1), self._fallbacks[place], self._scores[place])

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) int64."""
        return np.array(self._sides, np.int64).reshape(-1, 4)


def is_flat(heatmap: np.ndarray, least_contrast: float) -> bool:
    """Tell whether a map's peak hardly stands out from its median."""
    heat = np.sort(np.asarray(heatmap, np.float32), axis=None)  # NaN last
    low, top = float(heat[0]), float(heat[-1])
    middle = float(heat[(len(heat) - 1) // 2] + heat[len(heat) // 2]) / 2
    spread = max(abs(low), abs(top))
    return not np.isfinite(spread) or spread <= 1e-12 or top - middle < least_contrast * spread


def find_crop(
    heatmap: np.ndarray,
    frame: tuple[float, float, float, float],
    width: int,
    height: int,
    rule: CropRule,
    invisible: bool = False,
) -> Crop:
    """Find the box that a heatmap asks for.

    Parameters
    ----------
    heatmap : ndarray of float, shape (h, w)
        Class activation map; any scale, negative values allowed.
    frame : tuple (x0, y0, x1, y1)
        The rectangle of the picture, in its pixels, that the map covers; may reach beyond the
        picture where the network's input was padded.
    width, height : int
        Of the picture.
    rule : CropRule
    invisible : bool
        Whether the full image says that the attribute is not in the picture.

    Returns
    -------
    Crop
    """
    whole = (0, 0, width, height)
    if not rule.enabled:
        return Crop(whole, "off", 0.0)
    if invisible and rule.invisible != "crop":
        if rule.invisible == "whole" or rule.usual is None:
            return Crop(whole, "invisible", 0.0)
        return Crop(_usual_box(rule.usual, width, height), "usual", 0.0)
    if is_flat(heatmap, rule.least_contrast):
        return Crop(whole, "flat", 0.0)
    heat = upsample(scale_heat(heatmap, rule.percentile), GRID)
    fx0, fy0, fx1, fy1 = frame
    step_x, step_y = (fx1 - fx0) / GRID, (fy1 - fy0) / GRID
    _silence_padding(heat, frame, width, height)
    chosen = choose(components(heat, rule.threshold), rule.by, rule.together)
    if chosen is None:
        return Crop(whole, "empty", 0.0)
    if chosen.area < rule.least_area:
        return Crop(whole, "tiny", 0.0)
    x0, y0, x1, y1 = chosen.box
    box = (fx0 + x0 * step_x, fy0 + y0 * step_y, fx0 + x1 * step_x, fy0 + y1 * step_y)
    shorter = min(width, height)
    square = widen(circumscribed_square(box), rule.margin, rule.least_side * shorter)
    if square[2] - square[0] > rule.greatest_side * shorter:
        return Crop(whole, "huge", 0.0)
    return Crop(move_inside(square, width, height), "", chosen.mass)


def _usual_box(usual: tuple[float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    x, y, half = usual[0] * width, usual[1] * height, usual[2] * min(width, height) / 2
    return move_inside((x - half, y - half, x + half, y + half), width, height)


def _silence_padding(
    heat: np.ndarray, frame: tuple[float, float, float, float], width: int, height: int
) -> None:
    """Zero, in place, the grid positions whose centres lie outside the picture."""
    fx0, fy0, fx1, fy1 = frame
    if fx0 >= 0 and fy0 >= 0 and fx1 <= width and fy1 <= height:
        return
    y, x = fy0 + _CENTRES * (fy1 - fy0), fx0 + _CENTRES * (fx1 - fx0)
    heat[: np.count_nonzero(y < 0)] = 0
    heat[GRID - np.count_nonzero(y > height) :] = 0
    heat[:, : np.count_nonzero(x < 0)] = 0
    heat[:, GRID - np.count_nonzero(x > width) :] = 0
