"""The rendered demo: the same bytes each time, honest labels and boxes, files that agree."""

from __future__ import annotations

import csv
import re

import cv2
import numpy as np
import pytest

from heatcrop.data.tasks import FASHIONAI
from heatcrop.rendered import render, write_dataset

EVERY_CLASS = [(task, k) for task in FASHIONAI for k in range(len(task.classes))]
DESIGN = [task for task in FASHIONAI if task.name.endswith("design_labels")]


@pytest.mark.parametrize("task, class_index", EVERY_CLASS, ids=lambda v: getattr(v, "name", str(v)))
def test_every_class_is_drawn_with_a_sound_label_and_box(task, class_index):
    drawn = render(task.name, class_index, (0, class_index), side_px=96)
    assert drawn.picture.shape == (96, 96, 3)
    assert drawn.picture.dtype == np.uint8
    assert drawn.picture.std() > 5  # not an empty picture
    assert re.fullmatch("[nmy]+", drawn.label)
    assert len(drawn.label) == len(task.classes)
    assert drawn.label.count("y") == 1
    assert drawn.label[class_index] == "y"
    if class_index:
        assert drawn.label[0] == "n"  # what is seen is never "perhaps invisible"
    if drawn.box is None:
        assert class_index == 0
    else:
        x0, y0, x1, y1 = drawn.box
        assert 0 <= x0 < x1 <= 96
        assert 0 <= y0 < y1 <= 96


@pytest.mark.parametrize("task", DESIGN, ids=lambda task: task.name)
def test_design_regions_are_small_and_all_over_the_picture(task):
    boxes = np.array([render(task.name, 1 + k % 4, (9, k), side_px=64).box for k in range(40)]) / 64
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
def test_values_near_a_border_make_a_maybe(name, class_index, neighbours):
    labels = [render(name, class_index, (3, k), side_px=32).label for k in range(80)]
    maybes = [text.index("m") for text in labels if "m" in text]
    assert 0 < len(maybes) < 30
    assert set(maybes) <= neighbours


def test_a_seed_draws_the_same_bytes_and_another_seed_others():
    first, again, other = (render("lapel_design_labels", 3, seed, 96).picture for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_wrong_requests_are_refused():
    with pytest.raises(ValueError, match="unknown task 'hat'"):
        render("hat", 0, 0)
    with pytest.raises(ValueError, match="class_index 5 of collar_design_labels: expected 0 to 4"):
        render("collar_design_labels", 5, 0)


def _read(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_dataset_files_agree_and_do_not_depend_on_the_workers(tmp_path):
    tasks = ["collar_design_labels", "pant_length_labels"]
    told = []
    one, two = tmp_path / "one", tmp_path / "two"
    write_dataset(one, 2, 1, 7, tasks, workers=1, progress=lambda *v: told.append(v), side_px=64)
    write_dataset(two, 2, 1, 7, tasks, workers=2, side_px=64)
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)
    assert told[-1] == (33, 33)

    train = _read(one / "base/Annotations/label.csv")
    question = _read(one / "rank/Tests/question.csv")
    answer = _read(one / "rank/Tests/answer.csv")
    boxes = _read(one / "boxes_true.csv")
    assert len(train) == 22
    assert len(answer) == 11
    assert [row[:2] for row in question] == [row[:2] for row in answer]
    assert {row[2] for row in question} == {"?"}
    assert boxes[0] == ["image", "task", "x0", "y0", "x1", "y1"]
    assert {row[0] for row in boxes[1:]} == {row[0] for row in train + answer}
    assert [row[1] for row in train] != sorted(row[1] for row in train)  # shuffled
    for subset, rows in (("base", train), ("rank", answer)):
        for image, task, text in rows:
            assert re.fullmatch(rf"Images/{task}/[0-9a-f]{{32}}\.jpg", image)
            assert cv2.imread(str(one / subset / image)).shape == (64, 64, 3)
            assert text.count("y") == 1


def test_a_finished_dataset_is_left_alone_and_another_one_refused(tmp_path):
    tasks = ["neck_design_labels"]
    write_dataset(tmp_path, 1, 1, 7, tasks, workers=1, side_px=32)
    table = tmp_path / "base/Annotations/label.csv"
    before = table.stat().st_mtime_ns
    write_dataset(
        tmp_path, 1, 1, 7, tasks, workers=1, side_px=32, progress=lambda *v: pytest.fail("drawn again")
    )
    assert table.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="seed 7 there, 8 asked for.*choose another folder"):
        write_dataset(tmp_path, 1, 1, 8, tasks, workers=1, side_px=32)
    table.unlink()  # as if interrupted: drawn again
    write_dataset(tmp_path, 1, 1, 7, tasks, workers=1, side_px=32)
    assert table.exists()
