"""Contenders of the speed benchmark: the program's own code, and the bare work it is compared with."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.contenders import Workload, serve
from heatcrop.data.dataset import TaskData, survey_images
from heatcrop.data.groups import single_group
from heatcrop.data.tasks import Task
from heatcrop.files import write_array
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.nets.classifier import Classifier, NetworkContext, NetworkPlan
from heatcrop.nets.devices import ON_CPU, TrainerName
from heatcrop.nets.inference import Runner, open_network
from heatcrop.nets.maps import MapPlan
from heatcrop.predict.predictor import open_pipeline
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import write_arrays
from heatcrop.runs.progress import forward_to
from heatcrop.training.augment import Augmentation
from heatcrop.training.batches import Images, batched
from heatcrop.training.fit import fit
from heatcrop.training.inputs import LiveInputs
from heatcrop.training.loop import TrainingPlan
from heatcrop.training.views import TestViews
from stage1_cam.plan import CamPlan
from stage1_cam.stage import CamStage
from stage2_crop.boxes import Heatmaps, find_crops
from stage2_crop.plan import CropPlan, CropRule, SearchPlan
from stage2_crop.stage import CropStage

N_CLASSES = 8
_PART = 32


def _context(net: str, px: int, threads: int, trainer: TrainerName = "mxnet") -> NetworkContext:
    """Choose the network as the program does, with random weights where none are installed."""
    weights = "imagenet" if net == "efficientnet_lite0" else "none"
    form = InputForm(px, "pad", backbone(net), threads)
    folder = Path(tempfile.mkdtemp())
    return NetworkContext(NetworkPlan(net, weights), form, folder, "onnx", trainer=trainer)


def _classifier(context: NetworkContext) -> Classifier:
    return context.classifier(context.image_shape, N_CLASSES)


def _runner(context: NetworkContext, classifier: Classifier) -> Runner:
    """Open a classifier with ONNX Runtime."""
    file = context.trunk_folder / "net.onnx"
    classifier.export(file)
    return open_network(file)


def _batch(context: NetworkContext, images: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(images, *context.image_shape)).astype(np.float32)


def labelled_in_turn(files: list[str], threads: int) -> TaskData:
    """Label files with classes in turn."""
    sizes, _ = survey_images(files, threads)
    letters = 2 * np.eye(N_CLASSES, dtype=np.int8)[np.arange(len(files)) % N_CLASSES]
    task = Task("speed", tuple(f"class {i}" for i in range(N_CLASSES)))
    names = tuple(f"{i:05d}.jpg" for i in range(len(files)))
    splits = np.full(len(files), "test")
    return TaskData(task, names, tuple(files), sizes, letters, splits, np.full(len(files), ""))


def forward(net: str, px: int, threads: int, images: int, views: int = 1, passes: int = 1) -> Workload:
    """Run the engine on a batch in memory: logits and class maps."""
    context = _context(net, px, threads)
    runner, x = _runner(context, _classifier(context)), _batch(context, images)
    pool = ThreadPoolExecutor(threads)

    def work() -> int:
        for _ in range(views * passes):
            list(pool.map(runner, (x[i] for i in batched(np.arange(images), 4))))
        return images

    return work


def mxnet_forward(net: str, px: int, threads: int, images: int) -> Workload:
    """Run the same network hybridized on MXNet; exit where its outputs differ."""
    context = _context(net, px, threads)
    classifier, x = _classifier(context), _batch(context, images)
    ours, theirs = _runner(context, classifier), classifier.runner(ON_CPU, MapPlan())
    for a, b in zip(ours(x[:4]), theirs(x[:4]), strict=True):
        error = float(np.abs(a - b).max() / max(1e-9, float(np.abs(b).max())))
        if error > 1e-4:
            raise SystemExit(f"{net}: ONNX Runtime and MXNet differ by {error:.1e} of the greatest value")

    def work() -> int:
        for part in batched(np.arange(images), _PART):
            theirs(x[part])
        return images

    return work


def heatmaps(net: str, px: int, threads: int, files: list[str], flip: bool) -> Workload:
    """Run stage 1's inference from JPEG files to heatmaps and predictions on disk."""
    context, data = _context(net, px, threads), labelled_in_turn(files, threads)
    folder, plan = RunFolder(context.trunk_folder), CamPlan(folds=1, test=TestViews(flip=flip))
    stage = CamStage(single_group(data), folder, [plan], context, lambda: None, "")
    _classifier(context).export(stage.exported("final"))
    write_arrays(stage.cache / "final.history.npz", rows=np.array("[]"))  # of a training, which is not timed

    def work() -> int:
        for part in stage.parts(stage.networks):
            stage.infer(*part)
        stage.finish()
        return len(data)

    return work


