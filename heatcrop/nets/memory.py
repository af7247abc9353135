"""How much of a card's memory a training takes, counted up from the network's graph before it runs."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from heatcrop.nets.engine import mxnet
from heatcrop.training.loop import TrainingPlan

# Operators whose output takes its input's place: nobody asks for that input again on the way back.
_IN_PLACE = {"Activation", "relu", "Flatten", "Reshape", "elemwise_add", "_plus", "broadcast_add"}
_BESIDES = 2**30
"""What CUDA, cuDNN and its workspaces take beside, roughly."""


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes of memory that a training takes on one card.

    Attributes
    ----------
    fixed : int
        Weights, gradients, optimiser's state, weights that are kept, and the libraries' own.
    row : int
        Of each row of a batch: what the way forward leaves for the way back.
    """

    fixed: int
    row: int

    def at(self, rows: int) -> int:
        """Bytes for that many rows at once."""
        return self.fixed + rows * self.row


def output_shape(block: Any, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """What leaves a block that (1, *input_shape) enters, without the 1."""
    _, shapes, _ = block(mxnet().sym.var("data")).infer_shape(data=(1, *input_shape))
    return tuple(shapes[0][1:])


def activation_numbers(net: Any, input_shape: tuple[int, ...]) -> int:
    """Numbers that stay in memory from the way forward to the way back, for one row."""
    symbol = net(mxnet().sym.var("data"))
    operators = {node["name"]: node["op"] for node in json.loads(symbol.tojson())["nodes"]}
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape(data=(1, *input_shape))
    total = math.prod(input_shape)
    for name, shape in zip(internals.list_outputs(), shapes, strict=True):
        operator = operators.get(name.removesuffix("_output"), "null")
        if operator != "null" and operator not in _IN_PLACE:
            total += math.prod(shape)
    return total


def training_need(net: Any, input_shape: tuple[int, ...], plan: TrainingPlan, amp: bool) -> Need:
    """Count up what training a network takes; it is not run.

    Parameters
    ----------
    net : HybridBlock
        With all shapes known.
    input_shape : tuple (c, h, w)
    amp : bool
        In mixed precision: float16 activations, and float16 weights beside those in float32.
    """
    weights = sum(4 * math.prod(p.shape) for p in net.collect_params().values())
    states = 2 if plan.optimizer == "adam" else 1
    kept = plan.reload_best + 3 * bool(plan.average)  # the best; average, live and newest
    copies = 2 + states + kept + (0.5 if amp else 0)
    width = 2 if amp else 4
    return Need(int(weights * copies) + _BESIDES, width * activation_numbers(net, input_shape))
