"""Draw accessories: bags, scarves, necklaces, held objects, and obstacles before the figure.

The same accessories appear in all classes; in "Invisible" images some of them hide the attribute.
"""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, curve, ellipse, join, symmetric, tube
from .cloth import Cloth, Colour, blend, darker
from .figure import Figure

# Held objects, and where the fingers lie on them in shares of their size.
GRIP = {
    "flowers": (0.0, 0.5),
    "book": (0.12, 0.42),
    "clutch": (0.12, 0.34),
    "hat": (0.05, 0.44),
    "phone": (0.1, 0.48),
}
HELD = tuple(GRIP)


def draw_necklace(canvas: Canvas, figure: Figure, depth: float, colour: Colour) -> None:
    """Draw a chain down to y = 1.42 + depth, with a pendant."""
    chain = curve(
        (-0.2, 1.36), (-0.13, 1.42 + 0.6 * depth), (0, 1.42 + depth), (0.13, 1.42 + 0.6 * depth), (0.2, 1.36)
    )
    canvas.stroke(figure.px(chain), colour, 1.0)
    canvas.dot(figure.px((0, 1.44 + depth))[0], 0.035 * canvas.unit, colour)


def draw_shoulder_bag(canvas: Canvas, figure: Figure, cloth: Cloth, side: int, across: bool) -> None:
    """Draw a bag at the hip; its strap runs from the same shoulder or `across` the chest."""
    s = 1 if side == 0 else -1
    start = (-0.42 * s, 1.46) if across else (0.50 * s, 1.47)
    strap = curve(start, (0.25 * s if across else 0.66 * s, 2.5), (0.70 * s, 3.35))
    canvas.fill(figure.px(tube(strap, np.full(len(strap), 0.028))), cloth, volume=0.2, shadow=0.25, line=0.8)
    body = join(
        curve((0.46 * s, 3.30), (0.75 * s, 3.26), (1.08 * s, 3.34)),
        curve((1.14 * s, 3.8), (1.04 * s, 3.98), (0.74 * s, 4.02), (0.46 * s, 3.96), (0.40 * s, 3.7)),
    )
    canvas.fill(figure.px(body), cloth, volume=0.4, shadow=0.4, line=1.2)
    flap = join(
        curve((0.45 * s, 3.30), (0.75 * s, 3.26), (1.09 * s, 3.34)),
        curve((1.08 * s, 3.55), (0.76 * s, 3.68), (0.44 * s, 3.55)),
    )
    canvas.fill(figure.px(flap), cloth, volume=0.25, shadow=0.3, line=1.0)
    canvas.dot(figure.px((0.76 * s, 3.62))[0], 0.05 * canvas.unit, (222, 190, 120))


def draw_hand_bag(canvas: Canvas, figure: Figure, side: int, cloth: Cloth) -> None:
    """Draw a bag that hangs from a hand."""
    hand = figure.arms[side][3] - (0, 0.12)

    def at(points):
        return figure.px(np.asarray(points) + hand)

    canvas.stroke(
        at(curve((-0.2, 0.42), (-0.13, 0.05), (0, -0.03), (0.13, 0.05), (0.2, 0.42))), cloth.line, 4.0
    )
    body = curve(
        (-0.3, 0.36), (0.3, 0.36), (0.40, 0.92), (0.3, 1.0), (-0.3, 1.0), (-0.40, 0.92), (-0.3, 0.36)
    )
    canvas.fill(at(body), cloth, volume=0.4, shadow=0.2, line=1.2)
    canvas.stroke(at([(-0.34, 0.56), (0.34, 0.56)]), cloth.line, 1.0)
    canvas.dot(at((0, 0.56))[0], 0.045 * canvas.unit, (222, 190, 120))


