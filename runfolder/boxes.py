"""Read what stage 2 writes and everything after it reads: ``boxes.csv`` and ``rule.json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runfolder.files import ROWS_AT_ONCE

_SIDES = ("x0", "y0", "x1", "y1")


def read_box_parts(path: Path) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Read part by part what :func:`read_boxes` does."""
    types = {"image": str, "fallback": str, **dict.fromkeys(_SIDES, np.int64)}
    with pd.read_csv(
        path, keep_default_na=False, usecols=list(types), dtype=types, chunksize=ROWS_AT_ONCE
    ) as parts:
        for part in parts:
            fallback = np.array([sys.intern(text) for text in part["fallback"]], object)
            boxes = part[list(_SIDES)].to_numpy(np.int64)
            yield pd.DataFrame({"image": part["image"], "fallback": fallback}), boxes


def read_boxes(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Read image and fallback of each row, and its (N, 4) box x0, y0, x1, y1 in pixels, x1/y1 exclusive."""
    tables, boxes = zip(*read_box_parts(path), strict=True)
    return pd.concat(tables, ignore_index=True), np.concatenate(boxes)


def read_cuts(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read fallback, (N,) str, and (N, 4) box of each row, without the pictures' names."""
    fallbacks, boxes = zip(
        *((t["fallback"].to_numpy(object), b) for t, b in read_box_parts(path)), strict=True
    )
    return np.concatenate(fallbacks), np.concatenate(boxes)


def taken_whole(fallback: np.ndarray) -> np.ndarray:
    """Tell, of the table's ``fallback``, which pictures were not cut: neither by their heatmap nor at the
    attribute's usual place."""
    return ~np.isin(fallback, ("", "usual"))


def read_rule(path: Path) -> dict[str, Any]:
    """Read the ``rule`` that was used, the configured one (``start``), and the search's ``curve``."""
    return dict(json.loads(path.read_text(encoding="utf-8")))
