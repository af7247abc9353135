"""Draw the collar of a top."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, curve, join, mirror, resample, symmetric
from .cloth import Cloth, blend
from .figure import Figure
from .tops import Top, cowl, cowl_depth

COLLARS = ("shirt", "peter_pan", "puritan", "rib")
NECKS = ("turtle", "ruffle", "low_turtle", "draped")


def draw_collar_behind(canvas: Canvas, figure: Figure, top: Top) -> None:
    """Draw the inner side of a collar, visible behind the neck."""
    if top.neck not in COLLARS + NECKS or top.neck == "draped":
        return
    high = {"shirt": 1.13, "rib": 1.17, "peter_pan": 1.24, "puritan": 1.24}.get(top.neck, 1.2)
    inside = join(
        curve((-0.215, high + 0.04), (0, high), (0.215, high + 0.04)),
        curve((0.25, 1.42), (0, 1.5), (-0.25, 1.42)),
    )
    canvas.fill(figure.px(inside), top.trim.inside, volume=0.1, line=0.8)


def draw_collar(canvas: Canvas, figure: Figure, top: Top) -> None:
    """Draw the collar of `top` on its bodice; nothing for a plain neckline."""
    if figure.from_behind:
        if top.neck in COLLARS + ("turtle", "low_turtle"):
            band = symmetric(curve((0, 1.20), (0.19, 1.21), (0.25, 1.40), (0.15, 1.47), (0, 1.49)))
            canvas.fill(figure.px(band), top.trim, volume=0.3)
        return
    draw = {
        "shirt": _shirt,
        "peter_pan": _flat,
        "puritan": _flat,
        "rib": _rib,
        "turtle": _turtle,
        "low_turtle": _turtle,
        "ruffle": _ruffle,
        "draped": _draped,
    }.get(top.neck)
    if draw is not None:
        draw(canvas, figure, top)


def _both(canvas, figure, outline, cloth, **style) -> None:
    """Fill an outline and its mirror image; the wearer's right side on top."""
    for shape in (mirror(outline), outline):
        canvas.fill(figure.px(shape), cloth, **style)


def _shirt(canvas: Canvas, figure: Figure, top: Top) -> None:
    """Draw two pointed leaves folded down from a band; `amount` opens the top button."""
    meet = 1.50 + 0.32 * top.amount
    if not top.opened:
        meet = 1.50
    stand = curve(
        (0.235, 1.38),
        (0.12, meet - 0.02),
        (0.0, meet + 0.02),
        (0.0, meet - 0.07),
        (0.12, meet - 0.13),
        (0.2, 1.24),
    )
    _both(canvas, figure, stand, top.trim, volume=0.2, line=0.8)
    point = (0.30 + 0.06 * top.amount, 1.80 + 0.05 * top.amount)
    leaf = join(
        curve((0.175, 1.13), (0.13, 1.27), (0.015 + 0.02 * top.amount, meet - 0.075)),
        [(0.10, meet + 0.08), point],
        curve(point, (0.36, 1.60), (0.35, 1.42), (0.285, 1.27), (0.21, 1.14)),
    )
    _both(canvas, figure, leaf, top.trim, volume=0.22, shadow=0.42, line=1.5)
    stitch = np.array([(0.06, meet - 0.02), (point[0] - 0.025, point[1] - 0.06), (0.33, 1.58), (0.315, 1.42)])
    for side in (1, -1):
        canvas.stroke(figure.px(stitch * (side, 1)), top.trim.crease, 0.6)


def _flat(canvas: Canvas, figure: Figure, top: Top) -> None:
    """Draw a flat collar from Peter Pan (narrow, round ends) to Puritan (wide, to the shoulders).

    `amount` is its width, 0-1.
    """
    w = 0.20 + 0.42 * top.amount
    blunt = np.clip((top.amount - 0.35) / 0.4, 0, 1)  # 0: round ends, 1: broad, nearly square ends
    neck = curve((0.215, 1.22), (0.20, 1.34), (0.11, 1.46), (0.012, 1.50))
    front = [
        (0.012, 1.50),
        (0.02, 1.52 + 0.55 * w),
        (0.05 + 0.06 * (1 - blunt), 1.52 + (0.98 + 0.1 * blunt) * w),
        (0.10 + 0.42 * w, 1.53 + 1.02 * w),
    ]
    outer = [
        (0.24 + 0.74 * w, 1.48 + 0.72 * w),
        (0.27 + 0.86 * w, 1.37 + 0.42 * w),
        (0.25 + 0.62 * w, 1.28 + 0.28 * w),
        (0.215, 1.22),
    ]
    outline = join(neck, curve(*front, *outer))
    _both(canvas, figure, outline, top.trim, volume=0.24, shadow=0.45, line=1.5)
    for side in (1, -1):
        inner = curve(*front[1:], *outer[:2])
        middle = np.array([0.16, 1.42])
        canvas.stroke(figure.px((middle + (inner - middle) * 0.88) * (side, 1)), top.trim.crease, 0.7)
    if top.opened:
        _bow(canvas, figure, Cloth(top.cloth.line), 1.53)


