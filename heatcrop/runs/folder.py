"""Paths of a run folder: the contract that scripts and people rely on."""

from __future__ import annotations

import dataclasses
import shlex
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heatcrop.data.tasks import distinct_names
from heatcrop.errors import PROGRAM

if TYPE_CHECKING:
    from heatcrop.data.groups import TaskGroup

STAGES = ("cam", "crop", "finetune")
"""In the order in which they run."""


class _Below:
    """An attribute of a folder: a path below it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: Any, kind: type) -> Path:
        return Path(folder.path / self.name)


@dataclasses.dataclass(frozen=True)
class TaskFolder:
    """Where one task's artefacts are."""

    path: Path

    heatmaps = _Below("stage1/heatmaps.npy")
    """Array of float32, shape (N, h, w)."""
    spread = _Below("stage1/spread.npy")
    """The same of the kind ``spread``; absent where :attr:`heatmaps` are of this kind."""
    trained_classes = _Below("stage1/trained_classes.json")
    """Numbers of the classes that training images show; absent where these are all."""
    pooling = _Below("stage1/pooling.json")
    """The poolings that were tried, and the figures that chose one; absent where none were."""
    rule = _Below("rule.json")
    """The crop rule that was used and, where it was searched, the figures that chose it."""
    zoomed, regions = _Below("zoomed.npy"), _Below("regions.npy")
    """Where stage 2 zooms: heatmaps, (N, h, w) float32, of regions, (N, 4) int."""
    boxes = _Below("boxes.npz")
    """Arrays of one row an image: ``boxes`` (N, 4), ``fallback`` (N,), ``score`` (N,), and ``predicted``
    (N, K, 4), the K boxes whose logits stage 3 averages."""
    boxes_csv = _Below("boxes.csv")
    crops = _Below("crops")
    training_boxes = _Below("training_boxes.npy")
    """Array of int32, shape (N, J, 4): J crops of each image for stage 3 to train on."""
    fusion = _Below("stage3/fusion.json")
    thresholds = _Below("stage3/thresholds.json")
    """Confidences from which on predictions are accurate enough, see :mod:`heatcrop.runs.thresholds`."""
    fused_csv = _Below("stage3/fused.csv")
    suspects = _Below("suspects.csv")
    """Labels of training and validation images, the most doubtful first."""
    sheets = _Below("sheets")
    """Contact sheets: ``sheets/<split>/<class>.jpg`` shows ``crops/<split>/<class>/``."""
    overview = _Below("sheets/overview.jpg")
    """A sheet with a few crops of each class."""

    def stage(self, number: int) -> Path:
        """Return the folder of stage 1 or 3; stage 2's artefacts are in the task's folder itself."""
        return self.path / f"stage{number}"

    def weights(self, number: int, network: str = "final") -> Path:
        """Return a network's weights; stage 1 also has those of its folds, such as ``fold 0``."""
        return self.stage(number) / f"{'weights' if network == 'final' else network.replace(' ', '')}.params"

    def network(self, number: int) -> Path:
        return self.stage(number) / "network.onnx"

    def history(self, number: int) -> Path:
        return self.stage(number) / "history.csv"

    def predictions(self, number: int) -> Path:
        """Arrays of one row an image: stage 1's ``full``, stage 3's ``crop`` and ``fused``, ``networks``."""
        return self.stage(number) / "predictions.npz"

    def predictions_csv(self, number: int) -> Path:
        return self.stage(number) / "predictions.csv"

    def heatmaps_of(self, spread: bool) -> Path:
        """Return the heatmaps that a rule uses, see :attr:`stage2_crop.plan.CropRule.spread`."""
        return self.spread if spread and self.spread.is_file() else self.heatmaps

    def artefacts(self, stage: str) -> list[str]:
        """List what a stage has left, from the task's folder on; the crop folder counts as one."""
        if stage == "crop":
            found = [self.rule, self.zoomed, self.regions, self.boxes, self.boxes_csv]
            found += [self.training_boxes, self.crops]
        else:
            number = 1 if stage == "cam" else 3
            files = (self.weights, self.network, self.history, self.predictions, self.predictions_csv)
            found = [file(number) for file in files]
            if number == 1:
                found += [self.heatmaps, self.spread, self.trained_classes, self.pooling]
                found += self.stage(1).glob("fold*.params")
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

    config = _Below("config.yaml")
    metrics = _Below("metrics.json")
    submission = _Below("submission.csv")
    report = _Below("report/index.html")
    description = _Below("heatcrop.json")
    """What prediction needs to know of the finished tasks; absent while a run works."""
    rejected = _Below("rejected.csv")
    survey = _Below("pictures.csv")
    trunk = _Below("trunk")
    """Folder of the frozen part of the network, shared by all tasks."""
    trunk_network = _Below("trunk/trunk.onnx")
    outputs = _Below("trunk/outputs.json")
    """Which outputs of the shared networks belong to which task: ``{"<task>": [first, end]}``."""
    folders = _Below("folders.json")
    """Folders of tasks that do not have the task's name, since it differs from another by case alone."""
    cache = _Below("cache")
    """Features that are computed once; safe to delete."""

    def command(self, *words: str) -> str:
        """Return the command line that does something with the run's own data and settings.

        >>> RunFolder(Path("runs/birds")).command("run", "--all").partition("run --all")[2]
        ' --config runs/birds/config.yaml --out runs/birds'
        """
        return f"{PROGRAM} {shlex.join([*words, '--config', str(self.config), '--out', str(self.path)])}"

    def task(self, name: str) -> TaskFolder:
        """Return a task's folder, which has the task's name.

        A name that the run folder itself uses, whatever its case, gets ``_task`` at its end. So does such a
        name with ``_task``, since that is the folder of another task. For tasks whose names differ only by
        case see `assign_folders`.
        """
        return TaskFolder(self.path / self._assigned().get(name, _usual_folder(name)))

    def assign_folders(self, names: Iterable[str]) -> None:
        """Give each task a folder that no other one has, also where the disk ignores case.

        The second of two gets a number. What is assigned stays, and so does a folder that is there.
        """
        assigned = self._assigned()
        there = {unicodedata.normalize("NFC", path.name) for path in self.path.iterdir()}
        usual = {name: _usual_folder(name) for name in names if name not in assigned}
        new = sorted(usual, key=lambda name: usual[name] not in there)
        taken = [*assigned.values(), *(there - set(usual.values()))]
        found = dict(zip(new, distinct_names(map(usual.__getitem__, new), taken), strict=True))
        if others := {name: folder for name, folder in found.items() if folder != usual[name]}:
            from heatcrop.files import write_json  # imports numpy, before which limits are checked

            write_json(self.folders, assigned | others)

    def _assigned(self) -> dict[str, str]:
        """Read the folders that do not have their usual name, by task."""
        if not self.folders.is_file():
            return {}
        from heatcrop.runs.reading import read_json  # imports numpy

        return read_json(self.folders, dict[str, str])

    def cache_of(self, group: TaskGroup, stage: str) -> Path:
        """Return the folder of what a stage computes for a group of tasks."""
        return self.cache / self.networks(group).path.name / stage

    @property
    def shared(self) -> TaskFolder:
        """Folder of the networks that serve all tasks, where tasks share them."""
        return TaskFolder(self.trunk)

    def networks(self, group: TaskGroup) -> TaskFolder:
        """Return the folder whose ``stage1/`` and ``stage3/`` hold the networks of a group."""
        return self.task(group.name) if len(group.tasks) == 1 else self.shared


