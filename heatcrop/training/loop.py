"""The one training loop, of both stages and of all engines, configured by a frozen dataclass."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from heatcrop.errors import DivergedError
from heatcrop.nets.updater import Optimiser, Updater
from heatcrop.training.checkpoint import Checkpoint

_UPDATES_AHEAD = 50
"""Updates whose losses are read together: a GPU computes them without waiting for the next batch."""

Pooling = Annotated[float, Field(gt=0, le=1)]


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """How a network is trained.

    Attributes
    ----------
    epochs : int
        Passes over the training images.
    batch_size : int
        Images of one update.
    optimizer : {'adam', 'sgd'}
        SGD has Nesterov momentum 0.9.
    learning_rate : float
        At the start (after `warmup`).
    head_rate : float
        The linear layer's learning rate as a multiple of the backbone's.
    weight_decay : float
        L2 penalty on the weights.
    schedule : {'cosine', 'step'}
        How the rate falls: along a half cosine to 0, or at `steps`.
    steps : tuple of int
        Epochs (counted from 1) after which the rate is multiplied by `factor`.
    factor : float
        See `steps`.
    warmup : float
        Epochs over which the rate rises from 0.
    reload_best : bool
        At each step, and at the end, return to the epoch with the best validation score.
    average : float
        Decay per update of an exponential moving average of the weights; 0 for none. The average is what
        is validated and kept (Polyak and Juditsky, 1992).
    accumulate : int
        Parts that a batch is computed in, one after another, their gradients added: a batch that is too
        large for a card's memory is still one update. Batch norm sees one part at a time.
    """

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 32
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(ge=1e-12, le=10)] = 1e-3
    head_rate: Annotated[float, Field(ge=0, le=1_000_000)] = 1.0
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    schedule: Literal["cosine", "step"] = "cosine"
    steps: tuple[Annotated[int, Field(ge=0, le=100_000)], ...] = ()
    factor: Annotated[float, Field(ge=1e-6, le=1)] = 0.1
    warmup: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    reload_best: bool = True
    average: Annotated[float, Field(ge=0, le=0.999999)] = 0.0
    accumulate: Annotated[int, Field(ge=1, le=1_000_000)] = 1

    @property
    def optimiser(self) -> Optimiser:
        """How one batch changes the weights."""
        return Optimiser(self.optimizer, self.head_rate, self.weight_decay, self.accumulate)


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The figures of one epoch: a row of ``history.csv``."""

    epoch: int
    learning_rate: float
    train_loss: float
    val_loss: float
    val_map: float
    val_accuracy: float
    seconds: float


def rate_at(plan: TrainingPlan, progress: float) -> float:
    """Return the learning rate after `progress` epochs (a float, 0 at the start).

    >>> plan = TrainingPlan(epochs=15, learning_rate=1e-4, schedule="step", steps=(7, 12))
    >>> [float(f"{rate_at(plan, e):.6g}") for e in (0, 6.9, 7, 12)]
    [0.0001, 0.0001, 1e-05, 1e-06]
    """
    rate = plan.learning_rate
    if plan.schedule == "step":
        rate *= plan.factor ** sum(progress >= step for step in plan.steps)
    else:
        rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, progress / plan.epochs)))
    return rate * min(1.0, (progress + 1e-3) / plan.warmup) if plan.warmup else rate


Batches = Callable[[int], Iterator[tuple[np.ndarray, np.ndarray]]]
Validate = Callable[[Callable[[np.ndarray], np.ndarray]], tuple[float, float, float]]


