import threading
import time

import numpy as np
import pytest

from heatcrop.data.images import ImageError, write_jpeg
from heatcrop.nets.backbones import backbone
from heatcrop.training.augment import Augmentation
from heatcrop.training.batches import InputForm, Pictures, batched, normalise, read_ahead
from heatcrop.training.inputs import FeatureCache, LiveInputs, TestViews, cache_features
from heatcrop.training.rowfile import RowFile

RESNET = backbone("resnet18_v2")
SIDE = 32


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_read_ahead_keeps_the_order(threads):
    def slow_at_first(i):
        time.sleep(0.002 * (20 - i))
        return i * i

    assert list(read_ahead(slow_at_first, range(20), threads)) == [i * i for i in range(20)]
    assert list(read_ahead(slow_at_first, [], threads)) == []


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (2, 5), (4, 3), (3, 0)])
def test_read_ahead_never_has_more_than_its_bound_waiting(threads, ahead):
    bound = ahead or 2 * threads
    begun, lock, most = 0, threading.Lock(), 0

    def work(i):
        nonlocal begun
        with lock:
            begun += 1
        return i

    for taken, _ in enumerate(read_ahead(work, range(60), threads, ahead), 1):
        time.sleep(0.001)  # the reader is faster than whoever takes
        with lock:
            most = max(most, begun - taken)
    assert begun == 60
    assert 0 < most <= bound


def test_read_ahead_asks_for_items_only_as_it_goes():
    """An endless source is fine, and leaving early stops the work."""
    asked = 0

    def endless():
        nonlocal asked
        while True:
            yield asked
            asked += 1

    ready = read_ahead(lambda i: i, endless(), 2, 4)
    assert [next(ready) for _ in range(10)] == list(range(10))
    ready.close()
    assert asked <= 10 + 4 + 1


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_reaches_the_caller_at_its_place(threads):
    def work(i):
        if i == 3:
            raise ImageError("p.jpg", "damaged")
        return i

    ready = read_ahead(work, range(10), threads)
    assert [next(ready) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ImageError, match="damaged"):
        next(ready)


def test_batches_cover_an_order_once():
    parts = list(batched(np.arange(10)[::-1], 4))
    assert [p.tolist() for p in parts] == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]
    assert list(batched(np.array([], int), 4)) == []


def test_normalising_against_hand_values():
    pictures = np.zeros((1, 2, 2, 3), np.uint8)
    pictures[0, 0, 1] = (255, 128, 0)
    out = normalise(pictures, RESNET)
    assert out.shape == (1, 3, 2, 2) and out.dtype == np.float32 and out.flags.c_contiguous
    np.testing.assert_allclose(
        out[0, :, 0, 1], [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225], rtol=1e-5
    )
    np.testing.assert_allclose(out[0, :, 1, 1], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5)


def test_taking_rows_takes_their_boxes():
    pictures = Pictures(["a", "b", "c"], np.arange(12).reshape(3, 4))
    some = pictures.take(np.array([2, 0]))
    assert list(some.paths) == ["c", "a"] and some.boxes.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert len(some) == 2 and Pictures(["a"]).take(np.array([0])).boxes is None


# --- inputs


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [str(folder / f"{i}.jpg") for i in range(9)]
    for i, path in enumerate(paths):
        write_jpeg(path, rng.integers(0, 256, (50 + i, 60 - i, 3), np.uint8))
    return Pictures(paths)


HOW = Augmentation(crop_scale=0.6, aspect=1.2, erase=0.3)


def live(pictures, threads=2, trunk=None, test=TestViews(), seed=3):  # noqa: B008
    return LiveInputs(pictures, InputForm(SIDE, "pad", RESNET, threads), HOW, test, seed, trunk)


