"""The classifier that every stage trains: backbone blocks, pooling, and a linear layer that is its own CAM.

A class activation map (Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016,
eq. 2) applies the classifier's weights to the last feature map at each position. Averaged over positions
and shifted by the bias it *is* the logit (eq. 1), so one graph yields both; no hook, no backward pass.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import hashlib
import importlib
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from heatcrop.errors import EngineError, WeightsError
from heatcrop.nets.backbones import InputForm
from heatcrop.nets.devices import DeviceName, Devices, TrainerName, choose_trainer, find_devices
from heatcrop.nets.inference import Runner, onnx_version, open_network
from heatcrop.nets.maps import MapPlan
from heatcrop.nets.updater import Optimiser, Updater
from heatcrop.nets.weights.params_file import read_classifier, write_classifier

OUTPUTS = ("logits", "maps")
"""Names of an exported classifier's outputs."""
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class NetworkPlan:
    """Which network to build."""

    backbone: str
    """A key of :data:`heatcrop.nets.backbones.BACKBONES`."""
    weights: str = "imagenet"
    """See :func:`heatcrop.nets.gluon.blocks.build_blocks`."""
    frozen_blocks: int = 0
    """How many of the first blocks keep their weights, -1 for all. Their output is computed once an image."""
    dropout: float = 0.0
    """On the pooled features, 0..1."""
    dilated: bool = False
    """See :mod:`heatcrop.nets.gluon.dilation`; the last stage costs four times as much."""

    @property
    def parts(self) -> tuple[slice, slice]:
        """Which of the backbone's blocks keep their weights, and which are trained."""
        cut = self.frozen_blocks if self.frozen_blocks >= 0 else sys.maxsize
        return slice(cut), slice(cut, None)


class Trunk(abc.ABC):
    """The frozen part of a network, of the engine's kind: (B, 3, S, S) to its last feature map."""

    def __init__(self, net: Any, image_shape: Shape) -> None:
        self.net, self.image_shape = net, image_shape

    @property
    @abc.abstractmethod
    def output_shape(self) -> Shape:
        """(F, h, w); an image's shape where no block is frozen."""

    @abc.abstractmethod
    def export(self, path: Path) -> None:
        """Write an ONNX file."""

    @abc.abstractmethod
    def runner(self, devices: Devices) -> Runner:
        """Run it on the training engine."""


class Classifier(abc.ABC):
    """The trained part of a network, of the engine's kind: images or the trunk's maps to logits (B, C)."""

    digest_key: ClassVar[bytes] = b""
    """Makes the checksums of engines differ, and of versions whose checkpoints cannot be continued."""

    def __init__(self, net: Any, input_shape: Shape) -> None:
        self.net, self.input_shape = net, input_shape

    @property
    def pooling(self) -> float:
        """A logit is the mean of this share of its class map's positions, the highest ones."""
        return float(self.net.pooling)

    @property
    def n_blocks(self) -> int:
        """Of the backbone, without the linear layer."""
        return len(self.net.blocks)

    def load(self, path: Path) -> Classifier:
        """Load weights and the pooling that :meth:`save` has written, and return the classifier.

        WeightsError where the file is missing, damaged or of another network.
        """
        shapes = {name: array.shape for name, array in self.arrays().items()}
        arrays, self.net.pooling = read_classifier(path, shapes)
        self.set_arrays(arrays)
        return self

    def save(self, path: Path) -> None:
        """Write the weights and the pooling atomically."""
        write_classifier(path, self.arrays(), self.pooling)

    @abc.abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """Copy the weights and running statistics, by name, in the network's order."""

    @abc.abstractmethod
    def set_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Replace the weights and running statistics."""

    @abc.abstractmethod
    def export(self, path: Path) -> None:
        """Write an ONNX file that gives logits and class maps."""

    @abc.abstractmethod
    def runner(self, devices: Devices, maps: MapPlan) -> Runner:
        """Run it on the training engine: logits and class maps, made as planned."""

    @abc.abstractmethod
    def without_linear(self) -> Trunk:
        """Return the blocks without the linear layer; they share their weights with the classifier."""

    def digest(self) -> str:
        """Compute a checksum of the weights."""
        digest = hashlib.blake2b(self.digest_key, digest_size=16)
        for array in self.arrays().values():
            digest.update(array.tobytes())
        return digest.hexdigest()

    @abc.abstractmethod
    def updater(self, optimiser: Optimiser, devices: Devices) -> Updater:
        """Begin to train the classifier."""

    def weight_numbers(self) -> int:
        """Count the weights."""
        return sum(array.size for array in self.arrays().values())

    @abc.abstractmethod
    def activation_numbers(self) -> int:
        """Count the numbers of one row that stay in memory from the forward to the backward pass."""


class TrainingEngine(abc.ABC):
    """What builds and trains networks. All else runs their ONNX files."""

    @abc.abstractmethod
    def version(self) -> str:
        """Return the name and version of the library; EngineError where it cannot be imported."""

    @abc.abstractmethod
    def use_threads(self, threads: int) -> None:
        """Set how many cores of a CPU compute; with MXNet the first call of a process decides."""

    def processes(self) -> int:
        """Return how many processes of a launcher train one network together."""
        return 1

    def serve(self, devices: Devices) -> bool:
        """Join the launcher's other processes, and return whether this one has served the first.

        All but the first train with it until it ends. RunError where one of them dies.
        """
        return False

    @abc.abstractmethod
    def trunk(self, plan: NetworkPlan, image_shape: Shape, seed: int) -> Trunk:
        """Build the backbone's first blocks, whose weights stay."""

    @abc.abstractmethod
    def classifier(
        self, plan: NetworkPlan, input_shape: Shape, n_classes: int, pooling: float, seed: int
    ) -> Classifier:
        """Build the other blocks with their weights, and a fresh linear layer."""


