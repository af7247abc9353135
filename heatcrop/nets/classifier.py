"""The classifier that every stage trains: backbone blocks, pooling, and a linear layer that is its own CAM.

A class activation map (Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016,
eq. 2) applies the classifier's weights to the last feature map at each position. Averaged over positions
and shifted by the bias it *is* the logit (eq. 1), so one graph yields both; no hook, no backward pass.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.errors import REMAKE, WeightsError
from heatcrop.files import atomic_path
from heatcrop.nets.backbones import InputForm, build_blocks
from heatcrop.nets.devices import DeviceName, Devices, find_devices
from heatcrop.nets.dilation import dilate_last_stage
from heatcrop.nets.engine import chain, mxnet
from heatcrop.nets.feature_blocks import output_shape
from heatcrop.nets.gradients import MapPlan, gradient_runner
from heatcrop.nets.inference import Runner, mxnet_runner, open_network
from heatcrop.nets.onnx_export import export_onnx

OUTPUTS = ("logits", "maps")
"""Names of an exported classifier's outputs."""
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class NetworkPlan:
    """Which network to build."""

    backbone: str
    """A key of :data:`heatcrop.nets.backbones.BACKBONES`."""
    weights: str = "imagenet"
    """See :func:`heatcrop.nets.backbones.build_blocks`."""
    frozen_blocks: int = 0
    """How many of the first blocks keep their weights, -1 for all. Their output is computed once an image."""
    dropout: float = 0.0
    """On the pooled features, 0..1."""
    dilated: bool = False
    """See :mod:`heatcrop.nets.dilation`; the last stage costs four times as much."""


@dataclasses.dataclass(frozen=True)
class NetworkContext:
    """What all networks of a run share: their plan, their input, and the machine."""

    network: NetworkPlan
    form: InputForm
    trunk_folder: Path
    """For the exported trunk."""
    engine: str = "auto"
    """See :meth:`heatcrop.nets.devices.Devices.infer_by_mxnet`."""
    seed: int = 0
    device: DeviceName = "auto"
    amp: bool = False
    """Mixed precision."""
    maps: MapPlan = MapPlan()
    """How the class maps of full images are made."""
    pooling: float = 1.0
    """See :class:`stage1_cam.plan.CamPlan`; a task's own, for both of its branches."""

    @property
    def devices(self) -> Devices:
        """Where to compute; EngineError where the required device does not work."""
        return find_devices(self.device, self.amp)

    @property
    def image_shape(self) -> Shape:
        """(3, S, S)."""
        return 3, self.form.side_px, self.form.side_px

    def feature_shape(self) -> Shape:
        """Infer what enters the trained part: (F, h, w) behind the trunk, an image's shape without one."""
        return output_shape(trunk_blocks(self.network, self.seed), self.image_shape)

    def open_trunk(self) -> Runner | None:
        """Build, export and open the frozen blocks: (B, 3, S, S) to (B, F, h, w); None without any."""
        if self.network.frozen_blocks == 0:
            return None
        return self._open_blocks(self.network, self.trunk_folder / "trunk.onnx", self.form.side_px)

    @property
    def probe_form(self) -> InputForm:
        """How :mod:`heatcrop.training.probe` frames boxes: at two thirds of the side, for speed."""
        kind, side = self.form.backbone, self.form.side_px
        smaller = round(side * 2 / 3 / kind.multiple_of) * kind.multiple_of
        return self.form if kind.misfit(smaller) else dataclasses.replace(self.form, side_px=smaller)

    def open_backbone(self, folder: Path) -> Runner:
        """Open the complete backbone with its published weights: (B, 3, S, S) to its last feature map.

        S is the side of :attr:`probe_form`.
        """
        plan = dataclasses.replace(self.network, frozen_blocks=-1)
        return self._open_blocks(plan, folder / "backbone.onnx", self.probe_form.side_px)

    def _open_blocks(self, plan: NetworkPlan, path: Path, side_px: int) -> Runner:
        block = chain(*trunk_blocks(plan, self.seed))
        export_onnx(block, (3, side_px, side_px), path, ("features",))
        if self.devices.infer_by_mxnet(self.engine):
            return mxnet_runner(block, self.devices.mxnet_gpu, self.devices.amp)
        return open_network(path, self.devices.onnx_gpu)

    def classifier(self, input_shape: Shape, n_classes: int) -> Classifier:
        """Build the trained part for images or the trunk's maps: published weights, a fresh linear layer."""
        blocks = trained_blocks(self.network, self.seed)
        net = build_classifier(blocks, input_shape, n_classes, self.network.dropout, self.seed, self.pooling)
        return Classifier(net, input_shape, self)

    def open_classifier(
        self, weights: Path, exported: Path, input_shape: Shape, n_classes: int, maps: bool = False
    ) -> Runner:
        """Open a trained classifier: logits (B, C) and class maps (B, C, h, w).

        MXNet reads `weights`, see :meth:`Classifier.save`; ONNX Runtime reads `exported`, which is made from
        `weights` where it is missing. With `maps` the class maps are made as the context's plan says, by a
        backward pass if need be; otherwise they are class activation maps.
        """
        by_gradient = maps and self.maps.by_gradient
        by_mxnet = by_gradient or self.devices.infer_by_mxnet(self.engine)
        if by_mxnet or not exported.is_file():
            classifier = self.classifier(input_shape, n_classes).load(weights)
            if by_mxnet:
                return classifier.runner(by_gradient)
            classifier.export(exported)
        return open_network(exported, self.devices.onnx_gpu)


