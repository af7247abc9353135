"""TensorBoard's event files, made from ``history.csv``; needs ``requirements/tensorboard.txt``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.errors import RunError
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.reading import read_history

COLUMNS = ("learning_rate", "train_loss", "val_loss", "val_map", "val_accuracy")


def event_writer() -> Any:
    """Import the class that writes events; RunError where it is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise RunError(
            "runtime.tensorboard is on, and tensorboardX is not installed; install it "
            "(.venv/bin/pip install --no-deps -r requirements/tensorboard.txt) or leave the setting off"
        ) from None
    return SummaryWriter


def write_events(folder: TaskFolder) -> None:
    """Write ``stage1/events/<network>/`` and ``stage3/events/<network>/`` anew."""
    writer = event_writer()
    for history in filter(Path.is_file, (folder.history(1), folder.history(3))):
        home = history.with_name("events")
        shutil.rmtree(home, ignore_errors=True)
        for network, rows in read_history(history).groupby("network", sort=False):
            # The history has each epoch's seconds, and was last written when the last epoch ended.
            ends = history.stat().st_mtime - rows["seconds"][::-1].cumsum()[::-1] + rows["seconds"]
            with writer(str(home / str(network).replace(" ", ""))) as events:
                for (_, row), end in zip(rows.iterrows(), ends, strict=True):
                    for name in COLUMNS:
                        if np.isfinite(row[name]):
                            events.add_scalar(name, row[name], int(row["epoch"]), walltime=end)
