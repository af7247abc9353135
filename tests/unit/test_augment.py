"""Random views and colours of training images."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.training.augment import Augmentation, random_colour, random_erase, random_view
from heatcrop.training.views import View

STILL = Augmentation(flip=0, brightness=0)
RNGS = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def still_but(**changes):
    return dataclasses.replace(STILL, **changes)


def grey(width=40, height=40, level=100):
    return np.full((height, width, 3), level, np.uint8)


@given(
    RNGS, st.floats(0.05, 0.999), st.floats(1, 2), st.floats(-50, 50), st.floats(20, 300), st.floats(20, 300)
)
def test_a_random_crop_stays_within_its_view_and_its_bounds(rng, scale, aspect, x0, width, height):
    view = random_view(rng, View(x0, 5, x0 + width, 5 + height), still_but(crop_scale=scale, aspect=aspect))
    edge = 1e-6
    assert x0 - edge <= view.x0 < view.x1 <= x0 + width + edge
    assert 5 - edge <= view.y0 < view.y1 <= 5 + height + edge
    w, h = view.width / width, view.height / height
    if max(w, h) < 1 - 1e-9:  # unless the aspect ran into the border
        assert w * h >= scale - edge
        assert 1 / aspect - edge <= w / h <= aspect + edge


@given(RNGS, st.floats(0.01, 0.3))
def test_shift_and_zoom_keep_the_aspect_and_their_bounds(rng, shift):
    """The regime of length tasks: everything moves alike."""
    view = random_view(rng, View(0, 0, 200, 100), still_but(shift=shift))
    assert view.width / view.height == pytest.approx(2)
    assert abs(view.width / 200 - 1) <= shift + 1e-9
    assert abs((view.x0 + view.x1) / 2 - 100) <= shift * 200 + 1e-6
    assert abs((view.y0 + view.y1) / 2 - 50) <= shift * 100 + 1e-6


def test_no_augmentation_is_the_test_view():
    rng, base, image = np.random.default_rng(0), View(1, 2, 30, 40), grey()
    assert random_view(rng, base, STILL) == base
    assert random_colour(rng, image, STILL) is image
    assert random_erase(rng, image, STILL) is image


@pytest.mark.parametrize(("chance", "low", "high"), [(0, 0, 0), (1, 300, 300), (0.5, 120, 180)])
def test_flips_are_as_frequent_as_configured_and_undo_a_flipped_view(chance, low, high):
    rng, augment = np.random.default_rng(0), still_but(flip=chance)
    for flipped in (False, True):
        views = [random_view(rng, View(0, 0, 9, 9, flipped), augment) for _ in range(300)]
        assert low <= sum(view.flip != flipped for view in views) <= high


@given(RNGS, st.integers(2, 60), st.integers(2, 60))
def test_erasing_replaces_at_most_a_fifth_of_a_copy(rng, width, height):
    image = grey(width, height)
    changed = (random_erase(rng, image, still_but(erase=1.0)) != 100).any(axis=2)
    assert (image == 100).all()
    assert changed.any() or width * height < 16  # noise may by chance be the old colour
    if min(width, height) > 20:
        rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
        assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) <= 0.21 * width * height


@given(RNGS)
def test_brightness_stays_within_its_bounds(rng):
    out = random_colour(rng, grey(8, 8), still_but(brightness=0.2))
    assert len(np.unique(out)) == 1
    assert 79 <= out[0, 0, 0] <= 120


def coloured(image, **changes):
    """Change the colours of an image with 20 seeds."""
    return [
        random_colour(np.random.default_rng(s), image, still_but(**changes)).astype(int) for s in range(20)
    ]


def test_contrast_keeps_the_mean():
    image = np.concatenate([grey(10, 5, 80), grey(10, 5, 120)])
    found = coloured(image, contrast=0.5)
    assert [out.mean() for out in found] == pytest.approx([100] * 20, abs=1)
    spread = [out[9, 0, 0] - out[0, 0, 0] for out in found]
    assert min(spread) < 35
    assert max(spread) > 45


def test_saturation_keeps_grey_and_changes_colours():
    assert np.abs(np.array(coloured(grey(), saturation=0.5)) - 100).max() <= 1
    red = np.full((4, 4, 3), (200, 50, 50), np.uint8)
    ranges = [np.ptp(out[0, 0]) for out in coloured(red, saturation=0.5)]
    assert min(ranges) < 130
    assert max(ranges) > 170


def test_bright_colours_do_not_wrap_around():
    found = np.array(coloured(grey(4, 4, 255), brightness=0.9))
    assert found.min() > 20
    assert np.ptp(found, axis=(1, 2, 3)).max() == 0
