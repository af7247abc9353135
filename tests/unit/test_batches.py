"""From files to batches: reading ahead, normalising, and inputs that are live or cached."""

import threading
import time

import numpy as np
import pytest

from heatcrop.data.images import ImageError, write_jpeg
from heatcrop.files import create_rows, write_rows
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.training.augment import Augmentation
from heatcrop.training.batches import Images, batched, normalise, read_ahead
from heatcrop.training.inputs import CachedInputs, LiveInputs
from heatcrop.training.views import TestViews

RESNET = backbone("resnet18_v2")
SIDE = 32


@pytest.mark.parametrize("threads", [1, 4])
def test_read_ahead_keeps_the_order(threads):
    def slow_at_first(i):
        time.sleep(0.002 * (20 - i))
        return i * i

    assert list(read_ahead(slow_at_first, range(20), threads)) == [i * i for i in range(20)]


def test_reading_nothing_ahead_gives_nothing():
    assert list(read_ahead(str, [], 2)) == []


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (2, 5), (4, 3), (3, 0)])
def test_read_ahead_has_no_more_than_its_bound_waiting(threads, ahead):
    bound = ahead or 2 * threads
    begun, lock, most = 0, threading.Lock(), 0

    def work(i):
        nonlocal begun
        with lock:
            begun += 1
        return i

    for taken, _ in enumerate(read_ahead(work, range(60), threads, ahead), 1):
        time.sleep(0.001)  # the reader is faster than the consumer
        with lock:
            most = max(most, begun - taken)
    assert begun == 60
    assert 0 < most <= bound


def test_read_ahead_takes_items_only_as_it_proceeds():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            yield taken
            taken += 1

    ready = read_ahead(lambda i: i, endless(), 2, 4)
    assert [next(ready) for _ in range(10)] == list(range(10))
    ready.close()
    assert taken <= 10 + 4 + 1


def test_an_error_reaches_the_caller_at_its_position():
    def work(i):
        if i == 3:
            raise ImageError("p.jpg", "damaged")
        return i

    ready = read_ahead(work, range(10), 2)
    assert [next(ready) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ImageError, match="damaged"):
        next(ready)


def test_batches_cover_an_order_once():
    parts = list(batched(np.arange(10)[::-1], 4))
    assert [p.tolist() for p in parts] == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]


def test_normalising_against_hand_values():
    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[0, 0, 1] = (255, 128, 0)
    out = normalise(images, RESNET)
    assert out.shape == (1, 3, 2, 2)
    assert out.dtype == np.float32
    np.testing.assert_allclose(
        out[0, :, 0, 1], [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225], rtol=1e-5
    )
    np.testing.assert_allclose(out[0, :, 1, 1], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5)


# --- live inputs


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [str(folder / f"{i}.jpg") for i in range(9)]
    for i, path in enumerate(paths):
        write_jpeg(path, rng.integers(0, 256, (50 + i, 60 - i, 3), np.uint8))
    return Images(paths)


AUGMENT = Augmentation(crop_scale=0.6, aspect=1.2, erase=0.3)


def live(images, threads=2, trunk=None, test=TestViews(), augment_of=lambda i: AUGMENT):  # noqa: B008
    form = InputForm(SIDE, "pad", RESNET, threads)
    return LiveInputs(images, form, test, augment_of, 3, lambda: trunk)


