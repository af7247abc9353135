"""Lists of images that are left out of training and validation."""

import pandas as pd
import pytest

from heatcrop.data.exclusions import Exclusion, exclude_rows, read_exclusions
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError

TASKS = (Task("beak", ("hooked", "long")), Task("wing_length", ("long", "short")))
ROWS = pd.DataFrame(
    [
        ("a.jpg", "beak", "train"),
        ("a.jpg", "wing_length", "train"),
        ("b.jpg", "beak", "val"),
        ("c.jpg", "beak", "test"),
        ("d.jpg", "beak", "train"),
    ],
    columns=["image", "task", "split"],
)


@pytest.fixture
def listed(tmp_path):
    def read(text, encoding="utf-8"):
        path = tmp_path / "bad.csv"
        path.write_text(text, encoding=encoding)
        return read_exclusions(path, TASKS)

    return read


def kept(*exclusions):
    rows, *_ = exclude_rows(ROWS, [Exclusion("bad.csv:2", *one) for one in exclusions], ROWS)
    return [f"{row.image} {row.task}" for row in rows.itertuples()]


def test_every_line_names_an_image(listed, tmp_path):
    assert listed("image\na.jpg\n\nb.jpg\n") == [
        Exclusion(f"{tmp_path}/bad.csv:2", "a.jpg", ""),
        Exclusion(f"{tmp_path}/bad.csv:4", "b.jpg", ""),
    ]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("sep=;\nImage;Task\nä.jpg;beak\n", "utf-16"), ('"image"\t"task"\nä.jpg\tBEAK\n', "utf-8")],
)
def test_a_list_from_a_spreadsheet_is_read(listed, text, encoding):
    (found,) = listed(text, encoding)
    assert (found.image, found.task) == ("ä.jpg", "beak")


def test_a_task_may_have_its_short_name(listed):
    assert listed("task,image\nwing,a.jpg\n")[0].task == "wing_length"


def test_rows_that_are_not_suspect_are_ignored(listed):
    assert [one.image for one in listed("image,suspect\na.jpg,0\nb.jpg,1\n")] == ["b.jpg"]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("name\na.jpg\n", "bad.csv:1: the header 'name' lacks image"),
        ("sep=;\n", "bad.csv: holds no row; expected the header 'image'"),
        ("image,task\na.jpg,tail\n", "bad.csv:2: no task is named 'tail'"),
        ("image,suspect\na.jpg,0\nb.jpg,x\n", "bad.csv:3: suspect is 'x'; expected 1, or 0"),
        ("image,task\na.jpg\n", "bad.csv:2: 1 column; the header has 2"),
        ('image\n"a.jpg\n', "bad.csv:2: a double quote is not closed"),
        (" \n", "bad.csv: the file is empty"),
    ],
)
def test_a_wrong_list_is_reported_with_its_line(listed, text, finding):
    with pytest.raises(DataError) as raised:
        listed(text)
    assert finding in str(raised.value)


def test_an_image_is_excluded_from_every_task_or_from_one():
    assert kept(("a.jpg", "")) == ["b.jpg beak", "c.jpg beak", "d.jpg beak"]
    assert kept(("a.jpg", "beak")) == ["a.jpg wing_length", "b.jpg beak", "c.jpg beak", "d.jpg beak"]
    assert kept(("a.jpg", "wing_length"), ("a.jpg", "beak")) == ["b.jpg beak", "c.jpg beak", "d.jpg beak"]


@pytest.mark.parametrize(
    ("annotated", "listed"),
    [
        ("photos/a.jpg", "photos\\a.jpg"),
        ("photos/a.jpg", "./photos//a.jpg"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        ("mnt/photos/a.jpg", "/mnt/photos/a.jpg"),
    ],
)
def test_a_list_may_write_a_name_as_annotations_may(annotated, listed):
    rows = pd.DataFrame([(annotated, "beak", "train")], columns=["image", "task", "split"])
    left, notes, problems = exclude_rows(rows, [Exclusion("bad.csv:2", listed, "")], rows)
    assert (len(left), len(notes), problems) == (0, 1, [])


def test_validation_images_are_excluded_and_test_images_stay():
    rows, notes, problems = exclude_rows(
        ROWS, [Exclusion("bad.csv:2", "b.jpg", "beak"), Exclusion("bad.csv:3", "c.jpg", "")], ROWS
    )
    assert list(rows["image"]) == ["a.jpg", "a.jpg", "c.jpg", "d.jpg"]
    assert notes == [
        "1 row left out of training and validation by data.excluded",
        "1 row of the test set stays, though data.excluded names it",
    ]
    assert problems == []


def test_images_that_the_data_lacks_are_a_problem():
    rows, notes, problems = exclude_rows(
        ROWS, [Exclusion("bad.csv:2", "x.jpg", ""), Exclusion("bad.csv:3", "b.jpg", "wing_length")], ROWS
    )
    assert len(rows) == len(ROWS)
    assert notes == []
    assert problems == [
        "data.excluded names 2 images that the data does not have, for instance bad.csv:2: x.jpg; "
        "write names as the annotations do"
    ]


def test_a_list_may_name_tasks_that_are_not_asked_for():
    """As one list of all tasks, when a single one is trained again."""
    asked = ROWS[ROWS["task"] == "wing_length"]
    rows, notes, problems = exclude_rows(asked, [Exclusion("bad.csv:2", "b.jpg", "beak")], ROWS)
    assert len(rows) == len(asked)
    assert notes == problems == []


def test_nothing_is_excluded_without_a_list():
    rows, notes, problems = exclude_rows(ROWS, [], ROWS)
    assert len(rows) == len(ROWS)
    assert notes == problems == []
