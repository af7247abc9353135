"""The configuration's sections and settings, checked whole before anything starts.

Sections that a floor below already describes (:class:`CropRule`, :class:`TrainingPlan`, …) are
that floor's own dataclasses, so each setting is named, explained and given its default once.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from heatcrop.data.tasks import FASHIONAI, Task
from heatcrop.nets.backbones import BACKBONES, unknown_backbone
from heatcrop.nets.devices import DeviceName
from heatcrop.nets.gradients import MapPlan
from heatcrop.training.augment import Augmentation
from heatcrop.training.loop import TrainingPlan
from heatcrop.training.views import TestViews
from stage1_cam.heatmaps import KINDS
from stage1_cam.stage import CamPlan
from stage2_crop.rule import CropRule
from stage2_crop.search import SearchPlan
from stage2_crop.stage import CropPlan
from stage3_finetune.stage import FinetunePlan

# The dataclasses below know nothing of configuration files; a misspelt key must not pass in silence.
for _plan in (
    Augmentation,
    TestViews,
    TrainingPlan,
    CropRule,
    SearchPlan,
    CamPlan,
    CropPlan,
    FinetunePlan,
    MapPlan,
):
    _plan.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]


class Section(BaseModel):
    """A part of the configuration file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskConfig(Section):
    """A task of one's own: its name, its classes in label order, and its regime."""

    name: str
    classes: tuple[str, ...] = Field(min_length=2)
    kind: Literal["design", "length"] = "design"

    @model_validator(mode="after")
    def _serves(self) -> TaskConfig:
        Task(self.name, self.classes, self.kind)  # says what is wrong with a name or a class
        return self


class RenderedConfig(Section):
    """Size of the rendered data set.

    Attributes
    ----------
    per_class, test_per_class : int
        Images of each class of each task for training and validation, and for test.
    folder : str
        Where it is written.
    """

    per_class: int = Field(60, ge=4, le=1_000_000)
    test_per_class: int = Field(15, ge=1, le=1_000_000)
    folder: str = "data/rendered"


class DataConfig(Section):
    """Where images and labels come from.

    Attributes
    ----------
    source : str
        `rendered`: the synthetic default; `files`: the folders in `roots`.
    roots : tuple of str
        Folders of data, or CSV files; the first one that has a row wins.
    layout : str
        Layout of the folders; `auto` detects it.
    tasks : str or tuple of TaskConfig
        `fashionai`: the eight tasks of the competition; `infer`: those of the data; or a list of `{name,
        classes, kind}`.
    splits : dict of str to str
        Renames given splits, for example `{val: test}` to report on a published validation set and to split
        validation from train.
    val_share, test_share : float
        Share of the images for validation if the data names no `val` split, and for test if it names no
        split.
    max_rejected_share : float
        Greatest share of rejected rows.
    limit_per_class : int or None
        Greatest number of images of each class and split, for a quick trial.
    """

    source: Literal["rendered", "files"] = "rendered"
    rendered: RenderedConfig = RenderedConfig()
    roots: tuple[str, ...] = ()
    layout: Literal["auto", "fashionai", "csv", "folders"] = "auto"
    tasks: Literal["fashionai", "infer"] | tuple[TaskConfig, ...] = "fashionai"
    splits: dict[str, Literal["train", "val", "test"]] = {}
    val_share: float = Field(0.15, ge=0, lt=1)
    test_share: float = Field(0.15, ge=0, lt=1)
    max_rejected_share: float = Field(0.02, ge=0, le=1)
    limit_per_class: int | None = Field(None, ge=1, le=1_000_000_000)

    @field_validator("tasks")
    @classmethod
    def _names_some(cls, tasks: Any) -> Any:
        if tasks == ():
            raise ValueError(
                "names no task; list some, or say fashionai for the competition's, infer for the data's own"
            )
        return tasks

    @model_validator(mode="after")
    def _some_left(self) -> DataConfig:
        if self.val_share + self.test_share >= 1:
            raise ValueError(
                f"val_share {self.val_share} and test_share {self.test_share} leave nothing to train on"
            )
        return self