_ENGINES = {
    "mxnet": ("heatcrop.nets.gluon.classifier", "MxnetEngine"),
    "torch": ("heatcrop.nets.pytorch.engine", "TorchEngine"),
}


@functools.cache
def training_engine(name: str) -> TrainingEngine:
    """Return an engine by name; it is imported when it is first needed."""
    module, found = _ENGINES[name]
    engine: TrainingEngine = getattr(importlib.import_module(module), found)()
    return engine


@dataclasses.dataclass(frozen=True)
class NetworkContext:
    """What all networks of a run share: their plan, their input, and the machine."""

    network: NetworkPlan
    form: InputForm
    trunk_folder: Path
    """For the exported trunk."""
    engine: str = "auto"
    """See :meth:`heatcrop.nets.devices.Devices.infer_by_trainer`."""
    seed: int = 0
    device: DeviceName = "auto"
    trainer: TrainerName = "auto"
    amp: bool = False
    """Mixed precision."""
    maps: MapPlan = MapPlan()
    """How the class maps of full images are made."""

    @property
    def devices(self) -> Devices:
        """Where to compute; EngineError where the required device does not work."""
        return find_devices(self.device, self.amp, self.trainer_name)

    @property
    def image_shape(self) -> Shape:
        """(3, S, S)."""
        return 3, self.form.side_px, self.form.side_px

    @property
    def settings(self) -> dict[str, Any]:
        """Return what decides the networks and their input, as plain values."""
        return dataclasses.asdict(self.network) | {"input_px": self.form.side_px, "fit": self.form.fit}

    @property
    def trainer_name(self) -> str:
        """``mxnet`` or ``torch``."""
        return choose_trainer(self.trainer, self.network.backbone, self.device)

    @property
    def training_engine(self) -> TrainingEngine:
        """What builds and trains the networks."""
        engine = training_engine(self.trainer_name)
        engine.use_threads(self.form.threads)
        return engine

    @property
    def inference_engine(self) -> str:
        """Name and version of what computes predictions; of both engines where it depends on the network."""
        by_trainer = self.devices.infer_by_trainer(self.engine)
        names = [self.training_engine.version()] if by_trainer or self.maps.by_gradient else []
        return " and ".join(names if by_trainer else [*names, onnx_version()])

    def feature_shape(self) -> Shape:
        """Infer what enters the trained part: (F, h, w) behind the trunk, an image's shape without one."""
        return self.training_engine.trunk(self.network, self.image_shape, self.seed).output_shape

    def open_trunk(self, export: bool = True) -> Runner | None:
        """Build and open the frozen blocks: (B, 3, S, S) to (B, F, h, w); None without any.

        With `export` they are written as an ONNX file also where the training engine runs them.
        """
        if self.network.frozen_blocks == 0:
            return None
        trunk = self.training_engine.trunk(self.network, self.image_shape, self.seed)
        return self._open_blocks(trunk, self.trunk_folder / "trunk.onnx", export)

    @property
    def probe_form(self) -> InputForm:
        """How :mod:`heatcrop.training.probe` frames boxes: at two thirds of the side, for speed."""
        kind, side = self.form.backbone, self.form.side_px
        smaller = round(side * 2 / 3 / kind.multiple_of) * kind.multiple_of
        return self.form if kind.misfit(smaller) else dataclasses.replace(self.form, side_px=smaller)

    def open_backbone(self, folder: Path) -> tuple[Runner, InputForm]:
        """Open the complete backbone with its published weights: (B, 3, S, S) to its last feature map.

        Also returns the form of its input: :attr:`probe_form`, or that of the context where the backbone
        cannot compute the smaller side.
        """
        plan = dataclasses.replace(self.network, frozen_blocks=-1)

        def trunk_for(form: InputForm) -> Trunk:
            return self.training_engine.trunk(plan, (3, form.side_px, form.side_px), self.seed)

        form = self.probe_form
        try:
            trunk = trunk_for(form)
        except EngineError:
            form = self.form
            trunk = trunk_for(form)
        return self._open_blocks(trunk, folder / "backbone.onnx"), form

    def open_features(self, weights: Path, exported: Path, input_shape: Shape, n_classes: int) -> Runner:
        """Open a trained classifier without its linear layer: to its last feature map, (B, F, h, w).

        `weights` as for :meth:`open_classifier`; `exported` is written where ONNX Runtime infers.
        """
        classifier = self._trained(weights, input_shape, n_classes)
        if not classifier.n_blocks:  # all are frozen: the input is the feature map
            return lambda x: (x,)
        return self._open_blocks(classifier.without_linear(), exported)

    def _open_blocks(self, trunk: Trunk, path: Path, export: bool = False) -> Runner:
        by_trainer = self.devices.infer_by_trainer(self.engine)
        if export or not by_trainer:
            trunk.export(path)
        return trunk.runner(self.devices) if by_trainer else open_network(path, self.devices.onnx_gpu)

    def classifier(self, input_shape: Shape, n_classes: int, pooling: float = 1.0) -> Classifier:
        """Build the trained part for images or the trunk's maps: published weights, a fresh linear layer."""
        return self.training_engine.classifier(self.network, input_shape, n_classes, pooling, self.seed)

    def _trained(self, weights: Path, input_shape: Shape, n_classes: int) -> Classifier:
        """Build the trained part with its own weights; the published ones may be out of reach by now."""
        try:
            classifier = self.classifier(input_shape, n_classes)
        except WeightsError:  # MXNet takes longer to draw random weights than to read published ones
            network = dataclasses.replace(self.network, weights="none")
            classifier = dataclasses.replace(self, network=network).classifier(input_shape, n_classes)
        return classifier.load(weights)

    def open_classifier(
        self, weights: Path, exported: Path, input_shape: Shape, n_classes: int, maps: bool = False
    ) -> Runner:
        """Open a trained classifier: logits (B, C) and class maps (B, C, h, w).

        The training engine reads `weights`, see :meth:`Classifier.save`; ONNX Runtime reads `exported`, which
        is made from `weights` where it is missing. With `maps` the class maps are made as the context's plan
        says, by a backward pass if need be; otherwise they are class activation maps.
        """
        plan = self.maps if maps else MapPlan()
        by_trainer = plan.by_gradient or self.devices.infer_by_trainer(self.engine)
        if by_trainer or not exported.is_file():
            classifier = self._trained(weights, input_shape, n_classes)
            if by_trainer:
                return classifier.runner(self.devices, plan)
            classifier.export(exported)
        return open_network(exported, self.devices.onnx_gpu)