class _Memory:
    """Inputs of the training loop from one batch in memory instead of files."""

    n_views = 1

    def __init__(self, x: np.ndarray) -> None:
        self.shape = x.shape[1:]
        self._x = x

    def training(self, _epoch: int, order: np.ndarray, size: int) -> Any:
        for index in batched(order, size):
            yield self._x[: len(index)], index

    def testing(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is validated")


def _training(context: NetworkContext, inputs: Any, data: TaskData, batch: int) -> Workload:
    classifier, rows, none = _classifier(context), np.arange(len(data)), np.array([], np.int64)
    plan = TrainingPlan(epochs=1, batch_size=batch, learning_rate=1e-5, reload_best=False)

    def work() -> int:
        fit(classifier, inputs, data.soft, data.letters, rows, none, plan, 0, "speed")
        return len(data)

    return work


def training(net: str, px: int, threads: int, files: list[str], batch: int) -> Workload:
    """Run the training loop from JPEG files with augmentation."""
    context, data = _context(net, px, threads), labelled_in_turn(files, threads)
    how = Augmentation(crop_scale=0.7, aspect=1.2, brightness=0.2, erase=0.5)
    inputs = LiveInputs(Images(data.paths), context.form, TestViews(), lambda i: how)
    return _training(context, inputs, data, batch)


def training_step(
    net: str, px: int, threads: int, files: list[str], batch: int, trainer: TrainerName = "mxnet"
) -> Workload:
    """Run the same loop on one batch in memory."""
    context, data = _context(net, px, threads, trainer), labelled_in_turn(files, threads)
    return _training(context, _Memory(_batch(context, batch)), data, batch)


def _maps(count: int) -> np.ndarray:
    """Draw heatmaps with one Gaussian and noise each, which give crops of about half the image's side."""
    rng = np.random.default_rng(0)
    noise, (x, y) = rng.random((count, 9, 9)), rng.uniform(2, 6, (2, count, 1, 1))
    rows, columns = np.arange(9)[:, None], np.arange(9)[None, :]
    hill = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2))
    return (hill + 0.1 * noise).astype(np.float32)


def crops(threads: int, files: list[str]) -> Workload:
    """Run stage 2 with a fixed rule from maps and JPEG files to boxes and crop files."""
    data, context = labelled_in_turn(files, threads), _context("efficientnet_lite0", 224, threads)
    group, plan = (
        single_group(data),
        CropPlan(CropRule(threshold=0.5), SearchPlan(pictures=0), zoom=0, jitter=0),
    )
    given = RunFolder(context.trunk_folder / "given").task(data.task.name)
    full, networks = data.letters / 2, np.full(len(data), "final")
    write_arrays(given.predictions(1), full=full, networks=networks)
    write_array(given.heatmaps, _maps(len(files)))
    numbers = itertools.count()

    def work() -> int:
        folder = RunFolder(context.trunk_folder / str(next(numbers)))  # replacing crops is not timed
        task = folder.task(data.task.name)
        task.path.mkdir(parents=True)
        task.stage(1).symlink_to(given.stage(1), target_is_directory=True)
        stage = CropStage(group, folder, [plan], context, lambda: None, "")
        for step in stage.jobs():
            for method, arguments in step:
                stage.perform(method, arguments)
        return len(data)

    return work


def opencv_crops(threads: int, files: list[str]) -> Workload:
    """Decode the same files and encode crops of the same boxes with OpenCV on all cores."""
    cv2.setNumThreads(1)
    data, rule = labelled_in_turn(files, threads), CropRule(threshold=0.5)
    found = find_crops(Heatmaps(_maps(len(files)), data.sizes, "pad", np.zeros(len(data), bool)), rule)
    pool = ThreadPoolExecutor(threads)

    def crop(i: int) -> None:
        x0, y0, x1, y1 = found[i].box
        image = cv2.imread(data.paths[i])
        assert image is not None
        cv2.imencode(".jpg", image[y0:y1, x0:x1], [cv2.IMWRITE_JPEG_QUALITY, 95])

    def work() -> int:
        list(pool.map(crop, range(len(data))))
        return len(data)

    return work


def predict(run: str, files: list[str]) -> Workload:
    """Run the complete method on new files: two networks, heatmap, square, crop, fusion."""
    pipeline = open_pipeline(RunFolder(Path(run)), (), "onnx")
    sizes, _ = survey_images(files, pipeline.form.threads)

    def work() -> int:
        pipeline.predict(pipeline.tasks[:1], files, sizes)
        return len(files)

    return work


MAKERS: dict[str, Callable[..., Workload]] = {
    maker.__name__: maker
    for maker in (forward, mxnet_forward, heatmaps, training, training_step, crops, opencv_crops, predict)
}

if __name__ == "__main__":
    forward_to(lambda _: None)  # to show progress would take time
    serve(MAKERS)
