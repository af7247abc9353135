"""Backbones: a name, how its input is prepared, and how to get its blocks with weights.

A backbone is handed out as a flat list of blocks that ends before pooling. Whatever the program
does with it (freeze the first k blocks, train the rest, read the last feature map) it does with
that list, so a new backbone is one entry in :data:`BACKBONES` and one row in its test.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from learning.engine import EngineError, gluoncv_net, mxnet
from learning.lite0 import lite0_blocks, load_lite0
from learning.torch_weights import WeightsError

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Backbone:
    """How one network wants its input and where its blocks come from.

    Attributes
    ----------
    name : str
        As the configuration names it; for GluonCV networks also the model zoo's name.
    mean, std : tuple of 3 floats
        Of RGB values in 0..1; the network sees ``(x / 255 - mean) / std``.
    multiple_of : int
        The input side must be a multiple of this.
    source : str
        ``lite0`` or ``gluoncv``.
    """

    name: str
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    multiple_of: int = 32
    source: str = "gluoncv"


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone("efficientnet_lite0", (0.498,) * 3, (0.502,) * 3, source="lite0"),
        Backbone("resnet18_v2"),
        Backbone("resnet34_v2"),
        Backbone("resnet50_v2"),
        Backbone("resnet101_v2"),
        Backbone("resnet152_v2"),
        Backbone("se_resnet50_v1"),
        Backbone("densenet121"),
        Backbone("mobilenet1.0"),
        Backbone("mobilenet0.25"),
    )
}


def backbone(name: str) -> Backbone:
    """Look a backbone up by name.

    Raises
    ------
    EngineError
        Listing the names there are.
    """
    try:
        return BACKBONES[name]
    except KeyError:
        raise EngineError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)}") from None


def _children(features: Any) -> list[Any]:
    """List a model zoo network's feature blocks up to, and without, the final pooling."""
    nn = mxnet().gluon.nn
    ends = (nn.GlobalAvgPool2D, nn.Flatten, nn.Dropout, nn.AvgPool2D)
    blocks = list(features._children.values())
    while blocks and isinstance(blocks[-1], ends):
        blocks.pop()
    flat: list[Any] = []
    for block in blocks:
        # A stage is a sequence of residual units; each unit is a place where freezing may end.
        is_stage = type(block) is nn.HybridSequential
        flat.extend(block._children.values() if is_stage else [block])
    return flat


def build_blocks(name: str, weights: str = "imagenet", seed: int = 0) -> list[Any]:
    """Build a backbone's blocks with their weights.

    Parameters
    ----------
    name : str
        A key of :data:`BACKBONES`.
    weights : str
        ``imagenet`` (the published weights), ``none`` (random, from `seed`), or the path of a
        ``.params`` file of the whole model zoo network (``.pth`` for efficientnet_lite0).
    seed : int
        For random weights.

    Returns
    -------
    list of HybridBlock
        Initialised, on the CPU, ending before pooling.

    Raises
    ------
    EngineError, WeightsError
        One line that says what to do.
    """
    spec, mx = backbone(name), mxnet()
    mx.random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  MXNet's initializers draw from numpy's global state
    initializer = mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)
    path = None if weights in ("imagenet", "none") else Path(weights)
    if path is not None and not path.is_file():
        raise WeightsError(f"{path}: no such weight file; give imagenet, none or an existing file")
    if spec.source == "lite0":
        blocks = lite0_blocks()
        for block in blocks:
            block.initialize(initializer)
        if weights != "none":
            load_lite0(blocks, path)
        return blocks
    if weights == "imagenet":
        try:
            net = gluoncv_net(name, pretrained=True)
        except EngineError:
            raise
        except Exception as error:  # the hub's client raises whatever its transport raises
            cause = f"{type(error).__name__}: {error}".splitlines()[0][:160]
            raise WeightsError(
                f"ImageNet weights of {name} could not be fetched ({cause}). On a machine with a network, "
                f"run once so that they lie in ~/.mxnet/models; or give a local file "
                f"(--set network.weights=FILE.params), or --set network.weights=none"
            ) from error
    else:
        net = gluoncv_net(name)
        net.initialize(initializer)
        if path is not None:
            try:
                net.load_parameters(str(path))
            except (mx.MXNetError, AssertionError, ValueError) as error:
                raise WeightsError(
                    f"{path}: does not fit {name}: {str(error).splitlines()[0][:200]}"
                ) from error
    blocks = _children(net.features)
    # Model zoo layers learn their input channels from the first picture they see: show them one.
    x = mx.nd.zeros((1, 3, 64, 64))
    for block in blocks:
        x = block(x)
    return blocks
