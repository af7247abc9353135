"""Label Studio's exports JSON and JSON-MIN: a list of tasks, each an image with the results of annotations.

A result of ``choices`` is a class, and the name of its control the task. A rectangle, or the box around
another shape, is a true region.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated as With
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, Field, ValidationError

from heatcrop.data.images import SUFFIXES
from heatcrop.data.readers.annotated import Annotated, Label, make_reader
from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.json_files import entries, fault, read_head, read_json
from heatcrop.data.readers.metadata import why_no_classes
from heatcrop.data.readers.places import finder
from heatcrop.data.readers.regions import MOST_PX, Region, around, enclose, make_region, turn
from heatcrop.errors import DataError

ENDINGS = (".json",)
_LABELLED = frozenset({"rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "keypointlabels"})
_SHAPES = frozenset({*_LABELLED, "rectangle", "polygon", "ellipse", "brush", "keypoint"})
_MIN = "annotation_id"
"""A key of every task of JSON-MIN."""
_AFTER_RESULTS = ("annotator", _MIN, "created_at", "updated_at", "lead_time", "agreement")
_OF_SHAPES = frozenset(
    {"x", "y", "width", "height", "rotation", "points", "closed", "radiusX", "radiusY", "format", "rle"}
    | {"original_width", "original_height", "image_rotation"}
)
_Pixels = With[int, Field(ge=1, le=MOST_PX)]
_Percent = With[float, Field(ge=-10_000, le=10_000)]


class _Meta(BaseModel):
    maybe: tuple[str, ...] = ()


class _Result(BaseModel):
    id: str = ""
    from_name: str = ""
    type: str
    value: dict[str, Any] = Field(default_factory=dict)
    """Relations of regions have neither."""
    original_width: _Pixels | None = None
    original_height: _Pixels | None = None
    meta: _Meta | None = None


class _Annotation(BaseModel):
    was_cancelled: bool | None = False
    ground_truth: bool | None = False
    result: list[_Result]


class _Task(BaseModel):
    data: dict[str, Any]
    annotations: list[_Annotation] | None = None
    completions: list[_Annotation] | None = None
    """Their name in old versions."""
    predictions: list[Any] | None = None


class _Rectangle(BaseModel):
    x: _Percent
    y: _Percent
    width: _Percent
    height: _Percent
    rotation: _Percent | None = 0.0
    """In degrees, clockwise."""


class _Polygon(BaseModel):
    points: list[tuple[_Percent, _Percent]]


class _Ellipse(BaseModel):
    x: _Percent
    y: _Percent
    radiusX: With[float, Field(ge=0, le=10_000)]
    radiusY: With[float, Field(ge=0, le=10_000)]
    rotation: _Percent | None = 0.0


class _Choices(BaseModel):
    choices: list[str]


class _Names(BaseModel):
    labels: list[str]


def fits(path: Path) -> bool:
    """Return whether the start of a file is an export's."""
    head = read_head(path)
    lists_objects = head.startswith("[") and head[1:].lstrip().startswith("{")
    return lists_objects and any(f'"{key}"' in head for key in ("data", "annotations", "completions", _MIN))


def _images(collector: Collector) -> Iterator[Annotated]:
    """Yield the images of an export.

    Cancelled annotations are skipped and counted. Where one is the ground truth, others do not count. A
    rectangle belongs to the choice for it; or, labelled with a task's name, to that task's choice; otherwise
    its label is the class of the task that its control names.
    """
    path = collector.root.source
    name, tasks = collector.root.name(path), read_json(collector, path)
    if not isinstance(tasks, list):
        raise DataError(f"{name}: is no list; expected Label Studio's export in the format JSON")
    short = any(map(_is_short, tasks))
    numbered = _lengthened(collector, name, tasks) if short else dict(enumerate(tasks))
    found = list(entries(collector, numbered.items(), _Task, f"{name}:tasks"))
    results = (one for _, task in found for annotation in _valid(task) for one in annotation.result)
    controls = {result.from_name for result in results if result.type == "choices"}
    for source, task in found:
        image, split = _image(task.data), task.data.get("split")
        if not image:
            reason = "its data names no image; expected the path of one in data.image"
            collector.reject("", "", source, reason)
            continue
        annotations = _valid(task)
        if task.predictions and not annotations:
            collector.count("task(s)", "with predictions alone, which are no labels", source)
        for _ in range(len(_all(task)) - len(annotations)):
            collector.count("annotation(s)", "skipped, since cancelled", source)
        if any(one.ground_truth for one in annotations):
            annotations = [one for one in annotations if one.ground_truth]
        try:
            parts = [_labels(collector, source, one.result, controls) for one in annotations]
        except ValidationError as error:
            collector.reject(image, "", source, fault(error))
            continue
        except ValueError as error:
            collector.reject(image, "", source, str(error))
            continue
        labels = [label for part in parts for label in part]
        yield Annotated(source, image, split if isinstance(split, str) else "", labels, ("", "images/"))


