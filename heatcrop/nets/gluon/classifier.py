"""The classifier of :mod:`heatcrop.nets.classifier` in MXNet."""

from __future__ import annotations

import functools
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.nets.classifier import OUTPUTS, Classifier, NetworkPlan, Shape, TrainingEngine, Trunk
from heatcrop.nets.devices import Devices
from heatcrop.nets.gluon.blocks import build_blocks
from heatcrop.nets.gluon.dilation import dilate_last_stage
from heatcrop.nets.gluon.engine import chain, import_for_cores, in_one_thread, mixed_block, mxnet
from heatcrop.nets.gluon.feature_blocks import output_shape
from heatcrop.nets.gluon.gradients import gradient_runner
from heatcrop.nets.gluon.onnx_export import export_onnx
from heatcrop.nets.gluon.updater import MxnetUpdater
from heatcrop.nets.inference import CPU_BATCH, Runner, in_parts
from heatcrop.nets.maps import MapPlan
from heatcrop.nets.updater import Optimiser, Updater

# Operators whose output replaces their input in memory: the backward pass does not read that input.
_IN_PLACE = {"Activation", "relu", "Flatten", "Reshape", "elemwise_add", "_plus", "broadcast_add"}


class MxnetEngine(TrainingEngine):
    """Builds networks of Gluon blocks."""

    def version(self) -> str:
        return f"MXNet {mxnet().__version__}"

    def use_threads(self, threads: int) -> None:
        import_for_cores(min(threads, os.cpu_count() or 1))

    def trunk(self, plan: NetworkPlan, image_shape: Shape, seed: int) -> Trunk:
        return MxnetTrunk(chain(*build_part(plan, seed, plan.parts[0])), image_shape)

    def classifier(
        self, plan: NetworkPlan, input_shape: Shape, n_classes: int, pooling: float, seed: int
    ) -> Classifier:
        blocks = build_part(plan, seed, plan.parts[1])
        net = build_classifier(blocks, input_shape, n_classes, plan.dropout, seed, pooling)
        return MxnetClassifier(net, input_shape)


class MxnetTrunk(Trunk):
    """Gluon blocks whose weights stay."""

    @property
    def output_shape(self) -> Shape:
        return output_shape(self.net, self.image_shape)

    def export(self, path: Path) -> None:
        export_onnx(self.net, self.image_shape, path, ("features",))

    def runner(self, devices: Devices) -> Runner:
        return mxnet_runner(self.net, devices.training_gpu, devices.amp)


class MxnetClassifier(Classifier):
    """A Gluon block, see :func:`build_classifier`."""

    def arrays(self) -> dict[str, np.ndarray]:
        parameters = self.net._collect_params_with_prefix()
        return {name: p.list_data()[0].asnumpy() for name, p in parameters.items()}

    def set_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        for name, parameter in self.net._collect_params_with_prefix().items():
            parameter.set_data(mxnet().nd.array(arrays[name], dtype=arrays[name].dtype))

    def export(self, path: Path) -> None:
        export_onnx(self._with_maps(), self.input_shape, path, OUTPUTS)

    def runner(self, devices: Devices, maps: MapPlan) -> Runner:
        if maps.by_gradient:
            return gradient_runner(self.net, maps, devices.training_gpu)
        return mxnet_runner(self._with_maps(), devices.training_gpu, devices.amp)

    def without_linear(self) -> MxnetTrunk:
        return MxnetTrunk(self.net.blocks, self.input_shape)

    def updater(self, optimiser: Optimiser, devices: Devices) -> Updater:
        contexts = [mxnet().gpu(card.number) for card in devices.training]
        return MxnetUpdater(self.net, optimiser, contexts, devices.amp)

    def activation_numbers(self) -> int:
        symbol = self.net(mxnet().sym.var("data"))
        operators = {node["name"]: node["op"] for node in json.loads(symbol.tojson())["nodes"]}
        internals = symbol.get_internals()
        _, shapes, _ = internals.infer_shape(data=(1, *self.input_shape))
        total = math.prod(self.input_shape)
        for name, shape in zip(internals.list_outputs(), shapes, strict=True):
            operator = operators.get(name.removesuffix("_output"), "null")
            if operator != "null" and operator not in _IN_PLACE:
                total += math.prod(shape)
        return total

    def _with_maps(self) -> Any:
        self.net.with_maps = True
        self.net.hybridize(False)  # forget the graph of training, which has no maps
        return self.net


def mxnet_runner(block: Any, gpu: int | None = None, amp: bool = False) -> Runner:
    """Run a block on MXNet, on the GPU of that number or on the CPU, in mixed precision if `amp`."""
    mx = mxnet()
    context = mx.cpu() if gpu is None else mx.gpu(gpu)
    block.collect_params().reset_ctx(context)
    block = mixed_block(block) if amp else block
    block.hybridize(static_alloc=True)

    def run(x: np.ndarray) -> tuple[np.ndarray, ...]:
        out = block(mx.nd.array(x, ctx=context, dtype="float32"))
        return tuple(o.asnumpy() for o in out) if isinstance(out, (tuple, list)) else (out.asnumpy(),)

    return in_one_thread(in_parts(run, CPU_BATCH) if gpu is None else run)


@functools.cache
def _classifier_class() -> type:
    mx = mxnet()

    class ClassifierNet(mx.gluon.nn.HybridBlock):
        """Blocks, then logits; with ``with_maps`` also the class maps, whose means they are.

        The mean is that of all positions or, with `pooling` below 1, of each class's highest ones.
        """

        def __init__(
            self,
            blocks: list[Any],
            n_features: int,
            n_classes: int,
            n_positions: int,
            dropout: float,
            pooling: float,
        ) -> None:
            super().__init__(prefix="classifier0_")
            self.with_maps = False
            self.n_positions, self.dropout, self.pooling = n_positions, dropout, pooling
            self.blocks = chain(*blocks)
            with self.name_scope():
                self.weight = self.params.get(
                    "weight", shape=(n_classes, n_features), init=mx.init.Normal(0.01)
                )
                self.bias = self.params.get("bias", shape=(n_classes,), init="zeros")

        def head(self, F: Any, features: Any, weight: Any, bias: Any) -> Any:
            """Pool features (N, F, h, w) and weigh them into logits (N, C)."""
            if self.pooling < 1:
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
            if self.pooling < 1:
                flat = F.reshape(maps, shape=(0, 0, -1))  # (N, C, h * w)
                n_highest = max(1, round(self.pooling * self.n_positions))
                highest = F.topk(flat, axis=2, k=n_highest, ret_typ="value")
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


def build_part(plan: NetworkPlan, seed: int, part: slice) -> list[Any]:
    """Build a part of the planned backbone's blocks."""
    with _fresh_names():
        if not plan.dilated:
            return build_blocks(plan.backbone, plan.weights, seed, part)
        blocks = build_blocks(plan.backbone, plan.weights, seed)
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
    with _fresh_names():
        net = _classifier_class()(blocks, n_features, n_classes, height * width, dropout, pooling)
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
