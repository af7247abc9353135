"""Paths of a run folder: the contract that scripts and people rely on."""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class TaskFolder:
    """Where one task's artefacts lie."""

    path: Path

    @property
    def boxes(self) -> Path:
        return self.path / "boxes.csv"

    @property
    def crops(self) -> Path:
        return self.path / "crops"

    @property
    def sheets(self) -> Path:
        """Contact sheets: ``sheets/<split>/<class>.jpg`` tells of ``crops/<split>/<class>/``."""
        return self.path / "sheets"

    @property
    def rule(self) -> Path:
        """The crop rule that was used and, where it was searched, the figures that chose it."""
        return self.path / "rule.json"

    @property
    def training_boxes(self) -> Path:
        """(N, J, 4) int32: J crops of each picture for stage 3 to train on."""
        return self.path / "training_boxes.npy"

    def stage(self, number: int) -> Path:
        """Folder of stage 1 or 3 (stage 2's artefacts are `boxes` and `crops`)."""
        return self.path / f"stage{number}"

    def weights(self, number: int) -> Path:
        return self.stage(number) / "weights.params"

    def fold_weights(self, name: str) -> Path:
        """Stage 1's weights of a network that trained without one fold, `name` being ``fold 0``."""
        return self.stage(1) / f"{name.replace(' ', '')}.params"

    def network(self, number: int) -> Path:
        return self.stage(number) / "network.onnx"

    def history(self, number: int) -> Path:
        return self.stage(number) / "history.csv"

    def predictions(self, number: int) -> Path:
        return self.stage(number) / "predictions.csv"

    @property
    def heatmaps(self) -> Path:
        """(N, h, w) float32, one map a row of stage 1's predictions."""
        return self.stage(1) / "heatmaps.npy"

    @property
    def fused(self) -> Path:
        return self.stage(3) / "fused.csv"

    @property
    def fusion(self) -> Path:
        return self.stage(3) / "fusion.json"

    def artefacts(self, stage: str) -> list[str]:
        """Paths of what a stage has left, below the task's folder; the crop folder counts as one.

        What else somebody lays beside them is not its own.
        """
        if stage == "crop":
            found = [self.rule, self.boxes, self.training_boxes, self.crops]
        else:
            number = 1 if stage == "cam" else 3
            ours = [
                self.weights(number),
                self.network(number),
                self.history(number),
                self.predictions(number),
            ]
            ours += [self.heatmaps, *self.stage(1).glob("fold*.params")] if number == 1 else []
            ours += [self.fused, self.fusion] if number == 3 else []
            found = sorted(path for path in ours if path.exists())
        return [path.relative_to(self.path).as_posix() for path in found]

    def marker(self, stage: str) -> Path:
        """Fingerprint, seconds and artefacts of a finished stage."""
        return self.path / f".{stage}.json"

    @property
    def finished(self) -> bool:
        """Whether all three stages are done, the later ones since the earlier ones."""
        return self.marker("finetune").is_file() and self.fusion.is_file()


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where a run's artefacts lie."""

    path: Path

    def task(self, name: str) -> TaskFolder:
        return TaskFolder(self.path / name)

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def description(self) -> Path:
        """What prediction must be told of the finished tasks; not there while a run works."""
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
    def trunk_marker(self) -> Path:
        """How many bytes that file has."""
        return self.trunk / ".trunk.json"

    @property
    def joined(self) -> TaskFolder:
        """Where ``stage1/`` and ``stage3/`` hold the networks that serve all tasks, if they share one."""
        return TaskFolder(self.trunk)

    @property
    def outputs(self) -> Path:
        """Which outputs of the networks that serve all tasks are whose: ``{"<task>": [first, end]}``."""
        return self.trunk / "outputs.json"

    @property
    def cache(self) -> Path:
        """Features that are computed once; safe to delete."""
        return self.path / "cache"
