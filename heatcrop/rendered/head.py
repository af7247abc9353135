"""Draw faces and hair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, curve, ellipse, join, symmetric
from .cloth import HAIRS, Cloth, blend, darker
from .figure import Figure

STYLES = ("long", "wavy", "bob", "bun", "pony", "short")


@dataclass(frozen=True)
class Hair:
    """Hair style and colour.

    Attributes
    ----------
    style : str
        One of STYLES.
    cloth : Cloth
        Colour.
    length : float
        y where long hair ends, in heads.
    locks : tuple of bool
        Whether strands lie in front of the right and the left shoulder.
    fringe : bool
        Whether hair covers the forehead.
    parting : float
        x of the parting in heads.
    """

    style: str
    cloth: Cloth
    length: float
    locks: tuple[bool, bool]
    fringe: bool
    parting: float


def random_hair(rng: np.random.Generator) -> Hair:
    """Draw a random hair style."""
    style = str(rng.choice(STYLES, p=[0.26, 0.2, 0.18, 0.14, 0.1, 0.12]))
    locks = (bool(rng.random() < 0.5), bool(rng.random() < 0.5))
    return Hair(
        style,
        Cloth(HAIRS[rng.integers(len(HAIRS))]),
        float(rng.uniform(1.7, 2.9)),
        locks,
        bool(rng.random() < 0.35),
        float(rng.uniform(-0.12, 0.12)),
    )


def draw_hair_behind(canvas: Canvas, figure: Figure, hair: Hair) -> None:
    """Draw the hair behind neck and shoulders."""
    place = figure.head_px
    if hair.style in ("long", "wavy"):
        end = min(hair.length, 2.4)
        back = symmetric(
            curve((0, -0.08), (0.38, 0.12), (0.47, 0.6), (0.50, 1.2), (0.46, end - 0.2), (0.3, end), (0, end))
        )
    elif hair.style == "bob":
        back = symmetric(curve((0, -0.08), (0.38, 0.12), (0.48, 0.6), (0.47, 1.05), (0.36, 1.17), (0, 1.1)))
    elif hair.style == "pony":
        back = curve(
            (0.1, -0.02),
            (0.42, 0.0),
            (0.6, 0.4),
            (0.62, 1.0),
            (0.5, 1.45),
            (0.46, 1.0),
            (0.36, 0.5),
            (0.1, 0.2),
        )
    elif hair.style == "bun":
        canvas.fill(place(ellipse(0.04, -0.14, 0.22, 0.2)), hair.cloth, volume=0.45, line_colour=_edge(hair))
        canvas.stroke(place(curve((-0.1, -0.2), (0.05, -0.28), (0.17, -0.17))), _strand(hair), 0.8)
        back = symmetric(curve((0, 0.0), (0.34, 0.2), (0.36, 0.6), (0.2, 0.95), (0, 1.0)))
    else:
        back = symmetric(curve((0, -0.05), (0.36, 0.15), (0.38, 0.6), (0.22, 1.0), (0, 1.02)))
    canvas.fill(
        place(back), Cloth(darker(hair.cloth.colour, 0.8)), volume=0.4, line_colour=_edge(hair), line=0.8
    )


def _strand(hair: Hair):
    """Return the colour of a lit strand."""
    return blend(hair.cloth.colour, (255, 225, 190), 0.22)


def _edge(hair: Hair):
    """Return the colour of the outline."""
    return darker(hair.cloth.colour, 0.55)


_FACE = symmetric(
    curve((0, 0.04), (0.24, 0.12), (0.325, 0.40), (0.30, 0.66), (0.19, 0.88), (0.07, 0.985), (0, 1.0))
)


def draw_head(canvas: Canvas, figure: Figure, hair: Hair) -> None:
    """Draw the face and the hair around it, or the back of the head."""
    place = figure.head_px
    if figure.from_behind:
        _draw_back_of_head(canvas, figure, hair)
        return
    for side in (1, -1):
        ear = np.array([(0.30, 0.46), (0.37, 0.45), (0.37, 0.6), (0.31, 0.66)]) * (side, 1)
        canvas.fill(place(curve(*ear)), figure.skin, line=0.7)
    canvas.fill(place(_FACE), figure.skin, volume=0.26, line=0.8)
    _draw_features(canvas, figure, hair)
    _draw_front_hair(canvas, figure, hair)


def _draw_features(canvas: Canvas, figure: Figure, hair: Hair) -> None:
    place = figure.head_px
    skin = figure.skin.colour
    shift = 0.06 * figure.head_turn
    dark, brow = blend(skin, (34, 22, 24), 0.86), blend(hair.cloth.colour, (40, 28, 26), 0.45)
    blush = blend(skin, (224, 92, 92), 0.55)
    for side in (1, -1):
        x = 0.145 * side + shift
        cheek = ellipse(x + 0.03 * side, 0.68, 0.09, 0.06, 13)
        canvas.soft(place(cheek), 0.4, 0.03, colour=blush)
        lid = curve((x - 0.075, 0.54), (x - 0.02, 0.495), (x + 0.04, 0.5), (x + 0.075, 0.535))
        eye = join(lid, curve((x + 0.06, 0.555), (x, 0.572), (x - 0.06, 0.56)))
        canvas.fill(place(eye), Cloth((248, 246, 244)), volume=0, line=0)
        canvas.dot(place((x + 0.25 * shift, 0.535))[0], 0.034 * canvas.unit, dark)
        canvas.stroke(place(lid), dark, 1.6)
        canvas.stroke(
            place(curve((x - 0.085, 0.43 - 0.006 * side), (x, 0.40), (x + 0.085, 0.43 + 0.006 * side))),
            brow,
            1.8,
        )
    nose = shift * 1.25
    canvas.stroke(
        place(curve((nose - 0.035, 0.70), (nose, 0.722), (nose + 0.035, 0.70))), darker(skin, 0.66), 1.0
    )
    canvas.stroke(place(curve((nose + 0.03, 0.56), (nose + 0.035, 0.64))), darker(skin, 0.86), 0.9)
    lips = blend(skin, (186, 46, 62), 0.62)
    x = shift
    upper = join(
        curve((x - 0.10, 0.825), (x - 0.03, 0.795), (x, 0.805), (x + 0.03, 0.795), (x + 0.10, 0.825)),
        curve((x + 0.05, 0.865), (x, 0.878), (x - 0.05, 0.865)),
    )
    canvas.fill(place(upper), Cloth(lips), volume=0.1, line=0)
    canvas.stroke(place(curve((x - 0.10, 0.825), (x, 0.835), (x + 0.10, 0.825))), darker(lips, 0.62), 0.7)


def _draw_front_hair(canvas: Canvas, figure: Figure, hair: Hair) -> None:
    place = figure.head_px
    p = hair.parting
    low = {"long": 1.0, "wavy": 1.0, "bob": 1.08, "bun": 0.5, "pony": 0.5, "short": 0.62}[hair.style]
    for side, part in ((1, p), (-1, -p)):
        if hair.fringe:
            inner = curve((0.30, 0.5), (0.29, 0.40), (0.16, 0.38), (part, 0.37))
        else:
            inner = curve((0.315, 0.55), (0.29, 0.36), (0.16, 0.2), (part, 0.13))
        if low > 0.9:
            inner = join(curve((0.43, low), (0.345, 0.85), (0.315, 0.55)), inner)
        outer = curve(
            (part, -0.06), (0.2, -0.085), (0.37, 0.1), (0.425, 0.45), (0.40 if low < 0.9 else 0.45, low)
        )
        half = join(outer, inner) * (side, 1)
        canvas.fill(place(half), hair.cloth, volume=0.42, line_colour=_edge(hair), line=0.8, shadow=0.2)
        for k in (0.3, 0.65):
            strand = curve(
                (part + 0.03, -0.02 + 0.03 * k), (0.2 + 0.08 * k, 0.1 - 0.02 * k), (0.31 + 0.05 * k, 0.4)
            )
            canvas.stroke(place(strand * (side, 1)), _strand(hair), 0.8)


def draw_locks(canvas: Canvas, figure: Figure, hair: Hair, covering: bool = False) -> None:
    """Draw long hair in front of the shoulders; `covering` closes it over the neck and chest."""
    if not covering and (hair.style not in ("long", "wavy") or figure.from_behind):
        return
    end = max(hair.length, 2.75) if covering else hair.length
    wave = 0.05 if hair.style == "wavy" else 0.015
    for side, worn in ((1, hair.locks[0]), (-1, hair.locks[1])):
        if not (worn or covering):
            continue
        y = np.linspace(0.55, end, 16)
        sway = wave * np.sin(6.5 * y + side)
        outer = np.interp(y, [0.55, 0.9, 1.4, end], [0.44, 0.48, 0.60, 0.50 if not covering else 0.58]) + sway
        inner = np.interp(y, [0.55, 0.9, 1.4, end], [0.31, 0.33, 0.34, 0.36]) + sway
        if covering:
            inner = np.interp(y, [0.55, 0.85, 1.12, end], [0.31, 0.26, -0.06, -0.04]) + sway * 0.5
        pinch = 0.5 * (outer - inner) * np.clip((y - end + 0.4) / 0.4, 0, 1) ** 2  # ends taper
        outer, inner = outer - pinch, inner + pinch
        lock = join(curve(*zip(outer, y, strict=False)), curve(*zip(inner[::-1], y[::-1], strict=False))) * (
            side,
            1,
        )
        canvas.fill(figure.px(lock), hair.cloth, volume=0.4, line_colour=_edge(hair), shadow=0.3, line=0.8)
        for share in (0.25, 0.5, 0.75) if covering else (0.35, 0.7):
            line = np.stack([(outer + (inner - outer) * share) * side, y], axis=1)[1:-1]
            canvas.stroke(
                figure.px(curve(*line)),
                _strand(hair) if share != 0.5 else darker(hair.cloth.colour, 0.7),
                0.8,
            )


def _draw_back_of_head(canvas: Canvas, figure: Figure, hair: Hair) -> None:
    place = figure.head_px
    end = {"long": hair.length, "wavy": hair.length, "bob": 1.25, "short": 1.08, "bun": 0.98, "pony": 0.98}[
        hair.style
    ]
    wide = 0.5 if end > 1.1 else 0.3
    shape = symmetric(
        curve((0, -0.08), (0.38, 0.1), (0.43, 0.5), (wide, end - 0.25), (wide - 0.12, end), (0, end + 0.04))
    )
    canvas.fill(place(shape), hair.cloth, volume=0.45, line_colour=_edge(hair), line=0.8, shadow=0.25)
    for x in (-0.28, -0.15, 0.0, 0.13, 0.27):
        canvas.stroke(
            place(curve((0.3 * x, 0.0), (x * 1.2, 0.5), (x * (1.2 if end > 1.1 else 0.8), end - 0.12))),
            _strand(hair),
            0.8,
        )
    if hair.style == "pony":
        tail = curve((0, 0.3), (0.16, 0.5), (0.17, 1.3), (0.03, 2.0), (-0.1, 1.4), (-0.12, 0.6))
        canvas.fill(place(tail), hair.cloth, volume=0.4, line_colour=_edge(hair), shadow=0.3, line=0.8)
    if hair.style == "bun":
        canvas.fill(
            place(ellipse(0, 0.2, 0.25, 0.22)),
            hair.cloth,
            volume=0.5,
            line_colour=_edge(hair),
            shadow=0.3,
            line=0.9,
        )
