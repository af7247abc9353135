"""Rendered images: same bytes for the same seed, valid labels and boxes, consistent files."""

import csv
import re

import cv2
import numpy as np
import pytest

from heatcrop.data.tasks import FASHIONAI
from heatcrop.errors import RunError
from heatcrop.rendered import render, write_dataset

EVERY_CLASS = [(task, k) for task in FASHIONAI for k in range(len(task.classes))]
DESIGN = [task for task in FASHIONAI if task.name.endswith("design_labels")]
every_class = pytest.mark.parametrize(
    "task, class_index", EVERY_CLASS, ids=lambda v: getattr(v, "name", str(v))
)


@pytest.fixture(scope="module")
def drawn():
    """One image of every class of every task."""
    return {(task, k): render(task.name, k, (0, k), side_px=96) for task, k in EVERY_CLASS}


@every_class
def test_every_class_is_drawn(drawn, task, class_index):
    image = drawn[task, class_index].image
    assert image.shape == (96, 96, 3)
    assert image.dtype == np.uint8
    assert image.std() > 5


@every_class
def test_a_label_has_one_y_at_its_class(drawn, task, class_index):
    label = drawn[task, class_index].label
    assert re.fullmatch("[nmy]+", label)
    assert len(label) == len(task.classes)
    assert [i for i, letter in enumerate(label) if letter == "y"] == [class_index]
    assert class_index == 0 or label[0] == "n"


@every_class
def test_the_box_of_a_visible_attribute_lies_in_the_image(drawn, task, class_index):
    box = drawn[task, class_index].box
    assert box is not None or class_index == 0
    x0, y0, x1, y1 = box or (0, 0, 1, 1)
    assert 0 <= x0 < x1 <= 96
    assert 0 <= y0 < y1 <= 96


@pytest.mark.parametrize("task", DESIGN, ids=lambda task: task.name)
def test_design_regions_are_small_and_spread_over_the_image(task):
    boxes = np.array([render(task.name, 1 + k % 4, (9, k), side_px=64).box for k in range(24)]) / 64
    longest = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert longest.min() > 0.11
    assert longest.max() < 0.30
    assert ((boxes[:, 2:] + boxes[:, :2]) / 2).std(axis=0).min() > 0.10


@pytest.mark.parametrize(
    "name, class_index, neighbours",
    [
        ("skirt_length_labels", 2, {1, 3}),
        ("collar_design_labels", 2, {3}),
        ("neckline_design_labels", 4, {2}),
    ],
)
def test_values_near_a_border_are_labelled_maybe(name, class_index, neighbours):
    labels = [render(name, class_index, (3, k), side_px=32).label for k in range(30)]
    maybes = [text.index("m") for text in labels if "m" in text]
    assert 0 < len(maybes) < 12
    assert set(maybes) <= neighbours


def test_a_seed_draws_the_same_bytes_and_another_seed_others():
    first, again, other = (render("lapel_design_labels", 3, seed, 96).image for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hat", 0, 0), "unknown task 'hat'"),
        (("collar_design_labels", 5, 0), "class_index 5 of collar_design_labels: expected 0 to 4"),
        (("collar_design_labels", 1, 0, 31), "side_px 31: expected at least 32"),
    ],
)
def test_arguments_out_of_range_are_rejected(arguments, message):
    with pytest.raises(ValueError, match=message):
        render(*arguments)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A small data set drawn by one process, and the counts it reported."""
    root, counts = tmp_path_factory.mktemp("rendered"), []
    tasks = ["collar_design_labels", "pant_length_labels"]
    write_dataset(root, 2, 1, 7, tasks, workers=1, progress=counts.append, side_px=64)
    return root, tasks, counts


def files_of(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_files_do_not_depend_on_the_number_of_workers(dataset, tmp_path):
    root, tasks, _ = dataset
    write_dataset(tmp_path, 2, 1, 7, tasks, workers=2, side_px=64)
    assert files_of(tmp_path) == files_of(root)


def test_progress_counts_every_image(dataset):
    assert sum(dataset[2]) == 33


def test_test_answers_are_in_a_table_of_their_own(dataset):
    question, answer = (rows_of(dataset[0] / f"rank/Tests/{name}.csv") for name in ("question", "answer"))
    assert len(answer) == 11
    assert [row[:2] for row in question] == [row[:2] for row in answer]
    assert {row[2] for row in question} == {"?"}


def test_training_rows_are_shuffled(dataset):
    tasks = [row[1] for row in rows_of(dataset[0] / "base/Annotations/label.csv")]
    assert len(tasks) == 22
    assert tasks != sorted(tasks)


@pytest.mark.parametrize(
    ("subset", "table"), [("base", "base/Annotations/label.csv"), ("rank", "rank/Tests/answer.csv")]
)
def test_every_labelled_image_is_there(dataset, subset, table):
    root = dataset[0]
    for image, task, label in rows_of(root / table):
        assert re.fullmatch(rf"Images/{task}/[0-9a-f]{{32}}\.jpg", image)
        assert cv2.imread(str(root / subset / image)).shape == (64, 64, 3)
        assert label.count("y") == 1


def test_every_image_has_a_row_of_true_boxes(dataset):
    root = dataset[0]
    boxes = rows_of(root / "boxes_true.csv")
    labelled = rows_of(root / "base/Annotations/label.csv") + rows_of(root / "rank/Tests/answer.csv")
    assert boxes[0] == ["image", "task", "x0", "y0", "x1", "y1"]
    assert {row[0] for row in boxes[1:]} == {row[0] for row in labelled}


@pytest.fixture
def small(tmp_path):
    """Draw one image a class into one folder, with any seed; the folder."""

    def draw(seed=7, progress=lambda count: None):
        write_dataset(tmp_path, 1, 1, seed, ["neck_design_labels"], 1, progress, side_px=32)
        return tmp_path

    return draw


def test_a_complete_set_is_not_drawn_again(small):
    small()
    small(progress=lambda count: pytest.fail("drawn again"))


def test_an_incomplete_set_is_drawn_again(small):
    table = small() / "base/Annotations/label.csv"
    expected = table.read_bytes()
    table.unlink()
    small()
    assert table.read_bytes() == expected


def test_a_set_with_other_parameters_is_kept(small):
    before = files_of(small())
    with pytest.raises(RunError, match="seed is 7, expected 8.*choose another folder"):
        small(seed=8)
    assert files_of(small()) == before


def test_unreadable_parameters_are_reported_with_the_file(small):
    (small() / "demo.json").write_text("{")
    with pytest.raises(RunError, match=r"demo\.json: is not valid JSON .*; delete the folder"):
        small()