def draw_scarf(canvas: Canvas, figure: Figure, cloth: Cloth, wrapped: bool) -> None:
    """Draw a scarf: open from the shoulders, or `wrapped` around the neck and chest."""
    for s in (1, -1):
        if wrapped and s < 0:
            continue
        low = 3.2 if not wrapped else 2.95
        end = join(
            curve((0.19 * s, 1.28), (0.30 * s, 1.45), (0.40 * s, 2.2), (0.44 * s, low)),
            curve((0.18 * s, low), (0.17 * s, 2.2), (0.12 * s if wrapped else 0.23 * s, 1.5)),
        )
        canvas.fill(figure.px(end), cloth, volume=0.4, shadow=0.35, folds=0.7, line=1.1)
        for x in np.linspace(0.2, 0.42, 6):
            canvas.stroke(figure.px([(x * s, low), ((x + 0.01) * s, low + 0.13)]), cloth.line, 1.0)
    if not wrapped:
        return
    wraps = ((1.55, 0.56, 0.62), (1.33, 0.50, 0.52), (1.10, 0.42, 0.48), (0.86, 0.35, 0.50))
    for k, (y, wide, drop) in enumerate(wraps):
        upper = curve((-wide, y + 0.08), (-0.2, y + 0.16), (0, y + 0.20), (0.2, y + 0.16), (wide, y + 0.08))
        lower = curve(
            (wide + 0.02, y + 0.24),
            (0.5 * wide, y + drop),
            (0.05 * (k - 1), y + drop + 0.1),
            (-0.5 * wide, y + drop),
            (-wide - 0.02, y + 0.24),
        )
        canvas.fill(
            figure.px(join(upper, lower)),
            cloth.turned(0.5 * (k - 1)),
            volume=0.45,
            shadow=0.35,
            folds=0.5,
            line=1.3,
        )
        for share in (0.4, 0.7):
            canvas.stroke(
                figure.px(
                    upper + (lower[::-1][: len(upper)] - upper) * share if len(upper) <= len(lower) else upper
                ),
                cloth.crease,
                0.9,
            )


def draw_shawl(canvas: Canvas, figure: Figure, cloth: Cloth, end: float) -> None:
    """Draw a cape over both arms down to y = `end`."""
    y = np.linspace(1.6, end, 8)
    x = np.interp(y, [1.6, 1.9, 2.9, 4.6], [0.84, 1.0, 1.16, 1.3])
    cape = symmetric(
        join(
            curve((0, 1.52), (0.15, 1.48), (0.24, 1.36), (0.66, 1.45), *zip(x, y, strict=False)),
            curve((x[-1], end), (0.6, end + 0.12), (0, end + 0.16)),
        )
    )
    canvas.fill(figure.px(cape), cloth, volume=0.45, shadow=0.35, folds=1.0, line=1.3)
    for k in (-0.8, -0.5, -0.22, 0.2, 0.45, 0.75):
        canvas.stroke(
            figure.px(
                curve((0.5 * k, 1.8), (0.5 * k + 0.4 * k * x[4], 0.5 * (1.8 + end)), (k * x[-1], end + 0.05))
            ),
            cloth.crease,
            1.0,
        )
    canvas.stroke(
        figure.px(curve((0.02, 1.52), (0.04, 0.5 * (1.6 + end)), (0.02, end + 0.1))), cloth.line, 1.1
    )


def draw_held(
    canvas: Canvas,
    rng: np.random.Generator,
    figure: Figure,
    item: str,
    cloth: Cloth,
    centre: tuple[float, float],
    size: float,
) -> None:
    """Draw an object held at `centre` (body coordinates), `size` heads high, and the fingers on it."""

    def at(points):
        return figure.px(np.asarray(points) * size + centre)

    if item == "flowers":
        wrap = curve((-0.16, 0.1), (0.0, 0.68), (0.16, 0.1), (-0.16, 0.1))
        canvas.fill(at(wrap), Cloth((242, 234, 220)), shadow=0.3)
        for ring, count in ((0.44, 13), (0.26, 8), (0.05, 3)):
            for k in range(count):
                a = 2 * np.pi * k / count + rng.uniform(-0.3, 0.3)
                x, y = 1.12 * ring * np.cos(a), ring * np.sin(a) - 0.05
                r = rng.uniform(0.10, 0.16)
                if rng.random() < 0.3:
                    canvas.fill(
                        at(ellipse(x, y, 1.1 * r, 0.7 * r, 13)), Cloth((112, 146, 104)), volume=0.2, line=0.7
                    )
                else:
                    petal = blend(
                        cloth.colour,
                        ((255, 250, 244), (236, 130, 140), (248, 206, 120))[rng.integers(3)],
                        rng.uniform(0.2, 0.9),
                    )
                    canvas.fill(at(ellipse(x, y, r, r, 15)), Cloth(petal), volume=0.25, line=0.8, shadow=0.15)
                    canvas.stroke(at(ellipse(x, y, 0.45 * r, 0.4 * r, 9)), darker(petal, 0.78), 0.9)
    elif item == "hat":
        canvas.fill(at(ellipse(0, 0, 0.60, 0.52, 29)), cloth, volume=0.35, shadow=0.4, line=1.3)
        canvas.fill(at(ellipse(0.03, -0.03, 0.32, 0.28, 29)), cloth, volume=0.5, shadow=0.35, line=1.2)
        canvas.stroke(at(ellipse(0.03, -0.03, 0.345, 0.305, 29)), cloth.line, 3.0)
    else:
        wide, high = {"book": (0.42, 0.52), "clutch": (0.62, 0.42), "phone": (0.36, 0.58)}[item]
        body = join(curve((-wide, -high), (wide, -high)), curve((wide, high), (-wide, high)))
        canvas.fill(at(body), cloth, volume=0.2, shadow=0.45, line=1.4)
        if item == "book":
            canvas.fill(
                at(
                    np.array(
                        [
                            (-wide * 0.7, -high * 0.7),
                            (wide * 0.7, -high * 0.7),
                            (wide * 0.7, -high * 0.1),
                            (-wide * 0.7, -high * 0.1),
                        ]
                    )
                ),
                Cloth(blend(cloth.colour, (255, 250, 240), 0.7)),
                volume=0,
                line=0.8,
            )
            canvas.stroke(at([(-wide * 0.85, -high), (-wide * 0.85, high)]), cloth.line, 1.2)
        elif item == "clutch":
            canvas.stroke(at([(-wide, -high), (0, 0.15), (wide, -high)]), cloth.line, 1.3)
            canvas.dot(at((0, 0.15))[0], 0.06 * size * canvas.unit, (226, 196, 128))
        else:
            for x, y in ((-0.2, -0.4), (-0.2, -0.22), (0.0, -0.4)):
                canvas.dot(at((x, y))[0], 0.055 * size * canvas.unit, (58, 58, 66))
    _fingers(canvas, figure, np.array(GRIP[item]) * size + centre)


