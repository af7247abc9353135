"""Estimate the cost of a run: measure a few images on the real networks and extrapolate."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from heatcrop.cli.config import Config
from heatcrop.cli.runner import network_context
from heatcrop.cli.startup import parallel_jobs
from heatcrop.data.dataset import TaskData
from heatcrop.data.images import encode_jpeg, read_image
from heatcrop.runs.folder import STAGES, RunFolder
from heatcrop.timing import Spent, now
from heatcrop.training.batches import Images
from heatcrop.training.fit import fit
from heatcrop.training.inputs import CachedInputs, Inputs, LiveInputs
from heatcrop.training.probe import box_features
from stage2_crop.plan import CropPlan

_SAMPLE = 16
_FORWARD = 1 / 3
"""Share of a training step, which also goes backward for weights and for inputs."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """The estimated cost of a run on this machine."""

    stages: dict[str, Spent]
    """By stage, without rendering and report; what passes with `jobs` at once."""
    jobs: int
    """Tasks at once, or networks where the tasks share them."""
    kept_bytes: float
    """What stays in the run folder."""
    cache_bytes: float
    """The most that is there in addition, during the run."""
    unit: str = "task"
    """What `jobs` counts: ``task`` or ``network``."""

    @property
    def total(self) -> Spent:
        """Of all stages."""
        return sum(self.stages.values(), Spent())


@dataclasses.dataclass(frozen=True)
class _Speed:
    """Time per image, and bytes, measured on one task's images."""

    read: Spent
    cached: Spent
    train: Spent
    probe: Spent
    weights_bytes: float
    cached_bytes: float


def expected_cost(config: Config, tasks: dict[str, TaskData]) -> Cost:
    """Measure the speed on a few images of the largest task and add up the work of all tasks.

    EngineError or WeightsError where the networks cannot be built on this machine.
    """
    jobs = min(parallel_jobs(config, len(tasks)), len(tasks))
    measured = max(tasks.values(), key=len)
    speed = _measure(config.changed("runtime", threads=1) if jobs > 1 else config, measured)
    spent = [_by_stage(config, data, speed) for data in tasks.values()]
    kept = sum(_kept(config, data, speed) for data in tasks.values())
    cached = sorted((_items(config, data) * speed.cached_bytes for data in tasks.values()), reverse=True)
    if config.network.shared_trunk:
        # The networks of the folds are trained side by side, and caches are those of all tasks.
        folds = _folds(config, measured)
        jobs = min(parallel_jobs(config, len(tasks)), 1 + folds)
        kept -= (len(tasks) - 1) * speed.weights_bytes * (4 + folds)
        return Cost(_at_once(spent, jobs), jobs, kept, sum(cached), "network")
    # Parallel tasks take at least as long as the longest one.
    longest = max(sum(stages.values(), Spent()).wall for stages in spent)
    return Cost(_at_once(spent, jobs, longest), jobs, kept, sum(cached[:jobs]))


def _at_once(spent: list[dict[str, Spent]], jobs: int, least: float = 0.0) -> dict[str, Spent]:
    """Add up tasks that run some at once, in at least so many seconds altogether."""
    stages = {stage: sum((one[stage] for one in spent), Spent()) for stage in STAGES}
    alone = sum(stages.values(), Spent()).wall
    share = max(1 / jobs, least / alone) if alone else 1.0
    return {stage: Spent(share * one.wall, one.cpu) for stage, one in stages.items()}


def _timed(work: Callable[[], object]) -> Spent:
    began = now()
    work()
    return now() - began


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
        read = _timed(lambda: [encode_jpeg(read_image(path), crop.quality) for path in paths])
        cached, cached_bytes, cache = Spent(), 0.0, Path(folder) / "cache"
        live = LiveInputs(
            Images(paths), context.form, cam.test, lambda i: cam.augment, context.seed, context.open_trunk
        )
        inputs: Inputs = live
        shape = live.shape  # opens the trunk, and runs it once
        if live.trunk is not None:
            inputs = features = CachedInputs(live, rows, rows, cam.views, cache)
            items = n * (live.n_views + cam.views)
            cached = 1 / items * _timed(lambda: features.compute(0))
            cached_bytes = sum(path.stat().st_size for path in cache.rglob("*.npy")) / items
        classifier = context.classifier(shape, len(data.task.classes))
        # Two epochs, of which the first prepares.
        batch = min(cam.training.batch_size, n)
        plan = dataclasses.replace(cam.training, epochs=2, average=0, batch_size=batch)
        letters = np.zeros((n, len(data.task.classes)), np.int8)
        letters[:, 0] = 2
        soft = (letters == 2).astype(np.float32)
        ends: list[Spent] = []
        fit(
            classifier,
            inputs,
            soft,
            letters,
            rows,
            rows[:0],
            plan,
            0,
            "measured",
            lambda _: ends.append(now()),
            devices=context.devices,
        )
        trained = ends[1] - ends[0]
        weights = Path(folder) / "weights.params"
        classifier.save(weights)
        probe = Spent()
        if crop.search.pictures:
            backbone = context.open_backbone(Path(folder) / "probe")
            boxes = [[(0, 0, int(w), int(h))] * 2 for w, h in data.sizes[some]]
            probe = 1 / (2 * n) * _timed(lambda: box_features(*backbone, paths, boxes))
        kept = weights.stat().st_size
        return _Speed(1 / n * read, cached, 1 / n * trained, probe, kept, cached_bytes)


def _by_stage(config: Config, data: TaskData, speed: _Speed) -> dict[str, Spent]:
    """Add up one task's work, by stage."""
    cam, crop, finetune = config.plans(data.task)
    train, val = len(data.rows("train", labelled=True)), len(data.rows("val", labelled=True))
    spent, folds = dict.fromkeys(STAGES, Spent()), _folds(config, data)
    networks_of = (("cam", cam, folds), ("finetune", finetune, folds if finetune.cross_fit else 0))
    for stage, plan, networks in networks_of:
        # Each fold's network trains on all training images but the fold's.
        trained = train * (1 + max(0, networks - 1))
        views = len(plan.test.unit())
        steps = plan.training.epochs * (trained + _FORWARD * val * (1 + networks))
        checked = train if stage == "finetune" and networks else 0  # labels, by probes
        spent[stage] += (steps + _FORWARD * (len(data) + checked) * views) * speed.train
        spent[stage] += (len(data) * views + train * plan.views) * speed.cached
    others = set(cam.poolings) - {cam.pooling}
    spent["cam"] += len(others) * cam.training.epochs * train * (1 - 1 / max(2, folds)) * speed.train
    searched = min(crop.search.pictures, train + val) * _candidates(crop)
    spent["crop"] = searched * speed.probe + len(data) * speed.read
    if crop.zoom:
        spent["crop"] += len(data) * (speed.cached + _FORWARD * speed.train)
    return spent


def _candidates(plan: CropPlan) -> int:
    """Count the rules of a search whose crops need features: the start, and the other values of each setting.

    Thresholds are counted once: they are tried again only where the search decides against zooming.
    """
    search = plan.search
    parts = [dict(search.first_steps()), dict(search.last_steps(plan.zoom))]
    others = [len(values) - 1 for part in parts for setting, values in part.items() if setting != "enabled"]
    return sum(others) + (2 if plan.zoom else 1)  # zoomed heatmaps are another start


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
