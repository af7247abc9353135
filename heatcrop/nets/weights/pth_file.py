"""Read PyTorch's weight files with numpy alone, running no code from the file.

A file of PyTorch 1.6 or newer is a zip: ``data.pkl``, the state dict whose tensors refer to storages by
persistent id, and a file for each storage. An older one is a sequence of pickles (magic number, protocol,
system description, state dict, list of storage keys) followed by the storages, each preceded by its number of
elements. A pickle can call anything that it names; this reader accepts a fixed list of names.
"""

from __future__ import annotations

import dataclasses
import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import numpy as np

from heatcrop.errors import WeightsError
from heatcrop.wording import counted

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_BFLOAT16 = np.dtype([("bfloat16", "<u2")])
"""Stands for the type that numpy lacks; its bits are the upper half of a float32."""
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "BFloat16Storage": _BFLOAT16,
}


def widened(bfloat16: np.ndarray) -> np.ndarray:
    """Turn the bits of bfloat16 numbers, uint16, into float32."""
    return (bfloat16.astype("<u4") << 16).view("<f4")


@dataclasses.dataclass
class _Storage:
    """One storage, whose data follow the pickles."""

    dtype: np.dtype[Any]
    size: int
    data: np.ndarray | None = None


@dataclasses.dataclass
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self) -> np.ndarray:
        storage = self.storage
        assert storage.data is not None
        if math.prod(self.shape) > storage.size:  # a stride of 0 could make it huge
            raise WeightsError("a tensor is larger than its storage; the file is damaged")
        item = storage.dtype.itemsize
        strides = [step * item for step in self.stride]
        try:
            if min(strides, default=0) < 0:
                raise ValueError("a stride is negative")
            view = np.ndarray(self.shape, storage.dtype, storage.data, self.offset * item, strides)
        except ValueError as error:  # numpy compares shape, offset and strides with the storage
            raise WeightsError(f"a tensor does not fit its storage ({error}); the file is damaged") from None
        array = np.array(view, order="C")
        return widened(array["bfloat16"]) if storage.dtype == _BFLOAT16 else array


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_rest: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise WeightsError("a tensor has no storage; the file is damaged")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Accept OrderedDict, the tensor rebuilder and the storage types, and no other name.

    Derived from the unpickler in Python, since the one in C allocates memory for as many objects as a
    damaged file announces.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise WeightsError(f"the file calls for {module}.{name}, which weights do not need; refused")

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ["storage", np.dtype() as dtype, key, _device, size, *_]:
                return self.storages.setdefault(str(key), _Storage(dtype, int(size)))
        raise WeightsError("a storage reference has an unknown form")


def _read_zip(file: IO[bytes]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as parts:
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
            raise WeightsError("it is compressed, which PyTorch's files are not; refused")  # it could be huge
        (listing,) = [name for name in parts.namelist() if name.endswith("/data.pkl")]
        folder = listing.removesuffix("data.pkl")
        if f"{folder}byteorder" in parts.namelist() and parts.read(f"{folder}byteorder") != b"little":
            raise WeightsError("its numbers are big-endian; save it on another machine")
        reader = _Unpickler(io.BytesIO(parts.read(listing)))
        state = reader.load()
        for key, storage in reader.storages.items():
            raw = parts.read(f"{folder}data/{key}")
            if len(raw) != storage.size * storage.dtype.itemsize:
                raise WeightsError(f"storage {key!r} has {len(raw)} bytes, {storage.size} elements expected")
            storage.data = np.frombuffer(raw, storage.dtype)
    return _arrays(state, reader)


def _arrays(state: Any, reader: _Unpickler) -> dict[str, np.ndarray]:
    if not isinstance(state, dict) or any(s.data is None for s in reader.storages.values()):
        raise WeightsError("it holds no complete state dict")
    return {str(name): t.array() for name, t in state.items() if isinstance(t, _Tensor)}


def read_torch_weights(path: Path) -> dict[str, np.ndarray]:
    """Read a state dict, in the file's order, from a ``.pth`` file.

    WeightsError where the file is missing, of another format, damaged, or names any code.
    """
    try:
        # From memory, so that reading beyond the end allocates nothing.
        with io.BytesIO(path.read_bytes()) as file:
            if file.getbuffer()[:2] == b"PK":
                return _read_zip(file)
            for expected in (_MAGIC, _PROTOCOL):
                if _Unpickler(file).load() != expected:
                    raise WeightsError("it is not a weight file of PyTorch")
            _Unpickler(file).load()  # byte order and type sizes, which the dtypes above fix
            reader = _Unpickler(file)
            state = reader.load()
            keys = _Unpickler(file).load()
            for key in keys:
                storage = reader.storages.get(str(key))
                if storage is None:
                    raise WeightsError(f"storage {key!r} belongs to no tensor; the file is damaged")
                count = int.from_bytes(file.read(8), "little", signed=True)
                if count != storage.size:
                    raise WeightsError(
                        f"storage {key!r} holds {counted(count, 'element(s)')}, {storage.size} expected"
                    )
                raw = file.read(count * storage.dtype.itemsize)
                if len(raw) != count * storage.dtype.itemsize:
                    raise WeightsError("the file ends early")
                storage.data = np.frombuffer(raw, storage.dtype)
            return _arrays(state, reader)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise WeightsError(f"{path}: it is not a weight file of PyTorch") from error
