"""Read what stage 2 writes and everything after it reads: ``boxes.csv`` and ``rule.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def read_boxes(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Read the table and its (N, 4) int boxes x0, y0, x1, y1 in pixels, x1/y1 exclusive."""
    table = pd.read_csv(path, keep_default_na=False, dtype={"image": str, "split": str, "fallback": str})
    return table, table[["x0", "y0", "x1", "y1"]].to_numpy(np.int64)


def taken_whole(fallback: np.ndarray) -> np.ndarray:
    """Tell, of the table's ``fallback``, which pictures were not cut: neither by their heatmap nor at the
    attribute's usual place."""
    return ~np.isin(fallback, ("", "usual"))


def read_rule(path: Path) -> dict[str, Any]:
    """Read the ``rule`` that was used, the configured one (``start``), and the search's ``curve``."""
    return dict(json.loads(path.read_text(encoding="utf-8")))
