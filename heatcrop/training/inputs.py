"""What enters the trained part of a network, by item: read live, or computed once and cached.

With frozen blocks the trunk's features of every view that is used again are computed once through
ONNX Runtime and lie in a file; without, pictures are read and augmented anew each epoch. Training and
prediction see no difference.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import Field

from heatcrop.nets.inference import Runner
from heatcrop.training.augment import Augmentation
from heatcrop.training.batches import (
    InputForm,
    Pictures,
    augmented,
    batched,
    image_views,
    normalise,
    read_ahead,
)
from heatcrop.training.rowfile import RowFile, RowFiles
from heatcrop.training.views import View, test_views


@dataclasses.dataclass(frozen=True)
class TestViews:
    """Test-time augmentation.

    Attributes
    ----------
    scales : tuple of float
        The picture is scaled to this multiple of the input side, and windows of the input side are
        cut; 1 is the picture itself.
    grid : int
        Windows a row and a column at scales above 1 (3 gives nine crops).
    flip : bool
        Add the mirror of each.
    """

    __test__ = False
    scales: Annotated[tuple[Annotated[float, Field(ge=1, le=10)], ...], Field(min_length=1)] = (1.0,)
    grid: Annotated[int, Field(ge=1, le=100)] = 3
    flip: bool = True

    def unit(self) -> list[View]:
        """The views on a unit square."""
        return test_views(
            View(0, 0, 1, 1), 1000, tuple(round(1000 * s) for s in self.scales), self.grid, self.flip
        )

    def on(self, view: View) -> list[View]:
        """The views on a picture's base view."""
        return [
            View(
                view.x0 + u.x0 * view.width,
                view.y0 + u.y0 * view.height,
                view.x0 + u.x1 * view.width,
                view.y0 + u.y1 * view.height,
                u.flip,
            )
            for u in self.unit()
        ]


_TRUNK_PICTURES = 4
"""Pictures that enter the trunk at once: the activations of a few stay in a processor's caches."""

PART = 1024
"""Pictures that are worth a part of their own, which another process can take over."""
_MOST_PARTS, _BATCH = 16, 32

Work = Callable[[np.ndarray], Any]


def _as_it_is(x: np.ndarray) -> np.ndarray:
    return x