find = finder(ENDINGS, fits, "label_studio.json")
read, find_labels = make_reader(lambda collector: (list(_images(collector)), ()))


def _is_short(task: Any) -> bool:
    """Return whether a task is of the export JSON-MIN."""
    return isinstance(task, dict) and _MIN in task and "data" not in task


def _lengthened(collector: Collector, name: str, tasks: list[Any]) -> dict[int, Any]:
    """Write tasks of JSON-MIN, which has one for each annotation, like those of JSON.

    A task has the number of its first annotation in the file. The results are behind the task's id and in
    front of the annotator. Of a choice and of free text there is only the text; a control whose texts are no
    classes is left out with a note.
    """
    found = [{key: task[key] for key in _controls(task)} if _is_short(task) else {} for task in tasks]
    left_out = set()
    for control in dict.fromkeys(key for results in found for key in results):
        texts = [results[control] for results in found if isinstance(results.get(control), str)]
        if (reason := why_no_classes(control, texts)) and texts and collector.task(control) is None:
            collector.notes.append(
                f"{name}: the results of {control!r} are left out, since they hold {reason}"
            )
            left_out.add(control)
    merged: dict[object, dict[str, Any]] = {}
    longer: dict[int, Any] = {}
    for number, (task, results) in enumerate(zip(tasks, found, strict=True)):
        if not _is_short(task):
            longer[number] = task
            continue
        parts = [
            _result(control, part)
            for control, value in results.items()
            if control not in left_out
            for part in (value if isinstance(value, list) else [value])
        ]
        identity = ("id", str(task["id"])) if "id" in task else ("image", _image(task) or str(number))
        if identity not in merged:
            merged[identity] = {
                "data": {k: v for k, v in task.items() if k not in results},
                "annotations": [],
            }
            longer[number] = merged[identity]
        merged[identity]["annotations"].append({"result": parts})
    return longer


def _controls(task: dict[str, Any]) -> list[str]:
    """List the keys of a task of JSON-MIN that hold results."""
    keys = list(task)
    keys = keys[keys.index("id") + 1 :] if "id" in keys else keys
    image, no_results = _image(task), (*_AFTER_RESULTS, "image", "split")
    return [
        key
        for key in keys
        if key not in no_results and not (isinstance(task[key], str) and _path(task[key]) == image)
    ]


def _result(control: str, part: Any) -> dict[str, Any]:
    """Write a part of JSON-MIN like a result of JSON."""
    if not isinstance(part, dict):
        part = {"choices": [part]} if isinstance(part, str) else {"other": part}
    kind = next((key for key in part if key not in _OF_SHAPES), "shape")
    sizes = {key: part.get(key) for key in ("original_width", "original_height")}
    return {"from_name": control, "type": kind, "value": part, **sizes}


def _all(task: _Task) -> list[_Annotation]:
    return task.annotations or task.completions or []


def _valid(task: _Task) -> list[_Annotation]:
    return [one for one in _all(task) if not one.was_cancelled]


def _image(data: dict[str, Any]) -> str:
    """Return the path of a task's image: of a URL, without server; of one in local files, what it names."""
    texts = [value for value in (data.get("image"), *data.values()) if isinstance(value, str)]
    for text in texts:
        path = _path(text)
        if path.casefold().endswith(tuple(SUFFIXES)) or (path and text is data.get("image")):
            return path
    return ""


