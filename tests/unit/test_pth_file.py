import builtins
import io
import os
import pickle
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatcrop.errors import WeightsError
from heatcrop.nets.lite0 import lite0_weights_file
from heatcrop.nets.weights.pth_file import read_torch_weights
from tests.torch_file import GOOD, MAGIC, PROTOCOL, SYSTEM, VALUES, Named, Tensor, dumped, weight_file


@pytest.fixture
def read(tmp_path):
    def write_and_read(data):
        path = tmp_path / "weights.pth"
        path.write_bytes(data)
        return read_torch_weights(path)

    return write_and_read


def test_tensors_are_views_into_storages(read):
    state = read(GOOD)
    assert list(state) == ["a", "turned", "part", "count", "none"]
    np.testing.assert_array_equal(state["a"], VALUES.reshape(3, 4))
    np.testing.assert_array_equal(state["turned"], VALUES.reshape(3, 4).T)
    assert state["part"].tolist() == [5, 8]
    assert state["count"].shape == ()
    assert state["count"] == 7
    assert state["count"].dtype == np.int64
    assert state["none"].shape == (0, 2)


@pytest.mark.parametrize(
    ("storage", "dtype"),
    [
        *[("FloatStorage", "<f4"), ("DoubleStorage", "<f8"), ("HalfStorage", "<f2"), ("IntStorage", "<i4")],
        *[("ShortStorage", "<i2"), ("CharStorage", "i1")],
    ],
)
def test_every_storage_type_is_read(read, storage, dtype):
    values = np.array([1, -2, 3], dtype)
    state = read(weight_file({"x": Tensor("k", 0, (3,), (1,), 3, storage)}, {"k": values}))
    assert state["x"].dtype == dtype
    assert state["x"].tolist() == [1, -2, 3]


@pytest.mark.parametrize(
    ("storage", "dtype", "values"), [("ByteStorage", "u1", [1, 200]), ("BoolStorage", "?", [True, False])]
)
def test_a_storage_without_negative_numbers_is_read(read, storage, dtype, values):
    state = read(weight_file({"x": Tensor("k", 0, (2,), (1,), 2, storage)}, {"k": np.array(values, dtype)}))
    assert state["x"].dtype == dtype
    assert state["x"].tolist() == values


def test_bfloat16_is_read_as_float32(read):
    bits = np.array([0x3F80, 0xC020, 0x4049, 0x0000], "<u2")
    tensor = Tensor("k", 0, (2, 2), (1, 2), 4, "BFloat16Storage")
    state = read(weight_file({"x": tensor}, {"k": bits}))
    assert state["x"].dtype == np.float32
    assert state["x"].tolist() == [[1.0, 3.140625], [-2.5, 0.0]]


def test_the_installed_weights_of_lite0():
    state = read_torch_weights(lite0_weights_file())
    assert state["_fc.weight"].shape == (1000, 1280)
    assert state["_fc.bias"].shape == (1000,)
    assert all(np.isfinite(array).all() for array in state.values())
    weights = sum(a.size for k, a in state.items() if "running" not in k and "num_batches" not in k)
    assert weights == 4_652_008  # the published parameter count of EfficientNet-Lite0
    assert all((array >= 0).all() for name, array in state.items() if name.endswith("running_var"))


