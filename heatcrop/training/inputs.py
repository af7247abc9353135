"""The input of a network's trained part: images read live, or features of the frozen trunk from a cache.

Every random number comes from a generator of (seed, epoch, item), so batches depend neither on the number
of reading threads nor on where a run was interrupted.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.files import create_rows, map_array, write_rows
from heatcrop.nets.backbones import InputForm
from heatcrop.nets.inference import Runner
from heatcrop.training.augment import Augmentation, random_colour, random_erase, random_view
from heatcrop.training.batches import Images, batched, normalise, read_ahead
from heatcrop.training.views import TestViews, sample

PART = 1024
"""Images that justify a part that another process can compute."""
_MOST_PARTS, _BATCH = 16, 32
INFERENCE_BATCH = 32

Batch = tuple[Any, np.ndarray]
Work = Callable[[np.ndarray], Any]


class Inputs(abc.ABC):
    """What enters a network's trained part."""

    form: InputForm
    n_views: int
    """The number of test views, of all boxes of an image."""
    shape: tuple[int, ...]
    """(c, h, w)."""

    @abc.abstractmethod
    def training(self, epoch: int, order: np.ndarray, size: int) -> Iterator[Batch]:
        """Yield augmented batches (B, c, h, w) float32 and their (B,) items, in the given order."""

    @abc.abstractmethod
    def read(self, index: np.ndarray, plain: bool) -> np.ndarray:
        """Read all test views (with `plain` the first) of the (B,) items, (B, T, c, h, w) float32."""

    def testing(
        self, index: np.ndarray, size: int, plain: bool = False, work: Work = lambda x: x
    ) -> Iterator[Batch]:
        """Yield `work` of (B, T, c, h, w) float32, all test views of the (B,) items, and the items.

        With `plain` only the first view, as a rule the unchanged image: for validation. The thread that reads
        a batch also applies `work` to it, such as inference, while others read the next ones.
        """

        def make(part: np.ndarray) -> Batch:
            return work(self.read(part, plain)), part

        return read_ahead(make, batched(index, size), self.form.threads)


@dataclasses.dataclass
class LiveInputs(Inputs):
    """Read images each time, and pass them through the frozen trunk where there is one.

    `augment_of` gives the augmentation of item i, which training needs. `open_trunk` opens the trunk, at
    first use, or returns None where nothing is frozen.
    """

    images: Images
    form: InputForm
    test: TestViews
    augment_of: Callable[[int], Augmentation] = lambda i: Augmentation()
    seed: int = 0
    open_trunk: Callable[[], Runner | None] = lambda: None

    @functools.cached_property
    def n_views(self) -> int:
        return self.images.n_boxes * len(self.test.unit())

    @functools.cached_property
    def trunk(self) -> Runner | None:
        return self.open_trunk()

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        image = (3, self.form.side_px, self.form.side_px)
        return image if self.trunk is None else self.trunk(np.zeros((1, *image), np.float32))[0].shape[1:]

    def training(self, epoch: int, order: np.ndarray, size: int) -> Iterator[Batch]:
        def read(i: int) -> np.ndarray:
            rng, augment = np.random.default_rng((self.seed, epoch, i)), self.augment_of(i)
            image, bases = self.images.read(i, self.form, epoch)
            pixels = sample(image, random_view(rng, bases[0], augment), self.form.side_px)
            return random_erase(rng, random_colour(rng, pixels, augment), augment)[None]

        def make(index: np.ndarray) -> Batch:
            return self._enter(index, 1, read)[:, 0], index

        # One batch per thread and no more: complete batches of large images wait here, not single images.
        threads = self.form.threads
        return read_ahead(make, batched(order, size), threads, threads)

    def read(self, index: np.ndarray, plain: bool) -> np.ndarray:
        def read(i: int) -> np.ndarray:
            image, bases = self.images.read(i, self.form)
            cut = functools.cache(lambda view: sample(image, view, self.form.side_px))
            views = [view for base in bases for view in self.test.on(base)][: 1 if plain else None]
            # A mirror costs a copy, not another scaling.
            found = [(view.flip, cut(dataclasses.replace(view, flip=False))) for view in views]
            return np.stack([pixels[:, ::-1] if flip else pixels for flip, pixels in found])

        return self._enter(index, 1 if plain else self.n_views, read)

    def _enter(self, index: np.ndarray, n_views: int, read: Callable[[int], np.ndarray]) -> np.ndarray:
        """Turn what `read` gives of each item, (V, S, S, 3) uint8, into (B, V, c, h, w) float32."""
        out = np.empty((len(index), n_views, *self.shape), np.float32)
        rows = out.reshape(-1, *self.shape)
        if self.trunk is None:
            for number, i in enumerate(index.tolist()):
                normalise(read(i), self.form.backbone, rows[number * n_views : (number + 1) * n_views])
        elif len(index):
            images = np.concatenate([read(i) for i in index.tolist()])
            rows[:] = self.trunk(normalise(images, self.form.backbone))[0]
        return out


