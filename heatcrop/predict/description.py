"""``heatcrop.json``: all that prediction needs to know about a trained pipeline, besides its networks.

An exported folder holds one, and so does a finished run folder. Reading it takes neither the configuration
nor MXNet, so a pipeline can be used where only ONNX Runtime is installed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from heatcrop.data.tasks import Task
from heatcrop.errors import RunError
from heatcrop.metrics.fusion import Fusion
from heatcrop.metrics.selective import OperatingPoint
from heatcrop.nets.backbones import Backbone, InputForm
from heatcrop.nets.classifier import OUTPUTS
from heatcrop.runs.folder import RunFolder
from heatcrop.training.views import TestViews
from heatcrop.validation import CHECKED, error_line
from stage2_crop.plan import CropRule

DESCRIPTION = "heatcrop.json"
CARD = "MODEL_CARD.md"
"""The model card beside an export's description."""
HASHES = "sha256"
"""The key of an export's hashes, by file name."""
FORMAT = 2
"""The newest format that is read; 1 is written where each task has its own networks."""

for _plan in (TestViews, CropRule, Fusion, OperatingPoint):
    _plan.__pydantic_config__ = CHECKED  # type: ignore[attr-defined]


def _resolve(path: Path, info: ValidationInfo) -> Path:
    """Resolve a network's name in a file, whose folder is the context."""
    if info.context is None:
        return path
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("is not a file beside this one")
    if not (info.context / path).is_file():
        raise ValueError(f"the network {info.context / path} is missing")
    return Path(info.context / path)


def _relative(path: Path, info: SerializationInfo) -> str:
    return path.relative_to(info.context).as_posix() if info.context else str(path)


Network = Annotated[Path, AfterValidator(_resolve), PlainSerializer(_relative)]
"""An ONNX file, in the description's folder or below it; by its path relative to that folder in the file."""

_Positive = Annotated[float, Field(ge=1e-6)]


class _Part(BaseModel):
    """A part of the file; keys that prediction does not need are ignored."""

    model_config = ConfigDict(allow_inf_nan=False, frozen=True)


class _Header(_Part):
    format: int = 1  # the first files had no such key
    finished: bool = True


class InputDescription(_Part):
    """How an image becomes the networks' input."""

    side_px: int = Field(ge=1, le=8192)
    fit: Literal["stretch", "pad"]
    layout: str = "N,3,H,W"
    channels: str = "RGB"
    mean: tuple[float, float, float]
    std: tuple[_Positive, _Positive, _Positive]
    range: str = "(x / 255 - mean) / std"
    backbone: str = ""


class Branch(_Part):
    """A network and its test-time augmentation."""

    network: Network
    views: TestViews


class TaskDescription(_Part):
    """The method for one task."""

    classes: tuple[str, ...]
    kind: str = "design"
    invisible: int | None = None
    outputs: list[int] | None = None
    """First and end of the networks' outputs that are this task's classes; None where all are."""
    full: Branch
    heatmap: Literal["evidence", "spread", "plain", "contrast", "distance"]
    """See :func:`stage1_cam.heatmaps.heatmaps_of`."""
    trained: list[int] | None = None
    """Numbers of the classes that training images show; None where these are all, and in earlier files."""
    crop_rule: CropRule
    first_rule: CropRule | None = None
    """The rule of the first crops, where `crop_rule` zooms."""
    crop: Branch
    fusion: Fusion
    thresholds: tuple[OperatingPoint, ...] | None = None
    """From which confidence on predictions are accurate enough; None in files of earlier versions."""

    def fast(self) -> TaskDescription:
        """Copy with one forward pass for each network: without mirrors, windows, zoom and second crops."""
        rule = self.crop_rule
        if self.first_rule is not None:  # the threshold of a zoomed map would cut a coarse one too tightly
            rule = dataclasses.replace(rule, zoom=0.0, threshold=self.first_rule.threshold)
        if rule.place == "both":
            rule = dataclasses.replace(rule, place="heatmap")
        full, crop = (one.model_copy(update={"views": one.views.single()}) for one in (self.full, self.crop))
        return self.model_copy(update={"full": full, "crop": crop, "crop_rule": rule, "first_rule": None})

    @field_validator("outputs")
    @classmethod
    def _span_the_classes(cls, span: list[int] | None, info: ValidationInfo) -> list[int] | None:
        count = len(info.data.get("classes", ()))
        if span is not None and (len(span) != 2 or span[0] < 0 or span[1] - span[0] != count):
            raise ValueError(f"expected [first, end] around {count} classes")
        return span

    @field_validator("trained")
    @classmethod
    def _are_classes(cls, trained: list[int] | None, info: ValidationInfo) -> list[int] | None:
        count = len(info.data.get("classes", ()))
        if trained is not None and not (trained and set(trained) <= set(range(count))):
            raise ValueError(f"expected numbers of the {count} classes")
        return trained


