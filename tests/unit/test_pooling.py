"""The choice among poolings: expected values worked out by hand."""

import numpy as np

from stage1_cam.pooling import choose_pooling


def rows(n=20):
    """Half the images have class 0 and half class 1."""
    classes = np.arange(n) % 2
    letters = np.where(np.arange(2) == classes[:, None], 2, 0).astype(np.int8)
    return classes, (letters == 2).astype(np.float32), letters


def test_the_configured_pooling_stays_where_another_is_no_better():
    classes, soft, letters = rows()
    logits = 4.0 * (np.arange(2) == classes[:, None])
    tried = choose_pooling({1.0: logits, 0.1: 2 * logits}, soft, letters)
    assert [(one.pooling, one.chosen) for one in tried] == [(1.0, True), (0.1, False)]
    assert [one.ap for one in tried] == [1.0, 1.0]
    assert tried[1].difference == 0


def test_a_clearly_better_pooling_is_chosen():
    classes, soft, letters = rows()
    right = 4.0 * (np.arange(2) == classes[:, None])
    tried = choose_pooling({1.0: -right, 0.5: right, 0.1: -right}, soft, letters)
    assert [one.chosen for one in tried] == [False, True, False]
    # All wrong: each of two classes is predicted with confidence for the other's images alone.
    assert tried[0].ap < 0.5
    assert tried[1].ap == 1.0


def test_a_difference_within_the_noise_changes_nothing():
    """Two images of twenty right instead of wrong and one wrong instead of right: 1/20, give or take 0.08."""
    classes, soft, letters = rows()
    right = 4.0 * (np.arange(2) == classes[:, None])
    configured, other = right.copy(), right.copy()
    configured[[3, 4]] = configured[[4, 3]]
    other[5] = other[4]
    tried = choose_pooling({1.0: configured, 0.1: other}, soft, letters)
    assert 0 < tried[1].ap - tried[0].ap < tried[1].error
    assert tried[0].chosen


def test_of_a_shared_network_the_mean_over_tasks_counts():
    """Two tasks of two classes: the better of the first and the worse of the second cancel out."""
    classes, _, _ = rows()
    letters = np.zeros((20, 4), np.int8)
    task = np.arange(20) // 10
    letters[np.arange(20), 2 * task + classes] = 2
    soft = np.full((20, 4), -1, np.float32)
    for number in (0, 1):
        own = np.ix_(task == number, [2 * number, 2 * number + 1])
        soft[own] = letters[own] == 2
    right = 4.0 * (letters == 2)
    swapped = right[:, [1, 0, 2, 3]]
    tried = choose_pooling({1.0: swapped, 0.1: right[:, [0, 1, 3, 2]]}, soft, letters)
    assert tried[0].ap == tried[1].ap
    assert tried[0].chosen