def train(
    updater: Updater,
    batches: Batches,
    n_batches: int,
    validate: Validate,
    plan: TrainingPlan,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
) -> list[Epoch]:
    """Train a classifier, (N, c, h, w) to (N, C); on return it holds the weights to keep.

    ``batches(epoch)`` yields pairs of input (B, c, h, w) float32 and soft labels (B, C) float32, `n_batches`
    of them and the same ones each time it is called for that epoch. A label below 0 marks a class that does
    not belong to the row: the softmax is over the others.

    `validate`, given a function from input to logits, returns validation loss, mAP and accuracy, or raises
    DivergedError where the logits are not finite. NaN for mAP: there is nothing to validate on, and the last
    epoch is kept. `on_epoch` is called after each epoch, also for those that a checkpoint holds.

    With a checkpoint an interrupted training continues after its last epoch and ends with the same weights,
    on a CPU to the last bit, as an uninterrupted one: it holds weights, optimiser state, average and best
    epoch; rates, dropout and batches follow from seed and epoch. At the end it holds the weights to keep.

    DivergedError names the epoch, before a checkpoint holds such weights. In mixed precision only the
    validation logits count: updates from a loss that overflowed are skipped there.
    """
    history: list[Epoch] = []
    best_map, best = -math.inf, None
    average = updater.weights() if plan.average else None
    saved = checkpoint.read() if checkpoint is not None else None
    if saved is not None:
        history = [Epoch(**row) for row in saved[0]]
        optimiser = saved[1].pop("optimiser", [])
        groups = {name: updater.from_numpy(arrays) for name, arrays in saved[1].items()}
        updater.set_weights(groups["weights"])
        for row in history:
            on_epoch(row)
        if len(history) < plan.epochs:
            updater.set_optimiser_state(optimiser)
            average, best = groups.get("average"), groups.get("best")
            scores = [row.val_map for row in history if not math.isnan(row.val_map)]
            best_map = max(scores, default=-math.inf)
    resumed_at = len(history)
    for epoch in range(resumed_at, plan.epochs):
        started = time.perf_counter()
        # Each epoch draws from its own seed, so that it is the same after an interruption.
        updater.begin_epoch(seed * 1000 + epoch)
        if plan.reload_best and best is not None and epoch in plan.steps and plan.schedule == "step":
            updater.set_weights(best)
            average = best if plan.average else None
        total, seen, rate = 0.0, 0, plan.learning_rate
        losses: list[Any] = []
        for number, (x, y) in enumerate(batches(epoch)):
            rate = rate_at(plan, epoch + number / n_batches)
            losses.append(updater.update(x, y, rate))
            seen += len(x)
            if len(losses) == _UPDATES_AHEAD or number == n_batches - 1:
                total += sum(map(float, losses))
                losses.clear()
                if not (updater.skips_overflow or math.isfinite(total)):
                    raise DivergedError(f"diverged in epoch {epoch + 1} (its loss is not finite)")
            if average is not None:
                # In short trainings the average must forget its start, so it begins as a mean.
                updates = epoch * n_batches + number + 1
                keep = min(plan.average, updates / (updates + 10))
                average = [
                    keep * mean + (1 - keep) * value
                    for mean, value in zip(average, updater.weights(), strict=True)
                ]
        updater.end_epoch()
        live = None
        if average is not None:
            live = updater.weights()
            updater.set_weights(average)
        try:
            val_loss, val_map, val_accuracy = validate(updater.logits)
        except DivergedError:
            reason = "its validation logits are not finite"
            raise DivergedError(f"diverged in epoch {epoch + 1} ({reason})") from None
        seconds = time.perf_counter() - started
        row = Epoch(epoch + 1, rate, total / max(1, seen), val_loss, val_map, val_accuracy, seconds)
        history.append(row)
        if plan.reload_best and val_map >= best_map:
            best_map, best = val_map, updater.weights()
        if live is not None and epoch + 1 < plan.epochs:
            updater.set_weights(live)
        if checkpoint is not None and epoch + 1 < plan.epochs and checkpoint.due:
            state = {"weights": updater.weights(), "best": best, "average": average}
            arrays = {name: updater.to_numpy(values) for name, values in state.items() if values is not None}
            arrays["optimiser"] = updater.optimiser_state()
            checkpoint.write([dataclasses.asdict(row) for row in history], arrays)
        on_epoch(row)
    if plan.reload_best and best is not None:
        updater.set_weights(best)
    if checkpoint is not None and resumed_at < plan.epochs:
        weights = updater.to_numpy(updater.weights())
        checkpoint.write([dataclasses.asdict(row) for row in history], {"weights": weights})
    updater.close()
    return history
