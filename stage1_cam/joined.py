"""Stage 1 of all tasks at once: one network with a head a task, whose batches mix the tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from heatcrop.data.joined import JoinedData
from heatcrop.files import link, write_table
from heatcrop.nets.classifier import NetworkContext
from heatcrop.nets.inference import Runner
from heatcrop.runs.folder import TaskFolder
from heatcrop.training.augment import Augmentation
from heatcrop.training.pieces import Seconds
from heatcrop.training.prediction import predict
from stage1_cam.heatmaps import predicted_heatmaps
from stage1_cam.stage import CamPlan, CamWork, Look, write_looks


class JoinedCamWork(CamWork):
    """Stage 1 of several tasks, in pieces.

    A picture that two tasks know comes into one fold, so that no network looks at what it has trained on.

    Parameters
    ----------
    data : JoinedData
    home : TaskFolder
        Gets ``stage1/`` with the networks: weights.params, network.onnx, those of the folds.
    folders : sequence of TaskFolder
        A task's gets its ``stage1/``: history.csv, predictions.csv, heatmaps.npy, and links to the networks.
    plans : sequence of CamPlan
        Each task's; they differ in augmentation and kind of heatmap alone.
    shop, trunk, cache, mark
        As for :class:`heatcrop.training.pieces.BranchWork`.
    """

    def __init__(
        self,
        data: JoinedData,
        home: TaskFolder,
        folders: Sequence[TaskFolder],
        plans: Sequence[CamPlan],
        shop: NetworkContext,
        trunk: Callable[[], Runner | None],
        cache: Path,
        mark: str = "",
    ) -> None:
        super().__init__(data, home, plans[0], shop, trunk, cache, mark)
        self._joined, self._folders, self._plans = data, folders, plans
        self._task_of = np.repeat(np.arange(len(plans)), [len(part) for part in data.parts])

    def augment_of(self, i: int) -> Augmentation:
        return self._plans[self._task_of[i]].augment

    def _look(self, runner: Runner, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        views = self.plan.test.unit()
        for logits, maps, index in predict(runner, self.inputs, rows):
            heatmaps = np.empty((len(index), *maps.shape[3:]), np.float32)
            for number in np.unique(self._task_of[index]).tolist():
                mine, asked = self._task_of[index] == number, self._joined.columns(number)
                kind = self._plans[number].heatmap
                heatmaps[mine] = predicted_heatmaps(
                    logits[mine][:, asked], maps[mine][:, :, asked], views, kind
                )
            yield logits, heatmaps

    def finish(self) -> Seconds:
        started, history = time.perf_counter(), pd.DataFrame(self.history(self.names))
        for number, (part, folder) in enumerate(zip(self._joined.parts, self._folders, strict=True)):
            write_looks(folder, part, self._said_of(number))
            write_table(folder.history(1), history)
            for network in ("weights.params", "network.onnx", *map(_file, self.names[1:])):
                link(folder.stage(1) / network, self.folder.stage(1) / network)
        return {"cam": time.perf_counter() - started}

    def _said_of(self, number: int) -> Iterator[Look]:
        """What was said of one task's rows, about its classes."""
        span, asked = self._joined.rows_of(number), self._joined.columns(number)
        for _, (name, first, end) in self.all_looks():
            rows = self.shown(name)[first:end]
            mine = (rows >= span.start) & (rows < span.stop)
            if mine.any():
                said = self.looks(name, first)
                yield rows[mine] - span.start, said["logits"][mine][:, asked], said["heatmaps"][mine], name


def _file(name: str) -> str:
    return TaskFolder(Path()).fold_weights(name).name
