"""What a training engine does to a classifier's weights, one batch at a time.

:func:`heatcrop.training.loop.train` is the loop of all engines; each has one class of this kind.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, Literal

import numpy as np

MASKED = 1e4
"""Subtracted from the logits of classes that do not belong to a row: probability 0, in float16 too."""


@dataclasses.dataclass(frozen=True)
class Optimiser:
    """How a batch changes the weights; the fields are those of `heatcrop.training.loop.TrainingPlan`."""

    optimizer: Literal["adam", "sgd"] = "adam"
    head_rate: float = 1.0
    weight_decay: float = 0.0
    accumulate: int = 1


class Updater(abc.ABC):
    """A classifier in training, on the devices that train it.

    `Weights` are lists of the engine's arrays, one for each parameter and each running statistic, in the
    network's order. They can be multiplied by a number and added.
    """

    skips_overflow = False
    """Whether a batch whose loss overflowed changes nothing, so that it need not be an error."""

    @abc.abstractmethod
    def begin_epoch(self, seed: int) -> None:
        """Draw what is random in the updates, such as dropout, from a seed."""

    @abc.abstractmethod
    def update(self, x: np.ndarray, y: np.ndarray, rate: float) -> Any:
        """Update the weights once.

        Parameters
        ----------
        x : ndarray of float32, shape (B, c, h, w)
        y : ndarray of float32, shape (B, C)
            Soft labels; below 0 at classes that do not belong to the row.
        rate : float
            Learning rate.

        Returns
        -------
        float or scalar of the engine
            The sum of the rows' losses before the update. On a GPU ``float`` waits for it.
        """

    @abc.abstractmethod
    def end_epoch(self) -> None:
        """Bring together what several devices have gathered each for itself."""

    @abc.abstractmethod
    def logits(self, x: np.ndarray) -> np.ndarray:
        """Compute (B, C) logits of (B, c, h, w) inputs, as in inference."""

    @abc.abstractmethod
    def weights(self) -> list[Any]:
        """Copy the weights."""

    @abc.abstractmethod
    def set_weights(self, weights: list[Any]) -> None:
        """Replace the weights by copies of others."""

    @abc.abstractmethod
    def to_numpy(self, weights: list[Any]) -> list[np.ndarray]:
        """Convert weights to arrays."""

    @abc.abstractmethod
    def from_numpy(self, arrays: list[np.ndarray]) -> list[Any]:
        """Convert arrays of :meth:`to_numpy` to weights."""

    @abc.abstractmethod
    def optimiser_state(self) -> list[np.ndarray]:
        """Read the optimiser's state."""

    @abc.abstractmethod
    def set_optimiser_state(self, arrays: list[np.ndarray]) -> None:
        """Restore what :meth:`optimiser_state` has read; ValueError when it does not fit."""

    @abc.abstractmethod
    def close(self) -> None:
        """Leave the classifier on the CPU, with its weights."""
