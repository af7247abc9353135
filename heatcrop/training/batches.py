"""From image files to network input: read, normalise, on threads with a bound."""

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
from heatcrop.nets.backbones import Backbone, InputForm
from heatcrop.training.views import View, framed

A = TypeVar("A")
B = TypeVar("B")


@dataclasses.dataclass(frozen=True)
class Images:
    """Image files and the boxes of each that a network sees."""

    paths: Sequence[str]
    boxes: np.ndarray | None = None
    """(N, K, 4) int: x0, y0, x1, y1 in pixels, x1/y1 exclusive; None for full images. The logits of an
    image's K boxes are averaged."""
    training_boxes: np.ndarray | None = None
    """(N, J, 4): boxes that training uses instead, one after another, one per epoch."""
    sizes: np.ndarray | None = None
    """(N, 2) int: width and height in pixels, needed with `boxes`."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def n_boxes(self) -> int:
        """K, 1 for full images."""
        return 1 if self.boxes is None else int(self.boxes.shape[1])

    def read(self, i: int, form: InputForm, epoch: int | None = None) -> tuple[np.ndarray, list[View]]:
        """Read image i and frame its boxes: the one of an epoch of training, or those of a test.

        The image, (H, W, 3) uint8, is at a reduced scale where that leaves enough pixels.
        """
        least = form.side_px * 3 // 2  # half as much again as the input's side
        if self.boxes is None:
            image = read_image(self.paths[i], at_least_px=least)
            return image, [framed((0, 0, image.shape[1], image.shape[0]), form.fit)]
        assert self.sizes is not None
        boxes = self.boxes[i]
        if epoch is not None and self.training_boxes is not None:
            boxes = self.training_boxes[i, epoch % self.training_boxes.shape[1]][None]
        # A box must keep enough pixels, so the image itself must be larger.
        shorter, side = int(self.sizes[i].min()), int((boxes[:, 2:] - boxes[:, :2]).min())
        image = read_image(self.paths[i], at_least_px=-(-least * shorter // max(1, side)))
        # The reduced sides are rounded up: their ratio would move boxes of elongated images by pixels.
        scale = max(1, round(shorter / min(image.shape[:2])))
        return image, [framed(box / scale, form.fit) for box in boxes]


def normalise(images: np.ndarray, backbone: Backbone, out: np.ndarray | None = None) -> np.ndarray:
    """Turn (N, S, S, 3) uint8 into the backbone's (N, 3, S, S) float32 input, in `out` if it is given."""
    scale = (1 / (255 * np.asarray(backbone.std))).astype(np.float32)
    shift = (np.asarray(backbone.mean) / np.asarray(backbone.std)).astype(np.float32)
    if out is None:
        out = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
    for planes, image in zip(out, images, strict=True):
        # Channel by channel: a plane is read and written once, where numpy would copy it four times.
        for channel, plane in enumerate(cv2.split(image)):
            np.multiply(plane, scale[channel], out=planes[channel])
            planes[channel] -= shift[channel]
    return out


def batched(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut an order of items into batches; the last one may be smaller."""
    for start in range(0, len(order), size):
        yield order[start : start + size]


def read_ahead(work: Callable[[A], B], items: Iterable[A], threads: int, ahead: int = 0) -> Iterator[B]:
    """Map in order on a pool of threads, with a bound on the results that wait.

    `ahead` bounds the items in progress or waiting; by default twice the threads.
    """
    items = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque[Future[B]] = collections.deque(
            pool.submit(work, item) for item in itertools.islice(items, ahead or 2 * threads)
        )
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in itertools.islice(items, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
