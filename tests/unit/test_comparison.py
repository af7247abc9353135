"""Comparison of two runs: which images are common, what changed, and paired scores."""

import dataclasses

import numpy as np
import pytest

from heatcrop.metrics.comparison import Pair, compare_scores, find_changes, match_rows
from tests.unit.builders import make_data

A = make_data(["test", "val", "test", "test", "test", "train"], images=("a", "b", "c", "d", "e", "f"))


def matched(b):
    rows, others, left_out = match_rows(A, b, "test")
    return rows.tolist(), others.tolist(), dict(left_out)


def test_images_are_matched_by_name_whatever_their_order():
    """The labels alternate in both: c and d are of the same class, e is not."""
    b = make_data(["test"] * 4, images=("x", "d", "c", "e"))
    assert matched(b) == ([2, 3], [2, 1], {"missing": 1, "label": 1})


def test_an_image_that_the_other_run_trains_on_is_left_out():
    b = make_data(["train", "val", "test", "test", "test"], images=("a", "b", "c", "d", "e"))
    assert matched(b) == ([2, 3, 4], [2, 3, 4], {"split": 1})


def test_an_image_without_a_label_is_left_out():
    b = make_data(["test", "val", "test", "test", "test"], images=("a", "b", "c", "d", "e"))
    letters = b.letters.copy()
    letters[2] = 0
    assert matched(dataclasses.replace(b, letters=letters)) == ([0, 3, 4], [0, 3, 4], {"unlabelled": 1})


def test_another_maybe_is_another_label():
    b = make_data(["test", "val", "test", "test", "test"], images=("a", "b", "c", "d", "e"))
    letters = b.letters.copy()
    letters[2, 1] = 1
    assert matched(dataclasses.replace(b, letters=letters)) == ([0, 3, 4], [0, 3, 4], {"label": 1})


def test_nothing_in_common_gives_empty_rows():
    assert matched(make_data(["test"], images=("x",))) == ([], [], {"missing": 4})


LETTERS = np.array([[2, 0], [2, 0], [0, 2], [1, 2]], np.int8)
FIRST, SECOND = np.array([0.9, 0.1]), np.array([0.2, 0.8])


def test_right_means_that_the_predicted_class_is_the_yes():
    """The last row's first class is a maybe, which is not right."""
    a = np.array([FIRST, SECOND, SECOND, FIRST])
    b = np.array([SECOND, FIRST, SECOND, SECOND])
    assert find_changes(LETTERS, a, b).tolist() == [-1, 1, 0, 1]
    assert find_changes(LETTERS, b, a).tolist() == [1, -1, 0, -1]


def test_scores_of_both_runs_are_side_by_side():
    """Run a is right on one of two, run b on both; the wrong one of a is the most confident."""
    letters = np.array([[2, 0], [2, 0]], np.int8)
    a, b = np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([[0.7, 0.3], [0.8, 0.2]])
    found = compare_scores({"t": Pair(letters, {"fused": a}, {"fused": b})}, ["fused"], 50)
    ap, right = found["tasks"]["t"]["fused"]["map"], found["tasks"]["t"]["fused"]["accuracy"]
    assert [ap[key]["value"] for key in ("a", "b", "change")] == pytest.approx([1 / 4, 1, 3 / 4])
    assert [right[key]["value"] for key in ("a", "b", "change")] == pytest.approx([1 / 2, 1, 1 / 2])
    assert found["mean"]["fused"] == found["tasks"]["t"]["fused"]


def test_intervals_are_paired():
    """Two runs that both vary with the sample, but always by the same amount, differ by exactly nothing."""
    rng = np.random.default_rng(0)
    letters = np.zeros((40, 2), np.int8)
    letters[np.arange(40), rng.integers(0, 2, 40)] = 2
    p = rng.dirichlet([1, 1], 40)
    pair = Pair(letters, {"full": p, "fused": p}, {"full": p, "fused": p.copy()})
    found = compare_scores({"t": pair}, ["full", "fused"], 100)["tasks"]["t"]["fused"]["map"]
    assert found["change"] == {"value": 0, "low": 0, "high": 0}
    assert found["a"]["low"] < found["a"]["value"] < found["a"]["high"]


def test_a_task_may_be_called_mean():
    letters, p = np.array([[2, 0]], np.int8), np.array([[0.9, 0.1]])
    pairs = {
        "mean": Pair(letters, {"full": p}, {"full": p}),
        "t": Pair(letters, {"full": 1 - p}, {"full": 1 - p}),
    }
    found = compare_scores(pairs, ["full"], 5)
    assert found["tasks"]["mean"]["full"]["map"]["a"]["value"] == 1
    assert found["mean"]["full"]["map"]["a"]["value"] == 0.5
