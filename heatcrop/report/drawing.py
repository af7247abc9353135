"""Small things that are drawn on sheets: text, signs, pictures scaled into a cell."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from heatcrop.data.images import ImageError, read_image

INK, SOFT, FAINT = (31, 36, 48), (92, 100, 116), (222, 226, 233)
PAPER, MAT = (255, 255, 255), (244, 246, 249)
RIGHT, WRONG, MAYBE, AMBER = (16, 128, 92), (200, 50, 62), (150, 105, 10), (176, 84, 0)
COLOUR_OF = {2: RIGHT, 1: MAYBE, 0: WRONG, -1: SOFT}

FINE = 4
"""Text and signs are drawn this many times larger and scaled down."""

Box = tuple[float, float, float, float]


@functools.lru_cache(maxsize=32)
def _font(size_px: int, wide: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if not wide:
        return ImageFont.load_default(size_px)
    # Pillow's own font holds ASCII only; the plots' font knows accents, Greek, Cyrillic and more.
    file = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(file), size_px)


def text_width(words: str, size_px: int) -> float:
    """How wide a line of text is, in pixels."""
    return _font(size_px * FINE, not words.isascii()).getlength(words) / FINE


def text(
    sheet: Image.Image,
    at: tuple[float, float],
    words: str,
    size_px: int,
    colour: tuple[int, int, int] = INK,
    width_px: float = math.inf,
    side: str = "left",
) -> float:
    """Write one line, shortened to a width, and return how wide it became.

    Parameters
    ----------
    at : tuple (x, y)
        The line's left (or right) end on its baseline.
    side : {'left', 'right'}
    """
    words = " ".join(words.split())
    if text_width(words, size_px) > width_px:
        while words and text_width(words + "...", size_px) > width_px:
            words = words[:-1]
        words = words.rstrip() + "..."
    # Written large and scaled down: at small sizes whole-pixel advances would swallow the spaces.
    font, wide = _font(size_px * FINE, not words.isascii()), text_width(words, size_px)
    size = (max(1, math.ceil(wide) + 2), size_px * 2)
    mask = Image.new("L", (size[0] * FINE, size[1] * FINE))
    ImageDraw.Draw(mask).text((0, size_px * 1.5 * FINE), words, fill=255, font=font, anchor="ls")
    mask = mask.resize(size, Image.Resampling.BOX)
    x = at[0] - wide if side == "right" else at[0]
    sheet.paste(colour, (round(x), round(at[1] - size_px * 1.5)), mask)
    return wide


def sign(sheet: Image.Image, at: tuple[int, int], verdict: int, side_px: int) -> None:
    """Draw a disc with a tick (2), a wave (1, maybe), a cross (0) or a question mark (-1)."""
    big = side_px * FINE  # drawn large and scaled down, since Pillow's lines have no smooth edges
    disc = Image.new("RGBA", (big, big), (*COLOUR_OF[verdict], 0))
    draw = ImageDraw.Draw(disc)
    draw.ellipse((0, 0, big - 1, big - 1), fill=COLOUR_OF[verdict])
    pen: dict[str, Any] = {"fill": "white", "width": max(1, big // 9), "joint": "curve"}
    if verdict == 2:
        draw.line([(big * x, big * y) for x, y in ((0.27, 0.53), (0.44, 0.69), (0.74, 0.34))], **pen)
    elif verdict == 0:
        draw.line([(big * 0.32, big * 0.32), (big * 0.68, big * 0.68)], **pen)
        draw.line([(big * 0.68, big * 0.32), (big * 0.32, big * 0.68)], **pen)
    elif verdict == 1:
        wave = [(0.24 + 0.013 * i, 0.5 - 0.1 * math.sin(2 * math.pi * i / 40)) for i in range(41)]
        draw.line([(big * x, big * y) for x, y in wave], **pen)
    else:
        font = _font(round(big * 0.7), False)
        draw.text((big / 2, big / 2), "?", fill="white", font=font, anchor="mm")
    disc = disc.resize((side_px, side_px), Image.Resampling.LANCZOS)
    sheet.paste(disc, at, disc)


def pill(sheet: Image.Image, at: tuple[int, int], words: str, size_px: int) -> None:
    """Write words on an amber ground with round ends, top left at `at`."""
    high = round(size_px * 1.7)
    wide = round(text_width(words, size_px)) + high
    ground = Image.new("L", (wide * FINE, high * FINE))
    box = (0, 0, wide * FINE - 1, high * FINE - 1)
    ImageDraw.Draw(ground).rounded_rectangle(box, high * FINE / 2, fill=255)
    sheet.paste(AMBER, at, ground.resize((wide, high), Image.Resampling.BOX))
    text(sheet, (at[0] + high / 2, at[1] + high * 0.71), words, size_px, (255, 255, 255))


@dataclasses.dataclass(frozen=True)
class Shown:
    """A picture read for showing, perhaps at a reduced scale, and its box at that scale.

    Attributes
    ----------
    picture : ndarray of uint8, shape (H, W, 3)
    box : tuple of int (x0, y0, x1, y1)
        In the pixels of `picture`, x1/y1 exclusive.
    """

    picture: np.ndarray
    box: tuple[int, int, int, int]

    @property
    def crop(self) -> np.ndarray:
        x0, y0, x1, y1 = self.box
        return self.picture[y0:y1, x0:x1]


def read_shown(path: str, size: tuple[int, int], box: np.ndarray, cell_px: int) -> Shown:
    """Read a picture no larger than needed to show it, and its crop, in cells of `cell_px`.

    A picture that went missing or bad since the run becomes a grey field: the report of all the
    others is worth more than the complaint about one.
    """
    width, height = (int(v) for v in size)
    x0, y0, x1, y1 = (int(v) for v in box)
    shorter, side = min(width, height), max(1, x1 - x0, y1 - y0)
    # The crop must fill its cell, and the picture's longer side its own.
    least = min(shorter, math.ceil(cell_px * max(shorter / side, shorter / max(width, height))))
    try:
        picture = read_image(path, at_least_px=max(1, least))
    except ImageError:
        picture = np.full((max(1, round(cell_px * height / width)), cell_px, 3), 200, np.uint8)
    sx, sy = picture.shape[1] / width, picture.shape[0] / height
    x0, y0 = (min(math.floor(x0 * sx), picture.shape[1] - 1), min(math.floor(y0 * sy), picture.shape[0] - 1))
    return Shown(picture, (x0, y0, max(x0 + 1, round(x1 * sx)), max(y0 + 1, round(y1 * sy))))


def fitted(picture: np.ndarray, cell_px: int) -> np.ndarray:
    """Scale a picture so that its longer side is `cell_px`."""
    height, width = picture.shape[:2]
    scale = cell_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def outline(picture: np.ndarray, box: Box) -> None:
    """Draw, in place, a white rectangle with soft dark edges, which shows on any ground."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = (round(v) for v in box)
    for inset, shade, share in ((-1, 0, 0.6), (0, 255, 1.0), (1, 255, 1.0), (2, 0, 0.6)):
        ring = np.zeros((height, width), np.uint8)
        cv2.rectangle(ring, (x0 + inset, y0 + inset), (x1 - 1 - inset, y1 - 1 - inset), 1)
        on = ring == 1
        picture[on] = np.round(picture[on] * (1 - share) + shade * share)
