"""How much of a card's memory a training needs, computed from the network's graph before it runs."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from heatcrop.nets.engine import mxnet
from heatcrop.training.loop import TrainingPlan

# Operators whose output replaces their input in memory: the backward pass does not read that input.
_IN_PLACE = {"Activation", "relu", "Flatten", "Reshape", "elemwise_add", "_plus", "broadcast_add"}
_LIBRARIES = 2**30
"""Rough bytes of CUDA, cuDNN and its workspaces."""


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes of memory that a training needs on one card."""

    fixed: int
    """Weights, gradients, the optimiser's state, weights that are kept, and the libraries."""
    row: int
    """Of each row of a batch: what the forward pass keeps for the backward pass."""

    def at(self, rows: int) -> int:
        """Return the bytes for that many rows at once."""
        return self.fixed + rows * self.row


def activation_numbers(net: Any, input_shape: tuple[int, ...]) -> int:
    """Count the numbers of one row that stay in memory from the forward to the backward pass."""
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
    """Compute what training a network needs, without running it.

    In mixed precision activations are float16, and float16 weights exist beside those in float32.
    """
    weights = sum(4 * math.prod(p.shape) for p in net.collect_params().values())
    states = 2 if plan.optimizer == "adam" else 1
    kept = plan.reload_best + 3 * bool(plan.average)  # the best; average, live and newest
    copies = 2 + states + kept + (0.5 if amp else 0)
    width = 2 if amp else 4
    return Need(int(weights * copies) + _LIBRARIES, width * activation_numbers(net, input_shape))
