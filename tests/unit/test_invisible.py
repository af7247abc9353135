"""Precision, recall and F1 of the class ``Invisible``."""

import numpy as np
import pytest

from heatcrop.metrics.invisible import detect_invisible
from tests.unit.builders import letters_of


def predictions(classes):
    return np.eye(3)[classes]


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        # Class 1 is Invisible. Of three that are so two are found, and two others are taken for such.
        ([1, 1, 1, 0, 2, 0], [1, 1, 0, 1, 1, 0], (2 / 4, 2 / 3, 4 / 7)),
        ([1, 1, 0], [1, 1, 0], (1, 1, 1)),
        ([1, 0], [0, 1], (0, 0, 0)),
        ([1, 0], [0, 0], (None, 0, 0)),  # nothing is found
        ([0, 0], [1, 0], (0, None, 0)),  # nothing is to be found
        ([0, 2], [0, 0], (None, None, None)),
        ([], [], (None, None, None)),
    ],
)
def test_precision_recall_and_f1(truth, predicted, expected):
    letters, p = letters_of(np.array(truth, int), 3), predictions(np.array(predicted, int))
    found = detect_invisible(p, letters, 1)
    assert (found["precision"], found["recall"], found["f1"]) == pytest.approx(expected)


def test_images_that_may_be_invisible_count_neither_way():
    """The second and the third image have an m there: one is predicted to be so, and one is not."""
    letters = np.array([[0, 2, 0], [2, 1, 0], [0, 1, 2], [2, 0, 0]], np.int8)
    found = detect_invisible(predictions([1, 1, 2, 1]), letters, 1)
    assert found == {"precision": 1 / 2, "recall": 1, "f1": pytest.approx(2 / 3)}
