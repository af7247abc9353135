"""Draw the bodice of a top with its neckline, and sleeves of any length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, curve, end_axes, join, mirror, tube
from .cloth import Cloth, colour_distance
from .figure import HIP, WAIST, Figure, arm_radius

NECKLINES = ("round", "v", "square", "straight", "strapless", "sweetheart", "off_shoulder", "one_shoulder")
BARE = ("strapless", "off_shoulder", "one_shoulder")  # necklines that leave a shoulder bare


@dataclass(frozen=True)
class Top:
    """A top with its neckline or collar, and sleeves.

    Attributes
    ----------
    neck : str
        One of NECKLINES, or of COLLARS or NECKS in collars.py.
    amount : float
        Size of that neck, 0-1; the depth of "v".
    cloth, trim : Cloth
        Of the bodice and of the collar.
    sleeve : float
        Where sleeves end: 0 shoulder, 1 elbow, 2 wrist, 3 fingertips.
    sleeve_style : str
        "fitted", "straight", "bell" or "puff".
    hem : float
        y of the lower edge in heads.
    ease : float
        Distance of the cloth from the body in heads.
    placket : bool
        Whether there are buttons down the front.
    opened : bool
        Whether a collar is open, folded over or has a bow.
    """

    neck: str
    amount: float
    cloth: Cloth
    trim: Cloth
    sleeve: float
    sleeve_style: str
    hem: float
    ease: float
    placket: bool = False
    opened: bool = False


def cowl_depth(amount: float) -> float:
    """Return how far a draped collar hangs below the shoulders, in heads."""
    return 0.15 + 0.26 * amount


def cowl(width: float, depth: float) -> np.ndarray:
    """Return a hanging fold from shoulder to shoulder, (33, 2), from x = -width to width."""
    angle = np.linspace(np.pi, 0, 33)
    return np.stack([width * np.cos(angle), 1.44 + depth * np.sin(angle) ** 0.8], axis=1)


def neck_edge(neck: str, amount: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the upper edge of the bodice, right and left half, each from the middle outwards, x >= 0.

    A half ends on the shoulder line or, where the shoulder is bare, at the armpit.
    """
    a = amount

    def shoulder(x):
        return (x, float(np.interp(x, [0.2, 0.62, 0.72], [1.375, 1.49, 1.53])))

    if neck == "round":
        d, w = 1.56 + 0.22 * a, 0.27 + 0.12 * a
        half = curve((0, d), (0.6 * w, d - 0.035), (0.93 * w, d - 0.14), shoulder(w))
    elif neck == "v":
        d, w = 1.72 + 1.03 * a, 0.24 + 0.12 * a
        half = join((0, d), curve(*[(w * t, d + (shoulder(w)[1] - d) * t**0.94) for t in (0, 0.5, 1)]))
    elif neck == "square":
        d, w = 1.80 + 0.22 * a, 0.36 + 0.10 * a
        half = join((0, d), (w, d), (w + 0.02, shoulder(w)[1]))
    elif neck == "straight":
        half = curve((0, 1.47 + 0.05 * a), (0.3, 1.475 + 0.04 * a), (0.52, 1.465), (0.62, 1.49))
    elif neck == "strapless":
        d = 2.02 + 0.12 * a
        half = curve((0, d), (0.3, d - 0.02), (0.605, d - 0.02))
    elif neck == "sweetheart":
        d = 2.06 + 0.08 * a
        half = join(
            curve((0, d), (0.05, d - 0.10), (0.22, d - 0.24), (0.40, d - 0.20)),
            [(0.44, 1.80), shoulder(0.47)] if a < 0.6 else [(0.605, 2.05)],
        )
    elif neck == "off_shoulder":
        half = curve((0, 1.88 + 0.06 * a), (0.3, 1.87 + 0.04 * a), (0.62, 1.84), (0.74, 1.83))
    elif neck == "one_shoulder":
        right = curve((0, 1.70), (0.15, 1.56), (0.30, 1.40))
        return right, curve((0, 1.70), (0.3, 1.93), (0.60, 2.10))
    elif neck == "draped":
        half = cowl(0.385, cowl_depth(a))[16:]
    elif neck == "shirt":
        half = curve((0, 1.52 + 0.32 * a), (0.12, 1.44 + 0.1 * a), (0.22, 1.36))
    else:  # closed high, below any other collar
        half = curve((0, 1.50), (0.13, 1.47), (0.22, 1.365))
    return half, half


def _side(covered: bool, top: Top) -> np.ndarray:
    """Return the right edge of the bodice from the shoulder (or the armpit) to the middle of the hem."""
    e, hem = top.ease, top.hem
    if top.neck == "off_shoulder":
        arm_hole = np.array([(0.74, 1.86), (0.64 + e, 2.10)])
    elif not covered:
        arm_hole = np.array([(0.605 + 0.3 * e, 2.10)])
    else:
        tip = 0.70 + 0.34 * min(top.sleeve, 0.05) if top.sleeve < 0.06 else 0.72
        arm_hole = curve((tip, 1.52), (tip - 0.03, 1.78), (0.605 + e, 2.12))
    below = [(0.605 + e, 2.15), (0.59 + e, 2.4), (0.45 + 1.4 * e, WAIST)]
    if hem > WAIST + 0.25:
        below.append((0.45 + 1.4 * e + 0.23 * min(1.0, (hem - WAIST) / (HIP - WAIST)), hem))
    else:
        below[-1] = (0.46 + 1.4 * e, hem)
    return join(arm_hole, curve(*below), curve((below[-1][0], hem), (0.3, hem + 0.05), (0, hem + 0.06)))


