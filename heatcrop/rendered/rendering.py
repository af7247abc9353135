"""Render one image: choose outfit, pose and frame, draw them, and add the effects of a camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from heatcrop.data.tasks import FASHIONAI

from . import accessories
from .canvas import SUPERSAMPLE, Canvas, ellipse
from .cloth import weave
from .figure import Figure
from .framing import choose_unit, frame, pose, region
from .lengths import label
from .recipes import Plan, choose_hiding, make_plan
from .scene import draw_background, draw_banner, draw_sticker, photograph
from .wardrobe import choose_palette, draw_dressed

_CLASS_COUNTS = {task.name: len(task.classes) for task in FASHIONAI}


@dataclass(frozen=True)
class Rendering:
    """An image, its label and its true region.

    Attributes
    ----------
    image : ndarray of uint8 RGB, shape (side_px, side_px, 3)
    label : str
        One letter a class: ``y`` yes, ``m`` maybe, ``n`` no.
    box : tuple of int or None
        x0, y0, x1, y1 of the region the task is about, hidden or not, in pixels of the image, x1 and y1
        exclusive, clipped to it; None when it lies outside.
    """

    image: np.ndarray
    label: str
    box: tuple[int, int, int, int] | None


def render(task: str, class_index: int, seed: int | Sequence[int], side_px: int = 512) -> Rendering:
    """Draw a dressed figure that shows one class of one task.

    Parameters
    ----------
    task : str
        A full name, such as ``"neck_design_labels"``.
    class_index : int
        Place of the class in the task's label; 0 is "Invisible".
    seed : int or sequence of int
        The same seed draws the same bytes.
    side_px : int
        Side of the image in pixels, at least 32.

    Returns
    -------
    Rendering

    Raises
    ------
    ValueError
        If an argument lies outside its range.

    Examples
    --------
    >>> drawn = render("collar_design_labels", 1, seed=7, side_px=64)
    >>> drawn.image.shape, drawn.label
    ((64, 64, 3), 'nynnn')
    """
    if task not in _CLASS_COUNTS:
        raise ValueError(f"unknown task {task!r}; expected one of {', '.join(_CLASS_COUNTS)}")
    if not 0 <= class_index < _CLASS_COUNTS[task]:
        raise ValueError(f"class_index {class_index} of {task}: expected 0 to {_CLASS_COUNTS[task] - 1}")
    if side_px < 32:
        raise ValueError(f"side_px {side_px}: expected at least 32")
    rng = np.random.default_rng(seed)
    side = side_px * SUPERSAMPLE
    hide = choose_hiding(rng, task) if class_index == 0 else None
    unit = choose_unit(rng, task, hide, side)
    palette = choose_palette(rng)
    plan = make_plan(rng, task, class_index, hide, unit, palette)
    figure, held = pose(rng, task, plan, unit)
    region_px = region(task, figure, plan.outfit)
    shift = frame(rng, task, plan, figure, region_px, side)
    figure, region_px = replace(figure, origin=(float(shift[0]), float(shift[1]))), region_px + shift

    canvas = Canvas(side_px, unit, float(rng.choice([-1.0, 1.0])) * rng.uniform(0.4, 1.0), rng)
    feet = figure.px((0.0, 8.1))[0]
    background = choose_palette(rng) if rng.random() < 0.5 else palette
    draw_background(canvas, rng, background, (feet[1] - 0.5 * unit) / side)
    canvas.soft(feet + unit * ellipse(0, 0, 0.9, 0.16, 17), 0.45, 0.12)
    draw_dressed(canvas, figure, plan.outfit)
    if held is not None:
        item, centre, size = held
        pattern = None if item in ("clutch", "book") else "plain"
        cloth = weave(rng, unit, palette[rng.integers(1, 5)], palette[0], pattern)
        accessories.draw_held(canvas, rng, figure, item, cloth, centre, size)
    _draw_foreground(canvas, rng, plan, figure, region_px, palette)
    image = photograph(canvas, rng)
    return Rendering(
        image, label(_CLASS_COUNTS[task], class_index, plan.near), _clipped_box(region_px, side_px)
    )


def _clipped_box(region_px: np.ndarray, side_px: int) -> tuple[int, int, int, int] | None:
    """Return the bounding box of canvas pixels in pixels of the image; None outside of it."""
    low = np.clip(np.floor(region_px.min(axis=0) / SUPERSAMPLE), 0, side_px).astype(int)
    high = np.clip(np.ceil(region_px.max(axis=0) / SUPERSAMPLE), 0, side_px).astype(int)
    if (high <= low).any():
        return None
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _draw_foreground(
    canvas: Canvas, rng: np.random.Generator, plan: Plan, figure: Figure, region_px: np.ndarray, palette
) -> None:
    """Draw obstacles and stickers before the figure: over its region to hide it, otherwise beside it."""
    side, unit = canvas.side, canvas.unit
    low, high = np.clip(region_px.min(axis=0), 0, side), np.clip(region_px.max(axis=0), 0, side)

    def draw_suitcase(at: np.ndarray, least: float, most: float) -> None:
        size = unit * rng.uniform(least, most)
        cloth = weave(rng, unit, palette[2], palette[0], "plain")
        accessories.draw_suitcase(canvas, rng, at, size, cloth)

    if plan.hide == "plant":
        at = figure.px((0.0, plan.hem))[0] + (0, 0.12 * unit)
        accessories.draw_plant(canvas, rng, at, unit * rng.uniform(2.3, 2.8))
    elif plan.hide == "suitcase":
        draw_suitcase(figure.px((0.0, plan.hem))[0], 2.3, 2.7)
    elif plan.hide == "sticker":
        middle, reach = 0.5 * (low + high), 0.55 * (high - low)
        if plan.hem is not None:
            middle, reach = figure.px((0.0, plan.hem))[0], np.array([1.3, 0.6]) * unit
        draw_sticker(canvas, rng, palette, (*(middle - reach), *(middle + reach)), bar=True)
    elif plan.hem is not None and rng.random() < 0.18:
        x = low[0] - 0.9 * unit if rng.random() < 0.5 else high[0] + 0.9 * unit
        at = np.array([x, figure.px((0.0, 7.4))[0, 1]])
        if rng.random() < 0.6:
            accessories.draw_plant(canvas, rng, at, unit * rng.uniform(1.3, 2.2))
        else:
            draw_suitcase(at, 1.3, 1.9)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.6, 0.28, 0.12]))):
        draw_banner(canvas, rng, palette, (*low, *high))
