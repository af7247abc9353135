"""The backbones of the MXNet engine, as lists of Gluon blocks that end with the last feature map."""

from __future__ import annotations

from typing import Any

import numpy as np

from heatcrop.errors import EngineError, WeightsError
from heatcrop.nets.backbones import backbone
from heatcrop.nets.gluon.engine import gluoncv_net, mxnet
from heatcrop.nets.gluon.feature_blocks import feature_blocks
from heatcrop.nets.gluon.inceptionv4 import inception_v4
from heatcrop.nets.gluon.lite0 import lite0_blocks, load_lite0
from heatcrop.nets.weights.zoo_files import read_zoo_weights, weights_file


def build_blocks(name: str, weights: str = "imagenet", seed: int = 0, part: slice = slice(None)) -> list[Any]:
    """Build a part of a backbone's blocks with their weights: initialised, on the CPU, up to the last map.

    `weights` is ``imagenet`` (the published ones), ``none`` (random, from `seed`), or the path of a file of
    the complete model zoo network, see :func:`heatcrop.nets.weights.zoo_files.read_zoo_weights` (``.pth``
    or ``.safetensors`` for efficientnet_lite0). EngineError where there is no such backbone or it has no
    feature map, WeightsError where weights are missing or do not fit.
    """
    spec, mx = backbone(name), mxnet()
    mx.random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  MXNet's initializers draw from numpy's global state
    initializer = mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)
    if spec.source == "timm":
        raise EngineError(f"MXNet has no {name}; set runtime.trainer to torch")
    path = weights_file(weights)
    if spec.source == "lite0":
        if weights != "none":
            blocks = lite0_blocks(part)
            load_lite0(blocks, path, part)
            return blocks
        blocks = lite0_blocks()
        for block in blocks:
            block.initialize(initializer)
        return blocks[part]
    if spec.source == "inceptionv4" and weights == "imagenet":
        raise WeightsError(
            "no ImageNet weights of inceptionv4 are published for MXNet; give a file "
            "(--set network.weights=FILE.params), or --set network.weights=none"
        )
    net = inception_v4() if spec.source == "inceptionv4" else gluoncv_net(name, weights == "imagenet")
    if weights != "imagenet":
        net.initialize(initializer)
    blocks = feature_blocks(net, spec.head_px, name)
    # Model zoo layers learn their number of input channels from the first input: give them one.
    side = max(64, spec.least_px)
    x = mx.nd.zeros((1, 3, side, side))
    for block in blocks:
        x = block(x)
    if path is not None:
        used = {id(p) for block in blocks for p in block.collect_params().values()}
        found = {key: p for key, p in net._collect_params_with_prefix().items() if id(p) in used}
        old_names = {p.name.removeprefix(net.prefix): key for key, p in found.items()}
        arrays = read_zoo_weights(path, name, {key: p.shape for key, p in found.items()}, old_names)
        for key, p in found.items():
            p.set_data(mx.nd.array(arrays[key], dtype="float32"))
    return blocks[part]
