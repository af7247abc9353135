"""Estimate the cost of a run: measure a few images on the real networks and extrapolate."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from timeit import timeit

import numpy as np

from heatcrop.cli.config import Config
from heatcrop.cli.runner import network_context
from heatcrop.cli.startup import parallel_jobs
from heatcrop.data.dataset import TaskData
from heatcrop.data.images import encode_jpeg, read_image
from heatcrop.runs.folder import RunFolder
from heatcrop.training.batches import Images
from heatcrop.training.fit import fit
from heatcrop.training.inputs import CachedInputs, Inputs, LiveInputs
from heatcrop.training.probe import box_features

_SAMPLE = 16
_FORWARD = 1 / 3
"""Share of a training step, which also goes backward for weights and for inputs."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """The estimated cost of a run on this machine."""

    seconds: float
    """Of all stages, without rendering and report."""
    jobs: int
    """Tasks at once, or networks where the tasks share them."""
    kept_bytes: float
    """What stays in the run folder."""
    cache_bytes: float
    """The most that is there in addition, during the run."""
    unit: str = "task"
    """What `jobs` counts: ``task`` or ``network``."""


@dataclasses.dataclass(frozen=True)
class _Speed:
    """Seconds per image, and bytes, measured on one task's images."""

    read: float
    cached: float
    train: float
    probe: float
    weights_bytes: float
    cached_bytes: float


def expected_cost(config: Config, tasks: dict[str, TaskData]) -> Cost:
    """Measure the speed on a few images of the largest task and add up the work of all tasks.

    EngineError or WeightsError where the networks cannot be built on this machine.
    """
    jobs = min(parallel_jobs(config, len(tasks)), len(tasks))
    measured = max(tasks.values(), key=len)
    speed = _measure(config.changed("runtime", threads=1) if jobs > 1 else config, measured)
    seconds = [_seconds(config, data, speed) for data in tasks.values()]
    kept = sum(_kept(config, data, speed) for data in tasks.values())
    cached = sorted((_items(config, data) * speed.cached_bytes for data in tasks.values()), reverse=True)
    if config.network.shared_trunk:
        # The networks of the folds are trained side by side, and caches are those of all tasks.
        folds = _folds(config, measured)
        jobs = min(parallel_jobs(config, len(tasks)), 1 + folds)
        kept -= (len(tasks) - 1) * speed.weights_bytes * (4 + folds)
        return Cost(sum(seconds) / jobs, jobs, kept, sum(cached), "network")
    # Parallel tasks take at least as long as the longest one.
    return Cost(max(sum(seconds) / jobs, max(seconds)), jobs, kept, sum(cached[:jobs]))


def _folds(config: Config, data: TaskData) -> int:
    """Count stage 1's networks beside the final one."""
    folds = config.plans(data.task)[0].folds
    return folds if folds > 1 else 0


def _measure(config: Config, data: TaskData) -> _Speed:
    some = np.linspace(0, len(data) - 1, min(_SAMPLE, len(data))).astype(int)
    paths = [data.paths[i] for i in some]
    rows, n = np.arange(len(some)), len(some)
    cam, crop, _ = config.plans(data.task)
    with tempfile.TemporaryDirectory() as folder:
        context = network_context(config, RunFolder(Path(folder)))
        read = timeit(lambda: [encode_jpeg(read_image(path), crop.quality) for path in paths], number=1) / n
        cached, cached_bytes, cache = 0.0, 0.0, Path(folder) / "cache"
        live = LiveInputs(
            Images(paths), context.form, cam.test, lambda i: cam.augment, context.seed, context.open_trunk
        )
        inputs: Inputs = live
        shape = live.shape  # opens the trunk, and runs it once
        if live.trunk is not None:
            inputs = features = CachedInputs(live, rows, rows, cam.views, cache)
            items = n * (live.n_views + cam.views)
            cached = timeit(lambda: features.compute(0), number=1) / items
            cached_bytes = sum(path.stat().st_size for path in cache.rglob("*.npy")) / items
        classifier = context.classifier(shape, len(data.task.classes))
        # Two epochs, of which the first prepares.
        batch = min(cam.training.batch_size, n)
        plan = dataclasses.replace(cam.training, epochs=2, average=0, batch_size=batch)
        letters = np.zeros((n, len(data.task.classes)), np.int8)
        letters[:, 0] = 2
        soft = (letters == 2).astype(np.float32)
        devices = context.devices
        history = fit(classifier, inputs, soft, letters, rows, rows[:0], plan, 0, "measured", devices=devices)
        weights = Path(folder) / "weights.params"
        classifier.save(weights)
        probe = 0.0
        if crop.search.pictures:
            runner = context.open_backbone(Path(folder) / "probe")
            boxes = [[(0, 0, int(w), int(h))] * 2 for w, h in data.sizes[some]]
            probe = timeit(lambda: box_features(runner, context.probe_form, paths, boxes), number=1) / (2 * n)
        return _Speed(read, cached, history[-1]["seconds"] / n, probe, weights.stat().st_size, cached_bytes)


def _seconds(config: Config, data: TaskData, speed: _Speed) -> float:
    """Add up one task's work."""
    cam, crop, finetune = config.plans(data.task)
    train, val = len(data.rows("train", labelled=True)), len(data.rows("val", labelled=True))
    total, folds = 0.0, _folds(config, data)
    for plan, networks in ((cam, folds), (finetune, folds if finetune.cross_fit else 0)):
        # Each fold's network trains on all training images but the fold's.
        trained = train * (1 + max(0, networks - 1))
        epochs = plan.training.epochs
        total += epochs * speed.train * (trained + _FORWARD * val * (1 + networks))
        views = len(plan.test.unit())
        total += speed.cached * (len(data) * views + train * plan.views)
        total += _FORWARD * speed.train * len(data) * views
    others = set(cam.poolings) - {cam.pooling}
    total += len(others) * cam.training.epochs * speed.train * train * (1 - 1 / max(2, folds))
    search = crop.search
    zoom = search.zoom_steps(crop.zoom) if crop.zoom else []
    tried = sum(len(values) for _, values in [*search.first_steps(), *zoom, *search.last_steps()])
    total += speed.probe * min(crop.search.pictures, train + val) * tried
    if crop.zoom:
        total += (speed.cached + _FORWARD * speed.train) * len(data)
    return total + speed.read * len(data)


def _items(config: Config, data: TaskData) -> int:
    """Count the cached feature maps of one stage."""
    plans = config.plans(data.task)
    train, val = (len(data.rows(split, labelled=True)) for split in ("train", "val"))
    return max((train + val) * len(p.test.unit()) + train * p.views for p in (plans[0], plans[2]))


def _kept(config: Config, data: TaskData, speed: _Speed) -> float:
    """Add up weights (of each network, and of the last two again as ONNX) and crops."""
    sample = data.paths[:: max(1, len(data) // 100)]
    images = float(np.mean([os.stat(path).st_size for path in sample])) * len(data)
    return speed.weights_bytes * (4 + _folds(config, data)) + images
