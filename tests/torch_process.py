"""Train a small network as one process of a launcher's: ``python -m tests.torch_process FOLDER PLAN ROWS``.

Writes the weights to FOLDER/<WORLD_SIZE>.params and the losses beside them; prints a line after each update.
PLAN is the JSON of a training plan.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from heatcrop.errors import HeatCropError
from heatcrop.nets.devices import ON_CPU
from heatcrop.training.loop import TrainingPlan, train

SHAPE = (3, 16, 16)


def main(folder: Path, plan: TrainingPlan, rows: int) -> None:
    """Serve the first process, or be it."""
    import torch  # pytest imports this file where there is none
    from torch import nn

    from heatcrop.nets.pytorch.engine import TorchEngine, build_classifier

    if TorchEngine().serve(ON_CPU):
        print("served", flush=True)
        return
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, rows)
    x = (rng.normal(size=(rows, *SHAPE)) + truth[:, None, None, None] - 1).astype(np.float32)
    y = np.eye(3, dtype=np.float32)[truth]
    size = plan.batch_size

    def batches(epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng(epoch).permutation(rows)
        for start in range(0, rows, size):
            yield x[order[start : start + size]], y[order[start : start + size]]
            print("updated", flush=True)

    def validate(logits_of: object) -> tuple[float, float, float]:
        return float(np.abs(logits_of(x)).sum()), 0.5, 0.5  # type: ignore[operator]

    torch.manual_seed(0)
    blocks: list[nn.Module] = []
    for channels in (3, 8, 8):  # few layers: rounding grows with each batch norm
        blocks += [nn.Conv2d(channels, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    classifier = build_classifier(blocks, SHAPE, 3, 0.0, 0)
    classifier.save(folder / "initial.params")
    history = train(classifier.updater(plan.optimiser, ON_CPU), batches, -(-rows // size), validate, plan, 1)
    count = os.environ.get("WORLD_SIZE", 1)
    classifier.save(folder / f"{count}.params")
    (folder / f"{count}.json").write_text(json.dumps([[row.train_loss, row.val_loss] for row in history]))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), TrainingPlan(**json.loads(sys.argv[2])), int(sys.argv[3]))
    except HeatCropError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(1)
