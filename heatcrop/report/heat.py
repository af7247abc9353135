"""Lay heatmaps over pictures: warm where the network looked, clear where it did not."""

from __future__ import annotations

import cv2
import numpy as np
from matplotlib import colormaps

GRID_MAX = 16
"""Maps finer than this are scaled down before they are written into the page."""


def unit_heat(heatmap: np.ndarray, percentile: float = 100.0) -> np.ndarray:
    """Clamp what speaks against the class and scale the reference to 1, as the crop rule does.

    Parameters
    ----------
    heatmap : ndarray of float, shape (h, w)
    percentile : float
        Of the map's values, the one that becomes 1.

    Returns
    -------
    ndarray of float32, shape (h, w), in 0..1

    Examples
    --------
    >>> unit_heat(np.array([[-1.0, 1.0], [2.0, 4.0]])).tolist()
    [[0.0, 0.25], [0.5, 1.0]]
    """
    heat = np.maximum(np.nan_to_num(np.asarray(heatmap, np.float32), nan=0.0, posinf=0.0, neginf=0.0), 0)
    reference = float(np.percentile(heat, percentile)) or float(heat.max(initial=0.0))
    return np.minimum(heat / reference, 1) if reference > 0 else np.zeros_like(heat)


def heat_on(
    heat: np.ndarray, frame: tuple[float, float, float, float], size: tuple[int, int], shown: tuple[int, int]
) -> np.ndarray:
    """Interpolate a map at every pixel of a shown picture.

    Parameters
    ----------
    heat : ndarray of float, shape (h, w)
    frame : tuple (x0, y0, x1, y1)
        What the map covers, in pixels of the original picture; may reach beyond it.
    size, shown : tuple (width, height)
        Of the original picture, and of the picture as shown.

    Returns
    -------
    ndarray of float32, shape (shown height, shown width)
    """
    rows, columns = heat.shape
    x = (np.arange(shown[0]) + 0.5) / shown[0] * size[0]
    y = (np.arange(shown[1]) + 0.5) / shown[1] * size[1]
    x = (x - frame[0]) / (frame[2] - frame[0]) * columns - 0.5
    y = (y - frame[1]) / (frame[3] - frame[1]) * rows - 0.5
    grid_x, grid_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return cv2.remap(
        np.asarray(heat, np.float32), grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def heat_colours(threshold: float) -> np.ndarray:
    """Colour and opacity of every heat: (256, 4) uint8 RGBA.

    The colours are inferno's without its blacks, which would darken the picture and hide it. Opacity
    follows heat and takes a step at the crop rule's threshold, so that what was cut has an edge.
    """
    heat = np.linspace(0, 1, 256)
    colours = colormaps["inferno"](0.28 + 0.70 * heat)
    cut = heat >= threshold
    warm = (heat - threshold) / max(1e-6, 1 - threshold)
    colours[:, 3] = np.where(cut, 0.42 + 0.26 * warm, 0.24 * (heat / max(threshold, 1e-6)) ** 1.5)
    return np.round(colours * 255).astype(np.uint8)


def overlay(picture: np.ndarray, heat: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Lay (H, W) heat in 0..1 over an (H, W, 3) uint8 picture with the colours of :func:`heat_colours`."""
    layer = colours[np.round(np.clip(heat, 0, 1) * 255).astype(np.intp)].astype(np.float32)
    alpha = layer[..., 3:] / 255
    mixed: np.ndarray = picture * (1 - alpha) + layer[..., :3] * alpha
    return np.round(mixed).astype(np.uint8)


def heat_text(heat: np.ndarray) -> dict[str, object]:
    """Pack a map for the page: its shape, and two hexadecimal digits a position.

    >>> heat_text(np.array([[0.0, 1.0]], np.float32))
    {'w': 2, 'h': 1, 'v': '00ff'}
    """
    rows, columns = heat.shape
    if max(rows, columns) > GRID_MAX:
        heat = cv2.resize(heat, (min(columns, GRID_MAX), min(rows, GRID_MAX)), interpolation=cv2.INTER_AREA)
    values = np.round(np.clip(heat, 0, 1) * 255).astype(np.uint8)
    return {"w": values.shape[1], "h": values.shape[0], "v": values.tobytes().hex()}
