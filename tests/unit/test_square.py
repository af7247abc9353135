"""The square around a component, widened, rounded and moved into the image."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stage2_crop.square import circumscribed_square, move_inside, widen

COORDINATE = st.floats(-500, 1500, allow_nan=False)
LENGTH = st.floats(0.5, 900, allow_nan=False)
SIDES = st.integers(1, 1000)
BOXES = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), COORDINATE, COORDINATE, LENGTH, LENGTH)
SQUARES = st.builds(lambda x, y, s: (x, y, x + s, y + s), COORDINATE, COORDINATE, LENGTH)


def centre(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def size(box):
    return box[2] - box[0], box[3] - box[1]


@given(BOXES)
def test_the_circumscribed_square_is_the_smallest_around_the_same_centre(box):
    square = circumscribed_square(box)
    assert size(square) == pytest.approx((max(size(box)),) * 2)
    assert centre(square) == pytest.approx(centre(box))
    assert square[0] <= box[0] + 1e-6
    assert square[1] <= box[1] + 1e-6
    assert square[2] >= box[2] - 1e-6
    assert square[3] >= box[3] - 1e-6


@given(SQUARES, st.floats(0, 2), st.floats(0, 1200))
def test_widen_gives_the_exact_side_around_the_same_centre(square, margin, least):
    wide = widen(square, margin, least)
    expected = max((square[2] - square[0]) * (1 + 2 * margin), least)
    assert size(wide) == pytest.approx((expected, expected))
    assert centre(wide) == pytest.approx(centre(square))


def test_widen_adds_the_margin_on_each_side():
    assert widen((100, 200, 140, 240), 0.25) == (90, 190, 150, 250)
    assert widen((100, 200, 140, 240), 0.0, 60) == (90, 190, 150, 250)
    assert widen((100, 200, 140, 240), 0.5, 60) == (80, 180, 160, 260)


@given(SQUARES, SIDES, SIDES)
def test_a_moved_square_lies_inside_and_is_square_unless_the_image_is_too_small(square, width, height):
    moved = move_inside(square, width, height)
    x0, y0, x1, y1 = moved
    assert all(isinstance(v, int) for v in moved)
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    side = math.ceil(round(square[2] - square[0], 6))
    assert x1 - x0 == min(side, width)
    assert y1 - y0 == min(side, height)
    if side <= min(width, height):
        assert x1 - x0 == y1 - y0


@given(st.integers(10, 1000), st.integers(10, 1000), st.data())
def test_a_square_that_fits_stays_where_it_is(width, height, data):
    side = data.draw(st.floats(0.5, min(width, height) - 3), label="side")
    x0 = data.draw(st.floats(1, width - side - 2), label="x0")
    y0 = data.draw(st.floats(1, height - side - 2), label="y0")
    square = (x0, y0, x0 + side, y0 + side)
    assert centre(move_inside(square, width, height)) == pytest.approx(centre(square), abs=0.5 + 1e-6)


@given(st.data(), SIDES, SIDES, st.floats(0, 0.5))
def test_a_box_inside_the_image_stays_in_its_crop(data, width, height, margin):
    """Except for the half pixel of rounding."""
    x0, x1 = sorted(data.draw(st.lists(st.floats(0, width), min_size=2, max_size=2), label="x"))
    y0, y1 = sorted(data.draw(st.lists(st.floats(0, height), min_size=2, max_size=2), label="y"))
    assume(x1 - x0 > 0.01 and y1 - y0 > 0.01)
    crop = move_inside(widen(circumscribed_square((x0, y0, x1, y1)), margin), width, height)
    slack = 0.5 + 1e-5
    assert crop[0] <= x0 + slack
    assert crop[1] <= y0 + slack
    assert crop[2] >= x1 - slack
    assert crop[3] >= y1 - slack


@pytest.mark.parametrize(
    ("square", "expected"),
    [
        ((-30, -30, 10, 10), (0, 0, 40, 40)),  # top left corner
        ((80, 80, 120, 120), (60, 60, 100, 100)),  # bottom right corner
        ((30, 95, 40, 105), (30, 90, 40, 100)),  # pushed up
        ((10.2, 10.2, 20.2, 20.2), (10, 10, 20, 20)),  # rounded, not grown
        ((10.0, 10.0, 20.4, 20.4), (10, 10, 21, 21)),  # a fractional side is rounded up
        ((-200, -200, 300, 300), (0, 0, 100, 100)),  # larger than the image
        ((50, 50, 50, 50), (50, 50, 51, 51)),  # never empty
    ],
)
def test_hand_worked_moves(square, expected):
    assert move_inside(square, 100, 100) == pytest.approx(expected, abs=0)


def test_a_square_wider_than_a_portrait_keeps_its_height():
    assert move_inside((-20, 100, 140, 260), 120, 300) == (0, 100, 120, 260)
