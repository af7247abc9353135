"""The weight and the temperatures that fuse the predictions of full images and crops."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.labels import soft_labels
from heatcrop.metrics.calibration import cross_entropy, fit_temperature, softmax, tempered
from heatcrop.metrics.fusion import Fusion, cross_fused, fit_fusion, fuse
from heatcrop.metrics.score import average_precision
from tests.unit.builders import calibrated, letters_of

RNGS = st.integers(0, 2**32 - 1).map(np.random.default_rng)
PROBABILITIES = RNGS.map(lambda rng: softmax(rng.normal(size=(6, 4)) * 6))


def fitted(full, crop, letters):
    return fit_fusion(full, crop, letters, soft_labels(letters))


@given(PROBABILITIES, PROBABILITIES, st.floats(0, 1), st.floats(0.25, 8), st.floats(0.25, 8))
def test_fused_rows_are_probabilities_between_the_branches(full, crop, weight, full_t, crop_t):
    fused = fuse(full, crop, Fusion(weight, full_t, crop_t))
    np.testing.assert_allclose(fused.sum(axis=1), 1)
    a, b = tempered(full, full_t), tempered(crop, crop_t)
    assert (fused >= np.minimum(a, b) - 1e-12).all()
    assert (fused <= np.maximum(a, b) + 1e-12).all()
    np.testing.assert_allclose(fuse(full, crop, Fusion(0, full_t, crop_t)), a)
    np.testing.assert_allclose(fuse(full, crop, Fusion(1, full_t, crop_t)), b)


@given(RNGS, st.integers(1, 40), st.integers(2, 6))
def test_on_the_fitting_rows_fusion_is_never_below_the_full_image(rng, n_rows, n_classes):
    full, truth = calibrated(rng, n_rows, n_classes, 2)
    crop = softmax(rng.normal(size=(n_rows, n_classes)) * 3)
    letters = letters_of(truth, n_classes, rng)
    fusion = fitted(full, crop, letters)
    alone = fuse(full, crop, dataclasses.replace(fusion, weight=0))
    assert average_precision(fuse(full, crop, fusion), letters) >= average_precision(alone, letters)


def test_both_branches_are_calibrated_where_that_reorders_the_full_image():
    """Its rows are then ranked a little worse or better, and confidences are better."""
    rng, reordered, changes = np.random.default_rng(0), 0, []
    for _ in range(20):
        full, truth = calibrated(rng, 200, 4, 4)
        full, crop = tempered(full, 0.5), softmax(rng.normal(size=full.shape) + 0.3 * np.eye(4)[truth])
        letters = letters_of(truth, 4)
        fusion, soft = fitted(full, crop, letters), soft_labels(letters)
        fitted_apart = fit_temperature(full, soft), fit_temperature(crop, soft)
        assert (fusion.full_temperature, fusion.crop_temperature) == fitted_apart
        alone = average_precision(tempered(full, fusion.full_temperature), letters)
        uncalibrated = average_precision(full, letters)
        reordered += alone < uncalibrated
        fused = fuse(full, crop, fusion)
        changes.append(average_precision(fused, letters) - uncalibrated)
        assert cross_entropy(fused, soft).mean() < cross_entropy(full, soft).mean()
    assert reordered > 3
    assert min(changes) > -0.002
    assert np.mean(changes) > 0


def test_a_branch_of_noise_gets_no_weight():
    rng = np.random.default_rng(0)
    informed, truth = calibrated(rng, 2000, 4, 3)
    noise, letters = softmax(rng.normal(size=informed.shape) * 3), letters_of(truth, 4)
    fusion = fitted(informed, noise, letters)
    assert fusion.weight == 0
    assert fusion.crop_temperature > 5  # its confidence is calibrated away
    assert fitted(noise, informed, letters).weight >= 0.9


def test_two_branches_with_independent_errors_both_get_weight():
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 4, 1500)
    evidence = 3 * np.eye(4)[truth]
    full, crop = (softmax(evidence + 2.5 * rng.normal(size=evidence.shape)) for _ in range(2))
    letters = letters_of(truth, 4)
    fusion = fitted(full, crop, letters)
    assert 0.3 <= fusion.weight <= 0.7
    gain = average_precision(fuse(full, crop, fusion), letters) - average_precision(full, letters)
    assert gain > 0.01


def test_without_rows_both_branches_get_equal_weights():
    none = np.zeros((0, 3))
    assert fit_fusion(none, none, np.zeros((0, 3), np.int8), none) == Fusion(0.5, 1.0, 1.0)
    assert fuse(none, none, Fusion(0.5)).shape == (0, 3)


def test_rows_whose_predictions_are_all_maybes_give_a_finite_fusion():
    """No row counts for AP."""
    full = np.array([[0.1, 0.9], [0.2, 0.8]])
    fusion = fitted(full, full, np.array([[2, 1], [2, 1]], np.int8))
    assert 0 <= fusion.weight <= 1
    assert np.isfinite(fuse(full, full, fusion)).all()


def test_cross_fused_rows_do_not_depend_on_their_own_labels():
    """With other labels in a row, its own fused prediction stays; those of other parts may change."""
    rng = np.random.default_rng(3)
    full, truth = calibrated(rng, 60, 3, 2.0)
    crop = softmax(np.log(full) + rng.normal(size=full.shape))
    letters = letters_of(truth, 3)
    other = letters.copy()
    other[7] = np.roll(letters[7], 1)
    one, two = (cross_fused(full, crop, labels, soft_labels(labels)) for labels in (letters, other))
    assert np.array_equal(one[7], two[7])
    assert not np.array_equal(one, two)
    np.testing.assert_allclose(one.sum(axis=1), 1)


def test_fewer_rows_than_parts_are_cross_fused():
    letters = letters_of(np.array([0, 1]), 2)
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert cross_fused(p, p, letters, soft_labels(letters)).argmax(axis=1).tolist() == [0, 1]
