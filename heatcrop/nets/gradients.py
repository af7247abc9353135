"""Class maps by a backward pass: Grad-CAM and LayerCAM, at any trained block.

Class activation maps need a linear layer on pooled features, and are the last map's. A gradient tells
what any map's positions do for a class, whatever lies behind it: so an earlier and finer map can be
asked. Both methods differ in one thing, how gradients weigh the map's channels.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from heatcrop.errors import EngineError
from heatcrop.nets.classifier import class_logits
from heatcrop.nets.engine import mxnet
from heatcrop.nets.inference import Runner

_ITEMS = 64
"""Pictures times classes that go back at once."""


@dataclasses.dataclass(frozen=True)
class MapPlan:
    """How class maps are made.

    Attributes
    ----------
    method : {'cam', 'grad_cam', 'layer_cam'}
        ``cam`` comes with the logits in one forward pass. ``grad_cam`` weighs each channel by its mean
        gradient (Selvaraju et al., "Grad-CAM", ICCV 2017, eq. 1 and 2), ``layer_cam`` each position of each
        channel by its positive gradient (Jiang et al., "LayerCAM", IEEE TIP 2021, eq. 5 and 6).
    layer : int
        Which map is asked, counted in blocks before the last one; 0 is the last map, as CAM's.
    """

    method: Literal["cam", "grad_cam", "layer_cam"] = "cam"
    layer: Annotated[int, Field(ge=0, le=10_000)] = 0

    @property
    def by_gradient(self) -> bool:
        """Whether a backward pass is needed, which ONNX Runtime does not have."""
        return self.method != "cam"

    def check(self, trained_blocks: int) -> None:
        """Refuse a layer that the trained part of a network does not have.

        Raises
        ------
        EngineError
        """
        if self.layer > trained_blocks:
            raise EngineError(
                f"heatmap.layer is {self.layer}, but only the last {trained_blocks} blocks are trained "
                f"and can be asked; lower it, or lower network.frozen_blocks"
            )


def gradient_runner(net: Any, plan: MapPlan, gpu: int | None = None) -> Runner:
    """Run a classifier on MXNet for its logits (N, C) and its class maps (N, C, h, w).

    The maps are those of the papers without their last ReLU, since the classes' maps are compared with
    one another first, and multiplied by the number of positions, which makes Grad-CAM's on the last map
    the class activation maps themselves (Selvaraju et al., section 3.1).

    Parameters
    ----------
    net : HybridBlock
        As :func:`heatcrop.nets.classifier.build_classifier` gives it, trained.
    plan : MapPlan
    gpu : int or None
        Which GPU, or the CPU.
    """
    mx = mxnet()
    context = mx.cpu() if gpu is None else mx.gpu(gpu)
    net.collect_params().reset_ctx(context)
    net.hybridize(False)  # its blocks are called one by one
    blocks = list(net.blocks._children.values())
    plan.check(len(blocks))
    cut = len(blocks) - plan.layer
    alone = threading.Lock()  # a block is not to be entered by two threads at once

    def pass_through(some: list[Any], x: Any) -> Any:
        for block in some:
            x = block(x)
        return x

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked = pass_through(blocks[:cut], mx.nd.array(x, ctx=context, dtype="float32"))  # (n, F, h, w)
        weight, bias = net.weight.data(context), net.bias.data(context)
        n_classes = weight.shape[0]
        # Each picture once a class: one backward pass from all of their logits.
        tiled = mx.nd.repeat(asked, n_classes, axis=0)  # (n * C, F, h, w)
        tiled.attach_grad()
        classes = mx.nd.tile(mx.nd.arange(n_classes, ctx=context), len(x))
        with mx.autograd.record(train_mode=False):
            logits = class_logits(mx.nd, pass_through(blocks[cut:], tiled), weight, bias, n_classes)
            own = mx.nd.pick(logits, classes)
        own.backward()
        gradient = tiled.grad
        if plan.method == "grad_cam":
            weighed = gradient.sum(axis=(2, 3), keepdims=True)
        else:
            weighed = mx.nd.relu(gradient) * (gradient.shape[2] * gradient.shape[3])
        maps = mx.nd.broadcast_mul(tiled, weighed).sum(axis=1)
        maps = maps.reshape((len(x), n_classes, *maps.shape[1:]))
        return logits[::n_classes].asnumpy(), maps.asnumpy()

    def in_parts(x: np.ndarray) -> tuple[np.ndarray, ...]:
        step = max(1, _ITEMS // net.weight.shape[0])
        with alone:
            parts = [run(x[i : i + step]) for i in range(0, len(x), step)]
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    return in_parts