class Classifier:
    """The trained part of a network; :func:`heatcrop.training.loop.train` trains its `net`."""

    def __init__(self, net: Any, input_shape: Shape, context: NetworkContext) -> None:
        self.net, self.input_shape, self._context = net, input_shape, context

    def load(self, path: Path) -> Classifier:
        """Load weights that :meth:`save` has written, and return the classifier.

        WeightsError where the file is missing, damaged or of another network.
        """
        mx = mxnet()
        try:
            self.net.load_parameters(str(path))
        except (mx.MXNetError, AssertionError, ValueError, OSError) as error:
            # MXNet's text begins with a traceback and ends with the cause.
            cause = str(error).strip().splitlines()[-1].removeprefix("MXNetError: ")[:200]
            raise WeightsError(f"{path}: weights do not fit this network ({cause}); {REMAKE}") from error
        return self

    def save(self, path: Path) -> None:
        """Write the weights atomically; OSError where the disk took a part only, which MXNet does not see."""
        mx = mxnet()
        parameters = self.net._collect_params_with_prefix()
        with atomic_path(path) as partial:
            try:
                self.net.save_parameters(str(partial))
                written = mx.nd.load(str(partial))
                complete = all(
                    np.array_equal(written[name].asnumpy(), p.list_data()[0].asnumpy(), equal_nan=True)
                    for name, p in parameters.items()
                )
            except (mx.MXNetError, KeyError):
                complete = False
            if not complete:
                raise OSError(errno.ENOSPC, "the weights could not be written completely", str(path))

    def export(self, path: Path) -> None:
        """Write an ONNX file that gives logits and class maps."""
        export_onnx(self._with_maps(), self.input_shape, path, OUTPUTS)

    def runner(self, by_gradient: bool = False) -> Runner:
        """Run on MXNet: logits and class maps, with `by_gradient` those of the context's `maps` plan."""
        devices = self._context.devices
        if by_gradient:
            return gradient_runner(self.net, self._context.maps, devices.mxnet_gpu)
        return mxnet_runner(self._with_maps(), devices.mxnet_gpu, devices.amp)

    def _with_maps(self) -> Any:
        self.net.with_maps = True
        self.net.hybridize(False)  # forget the graph of training, which has no maps
        return self.net


