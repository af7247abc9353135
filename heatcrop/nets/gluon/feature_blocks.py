"""Find the blocks of any image classifier that lead to its last feature map.

Heads differ: global pooling and one linear layer, a hidden layer between them, a convolution before the
pooling, fully connected layers on a map of fixed size. All of them read a last map with several positions.
It is found in the network's graph, so no family needs a rule of its own. `build_classifier`, in
:mod:`heatcrop.nets.gluon.classifier`, then puts pooling and one linear layer on it, whose class activation
map is exact. Hidden layers of the original head are dropped: they belong to ImageNet's thousand classes.
"""

from __future__ import annotations

import bisect
import json
import warnings
from collections.abc import Iterable
from typing import Any

from heatcrop.errors import EngineError
from heatcrop.nets.gluon.engine import mxnet

_LAYERS_WITH_WEIGHTS = ("Convolution", "FullyConnected")


def feature_blocks(net: Any, side_px: int, name: str) -> list[Any]:
    """List a classifier's blocks up to its last feature map.

    Returns the network's own blocks where it calls them one after another, so that freezing may end at
    each; otherwise a single block. Both compute the same map from the same parameters. The head must accept
    inputs of `side_px`; EngineError where there is no such map.
    """
    mx = mxnet()
    output = net(mx.sym.var("data"))
    # Auxiliary classifiers come after the main one.
    output = output[0] if isinstance(output, (list, tuple)) else output
    body = _last_map(output, side_px)
    if body is None:
        raise EngineError(f"{name} has no feature map with positions; choose another network.backbone")
    chain = _chain(net, body)
    if chain:
        return chain
    with warnings.catch_warnings():  # MXNet warns that the input's type is not known yet
        warnings.simplefilter("ignore")
        return [mx.gluon.SymbolBlock(body, mx.sym.var("data"), params=net.collect_params())]


def output_shape(blocks: Iterable[Any], input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Infer the shape that leaves a chain of blocks, without computing it; both without the batch axis."""
    x = mxnet().sym.var("data")
    for block in blocks:
        x = block(x)
    return tuple(x.infer_shape(data=(1, *input_shape))[1][0][1:])


def _last_map(output: Any, side_px: int) -> Any:
    """Cut the graph at the last map (N, F, h, w) with h * w > 1 that a layer with weights reads."""
    inner = output.get_internals()
    graph = json.loads(inner.tojson())
    nodes, shapes = graph["nodes"], inner.infer_shape(data=(1, 3, side_px, side_px))[1]
    after_input: list[bool] = []
    for node in nodes:
        after_input.append(node["name"] == "data" or any(after_input[i] for i, *_ in node["inputs"]))
    layers = (i for i, n in enumerate(nodes) if after_input[i] and n["op"] in _LAYERS_WITH_WEIGHTS)
    last = max(layers, default=0)
    # Layers that are used twice give the same name twice, so outputs are identified by position.
    for position, (i, output_number, _) in reversed(list(enumerate(graph["heads"]))):
        shape, op = shapes[position], nodes[i]["op"]
        spatial = len(shape) == 4 and shape[2] * shape[3] > 1
        if i < last and after_input[i] and output_number == 0 and spatial and op not in ("Dropout", "null"):
            return inner[position]
    return None


def _chain(net: Any, body: Any) -> list[Any]:
    """List the network's blocks that, called one after another, give the graph `body`; may be empty."""
    mx = mxnet()
    x, graphs = mx.sym.var("data"), []
    chain: list[Any] = []
    for child in getattr(net, "features", net)._children.values():
        # A stage is a sequence of units, and freezing may end after each unit.
        is_stage = type(child) is mx.gluon.nn.HybridSequential
        chain += child._children.values() if is_stage else [child]
    for block in chain:
        try:
            x = block(x)
        except Exception:  # a block that takes other inputs may raise anything
            break
        if not isinstance(x, mx.sym.Symbol):
            break
        graphs.append(x)
    goal = _operations(body)
    end = bisect.bisect_left(graphs, len(goal), key=lambda symbol: len(_operations(symbol)))
    found = end < len(graphs) and _operations(graphs[end]) == goal
    return chain[: end + 1] if found else []


def _operations(symbol: Any) -> list[Any]:
    """List a graph's operations in order, without the names that each call generates."""
    nodes = json.loads(symbol.tojson())["nodes"]
    return [
        (n["op"], n["name"] if n["op"] == "null" else "", n.get("attrs"), [i[:2] for i in n["inputs"]])
        for n in nodes
    ]
