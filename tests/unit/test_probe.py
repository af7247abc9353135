"""Probes of labels: fitted on other folds and on a sample, for all rows."""

import warnings

import numpy as np
import pytest

from heatcrop.training import probe
from heatcrop.training.probe import probe_labels, probe_predictions

N, CLASSES = 120, 3


@pytest.fixture
def rows():
    """Make features that show the true class, labels of which every tenth is wrong, and folds."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, N)
    features = np.eye(CLASSES)[truth].repeat(20, axis=1) + rng.normal(size=(N, 20 * CLASSES))
    labels = truth.copy()
    labels[::10] = (labels[::10] + 1) % CLASSES
    return features, truth, labels, rng.permutation(N) % 5


def in_parts(features, asked):
    """Hand features out seven rows at a time, and note how many were asked for."""

    def features_of(index):
        asked.append(len(index))
        return (features[index[first : first + 7]] for first in range(0, len(index), 7))

    return features_of


def test_wrong_labels_are_less_probable_than_right_ones(rows):
    features, truth, labels, folds = rows
    out = probe_labels(in_parts(features, []), labels, CLASSES, folds, 0)
    assert out.sum(axis=1) == pytest.approx(np.ones(N))
    assert (out.argmax(axis=1) == truth).mean() > 0.95
    own = out[np.arange(N), labels]
    assert own[::10].max() < np.median(own)


def test_a_row_is_predicted_without_its_own_label():
    """Features identify the row, not the class: a probe that has seen the label would know it."""
    labels = np.random.default_rng(3).integers(0, 2, 60)
    out = probe_labels(in_parts(np.eye(60), []), labels, 2, np.arange(60) % 5, 0)
    assert (out.argmax(axis=1) == labels).mean() < 0.7


def test_probes_of_many_rows_are_fitted_on_a_sample(rows, monkeypatch):
    features, truth, labels, folds = rows
    asked = []
    complete = probe_labels(in_parts(features, asked), labels, CLASSES, folds, 0)
    assert asked == [N]
    monkeypatch.setattr(probe, "_FITTED_ROWS", 60)
    sampled = probe_labels(in_parts(features, asked), labels, CLASSES, folds, 0)
    assert asked == [N, 60, N]
    assert not np.array_equal(sampled, complete)
    assert (sampled.argmax(axis=1) == truth).mean() > 0.9
    assert np.array_equal(sampled, probe_labels(in_parts(features, []), labels, CLASSES, folds, 0))


def test_a_label_that_no_other_fold_has_is_not_predicted(rows):
    features, _, labels, folds = rows
    labels = np.where(labels == 2, 1, labels)
    labels[folds == 4] = 2
    out = probe_labels(in_parts(features, []), labels, CLASSES, folds, 0)
    assert np.isnan(out[folds == 4]).all()
    assert not np.isnan(out[folds != 4]).any()
    assert np.isnan(probe_labels(in_parts(features, []), labels, CLASSES, np.zeros(N, int), 0)).all()


def test_many_classes_of_few_images_print_no_warning():
    rng = np.random.default_rng(0)
    features, classes = rng.normal(size=(80, 5)), np.repeat(np.arange(40), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(probe_predictions(features, classes, 40, np.tile([0, 1], 40))).all()