def zip_file(state, storages, folder="archive", method=zipfile.ZIP_STORED, byteorder=b"little"):
    """Write a file as PyTorch does since 1.6."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as parts:
        parts.writestr(f"{folder}/data.pkl", dumped(state))
        parts.writestr(f"{folder}/byteorder", byteorder)
        for key, values in storages.items():
            parts.writestr(f"{folder}/data/{key}", values.tobytes())
    return file.getvalue()


TURNED = {"turned": Tensor("7", 0, (4, 3), (1, 4), 12), "part": Tensor("7", 5, (2,), (3,), 12)}


def test_a_zip_of_newer_versions_is_read(read):
    state = read(zip_file(TURNED, {"7": VALUES}, "my_net"))
    assert list(state) == ["turned", "part"]
    np.testing.assert_array_equal(state["turned"], VALUES.reshape(3, 4).T)
    assert state["part"].tolist() == [5, 8]


def test_the_file_that_pytorch_writes_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.arange(12.0).reshape(3, 4).T, "n": torch.tensor(7)}, tmp_path / "new.pth")
    state = read_torch_weights(tmp_path / "new.pth")
    np.testing.assert_array_equal(state["a"], np.arange(12.0).reshape(3, 4).T)
    assert state["n"].dtype == np.int64
    assert state["n"] == 7


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zip_file(TURNED, {}), "not a weight file of PyTorch"),
        (zip_file(TURNED, {"7": VALUES[:11]}), "storage '7' has 44 bytes, 12 elements expected"),
        (zip_file(TURNED, {"7": VALUES}, method=zipfile.ZIP_DEFLATED), "compressed"),
        (zip_file(TURNED, {"7": VALUES}, byteorder=b"big"), "big-endian"),
        (zip_file([], {}), "no complete state dict"),
        (zip_file(TURNED, {"7": VALUES})[:-30], "not a weight file of PyTorch"),
        (zip_file(Named("os", "system"), {}), "calls for os.system.*refused"),
    ],
)
def test_a_damaged_or_foreign_zip_is_refused(read, data, words):
    with pytest.raises(WeightsError, match=words):
        read(data)


# --- files that want to run something


class Calls:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def bombs(marker):
    command = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w').close()"
    return [
        Calls(os.system, command),
        Calls(builtins.eval, code),
        Calls(builtins.exec, code),
        Calls(builtins.open, str(marker), "w"),
        Calls(builtins.getattr, marker.write_text, "__globals__"),
        Calls(pickle.loads, pickle.dumps(Calls(os.system, command))),
        Calls(builtins.__import__, "os"),
    ]


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("which", range(7))
def test_a_file_that_asks_for_code_is_refused_and_nothing_runs(read, tmp_path, which, place):
    marker = tmp_path / "it_ran"
    parts = [MAGIC, PROTOCOL, SYSTEM, {}, []]
    parts[place] = bombs(marker)[which]
    with pytest.raises(WeightsError, match="refused|of PyTorch"):
        read(b"".join(pickle.dumps(part, 2) for part in parts))
    assert not marker.exists()


def test_the_bombs_of_this_test_are_live(tmp_path):
    """Without the reader's care the first of them would go off."""
    marker = tmp_path / "it_ran"
    pickle.loads(pickle.dumps(bombs(marker)[0]))
    assert marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "posix.system",
        "builtins.eval",
        "torch.load",
        "torch._utils._rebuild_parameter",
        "collections.defaultdict",
        "numpy.core.multiarray._reconstruct",
        "functools.partial",
    ],
)
def test_only_listed_names_are_known(read, name):
    module, _, attribute = name.rpartition(".")
    with pytest.raises(WeightsError, match="calls for .*refused"):
        read(weight_file({"x": Named(module, attribute)}, {}))


def test_a_dotted_name_does_not_reach_behind_an_allowed_one(read):
    """Protocol 4 resolves dotted names attribute by attribute: `OrderedDict.__init__.__globals__`."""
    stack = b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__class__\x93."
    with pytest.raises(WeightsError):
        read(dumped(MAGIC) + dumped(PROTOCOL) + dumped(SYSTEM) + stack + dumped([]))


