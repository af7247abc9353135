"""Read files of a run folder, and report damaged ones with file, line and fix."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from heatcrop.errors import DataError
from heatcrop.files import map_array
from heatcrop.runs.folder import remake
from heatcrop.validation import error_line

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is

T = TypeVar("T")


def damaged(path: Path, finding: str, line: int | None = None) -> DataError:
    """Return the error for a damaged file, to be raised; `line` counts from 1."""
    return DataError(f"{path}{'' if line is None else f':{line}'}: {finding}; {remake(path)}")


def missing(path: Path) -> DataError:
    """Return the error for a missing file, to be raised."""
    return DataError(f"{path}: is missing; {remake(path).removeprefix('delete it, and ')}")


@contextlib.contextmanager
def present(path: Path) -> Iterator[None]:
    """Turn the error of opening a missing file into :func:`missing`."""
    try:
        yield
    except FileNotFoundError:
        raise missing(path) from None


def one_line(error: Exception) -> str:
    """Shorten a library's message."""
    return " ".join(str(error).split())[:160]


def read_json(path: Path, kind: type[T]) -> T:
    """Read the fields of a dataclass from a JSON file; DataError where one is missing or is no such value."""
    with present(path):
        text = path.read_bytes()
    try:
        return TypeAdapter(kind).validate_json(text, strict=True, extra="ignore")
    except ValidationError as error:
        raise damaged(path, error_line(error.errors()[0])) from None


def read_array(path: Path) -> np.ndarray:
    """Memory-map a ``.npy`` file; DataError where it is truncated or none."""
    try:
        with present(path):
            return map_array(path)
    except (ValueError, EOFError) as error:
        raise damaged(path, f"is not a complete array ({one_line(error)})") from None


def read_csv(path: Path, columns: tuple[str, ...], **options: Any) -> pd.DataFrame:
    """Read a CSV file with the `options` of pandas; DataError where it is no table or lacks a column."""
    import pandas as pd

    try:
        with present(path):
            table = pd.read_csv(path, **options)
    except ValueError as error:  # the base of pandas' errors
        raise damaged(path, f"cannot be read as a table ({one_line(error)})") from None
    if absent := [name for name in columns if name not in table.columns]:
        raise damaged(path, f"has no column {', '.join(absent)}", 1)
    return table


def read_history(path: Path) -> pd.DataFrame:
    """Read the metrics of a training, one row an epoch; DataError where a cell is not a number."""
    import pandas as pd

    table = read_csv(path, ("network", "epoch", "seconds"), dtype={"network": str})
    for name in table.columns.drop("network"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        # Every epoch has a number and a duration; validation metrics are empty where nothing was validated.
        wrong = numbers.isna() if name in ("epoch", "seconds") else numbers.isna() & table[name].notna()
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise damaged(path, f"{name} is {table[name][row]!r}; expected a number", row + 2)
    return table
