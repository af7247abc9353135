"""A trained pipeline for pictures nobody has labelled: opened from a run folder or an exported one."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from heatcrop.data.tasks import Task, resolve
from heatcrop.errors import REMAKE, RunError
from heatcrop.metrics.fusion import Fusion, fuse
from heatcrop.nets.devices import Card, DeviceName, find_devices
from heatcrop.nets.inference import Runner, open_network, softmax, takes_mxnet
from heatcrop.predict.description import Described, read_description
from heatcrop.runs.folder import RunFolder
from heatcrop.training.batches import Images
from heatcrop.training.inputs import LiveInputs
from heatcrop.training.prediction import predict
from heatcrop.training.views import TestViews
from stage1_cam.heatmaps import predicted_heatmaps
from stage2_crop.boxes import find_crops

# Imports nothing of MXNet, GluonCV or pandas: a test predicts where they are not installed.


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the method says of some pictures for one task.

    Attributes
    ----------
    full, crop, fused : ndarray of float64, shape (N, C)
        Probabilities of each branch.
    boxes : ndarray of int, shape (N, 4)
    fallbacks : list of str
    heatmaps : ndarray of float32, shape (N, h, w)
    """

    full: np.ndarray
    crop: np.ndarray
    fused: np.ndarray
    boxes: np.ndarray
    fallbacks: list[str]
    heatmaps: np.ndarray


