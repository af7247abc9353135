"""Draw on contact sheets: heat, boxes, text, signs, images scaled into a cell."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from heatcrop.data.images import ImageError, read_image

Colour = tuple[int, int, int]
Shape = Callable[[ImageDraw.ImageDraw], None]
INK, SOFT, FAINT = (31, 36, 48), (92, 100, 116), (222, 226, 233)
PAPER, MAT, WHITE = (255, 255, 255), (244, 246, 249), (255, 255, 255)
GREEN, RED, OCHRE, AMBER = (16, 128, 92), (200, 50, 62), (150, 105, 10), (176, 84, 0)
CYAN = (127, 242, 255)
COLOUR_OF = {2: GREEN, 1: OCHRE, 0: RED, -1: SOFT}
SIGNS = {2: "✓", 1: "≈", 0: "✗", -1: "?"}

FINE = 4
"""Text and signs are drawn this many times larger and scaled down, which smooths edges and spacing."""

THREADS = 2
"""Threads that read images and draw panels."""


@functools.lru_cache(maxsize=32)
def _font(size_px: int, ascii_only: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if ascii_only:
        return ImageFont.load_default(size_px * FINE)
    # Pillow's font holds ASCII only; Matplotlib's has accents, Greek, Cyrillic and more.
    file = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(str(file), size_px * FINE)


def _stamp(
    sheet: Image.Image, at: tuple[float, float], size: tuple[int, int], colour: Colour, draw: Shape
) -> None:
    """Paste a smooth shape, top left at `at`; `draw` draws it in 255, `FINE` times larger."""
    mask = Image.new("L", (size[0] * FINE, size[1] * FINE))
    draw(ImageDraw.Draw(mask))
    sheet.paste(colour, (round(at[0]), round(at[1])), mask.resize(size, Image.Resampling.BOX))


def text_width(words: str, size_px: int) -> float:
    """Measure a line of text, in pixels."""
    return _font(size_px, words.isascii()).getlength(words) / FINE


def text(
    sheet: Image.Image,
    at: tuple[float, float],
    words: str,
    size_px: int,
    colour: Colour = INK,
    width_px: float = math.inf,
    side: str = "left",
) -> None:
    """Write one line, shortened to a width, from its left (or right) end `at` on its baseline."""
    words = " ".join(words.split())
    if text_width(words, size_px) > width_px:
        while words and text_width(words + "...", size_px) > width_px:
            words = words[:-1]
        words = words.rstrip() + "..."
    font, width, baseline = _font(size_px, words.isascii()), text_width(words, size_px), size_px * 1.5
    x = at[0] - width if side == "right" else at[0]
    place, size = (x, at[1] - baseline), (math.ceil(width) + 2, size_px * 2)
    _stamp(sheet, place, size, colour, lambda draw: draw.text((0, baseline * FINE), words, 255, font, "ls"))


def sign(sheet: Image.Image, at: tuple[int, int], verdict: int, side_px: int) -> None:
    """Draw a disc with a tick (2), a wave (1, maybe), a cross (0) or a question mark (-1)."""
    size, end, font = (side_px, side_px), side_px * FINE, _font(round(side_px * 0.78), False)
    _stamp(sheet, at, size, COLOUR_OF[verdict], lambda draw: draw.ellipse((0, 0, end - 1, end - 1), 255))
    glyph = SIGNS[verdict]
    _stamp(sheet, at, size, WHITE, lambda draw: draw.text((end / 2, end / 2), glyph, 255, font, "mm"))


def pill(sheet: Image.Image, at: tuple[int, int], words: str, size_px: int) -> None:
    """Write words on an amber background with round ends, top left at `at`."""
    height = round(size_px * 1.7)
    width = round(text_width(words, size_px)) + height
    box, radius = (0, 0, width * FINE - 1, height * FINE - 1), height * FINE / 2
    _stamp(sheet, at, (width, height), AMBER, lambda draw: draw.rounded_rectangle(box, radius, 255))
    text(sheet, (at[0] + height / 2, at[1] + height * 0.71), words, size_px, WHITE)


def paste(sheet: Image.Image, image: np.ndarray, at: tuple[int, int], cell: int) -> None:
    """Paste an image into the middle of its cell."""
    ImageDraw.Draw(sheet).rectangle((*at, at[0] + cell - 1, at[1] + cell - 1), fill=MAT)
    height, width = image.shape[:2]
    sheet.paste(Image.fromarray(image), (at[0] + (cell - width) // 2, at[1] + (cell - height) // 2))


def read_panels(
    path: str, size: np.ndarray, box: np.ndarray, image_px: int, crop_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read an image at a scale that suffices, and fit it and its crop into cells with these longer sides.

    `size` (width, height) and `box` (x0, y0, x1, y1) are in pixels of the original. An image that is missing
    or damaged since the run becomes a grey field, so that the others are still reported.
    """
    (width, height), side = size.tolist(), max(1, *(box[2:] - box[:2]).tolist())
    shorter, cell_px = min(width, height), max(image_px, crop_px)
    # The crop must fill its cell, and so must the image's longer side.
    needed = min(shorter, math.ceil(cell_px * max(shorter / side, shorter / max(width, height))))
    try:
        image = read_image(path, at_least_px=max(1, needed))
    except ImageError:
        image = np.full((max(1, round(cell_px * height / width)), cell_px, 3), 200, np.uint8)
    scale = np.array([image.shape[1] / width, image.shape[0] / height])
    x0, y0 = np.minimum(np.floor(box[:2] * scale).astype(int), [image.shape[1] - 1, image.shape[0] - 1])
    x1, y1 = np.maximum([x0 + 1, y0 + 1], np.round(box[2:] * scale).astype(int))
    return fitted(image, image_px), fitted(image[y0:y1, x0:x1], crop_px)


