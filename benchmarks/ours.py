"""Our side of the speed benchmark: the program's own code, and the bare work that it is held against."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.arena import Work, serve
from heatcrop.data.dataset import TaskData, survey_images
from heatcrop.data.tasks import Task
from heatcrop.nets.backbones import backbone
from heatcrop.nets.classifier import NetworkPlan
from heatcrop.nets.engine import mxnet
from heatcrop.nets.inference import Runner, mxnet_runner
from heatcrop.predict.predictor import open_pipeline
from heatcrop.runs.folder import RunFolder, TaskFolder
from heatcrop.runs.progress import be_quiet
from heatcrop.training.augment import Augmentation
from heatcrop.training.batches import InputForm, Pictures, batched
from heatcrop.training.branch import Workshop, fit, new_classifier, open_classifier
from heatcrop.training.inputs import LiveInputs, TestViews
from heatcrop.training.loop import TrainingPlan
from stage1_cam.stage import CamPlan, Look, look, write_looks
from stage2_crop.boxes import find_crops
from stage2_crop.rule import CropRule
from stage2_crop.stage import cut

N_CLASSES = 8
_PART = 32


def _shop(net: str, px: int, threads: int) -> Workshop:
    """The program's own way of building a network, with random weights where none are at hand."""
    weights = "imagenet" if net == "efficientnet_lite0" else "none"
    form = InputForm(px, "pad", backbone(net), threads)
    return Workshop(NetworkPlan(net, weights), form, Path(tempfile.mkdtemp()), "onnx")


def _classifier(shop: Workshop) -> Any:
    return new_classifier(shop, shop.picture_shape, N_CLASSES, 0)


def _runner(shop: Workshop) -> Runner:
    return open_classifier(shop, _classifier(shop), shop.picture_shape, shop.trunk_folder / "net.onnx")


def _batch(shop: Workshop, pictures: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(pictures, *shop.picture_shape)).astype(np.float32)


def _data(files: list[str], threads: int) -> TaskData:
    """Labels that mean nothing: every class as often as the others."""
    sizes, _ = survey_images(files, threads)
    letters = 2 * np.eye(N_CLASSES, dtype=np.int8)[np.arange(len(files)) % N_CLASSES]
    task = Task("speed", tuple(f"class {i}" for i in range(N_CLASSES)))
    names = tuple(f"{i:05d}.jpg" for i in range(len(files)))
    splits = np.full(len(files), "test")
    return TaskData(task, names, tuple(files), sizes, letters, splits, np.full(len(files), ""))


def forward(net: str, px: int, threads: int, pictures: int, views: int = 1, passes: int = 1) -> Work:
    """Run the engine on a batch in memory: logits and class maps."""
    shop = _shop(net, px, threads)
    runner, x = _runner(shop), _batch(shop, pictures)
    pool = ThreadPoolExecutor(threads)

    def work() -> int:
        for _ in range(views * passes):
            list(pool.map(runner, (x[i] for i in batched(np.arange(pictures), 4))))
        return pictures

    return work


def mxnet_forward(net: str, px: int, threads: int, pictures: int) -> Work:
    """Run the same network hybridized on MXNet; refuse to be timed where answers differ."""
    shop = _shop(net, px, threads)
    classifier, x = _classifier(shop), _batch(shop, pictures)
    ours = open_classifier(shop, classifier, shop.picture_shape, shop.trunk_folder / "net.onnx")
    theirs = mxnet_runner(classifier)
    for a, b in zip(ours(x[:4]), theirs(x[:4]), strict=True):
        off = float(np.abs(a - b).max() / max(1e-9, float(np.abs(b).max())))
        if off > 1e-4:
            raise SystemExit(f"{net}: ONNX Runtime and MXNet differ by {off:.1e} of the greatest value")

    def work() -> int:
        for part in batched(np.arange(pictures), _PART):
            theirs(x[part])
        return pictures

    return work


def heatmaps(net: str, px: int, threads: int, files: list[str], flip: bool) -> Work:
    """Stage 1's looking: from JPEG files to heatmaps and predictions on disk."""
    shop, data = _shop(net, px, threads), _data(files, threads)
    runner, plan = _runner(shop), CamPlan(test=TestViews(flip=flip))
    folder = TaskFolder(shop.trunk_folder / "task")

    def looks() -> Iterator[Look]:
        inputs = LiveInputs(Pictures(data.paths), shop.form, plan.augment, plan.test, 0)
        done = 0
        for logits, maps in look(runner, inputs, np.arange(len(data)), plan):
            yield np.arange(done, done + len(logits)), logits, maps, "final"
            done += len(logits)

    def work() -> int:
        write_looks(folder, data, looks(), shop.trunk_folder / "heatmaps")
        return len(data)

    return work


