"""From files to batches: reading ahead, normalising, and inputs that are live or cached."""

import dataclasses
import itertools
import threading

import numpy as np
import pytest

from heatcrop.data.images import ImageError, write_jpeg
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.training.augment import Augmentation
from heatcrop.training.batches import Images, batched, normalise, read_ahead
from heatcrop.training.inputs import CachedInputs, LiveInputs
from heatcrop.training.views import TestViews
from tests.tiny_run import wait_until
from tests.unit.builders import write_noise

RESNET = backbone("resnet18_v2")
SIDE = 32


def test_read_ahead_keeps_the_order():
    second = threading.Event()

    def work(i):
        if i == 0:
            assert second.wait(30)
        elif i == 1:
            second.set()
        return i * i

    assert list(read_ahead(work, range(20), 2)) == [i * i for i in range(20)]


def test_reading_nothing_ahead_gives_nothing():
    assert list(read_ahead(str, [], 2)) == []


@pytest.mark.parametrize(("threads", "ahead", "bound"), [(1, 1, 1), (2, 5, 5), (4, 3, 3), (3, 0, 6)])
def test_read_ahead_proceeds_to_its_bound_and_no_further(threads, ahead, bound):
    begun = []
    results = read_ahead(begun.append, range(30), threads, ahead)
    for taken, _ in enumerate(results, 1):
        wait_until(lambda taken=taken: len(begun) >= min(30, taken + bound), seconds=30)
        assert len(begun) <= taken + bound


def test_read_ahead_takes_items_only_as_it_proceeds():
    items = itertools.count()
    ready = read_ahead(int, items, 2, 4)
    assert list(itertools.islice(ready, 10)) == list(range(10))
    ready.close()
    assert next(items) <= 10 + 4 + 1


def test_an_error_reaches_the_caller_at_its_position():
    def work(i):
        if i == 3:
            raise ImageError("p.jpg", "damaged")
        return i

    ready = read_ahead(work, range(10), 2)
    assert list(itertools.islice(ready, 3)) == [0, 1, 2]
    with pytest.raises(ImageError, match="damaged"):
        next(ready)


def test_batches_cover_an_order_once():
    parts = list(batched(np.arange(10)[::-1], 4))
    assert [p.tolist() for p in parts] == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]


def test_normalising_against_hand_values():
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[0, 0, 1] = (255, 128, 0)
    out = normalise(images, RESNET)
    assert (out.shape, out.dtype) == ((1, 3, 2, 2), np.float32)
    coloured = [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225]
    np.testing.assert_allclose(out[0, :, 0, 1], coloured, rtol=1e-5)
    np.testing.assert_allclose(out[0, :, 1, 1], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5)


# --- live inputs


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return Images(write_noise(tmp_path_factory.mktemp("images"), [(60 - i, 50 + i) for i in range(9)]))


PLAIN, AUGMENT = Augmentation(flip=0, brightness=0), Augmentation(crop_scale=0.6, aspect=1.2, erase=0.3)
TWICE = TestViews()
ALL = np.arange(9)


def live(images, threads=2, trunk=None, test=TWICE, augment_of=lambda i: AUGMENT, seed=3):
    form = InputForm(SIDE, "pad", RESNET, threads)
    return LiveInputs(images, form, test, augment_of, seed, lambda: trunk)


