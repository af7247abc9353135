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
    """Find the class that writes events, before hours are spent.

    Raises
    ------
    RunError
        When it is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise RunError(
            "runtime.tensorboard is on, and tensorboardX is not installed; install it "
            "(.venv/bin/pip install --no-deps -r requirements/tensorboard.txt) or leave the setting off"
        ) from None
    return SummaryWriter


def write_events(folder: TaskFolder) -> list[Path]:
    """Write ``stage1/events/<network>/`` and ``stage3/events/<network>/`` anew.

    Returns
    -------
    list of Path
        The folders written, each for ``tensorboard --logdir``.
    """
    writer, written = event_writer(), []
    for number in (1, 3):
        if not folder.history(number).is_file():
            continue
        home = folder.stage(number) / "events"
        shutil.rmtree(home, ignore_errors=True)
        table = read_history(folder.history(number))
        ended = folder.history(number).stat().st_mtime
        for network, rows in table.groupby("network", sort=False):
            # The history knows how long each epoch took, and was written when the last one was over.
            when = ended - rows["seconds"][::-1].cumsum()[::-1] + rows["seconds"]
            with writer(str(home / str(network).replace(" ", ""))) as events:
                for (_, row), at in zip(rows.iterrows(), when, strict=True):
                    for name in COLUMNS:
                        if np.isfinite(row[name]):
                            events.add_scalar(name, row[name], int(row["epoch"]), walltime=at)
        written.append(home)
    return written
