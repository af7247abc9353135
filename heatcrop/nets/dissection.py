"""Take any image classifier apart: the blocks that lead to its last feature map, and no further.

Heads differ: global pooling and one linear layer, a hidden layer between them, a convolution before
the pooling, fully connected layers on a map of fixed size. What they have in common is a last map
with places in it, from which the classifier reads. It is found in the network's graph, so that no
family needs a rule of its own; pooling and one linear layer are then put on it
(:mod:`heatcrop.nets.classifier`), whose class activation map is exact. Hidden layers of a head are left away:
they belong to ImageNet's thousand classes.
"""

from __future__ import annotations

import bisect
import json
import warnings
from typing import Any

from heatcrop.errors import EngineError
from heatcrop.nets.engine import mxnet

_CLASSIFIERS = ("Convolution", "FullyConnected")


def blocks_to_last_map(net: Any, side_px: int, name: str) -> list[Any]:
    """List a classifier's blocks up to its last feature map.

    Parameters
    ----------
    net : HybridBlock
        The whole classifier; need not be initialised.
    side_px : int
        An input side that its head is made for.
    name : str
        For the message.

    Returns
    -------
    list of HybridBlock
        The network's own, each a place where freezing may end, where it calls one after another; a single
        block otherwise. Both compute the same map from the same parameters.

    Raises
    ------
    EngineError
        When there is no such map.
    """
    mx = mxnet()
    whole = net(mx.sym.var("data"))
    # Auxiliary classifiers come after the main one.
    whole = whole[0] if isinstance(whole, (list, tuple)) else whole
    body = _last_map(whole, side_px)
    if body is None:
        raise EngineError(f"{name} has no feature map with places in it; choose another network.backbone")
    chain = _chain(net, body)
    if chain:
        return chain
    with warnings.catch_warnings():  # MXNet remarks that the input's type is not known yet
        warnings.simplefilter("ignore")
        return [mx.gluon.SymbolBlock(body, mx.sym.var("data"), params=net.collect_params())]


def _last_map(whole: Any, side_px: int) -> Any:
    """The graph up to the last map (N, F, h, w) with h * w > 1 that the last layer with weights reads."""
    inner = whole.get_internals()
    graph = json.loads(inner.tojson())
    nodes, shapes = graph["nodes"], inner.infer_shape(data=(1, 3, side_px, side_px))[1]
    after_input: list[bool] = []
    for node in nodes:
        after_input.append(node["name"] == "data" or any(after_input[i] for i, *_ in node["inputs"]))
    last = max((i for i, n in enumerate(nodes) if after_input[i] and n["op"] in _CLASSIFIERS), default=0)
    # Layers that are used twice give the same name twice: outputs are known by their place.
    for place, (i, output, _) in reversed(list(enumerate(graph["heads"]))):
        shape, op = shapes[place], nodes[i]["op"]
        spatial = len(shape) == 4 and shape[2] * shape[3] > 1
        if i < last and after_input[i] and output == 0 and spatial and op not in ("Dropout", "null"):
            return inner[place]
    return None


def _chain(net: Any, body: Any) -> list[Any]:
    """The network's blocks that, called one after another, are the graph; empty where none are."""
    mx = mxnet()
    x, chain, reached = mx.sym.var("data"), [], []
    for child in getattr(net, "features", net)._children.values():
        # A stage is a sequence of units; each unit is a place where freezing may end.
        is_stage = type(child) is mx.gluon.nn.HybridSequential
        chain += child._children.values() if is_stage else [child]
    for block in chain:
        try:
            x = block(x)
        except Exception:  # a block that wants other inputs raises whatever comes of this one
            break
        if not isinstance(x, mx.sym.Symbol):
            break
        reached.append(x)
    goal = _graph(body)
    end = bisect.bisect_left(reached, len(goal), key=lambda symbol: len(_graph(symbol)))
    found = end < len(reached) and _graph(reached[end]) == goal
    return chain[: end + 1] if found else []


def _graph(symbol: Any) -> list[Any]:
    """A graph's operations in order, without the names that they were given in passing."""
    return [
        (
            node["op"],
            node["name"] if node["op"] == "null" else "",
            node.get("attrs"),
            [i[:2] for i in node["inputs"]],
        )
        for node in json.loads(symbol.tojson())["nodes"]
    ]
