"""Rendered images: same bytes for the same seed, valid labels and boxes, consistent files."""

import csv
import re

import cv2
import numpy as np
import pytest

from heatcrop.data.tasks import FASHIONAI
from heatcrop.errors import RunError
from heatcrop.rendered import missing_tasks, render, write_dataset

DESIGN = [task for task in FASHIONAI if task.name.endswith("design_labels")]


@pytest.mark.parametrize(
    "task, class_index", [(task, k) for task in FASHIONAI for k in range(len(task.classes))], ids=str
)
def test_every_class_is_drawn_with_its_label_and_box(task, class_index):
    drawn = render(task.name, class_index, (0, class_index), side_px=48)
    assert (drawn.image.shape, drawn.image.dtype) == ((48, 48, 3), np.uint8)
    assert drawn.image.std() > 5
    assert re.fullmatch("[nmy]+", drawn.label)
    assert len(drawn.label) == len(task.classes)
    assert [i for i, letter in enumerate(drawn.label) if letter == "y"] == [class_index]
    assert class_index == 0 or drawn.label[0] == "n"
    assert class_index == 0 or drawn.box is not None
    x0, y0, x1, y1 = drawn.box or (0, 0, 1, 1)
    assert 0 <= x0 < x1 <= 48
    assert 0 <= y0 < y1 <= 48


@pytest.mark.parametrize("task", DESIGN, ids=lambda task: task.name)
def test_design_regions_are_small_and_spread_over_the_image(task):
    boxes = np.array([render(task.name, 1 + k % 4, (9, k), side_px=64).box for k in range(18)]) / 64
    longest = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert longest.min() > 0.11
    assert longest.max() < 0.30
    assert ((boxes[:, 2:] + boxes[:, :2]) / 2).std(axis=0).min() > 0.10


@pytest.mark.parametrize(
    "name, class_index, possible",
    [
        ("skirt_length_labels", 2, {1, 3}),
        ("collar_design_labels", 2, {3}),
        ("neckline_design_labels", 4, {2}),
    ],
)
def test_values_near_a_border_are_labelled_maybe(name, class_index, possible):
    labels = [render(name, class_index, (3, k), side_px=32).label for k in range(15)]
    maybes = [text.index("m") for text in labels if "m" in text]
    assert 0 < len(maybes) < 8
    assert set(maybes) <= possible


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


TASKS = ["collar_design_labels", "pant_length_labels"]
N_CLASSES = 11
LABELS, ANSWERS = "base/Annotations/label.csv", "rank/Tests/answer.csv"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A small data set drawn by one process, and the counts it reported."""
    root, counts = tmp_path_factory.mktemp("rendered"), []
    write_dataset(root, 1, 1, 7, TASKS, workers=1, progress=counts.append, side_px=32)
    return root, counts


def files_of(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_files_do_not_depend_on_the_number_of_workers(dataset, tmp_path):
    write_dataset(tmp_path, 1, 1, 7, TASKS, workers=2, side_px=32)
    assert files_of(tmp_path) == files_of(dataset[0])


def test_progress_counts_every_image(dataset):
    assert sum(dataset[1]) == 2 * N_CLASSES


def test_test_answers_are_in_a_table_of_their_own(dataset):
    question, answer = rows_of(dataset[0] / "rank/Tests/question.csv"), rows_of(dataset[0] / ANSWERS)
    assert len(answer) == N_CLASSES
    assert [row[:2] for row in question] == [row[:2] for row in answer]
    assert {row[2] for row in question} == {"?"}


def test_training_rows_are_shuffled(dataset):
    tasks = [row[1] for row in rows_of(dataset[0] / LABELS)]
    assert len(tasks) == N_CLASSES
    assert tasks != sorted(tasks)


@pytest.mark.parametrize("table", [LABELS, ANSWERS])
def test_every_labelled_image_is_there_and_has_a_true_box(dataset, table):
    root = dataset[0]
    header, *boxes = rows_of(root / "boxes_true.csv")
    assert header == ["image", "task", "x0", "y0", "x1", "y1"]
    for image, task, label in rows_of(root / table):
        assert re.fullmatch(rf"Images/{task}/[0-9a-f]{{32}}\.jpg", image)
        assert cv2.imread(str(root / table.split("/")[0] / image)).shape == (32, 32, 3)
        assert label.count("y") == 1
        assert image in {row[0] for row in boxes}


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


def test_tasks_that_are_drawn_later_give_the_same_set(dataset, tmp_path):
    """The first one is not drawn again, and the rows of both keep their order."""
    counts = []
    for tasks in (TASKS[1:], TASKS):
        write_dataset(tmp_path, 1, 1, 7, tasks, 1, counts.append, side_px=32)
    assert sum(counts) == 2 * N_CLASSES
    assert files_of(tmp_path) == files_of(dataset[0])


def test_a_task_whose_drawing_was_interrupted_is_drawn_again(dataset, tmp_path):
    """Of the others nothing is lost."""
    write_dataset(tmp_path, 1, 1, 7, TASKS[:1], 1, side_px=32)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path, 1, 1, 7, TASKS, 1, stop, side_px=32)
    assert missing_tasks(tmp_path, TASKS) == TASKS[1:]
    write_dataset(tmp_path, 1, 1, 7, TASKS, 1, side_px=32)
    assert files_of(tmp_path) == files_of(dataset[0])


def test_a_set_with_other_parameters_is_kept(small):
    before = files_of(small())
    with pytest.raises(RunError, match="seed is 7, expected 8.*choose another folder"):
        small(seed=8)
    assert files_of(small()) == before


def test_unreadable_parameters_are_reported_with_the_file(small):
    (small() / "demo.json").write_text("{")
    with pytest.raises(RunError, match=r"demo\.json: is not valid JSON .*; delete the folder"):
        small()
