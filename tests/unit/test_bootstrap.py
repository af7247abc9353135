"""Bootstrap intervals: paired between arms, and equal to scores that are worked out by hand."""

import numpy as np
import pytest

from heatcrop.metrics.bootstrap import ap_interval, bootstrap, interval
from heatcrop.metrics.score import average_precision


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


def test_a_bootstrap_has_a_row_for_the_sample_and_each_resample(scored):
    assert scored[0]["a"]["t"].shape == (301, 3)


def test_the_first_row_of_a_bootstrap_is_the_score(scored):
    scores, expected = scored
    assert scores["a"]["t"][0, 0] == pytest.approx(expected)


def test_all_arms_are_scored_on_the_same_resamples(scored):
    assert (scored[0]["a"]["t"] == scored[0]["same"]["t"]).all()


def test_resamples_differ(scored):
    assert scored[0]["a"]["t"][1:, 0].std() > 0.01


def test_the_interval_of_a_paired_difference_excludes_zero_for_a_better_arm(scored):
    gain = interval(scored[0]["better"]["mean"][:, 0] - scored[0]["a"]["mean"][:, 0])
    assert 0 < gain["low"] < gain["value"] < gain["high"]


def test_columns_are_average_precision_basic_precision_and_accuracy():
    """Confidences 0.9 (right), 0.8 (maybe), 0.7 (wrong): P is 1, 1, 1/2."""
    letters = np.array([[2, 0], [1, 2], [0, 2]], np.int8)
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    scores = bootstrap({"a": {"t": [p]}}, {"t": letters}, 1)["a"]["t"][0]
    assert scores.tolist() == pytest.approx([(1 + 1 + 1 / 2) / 3, 1 / 2, 1 / 3])


def test_the_mean_is_over_tasks():
    right, wrong = np.array([[0.9, 0.1]]), np.array([[0.1, 0.9]])
    letters = {"one": np.array([[2, 0]], np.int8), "two": np.array([[2, 0]], np.int8)}
    scores = bootstrap({"a": {"one": [right], "two": [wrong]}}, letters, 1)["a"]["mean"]
    assert scores.tolist() == [[0.5, 0.5, 0.5]] * 2


def test_progress_counts_each_sample_of_each_task():
    p, letters = np.array([[0.9, 0.1]]), np.array([[2, 0]], np.int8)
    counted = []
    bootstrap({"a": {"t": [p]}, "b": {"t": [p]}}, {"t": letters}, 3, done=counted.append)
    assert counted == [1, 3]


def test_samples_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    p, letters = noisy(40, 4)
    found = []
    for at_once in (1, 100, 100_000):
        monkeypatch.setattr("heatcrop.metrics.bootstrap._DRAWN_AT_ONCE", at_once)
        found.append(
            (bootstrap({"a": {"t": [p]}}, {"t": letters}, 30)["a"]["t"], ap_interval(p, letters, 30))
        )
    for scores, ap in found[1:]:
        np.testing.assert_allclose(scores, found[0][0], rtol=1e-12)
        assert ap == pytest.approx(found[0][1], rel=1e-9)


def noisy(n, seed):
    """Predictions that are right more often than not, and their labels."""
    rng = np.random.default_rng(seed)
    letters = np.zeros((n, 3), np.int8)
    letters[np.arange(n), rng.integers(0, 3, n)] = 2
    return rng.dirichlet(np.ones(3), n) + 0.4 * (letters > 0), letters


def test_the_interval_of_an_ap_is_close_to_the_percentiles():
    p, letters = noisy(150, 2)
    found = ap_interval(p, letters)
    expected = interval(bootstrap({"a": {"t": [p]}}, {"t": letters}, 1000, seed=1)["a"]["t"][:, 0])
    assert found["low"] == pytest.approx(expected["low"], abs=0.02)
    assert found["high"] == pytest.approx(expected["high"], abs=0.02)


def test_the_interval_of_an_ap_contains_the_ap_of_all_images_in_most_samples():
    p, letters = noisy(20_000, 3)
    truth, n_inside = average_precision(p, letters), 0
    for rows in np.array_split(np.arange(20_000), 50):
        found = ap_interval(p[rows], letters[rows], resamples=60)
        n_inside += found["low"] <= truth <= found["high"]
    assert 43 <= n_inside <= 50


def test_the_interval_of_an_ap_stays_within_0_and_1():
    letters = np.array([[2, 0], [2, 0], [0, 2]], np.int8)
    found = ap_interval(letters / 2, letters)
    assert found == {"low": 1.0, "high": 1.0}
    assert ap_interval(np.array([[0.9, 0.1], [0.2, 0.8]]), letters[[0, 0]])["low"] >= 0


def test_fewer_than_two_images_have_no_interval():
    assert ap_interval(np.zeros((1, 2)), np.array([[2, 0]], np.int8)) is None
