"""The parts of the benchmarks: boxes of controls, bootstrap, localisation, timing."""

import sys

import numpy as np
import pytest

from benchmarks.arms import centre_boxes, mean_boxes, random_boxes, sides_of, true_squares
from benchmarks.bootstrap import bootstrap, interval
from benchmarks.contenders import Entry, compare
from benchmarks.localisation import (
    THRESHOLDS,
    heat_iou,
    max_box_accuracy,
    point_hits,
    pointing,
    square_iou,
)
from heatcrop.metrics.score import average_precision
from tests.tiny_run import ROOT

SIZES = np.array([[200, 100], [100, 300], [64, 64], [500, 400]])
SIDES = np.array([0.5, 0.3, 0.9, 0.2])


def assert_squares_inside(boxes, sizes):
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (wide == high).all()
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= sizes).all()


def test_centre_boxes_have_the_given_sides():
    assert sides_of(centre_boxes(SIDES, SIZES), SIZES) == pytest.approx(SIDES, abs=0.02)


def test_centre_boxes_lie_in_the_middle():
    boxes = centre_boxes(SIDES, SIZES)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert np.abs(middle - SIZES / 2).max() <= 0.5


def test_random_boxes_are_squares_inside_with_permuted_sides():
    boxes = random_boxes(SIDES, SIZES, np.random.default_rng(0))
    assert_squares_inside(boxes, SIZES)
    assert sorted(sides_of(boxes, SIZES).round(1)) == [0.2, 0.3, 0.5, 0.9]


def test_random_boxes_differ_from_draw_to_draw():
    rng = np.random.default_rng(0)
    assert len({tuple(random_boxes(SIDES, SIZES, rng)[3]) for _ in range(50)}) > 40


def test_the_mean_box_depends_on_the_fitted_rows_only():
    boxes = np.array([[0, 0, 20, 20], [80, 280, 100, 300], [0, 0, 64, 64], [0, 0, 1, 1]])
    mean = mean_boxes(boxes, np.array([0]), np.full(4, 0.2), SIZES)
    # The first box's centre lies at a twentieth of the width and a tenth of the height.
    centre = (mean[:, :2] + mean[:, 2:]) / 2
    assert centre[3].tolist() == pytest.approx([40, 40], abs=1)  # moved inside from (25, 40)
    assert_squares_inside(mean, SIZES)


@pytest.fixture
def squares_around():
    truth = np.array([[50, 40, 70, 80], [np.nan] * 4, [0, 0, 10, 10], [np.nan] * 4])
    return truth, true_squares(truth, SIZES)


def test_true_squares_contain_their_regions(squares_around):
    truth, squares = squares_around
    assert (squares[[0, 2], :2] <= truth[[0, 2], :2]).all()
    assert (squares[[0, 2], 2:] >= truth[[0, 2], 2:]).all()


def test_true_squares_have_a_margin_of_a_tenth_on_each_side(squares_around):
    assert squares_around[1][0, 2] - squares_around[1][0, 0] == 48  # around 40 pixels


def test_true_squares_without_a_region_are_the_full_image(squares_around):
    assert squares_around[1][[1, 3]].tolist() == [[0, 0, 100, 300], [0, 0, 500, 400]]


@pytest.fixture(scope="module")
def scored():
    """Bootstrapped scores of two equal arms and a better one, and the score itself."""
    rng = np.random.default_rng(1)
    letters = np.zeros((80, 3), np.int8)
    letters[np.arange(80), rng.integers(0, 3, 80)] = 2
    a = rng.dirichlet(np.ones(3), 80)
    better = a + 0.3 * (letters > 0)
    arms = {"a": {"t": [a, a]}, "same": {"t": [a]}, "better": {"t": [better]}}
    return bootstrap(arms, {"t": letters}, 300), average_precision(a, letters)


def test_the_first_row_of_a_bootstrap_is_the_score(scored):
    scores, expected = scored
    assert scores["a"]["t"].shape == (301, 3)
    assert scores["a"]["t"][0, 0] == pytest.approx(expected)


def test_all_arms_are_scored_on_the_same_resamples(scored):
    assert (scored[0]["a"]["t"] == scored[0]["same"]["t"]).all()


def test_resamples_differ(scored):
    assert scored[0]["a"]["t"][1:, 0].std() > 0.01


def test_the_interval_of_a_paired_difference_excludes_zero_for_a_better_arm(scored):
    gain = interval(scored[0]["better"]["mean"][:, 0] - scored[0]["a"]["mean"][:, 0])
    assert 0 < gain["low"] < gain["value"] < gain["high"]


@pytest.fixture
def heat():
    """Two equal maps, the true boxes (the map's hot square, and another place), and the sizes."""
    heat = np.zeros((2, 16, 16), np.float32)
    heat[:, 4:8, 8:12] = 1
    return heat, np.array([[80.0, 40, 120, 80], [0, 80, 40, 120]]), np.full((2, 2), 160)


def test_a_map_with_the_shape_of_the_box_reaches_it_and_another_does_not(heat):
    maps, truth, sizes = heat
    found = heat_iou(maps, sizes, "pad", truth)
    assert found.shape == (len(THRESHOLDS), 2)
    assert found[:, 0].max() > 0.9
    assert found[:, 1].max() == 0
    assert max_box_accuracy(found)["max_box_acc_v2"] == 0.5


def test_pointing_counts_maps_whose_maximum_lies_in_the_box(heat):
    maps, truth, sizes = heat
    assert pointing(maps, sizes, "pad", truth) == 0.5


def test_a_centred_box_is_scored_with_one_best_side_for_all_images():
    truth = np.array([[40.0, 40, 120, 120], [60, 60, 100, 100]])
    found = square_iou(np.full((2, 2), 0.5), np.full((2, 2), 160), truth)
    assert found.max(axis=0) == pytest.approx([1, 1])
    assert max_box_accuracy(found)["iou_0.7"] == 0.5


@pytest.mark.parametrize(("second_size", "share"), [([160, 160], 0.5), ([100, 160], 1)])
def test_a_point_counts_where_it_lies_in_the_box(second_size, share):
    truth = np.array([[80.0, 40, 120, 80], [0, 80, 40, 120]])
    points = np.array([[0.6, 0.3], [0.3, 0.6]])
    assert point_hits(points, np.array([[160, 160], second_size]), truth) == share


SLEEPERS = """
import time
from benchmarks.contenders import serve

def sleep(ms):
    print("output of a library")
    def work():
        time.sleep(ms / 1000)
        return 10
    return work

serve({"sleep": sleep})
"""


@pytest.fixture
def sleeper(tmp_path, monkeypatch):
    """An entry that sleeps for some milliseconds instead of working."""
    (tmp_path / "sleepers.py").write_text(SLEEPERS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    return lambda ms: Entry(sys.executable, "sleepers", "sleep", {"ms": ms})


def test_a_ratio_is_taken_to_the_fastest_of_the_others(sleeper):
    ratio = compare(sleeper(40), [sleeper(300), sleeper(120)], rounds=3)
    assert 2 < ratio.value < 3.5
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.theirs == pytest.approx(10 / 0.12, rel=0.3)


def test_a_contender_that_cannot_start_is_reported(sleeper):
    with pytest.raises(RuntimeError, match="sleep ended with code 1"):
        compare(sleeper("never"), [], rounds=3)
