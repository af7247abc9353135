"""Rows of numbers in ``.npy`` files, larger than memory, written by index.

Read them with ``np.load(path, mmap_mode="r")[rows]``, anew for each batch: the pages that a memory map has
touched count as the process's memory for as long as the map exists.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from heatcrop.files import reserve


def create_rows(path: Path, shape: tuple[int, ...], dtype: str) -> None:
    """Make a ``.npy`` file of zeros whose room on the disk is reserved; OSError where there is too little."""
    kind = np.dtype(dtype)
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    with _named(path):
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            n_bytes = file.tell() + kind.itemsize * math.prod(shape)
            file.truncate(n_bytes)
        reserve(path, n_bytes)


def write_rows(path: Path, rows: np.ndarray, values: np.ndarray) -> None:
    """Write (B, ...) values, rounded to the file's type, to the (B,) rows of a file.

    Threads may write different rows concurrently. OSError where the disk is full. (Writing through a memory
    map would end the process with SIGBUS.)
    """
    array = np.load(path, mmap_mode="r")
    values = np.ascontiguousarray(values, array.dtype)
    with _named(path), path.open("rb+", buffering=0) as file:
        for row, value in zip(rows.tolist(), values, strict=True):
            place = array.offset + row * value.nbytes
            if os.pwrite(file.fileno(), value.tobytes(), place) != value.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in an error of the system."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