@functools.cache
def _classifier_class() -> type:
    mx = mxnet()

    class ClassifierNet(mx.gluon.nn.HybridBlock):
        """Blocks, then logits; with ``with_maps`` also the class maps, whose means they are.

        The mean is that of all positions or, with `top_k`, of each class's highest ones.
        """

        def __init__(
            self, blocks: list[Any], n_features: int, n_classes: int, dropout: float, top_k: int
        ) -> None:
            super().__init__(prefix="classifier0_")
            self.with_maps = False
            self.dropout, self.top_k = dropout, top_k
            self.blocks = chain(*blocks)
            with self.name_scope():
                self.weight = self.params.get(
                    "weight", shape=(n_classes, n_features), init=mx.init.Normal(0.01)
                )
                self.bias = self.params.get("bias", shape=(n_classes,), init="zeros")

        def head(self, F: Any, features: Any, weight: Any, bias: Any) -> Any:
            """Pool features (N, F, h, w) and weigh them into logits (N, C)."""
            if self.top_k:
                if self.dropout:  # of channels, as on pooled features
                    features = F.Dropout(features, p=self.dropout, axes=(2, 3))
                return self.logits_of(F, self.maps_of(F, features, weight), bias)
            pooled = F.Flatten(F.Pooling(features, global_pool=True, pool_type="avg", kernel=(1, 1)))
            if self.dropout:
                pooled = F.Dropout(pooled, p=self.dropout)  # (N, F)
            return F.FullyConnected(pooled, weight, bias, num_hidden=self.weight.shape[0])

        def maps_of(self, F: Any, features: Any, weight: Any) -> Any:
            """Weigh features (N, F, h, w) into class maps (N, C, h, w)."""
            kernel = F.expand_dims(F.expand_dims(weight, 2), 3)  # (C, F, 1, 1)
            return F.Convolution(
                features, kernel, kernel=(1, 1), num_filter=self.weight.shape[0], no_bias=True
            )

        def logits_of(self, F: Any, maps: Any, bias: Any) -> Any:
            """Average class maps over positions into logits (N, C)."""
            if self.top_k:
                flat = F.reshape(maps, shape=(0, 0, -1))  # (N, C, h * w)
                highest = F.topk(flat, axis=2, k=self.top_k, ret_typ="value")
                maps = F.expand_dims(highest, 3)  # (N, C, k, 1)
            mean = F.Flatten(F.Pooling(maps, global_pool=True, pool_type="avg", kernel=(1, 1)))
            return F.broadcast_add(mean, F.expand_dims(bias, 0))

        def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any) -> Any:
            features = self.blocks(x) if len(self.blocks) else x  # (N, F, h, w)
            if not self.with_maps:
                return self.head(F, features, weight, bias)
            maps = self.maps_of(F, features, weight)
            return self.logits_of(F, maps, bias), maps  # (N, C), (N, C, h, w)

    return ClassifierNet


def trunk_blocks(plan: NetworkPlan, seed: int) -> list[Any]:
    """Build the trunk: the backbone's first blocks, whose weights stay."""
    return _build_part(plan, seed, slice(plan.frozen_blocks if plan.frozen_blocks >= 0 else None))


def trained_blocks(plan: NetworkPlan, seed: int) -> list[Any]:
    """Build the backbone's blocks behind the trunk, none where all are frozen."""
    return _build_part(plan, seed, slice(plan.frozen_blocks, None) if plan.frozen_blocks >= 0 else slice(0))


def _build_part(plan: NetworkPlan, seed: int, part: slice) -> list[Any]:
    with _fresh_names():
        blocks = build_blocks(plan.backbone, plan.weights, seed, part)
    if plan.dilated:
        dilate_last_stage(blocks, plan.backbone)
    return blocks[part]


def build_classifier(
    blocks: list[Any], input_shape: Shape, n_classes: int, dropout: float, seed: int, pooling: float = 1.0
) -> Any:
    """Put a fresh linear layer behind initialised blocks; there are none where all are frozen.

    The result maps (N, c, h, w) to logits (N, C); with ``with_maps`` set also to class maps (N, C, h, w). A
    logit is the mean of the share `pooling` of its map's positions that are highest.
    """
    mx = mxnet()
    n_features, height, width = output_shape(blocks, input_shape)
    top_k = max(1, round(pooling * height * width)) if pooling < 1 else 0
    with _fresh_names():
        net = _classifier_class()(blocks, n_features, n_classes, dropout, top_k)
    mx.random.seed(seed)
    net.weight.initialize()
    net.bias.initialize()
    return net


def _fresh_names() -> Any:
    """Count the names of layers from 0 within a block.

    MXNet otherwise counts for as long as a process lives, and exported files hold the names: they would
    depend on which networks the process made before.
    """
    return mxnet().name.NameManager()
