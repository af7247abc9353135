"""A trained pipeline for unlabelled images, opened from a run folder or an exported one."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from heatcrop.data.tasks import Task, resolve
from heatcrop.errors import PROGRAM, EngineError, RunError
from heatcrop.metrics.calibration import softmax
from heatcrop.metrics.fusion import fuse
from heatcrop.nets.backbones import InputForm
from heatcrop.nets.devices import DeviceName, find_devices
from heatcrop.nets.inference import Runner, onnx_version, open_network
from heatcrop.predict.description import Description, read_description
from heatcrop.predict.trained_run import TrainedRun, describe_run, open_networks
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.reading import missing
from heatcrop.training.batches import Images
from heatcrop.training.inputs import LiveInputs, predict
from heatcrop.training.views import TestViews
from stage1_cam.heatmaps import heatmaps_of
from stage2_crop.boxes import ZOOM_VIEWS, Heatmaps, find_crops, predicted_boxes, surroundings

# Imports nothing of MXNet, GluonCV or pandas: a test predicts where they are not installed.


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the method predicts of N images for one task."""

    full: np.ndarray
    crop: np.ndarray
    fused: np.ndarray
    """Probabilities of each branch, (N, C) float64."""
    boxes: np.ndarray
    """(N, 4) int."""
    fallbacks: list[str]
    heatmaps: Heatmaps


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A trained pipeline, ready to predict."""

    description: Description
    tasks: list[Task]
    """The requested ones."""
    form: InputForm
    trunk: Runner | None
    """The frozen part."""
    branches: Callable[[Task], tuple[Runner, Runner]]
    """Opens a task's networks of the full image and of the crop, or returns them if they are open."""
    engine: str
    """Name and version of what computes."""

    def fast(self) -> Pipeline:
        """Copy with one forward pass for each network, see :meth:`TaskDescription.fast`."""
        tasks = {name: one.fast() for name, one in self.description.tasks.items()}
        return dataclasses.replace(self, description=self.description.model_copy(update={"tasks": tasks}))

    def groups(self) -> list[list[Task]]:
        """Group the tasks; those of a group share one full-image network."""
        groups: dict[Any, list[Task]] = {}
        for task in self.tasks:
            one = self.description.tasks[task.name]
            alone = task.name if one.outputs is None else ""
            groups.setdefault((one.full.network, one.full.views, alone), []).append(task)
        return list(groups.values())

    def predict(self, tasks: Sequence[Task], paths: Sequence[str], sizes: np.ndarray) -> list[Prediction]:
        """Predict images, whose `sizes` (N, 2) are in pixels, for the tasks of a group."""
        methods = [self.description.tasks[task.name] for task in tasks]
        columns = [slice(*one.outputs) if one.outputs else slice(None) for one in methods]
        views = methods[0].full.views
        batches: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in tasks]
        for logits, maps in self._outputs(self.branches(tasks[0])[0], Images(paths), views):
            for one, own, found in zip(methods, columns, batches, strict=True):
                how = one.heatmap, one.invisible, one.trained
                heat = heatmaps_of(logits[:, own], maps[:, :, own], views.unit(), *how)
                found.append((logits[:, own], heat))
        predictions = []
        for task, one, own, found in zip(tasks, methods, columns, batches, strict=True):
            full, heatmaps = map(np.concatenate, zip(*found, strict=True))
            full = softmax(full.astype(np.float64))
            invisible = full.argmax(axis=1) == task.invisible
            known = Heatmaps(heatmaps, sizes, self.form.fit, invisible)
            if one.first_rule is not None:
                known = self._zoomed(known, task, paths, own)
            crops = find_crops(known, one.crop_rule)
            boxes = np.array([c.box for c in crops])
            cropped = Images(paths, predicted_boxes(boxes, sizes, one.crop_rule), None, sizes)
            parts = self._outputs(self.branches(task)[1], cropped, one.crop.views)
            crop = softmax(np.concatenate([logits[:, own] for logits, _ in parts]).astype(np.float64))
            fused, fallbacks = fuse(full, crop, one.fusion), [c.fallback for c in crops]
            predictions.append(Prediction(full, crop, fused, boxes, fallbacks, known))
        return predictions

    def _zoomed(self, heatmaps: Heatmaps, task: Task, paths: Sequence[str], own: slice) -> Heatmaps:
        """Add the heatmaps of the surroundings of first crops; `own` are the task's outputs."""
        one = self.description.tasks[task.name]
        assert one.first_rule is not None
        boxes = [crop.box for crop in find_crops(heatmaps, one.first_rule)]
        regions = surroundings(boxes, heatmaps.sizes, one.crop_rule.zoom)
        images, how = Images(paths, regions[:, None], None, heatmaps.sizes), (one.heatmap, one.invisible)
        zoomed = [
            heatmaps_of(logits[:, own], maps[:, :, own], ZOOM_VIEWS.unit(), *how, one.trained)
            for logits, maps in self._outputs(self.branches(task)[0], images, ZOOM_VIEWS)
        ]
        return dataclasses.replace(heatmaps, zoomed=np.concatenate(zoomed), regions=regions)

    def _outputs(
        self, network: Runner, images: Images, views: TestViews
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield a network's logits (B, O) and maps (B, T, O, h, w)."""
        inputs = LiveInputs(images, self.form, views, open_trunk=lambda: self.trunk)
        for logits, maps, _ in predict(network, inputs, np.arange(len(images))):
            yield logits, maps


def open_pipeline(
    folder: RunFolder,
    wanted: Sequence[str],
    engine: str,
    device: DeviceName = "auto",
    read_run: Callable[[], TrainedRun] | None = None,
) -> Pipeline:
    """Open a finished run folder, or an exported one, for the `wanted` tasks or all that are finished.

    The engine ``onnx`` takes the files that ONNX Runtime reads and nothing else. ``mxnet`` builds the
    networks from a run's weights, with what trained them. ``auto`` does so where that finds a GPU, and takes
    ONNX Runtime elsewhere. `read_run` reads the run's configuration; it is needed for the weights and for a
    run without a description, as an interrupted one and one whose heatmaps need a backward pass.
    RunError or DataError where the folder holds no finished pipeline, no such task, or not what the engine
    needs.
    """
    exported = folder.description.is_file() and not folder.config.is_file()
    if not exported and not folder.config.is_file():
        raise RunError(
            f"{folder.path}: is not a run folder (no config.yaml) and not an exported one (no "
            f"{folder.description.name}); give --run the folder of a finished run"
        )
    if exported and engine == "mxnet":
        raise RunError(
            f"{folder.path}: is an exported folder, whose networks only ONNX Runtime reads; "
            "give --run the run folder itself, or --engine onnx"
        )
    trainer = _has_trainer(device)
    only_onnx = exported or engine == "onnx" or (engine == "auto" and not trainer)
    if only_onnx and folder.description.is_file():
        description = read_description(folder.description)
        form = description.form(threads=min(8, os.cpu_count() or 1))
        return open_onnx(description, form, wanted, find_devices(device).onnx_gpu, exported)
    installed = any(importlib.util.find_spec(name) for name in ("mxnet", "torch"))
    if read_run is None or (only_onnx and not installed):
        raise RunError(
            f"{folder.description}: is missing, as in an interrupted run; finish the run where it was begun, "
            f"or export it there: {PROGRAM} export --run {folder.path}"
        )
    run = read_run()
    maps = run.context.maps
    if engine == "onnx" and maps.by_gradient:
        raise RunError(
            f"{folder.path}: its heatmaps ({maps.method}) need a backward pass, which ONNX Runtime "
            "does not have; predict with --engine auto or mxnet"
        )
    description = describe_run(run, run.choose(wanted))
    by_trainer = maps.by_gradient or _infers_by_trainer(run, engine)
    if engine == "onnx" or (not by_trainer and all(path.is_file() for path in description.networks())):
        return open_onnx(description, run.context.form, wanted, find_devices(device).onnx_gpu, exported)
    engine = run.context.inference_engine
    return Pipeline(description, _choose(description, wanted), run.context.form, *open_networks(run), engine)


def _has_trainer(device: DeviceName) -> bool:
    """Return whether a training engine is installed that may predict: MXNet, or PyTorch with a GPU."""
    if importlib.util.find_spec("mxnet") is not None:
        return True
    if importlib.util.find_spec("torch") is None or device == "cpu":
        return False
    return sys.platform == "darwin" or find_devices().driver


def _infers_by_trainer(run: TrainedRun, engine: str) -> bool:
    if engine != "auto":
        return engine == "mxnet"
    try:
        return run.context.devices.infer_by_trainer(engine)
    except EngineError:  # what trained the run is not installed here
        return False


def _choose(description: Description, wanted: Sequence[str]) -> list[Task]:
    tasks = [description.task(name) for name in description.tasks]
    return list(dict.fromkeys(resolve(name, tasks) for name in wanted)) or tasks


def open_onnx(
    description: Description,
    form: InputForm,
    wanted: Sequence[str] = (),
    gpu: int | None = None,
    exported: bool = False,
) -> Pipeline:
    """Open the ONNX files that a description names; RunError where one is missing or damaged."""
    tasks = _choose(description, wanted)
    for task in tasks:
        one = description.tasks[task.name]
        for path in filter(None, (description.trunk, one.full.network, one.crop.network)):
            if not path.is_file():
                raise missing(path)
    remedy = "export the run again" if exported else ""
    # The last two stay open: tasks that share their networks follow one another.
    network = functools.lru_cache(maxsize=2)(lambda path: open_network(path, gpu, remedy))
    trunk = open_network(description.trunk, gpu, remedy) if description.trunk else None

    def branches(task: Task) -> tuple[Runner, Runner]:
        one = description.tasks[task.name]
        return network(one.full.network), network(one.crop.network)

    return Pipeline(description, tasks, form, trunk, branches, onnx_version())
