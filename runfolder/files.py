"""Write files whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attributes import files

if TYPE_CHECKING:
    import pandas as pd  # pictures are predicted where it is not installed

ROWS_AT_ONCE = 10_000
"""Rows of a table that are turned into text at once."""


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """As :func:`attributes.files.whole`, durable, making the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as partial:
        yield partial


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON; NaN becomes null, since JSON has no word for it."""
    write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a CSV with a header."""
    with whole_table(path) as write:
        write(table)


@contextlib.contextmanager
def whole_table(path: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Write a CSV with a header, part by part, whole or not at all; give what it yields each part's rows."""
    with whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        begun = False

        def write(rows: pd.DataFrame) -> None:
            nonlocal begun
            rows.to_csv(file, index=False, header=not begun, lineterminator="\n", chunksize=ROWS_AT_ONCE)
            begun = True

        yield write


def join_tables(path: Path, parts: Sequence[Path]) -> None:
    """Write one CSV from several with the same header."""
    with whole(path) as partial, partial.open("wb") as file:
        for number, part in enumerate(parts):
            with part.open("rb") as rows:
                header = rows.readline()
                file.write(header if not number else b"")
                shutil.copyfileobj(rows, file)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file, to be opened by memory map."""
    array = np.ascontiguousarray(array)
    header = np.lib.format.header_data_from_array_1_0(array)
    with whole(path) as partial, partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data.cast("B") if array.size else b"")  # numpy's own writing hides why it failed


def link(path: Path, target: Path) -> None:
    """Let a path stand for another file, by a relative link; by a copy where there are no links.

    Whoever writes to the path later takes the link away, not what it stands for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.whole(path, durable=False) as partial:
            os.symlink(os.path.relpath(target, path.parent), partial)
    except (OSError, NotImplementedError):
        with whole(path) as partial:
            shutil.copyfile(target, partial)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value