def fitted(image: np.ndarray, cell_px: int) -> np.ndarray:
    """Scale an image so that its longer side is `cell_px`."""
    height, width = image.shape[:2]
    scale = cell_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def outline(image: np.ndarray, box: np.ndarray) -> None:
    """Draw, in place, a white rectangle with soft dark edges, visible on any background."""
    x0, y0, x1, y1 = (round(v) for v in box.tolist())
    for inset, shade, opacity in ((-1, 0, 0.6), (0, 255, 1.0), (1, 255, 1.0), (2, 0, 0.6)):
        ring = np.zeros(image.shape[:2], np.uint8)
        cv2.rectangle(ring, (x0 + inset, y0 + inset), (x1 - 1 - inset, y1 - 1 - inset), 1)
        on = ring == 1
        image[on] = np.round(image[on] * (1 - opacity) + shade * opacity)


def dashed(image: np.ndarray, box: np.ndarray) -> None:
    """Draw, in place, a dashed cyan rectangle on dark."""
    ring, (x0, y0, x1, y1) = np.zeros(image.shape[:2], np.uint8), (round(v) for v in box.tolist())
    cv2.rectangle(ring, (x0, y0), (x1 - 1, y1 - 1), 1, 2)
    y, x = np.nonzero(ring)
    image[y, x] = np.where(((x + y) // 4 % 2)[:, None], CYAN, INK)


def heat_on(
    heat: np.ndarray, frame: tuple[float, float, float, float], size: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Interpolate a map at every pixel of a scaled image of `shape` (H, W).

    `frame` (x0, y0, x1, y1) is what the map covers, in pixels of the original image of `size` (width,
    height); it may reach beyond the image. Beyond it there is no heat.
    """
    rows, columns = heat.shape
    x = (np.arange(shape[1]) + 0.5) / shape[1] * size[0]
    y = (np.arange(shape[0]) + 0.5) / shape[0] * size[1]
    x = (x - frame[0]) / (frame[2] - frame[0]) * columns - 0.5
    y = (y - frame[1]) / (frame[3] - frame[1]) * rows - 0.5
    grid = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    found = cv2.remap(heat, grid[0], grid[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    found[(y < -0.5) | (y > rows - 0.5)] = 0
    found[:, (x < -0.5) | (x > columns - 0.5)] = 0
    return found


def palette() -> np.ndarray:
    """Colour of every heat, (256, 3) uint8: inferno's without its blacks, which would hide the image."""
    colours = mpl.colormaps["inferno"](0.28 + 0.70 * np.linspace(0, 1, 256))
    return np.round(colours[:, :3] * 255).astype(np.uint8)


def heat_colours(threshold: float) -> np.ndarray:
    """Colour and opacity of every heat: (256, 4) uint8 RGBA.

    Opacity follows heat and takes a step at the crop rule's threshold, so that the thresholded area has an
    edge. The page has the same function.
    """
    heat = np.linspace(0, 1, 256)
    above = (heat - threshold) / max(1e-6, 1 - threshold)
    below = 0.24 * (heat / max(threshold, 1e-6)) ** 1.5
    opacity = np.where(heat >= threshold, 0.42 + 0.26 * above, below)
    return np.column_stack([palette(), np.round(opacity * 255).astype(np.uint8)])


def overlay(image: np.ndarray, heat: np.ndarray, threshold: float) -> np.ndarray:
    """Draw (H, W) heat in 0..1 over an (H, W, 3) uint8 image with the colours of :func:`heat_colours`."""
    layer = heat_colours(threshold)[np.round(np.clip(heat, 0, 1) * 255).astype(np.intp)].astype(np.float32)
    alpha = layer[..., 3:] / 255
    return np.round(image * (1 - alpha) + layer[..., :3] * alpha).astype(np.uint8)
