"""Read what stage 2 writes and everything after it reads: ``boxes.csv`` and ``rule.json``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def read_boxes(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Read image and fallback of each row, and its (N, 4) box x0, y0, x1, y1 in pixels, x1/y1 exclusive."""
    sides = ["x0", "y0", "x1", "y1"]
    types = {"image": str, "fallback": str, **dict.fromkeys(sides, np.int64)}
    table = pd.read_csv(path, keep_default_na=False, usecols=list(types), dtype=types)
    boxes = table[sides].to_numpy(np.int64)
    fallback = np.array([sys.intern(text) for text in table["fallback"]], object)
    return pd.DataFrame({"image": table["image"], "fallback": fallback}), boxes


def taken_whole(fallback: np.ndarray) -> np.ndarray:
    """Tell, of the table's ``fallback``, which pictures were not cut: neither by their heatmap nor at the
    attribute's usual place."""
    return ~np.isin(fallback, ("", "usual"))


def read_rule(path: Path) -> dict[str, Any]:
    """Read the ``rule`` that was used, the configured one (``start``), and the search's ``curve``."""
    return dict(json.loads(path.read_text(encoding="utf-8")))
