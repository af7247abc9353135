"""The prediction tables that stages leave for each other: one row a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from runfolder.files import write_table

DECIMALS = 8


def join(probabilities: np.ndarray) -> list[str]:
    """Write (N, C) probabilities as ``p1;p2;…`` with 8 decimals, the precision of a submission.

    >>> join(np.array([[0.25, 0.75]]))
    ['0.25000000;0.75000000']
    """
    return [";".join(f"{p:.{DECIMALS}f}" for p in row) for row in probabilities]


def split(column: Sequence[str]) -> np.ndarray:
    """Read them back, (N, C) float64; (0, 1) without rows, which do not tell their classes."""
    if not len(column):
        return np.empty((0, 1))
    return np.array([[float(p) for p in row.split(";")] for row in column], np.float64)


def write_predictions(
    path: Path,
    images: Sequence[str],
    splits: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    network: Sequence[str] | None = None,
) -> None:
    """Write a table with columns image, split, [network,] class, confidence, probabilities.

    Parameters
    ----------
    network : sequence of str, optional
        Which network spoke: ``final``, or ``fold 0`` for one that did not train on the picture.
    """
    best = probabilities.argmax(axis=1)
    columns = {"image": list(images), "split": list(splits)}
    if network is not None:
        columns["network"] = list(network)
    columns["class"] = [classes[i] for i in best]
    columns["confidence"] = [f"{p:.{DECIMALS}f}" for p in probabilities.max(axis=1)]
    columns["probabilities"] = join(probabilities)
    write_table(path, pd.DataFrame(columns))


def read_predictions(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Read the table and its (N, C) probabilities."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table, split(table["probabilities"].tolist())