def mean_trunk(x):
    """Stand for a frozen network: (B, 3, S, S) to (B, 2, S / 8, S / 8)."""
    tiles = x.reshape(len(x), 3, SIDE // 8, 8, SIDE // 8, 8).mean(axis=(3, 5))
    return (np.stack([tiles.mean(axis=1), tiles[:, 0] - tiles[:, 2]], axis=1).astype(np.float32),)


def gathered(batches):
    x, index = zip(*batches, strict=True)
    return np.concatenate(x), np.concatenate(index)


def test_batches_do_not_depend_on_the_number_of_threads(images):
    order = np.array([4, 1, 8, 0, 7, 2, 2])
    one, four = (gathered(live(images, threads).training(5, order, 3)) for threads in (1, 4))
    np.testing.assert_array_equal(one[0], four[0])
    assert one[1].tolist() == four[1].tolist() == order.tolist()
    one, four = (gathered(live(images, threads).testing(order, 3)) for threads in (1, 4))
    np.testing.assert_array_equal(one[0], four[0])


def test_batches_do_not_depend_on_their_size_or_their_order(images):
    small, _ = gathered(live(images).training(2, np.arange(9), 2))
    large, _ = gathered(live(images).training(2, np.arange(9)[::-1], 9))
    np.testing.assert_array_equal(small, large[::-1])


def test_epochs_differ_and_repeat(images):
    inputs = live(images)
    first, second, again = (gathered(inputs.training(e, np.arange(9), 4))[0] for e in (0, 1, 0))
    assert (first != second).any()
    np.testing.assert_array_equal(first, again)


def test_each_item_has_its_own_augmentation(images):
    plain = Augmentation(flip=0, brightness=0)
    mixed = live(images, augment_of=lambda i: plain if i < 4 else AUGMENT)
    x, _ = gathered(mixed.training(0, np.arange(9), 4))
    for i, inputs in ((0, live(images, augment_of=lambda i: plain)), (4, live(images))):
        np.testing.assert_array_equal(x[i], gathered(inputs.training(0, np.array([i]), 1))[0][0])


def test_test_views_of_an_item_are_adjacent(images):
    inputs = live(images, test=TestViews((1.0, 1.5), 2, True))
    assert inputs.n_views == (1 + 4) * 2
    x, index = gathered(inputs.testing(np.array([6, 3]), 5))
    assert x.shape == (2, 10, 3, SIDE, SIDE)
    assert index.tolist() == [6, 3]
    np.testing.assert_array_equal(x[:, 5:], x[:, :5, :, :, ::-1])  # the mirrors
    single, _ = gathered(live(images, test=TestViews((1.0,), 2, False)).testing(np.array([6, 3]), 5))
    np.testing.assert_array_equal(single[:, 0], x[:, 0])


def test_the_network_sees_the_box(tmp_path):
    image = np.zeros((100, 100, 3), np.uint8)
    image[20:60, 30:70] = 255
    path = str(tmp_path / "p.jpg")
    write_jpeg(path, image, 100)
    inputs = live(
        Images([path], np.array([[34, 24, 66, 56]]), sizes=np.array([[100, 100]])), test=TestViews(flip=False)
    )
    x, _ = gathered(inputs.testing(np.array([0]), 1))
    white = normalise(np.full((1, 1, 1, 3), 255, np.uint8), RESNET).ravel()
    np.testing.assert_allclose(x[0, 0].min(axis=(1, 2)), white, atol=0.1)


# --- cached inputs


def cached(images, folder, train_rows, cached_rows=None, views=3, **options):
    """Compute all parts, the last one first, as other processes may; also what `done` was given."""
    rows = np.arange(len(images)) if cached_rows is None else cached_rows
    inputs = CachedInputs(live(images, trunk=mean_trunk, **options), train_rows, rows, views, folder)
    done = []
    for number in reversed(range(inputs.parts)):
        inputs.compute(number, done.append)
        assert sum(done) == sum(inputs.images_in(n) for n in range(number, inputs.parts))
    return inputs, sum(done)


def test_cached_features_equal_live_ones_within_half_precision(images, tmp_path):
    test = TestViews((1.0, 1.25), 2, True)
    direct = live(images, trunk=mean_trunk, test=test)
    inputs, done = cached(images, tmp_path, np.array([7, 1, 4, 5]), test=test)
    assert inputs.shape == direct.shape == (2, 4, 4)
    assert inputs.n_views == direct.n_views == 10
    assert done == 9 + 3 * 4
    index = np.array([8, 0, 4])
    (a, i), (b, j) = gathered(inputs.testing(index, 2)), gathered(direct.testing(index, 2))
    np.testing.assert_allclose(a, b, atol=2e-3)
    assert a.dtype == np.float32
    assert i.tolist() == j.tolist() == index.tolist()


def test_the_plain_view_is_the_first_one(images, tmp_path):
    index = np.array([8, 0, 4])
    for inputs in (live(images, trunk=mean_trunk), cached(images, tmp_path, np.array([7]))[0]):
        x, k = gathered(inputs.testing(index, 2, plain=True))
        np.testing.assert_array_equal(x, gathered(inputs.testing(index, 2))[0][:, :1])
        assert k.tolist() == index.tolist()


def test_an_item_shows_each_augmented_and_test_view_once(images, tmp_path):
    rows, views = np.array([7, 1, 4, 5]), 3
    direct, inputs = live(images, trunk=mean_trunk), cached(images, tmp_path, rows, views=views)[0]
    augmented = np.stack([gathered(direct.training(v, rows, 4))[0] for v in range(views)], axis=1)
    known = np.concatenate([augmented, gathered(direct.testing(rows, 4))[0]], axis=1)  # (4, 3 + 2, c, h, w)
    shown = [gathered(inputs.training(epoch, rows[::-1], 3))[0][::-1] for epoch in range(views + 2)]
    for item in range(len(rows)):
        nearest = [int(np.abs(known[item] - s[item]).max(axis=(1, 2, 3)).argmin()) for s in shown]
        assert sorted(nearest) == list(range(views + 2))
        for s, v in zip(shown, nearest, strict=True):
            np.testing.assert_allclose(s[item], known[item, v], atol=2e-3)
    again, _ = gathered(inputs.training(views + 2, rows, 4))
    np.testing.assert_array_equal(again, shown[0])


def test_images_used_once_are_not_cached_and_give_the_same_features(images, tmp_path):
    rows = np.array([1, 7])
    full, _ = cached(images, tmp_path / "all", rows, views=2)
    some, done = cached(images, tmp_path / "some", rows, np.array([1, 4, 7]), views=2)
    assert done == 3 + 2 * 2
    assert np.load(tmp_path / "some" / "test0.npy").shape == (3 * 2, 2, 4, 4)
    for plain in (False, True):
        a, b = (gathered(inputs.testing(np.arange(9)[::-1], 4, plain))[0] for inputs in (full, some))
        np.testing.assert_allclose(a, b, atol=2e-3)
        assert (a == b).all(axis=(1, 2, 3, 4)).nonzero()[0].tolist() == [1, 4, 7]
    for epoch in range(4):
        a, b = (gathered(inputs.training(epoch, rows, 2))[0] for inputs in (full, some))
        np.testing.assert_array_equal(a, b)


def test_features_do_not_depend_on_the_parts(images, tmp_path, monkeypatch):
    rows, stored = np.array([7, 1, 4, 5, 0]), np.arange(8)
    one, _ = cached(images, tmp_path / "one", rows, stored)
    monkeypatch.setattr("heatcrop.training.inputs._BATCH", 2)
    monkeypatch.setattr("heatcrop.training.inputs.PART", 3)
    two, _ = cached(images, tmp_path / "two", rows, stored)
    assert (one.parts, two.parts) == (1, 2)
    for epoch in range(5):
        a, b = (gathered(inputs.training(epoch, rows[::-1], 2))[0] for inputs in (one, two))
        np.testing.assert_array_equal(a, b)
    a, b = (gathered(inputs.testing(np.arange(9)[::-1], 4))[0] for inputs in (one, two))
    np.testing.assert_array_equal(a, b)


def test_without_training_rows_prediction_still_works(images, tmp_path):
    none = np.array([], np.int64)
    inputs, _ = cached(images, tmp_path, none)
    assert gathered(inputs.testing(np.arange(9), 4))[0].shape == (9, 2, 2, 4, 4)
    assert list(inputs.training(0, none, 4)) == []


def test_the_trunk_opens_at_first_use(images, tmp_path):
    opened = []
    inputs = live(images)
    inputs.open_trunk = lambda: opened.append(True) or mean_trunk
    cache = CachedInputs(inputs, np.arange(3), np.arange(9), 2, tmp_path)
    assert cache.parts == 1
    assert not opened
    cache.compute(0)
    assert len(opened) == 1


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rows_of_a_file_are_read_as_written(tmp_path, dtype):
    path, values = tmp_path / "rows.npy", np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 8
    create_rows(path, (5, 2, 3), dtype)
    write_rows(path, np.array([3, 0]), values)
    rows = np.load(path, mmap_mode="r")
    assert rows.dtype == dtype
    np.testing.assert_array_equal(rows[[0, 3, 1]], [values[1], values[0], np.zeros((2, 3))])


def test_a_file_without_rows_can_be_read(tmp_path):
    create_rows(tmp_path / "none.npy", (0, 2, 3), "float16")
    assert np.load(tmp_path / "none.npy", mmap_mode="r").shape == (0, 2, 3)
