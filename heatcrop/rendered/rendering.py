"""One picture: plan, pose, frame, draw, photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from heatcrop.data.tasks import FASHIONAI

from . import accessories
from .canvas import SUPERSAMPLE, Canvas
from .cloth import weave
from .figure import Figure
from .framing import choose_unit, frame, pose, region
from .lengths import label
from .recipes import Plan, choose_hiding, plan
from .scene import draw_background, draw_banner, photograph, sticker
from .wardrobe import choose_palette, draw_dressed

_CLASS_COUNTS = {task.name: len(task.classes) for task in FASHIONAI}


@dataclass(frozen=True)
class Rendering:
    """A picture and what is known about it.

    Attributes
    ----------
    picture : (side_px, side_px, 3) uint8 RGB
    label : one letter a class, ``y`` yes, ``m`` maybe, ``n`` no
    box : x0, y0, x1, y1 in pixels of the picture, x1/y1 exclusive, clipped to it: the part the
        task asks about, hidden or not; None when nothing of it is in the picture
    """

    picture: np.ndarray
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
        Side of the picture in pixels, at least 32.

    Returns
    -------
    Rendering

    Examples
    --------
    >>> drawn = render("collar_design_labels", 1, seed=7, side_px=64)
    >>> drawn.picture.shape, drawn.label
    ((64, 64, 3), 'nynnn')
    """
    if task not in _CLASS_COUNTS:
        raise ValueError(f"unknown task {task!r}; the demo draws {', '.join(_CLASS_COUNTS)}")
    if not 0 <= class_index < _CLASS_COUNTS[task]:
        raise ValueError(f"class_index {class_index} of {task}: expected 0 to {_CLASS_COUNTS[task] - 1}")
    if side_px < 32:
        raise ValueError(f"side_px {side_px}: expected at least 32")
    rng = np.random.default_rng(seed)
    side = side_px * SUPERSAMPLE
    hide = choose_hiding(rng, task) if class_index == 0 else None
    unit = choose_unit(rng, task, hide, side)
    palette = choose_palette(rng)
    made = plan(rng, task, class_index, hide, unit, palette)
    figure, held = pose(rng, task, made, unit)
    part = region(task, figure, made.outfit)
    shift = frame(rng, task, made, figure, part, side)
    figure, part = replace(figure, origin=(float(shift[0]), float(shift[1]))), part + shift

    canvas = Canvas(side_px, unit, float(rng.choice([-1.0, 1.0])) * rng.uniform(0.4, 1.0), rng)
    feet = figure.px((0.0, 8.1))[0]
    draw_background(
        canvas, rng, choose_palette(rng) if rng.random() < 0.5 else palette, (feet[1] - 0.5 * unit) / side
    )
    angle = np.linspace(0, 2 * np.pi, 17)
    canvas.soft(feet + unit * np.stack([0.9 * np.cos(angle), 0.16 * np.sin(angle)], axis=1), 0.45, 0.12)
    draw_dressed(canvas, figure, made.outfit)
    if held is not None:
        thing, centre, size = held
        cloth = weave(
            rng,
            unit,
            palette[rng.integers(1, 5)],
            palette[0],
            None if thing in ("clutch", "book") else "plain",
        )
        accessories.draw_held(canvas, rng, figure, thing, cloth, centre, size)
    _draw_foreground(canvas, rng, made, figure, part, palette)
    picture = photograph(canvas, rng)
    return Rendering(picture, label(_CLASS_COUNTS[task], class_index, made.near), _clipped_box(part, side_px))


def _clipped_box(part: np.ndarray, side_px: int) -> tuple[int, int, int, int] | None:
    low = np.clip(np.floor(part.min(axis=0) / SUPERSAMPLE), 0, side_px).astype(int)
    high = np.clip(np.ceil(part.max(axis=0) / SUPERSAMPLE), 0, side_px).astype(int)
    if (high <= low).any():
        return None
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _draw_foreground(canvas: Canvas, rng, made: Plan, figure: Figure, part: np.ndarray, palette) -> None:
    """What stands before the figure: hiding its part, or beside it."""
    side, unit = canvas.side, canvas.unit
    low, high = np.clip(part.min(axis=0), 0, side), np.clip(part.max(axis=0), 0, side)
    if made.hide in ("plant", "suitcase"):
        at = figure.px((0.0, made.hem))[0]
        if made.hide == "plant":
            accessories.draw_plant(canvas, rng, at + (0, 0.12 * unit), unit * rng.uniform(2.3, 2.8))
        else:
            accessories.draw_suitcase(
                canvas,
                rng,
                at,
                unit * rng.uniform(2.3, 2.7),
                weave(rng, unit, palette[2], palette[0], "plain"),
            )
    elif made.hide == "sticker":
        middle, reach = 0.5 * (low + high), 0.55 * (high - low)
        if made.hem is not None:
            middle, reach = figure.px((0.0, made.hem))[0], np.array([1.3, 0.6]) * unit
        sticker(canvas, rng, palette, (*(middle - reach), *(middle + reach)), bar=True)
    elif made.hem is not None and rng.random() < 0.18:
        x = low[0] - 0.9 * unit if rng.random() < 0.5 else high[0] + 0.9 * unit
        at = np.array([x, figure.px((0.0, 7.4))[0, 1]])
        if rng.random() < 0.6:
            accessories.draw_plant(canvas, rng, at, unit * rng.uniform(1.3, 2.2))
        else:
            accessories.draw_suitcase(
                canvas,
                rng,
                at,
                unit * rng.uniform(1.3, 1.9),
                weave(rng, unit, palette[2], palette[0], "plain"),
            )
    for _ in range(int(rng.choice([0, 1, 2], p=[0.6, 0.28, 0.12]))):
        draw_banner(canvas, rng, palette, (*low, *high))
