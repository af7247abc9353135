"""Stage 3 of all tasks at once: the network that they share, fine-tuned on the crops of all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from heatcrop.data.joined import JoinedData
from heatcrop.files import link
from heatcrop.nets.classifier import NetworkContext
from heatcrop.nets.inference import Runner, softmax
from heatcrop.runs.boxes import read_cuts
from heatcrop.runs.folder import TaskFolder
from heatcrop.runs.predictions import read_networks
from heatcrop.runs.reading import read_array
from heatcrop.training.augment import Augmentation
from heatcrop.training.batches import Images
from heatcrop.training.pieces import Seconds
from stage3_finetune.stage import FinetunePlan, FinetuneWork, write_fused


class JoinedFinetuneWork(FinetuneWork):
    """Stage 3 of several tasks, in pieces.

    Parameters
    ----------
    data : JoinedData
    home : TaskFolder
        Holds ``stage1/`` and gets ``stage3/`` with the networks.
    folders : sequence of TaskFolder
        A task's gets its ``stage3/``: history.csv, predictions.csv, fused.csv, fusion.json, and links to
        the networks.
    plans : sequence of FinetunePlan
        Each task's; they differ in augmentation alone.
    shop, trunk, cache, mark
        As for :class:`heatcrop.training.pieces.BranchWork`.
    """

    def __init__(
        self,
        data: JoinedData,
        home: TaskFolder,
        folders: Sequence[TaskFolder],
        plans: Sequence[FinetunePlan],
        shop: NetworkContext,
        trunk: Callable[[], Runner | None],
        cache: Path,
        mark: str = "",
    ) -> None:
        self._joined, self._folders = data, folders
        self._augment = [plan.augment for plan in plans]
        self._task_of = np.repeat(np.arange(len(plans)), [len(part) for part in data.parts])
        super().__init__(data, home, plans[0], shop, trunk, cache, mark)

    def _said_before(self) -> tuple[np.ndarray, np.ndarray]:
        spoke, full = [], np.full(self._joined.letters.shape, np.nan)
        for number, folder in enumerate(self._folders):
            network, said = read_networks(folder.predictions(1))
            spoke.append(network)
            full[self._joined.rows_of(number), self._joined.columns(number)] = said
        return np.concatenate(spoke), full

    def augment_of(self, i: int) -> Augmentation:
        return self._augment[self._task_of[i]]

    def pictures(self) -> Images:
        boxes = [
            read_cuts(folder.boxes, len(part))[1]
            for folder, part in zip(self._folders, self._joined.parts, strict=True)
        ]
        trained = [read_array(folder.training_boxes) for folder in self._folders]
        # Training takes a row's boxes in turn: tasks with fewer of them begin again.
        most = math.lcm(*(each.shape[1] for each in trained))
        trained = [np.tile(each, (1, most // each.shape[1], 1)) for each in trained]
        return Images(self.data.paths, np.concatenate(boxes), np.concatenate(trained), self.data.sizes)

    def finish(self) -> Seconds:
        started, history = time.perf_counter(), pd.DataFrame(self.history(self.names))
        logits, network = self._said()
        for number, (part, folder) in enumerate(zip(self._joined.parts, self._folders, strict=True)):
            rows, asked = self._joined.rows_of(number), self._joined.columns(number)
            crop, full = softmax(logits[rows, asked]), self._full[rows, asked]
            write_fused(folder, part, crop, network[rows], full, history)
            for name in ("weights.params", "network.onnx"):
                link(folder.stage(3) / name, self.folder.stage(3) / name)
        return {"finetune": time.perf_counter() - started}