def _fingers(canvas: Canvas, figure: Figure, at: np.ndarray) -> None:
    """Draw four fingers over an edge."""
    for k, x in enumerate((0.14, 0.06, -0.02, -0.10)):
        line = curve((x + 0.05, 0.12), (x, 0.0), (x - 0.035, -0.09 - 0.02 * (k in (1, 2))))[::-1]
        finger = tube(line, np.full(len(line), 0.042), round_start=True)
        canvas.fill(figure.px(finger + at), figure.skin, volume=0.25, line=0.7)


def draw_plant(canvas: Canvas, rng: np.random.Generator, centre, size: float) -> None:
    """Draw a potted plant before the figure; `centre` and `size` (height) in canvas pixels."""
    green = ((86, 132, 92), (104, 148, 112), (66, 112, 88), (130, 156, 100))[rng.integers(4)]
    pot = Cloth(((206, 128, 96), (238, 232, 222), (92, 98, 110))[rng.integers(3)])

    def at(points):
        return np.asarray(points) * size + centre

    canvas.fill(
        at(join([(-0.22, 0.18), (0.22, 0.18)], [(0.16, 0.52), (-0.16, 0.52)])), pot, volume=0.3, line=1.2
    )
    for k in np.argsort(-np.abs(np.arange(11) - 5), kind="stable"):
        a = -np.pi / 2 + (k - 5) * 0.27 + rng.uniform(-0.1, 0.1)
        reach = rng.uniform(0.5, 0.72)
        tip = np.array([np.cos(a) * reach, 0.18 + np.sin(a) * reach])
        out = np.array([-np.sin(a), np.cos(a)]) * 0.115
        root = np.array([0.02 * (k - 5), 0.18])
        leaf = curve(root, root + 0.55 * (tip - root) + out, tip, root + 0.55 * (tip - root) - out, root)
        shade = Cloth(darker(green, rng.uniform(0.85, 1.15)))
        canvas.fill(at(leaf), shade, volume=0.3, shadow=0.2, line=1.0)
        canvas.stroke(at([root, root + 0.9 * (tip - root)]), shade.line, 0.8)


def draw_suitcase(canvas: Canvas, rng: np.random.Generator, centre, size: float, cloth: Cloth) -> None:
    """Draw a suitcase before the figure; `centre` and `size` (height) in canvas pixels."""

    def at(points):
        return np.asarray(points) * size + centre

    canvas.stroke(at([(-0.14, -0.3), (-0.14, -0.5), (0.14, -0.5), (0.14, -0.3)]), (120, 120, 124), 4.0)
    body = join(
        curve((-0.40, -0.26), (-0.36, -0.32), (0.36, -0.32), (0.40, -0.26)),
        curve((0.40, 0.44), (0.36, 0.5), (-0.36, 0.5), (-0.40, 0.44)),
    )
    canvas.fill(at(body), cloth, volume=0.35, shadow=0.3, line=1.4)
    for x in (-0.24, -0.12, 0, 0.12, 0.24):
        canvas.stroke(at([(x, -0.27), (x, 0.45)]), cloth.crease, 1.4)
