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

import cv2
import numpy as np

from heatcrop.data.images import read_image
from heatcrop.nets.backbones import Backbone
from heatcrop.training.augment import Augmentation, random_colour, random_erase, random_view
from heatcrop.training.views import View, framed, sample

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
    sizes : ndarray of int, shape (N, 2), or None
        Width and height in pixels. Where they are known, a picture of which a large box is shown is
        decoded at a reduced scale.
    """

    paths: Sequence[str]
    boxes: np.ndarray | None = None
    training_boxes: np.ndarray | None = None
    sizes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, index: np.ndarray) -> Pictures:
        """Keep the given rows."""
        paths = [self.paths[i] for i in index]
        arrays = (self.boxes, self.training_boxes, self.sizes)
        return Pictures(paths, *(None if a is None else a[index] for a in arrays))

    def box(self, i: int) -> np.ndarray | None:
        """Item i's box; None for all of it."""
        return None if self.boxes is None else self.boxes[i]

    def training_box(self, i: int, epoch: int) -> np.ndarray | None:
        """Item i's box in one epoch of training."""
        if self.training_boxes is not None:
            return np.asarray(self.training_boxes[i, epoch % self.training_boxes.shape[1]])
        return self.box(i)


@dataclasses.dataclass(frozen=True)
class InputForm:
    """How a picture becomes input.

    Attributes
    ----------
    side_px : int
        The network's input side.
    fit : {'stretch', 'pad'}
        See :func:`heatcrop.training.views.framed`.
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


def normalise(pictures: np.ndarray, backbone: Backbone, out: np.ndarray | None = None) -> np.ndarray:
    """Turn (N, S, S, 3) uint8 into (N, 3, S, S) float32 as the backbone wants it, into `out` where given."""
    scale = (1 / (255 * np.asarray(backbone.std))).astype(np.float32)
    shift = (np.asarray(backbone.mean) / np.asarray(backbone.std)).astype(np.float32)
    if out is None:
        out = np.empty((len(pictures), 3, *pictures.shape[1:3]), np.float32)
    for planes, picture in zip(out, pictures, strict=True):
        # Channel by channel: a plane is read once and written once, where numpy would copy it four times.
        for channel, plane in enumerate(cv2.split(picture)):
            np.multiply(plane, scale[channel], out=planes[channel])
            planes[channel] -= shift[channel]
    return out


def base_view(picture: np.ndarray, box: np.ndarray | None, fit: str) -> View:
    """The view that shows a picture's box (or all of it) without augmentation."""
    height, width = picture.shape[:2]
    return framed((0, 0, width, height) if box is None else tuple(box), fit)


def image_views(
    pictures: Pictures, form: InputForm, views: Callable[[View], list[View]]
) -> Callable[[int], np.ndarray]:
    """Make the function that reads item i and returns its views, (V, S, S, 3) uint8."""

    def read(i: int) -> np.ndarray:
        picture, view = _framed_picture(pictures, form, i, pictures.box(i))
        shown = views(view)
        upright = {dataclasses.replace(one, flip=False): np.empty(0, np.uint8) for one in shown}
        for one in upright:
            upright[one] = sample(picture, one, form.side_px)
        # A mirror costs a copy, not another scaling.
        found = [(one.flip, upright[dataclasses.replace(one, flip=False)]) for one in shown]
        return np.stack([pixels[:, ::-1] if flip else pixels for flip, pixels in found])

    return read


def augmented(
    pictures: Pictures, form: InputForm, how: Augmentation, seed: int
) -> Callable[[tuple[int, int]], np.ndarray]:
    """Make the function that reads item (epoch, i) augmented, (S, S, 3) uint8."""

    def read(item: tuple[int, int]) -> np.ndarray:
        epoch, i = item
        rng = np.random.default_rng((seed, epoch, i))
        picture, base = _framed_picture(pictures, form, i, pictures.training_box(i, epoch))
        mine = how.of(i)
        view = random_view(rng, base, mine)
        return random_erase(rng, random_colour(rng, sample(picture, view, form.side_px), mine), mine)

    return read


def _framed_picture(
    pictures: Pictures, form: InputForm, i: int, box: np.ndarray | None
) -> tuple[np.ndarray, View]:
    """Read item i, at a reduced scale where that leaves pixels enough, and frame its box (or all of it)."""
    least = form.side_px * 3 // 2  # half as much again as the input's side
    if box is None:
        picture = read_image(pictures.paths[i], at_least_px=least)
        return picture, base_view(picture, None, form.fit)
    if pictures.sizes is None:
        picture = read_image(pictures.paths[i])
        return picture, base_view(picture, box, form.fit)
    # What the box keeps of the picture must be large enough, so the picture itself must be larger.
    shorter, side = int(pictures.sizes[i].min()), int(min(box[2] - box[0], box[3] - box[1]))
    picture = read_image(pictures.paths[i], at_least_px=-(-least * shorter // max(1, side)))
    shrunk = min(picture.shape[:2]) / shorter
    return picture, base_view(picture, np.asarray(box) * shrunk, form.fit)


def batched(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut an order of items into batches; the last one may be smaller."""
    for start in range(0, len(order), size):
        yield order[start : start + size]
