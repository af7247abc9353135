"""Training augmentation in the two regimes of the competition entry.

Design attributes (collar, lapel, neck, neckline) are read from a detail, which a random resized crop keeps.
Length attributes are read against the full body. Cropping would change the label, so these tasks keep their
frame except for a slight zoom and shift that moves everything alike.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from heatcrop.training.views import View

_Share = Annotated[float, Field(ge=0, le=1)]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How strongly training views vary; all zero means not at all.

    Attributes
    ----------
    crop_scale : float
        Least share of the area that a random resized crop keeps; 1 for no crop.
    aspect : float
        Greatest change of aspect of that crop, as a factor.
    shift : float
        Greatest shift as a share of the side, with a zoom of the same strength.
    flip : float
        Probability of a mirror image.
    brightness, contrast, saturation : float
        Greatest relative change.
    erase : float
        Probability of random erasing (Zhong et al., "Random Erasing Data Augmentation", AAAI 2020).
    """

    crop_scale: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    aspect: Annotated[float, Field(ge=1, le=10)] = 1.0
    shift: _Share = 0.0
    flip: _Share = 0.5
    brightness: _Share = 0.2
    contrast: _Share = 0.0
    saturation: _Share = 0.0
    erase: _Share = 0.0


def random_view(rng: np.random.Generator, view: View, augment: Augmentation) -> View:
    """Draw a training view around the view that a test would use."""
    width, height = view.width, view.height
    x0, y0 = view.x0, view.y0
    if augment.crop_scale < 1:
        area = rng.uniform(augment.crop_scale, 1.0)
        ratio = np.exp(rng.uniform(-1, 1) * np.log(augment.aspect))
        w = min(1.0, float(np.sqrt(area * ratio))) * width
        h = min(1.0, float(np.sqrt(area / ratio))) * height
        x0, y0 = x0 + rng.uniform(0, 1) * (width - w), y0 + rng.uniform(0, 1) * (height - h)
        width, height = w, h
    if augment.shift > 0:
        zoom = 1 + rng.uniform(-augment.shift, augment.shift)
        cx = x0 + width / 2 + rng.uniform(-augment.shift, augment.shift) * width
        cy = y0 + height / 2 + rng.uniform(-augment.shift, augment.shift) * height
        width, height = width * zoom, height * zoom
        x0, y0 = cx - width / 2, cy - height / 2
    flip = view.flip ^ bool(rng.uniform() < augment.flip)
    return View(x0, y0, x0 + width, y0 + height, flip)


def random_colour(rng: np.random.Generator, image: np.ndarray, augment: Augmentation) -> np.ndarray:
    """Change brightness, contrast and saturation of a (H, W, 3) uint8 image."""
    if not (augment.brightness or augment.contrast or augment.saturation):
        return image
    gain = 1 + rng.uniform(-augment.brightness, augment.brightness)
    contrast = 1 + rng.uniform(-augment.contrast, augment.contrast)
    saturation = 1 + rng.uniform(-augment.saturation, augment.saturation)
    if not (augment.contrast or augment.saturation):
        table = np.clip(np.arange(256, dtype=np.float32) * gain, 0, 255).astype(np.uint8)
        return cv2.LUT(image, table)  # the same pixels as below, in a ninth of the time
    out = image.astype(np.float32)
    if augment.saturation:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)[:, :, None]
        out = grey + (out - grey) * saturation
    if augment.contrast:
        mean = out.mean()
        out = mean + (out - mean) * contrast
    return np.clip(out * gain, 0, 255).astype(np.uint8)


def random_erase(rng: np.random.Generator, image: np.ndarray, augment: Augmentation) -> np.ndarray:
    """Replace one random rectangle (2 to 20 % of the area) of a (H, W, 3) uint8 image by noise."""
    if rng.uniform() >= augment.erase:
        return image
    height, width = image.shape[:2]
    area, ratio = rng.uniform(0.02, 0.2) * height * width, np.exp(rng.uniform(-1, 1) * np.log(3.0))
    h = int(np.clip(np.sqrt(area * ratio), 1, height))
    w = int(np.clip(np.sqrt(area / ratio), 1, width))
    y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    out = image.copy()
    out[y : y + h, x : x + w] = rng.integers(0, 256, (h, w, 3), np.uint8)
    return out
