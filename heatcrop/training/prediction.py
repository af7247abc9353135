"""Prediction: logits and class maps of items, averaged over test views."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from heatcrop.nets.inference import Runner
from heatcrop.training.inputs import Inputs

INFERENCE_BATCH = 32


def predict(
    runner: Runner, inputs: Inputs, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield logits (B, C) averaged over test views, class maps (B, T, C, h, w), and the (B,) rows."""

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, maps = runner(x.reshape(-1, *x.shape[2:]))  # (B * T, C), (B * T, C, h, w)
        shape = x.shape[:2]
        return logits.reshape(*shape, -1).mean(axis=1), maps.reshape(*shape, *maps.shape[1:])

    size = max(1, INFERENCE_BATCH // inputs.n_views)
    for (logits, maps), index in inputs.testing(rows, size, work=run):
        yield logits, maps, index
