"""Draw the background, price stickers, and the blur, colours and noise of a camera."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import SUPERSAMPLE, Canvas, blurred
from .cloth import Colour, blend, darker

BACKGROUNDS = ("studio", "gradient", "room", "street", "shelf", "garden", "arch", "blobs")


def draw_background(canvas: Canvas, rng: np.random.Generator, palette, horizon: float) -> None:
    """Fill the canvas with a random background; the ground begins at share `horizon` of its height."""
    side = 256
    kind = str(rng.choice(BACKGROUNDS, p=[0.2, 0.12, 0.16, 0.14, 0.08, 0.1, 0.12, 0.08]))
    light = blend(palette[rng.integers(0, 2)], (255, 255, 255), rng.uniform(0.25, 0.7))
    second = blend(palette[rng.integers(1, 4)], (255, 252, 246), rng.uniform(0.35, 0.65))
    if rng.random() < 0.16:  # a dark background
        light, second = (
            blend(palette[4], palette[3], rng.random()),
            blend(palette[3], palette[2], rng.random()),
        )
    ground = int(np.clip(horizon, 0.3, 1.2) * side)
    paint = {
        "studio": _studio,
        "gradient": _gradient,
        "room": _room,
        "street": _street,
        "shelf": _shelf,
        "garden": _garden,
        "arch": _arch,
        "blobs": _blobs,
    }[kind]
    image = paint(rng, side, light, second, ground, palette)
    cv2.resize(image, (canvas.side, canvas.side), dst=canvas.pixels, interpolation=cv2.INTER_LINEAR)


def _plain(side, colour) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)


def _rows(side, top: Colour, bottom: Colour) -> np.ndarray:
    share = np.linspace(0, 1, side)[:, None, None]
    row = np.array(top) * (1 - share) + np.array(bottom) * share
    return np.ascontiguousarray(np.broadcast_to(row, (side, side, 3)).astype(np.uint8))


def _studio(rng, side, light, second, ground, palette):
    image = _plain(side, light)
    glow = np.zeros((side, side), np.uint8)
    cv2.circle(glow, (int(side * rng.uniform(0.3, 0.7)), int(0.4 * side)), side // 2, 255, -1)
    glow = blurred(glow, 50)[..., None] / np.float32(255)
    image = image * (0.88 + 0.12 * glow)
    image[min(ground, side) :] *= 0.965
    return blurred(image.astype(np.uint8), 4)


def _gradient(rng, side, light, second, ground, palette):
    return _rows(side, light, second) if rng.random() < 0.5 else _rows(side, second, light)


def _room(rng, side, light, second, ground, palette):
    image = _rows(side, darker(light, 0.94), light)
    if rng.random() < 0.5:  # panelling
        for x in range(int(rng.integers(10, 40)), side, 64):
            cv2.rectangle(
                image, (x, int(0.1 * side)), (x + 48, ground - 26), darker(light, 0.9), 1, cv2.LINE_AA
            )
    else:  # framed posters
        for _ in range(int(rng.integers(1, 4))):
            x, y = (int(v) for v in rng.integers(0, side - 40, 2))
            w, h = (int(v) for v in rng.integers(30, 70, 2))
            cv2.rectangle(image, (x, y), (x + w, y + h), blend(palette[4], second, 0.4), -1)
            cv2.rectangle(
                image, (x + 4, y + 4), (x + w - 4, y + h - 4), blend(second, (255, 255, 255), 0.4), -1
            )
            cv2.circle(
                image,
                (x + w // 2, y + h // 2),
                min(w, h) // 4,
                palette[int(rng.integers(1, 4))],
                -1,
                cv2.LINE_AA,
            )
    if ground < side:
        wood = blend((176, 136, 100), second, 0.5)
        image[ground:] = _rows(side, darker(wood, 0.86), wood)[: side - ground]
        for x in range(-side, 2 * side, 30):
            cv2.line(
                image,
                (side // 2 + (x - side // 2) // 2, ground),
                (x, side),
                darker(wood, 0.84),
                1,
                cv2.LINE_AA,
            )
        cv2.rectangle(image, (0, ground - 8), (side, ground), blend(light, (255, 255, 255), 0.6), -1)
    return image


def _street(rng, side, light, second, ground, palette):
    image = _rows(side, blend((176, 204, 226), light, 0.4), (240, 236, 230))
    x = -20
    while x < side:
        width, top = int(rng.integers(34, 80)), int(rng.integers(-30, int(0.45 * side)))
        wall = blend(palette[int(rng.integers(1, 4))], (216, 208, 200), 0.6)
        cv2.rectangle(image, (x, top), (x + width, side), wall, -1)
        for wy in range(top + 10, ground - 12, 22):
            for wx in range(x + 7, x + width - 9, 17):
                cv2.rectangle(
                    image,
                    (wx, wy),
                    (wx + 8, wy + 12),
                    blend(wall, (255, 236, 190) if rng.random() < 0.35 else (74, 84, 104), 0.55),
                    -1,
                )
        x += width
    if ground < side:
        image[ground:] = _rows(side, (172, 168, 168), (204, 200, 196))[: side - ground]
    image = blurred(image, rng.uniform(1.2, 3.5))
    if rng.random() < 0.6:
        _bokeh(rng, image, 12)
    return image


def _bokeh(rng, image, count) -> None:
    side = image.shape[0]
    layer = image.copy()
    for _ in range(count):
        at = tuple(int(v) for v in rng.integers(0, side, 2))
        tint = ((255, 232, 180), (255, 244, 226), (250, 200, 170), (200, 226, 240))[rng.integers(4)]
        cv2.circle(layer, at, int(rng.integers(5, 17)), tint, -1, cv2.LINE_AA)
    cv2.addWeighted(layer, 0.45, image, 0.55, 0, dst=image)


def _shelf(rng, side, light, second, ground, palette):
    image = _plain(side, light)
    for y in range(int(rng.integers(50, 80)), side, 66):
        x = 4
        while x < side:
            w, h = int(rng.integers(8, 30)), int(rng.integers(18, 48))
            thing = blend(palette[int(rng.integers(0, 4))], light, 0.35)
            if rng.random() < 0.75:
                cv2.rectangle(image, (x, y - h), (x + w, y), thing, -1)
                cv2.rectangle(image, (x, y - h), (x + w, y), darker(thing, 0.85), 1)
            else:
                cv2.ellipse(
                    image, (x + w // 2, y - h // 3), (w // 2, h // 3), 0, 0, 360, thing, -1, cv2.LINE_AA
                )
            x += w + int(rng.integers(2, 14))
        cv2.rectangle(image, (0, y), (side, y + 5), darker(light, 0.82), -1)
    return blurred(image, rng.uniform(0.8, 2.2))


def _garden(rng, side, light, second, ground, palette):
    image = _rows(side, blend((190, 216, 232), light, 0.35), (236, 240, 224))
    for layer in range(3):
        for _ in range(9):
            x, y = (
                int(rng.integers(-10, side + 10)),
                int(rng.uniform(0.15, 0.9) * min(ground, side) + 12 * layer),
            )
            green = blend(
                ((120, 154, 110), (88, 128, 96), (156, 178, 124))[rng.integers(3)], light, 0.35 - 0.1 * layer
            )
            cv2.circle(image, (x, y), int(rng.integers(14, 34)), green, -1, cv2.LINE_AA)
    if ground < side:
        image[ground:] = _rows(side, (150, 172, 126), (190, 200, 158))[: side - ground]
    image = blurred(image, rng.uniform(2, 5))
    _bokeh(rng, image, 10)
    return image


def _arch(rng, side, light, second, ground, palette):
    image = _plain(side, light)
    x, radius = int(rng.uniform(0.2, 0.8) * side), int(rng.uniform(0.22, 0.42) * side)
    top = int(rng.uniform(0.25, 0.5) * side)
    if rng.random() < 0.6:
        cv2.rectangle(image, (x - radius, top), (x + radius, side), second, -1)
    cv2.circle(image, (x, top), radius, second, -1, cv2.LINE_AA)
    if rng.random() < 0.6:
        cv2.circle(
            image,
            (int(rng.integers(0, side)), int(rng.integers(0, side))),
            int(rng.integers(12, 36)),
            blend(palette[2], light, 0.45),
            -1,
            cv2.LINE_AA,
        )
    if ground < side:
        image[ground:] = blend(light, palette[1], 0.45)
    return image


def _blobs(rng, side, light, second, ground, palette):
    coarse = rng.random((5, 5, 1)) * (np.array(second, float) - light) + light
    image = cv2.resize(coarse.astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
    step = int(rng.integers(14, 30))
    for y in range(0, side, step):
        for x in range(0, side, step):
            cv2.circle(
                image,
                (x + (y // step % 2) * step // 2, y),
                2,
                blend(light, palette[2], 0.3),
                -1,
                cv2.LINE_AA,
            )
    return image


_WORDS = (
    "NEW IN",
    "SALE",
    "-30%",
    "$129",
    "LOOK 07",
    "SS 26",
    "2 for 1",
    "ATELIER",
    "free ship",
    "$49.90",
    "SIZE S-XL",
)


def draw_banner(canvas: Canvas, rng: np.random.Generator, palette, avoid) -> None:
    """Draw a sticker at a random place outside the rectangle `avoid` (x0, y0, x1, y1 in canvas pixels)."""
    side = canvas.side
    for _ in range(12):
        width, height = rng.uniform(0.12, 0.34) * side, rng.uniform(0.05, 0.10) * side
        x, y = rng.uniform(-0.02, 1.0) * (side - width), rng.uniform(0.01, 0.99) * (side - height)
        if x > avoid[2] or x + width < avoid[0] or y > avoid[3] or y + height < avoid[1]:
            draw_sticker(canvas, rng, palette, (x, y, x + width, y + height))
            return


def draw_sticker(canvas: Canvas, rng: np.random.Generator, palette, box, bar: bool = False) -> None:
    """Draw a word on a random shape, or on a rectangle (`bar`), that fills `box` (canvas pixels)."""
    x0, y0, x1, y1 = (int(v) for v in box)
    fill = ((255, 255, 255), palette[4], palette[2], (206, 58, 58), (250, 226, 140))[rng.integers(5)]
    ink = (252, 250, 246) if sum(fill) < 480 else (46, 40, 44)
    kind = 0 if bar else rng.integers(3)
    if kind == 0:
        cv2.rectangle(canvas.pixels, (x0, y0), (x1, y1), fill, -1)
    elif kind == 1:
        cv2.ellipse(
            canvas.pixels,
            ((x0 + x1) // 2, (y0 + y1) // 2),
            ((x1 - x0) // 2, max((y1 - y0) // 2, (x1 - x0) // 3)),
            0,
            0,
            360,
            fill,
            -1,
            cv2.LINE_AA,
        )
    else:
        skew = (y1 - y0) // 2
        cv2.fillPoly(
            canvas.pixels,
            [np.array([(x0 + skew, y0), (x1, y0), (x1 - skew, y1), (x0, y1)])],
            fill,
            cv2.LINE_AA,
        )
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX]))
    word = str(rng.choice(_WORDS))
    (w, h), _ = cv2.getTextSize(word, font, 1.0, 2)
    scale = min(0.78 * (x1 - x0) / w, 0.55 * (y1 - y0) / h)
    at = (int((x0 + x1 - w * scale) / 2), int((y0 + y1 + h * scale) / 2))
    cv2.putText(canvas.pixels, word, at, font, scale, ink, max(1, int(round(2.2 * scale))), cv2.LINE_AA)


def photograph(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Shrink the canvas, and add a camera's blur, colours and noise; (side_px, side_px, 3) uint8 RGB."""
    image = canvas.finish()
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(
            image, (3, 3), rng.uniform(0.35, 0.75) * max(1.0, canvas.side / SUPERSAMPLE / 512)
        )
    gain = rng.uniform(0.86, 1.1) * (1 + rng.normal(0, 0.025, 3))
    levels = np.arange(256)[:, None] / 255
    table = np.clip(255 * gain * levels ** rng.uniform(0.85, 1.15) + rng.uniform(-4, 8), 0, 255).astype(
        np.uint8
    )
    image = cv2.LUT(image, table[None])
    grain = np.empty(image.shape[:2], np.int16)
    sigma = rng.uniform(0.8, 4.0)
    grain[:] = rng.standard_normal(image.shape[:2], dtype=np.float32) * sigma
    return cv2.add(image, cv2.merge([grain] * 3), dtype=cv2.CV_8U)
