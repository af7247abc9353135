"""Write weight files in PyTorch's old format, for tests."""

import io
import pickle
from collections import OrderedDict

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {
    "protocol_version": PROTOCOL,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}


class Named:
    """A name of a module that is not installed."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Tensor:
    def __init__(self, key, offset, shape, stride, size, storage="FloatStorage", extra=()):
        self.pid = ("storage", Named("torch", storage), key, "cpu", size, *extra)
        self.offset, self.shape, self.stride = offset, shape, stride


class Writer(pickle._Pickler):
    """Write the pickles that PyTorch wrote before 1.6, without PyTorch."""

    def persistent_id(self, obj):
        return obj[1] if isinstance(obj, tuple) and len(obj) == 2 and obj[0] is Writer else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Named):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
            return None
        if isinstance(obj, Tensor):
            self.save(Named("torch._utils", "_rebuild_tensor_v2"))
            self.save(((Writer, obj.pid), obj.offset, obj.shape, obj.stride, False, OrderedDict()))
            self.write(pickle.REDUCE)
            return None
        return super().save(obj, save_persistent_id)


def dumped(value):
    file = io.BytesIO()
    Writer(file, 2).dump(value)
    return file.getvalue()


def weight_file(state, storages, magic=MAGIC, protocol=PROTOCOL, keys=None):
    keys = list(storages) if keys is None else keys
    raw = b"".join(len(a).to_bytes(8, "little", signed=True) + a.tobytes() for a in storages.values())
    return b"".join(map(dumped, (magic, protocol, SYSTEM, state, keys))) + raw


VALUES = np.arange(12, dtype="<f4")
GOOD = weight_file(
    OrderedDict(
        a=Tensor("0", 0, (3, 4), (4, 1), 12),
        turned=Tensor("0", 0, (4, 3), (1, 4), 12, extra=(None,)),
        part=Tensor("0", 5, (2,), (3,), 12),
        count=Tensor("1", 0, (), (), 1, "LongStorage"),
        none=Tensor("1", 0, (0, 2), (2, 1), 1, "LongStorage"),
    ),
    {"0": VALUES, "1": np.array([7], "<i8")},
)
