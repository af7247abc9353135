"""Class maps by a backward pass: Grad-CAM and LayerCAM, at any trained block.

Class activation maps need a linear layer on pooled features, and describe the last map only. The gradient
of a class's logit works at any map, so also at an earlier and finer one. The two methods differ in one
thing: how gradients weigh the map's channels.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np

from heatcrop.nets.gluon.engine import in_one_thread, mxnet
from heatcrop.nets.inference import Runner, in_parts
from heatcrop.nets.maps import MapPlan


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
    logits_of = _with_running_statistics(net, blocks[cut:])  # (n, F, h, w) -> (n, C)

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features = mx.nd.array(x, ctx=context, dtype="float32")
        for block in blocks[:cut]:
            features = block(features)  # (n, F, h, w)
        n_classes = net.weight.shape[0]
        # Repeat each image for each class: one backward pass serves the logits of all classes.
        tiled = mx.nd.repeat(features, n_classes, axis=0)  # (n * C, F, h, w)
        tiled.attach_grad()
        classes = mx.nd.tile(mx.nd.arange(n_classes, ctx=context), len(x))
        with mx.autograd.record(train_mode=False):
            logits = logits_of(tiled)  # (n * C, C)
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

    return in_one_thread(in_parts(run, plan.images_at_once(net.weight.shape[0])))


def _with_running_statistics(net: Any, blocks: list[Any]) -> Any:
    """Chain a classifier's last blocks and its head, for a backward pass in inference.

    Without ``use_global_stats`` MXNet's backward pass of batch norm uses a batch's statistics, even where the
    forward pass has used the running ones.
    """
    mx = mxnet()
    x = mx.sym.var("data")
    for block in blocks:
        x = block(x)
    graph = json.loads(net.head(mx.sym, x, net.weight.var(), net.bias.var()).tojson())
    for node in graph["nodes"]:
        if node["op"] == "BatchNorm":
            node["attrs"]["use_global_stats"] = "True"
    symbol = mx.sym.load_json(json.dumps(graph))
    with warnings.catch_warnings():  # MXNet warns that the input's type is not known yet
        warnings.simplefilter("ignore")
        return mx.gluon.SymbolBlock(symbol, mx.sym.var("data"), params=net.collect_params())
