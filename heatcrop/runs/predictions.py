"""The prediction tables that stages leave for each other: one row a picture."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heatcrop.files import ROWS_AT_ONCE, atomic_table
from heatcrop.runs.reading import damaged, need_columns, readable_table

if TYPE_CHECKING:
    import pandas as pd  # pictures are predicted where it is not installed

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
    parts = [column[i : i + ROWS_AT_ONCE] for i in range(0, len(column), ROWS_AT_ONCE)]
    return np.concatenate([np.array([row.split(";") for row in part], np.float64) for part in parts])


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
    import pandas as pd

    with atomic_table(path) as write:
        # At least once: a table without rows has a header all the same.
        for start in range(0, max(1, len(images)), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            some = probabilities[rows]
            columns = {"image": list(images[rows]), "split": list(splits[rows])}
            if network is not None:
                columns["network"] = list(network[rows])
            columns["class"] = [classes[i] for i in some.argmax(axis=1)]
            columns["confidence"] = [f"{p:.{DECIMALS}f}" for p in some.max(axis=1)]
            columns["probabilities"] = join(some)
            write(pd.DataFrame(columns))


def read_parts(path: Path) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Read a table part by part: image, split, [network,] class, and (B, C) probabilities; at least once.

    Raises
    ------
    DataError
        Naming the row that does not hold them.
    """
    import pandas as pd

    named = ("image", "split", "network", "class", "probabilities")
    with (
        readable_table(path),
        pd.read_csv(
            path, dtype=str, keep_default_na=False, usecols=named.__contains__, chunksize=ROWS_AT_ONCE
        ) as parts,
    ):
        for part in parts:
            need_columns(path, part, ("image", "split", "class", "probabilities"))
            probabilities = _split_whole(path, part.pop("probabilities"))
            for name in part.columns.drop("image"):  # few different texts, each kept once
                part[name] = np.array([sys.intern(text) for text in part[name]], object)
            yield part, probabilities


def _split_whole(path: Path, column: pd.Series) -> np.ndarray:
    """As :func:`split`, telling which row it cannot read."""
    texts = column.tolist()
    try:
        return split(texts)
    except (ValueError, AttributeError):
        usual, _ = Counter(str(text).count(";") for text in texts).most_common(1)[0]
        for row, text in zip(column.index, texts, strict=True):
            try:
                whole = split([text]).shape[1] == usual + 1
            except (ValueError, AttributeError):
                whole = False
            if not whole:
                what = f"probabilities are {str(text)[:60]!r}; expected p1;p2;…, one a class"
                raise damaged(path, what, row + 2) from None
        raise


def read_predictions(path: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Read the table, without its ``confidence`` and ``probabilities``, and these as (N, C) numbers."""
    import pandas as pd

    tables, numbers = zip(*read_parts(path), strict=True)
    return pd.concat(tables, ignore_index=True), np.concatenate(numbers)


def read_networks(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read which network spoke of each row, (N,) str, and its (N, C) probabilities."""
    networks, numbers = zip(
        *((part["network"].to_numpy(object), p) for part, p in read_parts(path)), strict=True
    )
    return np.concatenate(networks), np.concatenate(numbers)


def read_aligned(path: Path, places: pd.Index, shape: tuple[int, int]) -> np.ndarray:
    """Read (N, C) probabilities in the order of N pictures, NaN where the table has none of a picture."""
    values = np.full(shape, np.nan)
    for part, numbers in read_parts(path):
        at = places.get_indexer(part["image"].tolist())
        values[at[at >= 0]] = numbers[at >= 0]
    return values
