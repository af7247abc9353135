import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.labels import soft_labels
from heatcrop.metrics.calibration import softmax, tempered
from heatcrop.metrics.fusion import Fusion, fit_fusion, fuse
from heatcrop.metrics.score import average_precision


def letters_of(truth, n_classes):
    letters = np.zeros((len(truth), n_classes), np.int8)
    letters[np.arange(len(truth)), truth] = 2
    return letters


def drawn(rng, n_rows, n_classes, certainty):
    """Calibrated probabilities and labels drawn from them."""
    p = softmax(rng.normal(size=(n_rows, n_classes)) * certainty)
    truth = (p.cumsum(axis=1) < rng.uniform(size=(n_rows, 1))).sum(axis=1).clip(0, n_classes - 1)
    return p, truth


PROBABILITIES = st.integers(0, 2**32 - 1).map(
    lambda seed: softmax(np.random.default_rng(seed).normal(size=(6, 4)) * 6)
)


@given(PROBABILITIES, PROBABILITIES, st.floats(0, 1), st.floats(0.25, 8), st.floats(0.25, 8))
def test_fused_rows_are_probabilities_between_the_branches(full, crop, weight, full_t, crop_t):
    fusion = Fusion(weight, full_t, crop_t)
    fused = fuse(full, crop, fusion)
    np.testing.assert_allclose(fused.sum(axis=1), 1)
    a, b = tempered(full, full_t), tempered(crop, crop_t)
    assert (fused >= np.minimum(a, b) - 1e-12).all()
    assert (fused <= np.maximum(a, b) + 1e-12).all()
    np.testing.assert_allclose(fuse(full, crop, Fusion(0, full_t, crop_t)), a)
    np.testing.assert_allclose(fuse(full, crop, Fusion(1, full_t, crop_t)), b)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 6))
def test_on_the_fitting_rows_fusion_is_never_below_the_full_image(seed, n_rows, n_classes):
    rng = np.random.default_rng(seed)
    full, truth = drawn(rng, n_rows, n_classes, 2)
    crop = softmax(rng.normal(size=(n_rows, n_classes)) * 3)
    letters = letters_of(truth, n_classes)
    letters[(letters == 0) & (rng.uniform(size=letters.shape) < 0.2)] = 1
    fusion = fit_fusion(full, crop, letters, soft_labels(letters))
    fused = average_precision(fuse(full, crop, fusion), letters)
    for temperature in (1.0, fusion.full_temperature):  # uncalibrated and calibrated
        alone = fuse(full, crop, Fusion(0, temperature, fusion.crop_temperature))
        assert fused >= average_precision(alone, letters)


def test_a_crop_branch_of_noise_gets_no_weight():
    rng = np.random.default_rng(0)
    full, truth = drawn(rng, 2000, 4, 3)
    crop = softmax(rng.normal(size=full.shape) * 3)
    letters = letters_of(truth, 4)
    fusion = fit_fusion(full, crop, letters, soft_labels(letters))
    assert fusion.weight == 0
    assert fusion.crop_temperature > 5  # its confidence is calibrated away


def test_an_informative_branch_gets_the_weight():
    rng = np.random.default_rng(1)
    crop, truth = drawn(rng, 2000, 4, 3)
    full = softmax(rng.normal(size=crop.shape) * 3)
    letters = letters_of(truth, 4)
    assert fit_fusion(full, crop, letters, soft_labels(letters)).weight >= 0.9


def test_two_branches_with_independent_errors_both_get_weight():
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 4, 1500)
    evidence = 3 * np.eye(4)[truth]
    full, crop = (softmax(evidence + 2.5 * rng.normal(size=evidence.shape)) for _ in range(2))
    letters = letters_of(truth, 4)
    fusion = fit_fusion(full, crop, letters, soft_labels(letters))
    assert 0.3 <= fusion.weight <= 0.7
    gain = average_precision(fuse(full, crop, fusion), letters) - average_precision(full, letters)
    assert gain > 0.01


def test_without_rows_both_branches_get_equal_weights():
    none = np.zeros((0, 3))
    assert fit_fusion(none, none, np.zeros((0, 3), np.int8), none) == Fusion(0.5, 1.0, 1.0)
    assert fuse(none, none, Fusion()).shape == (0, 3)


def test_rows_whose_predictions_are_all_maybes_give_a_finite_fusion():
    """All predictions are `m`: no row counts for AP."""
    full = np.array([[0.1, 0.9], [0.2, 0.8]])
    letters = np.array([[2, 1], [2, 1]], np.int8)
    fusion = fit_fusion(full, full, letters, soft_labels(letters))
    assert 0 <= fusion.weight <= 1
    assert np.isfinite(fuse(full, full, fusion)).all()
