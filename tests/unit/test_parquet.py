"""Parquet: tables of annotations and of metadata, and a machine without pyarrow."""

import sys

import pyarrow
import pytest
from pyarrow import parquet

from heatcrop.data.readers import read_annotations
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError
from tests.unit.builders import reasons_of, rows_of, touch

WING = Task("wing", ("plain", "striped"))


def write(root, columns, file="birds.parquet"):
    root.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.table(columns), root / file)
    return root


def test_a_table_is_read_like_a_csv(tmp_path):
    columns = {
        "image": ["1.jpg", "2.jpg", "3.jpg", "4.jpg"],
        "task": ["wing"] * 4,
        "label": ["plain", "striped", None, "spotted"],
        "split": ["train", "validation", None, None],
        "group": [7, 7, None, None],
        "note": ["", "", "x", ""],
    }
    root = write(touch(tmp_path / "birds", "1.jpg", "2.jpg", "3.jpg", "4.jpg"), columns)
    found = read_annotations([root], [WING])
    assert rows_of(found) == [
        ("1.jpg", "wing", "yn", "train"),
        ("2.jpg", "wing", "ny", "val"),
        ("3.jpg", "wing", "", "test"),
    ]
    assert found.rows["group"].tolist() == ["7", "7", ""]
    assert list(reasons_of(found)) == ["birds.parquet:row 4"]
    assert read_annotations([root / "birds.parquet"], None).tasks == (
        Task("wing", ("plain", "spotted", "striped")),
    )


def test_numbers_are_classes(tmp_path):
    columns = {"image": ["1.jpg", "2.jpg"], "task": ["wing", "wing"], "label": [0.0, 1.0]}
    assert read_annotations([write(touch(tmp_path, "1.jpg", "2.jpg"), columns)], None).tasks == (
        Task("wing", ("0", "1")),
    )


def test_metadata_may_be_parquet_and_bytes_are_not_read(tmp_path):
    columns = {"file_name": ["1.jpg", "2.jpg"], "wing": ["plain", "striped"], "raw": [b"\x00", b"\xff"]}
    root = write(touch(tmp_path, "1.jpg", "2.jpg"), columns, "metadata.parquet")
    assert rows_of(read_annotations([root], None)) == [
        ("1.jpg", "wing", "yn", ""),
        ("2.jpg", "wing", "ny", ""),
    ]


def test_known_columns_may_have_capitals_and_names_of_tasks_keep_theirs(tmp_path):
    root = touch(tmp_path / "table", "1.jpg", "2.jpg")
    rows = {"Image": ["1.jpg", "2.jpg"], "TASK": ["wing"] * 2, "Label": ["plain", "striped"]}
    expected = [("1.jpg", "wing", "yn", "train"), ("2.jpg", "wing", "ny", "val")]
    found = read_annotations([write(root, rows | {"Split": ["train", "val"]})], [WING])
    assert rows_of(found) == expected
    root = touch(tmp_path / "metadata", "1.jpg", "2.jpg")
    rows = {"File_Name": ["1.jpg", "2.jpg"], "Wing": ["plain", "striped"]}
    assert read_annotations([write(root, rows, "metadata.parquet")], None).tasks == (
        Task("Wing", ("plain", "striped")),
    )


def test_of_columns_that_differ_by_case_none_is_taken_for_another(tmp_path):
    columns = {"Image": ["1.jpg"], "IMAGE": ["2.jpg"], "task": ["wing"], "label": ["plain"]}
    path = write(touch(tmp_path, "1.jpg", "2.jpg"), columns) / "birds.parquet"
    with pytest.raises(DataError, match="Image, IMAGE, task, label lack image"):
        read_annotations([path], [WING], "parquet")


OUT_OF_RANGE = pyarrow.array([10**8], pyarrow.date32())


def test_a_column_that_is_not_used_is_not_read(tmp_path):
    columns = {"image": ["1.jpg"], "task": ["wing"], "label": ["plain"], "taken": OUT_OF_RANGE}
    found = read_annotations([write(touch(tmp_path, "1.jpg"), columns)], [WING])
    assert rows_of(found) == [("1.jpg", "wing", "yn", "")]
    (note,) = found.notes
    assert "1 column not read, 'taken'" in note


def test_a_value_that_cannot_be_read_is_an_error_in_one_line(tmp_path):
    columns = {"file_name": ["1.jpg"], "wing": ["plain"], "taken": OUT_OF_RANGE}
    root = write(touch(tmp_path, "1.jpg"), columns, "metadata.parquet")
    message = r"metadata\.parquet: holds a value that cannot be read \(date value out of range\); correct it"
    with pytest.raises(DataError, match=message):
        read_annotations([root], [WING])


def damaged(root):
    path = write(root, {"image": ["1.jpg"], "task": ["wing"], "label": ["plain"]}) / "birds.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def no_parquet(root):
    (root / "birds.parquet").write_text("image,task,label\n1.jpg,wing,plain\n")


def other_columns(root):
    write(root, {"image": ["1.jpg"], "class": ["plain"]})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (damaged, "birds.parquet: is not a complete Parquet file"),
        (no_parquet, "birds.parquet: is not a complete Parquet file"),
        (
            other_columns,
            "birds.parquet: the columns image, class lack label; expected image",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_in_one_line(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(DataError) as error:
        read_annotations([tmp_path / "birds.parquet"], [WING], "parquet")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_without_pyarrow_the_error_names_the_command(tmp_path, monkeypatch):
    write(tmp_path, {"image": ["1.jpg"], "task": ["wing"], "label": ["plain"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="birds.parquet: Parquet is .* python -m pip install pyarrow"):
        read_annotations([tmp_path], [WING])
