"""Equal rows of numbers in one file, read and written by place."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.files import reserve


class RowFile:
    """A file of arrays of one shape and type; a new one is all zero at first.

    A memory map would do the same in fewer words; but the pages it has touched count as the process's own
    memory for as long as it is open, and features of a million pictures are more than a machine has.
    Threads may read and write different rows at once.

    Parameters
    ----------
    path : Path
        Its folder must exist.
    count : int
        Rows.
    shape : tuple of int
        Of a row.
    dtype : numpy type
        Of the file; rows are given and taken as float32.
    new : bool
        Make it anew; otherwise it is there, and is only read.

    Raises
    ------
    OSError
        When the disk has no room for all of it.
    """

    def __init__(
        self, path: Path, count: int, shape: tuple[int, ...], dtype: Any = np.float16, new: bool = True
    ) -> None:
        self.shape, self._count, self._dtype = tuple(shape), count, np.dtype(dtype)
        self._path, self._bytes = path, self._dtype.itemsize * math.prod(shape)
        self._file = path.open("wb+" if new else "rb", buffering=0)
        if not new:
            return
        with self._named():
            self._file.truncate(count * self._bytes)
            reserve(path, count * self._bytes)  # better told now than after hours

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Write (B, *shape) values, rounded to the file's type, to (B,) rows."""
        values = np.ascontiguousarray(values, self._dtype)
        with self._named():
            for row, value in zip(rows.tolist(), values, strict=True):
                if os.pwrite(self._file.fileno(), value.tobytes(), row * self._bytes) != self._bytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read (B,) rows, (B, *shape) float32."""
        out = np.empty((len(rows), *self.shape), self._dtype)
        for row, place in zip(rows.tolist(), out, strict=True):
            place[...] = np.frombuffer(
                os.pread(self._file.fileno(), self._bytes, row * self._bytes), self._dtype
            ).reshape(self.shape)
        return out.astype(np.float32)

    def save(self, path: Path) -> None:
        """Write all rows as a ``.npy`` file."""
        kind = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": kind, "fortran_order": False, "shape": (self._count, *self.shape)}
        with self._path.open("rb") as rows, path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(rows, file)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Name the file in whatever the system complains of."""
        try:
            yield
        except OSError as error:
            error.filename = str(self._path)
            raise


class RowFiles:
    """Several files of rows, read as if they were one.

    Parameters
    ----------
    files : sequence of RowFile
        At least one, of one shape.
    each : int
        Rows a file; the last one may hold fewer.
    """

    def __init__(self, files: Sequence[RowFile], each: int) -> None:
        self._files, self._each = files, max(1, each)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read (B,) rows, (B, *shape) float32."""
        if len(self._files) == 1:
            return self._files[0].read(rows)
        out, file = np.empty((len(rows), *self._files[0].shape), np.float32), rows // self._each
        for number in np.unique(file).tolist():
            mine = file == number
            out[mine] = self._files[number].read(rows[mine] - number * self._each)
        return out