def draw_bodice(canvas: Canvas, figure: Figure, top: Top) -> None:
    """Draw the bodice with its neckline."""
    neck = "closed" if figure.from_behind and top.neck not in BARE else top.neck
    right, left = neck_edge(neck, top.amount)
    covered = [half[-1, 1] < 1.75 for half in (right, left)]
    outline = join(right, _side(covered[0], top), mirror(join(left, _side(covered[1], top))))
    canvas.fill(figure.px(outline), top.cloth, volume=0.34, folds=0.8, shadow=0.22)
    edge = join(mirror(left), right)
    if neck in NECKLINES:
        canvas.stroke(figure.px(edge), top.cloth.line, 1.7)
        canvas.stroke(figure.px(edge + (0, 0.055)), top.cloth.crease, 0.7)
    _draw_seams(canvas, figure, top)
    if top.placket and not figure.from_behind and top.neck != "draped":
        _draw_placket(canvas, figure, top, edge[len(edge) // 2, 1])


def _draw_seams(canvas: Canvas, figure: Figure, top: Top) -> None:
    line = top.cloth.crease
    for side in (1, -1):
        dart = curve((0.54, 2.45), (0.40, 2.60), (0.30, 2.62)) * (side, 1)
        canvas.stroke(figure.px(dart), line, 0.8)
        crease = curve((0.43 + top.ease, 2.86), (0.30, 2.98), (0.18, 3.02)) * (side, 1)
        canvas.stroke(figure.px(crease), line, 0.8)


def _draw_placket(canvas: Canvas, figure: Figure, top: Top, start: float) -> None:
    """Draw a row of buttons down the middle from y = `start`."""
    ys = np.linspace(start, top.hem + 0.04, 7)
    strip = join(np.stack([0 * ys + 0.055, ys], 1), np.stack([0 * ys - 0.055, ys], 1)[::-1])
    canvas.fill(figure.px(strip), top.cloth, volume=0, line=0.9)
    contrast = colour_distance(top.trim.colour, top.cloth.colour) > 120
    button = top.trim.colour if contrast else top.cloth.line
    for y in np.arange(start + 0.12, top.hem - 0.05, 0.27):
        canvas.dot(figure.px((0, y))[0], 0.027 * canvas.unit, button)


def draw_sleeve(
    canvas: Canvas,
    figure: Figure,
    side: int,
    cloth: Cloth,
    end: float,
    style: str,
    ease: float = 0.03,
    start: float = 0.0,
    cuff: Cloth | None = None,
) -> None:
    """Draw one sleeve from position `start` to `end` along the arm.

    Parameters
    ----------
    canvas : Canvas
    figure : Figure
    side : int
        0 right, 1 left.
    cloth : Cloth
    end : float
        0 shoulder, 1 elbow, 2 wrist, 3 fingertips; a sleeve shorter than 0.06 is not drawn.
    style : str
        "fitted", "straight", "bell" or "puff".
    ease : float
        Distance of the cloth from the arm in heads.
    start : float
        As `end`.
    cuff : Cloth, optional
        Cloth of a band at the hem.
    """
    if end - start < 0.06:
        return
    centre, t = figure.arm(side, start, end)
    share = (t - start) / (end - start)
    radius = np.maximum(arm_radius(np.minimum(t, 2.0)), 0.085) + ease
    if style == "straight":
        radius = radius + 0.035 * share
    elif style == "bell":
        radius = radius + 0.17 * share**2 * min(1.0, end)
    elif style == "puff":
        radius = radius + 0.10 * np.sin(np.pi * share) ** 0.7 * min(1.0, 0.4 + end)
    if end > 2:
        radius = np.maximum(radius, 0.135)
    if end < 0.34 and start == 0:  # a cap sleeve: wide at the shoulder, narrow under the arm
        radius = radius + 0.035 + 0.06 * share
    along = centre[-1] - centre[0]
    fabric = cloth.turned(float(np.arctan2(along[0], along[1])) * (1 if figure.mirrored else -1))
    canvas.fill(
        figure.px(tube(centre, radius, round_start=start == 0)),
        fabric,
        volume=0.4,
        folds=0.6,
        shadow=0.2,
        closed=False,
    )
    canvas.soft(figure.px(tube(centre[-3:], radius[-3:])), 0.08, 0.04)
    _draw_hem(canvas, figure, cloth, cuff, centre, radius, style)
    if end > 1.1 and start < 0.9:
        bend, _ = figure.arm(side, 0.9, 1.12)
        for k in (0, len(bend) // 2):
            canvas.stroke(
                figure.px(curve(bend[k] + (-0.09, 0.02), bend[k] + (0, -0.01), bend[k] + (0.06, 0.03))),
                cloth.crease,
                0.8,
            )


def _draw_hem(canvas, figure, cloth, cuff, centre, radius, style) -> None:
    along, across = end_axes(centre, radius)
    end = centre[-1]
    if cuff is not None:
        tall = 0.13 * along
        band = np.array(
            [end - across * 1.02, end + across * 1.02, end + across * 1.04 - tall, end - across * 1.04 - tall]
        )
        canvas.fill(figure.px(band), cuff, volume=0.3, line=1.1)
        return
    canvas.stroke(figure.px(np.array([end - across, end + 0.018 * along, end + across])), cloth.line, 1.5)
    inner = end - 0.06 * along
    canvas.stroke(figure.px(np.array([inner - across * 0.98, inner + across * 0.98])), cloth.crease, 0.7)
    if style == "bell":
        for k in (-0.4, 0.1, 0.5):
            canvas.stroke(
                figure.px(np.array([end + k * across, end - 0.25 * along + 0.7 * k * across])),
                cloth.crease,
                0.8,
            )
