import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.images import write_jpeg
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.training.augment import Augmentation, random_colour, random_erase, random_view
from heatcrop.training.batches import Images, read_augmented
from heatcrop.training.views import View

STILL = Augmentation(flip=0, brightness=0)
SEEDS = st.integers(0, 2**32 - 1)


def grey(side=40, level=100):
    return np.full((side, side, 3), level, np.uint8)


@given(
    SEEDS, st.floats(0.05, 0.999), st.floats(1, 2), st.floats(-50, 50), st.floats(20, 300), st.floats(20, 300)
)
def test_a_random_crop_stays_within_its_view(seed, scale, aspect, x0, width, height):
    base = View(x0, 5, x0 + width, 5 + height)
    view = random_view(
        np.random.default_rng(seed), base, dataclasses.replace(STILL, crop_scale=scale, aspect=aspect)
    )
    assert view.x0 >= base.x0 - 1e-6
    assert view.y0 >= base.y0 - 1e-6
    assert view.x1 <= base.x1 + 1e-6
    assert view.y1 <= base.y1 + 1e-6
    w, h = view.width / width, view.height / height
    assert w * h <= 1 + 1e-6
    if max(w, h) < 1 - 1e-9:  # unless the aspect ran into the border, area and aspect keep their bounds
        assert w * h >= scale - 1e-6
        assert 1 / aspect - 1e-6 <= w / h <= aspect + 1e-6


@given(SEEDS, st.floats(0.01, 0.3))
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
    image = grey()
    assert random_colour(np.random.default_rng(0), image, STILL) is image
    assert random_erase(np.random.default_rng(0), image, STILL) is image


@pytest.mark.parametrize(("chance", "low", "high"), [(0, 0, 0), (1, 300, 300), (0.5, 120, 180)])
def test_flips_are_as_frequent_as_configured(chance, low, high):
    rng, augment = np.random.default_rng(0), dataclasses.replace(STILL, flip=chance)
    flips = sum(random_view(rng, View(0, 0, 9, 9), augment).flip for _ in range(300))
    assert low <= flips <= high
    back = sum(random_view(rng, View(0, 0, 9, 9, True), augment).flip for _ in range(300))
    assert 300 - high <= back <= 300 - low


@given(SEEDS, st.integers(2, 60), st.integers(2, 60))
def test_erasing_always_happens_at_probability_1_and_never_at_0(seed, width, height):
    image = np.full((height, width, 3), 100, np.uint8)
    rng = np.random.default_rng(seed)
    out = random_erase(rng, image, dataclasses.replace(STILL, erase=1.0))
    assert (image == 100).all()  # the original stays as it was
    changed = (out != 100).any(axis=2)
    assert changed.any() or width * height < 16  # noise may by chance be the old colour
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    if changed.any() and min(width, height) > 20:
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert area <= 0.21 * width * height
    assert random_erase(rng, image, dataclasses.replace(STILL, erase=0.0)) is image


@given(SEEDS)
def test_brightness_stays_within_its_bounds(seed):
    out = random_colour(np.random.default_rng(seed), grey(8, 100), dataclasses.replace(STILL, brightness=0.2))
    assert len(np.unique(out)) == 1
    assert 79 <= out[0, 0, 0] <= 120


def test_contrast_keeps_the_mean_and_saturation_keeps_grey():
    image = np.zeros((10, 10, 3), np.uint8)
    image[:5], image[5:] = 80, 120
    spread = set()
    for seed in range(20):
        out = random_colour(np.random.default_rng(seed), image, dataclasses.replace(STILL, contrast=0.5))
        assert out.mean() == pytest.approx(100, abs=1)
        spread.add(int(out[9, 0, 0]) - int(out[0, 0, 0]))
        same = random_colour(np.random.default_rng(seed), image, dataclasses.replace(STILL, saturation=0.5))
        assert np.abs(same.astype(int) - image).max() <= 1
    assert min(spread) < 35
    assert max(spread) > 45
    red = np.zeros((4, 4, 3), np.uint8)
    red[:] = (200, 50, 50)
    augment = dataclasses.replace(STILL, saturation=0.5)
    ranges = {int(np.ptp(random_colour(np.random.default_rng(s), red, augment)[0, 0])) for s in range(20)}
    assert min(ranges) < 130
    assert max(ranges) > 170


def test_bright_colours_do_not_wrap_around():
    for seed in range(20):
        out = random_colour(
            np.random.default_rng(seed), grey(4, 255), dataclasses.replace(STILL, brightness=0.9)
        )
        assert out.min() > 20
        assert (np.diff(out.ravel().astype(int)) == 0).all()


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{i}.jpg") for i in range(3)]
    for path in paths:
        write_jpeg(path, rng.integers(0, 256, (50, 40, 3), np.uint8))
    return Images(paths)


def test_a_training_view_depends_on_seed_epoch_and_item_only(images):
    form = InputForm(32, "pad", backbone("resnet18_v2"))
    augment = Augmentation(0.5, 1.3, brightness=0.3, contrast=0.2, saturation=0.2, erase=0.5)

    def read(epoch, i, seed):
        return read_augmented(images, i, form, epoch, seed, augment)

    first = {item: read(*item, 4) for item in [(0, 0), (0, 1), (1, 0), (7, 2)]}
    for item in reversed(first):  # in another order
        assert (read(*item, 4) == first[item]).all()
        assert (read(*item, 5) != first[item]).any()
    assert (first[0, 0] != first[1, 0]).any()
