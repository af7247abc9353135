"""COCO: one JSON document with ``images``, ``annotations`` and ``categories``.

A category is a class, and its supercategory the task. A box, or the one around polygons, is the true region.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated as With
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from heatcrop.data.readers.annotated import Annotated, Label, make_reader
from heatcrop.data.readers.collect import Collector, FindSplit, split_in
from heatcrop.data.readers.json_files import HEAD_BYTES, entries, read_head, read_json
from heatcrop.data.readers.places import files_in, with_splits
from heatcrop.data.readers.regions import MOST_PX, Region, around, make_region
from heatcrop.errors import DataError
from heatcrop.wording import counted

ENDINGS = (".json",)
SUPERCATEGORY_IS_TASK = {"supercategory": "task"}
"""In a document's ``info``: its supercategories are tasks, even if there is only one."""
_USUAL = re.compile(r"annotations\.json|instances_.*\.json|_annotations\.coco\.json", re.IGNORECASE)
_LIST = re.compile(r'"(images|annotations|categories)"\s*:\s*\[')
_FIRST = re.compile(r'"images"\s*:\s*\[\s*\{[^}]*"file_name"|"annotations"\s*:\s*\[\s*\{[^}]*"image_id"')
_INSTANCES = "instances_"
FOLDERS = ("annotations",)
"""Folders of documents whose images are beside the folder."""
# What tools write where nobody gave a supercategory.
_NO_TASK = {"", "none", "null", "default", "object", "objects", "thing", "things", "root", "supercategory"}
_EXPECTED = "expected a COCO document with the lists images, annotations and categories"

_Pixels = With[int, Field(ge=0, le=MOST_PX)]


class _Image(BaseModel):
    id: int | str
    file_name: str = Field(min_length=1)
    width: _Pixels | None = None
    height: _Pixels | None = None
    split: str | None = ""


class _Category(BaseModel):
    id: int | str
    name: str = Field(min_length=1)
    supercategory: str | None = ""


class _Annotation(BaseModel):
    image_id: int | str
    category_id: int | str
    bbox: list[Any] | None = None
    segmentation: Any = None
    iscrowd: int | bool | None = 0
    attributes: dict[str, Any] | list[Any] | None = None
    split: str | None = ""
    maybe: tuple[str, ...] = ()


def find(folder: Path, split: FindSplit) -> Path | None:
    """Return the folder if it, its ``annotations/`` or its folders of splits have a document."""
    return folder if _documents(folder, split)[0] else None


def fits(path: Path) -> bool:
    """Return whether the start of a file is a COCO document's.

    It has two of its lists. A list that goes on behind the start is enough in a file with a usual name, or
    where its first entry is COCO's.
    """
    head = read_head(path)
    lists = set(_LIST.findall(head)) if head.startswith("{") else set()
    if len(lists) != 1 or _USUAL.fullmatch(path.name):
        return bool(lists)
    return path.stat().st_size > HEAD_BYTES and _FIRST.search(head) is not None


def _documents(folder: Path, split: FindSplit) -> tuple[list[Path], list[Path]]:
    """List a folder's documents, and others beside them that are not read."""
    found: list[Path] = []
    others: list[Path] = []
    for place in with_splits(folder, split, FOLDERS):
        fitting = [path for path in files_in(place, ENDINGS) if fits(path)]
        # Beside COCO's instances there are captions and keypoints of the same images.
        instances = [path for path in fitting if path.name.startswith(_INSTANCES)] or fitting
        found += instances
        others += [path for path in fitting if path not in instances]
    return found, others


@dataclass(frozen=True)
class _Document:
    """The entries of a file that have the expected form, with their sources."""

    path: Path
    images: list[tuple[str, _Image]]
    annotations: list[tuple[str, _Annotation]]
    faulty: frozenset[str]
    """Ids of images of annotations that do not have the expected form."""
    categories: dict[str, _Category]
    """By id."""
    declared: bool
    """Whether supercategories are tasks even if there is only one."""


