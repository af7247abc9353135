import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.arena import Entry, compare
from benchmarks.arms import centre_boxes, mean_boxes, random_boxes, sides_of, true_squares
from benchmarks.intervals import bootstrap, interval
from benchmarks.localise import THRESHOLDS, heat_iou, max_box_accuracy, point_hits, pointing, square_iou
from heatcrop.metrics.score import average_precision

SIZES = np.array([[200, 100], [100, 300], [64, 64], [500, 400]])


def square_and_inside(boxes, sizes):
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return (wide == high).all() and (boxes >= 0).all() and (boxes[:, 2:] <= sizes).all()


def test_controls_are_as_large_as_what_they_control_and_lie_inside():
    sides, rng = np.array([0.5, 0.3, 0.9, 0.2]), np.random.default_rng(0)
    own = centre_boxes(sides, SIZES)
    assert sides_of(own, SIZES) == pytest.approx(sides, abs=0.02)
    middle = (own[:, :2] + own[:, 2:]) / 2
    assert np.abs(middle - SIZES / 2).max() <= 0.5
    at_random = [random_boxes(sides, SIZES, rng) for _ in range(50)]
    for boxes in at_random:
        assert square_and_inside(boxes, SIZES)
        assert sorted(sides_of(boxes, SIZES).round(1)) == [0.2, 0.3, 0.5, 0.9]
    assert len({tuple(boxes[3]) for boxes in at_random}) > 40


def test_the_mean_box_is_learnt_from_the_fitted_rows_only():
    boxes = np.array([[0, 0, 20, 20], [80, 280, 100, 300], [0, 0, 64, 64], [0, 0, 1, 1]])
    mean = mean_boxes(boxes, np.array([0]), np.full(4, 0.2), SIZES)
    # The first box's centre lies at a twentieth of the width and a tenth of the height.
    centre = (mean[:, :2] + mean[:, 2:]) / 2
    assert centre[3].tolist() == pytest.approx([40, 40], abs=1)  # moved inside from (25, 40)
    assert square_and_inside(mean, SIZES)


def test_true_squares_hold_their_regions_and_fall_back_to_the_whole():
    truth = np.array([[50, 40, 70, 80], [np.nan] * 4, [0, 0, 10, 10], [np.nan] * 4])
    squares = true_squares(truth, SIZES)
    assert squares[1].tolist() == [0, 0, 100, 300] and squares[3].tolist() == [0, 0, 500, 400]
    for i in (0, 2):
        assert (squares[i, :2] <= truth[i, :2]).all() and (squares[i, 2:] >= truth[i, 2:]).all()
    assert squares[0, 2] - squares[0, 0] == 48  # 40 px and a tenth on each side


def test_bootstrap_is_paired_and_its_first_row_is_the_score():
    rng = np.random.default_rng(1)
    letters = np.zeros((80, 3), np.int8)
    letters[np.arange(80), rng.integers(0, 3, 80)] = 2
    a = rng.dirichlet(np.ones(3), 80)
    better = a + 0.3 * (letters > 0)
    arms = {"a": {"t": [a, a]}, "same": {"t": [a]}, "better": {"t": [better]}}
    scored = bootstrap(arms, {"t": letters}, 300)
    assert scored["a"]["t"].shape == (301, 3)
    assert scored["a"]["t"][0, 0] == pytest.approx(average_precision(a, letters))
    assert (scored["a"]["t"] == scored["same"]["t"]).all()  # the same pictures are drawn for all arms
    gain = interval(scored["better"]["mean"][:, 0] - scored["a"]["mean"][:, 0])
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    assert scored["a"]["t"][1:, 0].std() > 0.01


def test_a_map_that_is_the_box_reaches_it_and_another_does_not():
    heat = np.zeros((2, 16, 16), np.float32)
    heat[:, 4:8, 8:12] = 1
    truth = np.array([[80.0, 40, 120, 80], [0, 80, 40, 120]])
    sizes = np.full((2, 2), 160)
    found = heat_iou(heat, sizes, "pad", truth)
    assert found.shape == (len(THRESHOLDS), 2)
    assert found[:, 0].max() > 0.9 and found[:, 1].max() == 0
    assert max_box_accuracy(found)["max_box_acc_v2"] == 0.5
    assert pointing(heat, sizes, "pad", truth) == 0.5


def test_the_centred_box_is_given_its_best_side():
    truth = np.array([[40.0, 40, 120, 120], [60, 60, 100, 100]])
    found = square_iou(np.full((2, 2), 0.5), np.full((2, 2), 160), truth)
    assert found.max(axis=0) == pytest.approx([1, 1])
    assert max_box_accuracy(found)["iou_0.7"] == 0.5  # one side cannot serve both


def test_a_point_counts_where_it_lies_in_the_box():
    truth = np.array([[80.0, 40, 120, 80], [0, 80, 40, 120]])
    points = np.array([[0.6, 0.3], [0.3, 0.6]])
    assert point_hits(points, np.array([[160, 160], [160, 160]]), truth) == 0.5
    assert point_hits(points, np.array([[160, 160], [100, 160]]), truth) == 1


CONTENDERS = """
import time
from benchmarks.arena import serve

def rest(ms):
    print("a library says something")
    def work():
        time.sleep(ms / 1000)
        return 10
    return work

serve({"rest": rest})
"""


@pytest.fixture
def resting(tmp_path, monkeypatch):
    (tmp_path / "resting.py").write_text(CONTENDERS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    return lambda ms: Entry(sys.executable, "resting", "rest", {"ms": ms})


def test_a_ratio_is_taken_against_the_fastest_of_the_others(resting):
    ratio = compare(resting(40), [resting(300), resting(120)], rounds=3)
    assert 2 < ratio.value < 3.5 and ratio.low <= ratio.value <= ratio.high
    assert ratio.theirs == pytest.approx(10 / 0.12, rel=0.3)


def test_a_contender_that_cannot_start_is_told(resting):
    with pytest.raises(RuntimeError, match="rest ended with code 1"):
        compare(resting("never"), [], rounds=3)