class Description(_Part):
    """A trained pipeline."""

    format: int = 1
    input: InputDescription
    trunk: Network | None = None
    """The frozen part that all networks share; None where nothing is frozen."""
    outputs: tuple[str, ...] = OUTPUTS
    tasks: dict[str, TaskDescription] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_valid_tasks(self) -> Description:
        for name in self.tasks:
            try:
                self.task(name)
            except ValueError as error:
                raise ValueError(f"tasks.{name}: {error}") from None
        return self

    def task(self, name: str) -> Task:
        return Task(name, self.tasks[name].classes, self.tasks[name].kind)

    def form(self, threads: int) -> InputForm:
        given = self.input
        return InputForm(given.side_px, given.fit, Backbone(given.backbone, given.mean, given.std), threads)

    def networks(self) -> list[Path]:
        """List the files of all networks."""
        files = [path for one in self.tasks.values() for path in (one.full.network, one.crop.network)]
        return [*([self.trunk] if self.trunk else []), *dict.fromkeys(files)]

    def as_json(self, home: Path) -> dict[str, Any]:
        """Return plain values, with networks named relative to the folder `home`."""
        values = self.model_dump(context=home)
        for task in values["tasks"].values():
            for key in ("outputs", "trained"):
                if task[key] is None:
                    del task[key]
        return values


def with_hashes(values: dict[str, Any], home: Path, names: Sequence[str]) -> dict[str, Any]:
    """Add the SHA-256 of some files of a folder, and of the description itself without this entry."""
    values = {key: value for key, value in values.items() if key != HASHES}
    hashes = {name: _sha256((home / name).read_bytes()) for name in names}
    return {**values, HASHES: {**hashes, DESCRIPTION: _sha256(_canonical(values, hashes))}}


def _canonical(values: dict[str, Any], hashes: dict[str, str]) -> bytes:
    """Write values in one way only, whatever the order of their keys and the file's white space."""
    return json.dumps([values, hashes], sort_keys=True).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _verify(path: Path, text: bytes) -> None:
    """Compare an export's files with their hashes; RunError where one differs, or the hashes are gone."""
    values = json.loads(text)
    if HASHES not in values:
        if (path.parent / CARD).exists():
            raise RunError(f"{path}: {HASHES}, the hashes of the files, is missing; export the run again")
        return  # of a run folder, whose stages record their files, or an export of an earlier version
    hashes = values.pop(HASHES)
    if not isinstance(hashes, dict) or not all(isinstance(one, str) for one in hashes.values()):
        raise RunError(f"{path}: {HASHES} is no table of files and hashes; export the run again")
    own = hashes.pop(DESCRIPTION, "")
    if own != _sha256(_canonical(values, hashes)):
        raise RunError(f"{path}: was changed since the export (its SHA-256 differs); export the run again")
    for name, expected in hashes.items():
        file = path.parent / name
        found = _sha256(file.read_bytes()) if file.is_file() else "none: it is missing"
        if found != expected:
            raise RunError(
                f"{file}: was changed since the export: its SHA-256 is {found[:40]}, expected "
                f"{expected[:40]}; export the run again"
            )


def read_description(path: Path) -> Description:
    """Read ``heatcrop.json``; RunError with the file, the key, what was found and what was expected.

    Where it holds hashes, as an export's does, all its files are compared with them.
    """
    run = RunFolder(path.parent)
    fix = f"run it again: {run.command('run', '--all')}" if run.config.is_file() else "export the run again"
    try:
        text = path.read_bytes()
        header = _Header.model_validate_json(text, strict=True)
        if header.format > FORMAT:
            raise RunError(f"{path}: format is {header.format}; expected 1 or {FORMAT}: use a newer version")
        if not header.finished:
            raise RunError(f"{path}: its export was interrupted; export the run again")
        _verify(path, text)
        return Description.model_validate_json(text, strict=True, context=path.parent)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); {fix}") from None
    except ValidationError as error:
        raise RunError(f"{path}: {error_line(error.errors()[0])}; {fix}") from None