def mean_trunk(x):
    """Stand for a frozen network: (B, 3, S, S) to (B, 2, S / 8, S / 8)."""
    tiles = x.reshape(len(x), 3, SIDE // 8, 8, SIDE // 8, 8).mean(axis=(3, 5))
    return (np.stack([tiles.mean(axis=1), tiles[:, 0] - tiles[:, 2]], axis=1).astype(np.float32),)


def gathered(batches):
    """Join the batches of an order; return their inputs and items."""
    x, index = zip(*batches, strict=True)
    return np.concatenate(x), np.concatenate(index).tolist()


def trained(inputs, epoch, order, size=4):
    return gathered(inputs.training(epoch, np.array(order), size))[0]


def viewed(inputs, order, size=4, plain=False):
    return gathered(inputs.testing(np.array(order), size, plain))[0]


def test_batches_are_of_the_items_in_their_order(images):
    order = [4, 1, 8, 0, 7, 2, 2]
    assert gathered(live(images).training(5, np.array(order), 3))[1] == order
    assert gathered(live(images).testing(np.array(order), 3))[1] == order


def test_batches_do_not_depend_on_the_number_of_threads(images):
    one, four = live(images, 1), live(images, 4)
    np.testing.assert_array_equal(trained(one, 5, ALL, 3), trained(four, 5, ALL, 3))
    np.testing.assert_array_equal(viewed(one, ALL, 3), viewed(four, ALL, 3))


def test_batches_do_not_depend_on_their_size_or_their_order(images):
    small, large = trained(live(images), 2, ALL, 2), trained(live(images), 2, ALL[::-1], 9)
    np.testing.assert_array_equal(small, large[::-1])


def test_epochs_and_seeds_differ_and_repeat(images):
    inputs = live(images)
    first = trained(inputs, 0, ALL)
    assert (first != trained(inputs, 1, ALL)).any()
    assert (first != trained(live(images, seed=4), 0, ALL)).any()
    np.testing.assert_array_equal(first, trained(inputs, 0, ALL))


def test_each_item_has_its_own_augmentation(images):
    mixed = trained(live(images, augment_of=lambda i: PLAIN if i < 4 else AUGMENT), 0, ALL)
    np.testing.assert_array_equal(mixed[:4], trained(live(images, augment_of=lambda i: PLAIN), 0, ALL[:4]))
    np.testing.assert_array_equal(mixed[4:], trained(live(images), 0, ALL[4:]))


def test_test_views_of_an_item_are_adjacent(images):
    inputs = live(images, test=TestViews((1.0, 1.5), 2, True))
    assert inputs.n_views == (1 + 4) * 2
    x = viewed(inputs, [6, 3])
    assert x.shape == (2, 10, 3, SIDE, SIDE)
    np.testing.assert_array_equal(x[:, 5:], x[:, :5, :, :, ::-1])  # the mirrors
    np.testing.assert_array_equal(viewed(live(images, test=TestViews(flip=False)), [6, 3])[:, 0], x[:, 0])


def test_the_network_sees_the_box(tmp_path):
    image = np.zeros((100, 100, 3), np.uint8)
    image[20:60, 30:70] = 255
    path = str(tmp_path / "p.jpg")
    write_jpeg(path, image, 100)
    box = Images([path], np.array([[[34, 24, 66, 56]]]), sizes=np.array([[100, 100]]))
    white = normalise(np.full((1, 1, 1, 3), 255, np.uint8), RESNET).ravel()
    np.testing.assert_allclose(viewed(live(box), [0])[0, 0].min(axis=(1, 2)), white, atol=0.1)


@pytest.mark.parametrize("turned", [False, True])
def test_a_box_at_the_far_end_of_an_elongated_image_keeps_its_place(tmp_path, turned):
    """Decoded at half its scale, 673 x 6729 px become 337 x 3365 px."""
    path, pixels, box = tmp_path / "long.jpg", np.full((673, 6729, 3), 60, np.uint8), [6056, 0, 6729, 673]
    pixels[:, 6056 : 6056 + 200] = 200
    if turned:
        pixels, box = pixels.transpose(1, 0, 2), [*box[1::-1], *box[:1:-1]]
    write_jpeg(path, np.ascontiguousarray(pixels))
    sizes = np.array([pixels.shape[1::-1]])
    image, views = Images([str(path)], np.array([[box]]), None, sizes).read(
        0, InputForm(224, "pad", RESNET, 1)
    )
    assert min(image.shape[:2]) == 337
    (view,) = views
    assert (view.x0, view.y0, view.x1, view.y1) == tuple(side / 2 for side in box)


def test_the_boxes_of_an_image_follow_one_another(images, tmp_path):
    boxes = np.array([[[0, 0, 30, 30], [10, 5, 40, 35]]] * len(images))
    sizes = np.array([(60 - i, 50 + i) for i in range(9)])
    both, first, second = (
        live(dataclasses.replace(images, boxes=part, sizes=sizes), test=TWICE)
        for part in (boxes, boxes[:, :1], boxes[:, 1:])
    )
    assert both.n_views == 4
    expected = np.concatenate([viewed(first, [3]), viewed(second, [3])], axis=1)
    np.testing.assert_array_equal(viewed(both, [3]), expected)


# --- cached inputs


def cached(images, folder, train_rows, cached_rows=ALL, views=3, test=TWICE):
    """Compute all parts, the last one first, as other processes may; also what `done` was given."""
    inputs = CachedInputs(
        live(images, trunk=mean_trunk, test=test), np.array(train_rows, int), cached_rows, views, folder
    )
    done = []
    for number in reversed(range(inputs.parts)):
        inputs.compute(number, done.append)
        assert sum(done) == sum(inputs.images_in(n) for n in range(number, inputs.parts))
    return inputs, sum(done)


def test_cached_features_equal_live_ones_within_half_precision(images, tmp_path):
    test = TestViews((1.0, 1.25), 2, True)
    direct = live(images, trunk=mean_trunk, test=test)
    inputs, done = cached(images, tmp_path, [7, 1, 4, 5], test=test)
    assert inputs.shape == direct.shape == (2, 4, 4)
    assert inputs.n_views == direct.n_views == 10
    assert done == 9 + 3 * 4
    found, index = gathered(inputs.testing(np.array([8, 0, 4]), 2))
    assert index == [8, 0, 4]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, viewed(direct, index), atol=2e-3)


