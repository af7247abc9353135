"""Draw coats and jackets of any length with three kinds of lapel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, curve, join, resample, symmetric
from .cloth import Cloth, darker
from .figure import HIP, WAIST, Figure

LAPELS = ("notched", "collarless", "shawl")


@dataclass(frozen=True)
class Coat:
    """A coat or jacket; lengths in heads.

    Attributes
    ----------
    lapel : str
        One of LAPELS.
    width : float
        Width of the lapel.
    cloth, facing : Cloth
        Of the coat and of its lapels.
    close : float
        y where the fronts meet.
    gap : float
        Half the opening at the hem.
    hem : float
        y of the lower edge.
    flare : float
        Increase of half the width per length below the hip.
    belt : bool
    buttons : int
        0 none, 1 one row, 2 double-breasted.
    sleeve : float
        See Top.
    """

    lapel: str
    width: float
    cloth: Cloth
    facing: Cloth
    close: float
    gap: float
    hem: float
    flare: float
    belt: bool
    buttons: int
    sleeve: float


def _outer_edge(coat: Coat) -> list[tuple[float, float]]:
    """Return the right silhouette from the armpit to the hem."""
    waist = 0.50 if coat.belt else 0.58
    points = [(0.69, 2.12), (0.67, 2.35), (waist + 0.02, min(WAIST, coat.hem - 0.2))]
    if coat.hem > WAIST + 0.3:
        points.append((0.75, min(HIP, coat.hem)))
    if coat.hem > HIP + 0.3:
        points.append((0.76 + coat.flare * (coat.hem - HIP), coat.hem))
    elif coat.hem <= WAIST + 0.3:
        points[-1] = (waist + 0.06, coat.hem)
    return points


def _inner_edge(coat: Coat) -> np.ndarray:
    """Return the right edge of the opening from the side of the neck to the hem."""
    at_close = -0.05 if coat.gap == 0 else 0.35 * coat.gap
    if coat.lapel == "collarless" and coat.width < 0.2:  # a round neck, closed high
        upper = curve((0.235, 1.37), (0.20, 1.50), (0.10, 1.60), (min(at_close, 0.05), 1.64))
        return join(upper, [(at_close, coat.close), (coat.gap, coat.hem + 0.03)])
    return join(
        curve((0.20, 1.30), (0.17 + 0.3 * at_close, 1.62), (at_close, coat.close)),
        (coat.gap, coat.hem + 0.03),
    )


def draw_coat_behind(canvas: Canvas, figure: Figure, coat: Coat) -> None:
    """Draw the inner side of the back, visible through the opening and between the legs."""
    edge = _outer_edge(coat)
    inside = symmetric(
        join(
            curve((0, 1.19), (0.20, 1.22), (0.25, 1.40)),
            [(0.70, 1.55)],
            curve(*edge),
            curve((edge[-1][0] - 0.01, coat.hem - 0.06), (0, coat.hem - 0.04)),
        )
    )
    canvas.fill(figure.px(inside), coat.cloth.inside, volume=0.2)


def draw_coat(canvas: Canvas, figure: Figure, coat: Coat) -> None:
    """Draw fronts, lapels, pockets, buttons and belt; sleeves are drawn later."""
    edge = _outer_edge(coat)
    silhouette = join([(0.72, 1.50), (0.78, 1.66)], curve((0.74, 1.9), *edge))
    if figure.from_behind:
        back = symmetric(
            join(curve((0, 1.42), (0.22, 1.38), (0.72, 1.50)), silhouette, [(0, coat.hem + 0.05)])
        )
        canvas.fill(figure.px(back), coat.cloth, volume=0.36, folds=0.8)
        canvas.stroke(figure.px(curve((0, 1.45), (0.01, 2.6), (0, coat.hem))), coat.cloth.line, 0.9)
        band = symmetric(curve((0, 1.17), (0.2, 1.2), (0.28, 1.38), (0.18, 1.5), (0, 1.53)))
        if coat.lapel != "collarless":
            canvas.fill(figure.px(band), coat.facing, volume=0.3, shadow=0.3)
        return
    inner = _inner_edge(coat)
    panel = join(
        (0.24, 1.375),
        silhouette,
        curve((edge[-1][0], coat.hem), (0.3, coat.hem + 0.04), inner[-1]),
        inner[::-1],
    )
    for side in (-1, 1):
        shape = panel * (side, 1)
        canvas.fill(figure.px(shape), coat.cloth, volume=0.38, folds=0.8, shadow=0.35, line=1.2)
        _draw_pocket(canvas, figure, coat, side)
        if coat.hem > 4.6:
            fold = curve((0.42 * side, 3.7), (0.46 * side, 4.6), (0.48 * side, coat.hem - 0.1))
            canvas.stroke(figure.px(fold), coat.cloth.crease, 0.9)
        _draw_buttons(canvas, figure, coat, side)
    for side in (-1, 1):
        {"notched": _notched, "collarless": _collarless, "shawl": _shawl}[coat.lapel](
            canvas, figure, coat, inner, side
        )
    if coat.belt and coat.hem > WAIST + 0.3:
        _draw_belt(canvas, figure, coat)


def _draw_pocket(canvas, figure, coat, side) -> None:
    if coat.hem < 3.7:
        return
    flap = np.array([(0.27, 3.46), (0.56, 3.40), (0.57, 3.50), (0.28, 3.56)]) * (side, 1)
    canvas.fill(figure.px(flap), coat.cloth, volume=0.1, shadow=0.25, line=1.0)


def _draw_buttons(canvas, figure, coat, side) -> None:
    if coat.buttons == 0 or (coat.buttons == 1 and side < 0):
        return
    x = 0.02 if coat.buttons == 1 and coat.gap < 0.1 else coat.gap + (0.06 if coat.buttons == 1 else 0.17)
    colour = coat.cloth.line
    for y in np.arange(max(coat.close, 1.75) + 0.1, min(coat.hem - 0.2, 4.6), 0.36):
        at = figure.px((x * side, y))[0]
        canvas.dot(at, 0.042 * canvas.unit, darker(colour, 0.7))
        canvas.dot(at, 0.03 * canvas.unit, darker(colour, 1.25))


def _upper_inner(inner: np.ndarray, coat: Coat) -> np.ndarray:
    """Return the part of the opening's edge that carries a lapel, from neck to closing, (20, 2)."""
    return resample(inner[inner[:, 1] <= coat.close + 1e-6], np.linspace(0, 1, 20))