class Predictor:
    """The whole method for one task.

    Parameters
    ----------
    how : Described
    trunk : Runner or None
        The frozen part.
    full, cropped : Runner
        Networks of the whole picture and of the crop.
    """

    def __init__(self, how: Described, trunk: Runner | None, full: Runner, cropped: Runner) -> None:
        self._mine = slice(*how.outputs) if how.outputs else slice(None)
        self.task, self.rule, self.fit = how.task, how.rule, how.form.fit
        self.fusion: Fusion = how.fusion
        self._how, self._trunk, self._full, self._cropped = how, trunk, full, cropped

    def __call__(
        self, paths: Sequence[str], sizes: np.ndarray, looked: tuple[np.ndarray, np.ndarray] | None = None
    ) -> Answer:
        """Predict pictures.

        Parameters
        ----------
        paths : sequence of str
        sizes : ndarray of int, shape (N, 2)
            Width and height in pixels.
        looked : tuple of ndarray, optional
            What :func:`look_once` has found for this task.
        """
        rows, how = np.arange(len(paths)), self._how
        said, heat = looked or look_once([self], paths)[0]
        full = softmax(said.astype(np.float64))
        invisible = full.argmax(axis=1) == self.task.invisible
        crops = find_crops(heat, sizes, self.fit, self.rule, invisible)
        boxes = np.array([c.box for c in crops])
        inputs = self._inputs(Images(paths, boxes, None, sizes), how.crop_views)
        logits = [some[:, self._mine] for some, _, _ in predict(self._cropped, inputs, rows)]
        crop = softmax(np.concatenate(logits).astype(np.float64))
        return Answer(full, crop, fuse(full, crop, self.fusion), boxes, [c.fallback for c in crops], heat)

    def full_outputs(self, paths: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the full-image network's logits (B, O) and maps (B, T, O, h, w), of all its outputs."""
        inputs = self._inputs(Images(paths), self._how.full_views)
        for logits, maps, _ in predict(self._full, inputs, np.arange(len(paths))):
            yield logits, maps

    def heard(self, logits: np.ndarray, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """This task's logits (B, C), and the heatmap of the predicted class (B, h, w)."""
        mine, how = logits[:, self._mine], self._how
        return mine, predicted_heatmaps(mine, maps[:, :, self._mine], how.full_views.unit(), how.heatmap)

    def _inputs(self, images: Images, views: TestViews) -> LiveInputs:
        return LiveInputs(images, self._how.form, views, open_trunk=lambda: self._trunk)


def look_once(predictors: Sequence[Predictor], paths: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Logits (N, C) and heatmaps (N, h, w) for each of some tasks that share a full-image network.

    It runs once a picture, whatever the number of tasks.
    """
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in predictors]
    for logits, maps in predictors[0].full_outputs(paths):
        for predictor, parts in zip(predictors, found, strict=True):
            parts.append(predictor.heard(logits, maps))
    return [tuple(map(np.concatenate, zip(*parts, strict=True))) for parts in found]  # type: ignore[misc]


@dataclasses.dataclass(frozen=True)
class Opened:
    """A trained pipeline, ready to predict.

    Attributes
    ----------
    tasks : list of Task
        Those that were asked for.
    threads : int
        That read pictures.
    predictor : callable
        Opens one task's networks.
    groups : list of list of Task
        The same tasks; those of a group share one full-image network.
    """

    tasks: list[Task]
    threads: int
    predictor: Callable[[Task], Predictor]
    groups: list[list[Task]]


def open_pipeline(
    folder: RunFolder, wanted: Sequence[str], engine: str, device: DeviceName = "auto"
) -> Opened:
    """Open a finished run folder, or one that ``export`` has written.

    Parameters
    ----------
    wanted : sequence of str
        Task names; empty for all that are finished.
    engine : {'auto', 'onnx', 'mxnet'}
        ``onnx`` takes the files that ONNX Runtime reads and nothing else. ``mxnet`` builds the networks
        from a run's weights. ``auto`` takes MXNet where its build sees a GPU, else ONNX Runtime.
    device : {'auto', 'cpu', 'gpu'}
        Of this machine, whatever the run was trained on.

    Raises
    ------
    RunError, DataError
        When the folder holds no finished pipeline, no such task, or not what the engine needs.
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
    bare = importlib.util.find_spec("mxnet") is None
    if engine == "onnx" and not bare and not exported:
        _refuse_gradients(folder)
    devices = find_devices(device)
    if exported or engine == "onnx" or (engine == "auto" and bare):
        return _open_onnx(_chosen(_described(folder, bare), wanted), devices.inference, exported)
    from heatcrop.predict.mxnet_predict import MXNetNetworks

    networks = MXNetNetworks(folder, engine, device)
    described = _chosen(networks.described(wanted), wanted)
    files = [path for one in described for path in (one.trunk, one.full, one.crop) if path is not None]
    by_engine = takes_mxnet(engine, devices) or networks.by_gradient
    if not by_engine and all(path.is_file() for path in files):
        return _open_onnx(described, devices.inference, exported)
    return _opened(described, networks.trunk(), networks.pair)


def _refuse_gradients(folder: RunFolder) -> None:
    """Raise where a run's heatmaps are made by a backward pass."""
    from heatcrop.cli.config_file import read_config

    maps = read_config(folder.config).heatmap
    if maps.by_gradient:
        raise RunError(
            f"{folder.path}: its heatmaps ({maps.method}) need a backward pass, which ONNX Runtime "
            "has not; predict with --engine auto or mxnet"
        )


def _described(folder: RunFolder, bare: bool) -> list[Described]:
    """What the folder's own description says; a run that has none is asked for its configuration."""
    if folder.description.is_file():
        return read_description(folder.description)
    if bare:
        raise RunError(
            f"{folder.description}: is missing, as in a run that was broken off; finish the run where MXNet "
            f"is installed, or export it there: python pipeline.py export --run {folder.path}"
        )
    from heatcrop.predict.mxnet_predict import MXNetNetworks

    return MXNetNetworks(folder, "onnx").described(())


def _chosen(described: Sequence[Described], wanted: Sequence[str]) -> list[Described]:
    by_name = {one.task.name: one for one in described}
    names = [resolve(name, [one.task for one in described]).name for name in wanted]
    return [by_name[name] for name in dict.fromkeys(names or by_name)]


def _open_onnx(described: Sequence[Described], card: Card | None, exported: bool) -> Opened:
    for one in described:
        for path in (one.trunk, one.full, one.crop):
            if path is not None and not path.is_file():
                again = f"python pipeline.py run --task {one.task.short}"
                raise RunError(f"{path} is missing; run its stage again: {again}")
    trunk = described[0].trunk
    # The last two stay open: tasks that share their networks follow one another.
    remedy = "export the run again" if exported else REMAKE
    network = functools.lru_cache(maxsize=2)(lambda path: open_network(path, card, remedy))
    return _opened(
        described,
        open_network(trunk, card, remedy) if trunk else None,
        lambda one: (network(one.full), network(one.crop)),
    )


def _opened(
    described: Sequence[Described], trunk: Runner | None, pair: Callable[[Described], tuple[Runner, Runner]]
) -> Opened:
    by_task = {one.task: one for one in described}
    threads = described[0].form.threads
    groups: dict[Any, list[Task]] = {}
    for one in described:
        alone = one.task.name if one.outputs is None else ""
        groups.setdefault((one.full, one.full_views, alone), []).append(one.task)
    return Opened(
        list(by_task),
        threads,
        lambda task: Predictor(by_task[task], trunk, *pair(by_task[task])),
        list(groups.values()),
    )
