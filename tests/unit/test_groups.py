"""Groups of tasks that share a network: columns, rows, soft labels and held-out rows."""

import numpy as np
import pandas as pd
import pytest

from heatcrop.data.dataset import TaskData
from heatcrop.data.groups import (
    HELD_OUT,
    OTHER_TASK,
    SHARED,
    align_splits,
    shared_group,
    single_group,
)
from heatcrop.data.tasks import Task
from stage1_cam.stage import fold_notes, fold_rows


def make_task(folder, name, contents, splits, groups=None, classes=("a", "b", "c")):
    """Make a task whose images are files of the given contents."""
    (folder / name).mkdir()
    n = len(contents)
    paths = [folder / name / f"{i}.jpg" for i in range(n)]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content)
    letters = np.zeros((n, len(classes)), np.int8)
    letters[np.arange(n), np.arange(n) % len(classes)] = 2
    images = tuple(f"{name}/{path.name}" for path in paths)
    texts = [np.array(values, object) for values in (splits, groups or [""] * n)]
    return TaskData(Task(name, classes), images, [str(p) for p in paths], np.full((n, 2), 9), letters, *texts)


@pytest.fixture
def one(tmp_path):
    return make_task(tmp_path, "one", ["p", "q"], ["train", "val"])


@pytest.fixture
def two(tmp_path):
    return make_task(tmp_path, "two", ["r"], ["test"], classes=("x", "y"))


# --- a single task


def test_a_single_task_keeps_its_name(one):
    group = single_group(one)
    assert (group.name, group.short) == ("one", one.task.short)


def test_a_single_task_keeps_its_rows_and_labels(one):
    group = single_group(one)
    assert len(group) == 2
    assert group.rows_of(0) == slice(0, 2)
    assert group.columns(0) == slice(0, 3)
    assert group.letters is one.letters
    assert np.array_equal(group.soft, one.soft)
    assert group.task_of.tolist() == [0, 0]


def test_rows_of_a_split_are_the_labelled_ones(one):
    one.letters[0] = 0
    assert single_group(one).rows("train").tolist() == []
    assert single_group(one).rows("val").tolist() == [1]


# --- several tasks


def test_several_tasks_have_one_name(one, two):
    group = shared_group([one, two])
    assert (group.name, group.short) == (SHARED, SHARED)


def test_the_rows_of_tasks_follow_each_other(one, two):
    group = shared_group([one, two])
    assert len(group) == 3
    assert [group.rows_of(number) for number in (0, 1)] == [slice(0, 2), slice(2, 3)]
    assert group.task_of.tolist() == [0, 0, 1]
    assert list(group.paths) == [*one.paths, *two.paths]
    assert group.splits.tolist() == ["train", "val", "test"]


def test_the_classes_of_tasks_follow_each_other(one, two):
    group = shared_group([one, two])
    assert group.n_classes == 5
    assert [group.columns(number) for number in (0, 1)] == [slice(0, 3), slice(3, 5)]
    assert group.letters.tolist() == [[2, 0, 0, 0, 0], [0, 2, 0, 0, 0], [0, 0, 0, 2, 0]]


def test_soft_labels_mark_the_classes_of_other_tasks(one, two):
    no = OTHER_TASK
    assert shared_group([one, two]).soft.tolist() == [
        [1, 0, 0, no, no],
        [0, 1, 0, no, no],
        [no, no, no, 1, 0],
    ]


def test_soft_labels_share_between_yes_and_maybe_as_the_tasks_do(one, two):
    one.letters[0] = [2, 1, 0]
    assert np.array_equal(shared_group([one, two]).soft[:2, :3], one.soft)


def test_a_row_without_a_label_is_in_no_split_to_train_on(one, two):
    one.letters[0] = 0
    group = shared_group([one, two])
    assert group.labelled.tolist() == [False, True, True]
    assert group.rows("train").tolist() == []


