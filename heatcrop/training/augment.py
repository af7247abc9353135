"""Training augmentation in the two regimes of the competition entry.

Design attributes (collar, lapel, neck, neckline) are read from a detail: a random resized crop
keeps it. Length attributes are read against the whole body: cropping would change the label, so
they keep their frame but for a slight zoom and shift that moves everything alike.
"""

from __future__ import annotations

import bisect
import dataclasses
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from heatcrop.training.views import View

Share = Annotated[float, Field(ge=0, le=1)]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How strongly training views vary; all zero means not at all.

    Attributes
    ----------
    crop_scale : float
        Least share of the area that a random resized crop keeps, (0, 1]; 1 for no crop.
    aspect : float
        Greatest change of aspect of that crop, as a factor >= 1.
    shift : float
        Greatest shift as a share of the side, with a zoom of the same strength.
    flip : float
        Chance of a mirror, 0..1.
    brightness, contrast, saturation : float
        Greatest relative change, 0..1.
    erase : float
        Chance of random erasing (Zhong et al., "Random Erasing Data Augmentation", AAAI 2020), 0..1.
    """

    crop_scale: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    aspect: Annotated[float, Field(ge=1, le=10)] = 1.0
    shift: Share = 0.0
    flip: Share = 0.5
    brightness: Share = 0.2
    contrast: Share = 0.0
    saturation: Share = 0.0
    erase: Share = 0.0

    def of(self, i: int) -> Augmentation:
        """How item i's views vary."""
        return self


@dataclasses.dataclass(frozen=True)
class AugmentationByRow(Augmentation):
    """Several augmentations, each for a run of items: tasks that are trained together keep their own.

    Attributes
    ----------
    kinds : tuple of Augmentation
    ends : tuple of int
        Rising; item i is of the first kind whose end lies above i.
    """

    kinds: tuple[Augmentation, ...] = ()
    ends: tuple[int, ...] = ()

    def of(self, i: int) -> Augmentation:
        return self.kinds[bisect.bisect_right(self.ends, i)]


def random_view(rng: np.random.Generator, view: View, how: Augmentation) -> View:
    """Draw a training view around the view that a test would use."""
    width, height = view.width, view.height
    x0, y0 = view.x0, view.y0
    if how.crop_scale < 1:
        area = rng.uniform(how.crop_scale, 1.0)
        ratio = np.exp(rng.uniform(-1, 1) * np.log(how.aspect))
        w = min(1.0, float(np.sqrt(area * ratio))) * width
        h = min(1.0, float(np.sqrt(area / ratio))) * height
        x0, y0 = x0 + rng.uniform(0, 1) * (width - w), y0 + rng.uniform(0, 1) * (height - h)
        width, height = w, h
    if how.shift > 0:
        zoom = 1 + rng.uniform(-how.shift, how.shift)
        cx = x0 + width / 2 + rng.uniform(-how.shift, how.shift) * width
        cy = y0 + height / 2 + rng.uniform(-how.shift, how.shift) * height
        width, height = width * zoom, height * zoom
        x0, y0 = cx - width / 2, cy - height / 2
    flip = view.flip ^ bool(rng.uniform() < how.flip)
    return View(x0, y0, x0 + width, y0 + height, flip)


def random_colour(rng: np.random.Generator, picture: np.ndarray, how: Augmentation) -> np.ndarray:
    """Change brightness, contrast and saturation of a (H, W, 3) uint8 picture."""
    if not (how.brightness or how.contrast or how.saturation):
        return picture
    gain = 1 + rng.uniform(-how.brightness, how.brightness)
    contrast = 1 + rng.uniform(-how.contrast, how.contrast)
    saturation = 1 + rng.uniform(-how.saturation, how.saturation)
    out = picture.astype(np.float32)
    if how.saturation:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)[:, :, None]
        out = grey + (out - grey) * saturation
    if how.contrast:
        mean = out.mean()
        out = mean + (out - mean) * contrast
    return np.clip(out * gain, 0, 255).astype(np.uint8)


def random_erase(rng: np.random.Generator, picture: np.ndarray, how: Augmentation) -> np.ndarray:
    """Replace one random rectangle (2 to 20 % of the area) of a (H, W, 3) uint8 picture by noise."""
    if rng.uniform() >= how.erase:
        return picture
    height, width = picture.shape[:2]
    area, ratio = rng.uniform(0.02, 0.2) * height * width, np.exp(rng.uniform(-1, 1) * np.log(3.0))
    h = int(np.clip(np.sqrt(area * ratio), 1, height))
    w = int(np.clip(np.sqrt(area / ratio), 1, width))
    y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    out = picture.copy()
    out[y : y + h, x : x + w] = rng.integers(0, 256, (h, w, 3), np.uint8)
    return out
