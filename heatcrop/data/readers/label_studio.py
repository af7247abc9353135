"""Label Studio's JSON export: a list of tasks, each an image with the results of its annotations.

A result of ``choices`` is a class, and the name of its control the task; a rectangle is a true region.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated as With
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, Field, ValidationError

from heatcrop.data.images import SUFFIXES
from heatcrop.data.readers.annotated import Annotated, Label, add_images, labels_of
from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.json_files import entries, fault, read_head, read_json
from heatcrop.data.readers.places import choose_file, files_in
from heatcrop.data.readers.regions import MOST_PX, Region, enclose, make_region
from heatcrop.errors import DataError

ENDINGS = (".json",)
_USUAL_NAME = "label_studio.json"
_RECTANGLES = ("rectanglelabels", "rectangle")
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


class _Choices(BaseModel):
    choices: list[str]


class _Rectangles(BaseModel):
    rectanglelabels: list[str]


def find(folder: Path) -> Path | None:
    """Find the only export in a folder.

    Raises DataError when there are several.
    """
    return choose_file(folder, [path for path in files_in(folder, ENDINGS) if fits(path)], _USUAL_NAME)


def fits(path: Path) -> bool:
    """Return whether the start of a file is an export's."""
    head = read_head(path)
    lists_objects = head.startswith("[") and head[1:].lstrip().startswith("{")
    return lists_objects and any(f'"{key}"' in head for key in ("data", "annotations", "completions"))


def read(collector: Collector) -> None:
    """Add the images of an export to the collector.

    Cancelled annotations are skipped and counted. Where one is the ground truth, others do not count. A
    rectangle belongs to the choice for it; or, labelled with a task's name, to that task's choice; otherwise
    its label is the class of the task that its control names.
    """
    add_images(collector, list(_images(collector)))


def find_labels(collector: Collector) -> list[tuple[str, str, str]]:
    """List ``(split, task, class)`` of the annotations, sorted by task."""
    return labels_of(collector, list(_images(collector)))


def _images(collector: Collector) -> Iterator[Annotated]:
    path = collector.root.source
    name, tasks = collector.root.name(path), read_json(collector, path)
    if not isinstance(tasks, list):
        raise DataError(f"{name}: is no list; expected Label Studio's export in the format JSON")
    found = list(entries(collector, tasks, _Task, f"{name}:tasks"))
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


def _all(task: _Task) -> list[_Annotation]:
    return task.annotations or task.completions or []


def _valid(task: _Task) -> list[_Annotation]:
    return [one for one in _all(task) if not one.was_cancelled]


def _image(data: dict[str, Any]) -> str:
    """Return the path of a task's image: of a URL, without server; of one in local files, what it names."""
    texts = [value for value in (data.get("image"), *data.values()) if isinstance(value, str)]
    for text in texts:
        try:
            url = urlsplit(text)
            named = parse_qs(url.query).get("d") if "local-files" in url.path else None
        except ValueError:  # of brackets that are no address
            continue
        # A name may hold a question mark or a hash; one with a scheme is an address.
        path = named[0] if named else unquote(url.path) if url.scheme or url.path.startswith("/") else text
        if path.casefold().endswith(tuple(SUFFIXES)) or text is data.get("image"):
            return path.lstrip("/")
    return ""


def _labels(collector: Collector, source: str, results: list[_Result], controls: set[str]) -> list[Label]:
    """Return the classes of one annotation; ValueError with what cannot be used."""
    by_id: dict[str, Region] = {}
    by_task: dict[str, list[Region]] = {}
    chosen = {result.id for result in results if result.type == "choices" and result.id}
    found: list[Label] = []
    for result in results:
        if not result.from_name and result.type in ("choices", "rectanglelabels"):
            raise ValueError(f"a result of type {result.type} has no from_name; expected the task's name")
        # The choices of a region repeat it, and it may have another shape.
        is_rectangle = result.type in _RECTANGLES or _Rectangle.model_fields.keys() <= result.value.keys()
        region = _region(collector, source, result) if is_rectangle else None
        if region is not None and result.id:
            by_id[result.id] = region
        if result.type == "rectanglelabels" and result.id not in chosen:
            for name in _Rectangles.model_validate(result.value).rectanglelabels:
                if name not in controls:
                    found.append(Label(result.from_name, name, region))
                elif region is not None:
                    by_task.setdefault(name, []).append(region)
        elif result.type not in ("choices", *_RECTANGLES):
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
    """Return the box, rounded to pixels, around a rectangle in percent of the image's sides."""
    rectangle = _Rectangle.model_validate(result.value)
    if result.original_width is None or result.original_height is None:
        collector.count("box(es)", "not used, without original_width and original_height", source)
        return None
    across, down = result.original_width / 100, result.original_height / 100
    corner = (rectangle.x * across, rectangle.y * down)
    sides = (rectangle.width * across, rectangle.height * down)
    values = [round(value) for value in enclose(corner, *sides, rectangle.rotation or 0.0)]
    region, reason = make_region(values, (result.original_width, result.original_height))
    if reason:
        raise ValueError(reason)
    return region
