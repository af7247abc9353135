"""Equal rows of numbers in one file, read and written by place."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from attributes.files import reserve


class RowFile:
    """A new file of float16 arrays of one shape, all zero at first.

    A memory map would do the same in fewer words; but the pages it has touched count as the process's own
    memory for as long as it is open, and features of a million pictures are more than a machine has.
    Threads may read and write different rows at once.

    Parameters
    ----------
    path : Path
        Made anew; its folder must exist.
    count : int
        Rows.
    shape : tuple of int
        Of a row.

    Raises
    ------
    OSError
        When the disk has no room for all of it.
    """

    def __init__(self, path: Path, count: int, shape: tuple[int, ...]) -> None:
        self.shape = tuple(shape)
        self._path, self._bytes = path, 2 * math.prod(shape)
        self._file = path.open("wb+", buffering=0)
        with self._named():
            self._file.truncate(count * self._bytes)
            reserve(path, count * self._bytes)  # better told now than after hours

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Write (B, *shape) values, rounded to half precision, to (B,) rows."""
        values = np.ascontiguousarray(values, np.float16)
        with self._named():
            for row, value in zip(rows.tolist(), values, strict=True):
                if os.pwrite(self._file.fileno(), value.tobytes(), row * self._bytes) != self._bytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read (B,) rows, (B, *shape) float32."""
        out = np.empty((len(rows), *self.shape), np.float16)
        for row, place in zip(rows.tolist(), out, strict=True):
            place[...] = np.frombuffer(
                os.pread(self._file.fileno(), self._bytes, row * self._bytes), np.float16
            ).reshape(self.shape)
        return out.astype(np.float32)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Name the file in whatever the system complains of."""
        try:
            yield
        except OSError as error:
            error.filename = str(self._path)
            raise