class NetworkConfig(Section):
    """The backbone, its input, and how much of it is trained.

    Attributes
    ----------
    backbone : str
        `efficientnet_lite0`, `inceptionv4`, or the name of an image classifier in GluonCV's model zoo.
    weights : str
        `imagenet`, `none` or a file.
    frozen_blocks : int
        Number of first blocks that are not trained; their features are computed once an image and cached. -1
        for all.
    dropout : float
        Before the classifier.
    dilated : bool
        Double the resolution of heatmaps with the same weights, for four times the work of the last stage.
    input_px : int
        Side of the input in pixels.
    fit : str
        `pad` keeps proportions, `stretch` does not.
    shared_trunk : bool
        Train one network for all tasks, see `docs/ensembles.md`.
    """

    backbone: str = "efficientnet_lite0"
    weights: str = "imagenet"
    frozen_blocks: int = Field(16, ge=-1, le=10_000)
    dropout: float = Field(0.2, ge=0, lt=1)
    dilated: bool = False
    input_px: int = Field(224, ge=32, le=2048)
    fit: Literal["stretch", "pad"] = "pad"
    shared_trunk: bool = False

    @field_validator("backbone")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BACKBONES:
            raise ValueError(unknown_backbone(name))
        return name

    @model_validator(mode="after")
    def _fits(self) -> NetworkConfig:
        if misfit := BACKBONES[self.backbone].misfit(self.input_px):
            raise ValueError(misfit)
        return self


class RegimeConfig(Section):
    """Changes for one kind of tasks, or for one task.

    Attributes
    ----------
    cam, crop, finetune : dict
        Keys of these sections and their values.
    """

    cam: dict[str, Any] = {}
    crop: dict[str, Any] = {}
    finetune: dict[str, Any] = {}


MOST_THREADS = 8
"""Of those taken unasked: each one that reads keeps a batch of pictures in memory."""


