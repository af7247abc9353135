"""How much of a card's memory a training needs, computed before it runs."""

from __future__ import annotations

import dataclasses

from heatcrop.nets.classifier import Classifier
from heatcrop.training.loop import TrainingPlan

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


def training_need(classifier: Classifier, plan: TrainingPlan, amp: bool) -> Need:
    """Compute what training a classifier needs, without running it.

    In mixed precision activations are float16, and float16 weights exist beside those in float32.
    """
    weights = 4 * classifier.weight_numbers()
    states = 2 if plan.optimizer == "adam" else 1
    kept = plan.reload_best + 3 * bool(plan.average)  # the best; average, live and newest
    copies = 2 + states + kept + (0.5 if amp else 0)
    width = 2 if amp else 4
    return Need(int(weights * copies) + _LIBRARIES, width * classifier.activation_numbers())