class Inputs(Protocol):
    """Input of the trained part of a network.

    A batch is made from files by one thread of several, while others make the next ones; what `work`
    does with it, such as run a network, that thread does too.
    """

    shape: tuple[int, int, int]
    n_views: int

    def training(self, epoch: int, order: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (B, c, h, w) float32 and the (B,) items it shows, augmented, in the given order."""
        ...

    def testing(
        self, index: np.ndarray, size: int, plain: bool = False, work: Work = _as_it_is
    ) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield `work` of (B, T, c, h, w) float32, all test views of the (B,) items, in the given order.

        With `plain` only the first view, which is the picture as it is: what an epoch is validated on.
        """
        ...


class LiveInputs:
    """Reads pictures each time, and passes them through the frozen trunk where there is one."""

    def __init__(
        self,
        pictures: Pictures,
        form: InputForm,
        how: Augmentation,
        test: TestViews,
        seed: int,
        trunk: Runner | None = None,
    ) -> None:
        self._form, self._trunk = form, trunk
        self._entrance = (3, form.side_px, form.side_px)
        self.shape = self._entrance
        if trunk is not None:
            self.shape = trunk(np.zeros((1, *self._entrance), np.float32))[0].shape[1:]
        self.n_views = len(test.unit())
        self._train = augmented(pictures, form, how, seed)
        self._test = image_views(pictures, form, test.on)
        self._plain = image_views(pictures, form, lambda view: test.on(view)[:1])

    def training(self, epoch: int, order: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        def make(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return self._enter(index, 1, lambda i: self._train((epoch, i))[None])[:, 0], index

        # A batch a thread and no more: whole batches of large pictures wait here, not single pictures.
        return read_ahead(make, batched(order, size), self._form.threads, self._form.threads)

    def testing(
        self, index: np.ndarray, size: int, plain: bool = False, work: Work = _as_it_is
    ) -> Iterator[tuple[Any, np.ndarray]]:
        def make(part: np.ndarray) -> tuple[Any, np.ndarray]:
            return work(self.look(part, plain)), part

        return read_ahead(make, batched(index, size), self._form.threads)

    def look(self, index: np.ndarray, plain: bool) -> np.ndarray:
        """All test views (with `plain` the first) of the (B,) items, (B, T, c, h, w) float32."""
        n_views, read = (1, self._plain) if plain else (self.n_views, self._test)
        return self._enter(index, n_views, read)

    def _enter(self, index: np.ndarray, n_views: int, read: Callable[[int], np.ndarray]) -> np.ndarray:
        """Read items into what the trained part is fed, (B, V, c, h, w) float32."""
        out = np.empty((len(index), n_views, *self.shape), np.float32)
        backbone = self._form.backbone
        if self._trunk is None:
            for i, place in zip(index.tolist(), out, strict=True):
                normalise(read(i), backbone, place)
            return out
        flat, filled = out.reshape(-1, *self.shape), 0
        waiting = np.empty((_TRUNK_PICTURES + n_views, *self._entrance), np.float32)
        ready = 0
        for i in index.tolist():
            normalise(read(i), backbone, waiting[ready : ready + n_views])
            ready += n_views
            if ready >= _TRUNK_PICTURES:
                flat[filled : filled + ready] = self._trunk(waiting[:ready])[0]
                filled, ready = filled + ready, 0
        if ready:
            flat[filled:] = self._trunk(waiting[:ready])[0]
        return out


class CachedInputs:
    """Features of the frozen trunk: from files where they are used again and again, live elsewhere.

    Parameters
    ----------
    live : LiveInputs
    train, test : RowFiles
        Augmented views of each training item, and test views of each item that is kept, one after another.
    stored : int
        Augmented views an item.
    train_place, test_place : ndarray of int, shape (N,)
        Where an item lies in the files; -1 for one that does not.
    threads : int
    """

    def __init__(
        self,
        live: LiveInputs,
        train: RowFiles,
        test: RowFiles,
        stored: int,
        train_place: np.ndarray,
        test_place: np.ndarray,
        threads: int,
    ) -> None:
        self.shape, self.n_views = live.shape, live.n_views
        self._live, self._train, self._test, self._stored = live, train, test, stored
        self._train_place, self._test_place, self._threads = train_place, test_place, threads

    def training(self, epoch: int, order: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # Each item walks through its augmented and its test views in turn, from a start of its own, so
        # that an epoch mixes them and all are used evenly.
        def make(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            place = self._train_place[index]
            view = (place * 7919 + epoch) % (self._stored + self.n_views)
            x = np.empty((len(index), *self.shape), np.float32)
            mine = view < self._stored
            x[mine] = self._train.read(place[mine] * self._stored + view[mine])
            tested = self._test_place[index[~mine]] * self.n_views + view[~mine] - self._stored
            x[~mine] = self._test.read(tested)
            return x, index

        return read_ahead(make, batched(order, size), self._threads)

    def testing(
        self, index: np.ndarray, size: int, plain: bool = False, work: Work = _as_it_is
    ) -> Iterator[tuple[Any, np.ndarray]]:
        n_views = 1 if plain else self.n_views

        def make(part: np.ndarray) -> tuple[Any, np.ndarray]:
            x = np.empty((len(part), n_views, *self.shape), np.float32)
            kept = self._test_place[part] >= 0
            rows = self._test_place[part[kept]][:, None] * self.n_views + np.arange(n_views)
            x[kept] = self._test.read(rows.ravel()).reshape(-1, *x.shape[1:])
            if not kept.all():
                x[~kept] = self._live.look(part[~kept], plain)
            return work(x), part

        return read_ahead(make, batched(index, size), self._threads)


class FeatureCache:
    """The trunk's features of pictures that are used more than once, in files, a pair of them a part.

    Parts can be computed in any order and by different processes, also on machines that share the folder:
    each writes files of its own. Where they are cut does not show in the features.

    Parameters
    ----------
    pictures : Pictures
        N of them.
    train_rows : ndarray of int
        Which of them are trained on, and so get augmented views.
    views : int
        Augmented views a training picture.
    folder : Path
        For the files, see :class:`heatcrop.training.rowfile.RowFile`.
    again : ndarray of int, optional
        Which pictures are looked at more than once, the training ones among them; all by default.
        The features of others are computed when they are asked for, and take no room on the disk.
    part : int, optional
        About how many pictures a part has at least.
    """

    def __init__(
        self,
        pictures: Pictures,
        train_rows: np.ndarray,
        form: InputForm,
        how: Augmentation,
        test: TestViews,
        views: int,
        folder: Path,
        seed: int,
        again: np.ndarray | None = None,
        part: int | None = None,
    ) -> None:
        self._live = (pictures, form, how, test, seed)
        self._train_rows, self._views, self._folder, self._threads = train_rows, views, folder, form.threads
        self._again = np.arange(len(pictures)) if again is None else again
        self._n_views = len(test.unit())
        self._batch = max(1, _BATCH // self._n_views)
        most = max(len(train_rows), len(self._again))
        # A part ends where a batch does, so that the same pictures enter the trunk together.
        self._each = part_size(most, math.lcm(_BATCH, self._batch), part)
        self.parts = max(1, -(-most // self._each))

    def pictures_in(self, part: int) -> int:
        """How many views of pictures, all test views counted once, a part stands for."""
        return len(self._cut(self._again, part)) + self._views * len(self._cut(self._train_rows, part))

    def compute(self, part: int, trunk: Runner, done: Callable[[int], None] = lambda _: None) -> None:
        """Compute one part; `done` is told how many of :meth:`pictures_in` are done since."""
        self._folder.mkdir(parents=True, exist_ok=True)
        live = LiveInputs(*self._live, trunk)
        again, train_rows = self._cut(self._again, part), self._cut(self._train_rows, part)
        tested, trained = self._files(part, live.shape, True)
        place = np.zeros(len(self._live[0]), np.int64)
        place[again] = np.arange(len(again))
        for x, index in live.testing(again, self._batch):
            rows = place[index][:, None] * self._n_views + np.arange(self._n_views)
            tested.write(rows.ravel(), x.reshape(-1, *live.shape))
            done(len(index))
        place[train_rows] = np.arange(len(train_rows))
        for view in range(self._views):
            for x, index in live.training(view, train_rows, _BATCH):
                trained.write(place[index] * self._views + view, x)
                done(len(index))

    def open(self, trunk: Runner) -> CachedInputs:
        """Open what has been computed."""
        live = LiveInputs(*self._live, trunk)
        train_place, test_place = (np.full(len(self._live[0]), -1, np.int64) for _ in range(2))
        train_place[self._train_rows] = np.arange(len(self._train_rows))
        test_place[self._again] = np.arange(len(self._again))
        files = [self._files(part, live.shape, False) for part in range(self.parts)]
        tested = RowFiles([test for test, _ in files], self._each * self._n_views)
        trained = RowFiles([train for _, train in files], self._each * self._views)
        return CachedInputs(live, trained, tested, self._views, train_place, test_place, self._threads)

    def _cut(self, rows: np.ndarray, part: int) -> np.ndarray:
        return rows[part * self._each : (part + 1) * self._each]

    def _files(self, part: int, shape: tuple[int, ...], new: bool) -> tuple[RowFile, RowFile]:
        counts = (
            len(self._cut(self._again, part)) * self._n_views,
            len(self._cut(self._train_rows, part)) * self._views,
        )
        test, train = (
            RowFile(self._folder / f"{name}{part or ''}.f16", count, shape, new=new)
            for name, count in zip(("test", "train"), counts, strict=True)
        )
        return test, train


def cache_features(
    pictures: Pictures,
    train_rows: np.ndarray,
    form: InputForm,
    how: Augmentation,
    test: TestViews,
    views: int,
    trunk: Runner,
    folder: Path,
    seed: int,
    done: Callable[[int], None] = lambda _: None,
    again: np.ndarray | None = None,
) -> CachedInputs:
    """Compute all parts of a :class:`FeatureCache` and open it."""
    cache = FeatureCache(pictures, train_rows, form, how, test, views, folder, seed, again)
    for part in range(cache.parts):
        cache.compute(part, trunk, done)
    return cache.open(trunk)


def part_size(rows: int, multiple: int, least: int | None = None) -> int:
    """How many of some rows make a part: about `least` (by default PART), more where there would be over 16.

    >>> part_size(100, 32), part_size(10_000, 3), part_size(1_000_000, 32)
    (1024, 1026, 62528)
    """
    size = max(least or PART, -(-rows // _MOST_PARTS))
    return -(-size // multiple) * multiple