def cores() -> int:
    """Count the cores that this process may use: a container's may be fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class RuntimeConfig(Section):
    """The machine.

    Attributes
    ----------
    device : str
        `auto` uses the GPU if one works; `gpu` fails if none works.
    amp : bool
        Mixed precision, on GPUs only.
    engine : str
        For prediction; `auto` uses ONNX Runtime where the network allows it.
    threads : int
        Threads that read images; by default one a core and at most 8.
    jobs : str or int
        Worker processes, see `docs/clusters.md`.
    keep_cache : bool
        Keep the cached features of a finished run.
    tensorboard : bool
        Write TensorBoard's event files, after `pip install --no-deps -r requirements/tensorboard.txt`.
    """

    device: DeviceName = "auto"
    amp: bool = False
    engine: Literal["auto", "onnx", "mxnet"] = "auto"
    threads: int = Field(default_factory=lambda: min(cores(), MOST_THREADS), ge=1, le=256)
    jobs: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    keep_cache: bool = False
    tensorboard: bool = False


class Config(Section):
    """A run.

    Attributes
    ----------
    name : str
        Name of the run folder.
    seed : int
        Seed of all random numbers.
    tasks : dict of str to RegimeConfig
        Changes of `cam`, `crop` and `finetune` for one task, by name. They take precedence over `design` and
        `length`.
    """

    name: str = "run"
    seed: int = Field(0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    heatmap: MapPlan = MapPlan()
    cam: CamPlan = CamPlan()
    crop: CropPlan = CropPlan()
    finetune: FinetunePlan = FinetunePlan()
    design: RegimeConfig = RegimeConfig()
    length: RegimeConfig = RegimeConfig()
    tasks: dict[str, RegimeConfig] = {}
    runtime: RuntimeConfig = RuntimeConfig()

    @field_validator("name")
    @classmethod
    def _folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError("the name becomes a folder: letters, digits, '.', '_' and '-' only")
        return name

    @model_validator(mode="after")
    def _maps_can_be_made(self) -> Config:
        maps = self.heatmap
        if not 0 <= maps.layer <= _MOST_LAYERS:
            raise ValueError(
                f"heatmap.layer: is {maps.layer}; expected at least 0 and at most {_MOST_LAYERS}"
            )
        if maps.layer and not maps.by_gradient:
            raise ValueError(
                f"heatmap.layer: is {maps.layer}; cam reads the last map, 0: "
                "set heatmap.method to grad_cam or layer_cam"
            )
        if maps.by_gradient and self.runtime.engine == "onnx":
            raise ValueError(
                f"heatmap.method: {maps.method} needs a backward pass, "
                "which ONNX Runtime has not; set runtime.engine to auto or mxnet"
            )
        return self

    @model_validator(mode="after")
    def _overrides_fit(self) -> Config:
        self._plans()
        for regime in ("design", "length"):
            self._plans(getattr(self, regime), where=regime)
        known = self.known_tasks()
        for name, override in self.tasks.items():
            self._plans(override, where=f"tasks.{name}")
            if known is not None and not any(name in (task.name, task.short) for task in known):
                there = ", ".join(task.short for task in known)
                raise ValueError(f"tasks.{name}: no task is named {name!r}; there are: {there}")
        return self

    @model_validator(mode="after")
    def _trunk_can_be_shared(self) -> Config:
        if not self.network.shared_trunk:
            return self
        if self.heatmap.by_gradient:
            raise ValueError(
                f"heatmap.method: {self.heatmap.method} takes a backward pass a class, and the "
                "network has the classes of all tasks; set it to cam, or network.shared_trunk "
                "to false"
            )
        tasks = self.known_tasks()
        if tasks is None:  # any of them could be of either kind
            regimes = {kind: getattr(self, kind) for kind in ("design", "length")}
            every = [(kind, self._plans(regime)) for kind, regime in regimes.items()]
            every += [
                (f"tasks.{name}", self._plans(regimes["design"], own)) for name, own in self.tasks.items()
            ]
        else:
            every = [(task.short, self.plans(task)) for task in tasks]
        branches = [(name, {"cam": cam, "finetune": finetune}) for name, (cam, _, finetune) in every]
        first, like = branches[0]
        for name, plans in branches[1:]:
            for branch, plan in plans.items():
                for key, value in vars(plan).items():
                    if key not in ("augment", "heatmap") and value != getattr(like[branch], key):
                        raise ValueError(
                            f"{branch}.{key}: {first} and {name} have different ones; network.shared_trunk "
                            "trains one network for all tasks: give them the same (augment may differ)"
                        )
        return self

    def _plans(self, *overrides: RegimeConfig, where: str = "") -> tuple[CamPlan, CropPlan, FinetunePlan]:
        plans: list[Any] = []
        for part in ("cam", "crop", "finetune"):
            values = _as_dict(getattr(self, part))
            for override in overrides:
                values = merge(values, getattr(override, part))
            try:
                plans.append(_Plans.model_validate({part: values}).__dict__[part])
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(str(k) for k in (where, *first["loc"]) if k)
                raise ValueError(f"{key}: {reason_of(first)}") from None
            _check_bounds(_as_dict(plans[-1]), f"{where}.{part}" if where else part)
        return plans[0], plans[1], plans[2]

    def plans(self, task: Task) -> tuple[CamPlan, CropPlan, FinetunePlan]:
        """Resolve the three stages' plans for one task."""
        overrides = [getattr(self, task.kind)]
        overrides += [self.tasks[name] for name in (task.name, task.short) if name in self.tasks]
        return self._plans(*overrides)

    def known_tasks(self) -> tuple[Task, ...] | None:
        """The tasks the configuration names; None when they are to be inferred from the data."""
        if self.data.tasks == "fashionai":
            return FASHIONAI
        if self.data.tasks == "infer":
            return None
        return tuple(Task(t.name, t.classes, t.kind) for t in self.data.tasks)

    def one_thread(self) -> Config:
        """The same run with one thread, for a process that works beside others."""
        return self.model_copy(update={"runtime": self.runtime.model_copy(update={"threads": 1})})

    def with_absolute_weights(self) -> Config:
        """Return the same run with a weight file's path that holds in any working directory."""
        if self.network.weights in ("imagenet", "none"):
            return self
        network = self.network.model_copy(update={"weights": os.path.abspath(self.network.weights)})
        return self.model_copy(update={"network": network})

    def with_tasks(self, tasks: Sequence[Task]) -> Config:
        """Write inferred tasks down, so that a finished run knows its own."""
        if self.data.tasks != "infer":
            return self
        listed = tuple(TaskConfig(name=t.name, classes=t.classes, kind=t.kind) for t in tasks)
        return self.model_copy(update={"data": self.data.model_copy(update={"tasks": listed})})


