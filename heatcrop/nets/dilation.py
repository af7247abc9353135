"""Twice as fine a last feature map from the same weights: stride traded for dilation in the last stage.

Source: Yu, Koltun and Funkhouser, "Dilated Residual Networks", CVPR 2017. Where the last stage would halve
its input, it keeps the size, and every later kernel reaches twice as far. Each position of the old
map is found unchanged at every second one of the new map; between them lie new ones. (Squeeze and
excitation takes its mean over those too, and so gates a little differently.)
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from heatcrop.errors import EngineError
from heatcrop.nets.engine import mxnet


def _layers(block: Any, kinds: tuple[type, ...]) -> Iterator[Any]:
    """A block's layers of some kinds, in order of use."""
    if isinstance(block, kinds):
        yield block
    for child in block._children.values():
        yield from _layers(child, kinds)


def _stride(layer: Any) -> int:
    return int(max(layer._kwargs["stride"]))


def dilate_last_stage(blocks: list[Any], name: str) -> None:
    """Trade the last stride of a backbone for dilation, in place.

    Parameters
    ----------
    blocks : list of HybridBlock
        A backbone's blocks, in order.
    name : str
        For the message.

    Raises
    ------
    EngineError
        When the backbone halves its map by something else than a convolution, or beside one.
    """
    nn = mxnet().gluon.nn
    convolutions, pools = (nn.Conv2D,), (nn.MaxPool2D, nn.AvgPool2D)
    strided = [
        i for i, block in enumerate(blocks) if any(_stride(conv) > 1 for conv in _layers(block, convolutions))
    ]
    # Pooling that halves a map beside or after the last such convolution would have to be traded too.
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
    # What a block does without a layer, such as pooling in a call, shows in maps that do not fit each other.
    if not _fits(blocks):
        raise refusal


def _fits(blocks: list[Any]) -> bool:
    """Whether the blocks' maps have sizes that go together."""
    mx = mxnet()
    x = mx.sym.var("data")
    for block in blocks:
        x = block(x)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # MXNet prints the arguments of what it refuses
            x.infer_shape(data=(1, 3, 224, 224))
    except mx.MXNetError:
        return False
    return True
