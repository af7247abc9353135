"""Define body coordinates and poses, and draw the bare body.

Garments are drawn in *body coordinates*: the unit is a head height, x = 0 the middle of the body, y = 0 the
top of the head, growing downwards::

    0.0 top of head   1.0 chin      1.42 pit of the neck    1.66 shoulder joint
    2.1 armpit        3.0 waist     3.8 hips                4.2 crotch
    5.85 knee         7.65 ankle    8.2 ground

:meth:`Figure.px` maps these straight, symmetric coordinates to a pose on the canvas.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .canvas import Canvas, curve, join, symmetric, tube
from .cloth import SKINS, Cloth, darker

WAIST, HIP, CROTCH, KNEE, ANKLE, GROUND = 3.0, 3.8, 4.2, 5.85, 7.65, 8.2
SHOULDER = np.array([0.64, 1.68])
_WIDTH_Y = np.array([0.9, 1.2, 1.5, 2.2, 3.0, 3.8, 5.0])
_WIDTH = np.array([0.20, 0.28, 0.74, 0.64, 0.50, 0.70, 0.75])

# (upper arm, forearm) in radians from hanging straight down, positive outwards
ARMS = {
    "down": (0.13, 0.05),
    "away": (0.45, 0.30),
    "hip": (0.66, -0.82),
    "front": (0.16, -1.75),
    "strap": (0.30, -2.45),
    "up": (2.15, 3.70),
    "belly": (0.22, -1.15),
    "pocket": (0.36, -0.22),
}
# hip, knee, ankle x of the right and the left leg, and how far each foot is raised
LEGS = {
    "straight": ((0.33, 0.29, 0.24), (0.33, 0.29, 0.24), (0.0, 0.0)),
    "apart": ((0.35, 0.43, 0.50), (0.35, 0.43, 0.50), (0.0, 0.0)),
    "relaxed": ((0.33, 0.25, 0.14), (0.35, 0.48, 0.46), (0.0, 0.06)),
    "crossed": ((0.30, 0.12, -0.10), (0.32, 0.24, 0.12), (0.0, 0.14)),
    "walking": ((0.32, 0.24, 0.16), (0.32, 0.28, 0.16), (-0.08, 0.26)),
}


@dataclass(frozen=True)
class Figure:
    """A body in a pose, and its place on the canvas.

    Attributes
    ----------
    unit : float
        One head height in canvas pixels.
    origin : tuple of float
        Canvas pixel of body coordinates (0, 0).
    lean, tilt, head_tilt : float
        Angles of the body, the shoulder line and the head in radians.
    turn, head_turn : float
        How far the body's front and the face are turned to a side, -1 to 1.
    sway : float
        Sideways displacement of the hips in heads.
    mirrored : bool
        Whether the pose is mirrored.
    from_behind : bool
        Whether the figure shows its back.
    skin : Cloth
    arms : tuple of ndarray of float, shape (4, 2)
        Joints of the right and the left arm: shoulder, elbow, wrist, fingertips.
    legs : tuple of ndarray of float, shape (4, 2)
        Joints of the right and the left leg: hip, knee, ankle, ground.
    """

    unit: float
    origin: tuple[float, float]
    lean: float
    turn: float
    sway: float
    tilt: float
    head_tilt: float
    head_turn: float
    mirrored: bool
    from_behind: bool
    skin: Cloth
    arms: tuple[np.ndarray, np.ndarray]
    legs: tuple[np.ndarray, np.ndarray]

    def px(self, points) -> np.ndarray:
        """Map body coordinates (N, 2) to canvas pixels (N, 2)."""
        p = np.atleast_2d(np.asarray(points, dtype=float))
        x, y = p[:, 0], p[:, 1]
        half = np.interp(y, _WIDTH_Y, _WIDTH)
        facing = np.interp(y, [0.8, 1.2, 3.8, 5.0], [0, 1, 1, 0])
        moved = x + self.turn * 0.30 * facing * half * np.clip(1 - (x / half) ** 2, 0, 1)
        moved = moved + self.sway * np.interp(y, [1.2, 3.8, 5.8, 8.2], [0, 1, 0.6, 0.25])
        slope = self.tilt * np.interp(y, [0.9, 1.4, 2.4, 3.8, 5.5], [0, 1, 0.7, -0.7, 0])
        moved_y = y + slope * np.clip(x, -0.9, 0.9)
        if self.mirrored:
            moved = -moved
        c, s = np.cos(self.lean), np.sin(self.lean)
        pivot = 4.0
        out = np.stack([c * moved - s * (moved_y - pivot), s * moved + c * (moved_y - pivot) + pivot], axis=1)
        return out * self.unit + self.origin

    def head_px(self, points) -> np.ndarray:
        """Map points of the head (N, 2), tilted about the chin, to canvas pixels (N, 2)."""
        p = np.atleast_2d(np.asarray(points, dtype=float)) - (0.0, 1.0)
        c, s = np.cos(self.head_tilt), np.sin(self.head_tilt)
        return self.px(p @ np.array([[c, s], [-s, c]]) + (0.0, 1.0))

    def arm(self, side: int, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the middle line (N, 2) of an arm from `start` to `end`, and the positions (N,) along it.

        Positions: 0 shoulder, 1 elbow, 2 wrist, 3 fingertips.
        """
        return _along(self.arms[side], start, end)

    def leg(self, side: int, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
        """Do the same for a leg: 0 hip, 1 knee, 2 ankle, 3 ground."""
        return _along(self.legs[side], start, end)

    @property
    def legs_by_height(self) -> list[int]:
        """Sides of the legs (0 right, 1 left), the raised one first."""
        return sorted((0, 1), key=lambda side: self.legs[side][2, 1])

    def box(self, low_x: float, low_y: float, high_x: float, high_y: float) -> np.ndarray:
        """Map the edge of a rectangle in body coordinates to canvas pixels, (N, 2)."""
        xs, ys = np.linspace(low_x, high_x, 9), np.linspace(low_y, high_y, 9)
        return self.px(
            join(
                np.stack([xs, 0 * xs + low_y], 1),
                np.stack([xs, 0 * xs + high_y], 1),
                np.stack([0 * ys + low_x, ys], 1),
                np.stack([0 * ys + high_x, ys], 1),
            )
        )


def _along(joints: np.ndarray, start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    knots = np.arange(len(joints))
    t = np.linspace(0, len(joints) - 1, 20 * (len(joints) - 1) + 1)
    line = np.stack([np.interp(t, knots, joints[:, k]) for k in (0, 1)], axis=1)
    padded = np.concatenate([2 * line[0] - line[7:0:-1], line, 2 * line[-1] - line[-2:-9:-1]])
    soft = np.stack([np.convolve(padded[:, k], np.ones(15) / 15, "valid") for k in (0, 1)], axis=1)
    at = np.linspace(start, end, max(4, int(14 * abs(end - start)) + 2))
    return np.stack([np.interp(at, t, soft[:, k]) for k in (0, 1)], axis=1), at


def _arm_joints(rng: np.random.Generator, side: int, pose: str) -> np.ndarray:
    """Draw the joints of an arm pose with a small random variation, (4, 2)."""

    def offset(angle, length):
        return np.array([np.sin(angle), np.cos(angle)]) * length

    upper, fore = np.array(ARMS[pose]) + rng.normal(0, 0.07, 2)
    upper = max(upper, 0.06)
    shoulder = SHOULDER - (0, 0.10 * max(0.0, upper - 0.5))
    elbow = shoulder + offset(upper, 1.34)
    wrist = elbow + offset(fore, 1.10)
    tips = wrist + offset(fore * 0.92, 0.52)
    return np.array([shoulder, elbow, wrist, tips]) * (side, 1.0)


def _leg_joints(side: int, xs: tuple[float, float, float], raised: float) -> np.ndarray:
    """Return the joints of a leg: hip, knee, ankle and ground, (4, 2)."""
    heights = np.array([4.05, KNEE, ANKLE]) - raised * np.array([0, 0.35, 1])
    joints = np.stack([np.array(xs) * side, heights], axis=1)
    return np.concatenate([joints, joints[-1:] + (0, 0.45)])


def stand(
    rng: np.random.Generator,
    unit: float,
    origin: tuple[float, float],
    arms: tuple[str, str],
    from_behind: bool = False,
) -> Figure:
    """Draw a figure in a random stance with the named arm poses (right, left)."""
    right, left, lift = LEGS[str(rng.choice(list(LEGS)))]

    def clipped_normal(spread, limit):
        return float(np.clip(rng.normal(0, spread), -limit, limit))

    return Figure(
        unit=unit,
        origin=origin,
        lean=clipped_normal(0.035, 0.08),
        turn=clipped_normal(0.45, 0.95),
        sway=clipped_normal(0.09, 0.16),
        tilt=clipped_normal(0.05, 0.1),
        head_tilt=clipped_normal(0.07, 0.14),
        head_turn=clipped_normal(0.5, 1.0),
        mirrored=bool(rng.random() < 0.5),
        from_behind=from_behind,
        skin=Cloth(SKINS[rng.integers(len(SKINS))]),
        arms=(_arm_joints(rng, 1, arms[0]), _arm_joints(rng, -1, arms[1])),
        legs=(_leg_joints(1, right, lift[0]), _leg_joints(-1, left, lift[1])),
    )


def reach(figure: Figure, side: int, target: tuple[float, float]) -> Figure:
    """Return the figure with one hand moved to `target` (body coordinates), elbow outwards."""
    sign = 1 if side == 0 else -1
    shoulder = SHOULDER
    way = np.array(target) * (sign, 1) - shoulder
    distance = float(np.clip(np.linalg.norm(way), 0.5, 2.4))
    way = way / np.linalg.norm(way)
    upper, fore = 1.34, 1.10
    along = (distance**2 + upper**2 - fore**2) / (2 * distance)
    out = np.sqrt(max(upper**2 - along**2, 0.0))
    normal = np.array([way[1], -way[0]])  # of the two bends, the one with the elbow outwards
    normal = normal if normal[0] >= 0 else -normal
    elbow = shoulder + way * along + normal * out
    wrist = shoulder + way * distance
    joints = np.array([shoulder, elbow, wrist, wrist + 0.45 * (wrist - elbow) / fore]) * (sign, 1)
    arms = (joints, figure.arms[1]) if side == 0 else (figure.arms[0], joints)
    return replace(figure, arms=arms)


_TORSO = symmetric(
    join(
        curve((0, 0.82), (0.155, 0.85), (0.15, 1.2), (0.24, 1.40), (0.62, 1.51), (0.77, 1.66)),
        curve((0.66, 1.95), (0.60, 2.15), (0.58, 2.4), (0.44, WAIST), (0.66, HIP), (0.66, 4.15), (0, 4.3)),
    )
)


def arm_radius(t: np.ndarray) -> np.ndarray:
    """Return half the width of the bare arm at positions `t`, in heads."""
    return np.interp(t, [0, 0.2, 0.6, 1.0, 1.25, 1.95, 2.1], [0.165, 0.165, 0.14, 0.118, 0.125, 0.072, 0.078])


def leg_radius(t: np.ndarray) -> np.ndarray:
    """Return half the width of the bare leg at positions `t`, in heads."""
    return np.interp(
        t, [0, 0.25, 0.85, 1.0, 1.3, 1.6, 1.92, 2.0], [0.33, 0.31, 0.20, 0.178, 0.195, 0.155, 0.092, 0.095]
    )


def draw_legs(canvas: Canvas, figure: Figure, stockings: Cloth | None = None) -> None:
    """Draw both legs, bare or in stockings, the raised one first."""
    cloth = stockings or figure.skin
    for side in figure.legs_by_height:
        centre, t = figure.leg(side, 0.0, 2.06)
        canvas.fill(figure.px(tube(centre, leg_radius(t))), cloth, volume=0.42, line=0.8, closed=False)


def draw_torso(canvas: Canvas, figure: Figure) -> None:
    """Draw neck, shoulders and trunk."""
    skin = figure.skin
    canvas.fill(figure.px(_TORSO), skin, volume=0.3, line=0.8)
    if figure.from_behind:
        canvas.stroke(figure.px(curve((0, 1.5), (0.01, 2.2), (0, 2.9))), darker(skin.colour, 0.86))
        return
    canvas.soft(
        figure.px(curve((-0.17, 0.94), (0, 1.12), (0.17, 0.94), (0.155, 1.16), (0, 1.25), (-0.155, 1.16))),
        0.26,
        0.03,
    )
    for side in (1, -1):
        bone = curve((0.08 * side, 1.47), (0.28 * side, 1.50), (0.55 * side, 1.53))
        canvas.stroke(figure.px(bone), darker(skin.colour, 0.84), 0.9)


def draw_arm(canvas: Canvas, figure: Figure, side: int, start: float = 0.0) -> None:
    """Draw a bare arm; with a `start` above 0 only its lower part and the hand."""
    centre, t = figure.arm(side, 0.0, 2.12)
    full = tube(centre, arm_radius(t), round_start=True)
    part = tube(centre[t >= start], arm_radius(t[t >= start])) if start else full
    canvas.fill(figure.px(part), figure.skin, volume=0.32, line=0.8, closed=False, form=figure.px(full))
    if start:  # otherwise it is drawn with the forearm, in front of the clothes
        _draw_hand(canvas, figure, side)


_HAND = join(
    curve((-0.075, 0.0), (-0.095, 0.14), (-0.085, 0.27), (-0.05, 0.44), (-0.012, 0.5)),
    curve((0.03, 0.49), (0.075, 0.38), (0.095, 0.2), (0.075, 0.0)),
)
_THUMB = curve((0.06, 0.05), (0.125, 0.14), (0.135, 0.27), (0.10, 0.31), (0.075, 0.22), (0.05, 0.16))


def _draw_hand(canvas: Canvas, figure: Figure, side: int) -> None:
    wrist, tips = figure.arms[side][2], figure.arms[side][3]
    down = (tips - wrist) / np.linalg.norm(tips - wrist)
    across = np.array([down[1], -down[0]])
    inward = -1.0 if (across[0] > 0) == (wrist[0] > 0) else 1.0

    def place(shape):
        return figure.px(wrist + shape[:, :1] * across * inward + shape[:, 1:] * down)

    skin = figure.skin
    canvas.fill(place(_THUMB), skin, volume=0.2, line=0.7)
    canvas.fill(place(_HAND), skin, volume=0.25, line=0.7, closed=False)
    for offset in (-0.035, 0.02):
        canvas.stroke(place(np.array([(offset, 0.27), (offset * 0.7, 0.45)])), darker(skin.colour, 0.76), 0.6)
