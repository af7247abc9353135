"""Doubtful labels: the confident joint and what is pruned."""

import numpy as np

from heatcrop.metrics.suspects import confident_joint, find_suspects

# Thresholds are the means of the own class: (0.8 + 0.6 + 0.1) / 3 = 0.5 of class 0, (0.7 + 0.5) / 2 = 0.6 of
# class 1, 0.9 of class 2.
LABELS = np.array([0, 0, 0, 1, 1, 2])
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.6, 0.3, 0.1],
        [0.1, 0.85, 0.05],
        [0.1, 0.7, 0.2],
        [0.48, 0.5, 0.02],
        [0.05, 0.05, 0.9],
    ]
)


def test_equal_probabilities_are_confident():
    # The mean of three times 0.8 is above 0.8 in floating point.
    p = np.array([[0.8, 0.2]] * 3 + [[0.2, 0.8]])
    assert confident_joint(np.array([0, 0, 0, 1]), p).tolist() == [[3, 0], [0, 1]]


def test_images_count_where_their_class_is_as_probable_as_on_average():
    """The fifth image reaches neither class's threshold."""
    assert confident_joint(LABELS, PROBABILITIES).tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_the_most_probable_of_several_confident_classes_counts():
    labels, p = np.array([0, 1, 1]), np.array([[0.4, 0.6], [0.45, 0.55], [0.9, 0.1]])
    # Thresholds 0.4 and 0.325: the first two reach both.
    assert confident_joint(labels, p).tolist() == [[0, 1], [1, 1]]


def test_classes_without_a_label_are_nobodys():
    assert confident_joint(np.array([0, 0]), np.array([[0.6, 0.4], [0.1, 0.9]])).tolist() == [[1, 0], [0, 0]]


def test_as_many_are_doubtful_as_the_calibrated_joint_estimates():
    """A third of class 0, the one that is least probable, and none of the others."""
    assert find_suspects(LABELS, PROBABILITIES).tolist() == [False, False, True, False, False, False]


def test_estimates_are_scaled_to_all_images_of_a_class():
    """Of class 0 four images count, one of them in class 1: of all eight two are doubtful."""
    p0 = np.array([0.9, 0.9, 0.9, 0.0, 0.3, 0.35, 0.4, 0.45])  # mean 0.525
    p = np.column_stack([p0, 1 - p0])
    p[4:] = np.column_stack([p0[4:], 1 - p0[4:]])
    labels = np.zeros(8, int)
    p, labels = np.vstack([p, [[0.2, 0.8]]]), np.append(labels, 1)  # threshold of class 1: 0.8
    assert confident_joint(labels, p).tolist() == [[3, 1], [0, 1]]
    assert np.flatnonzero(find_suspects(labels, p)).tolist() == [3, 4]


def test_flipped_labels_come_first():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 400)
    p = rng.dirichlet(np.ones(4), 400)
    p[np.arange(400), truth] += 1.5
    p /= p.sum(axis=1, keepdims=True)
    labels, flipped = truth.copy(), rng.permutation(400)[:20]
    labels[flipped] = (labels[flipped] + 1) % 4
    assert find_suspects(labels, p)[flipped].mean() >= 0.8
    first = np.argsort(p[np.arange(400), labels])[:40]
    assert np.isin(flipped, first).mean() >= 0.95
