"""Singular and plural in messages."""

import pytest

from heatcrop.wording import counted


@pytest.mark.parametrize(
    ("number", "what", "expected"),
    [
        (0, "image(s)", "0 images"),
        (1, "image(s)", "1 image"),
        (2, "image(s)", "2 images"),
        (1, "class(es)", "1 class"),
        (3, "class(es)", "3 classes"),
        (1, "cop(y|ies) that (is|are) dropped", "1 copy that is dropped"),
        (1_234_567, "cop(y|ies) that (is|are) dropped", "1,234,567 copies that are dropped"),
        (1, "row at once", "1 row at once"),
    ],
)
def test_one_is_singular(number, what, expected):
    assert counted(number, what) == expected
