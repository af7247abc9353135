"""From picture files to network input: read, cut, augment, normalise, on threads with a bound.

Everything random is drawn from a generator of (seed, epoch, item), so batches do not depend on
how many threads read them or on where a run was interrupted.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from attributes.pictures import read_picture
from learning.augment import Augmentation, random_colour, random_erase, random_view
from learning.backbones import Backbone
from learning.views import View, framed, sample

A = TypeVar("A")
B = TypeVar("B")


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Picture files and the box of each that a network is shown.

    Attributes
    ----------
    paths : sequence of str
    boxes : ndarray of int, shape (N, 4), or None
        x0, y0, x1, y1 in pixels, x1/y1 exclusive; None for whole pictures.
    training_boxes : ndarray of int, shape (N, J, 4), or None
        Boxes that training takes in turn instead, one an epoch.
    """

    paths: Sequence[str]
    boxes: np.ndarray | None = None
    training_boxes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, index: np.ndarray) -> Pictures:
        """Keep the given rows."""
        paths = [self.paths[i] for i in index]
        return Pictures(paths, *(None if b is None else b[index] for b in (self.boxes, self.training_boxes)))

    def training_box(self, i: int, epoch: int) -> np.ndarray | None:
        """Item i's box in one epoch of training."""
        if self.training_boxes is not None:
            return np.asarray(self.training_boxes[i, epoch % self.training_boxes.shape[1]])
        return None if self.boxes is None else self.boxes[i]


@dataclasses.dataclass(frozen=True)
class InputForm:
    """How a picture becomes input.

    Attributes
    ----------
    side_px : int
        The network's input side.
    fit : {'stretch', 'pad'}
        See :func:`learning.views.framed`.
    backbone : Backbone
        Gives mean and standard deviation.
    threads : int
        Reading threads.
    """

    side_px: int
    fit: str
    backbone: Backbone
    threads: int = 2


def read_ahead(work: Callable[[A], B], items: Iterable[A], threads: int, ahead: int = 0) -> Iterator[B]:
    """Map in order on a thread pool, never more than `ahead` results in waiting.

    Parameters
    ----------
    ahead : int
        Bound on items under way; twice the threads by default.
    """
    items = iter(items)
    if threads <= 0:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque[Future[B]] = collections.deque(
            pool.submit(work, item) for item in itertools.islice(items, ahead or 2 * threads)
        )
        try:
            while waiting:
                result = waiting.popleft().result()
                for item in itertools.islice(items, 1):
                    waiting.append(pool.submit(work, item))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def normalise(pictures: np.ndarray, backbone: Backbone) -> np.ndarray:
    """Turn (N, S, S, 3) uint8 into (N, 3, S, S) float32 as the backbone wants it."""
    scale = (1 / (255 * np.asarray(backbone.std))).astype(np.float32)
    shift = (np.asarray(backbone.mean) / np.asarray(backbone.std)).astype(np.float32)
    out = pictures.astype(np.float32)
    out *= scale
    out -= shift
    return np.ascontiguousarray(out.transpose(0, 3, 1, 2))


def base_view(picture: np.ndarray, box: np.ndarray | None, fit: str) -> View:
    """The view that shows a picture's box (or all of it) without augmentation."""
    height, width = picture.shape[:2]
    return framed((0, 0, width, height) if box is None else tuple(box), fit)


def picture_views(
    pictures: Pictures, form: InputForm, views: Callable[[View], list[View]]
) -> Callable[[int], np.ndarray]:
    """Make the function that reads item i and returns its views, (V, S, S, 3) uint8."""
    least = _least_side(form)

    def read(i: int) -> np.ndarray:
        box = None if pictures.boxes is None else pictures.boxes[i]
        # A crop needs its pixels in full; whole pictures may be decoded at a reduced scale.
        picture = read_picture(pictures.paths[i], at_least_px=least if box is None else None)
        return np.stack([sample(picture, v, form.side_px) for v in views(base_view(picture, box, form.fit))])

    return read


def augmented(
    pictures: Pictures, form: InputForm, how: Augmentation, seed: int
) -> Callable[[tuple[int, int]], np.ndarray]:
    """Make the function that reads item (epoch, i) augmented, (S, S, 3) uint8."""
    least = _least_side(form)

    def read(item: tuple[int, int]) -> np.ndarray:
        epoch, i = item
        rng = np.random.default_rng((seed, epoch, i))
        box = pictures.training_box(i, epoch)
        picture = read_picture(pictures.paths[i], at_least_px=least if box is None else None)
        view = random_view(rng, base_view(picture, box, form.fit), how)
        return random_erase(rng, random_colour(rng, sample(picture, view, form.side_px), how), how)

    return read


def _least_side(form: InputForm) -> int:
    """Shorter side that a reduced-scale decoding must keep: half as much again as the input's."""
    return form.side_px * 3 // 2


def batched(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut an order of items into batches; the last one may be smaller."""
    for start in range(0, len(order), size):
        yield order[start : start + size]
