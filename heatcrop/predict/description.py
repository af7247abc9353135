"""``heatcrop.json``: all that prediction must be told about a trained pipeline, besides its networks.

An exported folder holds one, and so does a run folder whose work is finished. Reading it takes neither
the configuration nor MXNet, so that a pipeline can be used where nothing but ONNX Runtime is installed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from heatcrop.data.tasks import Task
from heatcrop.errors import RunError
from heatcrop.metrics.fusion import Fusion
from heatcrop.nets.backbones import Backbone, InputForm
from heatcrop.nets.classifier import OUTPUTS
from heatcrop.training.views import TestViews
from stage1_cam.heatmaps import KINDS
from stage2_crop.rule import CropRule

if TYPE_CHECKING:
    from heatcrop.cli.config import Config
    from heatcrop.runs.folder import RunFolder

FORMAT = 2
"""The greatest that is read; 1 is written where each task has networks of its own, as it always was."""

UNFINISHED = {"format": 1, "finished": False}
"""What an export says until its last network is written."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Described:
    """The whole method for one task, and where its networks lie.

    Attributes
    ----------
    task : Task
    form : InputForm
        How a picture becomes input.
    full_views, crop_views : TestViews
        Test-time augmentation of each branch.
    heatmap : str
        See :func:`stage1_cam.heatmaps.class_heatmap`.
    rule : CropRule
    fusion : Fusion
    trunk : Path or None
        The frozen part that all networks share, None where nothing is frozen.
    full, crop : Path
        Networks of the whole picture and of the crop, as ONNX files.
    outputs : tuple (first, end) or None
        Which outputs of the networks are this task's classes; None where all are.
    """

    task: Task
    form: InputForm
    full_views: TestViews
    heatmap: str
    rule: CropRule
    crop_views: TestViews
    fusion: Fusion
    trunk: Path | None
    full: Path
    crop: Path
    outputs: tuple[int, int] | None = None


def read_outputs(folder: RunFolder) -> dict[str, tuple[int, int]]:
    """Which outputs of the networks that all tasks of a run share are whose.

    Raises
    ------
    RunError
    """
    try:
        told = json.loads(folder.outputs.read_text(encoding="utf-8"))
        return {name: (int(first), int(end)) for name, (first, end) in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        raise RunError(
            f"{folder.outputs}: is missing or damaged; finish the run first: python pipeline.py run --all"
        ) from None


def describe_run(
    config: Config, folder: RunFolder, form: InputForm, tasks: Sequence[Task]
) -> list[Described]:
    """Describe some finished tasks of a run.

    Raises
    ------
    RunError, DataError
        When a file of one of them is missing or damaged.
    """
    from stage2_crop.stage import used_rule
    from stage3_finetune.stage import read_fusion

    found = []
    shared = config.network.shared_trunk
    outputs = read_outputs(folder) if shared and tasks else {}
    for task in tasks:
        files = folder.task(task.name)
        networks = folder.shared if shared else files
        for path in (files.weights(1), files.rule, files.weights(3), files.fusion):
            if not path.is_file():
                raise RunError(
                    f"{path} is missing; finish the run first: python pipeline.py run --task {task.short}"
                )
        cam, _, finetune = config.plans(task)
        trunk = folder.trunk_network if config.network.frozen_blocks else None
        rule = used_rule(files.rule)
        found.append(
            Described(
                task,
                form,
                cam.test,
                cam.heatmap,
                rule,
                finetune.test,
                read_fusion(files.fusion),
                trunk,
                networks.network(1),
                networks.network(3),
                outputs.get(task.name),
            )
        )
    return found


def as_json(described: Sequence[Described], home: Path) -> dict[str, Any]:
    """The description as plain values; networks are named as they lie below the folder `home`."""
    form, trunk = described[0].form, described[0].trunk

    def below(path: Path) -> str:
        return path.relative_to(home).as_posix()

    return {
        "format": 1 if all(one.outputs is None for one in described) else FORMAT,
        "input": {
            "side_px": form.side_px,
            "fit": form.fit,
            "layout": "N,3,H,W",
            "channels": "RGB",
            "mean": form.backbone.mean,
            "std": form.backbone.std,
            "range": "(x / 255 - mean) / std",
            "backbone": form.backbone.name,
        },
        "trunk": below(trunk) if trunk else None,
        "outputs": OUTPUTS,
        "tasks": {
            one.task.name: {
                "classes": list(one.task.classes),
                "kind": one.task.kind,
                "invisible": one.task.invisible,
                **({"outputs": one.outputs} if one.outputs else {}),
                "full": {"network": below(one.full), "views": dataclasses.asdict(one.full_views)},
                "heatmap": one.heatmap,
                "crop_rule": dataclasses.asdict(one.rule),
                "crop": {"network": below(one.crop), "views": dataclasses.asdict(one.crop_views)},
                "fusion": dataclasses.asdict(one.fusion),
            }
            for one in described
        },
    }


def is_description(text: str) -> bool:
    """Whether a file of that name tells of networks, or of an export that was broken off."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and (told == UNFINISHED or {"input", "tasks"} <= set(told))


def read_description(path: Path) -> list[Described]:
    """Read ``heatcrop.json``, one entry a task.

    Raises
    ------
    RunError
        Naming the file, the key, what was found and what was expected.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(told, ensure_ascii=False).encode()  # half a character can be escaped, but not be written
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); export the run again") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: is not valid JSON ({error}); export the run again") from None
    part = _Part(path, "", told)
    if part.value("format", int, 1) > FORMAT:  # the first files had no such key
        raise RunError(f"{path}: format is {told['format']}; this program reads 1 and 2: take a newer one")
    if told.get("finished") is False:
        raise RunError(f"{path}: its export was broken off; export the run again")
    given = part.section("input")
    backbone = Backbone(
        given.value("backbone", str, ""), given.numbers("mean", 3), given.numbers("std", 3, least=1e-6)
    )
    threads = min(8, os.cpu_count() or 1)
    side = given.value("side_px", int)
    if not 1 <= side <= 8192:
        raise given.wrong("side_px", f"is {side}; expected 1 to 8192")
    form = InputForm(side, given.choice("fit", ("stretch", "pad")), backbone, threads)
    trunk = part.file("trunk") if part.told.get("trunk") is not None else None
    tasks = part.section("tasks")
    if not tasks.told:
        raise RunError(f"{path}: tasks is empty; export a run that is finished")
    return [_described(tasks.section(name), name, form, trunk) for name in tasks.told]