def _path(text: str) -> str:
    """Return the path in an address, or in a name; '' where there is none."""
    try:
        url = urlsplit(text)
        query = parse_qs(url.query)
    except ValueError:  # of brackets that are no address
        return ""
    named = query.get("d") if "local-files" in url.path else None
    if url.path.endswith("/resolve/") and "fileuri" in query:  # the address in a bucket, in Base64
        with contextlib.suppress(ValueError):
            inner = base64.urlsafe_b64decode(query["fileuri"][0] + "==").decode()
            named = [unquote(urlsplit(inner).path)]
    # A name may hold a question mark or a hash; one with a scheme is an address.
    path = named[0] if named else unquote(url.path) if url.scheme or url.path.startswith("/") else text
    return path.lstrip("/")


def _labels(collector: Collector, source: str, results: list[_Result], controls: set[str]) -> list[Label]:
    """Return the classes of one annotation; ValueError with what cannot be used."""
    by_id: dict[str, Region] = {}
    by_task: dict[str, list[Region]] = {}
    chosen = {result.id for result in results if result.type == "choices" and result.id}
    found: list[Label] = []
    for result in results:
        if not result.from_name and result.type in ("choices", *_LABELLED):
            raise ValueError(f"a result of type {result.type} has no from_name; expected the task's name")
        # The choices of a region repeat it, and it may have another shape.
        region = _region(collector, source, result)
        if region is not None and result.id:
            by_id[result.id] = region
        if result.type in _LABELLED and result.id not in chosen:
            names = _Names.model_validate({"labels": result.value.get(result.type)}).labels
            for name in names:
                if name not in controls:
                    found.append(Label(result.from_name, name, region))
                elif region is not None:
                    by_task.setdefault(name, []).append(region)
        elif result.type not in ("choices", *_SHAPES):
            collector.count("result(s)", f"of type {result.type} not read", source)
    for result in results:
        if result.type == "choices":
            own = [by_id[result.id]] if result.id in by_id else by_task.pop(result.from_name, [])
            region = max(own, key=lambda region: region.area, default=None)
            names = _Choices.model_validate(result.value).choices
            maybe = result.meta.maybe if result.meta is not None else ()
            found += [Label(result.from_name, name, region, maybe=maybe) for name in names]
    for _ in by_task:
        collector.count("box(es)", "not used, of tasks whose class is not chosen", source)
    return found


def _region(collector: Collector, source: str, result: _Result) -> Region | None:
    """Return the box, rounded to pixels, around a shape in percent of the image's sides; None without one."""
    value = result.value
    shape: _Rectangle | _Polygon | _Ellipse | None = None
    if result.type in ("rectangle", "rectanglelabels") or _Rectangle.model_fields.keys() <= value.keys():
        shape = _Rectangle.model_validate(value)
    elif value.get("points"):
        shape = _Polygon.model_validate(value)
    elif {"radiusX", "radiusY"} <= value.keys():
        shape = _Ellipse.model_validate(value)
    if shape is None:
        return None
    if result.original_width is None or result.original_height is None:
        collector.count("box(es)", "not used, without original_width and original_height", source)
        return None
    across, down = result.original_width / 100, result.original_height / 100
    if isinstance(shape, _Polygon):
        box = around([length for x, y in shape.points for length in (x * across, y * down)])
    elif isinstance(shape, _Ellipse):
        left, top = (shape.x - shape.radiusX) * across, (shape.y - shape.radiusY) * down
        right, bottom = (shape.x + shape.radiusX) * across, (shape.y + shape.radiusY) * down
        box = turn((left, top, right, bottom), shape.rotation or 0.0)
    else:
        sides = (shape.width * across, shape.height * down)
        box = enclose((shape.x * across, shape.y * down), *sides, shape.rotation or 0.0)
    region, reason = make_region([*map(round, box)], (result.original_width, result.original_height))
    if reason:
        raise ValueError(reason)
    return region