def _notched(canvas, figure, coat, inner, side) -> None:
    """Draw a lapel and a collar that meet in a notch."""
    w = coat.width
    edge = _upper_inner(inner, coat)
    tip, notch, corner = (0.24 + w, 1.90), (0.18 + 0.52 * w, 1.87), (0.24 + 0.78 * w, 1.68)
    gorge = (0.155, 1.60)
    lapel = join(
        edge[edge[:, 1] > 1.58],
        curve(edge[-1], (edge[-1, 0] + 0.62 * w, 0.5 * (edge[-1, 1] + 2.0)), tip),
        [notch, gorge],
    )
    collar = join(
        [gorge, notch, corner],
        curve(corner, (0.36, 1.50), (0.30, 1.32), (0.195, 1.19)),
        curve((0.175, 1.23), (0.17, 1.42), gorge),
    )
    canvas.fill(figure.px(lapel * (side, 1)), coat.facing, volume=0.2, shadow=0.4, line=1.5)
    canvas.fill(figure.px(collar * (side, 1)), coat.facing, volume=0.22, shadow=0.4, line=1.5)


def _shawl(canvas, figure, coat, inner, side) -> None:
    """Draw one continuous roll from the neck to the closing."""
    edge = _upper_inner(inner, coat)
    s = np.linspace(0, 1, len(edge))
    bulge = coat.width * np.interp(s, [0, 0.1, 0.3, 0.5, 0.75, 1], [0.30, 0.62, 0.97, 1.0, 0.66, 0.0])
    outer = edge + np.stack([bulge, 0.22 * bulge + 0.10 * (1 - s)], axis=1)
    back = curve(edge[0] + (-0.005, -0.10), edge[0] + (0.10, 0.0), outer[1])
    roll = join(back, curve(*outer[1::3], edge[-1]), edge[::-1])
    canvas.fill(figure.px(roll * (side, 1)), coat.facing, volume=0.3, shadow=0.45, line=1.5)
    middle = 0.5 * edge + 0.5 * outer
    canvas.soft(figure.px(join(edge, middle[::-1]) * (side, 1)), 0.10, 0.03)


def _collarless(canvas, figure, coat, inner, side) -> None:
    """Draw an edge without lapel, with braid on a coat that has buttons."""
    canvas.stroke(
        figure.px(inner * (side, 1)),
        coat.facing.colour if coat.buttons else coat.cloth.line,
        3.0 if coat.buttons else 1.6,
    )
    canvas.stroke(figure.px((inner + (0.06, 0.03)) * (side, 1)), coat.cloth.line, 0.9)


def _draw_belt(canvas, figure, coat) -> None:
    belt = symmetric(
        join(curve((0, 2.95), (0.3, 2.94), (0.53, 2.90)), curve((0.54, 3.06), (0.3, 3.10), (0, 3.11)))
    )
    canvas.fill(figure.px(belt), coat.facing, volume=0.2, shadow=0.3, line=1.1)
    for x in (0.10, 0.02):
        tail = curve((0.05, 3.03), (x + 0.06, 3.3), (x + 0.10, 3.62), (x + 0.01, 3.64), (x, 3.3), (0.0, 3.05))
        canvas.fill(figure.px(tail), coat.facing, volume=0.2, shadow=0.2, line=1.0)
    knot = curve((-0.06, 2.94), (0.10, 2.95), (0.11, 3.10), (-0.05, 3.11), (-0.06, 2.94))
    canvas.fill(figure.px(knot), coat.facing, volume=0.3, shadow=0.3, line=1.1)
