"""The configuration's sections and settings, all checked before any work starts.

Sections such as :class:`CropPlan` are the dataclasses of the code that uses them, so each setting has its
name, its bounds and its default in one place.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from heatcrop.data.tasks import FASHIONAI, Task
from heatcrop.errors import EngineError
from heatcrop.nets.backbones import backbone
from heatcrop.nets.devices import DeviceName
from heatcrop.nets.maps import MapPlan
from heatcrop.validation import CHECKED, error_line
from stage1_cam.plan import CamPlan
from stage2_crop.plan import CropPlan
from stage3_finetune.plan import FinetunePlan


class Section(BaseModel):
    """A section of the configuration file; unknown keys are errors, also in the dataclasses of its fields."""

    model_config = ConfigDict(**CHECKED, frozen=True)


class RenderedConfig(Section):
    """Size of the rendered data set."""

    per_class: int = Field(60, ge=4, le=1_000_000)
    """Images of each class of each task for training and validation."""
    test_per_class: int = Field(15, ge=1, le=1_000_000)
    """Images of each class of each task for test."""
    folder: str = "data/rendered"
    """Where it is written."""


class DataConfig(Section):
    """Where images and labels come from."""

    source: Literal["rendered", "files"] = "rendered"
    """`rendered`: the synthetic default; `files`: the folders in `roots`."""
    rendered: RenderedConfig = RenderedConfig()
    roots: tuple[str, ...] = ()
    """Folders of data, or CSV files; `~` and environment variables are replaced. The first one that has a row
    wins."""
    layout: Literal[
        "auto", "fashionai", "csv", "metadata", "coco", "labelstudio", "cvat", "parquet", "folders"
    ] = "auto"
    """Layout of the folders; `auto` detects it."""
    tasks: Literal["fashionai", "infer"] | tuple[Task, ...] = "fashionai"
    """`fashionai`: the eight tasks of the competition; `infer`: those of the data; or a list of `{name,
    classes, kind}`."""
    left_out: tuple[str, ...] = ()
    """Names of tasks of the data whose rows are left out; `infer` adds those that cannot be trained."""
    splits: dict[str, Literal["train", "val", "test"]] = {}
    """Renames given splits, for example `{val: test}` to report on a published validation set and to split
    validation from train, or `{fold1: train}` for a folder or CSV with names of its own."""
    follow_links: bool = False
    """Read images through links that lead out of the data folder."""
    absolute_paths: bool = False
    """Read images that a CSV names by their absolute path."""
    val_share: float = Field(0.15, ge=0, lt=1)
    """Share of the images for validation if the data names no `val` split."""
    test_share: float = Field(0.15, ge=0, lt=1)
    """Share of the images for test if the data names no split, and every row of the task has a label: rows
    without one are its test set."""
    max_rejected_share: float = Field(0.02, ge=0, le=1)
    """Greatest share of rejected rows."""
    excluded: tuple[str, ...] = ()
    """CSV files with a column `image` (and `task`) of images that are left out of training and validation. A
    `suspects.csv` can be given as it is: its rows with `suspect` 1 are meant."""
    limit_per_class: int | None = Field(None, ge=1, le=1_000_000_000)
    """Greatest number of images of each class and split, for a quick trial."""

    @field_validator("roots", "excluded")
    @classmethod
    def _are_no_empty_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if "" in paths:  # it would be the current folder
            raise ValueError("holds an empty path, as of a variable that is not set; write . for this folder")
        return paths

    @field_validator("tasks", mode="before")
    @classmethod
    def _have_classes(cls, tasks: Any) -> Any:
        names = [one for one in tasks if isinstance(one, str)] if isinstance(tasks, list) else []
        if names:
            raise ValueError(
                f"lists the task {names[0]!r} without its classes; write {{name: {names[0]}, classes: [a, "
                "b]}, or set it to infer and choose tasks with --task"
            )
        return tasks

    @field_validator("tasks")
    @classmethod
    def _are_different(cls, tasks: Any) -> Any:
        if tasks == ():
            raise ValueError(
                "names no task; list some, or set it to fashionai (the competition's) or infer (the data's)"
            )
        names = [] if isinstance(tasks, str) else [task.name for task in tasks]
        if repeated := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"lists the task {repeated!r} twice; keep one of them")
        return tasks

    @model_validator(mode="after")
    def _leaves_training_images(self) -> DataConfig:
        if self.val_share + self.test_share >= 1:
            raise ValueError(
                f"val_share {self.val_share} and test_share {self.test_share} leave nothing to train on"
            )
        return self


class NetworkConfig(Section):
    """The backbone, its input, and how much of it is trained."""

    backbone: str = "efficientnet_lite0"
    """`efficientnet_lite0`, `inceptionv4`, the name of an image classifier in GluonCV's model zoo, or
    `timm/<name>`, which PyTorch trains."""
    weights: str = "imagenet"
    """`imagenet`, `none` or a file."""
    frozen_blocks: int = Field(16, ge=-1, le=10_000)
    """Number of first blocks that are not trained; their features are computed once an image and cached. -1
    for all."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Before the classifier."""
    dilated: bool = False
    """Double the resolution of heatmaps with the same weights, for four times the work of the last stage.
    MXNet only."""
    input_px: int = Field(224, ge=32, le=2048)
    """Side of the input in pixels."""
    fit: Literal["stretch", "pad"] = "pad"
    """`pad` keeps proportions, `stretch` does not."""
    shared_trunk: bool = False
    """Train one network for all tasks, see `docs/ensembles.md`."""

    @field_validator("backbone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            backbone(name)
        except EngineError as error:
            raise ValueError(str(error)) from None
        return name

    @model_validator(mode="after")
    def _fits(self) -> NetworkConfig:
        if misfit := backbone(self.backbone).misfit(self.input_px):
            raise ValueError(misfit)
        return self


class RegimeConfig(Section):
    """Changes for one kind of tasks, or for one task."""

    cam: dict[str, Any] = {}
    """Keys of the section `cam` and their values."""
    crop: dict[str, Any] = {}
    """Keys of the section `crop` and their values."""
    finetune: dict[str, Any] = {}
    """Keys of the section `finetune` and their values."""


MOST_THREADS = 8
"""The greatest default: each reading thread keeps a batch of images in memory."""


def cores() -> int:
    """Count the cores that this process may use; a container may have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class RuntimeConfig(Section):
    """The machine."""

    device: DeviceName = "auto"
    """`auto` uses the GPU if one works; `gpu` fails if none works."""
    amp: bool = False
    """Mixed precision, on GPUs only."""
    trainer: Literal["auto", "mxnet", "torch"] = "auto"
    """What trains: `auto` takes MXNet where it is installed and knows the backbone and the best device, and
    PyTorch otherwise."""
    engine: Literal["auto", "onnx", "mxnet"] = "auto"
    """What predicts: `onnx` is ONNX Runtime, `mxnet` the training engine, also where that is PyTorch. `auto`
    takes the training engine where it has a GPU, and otherwise ONNX Runtime where the network allows it."""
    threads: int = Field(default_factory=lambda: min(cores(), MOST_THREADS), ge=1, le=256)
    """Threads that read images and compute; by default one a core and at most 8."""
    jobs: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = "auto"
    """Worker processes, see `docs/clusters.md`."""
    keep_cache: bool = False
    """Keep the cached features of a finished run."""
    tensorboard: bool = False
    """Write TensorBoard's event files, after `pip install --no-deps -r requirements/tensorboard.txt`."""


class Config(Section):
    """A run."""

    name: str = "run"
    """Name of the run folder."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of all random numbers."""
    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    heatmap: MapPlan = MapPlan()
    cam: CamPlan = CamPlan()
    crop: CropPlan = CropPlan()
    finetune: FinetunePlan = FinetunePlan()
    design: RegimeConfig = RegimeConfig()
    length: RegimeConfig = RegimeConfig()
    tasks: dict[str, RegimeConfig] = {}
    """Changes of `cam`, `crop` and `finetune` for one task, by name. They take precedence over `design` and
    `length`."""
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
        if maps.layer and not maps.by_gradient:
            raise ValueError(
                f"heatmap.layer: is {maps.layer}; cam reads the last map, 0: "
                "set heatmap.method to grad_cam or layer_cam"
            )
        if maps.by_gradient and self.runtime.engine == "onnx":
            raise ValueError(
                f"heatmap.method: {maps.method} needs a backward pass, "
                "which ONNX Runtime does not have; set runtime.engine to auto or mxnet"
            )
        return self

    @model_validator(mode="after")
    def _overrides_fit(self) -> Config:
        for regime in ("design", "length"):
            self._plans(getattr(self, regime), where=regime)
        for name, override in self.tasks.items():
            self._plans(override, where=f"tasks.{name}")
        known = self.known_tasks()
        if known is not None and (fault := self.unknown_override(known)):
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _trunk_can_be_shared(self) -> Config:
        if not self.network.shared_trunk:
            return self
        if self.heatmap.by_gradient:
            raise ValueError(
                f"heatmap.method: {self.heatmap.method} takes a backward pass per class, and the "
                "network has the classes of all tasks; set it to cam, or network.shared_trunk "
                "to false"
            )
        tasks = self.known_tasks()
        if tasks is None:  # each of them may turn out to be of either regime
            named = [("design", self._plans(self.design)), ("length", self._plans(self.length))]
            named += [(f"tasks.{name}", self._plans(self.design, own)) for name, own in self.tasks.items()]
        else:
            named = [(task.short, self.plans(task)) for task in tasks]
        (first, (first_cam, _, first_finetune)), *others = named
        for name, (cam, _, finetune) in others:
            for section, one, other in (("cam", first_cam, cam), ("finetune", first_finetune, finetune)):
                for key, value in vars(other).items():
                    if key not in ("augment", "heatmap") and value != getattr(one, key):
                        raise ValueError(
                            f"{section}.{key}: {first} and {name} have different ones; network.shared_trunk "
                            "trains one network for all tasks: give them the same (augment may differ)"
                        )
        return self

    def _plans(self, *overrides: RegimeConfig, where: str = "") -> tuple[CamPlan, CropPlan, FinetunePlan]:
        values = {part: dataclasses.asdict(getattr(self, part)) for part in ("cam", "crop", "finetune")}
        for override in overrides:
            values = merge(values, override.model_dump())
        try:
            plans = _Plans.model_validate(values)
        except ValidationError as error:
            raise ValueError(error_line(error.errors()[0], where)) from None
        for name, rule in (("rule", plans.crop.rule), ("first", plans.crop.first)):
            if rule is not None and rule.spread and plans.cam.heatmap not in ("evidence", "spread"):
                raise ValueError(
                    f"{where + '.' * bool(where)}crop.{name}.spread: stage 1 makes such heatmaps besides "
                    f"evidence; cam.heatmap is {plans.cam.heatmap}: set cam.heatmap=spread instead"
                )
        return plans.cam, plans.crop, plans.finetune

    def plans(self, task: Task) -> tuple[CamPlan, CropPlan, FinetunePlan]:
        """Resolve the three stages' plans for one task."""
        overrides = [getattr(self, task.kind)]
        overrides += [self.tasks[name] for name in (task.short, task.name) if name in self.tasks]
        return self._plans(*overrides)

    def with_plans_of(self, other: Config, tasks: Sequence[Task], stages: Sequence[str]) -> Config:
        """Copy with what another configuration plans for some tasks and stages, as changes below `tasks`."""
        changed = dict(self.tasks)
        for task in tasks:
            own = changed.get(task.name, RegimeConfig()).model_dump()
            plans = zip(("cam", "crop", "finetune"), self.plans(task), other.plans(task), strict=True)
            for stage, before, wanted in plans:
                if stage in stages:
                    different = difference(dataclasses.asdict(before), dataclasses.asdict(wanted))
                    own[stage] = merge(own[stage], different)
            if any(own.values()):
                changed[task.name] = RegimeConfig(**own)
        return self.model_copy(update={"tasks": changed})

    def unknown_override(self, known: Sequence[Task]) -> str:
        """Return which name under `tasks` is that of none of the known ones; '' where all are known."""
        for name in self.tasks:
            if not any(name in (task.name, task.short) for task in known):
                names = ", ".join(task.short for task in known)
                return f"tasks.{name}: no task is named {name!r}; there are: {names}"
        return ""

    def known_tasks(self) -> tuple[Task, ...] | None:
        """Return the tasks that the configuration names; None when they are inferred from the data."""
        if self.data.tasks == "fashionai":
            return FASHIONAI
        if self.data.tasks == "infer":
            return None
        return self.data.tasks

    def changed(self, section: str, **settings: Any) -> Config:
        """Copy with other settings in one section, which are not checked."""
        return self.model_copy(update={section: getattr(self, section).model_copy(update=settings)})

    def with_tasks(self, tasks: Sequence[Task], left_out: Sequence[str] = ()) -> Config:
        """Copy with inferred tasks listed, so that a finished run knows them."""
        if self.data.tasks != "infer":
            return self
        return self.changed("data", tasks=tuple(tasks), left_out=tuple(left_out))


class _Plans(Section):
    cam: CamPlan = CamPlan()
    crop: CropPlan = CropPlan()
    finetune: FinetunePlan = FinetunePlan()


def difference(base: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what merged into `base` gives `wanted`, which has the same keys.

    >>> difference({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"x": 1, "y": 4}, "b": 3})
    {'a': {'y': 4}}
    """
    found = {}
    for key, value in wanted.items():
        both = isinstance(value, dict) and isinstance(base[key], dict)
        if value != base[key]:
            found[key] = difference(base[key], value) if both else value
    return found


def merge(base: dict[str, Any], change: dict[str, Any], emptying: bool = False) -> dict[str, Any]:
    """Merge `change` into `base`, section by section; an empty section changes nothing, or else empties.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    >>> merge({"a": {"x": 1}}, {"a": {}}), merge({"a": {"x": 1}}, {"a": {}}, emptying=True)
    ({'a': {'x': 1}}, {'a': {}})
    """
    out = dict(base)
    for key, value in change.items():
        inner = out.get(key)
        both = isinstance(inner, dict) and isinstance(value, dict) and (value or not emptying)
        out[key] = merge(inner, value, emptying) if both else value
    return out
