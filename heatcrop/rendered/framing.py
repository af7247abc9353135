"""Choose the size, the pose and the position of the figure, and what the frame cuts off."""

from __future__ import annotations

import numpy as np

from .accessories import GRIP, HELD
from .bottoms import skirt_hem_width
from .figure import Figure, reach, stand
from .recipes import Plan
from .wardrobe import Outfit

# Half width, upper and lower edge of the region that decides a design task, heads.
REGIONS = {
    "collar_design_labels": (0.60, 0.98, 2.08),
    "neck_design_labels": (0.56, 0.90, 1.95),
    "neckline_design_labels": (0.72, 1.12, 2.52),
    "lapel_design_labels": (0.68, 1.12, 2.58),
}
# Head heights in 512ths of the image's side, from full-body to closer images.
UNITS = {
    "collar_design_labels": (55, 97),
    "neck_design_labels": (58, 105),
    "neckline_design_labels": (46, 80),
    "lapel_design_labels": (45, 77),
    "sleeve_length_labels": (48, 88),
    "coat_length_labels": (38, 62),
    "skirt_length_labels": (40, 66),
    "pant_length_labels": (40, 66),
}
# Relative frequency of arm poses: in design tasks, in the sleeve task, in the other length tasks.
_ARM_ODDS = {
    "down": (34, 40, 34),
    "away": (12, 22, 14),
    "hip": (18, 22, 20),
    "pocket": (12, 6, 12),
    "front": (7, 4, 6),
    "strap": (6, 2, 6),
    "belly": (8, 4, 6),
    "up": (3, 0, 2),
}


def choose_unit(rng: np.random.Generator, task: str, hide: str | None, side: int) -> float:
    """Draw one head height in canvas pixels; `side` is the canvas's."""
    low, high = UNITS[task]
    unit = low * (high / low) ** (rng.random() ** 1.2)
    if hide == "portrait":
        unit = rng.uniform(170, 250)
    elif hide == "frame" and task not in REGIONS:
        unit *= rng.uniform(1.1, 2.0)
    return float(unit * side / 512)


def pose(rng: np.random.Generator, task: str, plan: Plan, unit: float) -> tuple[Figure, tuple | None]:
    """Draw a pose for the plan.

    Returns
    -------
    figure : Figure
        Its origin is (0, 0).
    held : tuple or None
        Held object: name, centre in body coordinates, size in heads.
    """
    column = 0 if task in REGIONS else 1 if task == "sleeve_length_labels" else 2
    odds = np.array([row[column] for row in _ARM_ODDS.values()])
    arms = [str(v) for v in rng.choice(list(_ARM_ODDS), size=2, p=odds / odds.sum())]
    if plan.outfit.bag == "hand":
        arms[plan.outfit.bag_side] = "down"
    if plan.outfit.shawl and plan.outfit.shawl > 3:
        arms = ["down", "down"]
    behind = plan.hide == "behind" or (task not in REGIONS and rng.random() < 0.06)
    if behind:  # a back view has no hands in front
        arms = [arm if arm in ("down", "away", "hip") else "down" for arm in arms]
    figure = stand(rng, unit, (0.0, 0.0), (arms[0], arms[1]), behind)
    if task in REGIONS and plan.hide == "held":
        wide, low, high = REGIONS[task]
        item = str(rng.choice(HELD))
        size = rng.uniform(1.5, 1.75) if item in ("phone", "book") else rng.uniform(1.2, 1.4)
        centre = (rng.uniform(-0.06, 0.06), 0.5 * (low + high) + rng.uniform(0.0, 0.1))
    elif task in REGIONS and not behind and rng.random() < 0.22:
        item, size = str(rng.choice(HELD)), rng.uniform(0.7, 1.2)
        centre = (rng.uniform(-0.2, 0.2), REGIONS[task][2] + 0.62 * size + rng.uniform(0.1, 0.6))
    else:
        return figure, None
    side = int(rng.integers(2))
    grip = np.array(GRIP[item]) * size + centre
    sign = 1 if side == 0 else -1
    return reach(figure, side, (float(grip[0]) + 0.3 * sign, float(grip[1]) + 0.1)), (item, centre, size)


def region(task: str, figure: Figure, outfit: Outfit) -> np.ndarray:
    """Return canvas pixels (N, 2) around the region a task is about."""
    if task in REGIONS:
        wide, low, high = REGIONS[task]
        return figure.box(-wide, low, wide, high)
    if task == "sleeve_length_labels":
        arms = np.concatenate([figure.arm(side, 0.0, 3.0)[0] for side in (0, 1)])
        pad = 0.14
        low, high = arms.min(axis=0) - pad, arms.max(axis=0) + pad
        return figure.box(low[0], min(1.45, low[1]), high[0], high[1])
    legs = np.concatenate([leg[:3] for leg in figure.legs])
    wide = max(0.72, np.abs(legs[:, 0]).max() + 0.2)
    if task == "skirt_length_labels":
        wide = max(wide, skirt_hem_width(outfit.bottom.style, outfit.bottom.hem) + 0.03)
    if task == "coat_length_labels":
        wide = max(wide, 0.85)
    return figure.box(-wide, 1.42 if task == "coat_length_labels" else 2.92, wide, 8.2)


def frame(rng, task: str, plan: Plan, figure: Figure, region_px: np.ndarray, side: int) -> np.ndarray:
    """Draw the shift of the figure in canvas pixels so that the image shows (or cuts off) its region."""
    unit = figure.unit
    low, high = region_px.min(axis=0), region_px.max(axis=0)
    centre, half = (low + high) / 2, (high - low) / 2
    reach_x = max(0.0, 0.5 * side - half[0] - 0.01 * side)
    x = 0.5 * side + rng.uniform(-1, 1) * min(reach_x, 0.33 * side) - centre[0]
    head = figure.px((0.0, -0.1))[0, 1]
    if task in REGIONS:
        y = rng.uniform(half[1] + 0.01 * side, 0.56 * side) - centre[1]
        if plan.hide == "frame":
            if rng.random() < 0.88:
                y = -half[1] * rng.uniform(0.62, 1.7) - centre[1]
            else:
                beyond = half[0] * rng.uniform(0.5, 0.7)
                x = (-beyond if rng.random() < 0.5 else side + beyond) - centre[0]
        return np.array([x, y])
    if task == "sleeve_length_labels":
        least, most = 0.01 * side - low[1], 0.99 * side - high[1]
        if plan.hide == "frame":  # the image begins below the hands
            least, most = -high[1] - 0.4 * unit, -high[1] + 0.15 * unit
        elif plan.hide == "portrait":  # the image ends above the shoulders
            cut = side - figure.px((0.0, 1.55))[0, 1]
            least, most = cut - 0.1 * unit, cut + 0.15 * unit
    else:
        hem = figure.px((0.0, plan.hem))[0, 1]
        least, most = 0.01 * side - low[1], side - hem - 0.45 * unit
        if plan.hide == "frame":
            least = side - hem + 0.12 * unit
            most = side - low[1] - (1.9 if task == "coat_length_labels" else 0.5) * unit
    if plan.hide is None:
        most = min(most, max(0.30 * side - head, least))
    elif plan.hide == "frame" and task != "sleeve_length_labels":
        most = min(most, max(0.2 * side - head, least))
    y = rng.uniform(min(least, most), max(least, most)) if least <= most else 0.5 * (least + most)
    return np.array([x, y])