def remake(path: Path) -> str:
    """Return the fix for a damaged file of a run folder, whose stages notice what is missing.

    >>> remake(Path("heat.npy")).startswith("delete it, and ")
    True
    """
    home = next((parent for parent in path.parents if RunFolder(parent).config.is_file()), None)
    if home is None:
        return f"delete it, and {PROGRAM} run --all makes it again"
    folder, part = RunFolder(home), path.relative_to(home).parts[0]
    # All tasks where the file is of none, or its folder is not named after the task.
    is_task = folder.task(part).path.name == part and (home / part / "stage1").is_dir()
    return f"delete it, and {run_again(folder, part if is_task else '')} makes it again"


def run_again(folder: RunFolder, task: str) -> str:
    """Return the command that runs a task of a run again, by full name.

    All tasks, where they share a network and for an empty name.
    """
    config = folder.config.read_text(encoding="utf-8", errors="replace") if folder.config.is_file() else ""
    one = task and "shared_trunk: true" not in config
    return folder.command("run", *(["--task", task] if one else ["--all"]))


def _usual_folder(name: str) -> str:
    stem = name.casefold()
    while stem.endswith(_TASK_END):
        stem = stem.removesuffix(_TASK_END)
    return f"{name}{_TASK_END}" if stem in _RESERVED else name


_TASK_END = "_task"
# Names in a run folder, in lower case: of its own files, and of those that commands and benchmarks add. The
# names of a task's folders that are replaced at once are not searched for leftovers.
_RESERVED = frozenset(
    {value.name.partition("/")[0] for value in vars(RunFolder).values() if isinstance(value, _Below)}
    | {"export", "controls", "measured", "crops"}
)
