"""Predictions as arrays for the program, and as tables for people."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.dataset import TaskData
from heatcrop.data.labels import join_probabilities
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError
from heatcrop.metrics.calibration import softmax
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.predictions import (
    is_uncropped,
    read_arrays,
    read_branches,
    read_table,
    write_arrays,
    write_predictions,
)

IMAGES = ("a/1.jpg", "NA", "nan,2.jpg")
PROBABILITIES = np.array([[0.123456784, 0.876543216], [0.5, 0.5], [1.0, 0.0]])
NETWORKS = np.array(["fold 0", "final", "final"])


@pytest.fixture
def data():
    """Three images whose names a table could mistake."""
    letters = np.array([[2, 0], [0, 2], [0, 2]], np.int8)
    splits = np.array(["train", "val", "test"])
    task = Task("t", ("Short", "3/4, long"))
    return TaskData(task, IMAGES, IMAGES, np.full((3, 2), 9), letters, splits, np.full(3, ""))


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(2, 10))
def test_probabilities_are_written_with_eight_decimals(seed, n_rows, n_classes):
    p = softmax(np.random.default_rng(seed).normal(size=(n_rows, n_classes)) * 8)
    read = [[float(number) for number in text.split(";")] for text in join_probabilities(p)]
    np.testing.assert_allclose(read, p, atol=0.5e-8 + 1e-15)


def test_a_table_is_read_back(tmp_path, data):
    write_predictions(tmp_path / "p.csv", data, PROBABILITIES, NETWORKS)
    table, probabilities = read_table(tmp_path / "p.csv")
    assert table["image"].tolist() == list(IMAGES)
    assert table["split"].tolist() == ["train", "val", "test"]
    assert table["class"].tolist() == ["3/4, long", "Short", "Short"]
    np.testing.assert_allclose(probabilities, PROBABILITIES, atol=0.5e-8 + 1e-15)


def test_a_table_names_the_network_and_the_confidence(tmp_path, data):
    write_predictions(tmp_path / "p.csv", data, PROBABILITIES, NETWORKS)
    table = pd.read_csv(tmp_path / "p.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == ["image", "split", "network", "class", "confidence", "probabilities"]
    assert table["network"].tolist() == NETWORKS.tolist()
    assert table["confidence"].tolist() == ["0.87654322", "0.50000000", "1.00000000"]


def test_the_array_holds_what_the_table_shows(tmp_path, data):
    written = write_predictions(tmp_path / "p.csv", data, PROBABILITIES, NETWORKS)
    assert np.array_equal(read_table(tmp_path / "p.csv")[1], written)


def test_an_image_without_a_prediction_is_nan_in_the_array_and_missing_in_the_table(tmp_path, data):
    written = write_predictions(tmp_path / "p.csv", data, PROBABILITIES, NETWORKS, np.array([0, 2]))
    assert np.isnan(written).tolist() == [[False, False], [True, True], [False, False]]
    assert read_table(tmp_path / "p.csv")[0]["image"].tolist() == [IMAGES[0], IMAGES[2]]


def test_a_table_without_rows_is_read_back(tmp_path, data):
    write_predictions(tmp_path / "p.csv", data, PROBABILITIES, NETWORKS, np.arange(0))
    table, probabilities = read_table(tmp_path / "p.csv")
    assert (len(table), len(probabilities)) == (0, 0)


# --- arrays


def test_arrays_are_read_back(tmp_path):
    write_arrays(tmp_path / "a.npz", full=PROBABILITIES, networks=NETWORKS)
    found = read_arrays(tmp_path / "a.npz", rows=3)
    assert np.array_equal(found["full"], PROBABILITIES)
    assert found["networks"].tolist() == NETWORKS.tolist()


def test_only_the_arrays_that_are_named_are_read(tmp_path):
    write_arrays(tmp_path / "a.npz", full=PROBABILITIES, networks=NETWORKS)
    assert list(read_arrays(tmp_path / "a.npz", ("networks",))) == ["networks"]


@pytest.mark.parametrize("kept", [0, 1, 30, 200, -1])
def test_a_truncated_file_of_arrays_is_refused_by_name(tmp_path, kept):
    path = tmp_path / "a.npz"
    write_arrays(path, full=PROBABILITIES)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"a\.npz: is not a complete file of arrays"):
        read_arrays(path)


def test_a_damaged_byte_is_refused_by_name_or_changes_nothing(tmp_path):
    path, arrays = tmp_path / "a.npz", {"full": PROBABILITIES, "networks": NETWORKS}
    write_arrays(path, **arrays)
    content, refused = path.read_bytes(), 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            found = read_arrays(path, tuple(arrays))
        except DataError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
        else:
            assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    assert refused > len(content) / 2


def test_a_missing_file_of_arrays_is_named_with_the_fix(tmp_path):
    with pytest.raises(DataError, match=r"a\.npz: is missing; python pipeline\.py run --all makes it again"):
        read_arrays(tmp_path / "a.npz")


def test_pickled_objects_are_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", full=np.array([{}], object))
    with pytest.raises(DataError, match=r"a\.npz: is not a complete file of arrays"):
        read_arrays(tmp_path / "a.npz")


def test_a_single_array_is_no_file_of_arrays(tmp_path):
    np.save(tmp_path / "a.npy", PROBABILITIES)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a\.npz: "):
        read_arrays(tmp_path / "a.npz")


def test_a_missing_array_is_named(tmp_path):
    write_arrays(tmp_path / "a.npz", full=PROBABILITIES)
    with pytest.raises(DataError, match=r"a\.npz: has no array networks;"):
        read_arrays(tmp_path / "a.npz", ("full", "networks"))


def test_an_array_without_rows_is_refused_where_rows_are_expected(tmp_path):
    write_arrays(tmp_path / "a.npz", full=np.array(1.0))
    with pytest.raises(DataError, match=r"a\.npz: full has 0 rows; expected 4"):
        read_arrays(tmp_path / "a.npz", rows=4)


def test_arrays_of_another_number_of_images_are_refused(tmp_path):
    write_arrays(tmp_path / "a.npz", full=PROBABILITIES)
    with pytest.raises(DataError, match=r"a\.npz: full has 3 rows; expected 4"):
        read_arrays(tmp_path / "a.npz", rows=4)


# --- branches


def test_branches_of_stages_that_have_not_run_have_no_prediction(tmp_path, data):
    found = read_branches(TaskFolder(tmp_path), data)
    assert list(found) == ["full", "crop", "fused"]
    assert all(np.isnan(values).all() for values in found.values())


def test_each_branch_is_read_from_its_stage(tmp_path, data):
    folder = TaskFolder(tmp_path)
    write_arrays(folder.predictions(1), full=PROBABILITIES)
    write_arrays(folder.predictions(3), crop=PROBABILITIES + 1, fused=PROBABILITIES + 2)
    found = read_branches(folder, data)
    assert np.array_equal(found["full"], PROBABILITIES)
    assert np.array_equal(found["crop"], PROBABILITIES + 1)
    assert np.array_equal(found["fused"], PROBABILITIES + 2)


def test_a_branch_of_other_classes_is_refused(tmp_path, data):
    folder = TaskFolder(tmp_path)
    write_arrays(folder.predictions(1), full=np.ones((3, 5)))
    with pytest.raises(DataError, match=r"full has shape \(3, 5\); expected \(3, 2\)"):
        read_branches(folder, data)


def test_images_are_uncropped_unless_cropped_by_heatmap_or_at_the_usual_place():
    fallback = np.array(["", "usual", "flat", "off", "huge"])
    assert is_uncropped(fallback).tolist() == [False, False, True, True, True]
