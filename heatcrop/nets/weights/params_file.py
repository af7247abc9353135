"""Read and write MXNet's weight files with numpy alone: both engines keep their weights in this format.

A file is a list of named arrays: two 64-bit words (a magic number, 0), the number of arrays, the arrays, the
number of names, the names. An array has a magic number, its storage type (0: dense), its shape, the device
it came from and its type, and then its bytes, all little-endian. A classifier's file also holds its pooling,
where that is not the average.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from heatcrop.errors import WeightsError
from heatcrop.files import write_atomic
from heatcrop.runs.folder import remake
from heatcrop.wording import counted

_LIST, _ARRAY, _DENSE, _CPU = 0x112, 0xF993FAC9, 0, 1
_ARRAY_1 = 0xF993FAC8
"""Of arrays that MXNet wrote before it had storage types. Earlier ones begin with the number of axes."""
_DTYPES = tuple(map(np.dtype, ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")))
"""By the number that stands for a type."""
_MOST_AXES = 32
_POOLING = "pooling"


def write_params(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays atomically, as ``mx.nd.save`` does.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "w.params"
    >>> write_params(file, {"weight": np.ones((2, 3), np.float32)})
    >>> read_params(file)["weight"].shape
    (2, 3)
    """
    parts = [struct.pack("<QQQ", _LIST, 0, len(arrays))]
    for array in arrays.values():
        dtype = array.dtype.newbyteorder("<")
        shape = struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape)
        parts.append(struct.pack("<Ii", _ARRAY, _DENSE) + shape)
        parts.append(struct.pack("<iii", _CPU, 0, _DTYPES.index(dtype)))
        parts.append(np.ascontiguousarray(array, dtype).tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        text = name.encode()
        parts.append(struct.pack("<Q", len(text)) + text)
    write_atomic(path, b"".join(parts), durable=True)


def read_params(path: Path, fix: str = "") -> dict[str, np.ndarray]:
    """Read named arrays; WeightsError, with `fix` at its end, where the file is missing or damaged."""
    try:
        file = io.BytesIO(path.read_bytes())
        if _unpack(file, "<QQ")[0] != _LIST:
            raise ValueError("it is no file of MXNet's arrays")
        arrays = [_read_array(file) for _ in range(_count(file))]
        names = [_take(file, _unpack(file, "<Q")[0]).decode() for _ in range(_count(file))]
        if not len(set(names)) == len(names) == len(arrays):
            raise ValueError(
                f"it holds {counted(len(arrays), 'array(s)')} and {counted(len(set(names)), 'name(s)')}"
            )
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}){fix}") from None
    except ValueError as error:  # a UnicodeDecodeError too
        raise WeightsError(f"{path}: cannot be read as weights ({error}){fix}") from None
    return dict(zip(names, arrays, strict=True))


def write_classifier(path: Path, arrays: Mapping[str, np.ndarray], pooling: float) -> None:
    """Write a classifier's weights, and its pooling where that is below 1."""
    own = {_POOLING: np.array([pooling])} if pooling < 1 else {}
    write_params(path, {**arrays, **own})


def read_classifier(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, np.ndarray], float]:
    """Read what :func:`write_classifier` has written; WeightsError where it does not fit the weights."""
    arrays = read_params(path, f"; {remake(path)}")
    pooling = arrays.pop(_POOLING, np.ones(1))
    if pooling.shape != (1,) or not 0 < pooling[0] <= 1:
        raise WeightsError(
            f"{path}: its pooling is {pooling.tolist()}, expected one share in (0, 1]; {remake(path)}"
        )
    require_fit(arrays, shapes, path, f"; {remake(path)}")
    return arrays, float(pooling[0])


def require_fit(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], path: Path, fix: str = ""
) -> None:
    """Raise WeightsError, whose message ends with `fix`, where arrays are not what a network expects."""
    faults = [f"{name} is missing" for name in shapes if name not in arrays]
    faults += [f"{name} belongs to no layer" for name in arrays if name not in shapes]
    faults += [
        f"{name} has shape {arrays[name].shape}, the network expects {shape}"
        for name, shape in shapes.items()
        if name in arrays and shape != arrays[name].shape
    ]
    if faults:
        raise WeightsError(f"{path}: weights do not fit this network ({faults[0]}){fix}")


def _read_array(file: IO[bytes]) -> np.ndarray:
    (magic,), storage, size = _unpack(file, "<I"), _DENSE, "q"
    if magic == _ARRAY:
        storage, n_axes = _unpack(file, "<ii")
    elif magic == _ARRAY_1:
        (n_axes,) = _unpack(file, "<i")
    else:
        n_axes, size = magic, "I"
    if storage != _DENSE or not 0 <= n_axes <= _MOST_AXES:
        raise ValueError("an array has an unknown form")
    shape = _unpack(file, f"<{n_axes}{size}")
    _, _, number = _unpack(file, "<iii")
    if not 0 <= number < len(_DTYPES) or min(shape, default=0) < 0:
        raise ValueError("an array has an unknown type or shape")
    data = _take(file, math.prod(shape) * _DTYPES[number].itemsize)
    return np.frombuffer(data, _DTYPES[number]).reshape(shape).copy()


def _count(file: IO[bytes]) -> int:
    return int(_unpack(file, "<Q")[0])


def _unpack(file: IO[bytes], form: str) -> tuple[int, ...]:
    return struct.unpack(form, _take(file, struct.calcsize(form)))


def _take(file: IO[bytes], size: int) -> bytes:
    data = file.read(size) if size < 2**62 else b""
    if len(data) != size:
        raise ValueError("it ends early")
    return data
