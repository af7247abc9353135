"""Read what a run has left, and tell in one line what somebody or a disk has damaged since."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heatcrop.errors import REMAKE, DataError

if TYPE_CHECKING:
    import pandas as pd  # pictures are predicted where it is not installed


def damaged(path: Path, what: str, line: int | None = None) -> DataError:
    """What is told of a damaged file: it, the line if there is one, what is wrong, and what helps."""
    return DataError(f"{path}{'' if line is None else f':{line}'}: {what}; {REMAKE}")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    DataError
        Where it holds something else.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"is not valid JSON ({error})") from None
    if not isinstance(told, dict):
        raise damaged(path, f"holds a {type(told).__name__}; expected {{…}}")
    return told


def read_array(path: Path) -> np.ndarray:
    """Open a ``.npy`` file by memory map.

    Raises
    ------
    DataError
        Where it is none, or ends too early.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        cause = " ".join(str(error).split())[:160]
        raise damaged(path, f"is no whole array ({cause})") from None


@contextlib.contextmanager
def readable_table(path: Path, find_row: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Tell, of a CSV that the block reads, why pandas cannot: DataError.

    Parameters
    ----------
    find_row : callable
        Reads it again and raises that error of the row that is wrong, if it finds one.
    """
    try:
        yield
    except ValueError as error:  # pandas' own errors are such
        with contextlib.suppress(ValueError):
            find_row()
        cause = " ".join(str(error).split())[:160]
        raise damaged(path, f"cannot be read as a table ({cause})") from None


def need_columns(path: Path, found: pd.DataFrame, names: tuple[str, ...]) -> None:
    """DataError where a CSV lacks a column."""
    missing = [name for name in names if name not in found.columns]
    if missing:
        raise damaged(path, f"has no column {', '.join(missing)}", 1)


def read_history(path: Path) -> pd.DataFrame:
    """Read a training's figures, a row an epoch.

    Raises
    ------
    DataError
        Where a row does not hold them.
    """
    import pandas as pd

    with readable_table(path):
        table = pd.read_csv(path, dtype={"network": str})
    need_columns(path, table, ("network", "epoch", "seconds"))
    for name in table.columns.drop("network"):
        figures = pd.to_numeric(table[name], errors="coerce")
        # An epoch has its number and its seconds; what was not validated has no figures.
        wrong = figures.isna() if name in ("epoch", "seconds") else figures.isna() & table[name].notna()
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