# --- files that are damaged


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "of PyTorch"),
        (b"PK\x03\x04 no zip", "of PyTorch"),
        (weight_file({}, {}, magic=1), "of PyTorch"),
        (weight_file({}, {}, protocol=1000), "of PyTorch"),
        (weight_file([1, 2], {}), "no complete state dict"),
        (weight_file(OrderedDict(), {}, keys=["9"]), "belongs to no tensor"),
        (weight_file({"a": Tensor("0", 0, (3,), (1,), 3)}, {"0": VALUES}), "holds 12 elements, 3 expected"),
        (weight_file({"a": Tensor("0", 0, (13,), (1,), 12)}, {"0": VALUES}), "larger than its storage"),
        (weight_file({"a": Tensor("0", 0, (10**9,), (0,), 12)}, {"0": VALUES}), "larger than its storage"),
        (weight_file({"a": Tensor("0", 10, (3,), (1,), 12)}, {"0": VALUES}), "does not fit its storage"),
        (weight_file({"a": Tensor("0", 0, (2, 2), (1, 999), 12)}, {"0": VALUES}), "does not fit its storage"),
        (weight_file({"a": Tensor("0", -1, (3,), (1,), 12)}, {"0": VALUES}), "does not fit its storage"),
        (weight_file({"a": Tensor("0", 0, (-3,), (1,), 12)}, {"0": VALUES}), "does not fit its storage"),
        (weight_file({"a": Tensor("0", 5, (3,), (-1,), 12)}, {"0": VALUES}), "does not fit its storage"),
        (weight_file({"a": Tensor("0", 0, (3, 4), (4,), 12)}, {"0": VALUES}), "does not fit its storage"),
        (weight_file({"a": Tensor("0", 0, (3,), (1,), 12)}, {"0": VALUES}, keys=[]), "no complete state"),
        (weight_file({"a": Tensor("0", 0, (3,), (1,), -12)}, {"0": VALUES}), "elements"),
        (weight_file({"a": Tensor("0", 0, (0, 10**30), (1, 1), 12)}, {"0": VALUES}), "weights.pth"),
    ],
)
def test_damage_is_told_with_the_files_name(read, tmp_path, data, words):
    with pytest.raises(WeightsError, match=words) as caught:
        read(data)
    assert str(caught.value).startswith(str(tmp_path / "weights.pth"))


def test_a_file_that_claims_to_be_large_takes_no_memory(read):
    """Lengths and counts of up to 2**31 in a file of a few bytes; room for them would be gigabytes."""
    head = dumped(MAGIC) + dumped(PROTOCOL) + dumped(SYSTEM)
    big = (2**31 - 1).to_bytes(4, "little")
    tracemalloc.start()
    try:
        for state in (b"K\x01r" + big + b".", b"T" + big, b"X" + big, b"\x8b" + big, b"j" + big):
            with pytest.raises(WeightsError):
                read(head + b"\x80\x02" + state)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_missing_files_and_folders_are_told(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(WeightsError, match="cannot be read"):
            read_torch_weights(path)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("weights") / "damaged.pth"


@given(st.integers(0, len(GOOD) - 1))
@settings(max_examples=150)
def test_a_truncated_file_is_refused(scratch, length):
    scratch.write_bytes(GOOD[:length])
    with pytest.raises(WeightsError):
        read_torch_weights(scratch)


def test_the_real_file_truncated_anywhere_is_refused(scratch):
    data = lite0_weights_file().read_bytes()
    for share in (0.0001, 0.001, 0.002, 0.3, 0.999999):
        scratch.write_bytes(data[: int(share * len(data))])
        with pytest.raises(WeightsError):
            read_torch_weights(scratch)


def read_or_refuse(path, data):
    path.write_bytes(data)
    try:
        state = read_torch_weights(path)
    except WeightsError:
        return
    assert all(isinstance(array, np.ndarray) for array in state.values())


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_random_bytes_are_refused(scratch, data):
    scratch.write_bytes(data)
    with pytest.raises(WeightsError):
        read_torch_weights(scratch)


@given(st.binary(max_size=60))
@settings(max_examples=200)
def test_random_bytes_behind_a_good_head_do_no_harm(scratch, data):
    read_or_refuse(scratch, dumped(MAGIC) + dumped(PROTOCOL) + dumped(SYSTEM) + data)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
@settings(max_examples=400)
def test_a_changed_byte_gives_arrays_or_a_refusal(scratch, place, byte):
    read_or_refuse(scratch, GOOD[:place] + bytes([byte]) + GOOD[place + 1 :])
