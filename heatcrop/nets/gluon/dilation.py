"""A last feature map of twice the resolution from the same weights: dilation replaces the last stride.

Source: Yu, Koltun and Funkhouser, "Dilated Residual Networks", CVPR 2017. Where the last stage would halve
its input, it keeps the size, and every later kernel reaches twice as far. Each position of the old map is
found unchanged at every second position of the new one. (Squeeze and excitation takes its mean over the
new positions too, so its gates differ a little.)
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from heatcrop.errors import EngineError
from heatcrop.nets.gluon.engine import mxnet
from heatcrop.nets.gluon.feature_blocks import output_shape


def _layers(block: Any, kinds: tuple[type, ...]) -> Iterator[Any]:
    """Yield a block's layers of some kinds, in order of use."""
    if isinstance(block, kinds):
        yield block
    for child in block._children.values():
        yield from _layers(child, kinds)


def _stride(layer: Any) -> int:
    return int(max(layer._kwargs["stride"]))


def dilate_last_stage(blocks: list[Any], name: str) -> None:
    """Replace the last stride of a backbone's blocks by dilation, in place.

    EngineError, with the backbone's name, where anything but one convolution halves its last map.
    """
    mx = mxnet()
    convolutions, pools = (mx.gluon.nn.Conv2D,), (mx.gluon.nn.MaxPool2D, mx.gluon.nn.AvgPool2D)
    strided = [i for i, b in enumerate(blocks) if any(_stride(conv) > 1 for conv in _layers(b, convolutions))]
    # Pooling that halves a map beside or after the last such convolution would have to be replaced too.
    halving = [p for i in strided[-1:] for b in blocks[i:] for p in _layers(b, pools) if _stride(p) > 1]
    refusal = EngineError(
        f"{name} cannot be dilated: its last stage halves the map by more than a convolution; "
        "set network.dilated to false or raise network.input_px"
    )
    if not strided or halving:
        raise refusal
    after = False
    for block in blocks[strided[-1] :]:
        for conv in _layers(block, convolutions):
            settings = conv._kwargs
            if max(settings["stride"]) > 1:
                settings["stride"] = (1, 1)
                after = True
            elif after and max(settings["kernel"]) > 1:
                settings["dilate"] = (2, 2)
                settings["pad"] = tuple(2 * pad for pad in settings["pad"])
    try:
        # What a block does without a layer, such as pooling in a call, shows in maps of unequal sizes.
        with contextlib.redirect_stdout(io.StringIO()):  # MXNet prints the arguments that it refuses
            output_shape(blocks, (3, 224, 224))
    except mx.MXNetError:
        raise refusal from None
