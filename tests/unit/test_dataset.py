import numpy as np
import pandas as pd
import pytest
from PIL import Image

from heatcrop.data.dataset import survey_images, task_data
from heatcrop.data.tasks import Task

BEAK = Task("beak", ("hooked", "long"))
ROWS = pd.DataFrame(
    {
        "image": ["c.jpg", "a.jpg", "b.jpg", "a.jpg"],
        "path": ["/d/c.jpg", "/d/a.jpg", "/d/b.jpg", "/d/a.jpg"],
        "task": ["beak", "beak", "beak", "wing"],
        "label": ["my", "yn", "", "yn"],
        "split": ["val", "train", "train", "test"],
        "group": ["", "g", "", ""],
        "width": [30, 10, 20, 10],
        "height": [31, 11, 21, 11],
    }
)


@pytest.fixture
def data():
    return task_data(BEAK, ROWS)


def test_rows_of_the_task_are_sorted_by_image(data):
    assert data.images == ("a.jpg", "b.jpg", "c.jpg")


@pytest.mark.parametrize(
    "field, expected",
    [
        ("paths", ["/d/a.jpg", "/d/b.jpg", "/d/c.jpg"]),
        ("sizes", [[10, 11], [20, 21], [30, 31]]),
        ("letters", [[2, 0], [0, 0], [1, 2]]),
        ("splits", ["train", "train", "val"]),
        ("groups", ["g", "", ""]),
        ("labelled", [True, False, True]),
    ],
)
def test_fields_are_in_the_order_of_images(data, field, expected):
    assert np.asarray(getattr(data, field)).tolist() == expected


def test_soft_labels_are_zero_without_a_label(data):
    np.testing.assert_allclose(data.soft, [[1, 0], [0, 0], [0.2, 0.8]])


@pytest.mark.parametrize("labelled, expected", [(False, [0, 1]), (True, [0])])
def test_rows_of_a_split(data, labelled, expected):
    assert data.rows("train", labelled).tolist() == expected


def test_the_survey_gives_sizes_and_reasons(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "good.png")
    sizes, reasons = survey_images([str(tmp_path / name) for name in ("good.png", "absent.png")])
    assert sizes.tolist() == [[20, 10], [0, 0]]
    assert reasons == ["", "there is no such file"]