class _Memory:
    """A batch in memory in place of files: the bare step of the one training loop."""

    n_views = 1

    def __init__(self, x: np.ndarray) -> None:
        self.shape = x.shape[1:]
        self._x = x

    def training(self, _epoch: int, order: np.ndarray, size: int) -> Any:
        for index in batched(order, size):
            yield self._x[: len(index)], index

    def testing(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is validated")


def _training(shop: Workshop, inputs: Any, data: TaskData, batch: int) -> Work:
    net, rows, none = _classifier(shop), np.arange(len(data)), np.array([], np.int64)
    plan = TrainingPlan(epochs=1, batch_size=batch, learning_rate=1e-5, reload_best=False)

    def work() -> int:
        fit(net, inputs, data.soft, data.letters, rows, none, plan, 0, "speed")
        return len(data)

    return work


def training(net: str, px: int, threads: int, files: list[str], batch: int) -> Work:
    """The training loop from JPEG files, augmented."""
    shop, data = _shop(net, px, threads), _data(files, threads)
    how = Augmentation(crop_scale=0.7, aspect=1.2, brightness=0.2, erase=0.5)
    inputs = LiveInputs(Pictures(data.paths), shop.form, how, TestViews(), 0)
    return _training(shop, inputs, data, batch)


def training_step(net: str, px: int, threads: int, files: list[str], batch: int) -> Work:
    """The same loop on one batch in memory."""
    shop, data = _shop(net, px, threads), _data(files, threads)
    return _training(shop, _Memory(_batch(shop, batch)), data, batch)


def _maps(count: int) -> np.ndarray:
    """Heatmaps with one warm place each, on uneven ground: crops of about half the picture's side."""
    rng = np.random.default_rng(0)
    noise, (x, y) = rng.random((count, 9, 9)), rng.uniform(2, 6, (2, count, 1, 1))
    rows, columns = np.arange(9)[:, None], np.arange(9)[None, :]
    hill = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2))
    return (hill + 0.1 * noise).astype(np.float32)


def crops(threads: int, files: list[str]) -> Work:
    """Stage 2 with a fixed rule: from maps and JPEG files to boxes.csv and crop files."""
    data, maps, rule = _data(files, threads), _maps(len(files)), CropRule(threshold=0.5)
    scratch, turns = Path(tempfile.mkdtemp()), itertools.count()
    nowhere, form = np.zeros(len(data), bool), InputForm(224, "pad", backbone("efficientnet_lite0"), threads)

    def work() -> int:
        folder = TaskFolder(scratch / str(next(turns)))  # replacing earlier crops is not what is timed
        folder.path.mkdir()
        cut(data, folder, maps, rule, nowhere, ["class"] * len(data), form, 95)
        return len(data)

    return work


def opencv_crops(threads: int, files: list[str]) -> Work:
    """Decode the same files and encode crops of the same boxes with OpenCV, on all cores."""
    cv2.setNumThreads(1)
    data, rule = _data(files, threads), CropRule(threshold=0.5)
    found = find_crops(_maps(len(files)), data.sizes, "pad", rule, np.zeros(len(data), bool))
    pool = ThreadPoolExecutor(threads)

    def one(i: int) -> None:
        x0, y0, x1, y1 = found[i].box
        picture = cv2.imread(data.paths[i])
        assert picture is not None
        cv2.imencode(".jpg", picture[y0:y1, x0:x1], [cv2.IMWRITE_JPEG_QUALITY, 95])

    def work() -> int:
        list(pool.map(one, range(len(data))))
        return len(data)

    return work


def predict(run: str, files: list[str]) -> Work:
    """The whole method on new files: two networks, heatmap, square, crop, fusion."""
    pipeline = open_pipeline(RunFolder(Path(run)), (), "onnx")
    sizes, _ = survey_images(files, pipeline.form.threads)

    def work() -> int:
        pipeline.predict(pipeline.tasks[:1], files, sizes)
        return len(files)

    return work


MAKERS: dict[str, Callable[..., Work]] = {
    maker.__name__: maker
    for maker in (forward, mxnet_forward, heatmaps, training, training_step, crops, opencv_crops, predict)
}

if __name__ == "__main__":
    be_quiet()
    mxnet()
    serve(MAKERS)
