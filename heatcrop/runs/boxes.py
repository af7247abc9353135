"""Read what stage 2 writes and everything after it reads: ``boxes.csv`` and ``rule.json``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heatcrop.files import ROWS_AT_ONCE
from heatcrop.runs.reading import damaged, read_json, readable_table

_SIDES = ("x0", "y0", "x1", "y1")


def read_box_parts(path: Path) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Read part by part what :func:`read_boxes` does."""
    types = {"image": str, "fallback": str, **dict.fromkeys(_SIDES, np.int64)}
    with (
        readable_table(path, lambda: _bad_box(path)),
        pd.read_csv(
            path, keep_default_na=False, usecols=list(types), dtype=types, chunksize=ROWS_AT_ONCE
        ) as parts,
    ):
        for part in parts:
            fallback = np.array([sys.intern(text) for text in part["fallback"]], object)
            boxes = part[list(_SIDES)].to_numpy(np.int64)
            yield pd.DataFrame({"image": part["image"], "fallback": fallback}), boxes


def _bad_box(path: Path) -> None:
    """Raise DataError of the first row whose box is none."""
    sides = list(_SIDES)
    with pd.read_csv(path, dtype=str, keep_default_na=False, usecols=sides, chunksize=ROWS_AT_ONCE) as parts:
        for part in parts:
            bad = part[sides].apply(lambda column: ~column.str.fullmatch(r"\s*-?\d+\s*")).any(axis=1)
            if bad.any():
                row = bad.idxmax()
                found = ",".join(part.loc[row, sides])
                raise damaged(path, f"the box is {found!r}; expected four whole numbers", int(row) + 2)


def read_boxes(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Read image and fallback of each row, and its (N, 4) box x0, y0, x1, y1 in pixels, x1/y1 exclusive."""
    tables, boxes = zip(*read_box_parts(path), strict=True)
    return pd.concat(tables, ignore_index=True), np.concatenate(boxes)


def read_cuts(path: Path, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Read fallback, (N,) str, and (N, 4) box of each of so many rows, without the pictures' names."""
    fallbacks, boxes = zip(
        *((t["fallback"].to_numpy(object), b) for t, b in read_box_parts(path)), strict=True
    )
    found = np.concatenate(boxes)
    if len(found) != rows:
        raise damaged(path, f"has {len(found)} rows; expected {rows}, one a picture")
    return np.concatenate(fallbacks), found


def is_uncropped(fallback: np.ndarray) -> np.ndarray:
    """Tell, of the table's ``fallback``, which pictures were not cut: neither by their heatmap nor at the
    attribute's usual place."""
    return ~np.isin(fallback, ("", "usual"))


def read_rule(path: Path) -> dict[str, Any]:
    """Read the ``rule`` that was used, the configured one (``start``), and the search's ``curve``.

    Raises
    ------
    DataError
        Where the file does not hold a rule and a curve.
    """
    told = read_json(path)
    rule = told.get("rule")
    figures = [rule.get(name) for name in ("threshold", "percentile")] if isinstance(rule, dict) else [None]
    if not all(type(figure) in (int, float) for figure in figures) or not isinstance(told.get("curve"), list):
        raise damaged(path, "holds no crop rule and its search; expected what stage crop has written")
    return told
