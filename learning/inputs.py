"""What enters the trained part of a network, by item: read live, or computed once and cached.

With frozen blocks the trunk's features of every view are computed once through ONNX Runtime and
lie in a memory-mapped file; without, pictures are read and augmented anew each epoch. Training
and prediction see no difference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from attributes.files import reserve
from learning.augment import Augmentation
from learning.batches import InputForm, Pictures, augmented, batched, normalise, picture_views, read_ahead
from learning.inference import Runner
from learning.views import View, test_views


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
    scales: tuple[float, ...] = (1.0,)
    grid: int = 3
    flip: bool = True

    def unit(self) -> list[View]:
        """The views on a unit square."""
        return test_views(
            View(0, 0, 1, 1), 1000, tuple(round(1000 * s) for s in self.scales), self.grid, self.flip
        )

    def on(self, view: View) -> list[View]:
        """The views on a picture's base view."""
        return [
            View(view.x0 + u.x0 * view.width, view.y0 + u.y0 * view.height,
                 view.x0 + u.x1 * view.width, view.y0 + u.y1 * view.height, u.flip)
            for u in self.unit()
        ]  # fmt: skip


_TRUNK_PICTURES = 4
"""Pictures that enter the trunk at once: the activations of a few stay in a processor's caches."""

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
        self._test = picture_views(pictures, form, test.on)
        self._plain = picture_views(pictures, form, lambda view: test.on(view)[:1])

    def training(self, epoch: int, order: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        def make(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return self._enter(index, 1, lambda i: self._train((epoch, i))[None])[:, 0], index

        return read_ahead(make, batched(order, size), self._form.threads)

    def testing(
        self, index: np.ndarray, size: int, plain: bool = False, work: Work = _as_it_is
    ) -> Iterator[tuple[Any, np.ndarray]]:
        n_views, read = (1, self._plain) if plain else (self.n_views, self._test)

        def make(part: np.ndarray) -> tuple[Any, np.ndarray]:
            return work(self._enter(part, n_views, read)), part

        return read_ahead(make, batched(index, size), self._form.threads)

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
    """Features of the frozen trunk, from memory-mapped files."""

    def __init__(self, train: np.ndarray, place: np.ndarray, test: np.ndarray, threads: int = 1) -> None:
        self.shape: tuple[int, int, int] = test.shape[2:]  # type: ignore[assignment]
        self.n_views = test.shape[1]
        self._train, self._place, self._test, self._threads = train, place, test, threads

    def training(self, epoch: int, order: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # Each item walks through its augmented and its test views in turn, from a start of its own, so
        # that an epoch mixes them and all are used evenly.
        stored = self._train.shape[1]
        for index in batched(order, size):
            place = self._place[index]
            view = (place * 7919 + epoch) % (stored + self.n_views)
            x = self._test[index, np.maximum(view - stored, 0)].astype(np.float32)
            mine = view < stored
            x[mine] = self._train[place[mine], view[mine]]
            yield x, index

    def testing(
        self, index: np.ndarray, size: int, plain: bool = False, work: Work = _as_it_is
    ) -> Iterator[tuple[Any, np.ndarray]]:
        def make(part: np.ndarray) -> tuple[Any, np.ndarray]:
            return work(self._test[part, : 1 if plain else None].astype(np.float32)), part

        return read_ahead(make, batched(index, size), self._threads)


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
) -> CachedInputs:
    """Compute the trunk's features of all pictures and keep them in two files.

    Parameters
    ----------
    pictures : Pictures
        N of them.
    train_rows : ndarray of int
        Which of them are trained on, and so get augmented views.
    views : int
        Augmented views a training picture.
    trunk : Runner
        (B, 3, S, S) to (B, c, h, w).
    folder : Path
        For ``train.npy`` (len(train_rows), views, c, h, w) and ``test.npy`` (N, T, c, h, w), float16.
    done : callable
        Told how many pictures are done since.
    """
    folder.mkdir(parents=True, exist_ok=True)
    live = LiveInputs(pictures, form, how, test, seed, trunk)
    n, kept = len(pictures), len(train_rows)
    test_file = _array_file(folder / "test.npy", (n, live.n_views, *live.shape))
    train_file = _array_file(folder / "train.npy", (kept, views, *live.shape))
    for x, index in live.testing(np.arange(n), max(1, 32 // live.n_views)):
        test_file[index] = x
        done(len(index))
    place = np.full(n, -1, np.int64)
    place[train_rows] = np.arange(kept)
    for view in range(views):
        for x, index in live.training(view, train_rows, 32):
            train_file[place[index], view] = x
            done(len(index))
    return CachedInputs(train_file, place, test_file, form.threads)


def _array_file(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A new float16 array on disk."""
    try:
        array = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        reserve(path, path.stat().st_size)
    except OSError as error:
        error.filename = str(path)
        raise
    return array
