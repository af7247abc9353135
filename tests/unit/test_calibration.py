"""Probabilities from logits, their cross entropy, and the temperature that calibrates them."""

import math

import numpy as np
import pytest

from heatcrop.metrics.calibration import cross_entropy, fit_temperature, softmax, tempered
from tests.unit.builders import calibrated


def test_the_cross_entropy_against_hand_values():
    p = np.array([[0.75, 0.25]] * 3)
    soft = np.array([[1.0, 0.0], [0.0, 1.0], [0.8, 0.2]])
    first, second = math.log(4 / 3), math.log(4)
    assert cross_entropy(p, soft).tolist() == pytest.approx([first, second, 0.8 * first + 0.2 * second])


def test_the_cross_entropy_of_an_impossible_class_is_finite():
    assert cross_entropy(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))[0] == pytest.approx(-math.log(1e-12))


def test_large_logits_do_not_overflow():
    assert softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]])).tolist() == [[1, 0], [0.5, 0.5]]


@pytest.mark.parametrize("known", [0.5, 1.0, 2.0, 4.0])
def test_a_known_temperature_is_found_again(known):
    p, truth = calibrated(np.random.default_rng(3), 20_000, 4, 1.5)
    skewed = tempered(p, 1 / known)  # multiplies the logits by `known`
    assert fit_temperature(skewed, np.eye(4)[truth]) == pytest.approx(known, rel=0.08)


@pytest.mark.parametrize(("soft", "bound"), [([1.0, 0.0], 0.25), ([0.0, 1.0], 8)])
def test_a_temperature_stays_within_its_bounds(soft, bound):
    found = fit_temperature(np.array([[0.6, 0.4]] * 50), np.array([soft] * 50))
    assert found == pytest.approx(bound, rel=0.01)


def test_the_temperature_without_rows_is_1():
    assert fit_temperature(np.zeros((0, 3)), np.zeros((0, 3))) == 1.0


def test_tempered_against_hand_values():
    # 0.64 : 0.04 is 16 : 1, its square root 4 : 1.
    np.testing.assert_allclose(tempered(np.array([[16 / 17, 1 / 17]]), 2.0), [[0.8, 0.2]])
    np.testing.assert_allclose(tempered(np.array([[0.8, 0.2]]), 0.5), [[16 / 17, 1 / 17]])
    np.testing.assert_allclose(tempered(np.array([[1.0, 0.0]]), 1.0), [[1.0, 0.0]], atol=1e-7)