def _described(part: _Part, name: str, form: InputForm, trunk: Path | None) -> Described:
    full, crop = part.section("full"), part.section("crop")
    classes = tuple(part.value("classes", list))
    return Described(
        part.made(lambda: Task(name, classes, part.value("kind", str, "design"))),
        form,
        full.plan("views", TestViews),
        part.choice("heatmap", KINDS),
        part.plan("crop_rule", CropRule),
        crop.plan("views", TestViews),
        part.plan("fusion", Fusion),
        trunk,
        full.file("network"),
        crop.file("network"),
        part.outputs(len(classes)),
    )


class _Part:
    """A section of the file, which knows its name for messages."""

    def __init__(self, path: Path, name: str, told: Any) -> None:
        self._path, self._name = path, name
        if not isinstance(told, dict):
            raise self.wrong("", f"is {_short(told)}; expected a section {{…}}")
        self.told = told

    def wrong(self, key: str, what: str) -> RunError:
        where = ".".join(filter(None, (self._name, key)))
        return RunError(f"{self._path}: {where + ': ' if where else ''}{what}; export the run again")

    def value(self, key: str, kind: type[T], default: T | None = None) -> T:
        found = self.told.get(key, default)
        if not isinstance(found, kind) or isinstance(found, bool):
            raise self.wrong(key, f"is {_short(found)}; expected {kind.__name__}")
        return found

    def section(self, key: str) -> _Part:
        return _Part(self._path, ".".join(filter(None, (self._name, key))), self.told.get(key))

    def choice(self, key: str, words: Sequence[str]) -> str:
        found = self.value(key, str)
        if found not in words:
            raise self.wrong(key, f"is {found!r}; expected {' or '.join(words)}")
        return found

    def numbers(self, key: str, count: int, least: float = -math.inf) -> Any:
        found = self.value(key, list)
        if len(found) != count or not all(_is_number(v) and v >= least for v in found):
            bound = "" if least == -math.inf else " above 0"
            raise self.wrong(key, f"is {_short(found)}; expected {count} numbers{bound}")
        return tuple(map(float, found))

    def outputs(self, count: int) -> tuple[int, int] | None:
        """The span of a network's outputs, of as many as there are classes; None where it is not told."""
        if self.told.get("outputs") is None:
            return None
        found = self.value("outputs", list)
        whole = [value for value in found if type(value) is int]
        if len(found) != 2 or len(whole) != 2 or whole[0] < 0 or whole[1] - whole[0] != count:
            raise self.wrong("outputs", f"is {_short(found)}; expected [first, end] around {count} classes")
        return whole[0], whole[1]

    def file(self, key: str) -> Path:
        """A network, which lies in the description's folder or below it."""
        name, home = self.value(key, str), self._path.parent
        path = home / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise self.wrong(key, f"is {name!r}; expected a file beside this one")
        if not path.is_file():
            raise RunError(
                f"{path}: the network that {self._path.name} names is missing; export the run again"
            )
        return path

    def plan(self, key: str, kind: Callable[..., T]) -> T:
        """A dataclass of the floors below, each value of the kind of its default."""
        part = self.section(key)
        names = {field.name: field.default for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        values = {}
        for name, value in part.told.items():
            if name not in names:
                raise self.wrong(key, f"holds {name!r}; expected some of {', '.join(names)}")
            like = names[name]
            if isinstance(value, list):
                if not (like is None or isinstance(like, tuple)) or not value:
                    raise part.wrong(name, f"is {_short(value)}; expected {_kind(like)}")
                values[name] = part.numbers(name, len(value))
            elif value is None and like is None:
                values[name] = None
            elif isinstance(like, tuple) or not _alike(value, like):
                raise part.wrong(name, f"is {_short(value)}; expected {_kind(like)}")
            else:
                values[name] = value
        return self.made(lambda: kind(**values))

    def made(self, make: Callable[[], T]) -> T:
        try:
            return make()
        except (TypeError, ValueError) as error:
            raise self.wrong("", str(error)) from None


def _is_number(value: Any) -> bool:
    """1 is a number; True is none, and NaN, which JSON readers let pass, is none either."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -1e300 < value < 1e300


def _alike(value: Any, like: Any) -> bool:
    """Whether a value is of a setting's kind."""
    return _is_number(value) if isinstance(like, float) else type(value) is type(like)


def _kind(like: Any) -> str:
    if isinstance(like, float):
        return "a number"
    return "a list of numbers" if like is None or isinstance(like, tuple) else type(like).__name__


def _short(value: Any) -> str:
    shown = "missing" if value is None else repr(value)
    return shown if len(shown) < 60 else shown[:57] + "..."