def _images(collector: Collector) -> tuple[list[Annotated], list[str]]:
    """Return the images of all documents, and the tasks of their categories.

    The split is that of the file's name (``instances_val2017.json``) or of its folder; beside other documents
    it may be one word of the name. Text in ``attributes`` is the class of the task that the attribute names.
    """
    root = collector.root
    given = root.source.is_file()
    paths, others = ([root.source], []) if given else _documents(root.folder, collector.split)
    for path in others:
        collector.count(
            "file(s)", f"of other annotations beside {_INSTANCES}*.json not read", root.name(path)
        )
    documents = [_read_document(collector, path) for path in paths]
    categories = [one for document in documents for one in document.categories.values()]
    used = [
        document.categories[str(one.category_id)]
        for document in documents
        for _, one in document.annotations
        if str(one.category_id) in document.categories
    ]
    tasks = _tasks(used or categories, any(document.declared for document in documents))
    alone = len(documents) == 1
    images = [one for document in documents for one in _annotated(collector, document, tasks, alone)]
    return images, list(dict.fromkeys(tasks.values()))


read, find_labels = make_reader(_images)


def _read_document(collector: Collector, path: Path) -> _Document:
    values, name = read_json(collector, path), collector.root.name(path)
    if not isinstance(values, dict):
        raise DataError(f"{name}: is a JSON {type(values).__name__}; {_EXPECTED}")
    values.setdefault("annotations", [])
    for key in ("images", "categories", "annotations"):
        if not isinstance(values.get(key), list):
            found = f"{key!r} is no list" if key in values else f"has no {key!r}"
            raise DataError(f"{name}: {found}; {_EXPECTED}")
    info = values.get("info")
    categories: dict[str, _Category] = {}
    for source, one in entries(collector, enumerate(values["categories"]), _Category, f"{name}:categories"):
        if (first := categories.setdefault(str(one.id), one)) != one:
            reason = f"category {one.name!r} has the id of {first.name!r}, {_short(one.id)}; give it its own"
            collector.reject("", "", source, reason)
    where, raw = f"{name}:annotations", values["annotations"]
    annotations = list(entries(collector, enumerate(raw), _Annotation, where))
    valid = {source for source, _ in annotations}
    faulty = (one for number, one in enumerate(raw) if f"{where}[{number}]" not in valid)
    return _Document(
        path,
        list(entries(collector, enumerate(values["images"]), _Image, f"{name}:images")),
        annotations,
        frozenset(str(one.get("image_id")) for one in faulty if isinstance(one, dict)),
        categories,
        isinstance(info, dict) and info.get("supercategory") == SUPERCATEGORY_IS_TASK["supercategory"],
    )


def _annotated(
    collector: Collector, document: _Document, tasks: Mapping[str, str], alone: bool
) -> list[Annotated]:
    """Return a document's images with the classes and boxes of their annotations; reject the others."""
    split, places = _split_and_places(collector, document.path, alone)
    images: dict[str, tuple[_Image, Annotated]] = {}
    for source, image in document.images:
        one = Annotated(source, image.file_name, image.split or split, places=places)
        first = images.setdefault(str(image.id), (image, one))[1]
        if first is not one:
            reason = f"has the id of {first.source}; give it its own"
            collector.reject(image.file_name, "", source, reason)
    faulty = set(document.faulty)
    for source, annotation in document.annotations:
        key, category = str(annotation.image_id), document.categories.get(str(annotation.category_id))
        if key not in images:
            reason = f"image_id {_short(annotation.image_id)} is not in images; add it there"
            collector.reject("", "", source, reason)
            continue
        image, one = images[key]
        region, reason = _region(annotation, image)
        if region is None and not reason and annotation.segmentation:
            region, reason = _outlined(annotation.segmentation, image)
            if region is None and not reason:
                collector.count("mask(s)", "not read, since compressed or empty; the class is", source)
        if region is not None and annotation.iscrowd:
            region = None
            collector.count("box(es)", "of a crowd not used as true regions", source)
        if category is None:
            reason = f"category_id {_short(annotation.category_id)} is not in categories; add it"
        if category is None or reason:
            collector.reject(image.file_name, "", source, reason)
            faulty.add(key)
            continue
        task, split_here = tasks.get(category.supercategory or "", ""), annotation.split or ""
        one.labels.append(Label(task, category.name, region, split_here, annotation.maybe))
        attributes = annotation.attributes or {}
        if isinstance(attributes, list):  # an empty one is how some tools write that there are none
            collector.count("list(s) of attributes", "not read; expected names with their values", source)
            attributes = {}
        for name, value in attributes.items():
            if not isinstance(value, str):
                collector.count("attribute(s)", "not read, since the value is no text", source)
            elif value.strip() and name.strip():
                one.labels.append(Label(name, value, region, split_here))
    return [one for key, (_, one) in images.items() if one.labels or key not in faulty]


