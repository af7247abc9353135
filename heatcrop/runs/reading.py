"""Read files of a run folder, and report damaged ones with file, line and fix."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heatcrop.errors import REMAKE, DataError
from heatcrop.metrics.fusion import Fusion

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is


def damaged(path: Path, finding: str, line: int | None = None) -> DataError:
    """Return the error for a damaged file, to be raised; `line` counts from 1."""
    return DataError(f"{path}{'' if line is None else f':{line}'}: {finding}; {REMAKE}")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; DataError where it holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise damaged(path, f"holds a {type(value).__name__}; expected {{…}}")
    return value


def read_array(path: Path) -> np.ndarray:
    """Memory-map a ``.npy`` file; DataError where it is truncated or none."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise damaged(path, f"is not a complete array ({_one_line(error)})") from None


@contextlib.contextmanager
def readable_table(path: Path, find_row: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Raise DataError where pandas cannot read a CSV file in the block.

    Parameters
    ----------
    path : Path
    find_row : callable
        Called then; may raise the DataError of the row that is wrong.
    """
    try:
        yield
    except ValueError as error:  # the base of pandas' errors
        with contextlib.suppress(ValueError):
            find_row()
        raise damaged(path, f"cannot be read as a table ({_one_line(error)})") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def need_columns(path: Path, table: pd.DataFrame, names: tuple[str, ...]) -> None:
    """Raise DataError where a table lacks a column."""
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise damaged(path, f"has no column {', '.join(missing)}", 1)


def read_history(path: Path) -> pd.DataFrame:
    """Read the metrics of a training, one row an epoch; DataError where a cell is not a number."""
    import pandas as pd

    with readable_table(path):
        table = pd.read_csv(path, dtype={"network": str})
    need_columns(path, table, ("network", "epoch", "seconds"))
    for name in table.columns.drop("network"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        # Every epoch has a number and a duration; validation metrics are empty where nothing was validated.
        wrong = numbers.isna() if name in ("epoch", "seconds") else numbers.isna() & table[name].notna()
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise damaged(path, f"{name} is {table[name][row]!r}; expected a number", row + 2)
    return table


def read_rule(path: Path) -> dict[str, Any]:
    """Read ``rule.json``: the ``rule`` that was used, the configured one (``start``), the search's ``curve``.

    Raises
    ------
    DataError
        Where the file does not hold a rule and a curve.
    """
    values = read_json(path)
    rule = values.get("rule")
    numbers = [rule.get(name) for name in ("threshold", "percentile")] if isinstance(rule, dict) else [None]
    if not all(type(number) in (int, float) for number in numbers) or not isinstance(
        values.get("curve"), list
    ):
        raise damaged(path, "holds no crop rule and its search; expected what stage crop has written")
    return values


def read_fusion(path: Path) -> Fusion:
    """Read ``fusion.json``; DataError where it lacks a number."""
    values = read_json(path)
    names = [field.name for field in dataclasses.fields(Fusion)]
    for name in names:
        if type(values.get(name)) not in (int, float):
            raise damaged(path, f"{name} is {values.get(name)!r}; expected a number")
    return Fusion(**{name: float(values[name]) for name in names})
