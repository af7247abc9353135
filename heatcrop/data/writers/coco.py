"""COCO: category = class, supercategory = task, a box for each annotation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from heatcrop.data.readers.coco import SUPERCATEGORY_IS_TASK
from heatcrop.data.writers.records import Box, Record, by_image, split_of, tasks_of


def dataset(records: Sequence[Record], name: str = "annotations.json") -> dict[str, Any]:
    """Make the file `name` with the labels, and ``predictions.json``, COCO's list of results."""
    return {name: _labels(records), "predictions.json": _results(records)}


def predictions(records: Sequence[Record], name: str = "annotations.json") -> dict[str, Any]:
    """Make the file `name`, whose annotations are predictions."""
    return {name: _document(records, _results(records))}


def _labels(records: Sequence[Record]) -> dict[str, Any]:
    """Make a document of the labels.

    ``bbox`` is the true region, or the full image where it is unknown: most tools need one. ``crop`` is the
    box of the crop, ``split`` and ``task`` are those of the record, and ``maybe`` are classes that may be
    right too.
    """
    ids, numbers = _category_ids(records), _image_ids(records)
    annotations = [
        {
            "id": number,
            "image_id": numbers[record.image],
            "category_id": ids[record.task, record.label],
            **_box(record.region, record),
            "task": record.task,
            "split": record.split,
            **({"maybe": list(record.maybe)} if record.maybe else {}),
            **({} if record.crop is None else {"crop": _box(record.crop, record)["bbox"]}),
        }
        for number, record in enumerate((one for one in records if one.label), 1)
    ]
    return _document(records, annotations)


def _results(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Make COCO's list of results: ``bbox`` is the crop, ``score`` the probability of the class.

    ``probabilities`` are those of the task's classes, by name.
    """
    ids, numbers = _category_ids(records), _image_ids(records)
    return [
        {
            "id": number,
            "image_id": numbers[record.image],
            "category_id": ids[record.task, record.predicted],
            **_box(record.crop, record),
            "score": record.score,
            "task": record.task,
            "probabilities": dict(zip(record.classes, record.probabilities, strict=True)),
        }
        for number, record in enumerate((one for one in records if one.probabilities), 1)
    ]


def _document(records: Sequence[Record], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "info": {"description": "HeatCrop", **SUPERCATEGORY_IS_TASK},
        "images": list(_images(records)),
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": task}
            for (task, name), number in _category_ids(records).items()
        ],
    }


def _images(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    for number, (image, same) in enumerate(by_image(records).items(), 1):
        (width, height), split = same[0].size, split_of(same)
        given = {"split": split} if split else {}
        yield {"id": number, "file_name": image, "width": width, "height": height, **given}


def _image_ids(records: Sequence[Record]) -> dict[str, int]:
    return {image: number for number, image in enumerate(by_image(records), 1)}


def _category_ids(records: Sequence[Record]) -> dict[tuple[str, str], int]:
    names = [(task, name) for task, classes in tasks_of(records).items() for name in classes]
    return {name: number for number, name in enumerate(names, 1)}


def _box(box: Box | None, record: Record) -> dict[str, Any]:
    """Return ``bbox`` and ``area``, of the full image without a box."""
    x0, y0, x1, y1 = box or (0, 0, *record.size)
    return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
