"""Derive classes and labels from continuous values such as the position of a hem.

A value is drawn uniformly from its class's interval. Close to a border the neighbouring class is labelled
``m`` (maybe), as an annotator in doubt would do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scale:
    """Intervals of a value, one a class.

    Attributes
    ----------
    classes : tuple of int
        ``classes[i]`` holds the values from ``edges[i]`` to ``edges[i + 1]``.
    edges : tuple of float
    band : float
        Share of an interval, at each inner border, that counts as near.
    """

    classes: tuple[int, ...]
    edges: tuple[float, ...]
    band: float = 0.05

    def draw(self, rng: np.random.Generator, class_index: int) -> tuple[float, tuple[int, ...]]:
        """Draw a value of a class, and return it with the neighbouring classes it is near to."""
        place = self.classes.index(class_index)
        share = rng.random()
        low, high = self.edges[place], self.edges[place + 1]
        near: tuple[int, ...] = ()
        if share < self.band and place > 0:
            near = (self.classes[place - 1],)
        elif share > 1 - self.band and place < len(self.classes) - 1:
            near = (self.classes[place + 1],)
        return float(low + (high - low) * share), near

    def any(self, rng: np.random.Generator) -> float:
        """Draw a value of any class, for images of other tasks."""
        return self.draw(rng, int(rng.choice(self.classes)))[0]


# Position of the hem. Arms and legs: 0 top, 1 elbow or knee, 2 wrist or ankle, 3 fingertips or ground.
SLEEVES = Scale((1, 2, 3, 4, 5, 6, 7, 8), (-0.30, 0.06, 0.30, 0.78, 1.16, 1.62, 1.93, 2.20, 2.75))
TROUSERS = Scale((1, 2, 3, 4, 5), (0.14, 0.60, 1.03, 1.50, 1.88, 2.50))
# In heads from the top of the head: 3.0 waist, 4.2 crotch, 5.85 knee, 7.65 ankle, 8.2 ground.
SKIRTS = Scale((1, 2, 3, 4, 5), (4.25, 5.40, 6.15, 6.95, 7.62, 8.12))
COATS = Scale((1, 2, 3, 4, 5, 6, 7), (2.55, 3.12, 3.82, 4.50, 5.25, 6.05, 6.95, 7.95))
# Shares of the largest drawn size (see tops.neck_edge, collars) and the lapel's width in heads.
V_DEPTH = Scale((4, 2), (0.0, 0.40, 1.0), band=0.14)
FLAT_COLLAR = Scale((2, 3), (0.05, 0.48, 1.0), band=0.14)
TURTLE = Scale((3, 1), (0.06, 0.52, 1.0), band=0.14)
SHAWL = Scale((3, 4), (0.13, 0.32, 0.52), band=0.14)


def label(count: int, class_index: int, near: tuple[int, ...] = ()) -> str:
    """Write a label with one letter a class.

    >>> label(5, 2, (3,))
    'nnymn'
    """
    return "".join("y" if i == class_index else "m" if i in near else "n" for i in range(count))
