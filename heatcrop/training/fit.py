"""Train a classifier on some rows of a data set, and validate it on others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from heatcrop.errors import DivergedError
from heatcrop.metrics.calibration import cross_entropy, softmax
from heatcrop.metrics.score import scores
from heatcrop.nets.classifier import Classifier
from heatcrop.nets.devices import ON_CPU, Devices
from heatcrop.training.checkpoint import Checkpoint
from heatcrop.training.inputs import INFERENCE_BATCH, Inputs
from heatcrop.training.loop import TrainingPlan, train


def fit(
    classifier: Classifier,
    inputs: Inputs,
    soft: np.ndarray,
    letters: np.ndarray,
    train_rows: np.ndarray,
    val_rows: np.ndarray,
    plan: TrainingPlan,
    seed: int,
    name: str,
    done: Callable[[int], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
    devices: Devices = ON_CPU,
) -> list[dict[str, Any]]:
    """Train a classifier on some rows, validate each epoch on others, return the rows of ``history.csv``.

    `soft`, (N, C) float32, is below 0 at classes that do not belong to a row; `letters` is (N, C) int8.
    `val_rows` may be empty; the last epoch is then kept. `name` is the network's, for the history, and `done`
    gets the number of epochs done since the last call. The checkpoint's fingerprint covers everything but
    the initial weights, which are added here.
    """

    def batches(epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng((seed, epoch)).permutation(train_rows)
        for x, index in inputs.training(epoch, order, plan.batch_size):
            yield x, soft[index]

    def validate(logits_of: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float, float]:
        if not len(val_rows):
            return float("nan"), float("nan"), float("nan")
        parts = [logits_of(x[:, 0]) for x, _ in inputs.testing(val_rows, INFERENCE_BATCH, plain=True)]
        return validation_figures(np.concatenate(parts), soft[val_rows], letters[val_rows])

    if checkpoint is not None:
        fingerprint = f"{checkpoint.fingerprint} {classifier.digest()}"
        checkpoint = dataclasses.replace(checkpoint, fingerprint=fingerprint)
    history = train(
        classifier.updater(plan.optimiser, devices),
        batches,
        -(-len(train_rows) // plan.batch_size),
        validate,
        plan,
        seed,
        lambda _: done(1),
        checkpoint,
    )
    return [{"network": name, **dataclasses.asdict(epoch)} for epoch in history]


def validation_figures(
    logits: np.ndarray, soft: np.ndarray, letters: np.ndarray
) -> tuple[float, float, float]:
    """Compute loss, mAP and accuracy; where several tasks share the network, their means over the tasks.

    All arrays are (N, C); `soft` is below 0 at classes that do not belong to a row, and rows with the same
    classes form a task. DivergedError where a logit is not finite.
    """
    if not np.isfinite(logits).all():
        raise DivergedError("the logits are not finite")
    own = soft >= 0
    if not own.all():
        figures = []
        for task in np.unique(own, axis=0):
            rows = (own == task).all(axis=1)
            figures.append(validation_figures(*(a[rows][:, task] for a in (logits, soft, letters))))
        loss, mean_ap, right = np.mean(figures, axis=0).tolist()
        return loss, mean_ap, right
    found = scores(softmax(logits), letters)
    loss = float(cross_entropy(softmax(logits.astype(np.float64)), soft).mean())
    return loss, found["map"], found["accuracy"]