def test_the_plain_view_is_the_first_one(images, tmp_path):
    for inputs in (live(images, trunk=mean_trunk), cached(images, tmp_path, [7])[0]):
        plain = viewed(inputs, [8, 0, 4], 2, plain=True)
        np.testing.assert_array_equal(plain, viewed(inputs, [8, 0, 4])[:, :1])


def test_an_item_shows_each_augmented_and_test_view_once(images, tmp_path):
    rows, views = np.array([7, 1, 4, 5]), 3
    direct, inputs = live(images, trunk=mean_trunk), cached(images, tmp_path, rows, views=views)[0]
    augmented = np.stack([trained(direct, v, rows) for v in range(views)], axis=1)
    known = np.concatenate([augmented, viewed(direct, rows)], axis=1)  # (4, 3 + 2, c, h, w)
    shown = np.stack([trained(inputs, epoch, rows[::-1], 3)[::-1] for epoch in range(views + 2)], axis=1)
    away = np.abs(shown[:, :, None] - known[:, None]).max(axis=(3, 4, 5))  # (4, epochs, views)
    assert away.min(axis=2).max() <= 2e-3
    assert np.sort(away.argmin(axis=2)).tolist() == [list(range(views + 2))] * 4
    np.testing.assert_array_equal(trained(inputs, views + 2, rows), shown[:, 0])


def assert_same_training(one, other, rows, epochs):
    for epoch in range(epochs):
        np.testing.assert_array_equal(trained(one, epoch, rows, 2), trained(other, epoch, rows, 2))


def test_images_used_once_are_not_cached_and_give_the_same_features(images, tmp_path):
    rows = np.array([1, 7])
    full, _ = cached(images, tmp_path / "all", rows, views=2)
    some, done = cached(images, tmp_path / "some", rows, np.array([1, 4, 7]), views=2)
    assert done == 3 + 2 * 2
    assert np.load(tmp_path / "some" / "test0.npy").shape == (3 * 2, 2, 4, 4)
    for plain in (False, True):
        a, b = (viewed(inputs, ALL[::-1], 4, plain) for inputs in (full, some))
        np.testing.assert_allclose(a, b, atol=2e-3)
        assert (a == b).all(axis=(1, 2, 3, 4)).nonzero()[0].tolist() == [1, 4, 7]
    assert_same_training(full, some, rows, epochs=4)


def test_features_do_not_depend_on_the_parts(images, tmp_path, monkeypatch):
    rows, stored = np.array([7, 1, 4, 5, 0]), np.arange(8)
    one, _ = cached(images, tmp_path / "one", rows, stored)
    monkeypatch.setattr("heatcrop.training.inputs._BATCH", 2)
    monkeypatch.setattr("heatcrop.training.inputs.PART", 3)
    two, _ = cached(images, tmp_path / "two", rows, stored)
    assert (one.parts, two.parts) == (1, 2)
    assert_same_training(one, two, rows[::-1], epochs=5)
    np.testing.assert_array_equal(viewed(one, ALL[::-1]), viewed(two, ALL[::-1]))


def test_without_training_rows_prediction_still_works(images, tmp_path):
    inputs, _ = cached(images, tmp_path, [])
    assert viewed(inputs, ALL).shape == (9, 2, 2, 4, 4)
    assert list(inputs.training(0, np.array([], int), 4)) == []


def test_the_trunk_opens_at_first_use(images, tmp_path):
    opened, inputs = [], live(images)
    inputs.open_trunk = lambda: opened.append(True) or mean_trunk
    cache = CachedInputs(inputs, np.arange(3), ALL, 2, tmp_path)
    assert cache.parts == 1
    assert not opened
    cache.compute(0)
    assert len(opened) == 1