@pytest.fixture
def overlapping(tmp_path):
    """Two tasks: the second tests on an image of the first, and validates on one of a common group."""
    one = make_task(tmp_path, "one", list("pqrs"), ["train"] * 4, ["", "", "", "sender"])
    two = make_task(tmp_path, "two", list("tqu"), ["train", "test", "val"], ["", "", "sender"])
    return shared_group([one, two])


def test_images_that_another_task_evaluates_on_are_held_out(overlapping):
    assert overlapping.splits.tolist() == ["train", HELD_OUT, "train", HELD_OUT, "train", "test", "val"]
    assert overlapping.rows("train").tolist() == [0, 2, 4]


def test_classes_that_only_held_out_rows_show_are_not_trained(overlapping):
    assert overlapping.trained_classes == [(0, 2), (0,)]


def test_trained_classes_are_found_once_and_not_for_each_batch(overlapping):
    assert overlapping.trained_classes is overlapping.trained_classes


def test_held_out_rows_are_predicted_by_the_final_network(overlapping):
    assert fold_rows(overlapping, 2, 0)[[1, 3]].tolist() == [-1, -1]


# --- folds


@pytest.fixture
def many(tmp_path):
    """Two tasks with the same images in opposite order, and a third whose images are one group."""
    contents = [f"image {i}" for i in range(30)]
    one = make_task(tmp_path, "one", contents, ["train"] * 30)
    two = make_task(tmp_path, "two", contents[::-1], ["train"] * 30)
    own = make_task(tmp_path, "three", [f"own {i}" for i in range(10)], ["train"] * 10, ["g"] * 10)
    return one, two, own


def test_every_fold_has_rows(many):
    assert set(fold_rows(shared_group(many), 3, seed=0).tolist()) == {0, 1, 2}


def test_an_image_is_in_one_fold_under_every_task(many):
    fold_of = fold_rows(shared_group(many), 3, seed=0)
    assert fold_of[:30].tolist() == fold_of[30:60][::-1].tolist()


def test_tasks_by_themselves_would_put_an_image_into_different_folds(many):
    first, second = (fold_rows(single_group(data), 3, seed=0).tolist() for data in many[:2])
    assert first != second[::-1]


def test_a_group_of_images_is_in_one_fold(many):
    assert len(set(fold_rows(shared_group(many), 3, seed=0)[60:].tolist())) == 1


def test_training_rows_of_one_group_are_predicted_by_the_final_network(many):
    assert set(fold_rows(single_group(many[2]), 3, seed=0).tolist()) == {-1}


def test_without_folds_the_final_network_predicts_all_rows(many):
    assert set(fold_rows(single_group(many[0]), 1, seed=0).tolist()) == {-1}


# --- one split of an image for all tasks

ROWS = [("0", "b", ""), ("0", "a", ""), ("1", "a", ""), ("1", "b", "test"), ("2", "b", "")]


def test_an_image_of_several_tasks_is_brought_into_one_split(tmp_path):
    rows = pd.DataFrame(ROWS, columns=["image", "task", "split"]).assign(group="")
    rows["path"] = [str(tmp_path / image) for image in rows["image"]]
    for image in "012":
        (tmp_path / image).write_text(image)
    assigned = pd.Series(["train", "val", "train", "test", "val"], dtype=object)
    found = align_splits(rows, assigned)
    # The first row's by task and name; a given split where there is one; a single row stays.
    assert found.tolist() == ["val", "val", "test", "test", "val"]


def test_classes_that_one_fold_alone_shows_are_named(many, tmp_path):
    (note,) = fold_notes(shared_group(many), fold_rows(shared_group(many), 3, seed=0))
    names = ", ".join(many[2].task.classes)
    assert note.startswith(f"three: the network that predicts the training images of {names} has")
    group = single_group(make_task(tmp_path, "four", list("pqrs"), ["train"] * 4, classes=("a", "b")))
    assert list(fold_notes(group, np.array([0, 0, 1, 1]))) == []
    (note,) = fold_notes(group, np.array([0, 0, 1, 0]))
    assert note.startswith("four: the network that predicts the training images of b has trained")
    assert list(fold_notes(group, np.array([-1, -1, -1, -1]))) == []
