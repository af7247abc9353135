"""Paths of a run folder: the contract that scripts and people rely on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heatcrop.data.groups import TaskGroup

STAGES = ("cam", "crop", "finetune")
"""In the order in which they run."""


@dataclasses.dataclass(frozen=True)
class TaskFolder:
    """Where one task's artefacts are."""

    path: Path

    @property
    def boxes(self) -> Path:
        """Arrays of one row an image: ``boxes`` (N, 4), ``fallback`` (N,), ``score`` (N,)."""
        return self.path / "boxes.npz"

    @property
    def boxes_csv(self) -> Path:
        return self.path / "boxes.csv"

    @property
    def crops(self) -> Path:
        return self.path / "crops"

    @property
    def sheets(self) -> Path:
        """Contact sheets: ``sheets/<split>/<class>.jpg`` shows ``crops/<split>/<class>/``."""
        return self.path / "sheets"

    @property
    def rule(self) -> Path:
        """The crop rule that was used and, where it was searched, the figures that chose it."""
        return self.path / "rule.json"

    @property
    def training_boxes(self) -> Path:
        """Array of int32, shape (N, J, 4): J crops of each image for stage 3 to train on."""
        return self.path / "training_boxes.npy"

    def stage(self, number: int) -> Path:
        """Return the folder of stage 1 or 3; stage 2's artefacts are in the task's folder itself."""
        return self.path / f"stage{number}"

    def weights(self, number: int) -> Path:
        return self.stage(number) / "weights.params"

    def fold_weights(self, network: str) -> Path:
        """Return stage 1's weights of a network that trained without one fold, such as ``fold 0``."""
        return self.stage(1) / f"{network.replace(' ', '')}.params"

    def network(self, number: int) -> Path:
        return self.stage(number) / "network.onnx"

    def history(self, number: int) -> Path:
        return self.stage(number) / "history.csv"

    def predictions(self, number: int) -> Path:
        """Arrays of one row an image: stage 1's ``full``, stage 3's ``crop`` and ``fused``, ``networks``."""
        return self.stage(number) / "predictions.npz"

    def predictions_csv(self, number: int) -> Path:
        return self.stage(number) / "predictions.csv"

    @property
    def fused_csv(self) -> Path:
        return self.stage(3) / "fused.csv"

    @property
    def heatmaps(self) -> Path:
        """Array of float32, shape (N, h, w)."""
        return self.stage(1) / "heatmaps.npy"

    @property
    def fusion(self) -> Path:
        return self.stage(3) / "fusion.json"

    def artefacts(self, stage: str) -> list[str]:
        """List what a stage has left, from the task's folder on; the crop folder counts as one."""
        if stage == "crop":
            found = [self.rule, self.boxes, self.boxes_csv, self.training_boxes, self.crops]
        else:
            number = 1 if stage == "cam" else 3
            files = (self.weights, self.network, self.history, self.predictions, self.predictions_csv)
            found = [file(number) for file in files]
            found += [self.heatmaps, *self.stage(1).glob("fold*.params")] if number == 1 else []
            found += [self.fused_csv, self.fusion] if number == 3 else []
        return sorted(path.relative_to(self.path).as_posix() for path in found if path.exists())

    def record(self, stage: str) -> Path:
        """Return the record of a finished stage, see :mod:`heatcrop.runs.records`."""
        return self.path / f".{stage}.json"

    @property
    def finished(self) -> bool:
        """Whether all three stages are done, the later ones since the earlier ones."""
        return self.record("finetune").is_file() and self.fusion.is_file()


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where a run's artefacts are."""

    path: Path

    def task(self, name: str) -> TaskFolder:
        return TaskFolder(self.path / name)

    def networks(self, group: TaskGroup) -> TaskFolder:
        """Return the folder whose ``stage1/`` and ``stage3/`` hold the networks of a group."""
        return self.task(group.name) if len(group.tasks) == 1 else self.shared

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def description(self) -> Path:
        """What prediction needs to know of the finished tasks; absent while a run works."""
        return self.path / "heatcrop.json"

    @property
    def submission(self) -> Path:
        return self.path / "submission.csv"

    @property
    def rejected(self) -> Path:
        return self.path / "rejected.csv"

    @property
    def survey(self) -> Path:
        return self.path / "pictures.csv"

    @property
    def report(self) -> Path:
        return self.path / "report" / "index.html"

    @property
    def trunk(self) -> Path:
        """Folder of the frozen part of the network, shared by all tasks."""
        return self.path / "trunk"

    @property
    def trunk_network(self) -> Path:
        return self.trunk / "trunk.onnx"

    @property
    def shared(self) -> TaskFolder:
        """Folder of the networks that serve all tasks, where tasks share them."""
        return TaskFolder(self.trunk)

    @property
    def outputs(self) -> Path:
        """Which outputs of the shared networks belong to which task: ``{"<task>": [first, end]}``."""
        return self.trunk / "outputs.json"

    @property
    def cache(self) -> Path:
        """Features that are computed once; safe to delete."""
        return self.path / "cache"