class _Plans(Section):
    cam: CamPlan = CamPlan()
    crop: CropPlan = CropPlan()
    finetune: FinetunePlan = FinetunePlan()


_MOST_LAYERS = 10_000
# What the dataclasses below take as plain numbers and words: least and greatest value, or the words. Counts
# and rates end far above what anybody uses, and below what an engine or a disk cannot take.
_BOUNDS: dict[str, tuple[Any, ...]] = {
    "epochs": (1, 100_000),
    "batch_size": (1, 1_000_000),
    "accumulate": (1, 1_000_000),
    "optimizer": ("adam", "sgd"),
    "learning_rate": (1e-12, 10),
    "head_rate": (0, 1_000_000),
    "weight_decay": (0, 10),
    "schedule": ("cosine", "step"),
    "factor": (1e-6, 1),
    "warmup": (0, 100_000),
    "average": (0, 0.999999),
    "crop_scale": (0.01, 1),
    "aspect": (1, 10),
    "shift": (0, 1),
    "flip": (0, 1),
    "brightness": (0, 1),
    "contrast": (0, 1),
    "saturation": (0, 1),
    "erase": (0, 1),
    "views": (1, 1000),
    "folds": (1, 1000),
    "heatmap": KINDS,
    "scales": (1, 10),
    "grid": (1, 100),
    "threshold": (1e-6, 1),
    "margin": (0, 10),
    "percentile": (0, 100),
    "by": ("area", "mass"),
    "together": (0, 1),
    "least_side": (0, 1),
    "greatest_side": (1e-6, 1000),
    "least_area": (0, 1),
    "least_contrast": (0, 1000),
    "invisible": ("whole", "usual", "crop"),
    "usual": (0, 1000),
    "quality": (1, 100),
    "pictures": (0, 1_000_000_000),
    "thresholds": (1e-6, 1),
    "margins": (0, 10),
    "least_sides": (0, 1),
    "greatest_sides": (1e-6, 1000),
    "jitter": (0, 0.9),
    "jitters": (1, 100),
    "steps": (0, 100_000),
}


def _check_bounds(values: dict[str, Any], where: str) -> None:
    """Refuse now what would otherwise fail in the middle of a run."""
    for key, value in values.items():
        if isinstance(value, dict):
            _check_bounds(value, f"{where}.{key}")
            continue
        bounds = _BOUNDS.get(key)
        if bounds is None or value is None:
            continue
        if isinstance(bounds[0], str):
            fine, expected = value in bounds, " or ".join(map(repr, bounds))
        else:
            least, most = bounds
            fine = all(least <= v <= most for v in (value if isinstance(value, tuple) else (value,)))
            fine = fine and (value != () or key == "steps")
            expected = f"at least {_plain(least)} and at most {_plain(most)}"
        if not fine:
            raise ValueError(f"{where}.{key}: is {value!r}; expected {expected}")


def _plain(number: float) -> str:
    return f"{number:,}" if number > 1000 else f"{number:g}"


def _as_dict(plan: Any) -> dict[str, Any]:
    return dataclasses.asdict(plan)


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Lay `change` over `base`, section by section.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    out = dict(base)
    for key, value in change.items():
        inner = out.get(key)
        out[key] = merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return out


def reason_of(error: Any) -> str:
    """What is wrong with a setting, by an entry of pydantic's list of errors."""
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return "no such setting; see the README's table of settings"
    if not error["loc"]:  # told by a check of ours, which names the place itself
        return str(error["msg"]).removeprefix("Value error, ")
    found = repr(error["input"])
    shown = found if len(found) < 80 else found[:77] + "..."
    return f"{error['msg'].removeprefix('Value error, ')} (found {shown})"
