"""Class maps by a backward pass: Grad-CAM and LayerCAM, at any trained block.

Class activation maps need a linear layer on pooled features, and describe the last map only. The gradient
of a class's logit works at any map, so also at an earlier and finer one. The two methods differ in one
thing: how gradients weigh the map's channels.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from heatcrop.nets.engine import mxnet
from heatcrop.nets.inference import Runner
from heatcrop.nets.maps import MapPlan

_IMAGES_TIMES_CLASSES = 64
"""Of one backward pass."""


def gradient_runner(net: Any, plan: MapPlan, gpu: int | None = None) -> Runner:
    """Run a trained classifier on MXNet for its logits (N, C) and its class maps (N, C, h, w).

    Notes
    -----
    The maps are those of the papers without their last ReLU, since the maps of the classes are compared
    first, and multiplied by the number of positions, which makes Grad-CAM's on the last map the class
    activation maps themselves (Selvaraju et al., section 3.1).
    """
    mx = mxnet()
    context = mx.cpu() if gpu is None else mx.gpu(gpu)
    net.collect_params().reset_ctx(context)
    net.hybridize(False)  # its blocks are called one by one
    blocks = list(net.blocks._children.values())
    plan.check(len(blocks))
    cut = len(blocks) - plan.layer
    lock = threading.Lock()  # two threads must not enter a block at once

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = mx.nd.array(x, ctx=context, dtype="float32")
        for block in blocks[:cut]:
            features = block(features)  # (n, F, h, w)
        weight, bias = net.weight.data(context), net.bias.data(context)
        n_classes = weight.shape[0]
        # Repeat each image for each class: one backward pass serves the logits of all classes.
        tiled = mx.nd.repeat(features, n_classes, axis=0)  # (n * C, F, h, w)
        tiled.attach_grad()
        classes = mx.nd.tile(mx.nd.arange(n_classes, ctx=context), len(x))
        with mx.autograd.record(train_mode=False):
            last = tiled
            for block in blocks[cut:]:
                last = block(last)
            logits = net.head(mx.nd, last, weight, bias)  # (n * C, C)
            own = mx.nd.pick(logits, classes)
        own.backward()
        gradient = tiled.grad
        if plan.method == "grad_cam":
            channel_weights = gradient.sum(axis=(2, 3), keepdims=True)  # (n * C, F, 1, 1)
        else:
            channel_weights = mx.nd.relu(gradient) * (gradient.shape[2] * gradient.shape[3])
        maps = mx.nd.broadcast_mul(tiled, channel_weights).sum(axis=1)  # (n * C, h, w)
        maps = maps.reshape((len(x), n_classes, *maps.shape[1:]))
        return logits[::n_classes].asnumpy(), maps.asnumpy()

    def in_parts(x: np.ndarray) -> tuple[np.ndarray, ...]:
        step = max(1, _IMAGES_TIMES_CLASSES // net.weight.shape[0])
        with lock:
            parts = [run(x[i : i + step]) for i in range(0, len(x), step)]
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    return in_parts
