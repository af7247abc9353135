"""Weights and temperatures of ensembles, on arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.labels import soft_labels
from heatcrop.metrics.calibration import softmax, tempered
from heatcrop.metrics.ensemble import (
    Ensemble,
    fit_ensemble,
    fuse_members,
    least_loss_weights,
)
from heatcrop.metrics.score import average_precision
from tests.unit.builders import draw_classes, letters_of


def noisy(rng, truth, n_classes, noise, confidence=1.0):
    """Probabilities of a member that sees the truth through some noise."""
    logits = 3 * np.eye(n_classes)[truth] + noise * rng.normal(size=(len(truth), n_classes))
    return softmax(confidence * logits)


def fitted(members, letters):
    return fit_ensemble(members, letters, soft_labels(letters))


def fused_score(members, ensemble, letters):
    return average_precision(fuse_members(members, ensemble), letters)


def test_fused_members_against_hand_values():
    a, b, c = np.array([[0.8, 0.2]]), np.array([[16 / 17, 1 / 17]]), np.array([[np.nan, np.nan]])
    found = fuse_members([a, b, c], Ensemble((0.25, 0.75, 0.0), (1.0, 2.0, 1.0)))
    np.testing.assert_allclose(found, [[0.25 * 0.8 + 0.75 * 0.8, 0.2]], atol=1e-7)


def test_a_member_at_temperature_1_is_unchanged_to_the_last_bit():
    p = np.random.default_rng(0).dirichlet(np.full(5, 0.05), 200)  # many of them below the least probability
    assert (fuse_members([p], Ensemble((1.0,), (1.0,))) == p).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 30), st.integers(2, 5))
def test_on_the_fitting_rows_no_calibrated_member_is_better(seed, n_members, n_rows, n_classes):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n_rows)
    members = [
        noisy(rng, truth, n_classes, rng.uniform(0, 6), rng.uniform(0.2, 4)).round(rng.integers(1, 9))
        for _ in range(n_members)
    ]
    letters = letters_of(truth, n_classes, rng)
    ensemble = fitted(members, letters)
    assert len(ensemble.weights) == n_members
    assert min(ensemble.weights) >= 0
    assert sum(ensemble.weights) == pytest.approx(1)
    alone = [tempered(p, t) for p, t in zip(members, ensemble.temperatures, strict=True)]
    assert fused_score(members, ensemble, letters) >= max(average_precision(p, letters) for p in alone)


def test_weights_of_least_cross_entropy_are_the_known_mixture():
    rng = np.random.default_rng(4)
    members = [rng.dirichlet(np.full(4, 0.3), 30_000) for _ in range(4)]
    known = np.array([0.5, 0.3, 0.2, 0.0])
    truth = draw_classes(rng, np.tensordot(known, np.stack(members), 1))
    np.testing.assert_allclose(least_loss_weights(members, np.eye(4)[truth]), known, atol=0.02)


def test_noise_gets_no_weight_and_a_high_temperature():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 4, 2000)
    good = [noisy(rng, truth, 4, 2.0) for _ in range(2)]
    ensemble = fitted([good[0], softmax(4 * rng.normal(size=(2000, 4))), good[1]], letters_of(truth, 4))
    assert ensemble.weights[1] < 0.02
    assert min(ensemble.weights[0], ensemble.weights[2]) > 0.35
    assert ensemble.temperatures[1] > 5


def test_members_that_err_in_different_places_are_better_together():
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 5, 1200)
    letters = letters_of(truth, 5)
    members = [noisy(rng, truth, 5, 2.5, confidence) for confidence in (0.5, 1, 3)]
    ensemble = fitted(members, letters)
    assert np.ptp(ensemble.weights) < 0.1  # equally good, whatever their confidence
    best = max(average_precision(p, letters) for p in members)
    assert fused_score(members, ensemble, letters) > best + 0.02


def test_a_copy_changes_nothing():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 300)
    p = noisy(rng, truth, 3, 2.0)
    ensemble = fitted([p, p, p], letters_of(truth, 3))
    alone = Ensemble((1.0,), ensemble.temperatures[:1])
    np.testing.assert_allclose(fuse_members([p] * 3, ensemble), fuse_members([p], alone))


def test_without_rows_members_get_equal_weights():
    none = np.zeros((0, 3))
    ensemble = fit_ensemble([none, none], np.zeros((0, 3), np.int8), none)
    assert ensemble == Ensemble((0.5, 0.5), (1.0, 1.0))
