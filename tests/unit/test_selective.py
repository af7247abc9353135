"""Thresholds for a wanted accuracy, with values that are worked out by hand."""

import numpy as np
import pytest

from heatcrop.metrics.selective import (
    ACCURACIES,
    accuracy_bound,
    accuracy_interval,
    choose_threshold,
    coverage_curve,
)


@pytest.mark.parametrize("n", [1, 7, 59])
def test_the_bound_where_all_are_right_is_a_root_of_the_error(n):
    """An accuracy a gives n right of n with probability a^n, which is 5 % where a is the n-th root of it."""
    assert accuracy_bound(n, n, 0.05) == pytest.approx(0.05 ** (1 / n))


def test_the_bound_with_one_right_is_that_of_at_least_one():
    """An accuracy a gives at least one right of n with probability 1 - (1 - a)^n."""
    assert accuracy_bound(1, 8, 0.05) == pytest.approx(1 - 0.95 ** (1 / 8))


def test_without_a_right_one_the_bound_is_zero():
    assert accuracy_bound(0, 8, 0.05) == 0


def test_the_interval_is_symmetric_in_right_and_wrong():
    low, high = accuracy_interval(3, 10)
    assert (1 - high, 1 - low) == pytest.approx(accuracy_interval(7, 10))
    assert accuracy_interval(10, 10) == pytest.approx((0.025**0.1, 1))


def rows(n_right_first, n):
    """Confidences from 1 down; the first ones are right, the others wrong."""
    return 1 - np.arange(n) / n, np.arange(n) < n_right_first


def test_all_rows_are_answered_where_all_are_right():
    """The bound of 100 of 100, with a tenth of an error of 5 %, is 0.005^(1 / 100) = 0.948."""
    confidence, right = rows(100, 100)
    found = choose_threshold(confidence, right, 0.94)
    assert (found.accuracy, found.threshold, found.coverage) == (0.94, confidence[-1], 1)
    assert choose_threshold(confidence, right, 0.95).threshold is None


@pytest.mark.parametrize(("accuracy", "answered"), [(0.35, 10), (0.38, 9), (0.50, 8), (0.52, 0)])
def test_as_many_rows_are_answered_as_the_bound_allows(accuracy, answered):
    """The two least confident of ten rows are wrong. A bound reaches a where at least so many are right by
    chance with at most 0.005: 45 a^8 (1-a)^2 + 10 a^9 (1-a) + a^10, 0.0048 at 0.35, 0.0085 at 0.38; of nine
    9 a^8 (1-a) + a^9, 0.0026 at 0.38, 0.0195 at 0.50; of eight a^8, 0.0039 at 0.50, 0.0053 at 0.52.
    """
    confidence, right = rows(8, 10)
    found = choose_threshold(confidence, right, accuracy)
    if answered:
        assert (found.threshold, found.coverage) == (confidence[answered - 1], pytest.approx(answered / 10))
    else:
        assert (found.threshold, found.coverage) == (None, None)


def test_few_rows_that_support_no_bound_do_not_end_the_search():
    """All of 100 rows are right: 10 to 90 of them are too few for 0.943, 0.005^(1 / 90), and all are not."""
    confidence, right = rows(100, 100)
    assert choose_threshold(confidence, right, 0.945).coverage == 1


def test_without_rows_there_is_no_threshold():
    assert choose_threshold(np.zeros(0), np.zeros(0, bool), 0.5).threshold is None


@pytest.mark.parametrize(("accuracy", "threshold"), [(0.30, 0.5), (0.35, None)])
def test_rows_of_equal_confidence_are_answered_together(accuracy, threshold):
    """Four of ten rows share a confidence, one of them wrong. With them, six of seven are right, by chance
    with 7 a^6 (1-a) + a^7: 0.0038 at 0.30, 0.0090 at 0.35. The three before them support 0.17, 0.005^(1 / 3).
    """
    confidence = np.array([0.9, 0.8, 0.7, 0.5, 0.5, 0.5, 0.5, 0.3, 0.2, 0.1])
    right = np.array([True] * 3 + [True, False, True, True] + [False] * 3)
    found = choose_threshold(confidence, right, accuracy)
    assert found.threshold == threshold
    assert found.coverage == (None if threshold is None else pytest.approx(0.7))


def test_the_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(0)
    confidence, right = rows(40, 60)
    order = rng.permutation(60)
    assert choose_threshold(confidence[order], right[order], 0.7) == choose_threshold(confidence, right, 0.7)


def test_a_higher_accuracy_never_has_a_lower_threshold():
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.2, 1, 500)
    right = rng.uniform(size=500) < confidence
    points = [choose_threshold(confidence, right, accuracy) for accuracy in ACCURACIES]
    thresholds = [one.threshold for one in points if one.threshold is not None]
    assert len(thresholds) > 4
    assert thresholds == sorted(thresholds)


def test_the_promise_is_kept_in_nineteen_of_twenty_samples():
    """Confidences are calibrated: above a threshold t their mean accuracy is (1 + t) / 2."""
    rng, kept, chosen = np.random.default_rng(2), 0, 0
    for _ in range(300):
        confidence = rng.uniform(0, 1, 600)
        found = choose_threshold(confidence, rng.uniform(size=600) < confidence, 0.7)
        if found.threshold is not None:
            chosen += 1
            kept += (1 + found.threshold) / 2 >= 0.7
    assert chosen > 200
    assert kept >= 0.95 * chosen


def test_a_curve_has_an_entry_for_each_confidence():
    confidence = np.array([0.5, 0.9, 0.7, 0.5])
    coverage, accuracy = coverage_curve(confidence, np.array([False, True, True, False]))
    assert coverage.tolist() == [0.25, 0.5, 1.0]
    assert accuracy.tolist() == [1.0, 1.0, 0.5]
