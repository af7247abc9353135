"""Predictions and boxes that stages leave: arrays for the program, CSV files for people and for ``fuse``.

Rows of the arrays are those of the task's data, in order; a branch that has no prediction of an image has a
row of NaN. Arrays hold what the CSV files show, 8 decimals, so that both agree.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heatcrop.data.dataset import TaskData
from heatcrop.data.labels import DECIMALS, join_probabilities
from heatcrop.files import ROWS_AT_ONCE, atomic_path, join_tables
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.reading import damaged, one_line, present, read_csv
from heatcrop.wording import counted

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is

BRANCHES = ("full", "crop", "fused")


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write named arrays as an ``.npz`` file, atomically."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path, names: Sequence[str] = (), rows: int | None = None) -> dict[str, np.ndarray]:
    """Read some arrays of an ``.npz`` file, all by default.

    DataError where the file is missing or damaged, lacks an array, or has another number of rows than `rows`.
    """
    with present(path), path.open("rb") as file:
        try:
            with np.lib.npyio.NpzFile(file, allow_pickle=False) as found:
                arrays = {name: found[name] for name in names or found.files if name in found.files}
        except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile) as error:
            raise damaged(path, f"is not a complete file of arrays ({one_line(error)})") from None
    for name in names:
        if name not in arrays:
            raise damaged(path, f"has no array {name}")
    for name, array in arrays.items():
        if rows is not None and array.shape[:1] != (rows,):
            found_rows = counted(len(array) if array.ndim else 0, "row(s)")
            raise damaged(path, f"{name} has {found_rows}; expected {rows}, one an image")
    return arrays


def write_predictions(
    path: Path,
    data: TaskData,
    probabilities: np.ndarray,
    networks: np.ndarray,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Write the CSV of a branch: image, split, network, class, confidence, probabilities.

    Parameters
    ----------
    path : Path
    data : TaskData
        N images.
    probabilities : ndarray of float, shape (N, C)
    networks : ndarray of str, shape (N,)
        Which network predicted: ``final``, or ``fold 0`` for one that did not train on the image.
    rows : ndarray of int, optional
        Those that have a prediction; all by default.

    Returns
    -------
    ndarray of float64, shape (N, C)
        As written, NaN elsewhere: what goes into the ``.npz`` file.
    """
    import pandas as pd

    rows = np.arange(len(data)) if rows is None else rows
    written = np.full(data.letters.shape, np.nan)
    written[rows] = np.round(probabilities[rows], DECIMALS)

    def table(part: np.ndarray) -> pd.DataFrame:
        values = probabilities[part]
        columns: dict[str, Any] = {
            "image": [data.images[i] for i in part],
            "split": data.splits[part],
            "network": networks[part],
            "class": [data.task.classes[i] for i in values.argmax(axis=1)],
            "confidence": [f"{p:.{DECIMALS}f}" for p in values.max(axis=1)],
            "probabilities": join_probabilities(values),
        }
        return pd.DataFrame(columns)

    # At least one part: a table without rows has a header all the same.
    starts = range(0, max(1, len(rows)), ROWS_AT_ONCE)
    join_tables(path, (table(rows[start : start + ROWS_AT_ONCE]) for start in starts))
    return written


def read_branches(folder: TaskFolder, data: TaskData) -> dict[str, np.ndarray]:
    """Read each branch's probabilities, float64, shape (N, C); NaN where it has no prediction.

    A branch whose stage has not run yet has none at all.
    """
    found = {}
    for branch in BRANCHES:
        path, values = branch_file(folder, branch), np.full(data.letters.shape, np.nan)
        if path.is_file():
            values = read_arrays(path, (branch,), len(data))[branch]
        if values.shape != data.letters.shape:
            raise damaged(path, f"{branch} has shape {values.shape}; expected {data.letters.shape}")
        found[branch] = values
    return found


def read_probe(folder: TaskFolder, data: TaskData) -> np.ndarray | None:
    """Read the probes' predictions of training images, (N, C); None where stage 3 has made none."""
    path = folder.predictions(3)
    found = read_arrays(path, rows=len(data)).get("probe") if path.is_file() else None
    if found is not None and found.shape != data.letters.shape:
        raise damaged(path, f"probe has shape {found.shape}; expected {data.letters.shape}")
    return found


def branch_file(folder: TaskFolder, branch: str) -> Path:
    """Return the file that holds a branch's probabilities."""
    return folder.predictions(1 if branch == "full" else 3)


def read_table(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Read the CSV of a branch: image, split, class, and the probabilities, (N, C) float64.

    DataError naming the row that does not hold them.
    """
    import pandas as pd

    columns = ("image", "split", "class", "probabilities")
    table = read_csv(path, columns, dtype=str, keep_default_na=False, usecols=columns.__contains__)
    texts = table.pop("probabilities")
    numbers = texts.str.split(";", expand=True).apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if np.isnan(numbers).any():
        row = int(np.isnan(numbers).any(axis=1).argmax())
        raise damaged(path, f"probabilities are {texts[row][:60]!r}; expected p1;p2;…, one a class", row + 2)
    return table, numbers


def is_uncropped(fallback: np.ndarray) -> np.ndarray:
    """Return which images were not cropped: neither by their heatmap nor at the attribute's usual place."""
    return ~np.isin(fallback, ("", "usual"))


def unseen_rows(data: TaskData, predicted: np.ndarray) -> np.ndarray:
    """Return the labelled training and validation rows that stage 3 has predicted, (M,) int.

    No network has trained on a row that it predicts there; `predicted`, (N,) bool, are all of its rows.
    """
    return np.flatnonzero(data.labelled & predicted & np.isin(data.splits, ("train", "val")))


def confidences(probabilities: np.ndarray) -> np.ndarray:
    """Return the confidences of (N, C) predictions, (N,) float64, as they are written."""
    return np.asarray(np.round(probabilities.max(axis=1), DECIMALS))
