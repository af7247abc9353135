import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatcrop.training.views import TestViews, View, framed, sample


def ramp(width, height):
    """Encode the column as red and the row as green, both in pixels; blue is 255 in the image."""
    image = np.full((height, width, 3), 255, np.uint8)
    image[:, :, 0] = np.arange(width)[None, :]
    image[:, :, 1] = np.arange(height)[:, None]
    return image


def test_the_full_image_at_its_own_size_is_itself():
    image = ramp(80, 80)
    assert (sample(image, View(0, 0, 80, 80), 80) == image).all()


def test_a_view_shows_its_rectangle():
    out = sample(ramp(200, 100), View(40, 20, 120, 60), 80).astype(int)
    columns, rows = (np.arange(80) + 0.5) * 1.0 + 39.5, (np.arange(80) + 0.5) * 0.5 + 19.5
    assert np.abs(out[:, :, 0] - columns[None, :]).max() <= 1
    assert np.abs(out[:, :, 1] - rows[:, None]).max() <= 1
    assert (out[:, :, 2] == 255).all()


@given(
    st.integers(20, 250),
    st.integers(20, 250),
    st.integers(16, 96),
    st.floats(0, 0.6),
    st.floats(0, 0.6),
    st.floats(0.2, 0.4),
    st.booleans(),
)
def test_sampled_coordinates_follow_the_view(width, height, side, u, v, share, flip):
    view = View(u * width, v * height, (u + share) * width, (v + share) * height, flip)
    out = sample(ramp(width, height), view, side).astype(float)
    along = (np.arange(side) + 0.5) / side
    columns = view.x0 + along * view.width - 0.5
    rows = view.y0 + along * view.height - 0.5
    shown = out[:, ::-1] if flip else out
    # A rectangle is widened to whole pixels, by less than one on each side.
    assert np.abs(shown[:, :, 0] - columns[None, :]).max() <= 2.01
    assert np.abs(shown[:, :, 1] - rows[:, None]).max() <= 2.01


def test_the_area_beyond_the_border_is_filled():
    out = sample(ramp(100, 100), View(-50, 0, 50, 100), 100)
    assert (out[:, :50] == 128).all()
    assert (out[:, 50:, 2] == 255).all()
    assert np.abs(out[0, 50:, 0].astype(int) - np.arange(50)).max() <= 1
    below = sample(ramp(100, 100), View(0, 50, 100, 150), 50)
    assert (below[25:] == 128).all()
    assert (below[:25, :, 2] == 255).all()


@pytest.mark.parametrize("view", [View(200, 0, 300, 100), View(-50, -50, -10, -10), View(0, 100, 10, 110)])
def test_a_view_outside_the_image_is_all_fill(view):
    assert (sample(ramp(100, 100), view, 32) == 128).all()


def test_flipping_mirrors_the_padding_too():
    view = View(-30, 10, 70, 90)
    plain = sample(ramp(100, 100), view, 64)
    mirrored = sample(ramp(100, 100), View(-30, 10, 70, 90, True), 64)
    assert (mirrored == plain[:, ::-1]).all()


@given(
    st.floats(-300, 300),
    st.floats(-300, 300),
    st.floats(0.01, 600),
    st.floats(0.01, 600),
    st.integers(1, 40),
    st.booleans(),
)
@settings(max_examples=200)
def test_any_view_gives_a_square(x0, y0, w, h, side, flip):
    out = sample(ramp(60, 40), View(x0, y0, x0 + w, y0 + h, flip), side)
    assert out.shape == (side, side, 3)
    assert out.dtype == np.uint8
    assert out.flags.c_contiguous


def test_stretching_shows_exactly_the_box_and_padding_keeps_the_aspect():
    box = (10, 20, 50, 120)
    assert framed(box, "stretch") == View(10, 20, 50, 120)
    padded = framed(box, "pad")
    assert padded == View(-20, 20, 80, 120)
    with pytest.raises(ValueError, match="'crop'.*'stretch' or 'pad'"):
        framed(box, "crop")