def _bow(canvas, figure, cloth, y) -> None:
    for side in (1, -1):
        tail = np.array([(0, y), (0.10 * side, y + 0.30), (0.04 * side, y + 0.32)])
        canvas.fill(figure.px(tail), cloth, volume=0.2, line=0.7)
        wing = curve(
            (0, y), (0.10 * side, y - 0.07), (0.17 * side, y - 0.02), (0.15 * side, y + 0.07), (0, y + 0.015)
        )
        canvas.fill(figure.px(wing), cloth, volume=0.2, line=0.8)


def _ribs(canvas, figure, inner, outer, colour, count) -> None:
    """Draw short lines from one curve to the other."""
    shares = np.linspace(0.03, 0.97, count)
    for ends in np.stack([resample(inner, shares), resample(outer, shares)], axis=1):
        canvas.stroke(figure.px(ends), colour, 0.9)


def _rib(canvas: Canvas, figure: Figure, top: Top) -> None:
    """Draw a knitted band around the neck; `amount` is its height."""
    h = 0.11 + 0.10 * top.amount
    lower = curve((-0.27, 1.38), (-0.15, 1.535), (0, 1.58), (0.15, 1.535), (0.27, 1.38))
    upper = curve((-0.205, 1.36 - h), (-0.14, 1.49 - h), (0, 1.57 - h), (0.14, 1.49 - h), (0.205, 1.36 - h))
    canvas.fill(figure.px(join(lower, upper[::-1])), top.trim, volume=0.3, shadow=0.35, line=1.4)
    _ribs(canvas, figure, lower, upper, blend(top.trim.colour, top.trim.line, 0.8), 17)


def _turtle(canvas: Canvas, figure: Figure, top: Top) -> None:
    """Draw a standing knitted collar; `amount` is its height, a high one is folded over."""
    upper_y = 1.33 - 0.40 * top.amount
    lower = curve((-0.27, 1.41), (-0.15, 1.52), (0, 1.55), (0.15, 1.52), (0.27, 1.41))
    upper = curve(
        (-0.205, upper_y),
        (-0.12, upper_y + 0.06),
        (0, upper_y + 0.08),
        (0.12, upper_y + 0.06),
        (0.205, upper_y),
    )
    canvas.fill(figure.px(join(lower, upper[::-1])), top.trim, volume=0.36, shadow=0.3, line=1.3)
    _ribs(canvas, figure, lower, upper, top.trim.crease, 17)
    if top.neck == "turtle" and top.opened:
        fold = lower * (0.98, 0.62) + (0, 0.38 * upper_y + 0.03)
        layer = join(fold * (1.06, 1), upper[::-1] * (1.06, 1))
        canvas.fill(figure.px(layer), top.trim, volume=0.36, shadow=0.45, line=1.5)
        _ribs(canvas, figure, fold, upper, top.trim.crease, 17)


def _ruffle(canvas: Canvas, figure: Figure, top: Top) -> None:
    """Draw a low band whose upper edge is a frill."""
    base = 1.30 - 0.10 * top.amount
    lower = curve((-0.26, 1.42), (-0.14, 1.52), (0, 1.55), (0.14, 1.52), (0.26, 1.42))
    seam = curve(
        (-0.215, base + 0.02),
        (-0.13, base + 0.10),
        (0, base + 0.13),
        (0.13, base + 0.10),
        (0.215, base + 0.02),
    )
    canvas.fill(figure.px(join(lower, seam[::-1])), top.trim, volume=0.3, shadow=0.3, line=1.0)
    s = np.linspace(0, 1, 97)
    along = resample(seam, s)
    lobe = np.abs(np.sin(s * np.pi * 9))
    frill = along * (1.28, 1.0) + np.stack([0 * s, -0.09 - 0.075 * lobe**0.7], axis=1)
    canvas.fill(figure.px(join(along, frill[::-1])), top.trim, volume=0.2, shadow=0.3, line=1.4)
    for k in np.flatnonzero(lobe < 0.12).tolist():
        canvas.stroke(
            figure.px(np.array([along[k], along[k] + 0.9 * (frill[k] - along[k])])), top.trim.crease, 0.9
        )
    canvas.stroke(figure.px(along), top.trim.line, 1.3)
    for k in range(6, 97, 6):
        canvas.stroke(figure.px(np.array([along[k], along[k] + (0, 0.06)])), top.trim.crease, 0.7)


def _draped(canvas: Canvas, figure: Figure, top: Top) -> None:
    """Draw a cowl: loose cloth hanging from both shoulders in nested folds."""
    for drop, width in ((0.54, 0.52), (0.37, 0.49), (0.20, 0.45), (0.0, 0.40)):
        depth = cowl_depth(top.amount) + drop * (0.75 + 0.25 * top.amount)
        lower, upper = cowl(width, depth + 0.12), cowl(width - 0.015, depth - 0.03)
        canvas.fill(
            figure.px(join(lower, upper[::-1])), top.cloth, volume=0.26, shadow=0.45, line=0, closed=False
        )
        canvas.stroke(figure.px(lower), top.cloth.line, 1.0)
        canvas.soft(figure.px(join(lower + (0, 0.05), lower[::-1])), 0.30, 0.02)
    canvas.stroke(figure.px(upper), top.cloth.line, 1.6)