def _tasks(categories: Iterable[_Category], declared: bool) -> dict[str, str]:
    """Return the task of each supercategory, ``''`` for that of the data folder.

    Supercategories are tasks where there are several, and one has more than one class; or where it is
    `declared`.
    """
    classes: dict[str, set[str]] = {}
    for one in categories:
        classes.setdefault(one.supercategory or "", set()).add(one.name)
    if declared:
        return {name: name for name in classes}
    useful = {name for name in classes if name.strip().casefold() not in _NO_TASK}
    if len(useful) < 2 or all(len(classes[name]) < 2 for name in useful):
        useful = set()
    return {name: name if name in useful else "" for name in classes}


def _region(annotation: _Annotation, image: _Image) -> tuple[Region | None, str]:
    """Return an annotation's region, None without a box, and why it cannot be used."""
    if not annotation.bbox or not any(annotation.bbox):  # zeros: of an image's class without a box
        return None, ""
    expected = "expected x, y, width, height in pixels"
    if len(annotation.bbox) != 4:
        return None, f"bbox has {counted(len(annotation.bbox), 'number(s)')}; {expected}"
    try:
        x, y, width, height = map(float, annotation.bbox)
    except (TypeError, ValueError, OverflowError):
        return None, f"bbox {_short(annotation.bbox)} holds no numbers; {expected}"
    return make_region((x, y, x + width, y + height), (image.width or 0, image.height or 0))


def _outlined(segmentation: Any, image: _Image) -> tuple[Region | None, str]:
    """Return the box around polygons or an uncompressed mask, None without one, and what is wrong."""
    size = (image.width or 0, image.height or 0)
    if isinstance(segmentation, dict):
        box = _around_mask(segmentation.get("counts"), segmentation.get("size"))
        return make_region(box, size) if box is not None else (None, "")
    polygons = segmentation if isinstance(segmentation, list) else [segmentation]
    try:
        points = [float(value) for polygon in polygons for value in polygon]
    except (TypeError, ValueError, OverflowError):
        return None, f"segmentation {_short(segmentation)} is neither polygons nor a mask; correct it"
    if len(points) < 6 or any(len(polygon) % 2 for polygon in polygons):
        return None, f"segmentation {_short(segmentation)} is no polygon; expected three points or more"
    return make_region(around(points), size)


def _around_mask(counts: Any, size: Any) -> tuple[float, float, float, float] | None:
    """Return the box around a mask of run lengths, column by column, first outside; None of another one."""
    try:
        height, width = map(int, size)
        runs = np.array(counts, np.int64)
        if height < 0 or runs.ndim != 1 or runs.min() < 0 or runs.sum() != height * width:
            return None
    except (TypeError, ValueError, OverflowError):  # as of compressed text
        return None
    ends = np.cumsum(runs)
    first, last = (ends - runs)[1::2], ends[1::2] - 1
    first, last = first[last >= first], last[last >= first]
    if not len(first):
        return None
    x0, x1 = first // height, last // height
    inside = x0 == x1  # a run that goes on in the next column touches the upper and the lower edge
    y0 = np.where(inside, first % height, 0).min()
    y1 = np.where(inside, last % height, height - 1).max()
    return float(x0.min()), float(y0), float(x1.max() + 1), float(y1 + 1)


def _split_and_places(collector: Collector, path: Path, alone: bool) -> tuple[str, list[str]]:
    """Return a document's split, and the folders that its images may be in."""
    inside = path.parent.relative_to(collector.root.folder).as_posix()
    part = path.stem.removeprefix(_INSTANCES)
    word = split_in(path.name, collector.split)
    names = (part, re.sub(r"[-_]?\d+$", "", part), inside, "" if alone else word)
    split = next((name for name in names if name and collector.split(name)), "")
    base = "" if inside in (".", *FOLDERS) else f"{inside}/"
    parts = dict.fromkeys((part, word or part))
    folders = ("", *(f"{one}/" for one in parts), "images/", *(f"images/{one}/" for one in parts), "data/")
    return split, [base + folder for folder in folders]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