class CachedInputs(Inputs):
    """Features of the frozen trunk: cached for images that are used in every epoch, live for all others.

    The cache is a pair of files for each part of the images. Parts can be computed in any order and by
    different processes, also on machines that share the folder: each writes its own files. The features do
    not depend on where parts are cut.

    Test views are cached of all `cached_rows`; of the `train_rows` among them, `n_augmented` augmented views
    too. The trunk of `live` is opened when a part is computed or a batch is requested.
    """

    def __init__(
        self,
        live: LiveInputs,
        train_rows: np.ndarray,
        cached_rows: np.ndarray,
        n_augmented: int,
        folder: Path,
    ) -> None:
        self.form, self.n_views = live.form, live.n_views
        self._live, self._folder, self._n_augmented = live, folder, n_augmented
        self._views = {"test": self.n_views, "train": n_augmented}
        self._rows = {"test": cached_rows, "train": train_rows}
        self._batch = max(1, _BATCH // self.n_views)
        most = max(map(len, self._rows.values()))
        # A part ends where a batch does, so that the same images enter the trunk together.
        self._per_part = part_size(most, math.lcm(_BATCH, self._batch))
        self.parts = max(1, -(-most // self._per_part))
        # Where an item's views are in the files; -1 for none.
        self._place = {name: np.full(len(live.images), -1, np.int64) for name in self._rows}
        for name, rows in self._rows.items():
            self._place[name][rows] = np.arange(len(rows))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._live.shape

    def images_in(self, part: int) -> int:
        """Count the images that a part passes through the trunk, all test views counted as one."""
        return len(self._cut("test", part)) + self._n_augmented * len(self._cut("train", part))

    def compute(self, part: int, done: Callable[[int], None] = lambda _: None) -> None:
        """Compute one part; `done` gets the number of :meth:`images_in` that are new."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name, views in self._views.items():
            n_rows = len(self._cut(name, part)) * views
            create_rows(self._file(name, part), (n_rows, *self.shape), "float16")
        for x, index in self._live.testing(self._cut("test", part), self._batch):
            self._write("test", part, index, np.arange(self.n_views), x)
            done(len(index))
        for view in range(self._n_augmented):
            for x, index in self._live.training(view, self._cut("train", part), _BATCH):
                self._write("train", part, index, view, x)
                done(len(index))

    def training(self, epoch: int, order: np.ndarray, size: int) -> Iterator[Batch]:
        # Each item takes its augmented and its test views in turn, from its own start, so that an epoch
        # mixes them and all are used evenly.
        def make(index: np.ndarray) -> Batch:
            view = (self._place["train"][index] * 7919 + epoch) % (self._n_augmented + self.n_views)
            augmented, view = view < self._n_augmented, view[:, None]
            x = np.empty((len(index), *self.shape), np.float32)
            x[augmented] = self._read("train", index[augmented], view[augmented])
            x[~augmented] = self._read("test", index[~augmented], view[~augmented] - self._n_augmented)
            return x, index

        return read_ahead(make, batched(order, size), self.form.threads)

    def read(self, index: np.ndarray, plain: bool) -> np.ndarray:
        n_views = 1 if plain else self.n_views
        x = np.empty((len(index), n_views, *self.shape), np.float32)
        cached = self._place["test"][index] >= 0
        x[cached] = self._read("test", index[cached], np.arange(n_views)).reshape(-1, *x.shape[1:])
        if not cached.all():
            x[~cached] = self._live.read(index[~cached], plain)
        return x

    def _cut(self, name: str, part: int) -> np.ndarray:
        return self._rows[name][part * self._per_part : (part + 1) * self._per_part]

    def _places(self, name: str, index: np.ndarray, views: Any) -> np.ndarray:
        """Return where views of (B,) items are in the files of all parts; `views` broadcasts to (B, V)."""
        return (self._place[name][index][:, None] * self._views[name] + views).ravel()

    def _file(self, name: str, part: int) -> Path:
        return self._folder / f"{name}{part}.npy"

    def _write(self, name: str, part: int, index: np.ndarray, views: Any, x: np.ndarray) -> None:
        places = self._places(name, index, views) - part * self._per_part * self._views[name]
        write_rows(self._file(name, part), places, x.reshape(-1, *self.shape))

    def _read(self, name: str, index: np.ndarray, views: Any) -> np.ndarray:
        """Read views of (B,) items, (B * V, c, h, w) float32."""
        places, per_part = self._places(name, index, views), self._per_part * self._views[name]
        out, part = np.empty((len(places), *self.shape), np.float32), places // max(1, per_part)
        for number in np.unique(part).tolist():
            mine = part == number
            file = map_array(self._file(name, number))
            out[mine] = file[places[mine] - number * per_part]
        return out


def predict(
    runner: Runner, inputs: Inputs, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield logits (B, C) averaged over test views, class maps (B, T, C, h, w), and the (B,) rows."""

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, maps = runner(x.reshape(-1, *x.shape[2:]))  # (B * T, C), (B * T, C, h, w)
        shape = x.shape[:2]
        return logits.reshape(*shape, -1).mean(axis=1), maps.reshape(*shape, *maps.shape[1:])

    size = max(1, INFERENCE_BATCH // inputs.n_views)
    for (logits, maps), index in inputs.testing(rows, size, work=run):
        yield logits, maps, index


def part_size(rows: int, multiple: int) -> int:
    """Size parts of about PART rows, or larger ones where there would be over 16.

    >>> part_size(100, 32), part_size(10_000, 3), part_size(1_000_000, 32)
    (1024, 1026, 62528)
    """
    size = max(PART, -(-rows // _MOST_PARTS))
    return -(-size // multiple) * multiple