def test_in_a_padded_view_a_circle_stays_round():
    y, x = np.mgrid[:200, :100]
    image = np.zeros((200, 100, 3), np.uint8)
    image[(x - 50) ** 2 + (y - 100) ** 2 < 30**2] = 255
    seen = sample(image, framed((0, 0, 100, 200), "pad"), 100)[:, :, 0] == 255
    high, wide = seen.any(axis=1).sum(), seen.any(axis=0).sum()
    assert abs(int(high) - int(wide)) <= 1
    assert abs(int(high) - 30) <= 2
    seen = sample(image, framed((0, 0, 100, 200), "stretch"), 100)[:, :, 0] == 255
    assert seen.any(axis=0).sum() > 1.8 * seen.any(axis=1).sum()


# --- views of test-time augmentation


def test_the_competition_views_are_three_scales_nine_crops_and_mirrors():
    views = TestViews((480 / 448, 512 / 448, 576 / 448), 3, True).on(View(0, 0, 512, 512))
    assert len(views) == 3 * 9 * 2
    assert [v.flip for v in views] == [False] * 27 + [True] * 27
    assert len(set(views)) == 54
    # The input's own scale has one view: all nine windows would be the same.
    assert len(TestViews((1, 480 / 448, 512 / 448), 3, True).unit()) == (1 + 9 + 9) * 2


def test_a_window_of_a_larger_scale_has_the_share_of_the_input():
    views = TestViews((2.0,), 2, False).on(View(100, 0, 300, 400))
    assert views == [
        View(100, 0, 200, 200),
        View(200, 0, 300, 200),
        View(100, 200, 200, 400),
        View(200, 200, 300, 400),
    ]


def test_a_single_window_shows_the_middle():
    assert TestViews((2.0,), 1, False).on(View(100, 0, 300, 400)) == [View(150, 100, 250, 300)]


@pytest.mark.parametrize(
    ("plan", "view"),
    [
        (TestViews(), View(0, 0, 1, 1)),
        (TestViews((1.25, 1.0), 3), View(0, 0, 1, 1)),
        (TestViews((2.0, 4.0), 2), View(0.25, 0.25, 0.75, 0.75)),
    ],
)
def test_the_single_view_is_the_entire_square_or_the_middle(plan, view):
    assert plan.single().unit() == [view]


@pytest.mark.parametrize(
    ("scales", "grid", "first"),
    [
        ((1.25, 1.0), 3, View(0, 0, 1, 1)),
        ((1.0, 1.25), 3, View(0, 0, 1, 1)),
        ((2.0, 1.25), 3, View(0.25, 0.25, 0.75, 0.75)),
        ((2.0, 1.25), 2, View(0, 0, 0.8, 0.8)),
    ],
)
def test_the_first_view_is_the_entire_square_or_the_most_central_window(scales, grid, first):
    views = TestViews(scales, grid, True).unit()
    assert views[0] == first
    half = len(views) // 2
    assert views[half:] == [dataclasses.replace(view, flip=True) for view in views[:half]]
    assert len(set(views)) == len(views)


@given(
    st.floats(-50, 50),
    st.floats(-50, 50),
    st.floats(1, 400),
    st.floats(1, 400),
    st.lists(st.floats(1, 3), min_size=1, max_size=3),
    st.integers(1, 4),
    st.booleans(),
)
def test_every_test_view_lies_within_the_base_view(x0, y0, w, h, scales, grid, flip):
    base = View(x0, y0, x0 + w, y0 + h)
    plan = TestViews(tuple(scales), grid, flip)
    views = plan.on(base)
    assert len(views) == len(plan.unit())
    for view in views:
        assert view.x0 >= base.x0 - 1e-6
        assert view.y0 >= base.y0 - 1e-6
        assert view.x1 <= base.x1 + 1e-6
        assert view.y1 <= base.y1 + 1e-6
        assert view.width / base.width == pytest.approx(view.height / base.height)
    assert sum(v.flip for v in views) * 2 == (len(views) if flip else 0)


def test_plain_test_views_are_the_image_and_its_mirror():
    base = View(0, 10, 20, 40)
    assert TestViews().on(base) == [base, View(0, 10, 20, 40, True)]
    assert TestViews(flip=False).on(base) == [base]
