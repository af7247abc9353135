"""The one training loop, which stage 1 and stage 3 both run, configured by a frozen dataclass."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from heatcrop.errors import DivergedError
from heatcrop.nets.engine import loss_scaler, mixed_block, mxnet
from heatcrop.training.checkpoint import Checkpoint, optimiser_arrays, restore_optimiser

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


_MASKED = 1e4
"""Subtracted from the logits of classes that do not belong to a row: probability 0, in float16 too."""

Batches = Callable[[int], Iterator[tuple[np.ndarray, np.ndarray]]]
Validate = Callable[[Callable[[np.ndarray], np.ndarray]], tuple[float, float, float]]


def train(
    net: Any,
    batches: Batches,
    n_batches: int,
    validate: Validate,
    plan: TrainingPlan,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
    contexts: Sequence[Any] = (),
    amp: bool = False,
) -> list[Epoch]:
    """Train an initialised classifier, (N, c, h, w) to (N, C); on return it holds the weights to keep.

    ``batches(epoch)`` yields pairs of input (B, c, h, w) float32 and soft labels (B, C) float32, `n_batches`
    of them and the same ones each time it is called for that epoch. A label below 0 marks a class that does
    not belong to the row: the softmax is over the others.

    `validate`, given a function from input to logits, returns validation loss, mAP and accuracy, or raises
    DivergedError where the logits are not finite. NaN for mAP: there is nothing to validate on, and the last
    epoch is kept. `on_epoch` is called after each epoch, also for those that a checkpoint holds.

    With a checkpoint an interrupted training continues after its last epoch and ends with the same weights,
    on a CPU to the last bit, as an uninterrupted one: it holds weights, optimiser state, average and best
    epoch; rates, dropout and batches follow from seed and epoch. At the end it holds the weights to keep.

    Each batch is split among the `contexts`, MXNet's devices; none for the CPU. Each normalises its share by
    the share's own statistics; batch norm's running statistics are averaged over the devices after each
    epoch, as Gluon does when it saves. `amp` is mixed precision, on GPUs only: float16 where that is safe,
    float32 weights and updates.

    DivergedError names the epoch, before a checkpoint holds such weights. In mixed precision only the
    validation logits count: updates from a loss that overflowed are skipped there.
    """
    mx = mxnet()
    contexts = list(contexts) or [mx.cpu()]
    params = net.collect_params()
    params.reset_ctx(contexts)
    forward = mixed_block(net) if amp else net  # (N, c, h, w) -> (N, C)
    forward.hybridize(static_alloc=True, static_shape=len(contexts) == 1)
    net.weight.lr_mult = net.bias.lr_mult = plan.head_rate
    optimizer, momentum = ("nag", {"momentum": 0.9}) if plan.optimizer == "sgd" else ("adam", {})
    options = {"learning_rate": plan.learning_rate, "wd": plan.weight_decay, **momentum}
    # The trainer, not a key-value store, keeps the optimiser's state, so that a checkpoint can read it.
    trainer = mx.gluon.Trainer(params, optimizer, options, update_on_kvstore=False)
    scaler = trainer._amp_loss_scaler = loss_scaler() if amp else None
    loss_of = mx.gluon.loss.SoftmaxCELoss(sparse_label=False)  # (N, C), (N, C) -> (N,)
    trained = [p for p in params.values() if p.grad_req != "null"]
    for p in trained:
        p.grad_req = "write" if plan.accumulate == 1 else "add"
    if len(contexts) > 1:
        # The first use copies the first device's values to all. They are equal now; after a forward pass
        # batch norm's statistics would be overwritten by the first device's.
        trainer.allreduce_grads()

    def scatter(array: np.ndarray) -> list[Any]:
        """Split rows among the devices."""
        parts = np.array_split(array, min(len(contexts), len(array)))
        return [
            mx.nd.array(part, ctx=context, dtype="float32")
            for part, context in zip(parts, contexts, strict=False)
        ]

    def update(x: np.ndarray, y: np.ndarray) -> float:
        """Update the weights from (B, c, h, w) and (B, C); return the sum of the losses before it."""
        scale, losses = scaler.loss_scale if scaler else 1.0, []
        masked = bool((y < 0).any())
        n_parts = max(1, min(plan.accumulate, len(x) // len(contexts)))
        for part_x, part_y in zip(np.array_split(x, n_parts), np.array_split(y, n_parts), strict=True):
            part_losses = []
            with mx.autograd.record():
                for some_x, some_y in zip(scatter(part_x), scatter(part_y), strict=True):
                    logits = forward(some_x)  # (b, C)
                    if masked:
                        own = some_y >= 0
                        logits, some_y = logits + (own - 1) * _MASKED, some_y * own
                    part_losses.append(loss_of(logits, some_y))  # (b,)
                heads = [loss * scale for loss in part_losses] if scaler else part_losses
            mx.autograd.backward(heads)
            losses += part_losses
        for p in trained:
            for context in contexts[len(x) :]:  # no row was left for these devices: they add nothing
                p.grad(context)[:] = 0
                p.data(context)._fresh_grad = True
        trainer.step(len(x) * scale)
        if plan.accumulate > 1:
            for p in trained:
                p.zero_grad()
        return sum(float(loss.sum().asscalar()) for loss in losses)

    def logits_of(x: np.ndarray) -> np.ndarray:
        return forward(mx.nd.array(x, ctx=contexts[0], dtype="float32")).asnumpy()

    history: list[Epoch] = []
    best_map, best = -math.inf, None
    average = _snapshot(params) if plan.average else None
    saved = checkpoint.read() if checkpoint is not None else None
    if saved is not None:
        history = [Epoch(**row) for row in saved[0]]
        optimiser = saved[1].pop("optimiser", [])
        groups = {
            name: [mx.nd.array(a, ctx=contexts[0], dtype=a.dtype) for a in arrays]
            for name, arrays in saved[1].items()
        }
        _restore(params, groups["weights"])
        for row in history:
            on_epoch(row)
        if len(history) < plan.epochs:
            restore_optimiser(trainer, params, optimiser)
            average, best = groups.get("average"), groups.get("best")
            scores = [row.val_map for row in history if not math.isnan(row.val_map)]
            best_map = max(scores, default=-math.inf)
    resumed_at = len(history)
    for epoch in range(resumed_at, plan.epochs):
        started = time.perf_counter()
        # Each epoch draws from its own seed, so that it is the same after an interruption.
        mx.random.seed(seed * 1000 + epoch)
        if plan.reload_best and best is not None and epoch in plan.steps and plan.schedule == "step":
            _restore(params, best)
        total, seen = 0.0, 0
        for number, (x, y) in enumerate(batches(epoch)):
            trainer.set_learning_rate(rate_at(plan, epoch + number / n_batches))
            total += update(x, y)
            seen += len(x)
            if not (amp or math.isfinite(total)):
                raise DivergedError(f"diverged in epoch {epoch + 1} (its loss is not finite)")
            if average is not None:
                # In short trainings the average must forget its start, so it begins as a mean.
                updates = epoch * n_batches + number + 1
                keep = min(plan.average, updates / (updates + 10))
                average = [
                    keep * mean + (1 - keep) * value
                    for mean, value in zip(average, _snapshot(params), strict=True)
                ]
        if len(contexts) > 1:
            _restore(params, _snapshot(params))  # each device has gathered its own statistics
        live = None
        if average is not None:
            live = _snapshot(params)
            _restore(params, average)
        try:
            val_loss, val_map, val_accuracy = validate(logits_of)
        except DivergedError:
            reason = "its validation logits are not finite"
            raise DivergedError(f"diverged in epoch {epoch + 1} ({reason})") from None
        seconds, rate = time.perf_counter() - started, trainer.learning_rate
        row = Epoch(epoch + 1, rate, total / max(1, seen), val_loss, val_map, val_accuracy, seconds)
        history.append(row)
        if plan.reload_best and val_map >= best_map:
            best_map, best = val_map, _snapshot(params)
        if live is not None and epoch + 1 < plan.epochs:
            _restore(params, live)
        if checkpoint is not None and epoch + 1 < plan.epochs and checkpoint.due:
            state = {"weights": _snapshot(params), "best": best, "average": average}
            arrays = {
                name: [v.asnumpy() for v in values] for name, values in state.items() if values is not None
            }
            arrays["optimiser"] = optimiser_arrays(trainer, params)
            checkpoint.write([dataclasses.asdict(row) for row in history], arrays)
        on_epoch(row)
    if plan.reload_best and best is not None:
        _restore(params, best)
    if checkpoint is not None and resumed_at < plan.epochs:
        weights = [value.asnumpy() for value in _snapshot(params)]
        checkpoint.write([dataclasses.asdict(row) for row in history], {"weights": weights})
    params.reset_ctx(mx.cpu())
    for p in trained:
        p.grad_req = "write"
    return history


def _snapshot(params: Any) -> list[Any]:
    """Copy the parameters; of what each device gathers for itself (batch norm's statistics), the mean."""
    copies = []
    for p in params.values():
        values = p.list_data()
        if len(values) == 1 or p.grad_req != "null":
            copies.append(values[0].copy())
        else:
            copies.append(sum(value.as_in_context(values[0].context) for value in values) / len(values))
    return copies


def _restore(params: Any, values: list[Any]) -> None:
    for p, value in zip(params.values(), values, strict=True):
        p.set_data(value)
