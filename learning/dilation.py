"""Twice as fine a last feature map from the same weights: stride traded for dilation in the last stage.

Source: Yu, Koltun and Funkhouser, "Dilated Residual Networks", CVPR 2017. Where the last stage would halve
its input, it keeps the size, and every later kernel reaches twice as far. Each position of the old
map is found unchanged at every second one of the new map; between them lie new ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from learning.engine import EngineError, mxnet


def _layers(block: Any, kinds: tuple[type, ...]) -> Iterator[Any]:
    """A block's layers of some kinds, in order of use."""
    if isinstance(block, kinds):
        yield block
    for child in block._children.values():
        yield from _layers(child, kinds)


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
        When the backbone halves its map by something else than a convolution.
    """
    nn = mxnet().gluon.nn
    convolutions, pools = (nn.Conv2D,), (nn.MaxPool2D, nn.AvgPool2D)
    strided = [
        i for i, block in enumerate(blocks)
        if any(max(conv._kwargs["stride"]) > 1 for conv in _layers(block, convolutions))
    ]  # fmt: skip
    if not strided or any(True for block in blocks[strided[-1] + 1 :] for _ in _layers(block, pools)):
        raise EngineError(
            f"{name} cannot be dilated: its last stage halves the map by pooling; "
            "set network.dilated to false or raise network.input_px"
        )
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
