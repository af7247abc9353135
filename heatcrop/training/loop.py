"""The one training loop. Stage 1 and stage 3 both call it, told what to do by a frozen dataclass."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from heatcrop.data.settings import SILENT
from heatcrop.errors import DivergedError
from heatcrop.nets.engine import mxnet
from heatcrop.nets.mixed import loss_scaler, mixed_block
from heatcrop.training.checkpoint import Checkpoint, optimiser_arrays, restore_optimiser


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """How a network is trained.

    Attributes
    ----------
    epochs, batch_size : int
    optimizer : {'adam', 'sgd'}
        SGD runs with Nesterov momentum 0.9.
    learning_rate : float
        At the start (after `warmup`).
    head_rate : float
        The classifier's learning rate as a multiple of the backbone's.
    weight_decay : float
    schedule : {'cosine', 'step'}
    steps : tuple of int
        Epochs (counted from 1) after which the rate is multiplied by `factor`.
    factor : float
    warmup : float
        Epochs over which the rate rises from 0.
    reload_best : bool
        At each step, and at the end, go back to the epoch with the best validation score.
    average : float
        Decay of an exponential moving average of the weights, an update; 0 for none. The average
        is what is validated and kept (Polyak and Juditsky, 1992).
    accumulate : int
        Parts that a batch is computed in, one after another, their gradients added: a batch that is too
        large for a card's memory is still one update. Batch norm sees a part at a time.
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
    accumulate: Annotated[int, Field(ge=1, le=1_000_000)] = dataclasses.field(default=1, metadata=SILENT)


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What one epoch left behind: a row of ``history.csv``."""

    epoch: int
    learning_rate: float
    train_loss: float
    val_loss: float
    val_map: float
    val_accuracy: float
    seconds: float


def rate_at(plan: TrainingPlan, progress: float) -> float:
    """Learning rate after `progress` epochs (a float, 0 at the start).

    >>> plan = TrainingPlan(epochs=15, learning_rate=1e-4, schedule="step", steps=(7, 12))
    >>> [float(f"{rate_at(plan, e):.6g}") for e in (0, 6.9, 7, 12)]
    [0.0001, 0.0001, 1e-05, 1e-06]
    """
    rate = plan.learning_rate
    if plan.schedule == "step":
        rate *= plan.factor ** sum(progress >= step for step in plan.steps)
    elif plan.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, progress / plan.epochs)))
    else:
        raise ValueError(f"schedule is {plan.schedule!r}; expected 'cosine' or 'step'")
    return rate * min(1.0, (progress + 1e-3) / plan.warmup) if plan.warmup else rate


def soft_cross_entropy(logits: np.ndarray, soft: np.ndarray) -> float:
    """Mean cross entropy of (N, C) logits against (N, C) soft labels, in nats.

    >>> round(soft_cross_entropy(np.zeros((1, 4)), np.array([[0.8, 0.2, 0, 0]])), 6) == round(math.log(4), 6)
    True
    """
    top = logits.max(axis=1, keepdims=True)
    log_norm = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
    return float((log_norm * soft.sum(axis=1) - (logits * soft).sum(axis=1)).mean())


_BARRED = 1e4
"""Taken off the logit of a class that is not asked about: its probability is 0, also in float16."""

Batches = Callable[[int], Iterator[tuple[np.ndarray, np.ndarray]]]
Validate = Callable[[Callable[[np.ndarray], np.ndarray]], tuple[float, float, float]]


def train(
    net: Any,
    batches: Batches,
    batches_an_epoch: int,
    validate: Validate,
    plan: TrainingPlan,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
    contexts: Sequence[Any] = (),
    amp: bool = False,
) -> list[Epoch]:
    """Train a classifier; on return it holds the weights to keep.

    With a checkpoint, a training that was broken off goes on after the last epoch that it holds and
    ends with the same weights, on a CPU to the last bit, as one that was not: it holds weights,
    optimiser state, average and best epoch; rates, dropout and batches follow from seed and epoch.

    Parameters
    ----------
    net : HybridBlock
        Maps (N, c, h, w) to logits (N, C); initialised.
    batches : callable
        ``batches(epoch)`` yields pairs of input (B, c, h, w) float32 and soft labels (B, C) float32,
        the same ones each time it is asked for that epoch. A label below 0 marks a class that the row
        is not asked about: its softmax goes over the others.
    batches_an_epoch : int
    validate : callable
        Given a function from input to logits, returns loss, mAP and accuracy on validation.
        NaN for mAP means there is nothing to validate on: the last epoch is kept. DivergedError where the
        logits are no finite numbers.
    plan : TrainingPlan
    seed : int
    on_epoch : callable
        Told after each epoch, also after those that a checkpoint holds.
    checkpoint : Checkpoint, optional
        Left behind when training is done, holding the weights to keep.
    contexts : sequence of Context
        Devices that each batch is split among; none for the CPU. Each normalises its share by the
        share's own statistics; the running ones that batch norm keeps are averaged over the devices
        after each epoch, as Gluon does when it saves.
    amp : bool
        Mixed precision, on GPUs only: float16 where that is safe, float32 weights and updates.

    Returns
    -------
    list of Epoch

    Raises
    ------
    DivergedError
        Telling the epoch, before a checkpoint holds such weights. In mixed precision only what is said of
        validation counts: updates from a loss that overflowed are left out there.
    """
    mx = mxnet()
    contexts = list(contexts) or [mx.cpu()]
    params = net.collect_params()
    params.reset_ctx(contexts)
    forward = mixed_block(net) if amp else net
    forward.hybridize(static_alloc=True, static_shape=len(contexts) == 1)
    net.weight.lr_mult = net.bias.lr_mult = plan.head_rate
    options = {"learning_rate": plan.learning_rate, "wd": plan.weight_decay}
    if plan.optimizer == "sgd":
        options["momentum"] = 0.9
    # The optimiser's state stays with the trainer rather than in a store, where a checkpoint finds it.
    trainer = mx.gluon.Trainer(
        params, "nag" if plan.optimizer == "sgd" else "adam", options, update_on_kvstore=False
    )
    step = _Step(forward, params, trainer, contexts, plan.accumulate, amp)

    def logits_of(x: np.ndarray) -> np.ndarray:
        return forward(mx.nd.array(x, ctx=contexts[0], dtype="float32")).asnumpy()

    def validated() -> tuple[float, float, float]:
        try:
            return validate(logits_of)
        except DivergedError:
            raise _diverged(epoch, "what it says of validation pictures") from None

    history: list[Epoch] = []
    best_map, best = -math.inf, None
    average = _snapshot(params) if plan.average else None
    saved = checkpoint.read() if checkpoint is not None else None
    if saved is not None:
        history = [Epoch(**row) for row in saved[0]]
        _restore(params, _named(params, saved[1]["weights"]))
        for row in history:
            on_epoch(row)
        if len(history) < plan.epochs:
            restore_optimiser(trainer, params, saved[1]["optimiser"])
            average = _named(params, saved[1]["average"]) if average is not None else None
            if "best" in saved[1]:
                best = _named(params, saved[1]["best"])
                best_map = max(row.val_map for row in history if row.val_map == row.val_map)
    for epoch in range(len(history), plan.epochs):
        started = time.perf_counter()
        # Each epoch draws from its own seed, so that it is the same one after an interruption.
        mx.random.seed(seed * 1000 + epoch)
        if plan.reload_best and best is not None and epoch in plan.steps and plan.schedule == "step":
            _restore(params, best)
        total, seen = 0.0, 0
        for number, (x, y) in enumerate(batches(epoch)):
            trainer.set_learning_rate(rate_at(plan, epoch + number / batches_an_epoch))
            total += step(x, y)
            seen += len(x)
            if not (amp or math.isfinite(total)):
                raise _diverged(epoch, "its loss")
            if average is not None:
                # Short runs: let the average forget its start (as if it were a mean at first).
                steps_done = epoch * batches_an_epoch + number + 1
                keep = min(plan.average, steps_done / (steps_done + 10))
                for name, value in _snapshot(params).items():
                    average[name] = keep * average[name] + (1 - keep) * value
        if len(contexts) > 1:
            _restore(params, _snapshot(params))  # each device has gathered statistics of its own
        live = None
        if average is not None:
            live = _snapshot(params)
            _restore(params, average)
        val_loss, val_map, val_accuracy = validated()
        row = Epoch(
            epoch + 1,
            trainer.learning_rate,
            total / max(1, seen),
            val_loss,
            val_map,
            val_accuracy,
            time.perf_counter() - started,
        )
        history.append(row)
        if plan.reload_best and val_map >= best_map:
            best_map, best = val_map, _snapshot(params)
        if live is not None and epoch + 1 < plan.epochs:
            _restore(params, live)
        if checkpoint is not None and epoch + 1 < plan.epochs and checkpoint.due:
            groups = {"weights": _snapshot(params), "best": best, "average": average}
            arrays = {name: _arrays(values) for name, values in groups.items() if values is not None}
            arrays["optimiser"] = optimiser_arrays(trainer, params)
            checkpoint.write([dataclasses.asdict(row) for row in history], arrays)
        on_epoch(row)
    if plan.reload_best and best is not None:
        _restore(params, best)
    if checkpoint is not None and (saved is None or len(saved[0]) < plan.epochs):
        checkpoint.write([dataclasses.asdict(r) for r in history], {"weights": _arrays(_snapshot(params))})
    params.reset_ctx(mx.cpu())
    step.close()
    return history


def _diverged(epoch: int, what: str) -> DivergedError:
    return DivergedError(f"diverged in epoch {epoch + 1} ({what} is not finite)")


class _Step:
    """One update from one batch: computed in parts, each split among the devices."""

    def __init__(
        self,
        forward: Any,
        params: Any,
        trainer: Any,
        contexts: list[Any],
        parts: int,
        amp: bool,
    ) -> None:
        self._forward, self._trainer, self._contexts, self._parts = forward, trainer, contexts, parts
        self._marked = False
        self._loss = mxnet().gluon.loss.SoftmaxCELoss(sparse_label=False)
        self._trained = [p for p in params.values() if p.grad_req != "null"]
        for p in self._trained:
            p.grad_req = "write" if parts == 1 else "add"
        self._scaler = trainer._amp_loss_scaler = loss_scaler() if amp else None
        if len(contexts) > 1:
            # The store hands the first device's values to all when it is first used. Now they are the same
            # ones; after a way forward they would be that device's share of batch norm's figures.
            trainer.allreduce_grads()

    def __call__(self, x: np.ndarray, y: np.ndarray) -> float:
        """Train on (B, c, h, w) and (B, C); the sum of the rows' losses before the update."""
        mx = mxnet()
        scale = 1.0 if self._scaler is None else self._scaler.loss_scale
        found = []
        self._marked = bool((y < 0).any())
        parts = max(1, min(self._parts, len(x) // len(self._contexts)))
        for part_x, part_y in zip(np.array_split(x, parts), np.array_split(y, parts), strict=True):
            losses = []
            with mx.autograd.record():
                for some_x, some_y in zip(self._scatter(part_x), self._scatter(part_y), strict=True):
                    losses.append(self._loss_of(self._forward(some_x), some_y))
                heads = losses if self._scaler is None else [loss * scale for loss in losses]
            mx.autograd.backward(heads)
            found += losses
        self._rest(idle=self._contexts[len(x) :])
        self._trainer.step(len(x) * scale)
        if self._parts > 1:
            for p in self._trained:
                p.zero_grad()
        return sum(float(loss.sum().asscalar()) for loss in found)

    def _loss_of(self, logits: Any, soft: Any) -> Any:
        """Each row's cross entropy, over the classes that it is asked about."""
        if not self._marked:
            return self._loss(logits, soft)
        asked = soft >= 0
        return self._loss(logits + (asked - 1) * _BARRED, soft * asked)

    def close(self) -> None:
        """Leave the parameters as other trainings expect them."""
        for p in self._trained:
            p.grad_req = "write"

    def _scatter(self, array: np.ndarray) -> list[Any]:
        """Share rows among devices."""
        parts = np.array_split(array, min(len(self._contexts), len(array)))
        return [
            mxnet().nd.array(part, ctx=c, dtype="float32")
            for part, c in zip(parts, self._contexts, strict=False)
        ]

    def _rest(self, idle: list[Any]) -> None:
        """Let devices that a small batch had no row for add nothing, and be updated all the same."""
        for p in self._trained:
            for context in idle:
                p.grad(context)[:] = 0
                p.data(context)._fresh_grad = True


def _value(p: Any) -> Any:
    """A parameter's value; of what each device gathers for itself (batch norm's figures), the mean."""
    values = p.list_data()
    if len(values) == 1 or p.grad_req != "null":
        return values[0].copy()
    return sum(value.as_in_context(values[0].context) for value in values) / len(values)


def _snapshot(params: Any) -> dict[str, Any]:
    return {name: _value(p) for name, p in params.items()}


def _arrays(values: dict[str, Any]) -> list[np.ndarray]:
    return [value.asnumpy() for value in values.values()]


def _named(params: Any, arrays: list[np.ndarray]) -> dict[str, Any]:
    """What :func:`_arrays` made, as a snapshot again."""
    return {
        name: mxnet().nd.array(array, ctx=p.list_ctx()[0], dtype=array.dtype)
        for (name, p), array in zip(params.items(), arrays, strict=True)
    }


def _restore(params: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        params[name].set_data(value)
