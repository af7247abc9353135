"""Define colour palettes, and cloth with patterns drawn as repeating tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

Colour = tuple[int, int, int]

SKINS: tuple[Colour, ...] = (
    (250, 224, 205),
    (244, 212, 190),
    (236, 198, 170),
    (226, 182, 150),
    (205, 156, 120),
    (178, 126, 92),
    (146, 98, 70),
    (112, 74, 54),
)
HAIRS: tuple[Colour, ...] = (
    (38, 30, 30),
    (58, 40, 34),
    (88, 58, 42),
    (124, 82, 52),
    (166, 114, 66),
    (208, 164, 104),
    (142, 66, 44),
    (96, 88, 92),
    (54, 44, 62),
)
# Five cloth colours each, from light to dark; any two of a row may be worn together.
PALETTES: tuple[tuple[Colour, ...], ...] = (
    ((246, 238, 226), (222, 196, 166), (192, 144, 108), (128, 92, 72), (62, 50, 48)),  # camel
    ((240, 243, 246), (176, 200, 220), (104, 142, 180), (52, 82, 124), (30, 42, 66)),  # denim
    ((250, 232, 230), (238, 182, 180), (212, 120, 128), (142, 62, 80), (70, 40, 56)),  # rose
    ((238, 240, 226), (188, 202, 168), (132, 154, 116), (78, 102, 80), (42, 58, 52)),  # sage
    ((252, 240, 208), (244, 206, 116), (222, 152, 70), (164, 92, 50), (66, 52, 58)),  # amber
    ((242, 240, 244), (206, 198, 222), (158, 144, 190), (98, 84, 138), (48, 42, 74)),  # lilac
    ((248, 246, 242), (208, 206, 202), (150, 150, 150), (88, 90, 94), (34, 36, 40)),  # grey
    ((240, 248, 244), (160, 214, 202), (76, 166, 158), (28, 108, 112), (24, 58, 68)),  # teal
    ((252, 244, 234), (248, 196, 168), (234, 120, 92), (186, 62, 56), (66, 38, 48)),  # coral
    ((250, 248, 240), (230, 220, 190), (196, 66, 62), (52, 70, 110), (28, 34, 54)),  # navy and red
    ((244, 236, 236), (216, 176, 188), (168, 96, 118), (108, 48, 68), (56, 30, 42)),  # wine
    ((250, 250, 248), (250, 214, 220), (140, 186, 170), (86, 114, 128), (50, 60, 76)),  # mint and blush
)
PATTERNS = ("plain", "stripe", "pinstripe", "gingham", "tartan", "dots", "floral", "tweed", "spots")


def darker(colour, factor: float) -> Colour:
    """Multiply a colour by a factor; a factor above 1 lightens it."""
    red, green, blue = (min(255, max(0, int(c * factor))) for c in colour)
    return red, green, blue


def blend(a, b, share: float) -> Colour:
    """Interpolate between two colours; `share` 0 is `a`, 1 is `b`."""
    red, green, blue = (int(round(x + (y - x) * share)) for x, y in zip(a, b, strict=True))
    return red, green, blue


def colour_distance(a: Colour, b: Colour) -> int:
    """Sum the absolute differences of two colours over the channels."""
    return sum(abs(x - y) for x, y in zip(a, b, strict=True))


@dataclass(frozen=True)
class Cloth:
    """A colour or a pattern to fill outlines with.

    Attributes
    ----------
    colour : Colour
        Colour of plain cloth, or of a pattern's ground.
    tile : ndarray of uint8, shape (T, T, 3), or None
        Repeating pattern; None for plain cloth.
    scale : float
        Canvas pixels per tile pixel.
    angle : float
        Rotation of the tile in radians.
    """

    colour: Colour
    tile: np.ndarray | None = None
    scale: float = 1.0
    angle: float = 0.0

    @property
    def line(self) -> Colour:
        """Colour of seams and edges: darker than the cloth, or lighter where the cloth is near black."""
        dark = sum(self.colour) < 190
        return blend(self.colour, (205, 200, 205), 0.30) if dark else darker(self.colour, 0.52)

    @property
    def crease(self) -> Colour:
        """Colour of folds and stitches, between the cloth's and its edges'."""
        return blend(self.colour, self.line, 0.55)

    @property
    def inside(self) -> Cloth:
        """Shadowed inner side of the same cloth."""
        return Cloth(darker(self.colour, 0.62))

    def turned(self, angle: float) -> Cloth:
        """Return the same cloth with its pattern rotated by `angle` radians."""
        return self if self.tile is None else replace(self, angle=self.angle + angle)

    def texture(self, x0: int, y0: int, width: int, height: int) -> np.ndarray:
        """Return the pixels of a window of the canvas, ndarray of uint8, shape (height, width, 3)."""
        if self.tile is None:
            plain = np.empty((height, width, 3), np.uint8)
            return cv2.rectangle(plain, (0, 0), (width, height), self.colour, -1)
        c, s = np.cos(self.angle) / self.scale, np.sin(self.angle) / self.scale
        to_tile = np.array([[c, s, c * x0 + s * y0], [-s, c, -s * x0 + c * y0]], np.float32)
        return cv2.warpAffine(
            self.tile,
            to_tile,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )


def weave(
    rng: np.random.Generator, unit: float, colour: Colour, accent: Colour, pattern: str | None = None
) -> Cloth:
    """Draw cloth with a random tile.

    Parameters
    ----------
    rng : numpy.random.Generator
    unit : float
        One head height in canvas pixels.
    colour, accent : Colour
        Ground and figure of the pattern.
    pattern : str, optional
        One of PATTERNS; by default a random one, plain in half of the cases.
    """
    if pattern is None:
        pattern = "plain" if rng.random() < 0.5 else str(rng.choice(PATTERNS[1:]))
    if pattern == "plain":
        return Cloth(colour)
    if colour_distance(colour, accent) < 90:
        accent = (250, 246, 238) if sum(colour) < 420 else darker(colour, 0.55)
    tile = _TILES[pattern](rng, np.array(colour), np.array(accent)).astype(np.uint8)
    angle = 0.0
    if pattern == "stripe":
        angle = float(rng.choice([0, 0, np.pi / 2, np.pi / 4]))
    elif pattern in ("gingham", "tartan"):
        angle = float(rng.choice([0, 0, 0, np.pi / 4]))
    heads = {
        "stripe": 0.55,
        "pinstripe": 0.34,
        "gingham": 0.34,
        "tartan": 0.62,
        "dots": 0.42,
        "floral": 0.95,
        "tweed": 0.3,
        "spots": 0.8,
    }[pattern] * rng.uniform(0.75, 1.4)
    return Cloth(colour, np.ascontiguousarray(tile), heads * unit / tile.shape[0], angle)


def _bands(colour, accent, edges, mix=1.0) -> np.ndarray:
    """Rows of a 64-pixel tile: `accent` between each pair of `edges`."""
    share = np.zeros(64)
    for low, high in edges:
        share[low:high] = mix
    return colour + (accent - colour) * share[:, None]


def _stripe(rng, colour, accent):
    edges = [[(0, 32)], [(0, 16)], [(0, 12), (18, 22)], [(0, 12), (32, 44)]][rng.integers(4)]
    return np.repeat(_bands(colour, accent, edges)[:, None], 64, axis=1)


def _pinstripe(rng, colour, accent):
    return np.repeat(_bands(colour, accent, [(0, 7)], 0.75)[None], 64, axis=0)


def _gingham(rng, colour, accent):
    rows = _bands(colour, accent, [(0, 32)], 0.5)
    return rows[:, None] + rows[None] - colour


def _tartan(rng, colour, accent):
    third = np.array([(240, 230, 210), (40, 40, 50), (200, 70, 60)][rng.integers(3)])
    rows = _bands(colour, accent, [(0, 20), (26, 30)], 0.8)
    rows = rows + 0.6 * (third - rows) * np.isin(np.arange(64), (42, 43, 44))[:, None]
    return (rows[:, None] + rows[None]) / 2


def _dots(rng, colour, accent):
    tile = np.full((64, 64, 3), colour, np.uint8)
    radius = int(rng.integers(5, 12))
    for x, y in ((16, 16), (48, 48)):
        cv2.circle(tile, (x, y), radius, accent.tolist(), -1, cv2.LINE_AA)
    return tile


def _scatter(rng, count, side):
    """Yield random points with a least distance, each as a list of (x, y) with its periodic copies."""
    points = []
    for _ in range(count * 4):
        p = rng.integers(0, side, 2)
        away = [np.abs((p - q + side / 2) % side - side / 2).max() for q in points]
        if not away or min(away) > 0.7 * side / np.sqrt(count):
            points.append(p)
    for x, y in points[:count]:
        yield [
            (int(x + i), int(y + j))
            for i in (-side, 0, side)
            for j in (-side, 0, side)
            if -24 < x + i < side + 24 and -24 < y + j < side + 24
        ]


def _floral(rng, colour, accent):
    side = 128
    tile = np.full((side, side, 3), colour, np.uint8)
    leaf = blend(colour, (96, 130, 90), 0.75)
    second = blend(accent, (250, 240, 220) if accent.sum() < 500 else (220, 110, 110), 0.5)
    for number, copies in enumerate(_scatter(rng, 9, side)):
        radius, turn = int(rng.integers(6, 12)), rng.uniform(0, 2 * np.pi)
        petal = accent.tolist() if number % 2 else second
        for x, y in copies:
            for k in range(2):
                a = turn + 2.4 * k + 0.6
                tip = (int(x + 1.7 * radius * np.cos(a)), int(y + 1.7 * radius * np.sin(a)))
                cv2.ellipse(
                    tile, tip, (radius, radius // 3), float(np.degrees(a)), 0, 360, leaf, -1, cv2.LINE_AA
                )
            for k in range(5):
                a = turn + k * 2 * np.pi / 5
                at = (int(x + 0.7 * radius * np.cos(a)), int(y + 0.7 * radius * np.sin(a)))
                cv2.circle(tile, at, int(0.55 * radius), petal, -1, cv2.LINE_AA)
            cv2.circle(tile, (x, y), max(2, radius // 3), (246, 214, 120), -1, cv2.LINE_AA)
    return tile


def _spots(rng, colour, accent):
    tile = np.full((128, 128, 3), colour, np.uint8)
    for copies in _scatter(rng, 16, 128):
        axes, turn = (int(rng.integers(5, 11)), int(rng.integers(4, 7))), float(rng.uniform(0, 180))
        for at in copies:
            cv2.ellipse(tile, at, axes, turn, 20, 330, accent.tolist(), 4, cv2.LINE_AA)
    return tile


def _tweed(rng, colour, accent):
    share = cv2.GaussianBlur(rng.random((64, 64)).astype(np.float32), (0, 0), 1.0)
    share = np.clip((share - 0.5) * 2.4 + 0.3, 0, 0.8)
    return colour + (accent - colour) * share[..., None]


_TILES = {
    "stripe": _stripe,
    "pinstripe": _pinstripe,
    "gingham": _gingham,
    "tartan": _tartan,
    "dots": _dots,
    "floral": _floral,
    "tweed": _tweed,
    "spots": _spots,
}
