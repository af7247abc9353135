"""MXNet's weight files, read and written without MXNet."""

import struct

import numpy as np
import pytest

from heatcrop.errors import WeightsError
from heatcrop.nets.gluon.engine import mxnet
from heatcrop.nets.weights.params_file import read_classifier, read_params, write_params

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "blocks.0.gamma": np.array([1, -2.5], np.float16),
    "steps": np.array([3], np.int64),
}


def saved_by_mxnet(path):
    mx = mxnet()
    mx.nd.save(str(path), {name: mx.nd.array(a, dtype=a.dtype) for name, a in ARRAYS.items()})
    return path


def test_a_file_of_mxnet_is_read(tmp_path):
    found = read_params(saved_by_mxnet(tmp_path / "mxnet.params"))
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_the_same_bytes_are_written(tmp_path):
    write_params(tmp_path / "own.params", ARRAYS)
    expected = saved_by_mxnet(tmp_path / "mxnet.params").read_bytes()
    assert (tmp_path / "own.params").read_bytes() == expected


@pytest.mark.parametrize("kept", [0, 8, 20, 40, 60, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "w.params"
    write_params(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"w\.params: cannot be read as weights \(it ends early\)"):
        read_params(path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 1, "no file of MXNet's arrays"),
        (24, 1, "unknown form"),  # the first array's magic number
        (28, 1, "unknown form"),  # sparse
        (32, 200, "unknown form"),  # axes
        (60, 9, "unknown type"),
    ],
)
def test_another_file_is_refused(tmp_path, place, value, message):
    path = tmp_path / "w.params"
    write_params(path, ARRAYS)
    data = bytearray(path.read_bytes())
    data[place] = value
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match=message):
        read_params(path)


def test_two_arrays_of_one_name_are_refused(tmp_path):
    path = tmp_path / "w.params"
    write_params(path, {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)})
    data = bytearray(path.read_bytes())
    start = len(data) - 2 * (8 + 1) - 8  # the number of names, then the length and the text of each
    names = struct.pack("<Q", 3) + 2 * (struct.pack("<Q", 1) + b"a") + struct.pack("<Q", 1) + b"b"
    path.write_bytes(bytes(data[:start]) + names)
    with pytest.raises(WeightsError, match="2 arrays and 2 names"):
        read_params(path)


def test_only_what_the_program_wrote_is_made_again(tmp_path):
    (tmp_path / "own.params").write_bytes(b"no weights")
    with pytest.raises(WeightsError) as own:
        read_classifier(tmp_path / "own.params", {})
    with pytest.raises(WeightsError) as given:
        read_params(tmp_path / "own.params")
    assert str(own.value).endswith("run --all makes it again")
    assert "makes it again" not in str(given.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.params: cannot be read"):
        read_params(tmp_path / "none.params")
