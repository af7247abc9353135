"""Draw skirts, trousers and shoes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, curve, end_axes, join, symmetric, tube
from .cloth import Cloth
from .figure import CROTCH, HIP, WAIST, Figure, leg_radius

SKIRTS = ("pencil", "straight", "aline", "flared", "pleated", "tiered")
TROUSERS = ("skinny", "straight", "wide", "flared")
SHOES = ("pumps", "flats", "sneakers", "boots")


@dataclass(frozen=True)
class Bottom:
    """A skirt or trousers.

    Attributes
    ----------
    kind : str
        "skirt" or "pants".
    style : str
        One of SKIRTS or TROUSERS.
    hem : float
        y of a skirt's lower edge in heads, or where trousers end along the leg (0 hip, 1 knee, 2 ankle,
        3 ground).
    cloth : Cloth
    """

    kind: str
    style: str
    hem: float
    cloth: Cloth


def skirt_hem_width(style: str, hem: float) -> float:
    """Return half the width of a skirt at its hem, in heads."""
    drop = hem - HIP
    return {
        "pencil": 0.66 - 0.02 * drop,
        "straight": 0.69,
        "aline": 0.70 + 0.11 * drop,
        "flared": 0.72 + 0.24 * drop,
        "pleated": 0.70 + 0.16 * drop,
        "tiered": 0.70 + 0.17 * drop,
    }[style]


def draw_bottom(canvas: Canvas, figure: Figure, bottom: Bottom) -> None:
    """Draw a skirt or trousers."""
    (_draw_skirt if bottom.kind == "skirt" else _draw_trousers)(canvas, figure, bottom)


def _draw_skirt(canvas: Canvas, figure: Figure, skirt: Bottom) -> None:
    wide = skirt_hem_width(skirt.style, skirt.hem)
    full = skirt.style in ("flared", "pleated", "tiered", "aline")
    x = np.linspace(1, -1, 41)
    waves = {"flared": 4, "pleated": 9, "tiered": 6, "aline": 2}.get(skirt.style, 0)
    ripple = (0.05 if skirt.style != "pleated" else 0.025) * np.cos(x * np.pi * waves) * (waves > 0)
    hem = np.stack([wide * x, skirt.hem + 0.08 * (1 - x**2) - 0.04 + ripple], axis=1)
    hip = (0.70 if not full else 0.71, HIP)
    side = curve(
        (0.46, WAIST - 0.03),
        (0.58, 3.35),
        hip,
        (hip[0] + 0.5 * (wide - hip[0]), (HIP + skirt.hem) / 2),
        (wide, hem[0, 1]),
    )
    outline = join(side, hem[1:-1], (side * (-1, 1))[::-1])
    canvas.fill(figure.px(outline), skirt.cloth, volume=0.42, folds=0.9 if full else 0.5, shadow=0.25)
    dark = skirt.cloth.crease
    count = {"flared": 7, "pleated": 15, "tiered": 9, "aline": 3}.get(skirt.style, 0)
    for k in np.linspace(-0.86, 0.86, count) if count else ():
        top_y = 3.2 if skirt.style == "pleated" else 3.3 + 0.5 * abs(np.sin(9 * k))
        line = curve(
            (0.46 * k, top_y), (0.66 * k, HIP + 0.1), (wide * k * 0.99, skirt.hem - 0.03 + 0.08 * (1 - k**2))
        )
        canvas.stroke(figure.px(line), dark, 0.9)
    if skirt.style == "tiered":
        for share in (0.36, 0.7):
            y = HIP - 0.2 + share * (skirt.hem - HIP + 0.2)
            w = hip[0] + (wide - hip[0]) * share * 0.96
            canvas.stroke(figure.px(curve((-w, y), (0, y + 0.09), (w, y))), skirt.cloth.line, 1.4)
    if skirt.style in ("pencil", "straight"):
        canvas.stroke(figure.px(curve((0.02, 3.2), (0.03, CROTCH), (0.02, skirt.hem - 0.03))), dark, 0.7)
        canvas.stroke(figure.px(hem - (0, 0.09)), dark, 0.7)
    canvas.stroke(figure.px(hem), skirt.cloth.line, 1.4)
    _waistband(canvas, figure, skirt.cloth)


def _waistband(canvas, figure, cloth) -> None:
    band = symmetric(
        join(curve((0, 2.97), (0.3, 2.96), (0.465, 2.92)), curve((0.50, 3.10), (0.3, 3.13), (0, 3.14)))
    )
    canvas.fill(figure.px(band), cloth, volume=0.2, shadow=0.15, line=1.0)


def _draw_trousers(canvas: Canvas, figure: Figure, pants: Bottom) -> None:
    ease, flare = {
        "skinny": (0.025, 0.0),
        "straight": (0.06, 0.02),
        "wide": (0.10, 0.13),
        "flared": (0.035, 0.16),
    }[pants.style]
    dark = pants.cloth.crease
    block = symmetric(
        join(
            curve((0, WAIST - 0.02), (0.46, WAIST - 0.04), (0.60, 3.4), (0.70, HIP), (0.69, 4.15)),
            [(0, 4.38)],
        )
    )
    for side in figure.legs_by_height:
        centre, t = figure.leg(side, -0.0, pants.hem)
        share = np.clip((t - 0.3) / 1.7, 0, 1.2)
        radius = (
            leg_radius(np.minimum(t, 1.9)) + ease + flare * (share if pants.style == "wide" else share**3)
        )
        radius[t < 0.12] = 0.355
        canvas.fill(
            figure.px(tube(centre, radius)), pants.cloth, volume=0.42, folds=0.5, shadow=0.15, closed=False
        )
        along, across = end_axes(centre, radius)
        end = centre[-1]
        canvas.stroke(
            figure.px(np.array([end - across, end + 0.03 * along, end + across])), pants.cloth.line, 1.5
        )
        canvas.stroke(figure.px(np.array([end - across, end + across]) - 0.08 * along), dark, 0.8)
        if pants.style in ("wide", "straight"):
            canvas.stroke(figure.px(centre[3:-1]), dark, 0.8)
        if pants.hem > 1.15:
            knee, _ = figure.leg(side, 0.95, 1.1)
            canvas.stroke(
                figure.px(curve(knee[0] - (0.13, 0), knee[0] + (0, 0.03), knee[0] + (0.07, 0.0))), dark, 0.8
            )
    between = [(-0.05, 4.3), (0.05, 4.3), (0.02, 4.2 + 0.85 * min(pants.hem, 1.6))]
    canvas.soft(figure.px(between), 0.3, 0.04)
    canvas.fill(figure.px(block), pants.cloth, volume=0.2, folds=0.4, line=0)
    edge = curve((0.46, WAIST - 0.04), (0.60, 3.4), (0.70, HIP), (0.70, 4.1))
    for s in (1, -1):
        canvas.stroke(figure.px(edge * (s, 1)), pants.cloth.line, 1.0)
        canvas.stroke(
            figure.px(curve((0.33 * s, 3.14), (0.40 * s, 3.4), (0.60 * s, 3.5))), pants.cloth.line, 0.9
        )
        canvas.stroke(figure.px(curve((0, 4.36), (0.18 * s, 4.26), (0.32 * s, 4.22))), dark, 0.8)
    canvas.stroke(figure.px(curve((0, 3.13), (0.012, 3.7), (0, 4.38))), pants.cloth.line, 0.9)
    canvas.stroke(figure.px(curve((0.06, 3.14), (0.07, 3.6), (0.0, 3.78))), dark, 0.8)
    _waistband(canvas, figure, pants.cloth)


# Outlines of a right foot, heads from the ankle.
_FOOT = curve((-0.09, -0.04), (-0.11, 0.2), (-0.03, 0.40), (0.14, 0.42), (0.16, 0.2), (0.09, -0.04))
_SNEAKER = join(
    curve((-0.12, 0.0), (-0.14, 0.25), (-0.10, 0.45), (0.12, 0.50)),
    curve((0.28, 0.44), (0.20, 0.22), (0.11, 0.0)),
)
_SOLE = join(
    curve((-0.14, 0.38), (-0.12, 0.50), (0.12, 0.56), (0.29, 0.49)),
    curve((0.29, 0.42), (0.12, 0.47), (-0.14, 0.38)),
)
_PUMP = join(
    curve((-0.12, 0.2), (-0.10, 0.40), (0.06, 0.555), (0.20, 0.50), (0.19, 0.22)),
    curve((0.10, 0.36), (0.0, 0.36), (-0.12, 0.2)),
)
_BOOT = join(
    curve((-0.13, -0.1), (-0.125, 0.15), (-0.10, 0.42), (0.06, 0.565), (0.21, 0.51)),
    curve((0.20, 0.26), (0.13, 0.08), (0.12, -0.1)),
)


def draw_shoes(canvas: Canvas, figure: Figure, style: str, cloth: Cloth) -> None:
    """Draw a shoe on each foot, the raised foot first."""
    for side in figure.legs_by_height:
        _draw_shoe(canvas, figure, side, style, cloth)


def _draw_shoe(canvas: Canvas, figure: Figure, side: int, style: str, cloth: Cloth) -> None:
    def place(points):
        return figure.px(np.asarray(points) * (1 if side == 0 else -1, 1) + figure.legs[side][2])

    if style == "sneakers":
        white = Cloth((244, 242, 238))
        canvas.fill(place(_SNEAKER), cloth, volume=0.35)
        canvas.fill(place(_SOLE), white, volume=0.15)
        for y in (0.12, 0.2, 0.28):
            canvas.stroke(place([(-0.03, y), (0.10, y + 0.02)]), white.colour, 1.2)
        return
    if style == "boots":
        canvas.fill(place(_BOOT), cloth, volume=0.4)
        centre, t = figure.leg(side, 1.62, 2.1)
        shaft = tube(centre, np.maximum(leg_radius(np.minimum(t, 2.0)) + 0.025, 0.125))[::-1]
        canvas.fill(figure.px(shaft), cloth, volume=0.3, line=0)
        for edge in (shaft[: len(t)], shaft[len(t) :]):
            canvas.stroke(figure.px(edge), cloth.line)
        canvas.stroke(figure.px(shaft[[0, -1]]), cloth.line, 1.3)
        return
    canvas.fill(place(_FOOT), figure.skin, volume=0.3, line=0.7, closed=False)
    canvas.fill(place(_PUMP), cloth, volume=0.4, shadow=0.15)
    if style == "pumps":
        canvas.stroke(place([(-0.09, 0.36), (-0.10, 0.55)]), cloth.line, 3.0)
