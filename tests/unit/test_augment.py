import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatcrop.data.images import write_jpeg
from heatcrop.nets.backbones import backbone
from heatcrop.training.augment import Augmentation, random_colour, random_erase, random_view
from heatcrop.training.batches import InputForm, Pictures, augmented
from heatcrop.training.views import View

STILL = Augmentation(flip=0, brightness=0)
SEEDS = st.integers(0, 2**32 - 1)


def grey(side=40, level=100):
    return np.full((side, side, 3), level, np.uint8)


@given(
    SEEDS, st.floats(0.05, 0.999), st.floats(1, 2), st.floats(-50, 50), st.floats(20, 300), st.floats(20, 300)
)
@settings(deadline=None)
def test_a_random_crop_stays_within_its_view(seed, scale, aspect, x0, width, height):
    base = View(x0, 5, x0 + width, 5 + height)
    view = random_view(
        np.random.default_rng(seed), base, dataclasses.replace(STILL, crop_scale=scale, aspect=aspect)
    )
    assert view.x0 >= base.x0 - 1e-6 and view.y0 >= base.y0 - 1e-6
    assert view.x1 <= base.x1 + 1e-6 and view.y1 <= base.y1 + 1e-6
    w, h = view.width / width, view.height / height
    assert w * h <= 1 + 1e-6
    if max(w, h) < 1 - 1e-9:  # unless the aspect ran into the border, area and aspect keep their bounds
        assert w * h >= scale - 1e-6
        assert 1 / aspect - 1e-6 <= w / h <= aspect + 1e-6


@given(SEEDS, st.floats(0.01, 0.3))
@settings(deadline=None)
def test_shift_and_zoom_keep_the_aspect_and_their_bounds(seed, shift):
    """The regime of length tasks: everything moves alike."""
    base = View(0, 0, 200, 100)
    view = random_view(np.random.default_rng(seed), base, dataclasses.replace(STILL, shift=shift))
    assert view.width / view.height == pytest.approx(2)
    assert 1 - shift - 1e-9 <= view.width / 200 <= 1 + shift + 1e-9
    assert abs((view.x0 + view.x1) / 2 - 100) <= shift * 200 + 1e-6
    assert abs((view.y0 + view.y1) / 2 - 50) <= shift * 100 + 1e-6


def test_no_augmentation_is_the_test_view():
    base = View(1, 2, 30, 40)
    assert random_view(np.random.default_rng(0), base, STILL) == base
    picture = grey()
    assert random_colour(np.random.default_rng(0), picture, STILL) is picture
    assert random_erase(np.random.default_rng(0), picture, STILL) is picture


@pytest.mark.parametrize(("chance", "low", "high"), [(0, 0, 0), (1, 300, 300), (0.5, 120, 180)])
def test_flips_come_as_often_as_asked(chance, low, high):
    rng, how = np.random.default_rng(0), dataclasses.replace(STILL, flip=chance)
    flips = sum(random_view(rng, View(0, 0, 9, 9), how).flip for _ in range(300))
    assert low <= flips <= high
    back = sum(random_view(rng, View(0, 0, 9, 9, True), how).flip for _ in range(300))
    assert 300 - high <= back <= 300 - low


@given(SEEDS, st.integers(2, 60), st.integers(2, 60))
@settings(deadline=None)
def test_erasing_is_sure_at_chance_1_and_never_at_0(seed, width, height):
    picture = np.full((height, width, 3), 100, np.uint8)
    rng = np.random.default_rng(seed)
    out = random_erase(rng, picture, dataclasses.replace(STILL, erase=1.0))
    assert (picture == 100).all()  # the original stays as it was
    changed = (out != 100).any(axis=2)
    assert changed.any() or width * height < 16  # noise may by chance be the old colour
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    if changed.any() and min(width, height) > 20:
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert area <= 0.21 * width * height
    assert random_erase(rng, picture, dataclasses.replace(STILL, erase=0.0)) is picture


@given(SEEDS)
@settings(deadline=None)
def test_brightness_stays_within_its_bounds(seed):
    out = random_colour(np.random.default_rng(seed), grey(8, 100), dataclasses.replace(STILL, brightness=0.2))
    assert len(np.unique(out)) == 1
    assert 79 <= out[0, 0, 0] <= 120


def test_contrast_keeps_the_mean_and_saturation_keeps_grey():
    picture = np.zeros((10, 10, 3), np.uint8)
    picture[:5], picture[5:] = 80, 120
    spread = set()
    for seed in range(20):
        out = random_colour(np.random.default_rng(seed), picture, dataclasses.replace(STILL, contrast=0.5))
        assert out.mean() == pytest.approx(100, abs=1)
        spread.add(int(out[9, 0, 0]) - int(out[0, 0, 0]))
        same = random_colour(np.random.default_rng(seed), picture, dataclasses.replace(STILL, saturation=0.5))
        assert np.abs(same.astype(int) - picture).max() <= 1
    assert min(spread) < 35 and max(spread) > 45
    red = np.zeros((4, 4, 3), np.uint8)
    red[:] = (200, 50, 50)
    how = dataclasses.replace(STILL, saturation=0.5)
    ranges = {int(np.ptp(random_colour(np.random.default_rng(s), red, how)[0, 0])) for s in range(20)}
    assert min(ranges) < 130 and max(ranges) > 170


def test_bright_colours_do_not_wrap_around():
    for seed in range(20):
        out = random_colour(
            np.random.default_rng(seed), grey(4, 255), dataclasses.replace(STILL, brightness=0.9)
        )
        assert out.min() > 20
        assert (np.diff(out.ravel().astype(int)) == 0).all()


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{i}.jpg") for i in range(3)]
    for path in paths:
        write_jpeg(path, rng.integers(0, 256, (50, 40, 3), np.uint8))
    return Pictures(paths)


def test_a_training_view_depends_on_seed_epoch_and_item_alone(pictures):
    form = InputForm(32, "pad", backbone("resnet18_v2"))
    how = Augmentation(crop_scale=0.5, aspect=1.3, brightness=0.3, contrast=0.2, saturation=0.2, erase=0.5)
    read, again, other = (augmented(pictures, form, how, seed) for seed in (4, 4, 5))
    first = {item: read(item) for item in [(0, 0), (0, 1), (1, 0), (7, 2)]}
    for item in reversed(first):  # in another order
        assert (again(item) == first[item]).all()
        assert (other(item) != first[item]).any()
    assert (first[0, 0] != first[1, 0]).any()