def mean_trunk(x):
    """Stands for a frozen network: (B, 3, S, S) to (B, 2, S / 8, S / 8)."""
    tiles = x.reshape(len(x), 3, SIDE // 8, 8, SIDE // 8, 8).mean(axis=(3, 5))
    return (np.stack([tiles.mean(axis=1), tiles[:, 0] - tiles[:, 2]], axis=1).astype(np.float32),)


def gathered(batches):
    x, index = zip(*batches, strict=True)
    return np.concatenate(x), np.concatenate(index)


def test_batches_do_not_depend_on_the_number_of_threads(pictures):
    order = np.array([4, 1, 8, 0, 7, 2, 2])
    one, four = (gathered(live(pictures, threads).training(5, order, 3)) for threads in (1, 4))
    np.testing.assert_array_equal(one[0], four[0])
    assert one[1].tolist() == four[1].tolist() == order.tolist()
    one, four = (gathered(live(pictures, threads).testing(order, 3)) for threads in (1, 4))
    np.testing.assert_array_equal(one[0], four[0])


def test_batches_do_not_depend_on_their_size_or_their_order(pictures):
    small, _ = gathered(live(pictures).training(2, np.arange(9), 2))
    large, _ = gathered(live(pictures).training(2, np.arange(9)[::-1], 9))
    np.testing.assert_array_equal(small, large[::-1])


def test_epochs_differ_and_come_again(pictures):
    inputs = live(pictures)
    first, second, again = (gathered(inputs.training(e, np.arange(9), 4))[0] for e in (0, 1, 0))
    assert (first != second).any()
    np.testing.assert_array_equal(first, again)


def test_test_views_of_an_item_lie_together(pictures):
    inputs = live(pictures, test=TestViews((1.0, 1.5), 2, True))
    assert inputs.n_views == (1 + 4) * 2 and inputs.shape == (3, SIDE, SIDE)
    x, index = gathered(inputs.testing(np.array([6, 3]), 5))
    assert x.shape == (2, 10, 3, SIDE, SIDE) and index.tolist() == [6, 3]
    np.testing.assert_array_equal(x[:, 5:], x[:, :5, :, :, ::-1])  # the mirrors
    alone, _ = gathered(live(pictures, test=TestViews((1.0,), 2, False)).testing(np.array([6, 3]), 5))
    np.testing.assert_array_equal(alone[:, 0], x[:, 0])


def test_a_box_is_what_the_network_sees(tmp_path):
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[20:60, 30:70] = 255
    path = str(tmp_path / "p.jpg")
    write_jpeg(path, picture, 100)
    inputs = live(Pictures([path], np.array([[34, 24, 66, 56]])), test=TestViews(flip=False))
    x, _ = gathered(inputs.testing(np.array([0]), 1))
    white = normalise(np.full((1, 1, 1, 3), 255, np.uint8), RESNET).ravel()
    np.testing.assert_allclose(x[0, 0].min(axis=(1, 2)), white, atol=0.1)


def test_cached_features_equal_live_ones_within_half_precision(pictures, tmp_path):
    train_rows, views, done = np.array([7, 1, 4, 5]), 3, []
    test = TestViews((1.0, 1.25), 2, True)
    direct = live(pictures, trunk=mean_trunk, test=test)
    form = InputForm(SIDE, "pad", RESNET, 2)
    cached = cache_features(
        pictures, train_rows, form, HOW, test, views, mean_trunk, tmp_path / "c", 3, done.append
    )
    assert cached.shape == direct.shape == (2, 4, 4) and cached.n_views == direct.n_views == 10
    assert sum(done) == len(pictures) + views * len(train_rows)

    index = np.array([8, 0, 4])
    (a, i), (b, j) = gathered(cached.testing(index, 2)), gathered(direct.testing(index, 2))
    np.testing.assert_allclose(a, b, atol=2e-3)
    assert a.dtype == b.dtype == np.float32 and i.tolist() == j.tolist() == index.tolist()
    for inputs, all_views in ((cached, a), (direct, b)):
        first, k = gathered(inputs.testing(index, 2, plain=True))
        np.testing.assert_array_equal(first, all_views[:, :1])
        assert k.tolist() == index.tolist()

    # An item can be shown any of its augmented views, and its test views.
    augmented = np.stack([gathered(direct.training(v, train_rows, 4))[0] for v in range(views)], axis=1)
    plain, _ = gathered(direct.testing(train_rows, 4))
    known = np.concatenate([augmented, plain], axis=1)  # (4, 3 + 10, c, h, w)
    shown = []
    for epoch in range(views + 10):
        x, index = gathered(cached.training(epoch, train_rows[::-1], 3))
        assert index.tolist() == train_rows[::-1].tolist() and x.dtype == np.float32
        shown.append(x[::-1])
    # In as many epochs as there are views, every item shows each of its views once.
    for item in range(len(train_rows)):
        nearest = [int(np.abs(known[item] - s[item]).max(axis=(1, 2, 3)).argmin()) for s in shown]
        assert sorted(nearest) == list(range(views + 10))
        for s, v in zip(shown, nearest, strict=True):
            np.testing.assert_allclose(s[item], known[item, v], atol=2e-3)
    again, _ = gathered(cached.training(views + 10, train_rows, 4))
    np.testing.assert_array_equal(again, gathered(cached.training(0, train_rows, 4))[0])


def test_what_is_looked_at_once_is_not_kept_and_looks_the_same(pictures, tmp_path):
    form, train_rows, done = InputForm(SIDE, "pad", RESNET, 2), np.array([1, 7]), []
    whole = cache_features(pictures, train_rows, form, HOW, TestViews(), 2, mean_trunk, tmp_path / "all", 3)
    some = cache_features(
        pictures,
        train_rows,
        form,
        HOW,
        TestViews(),
        2,
        mean_trunk,
        tmp_path / "some",
        3,
        done.append,
        np.array([1, 4, 7]),
    )
    assert sum(done) == 3 + 2 * 2
    sizes = [(tmp_path / name / "test.f16").stat().st_size for name in ("all", "some")]
    assert sizes[0] == 3 * sizes[1] == 9 * 2 * 2 * 4 * 4 * 2
    for plain in (False, True):
        a, b = (gathered(inputs.testing(np.arange(9)[::-1], 4, plain))[0] for inputs in (whole, some))
        np.testing.assert_allclose(a, b, atol=2e-3)
        assert (a == b).all(axis=(1, 2, 3, 4)).nonzero()[0].tolist() == [1, 4, 7]
    for epoch in range(4):
        a, b = (gathered(inputs.training(epoch, train_rows, 2))[0] for inputs in (whole, some))
        np.testing.assert_array_equal(a, b)


def test_features_computed_in_parts_are_the_same(pictures, tmp_path, monkeypatch):
    form, train_rows, again = InputForm(SIDE, "pad", RESNET, 2), np.array([7, 1, 4, 5, 0]), np.arange(8)
    what = (pictures, train_rows, form, HOW, TestViews(), 3)
    whole = cache_features(*what, mean_trunk, tmp_path / "whole", 3, again=again)
    monkeypatch.setattr("heatcrop.training.inputs._BATCH", 2)
    cache, done = FeatureCache(*what, tmp_path / "parts", 3, again, part=3), []
    assert cache.parts == 2
    for part in (1, 0):  # in any order, as other processes would
        cache.compute(part, mean_trunk, done.append)
        assert sum(done) == (cache.pictures_in(1) if part else 8 + 3 * 5)
    parted = cache.open(mean_trunk)
    order = np.array([5, 7, 0, 1, 4])
    for epoch in range(5):
        a, b = (gathered(inputs.training(epoch, order, 2))[0] for inputs in (whole, parted))
        np.testing.assert_array_equal(a, b)
    a, b = (gathered(inputs.testing(np.arange(9)[::-1], 4))[0] for inputs in (whole, parted))
    np.testing.assert_array_equal(a, b)


def test_rows_of_a_file_are_read_as_they_were_written(tmp_path):
    exact = RowFile(tmp_path / "exact", 5, (2, 3), np.float32)
    some = np.random.default_rng(0).normal(size=(2, 2, 3)).astype(np.float32)
    exact.write(np.array([4, 1]), some)
    exact.save(tmp_path / "exact.npy")
    saved = np.load(tmp_path / "exact.npy", mmap_mode="r")
    assert saved.dtype == np.float32 and saved.shape == (5, 2, 3)
    assert (saved[[4, 1]] == some).all() and (saved[[0, 2, 3]] == 0).all()
    assert (exact.read(np.array([1])) == some[1]).all()
    rows = RowFile(tmp_path / "rows", 5, (2, 3))
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 8
    rows.write(np.array([3, 0]), values)
    np.testing.assert_array_equal(rows.read(np.array([0, 3, 1])), [values[1], values[0], np.zeros((2, 3))])
    assert (tmp_path / "rows").stat().st_size == 5 * 2 * 3 * 2
    assert rows.read(np.array([], int)).shape == (0, 2, 3)


def test_nothing_to_train_on_can_still_be_looked_at(pictures, tmp_path):
    form = InputForm(SIDE, "pad", RESNET, 1)
    none = np.array([], np.int64)
    cached = cache_features(pictures, none, form, HOW, TestViews(), 2, mean_trunk, tmp_path, 0)
    x, _ = gathered(cached.testing(np.arange(9), 4))
    assert x.shape == (9, 2, 2, 4, 4)
    assert list(cached.training(0, none, 4)) == []
