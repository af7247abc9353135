"""FiftyOne: the layout that it calls COCODetectionDataset, ``data/`` and ``labels.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heatcrop.data.writers import coco
from heatcrop.data.writers.records import Record

LABELS = "labels.json"


def dataset(records: Sequence[Record]) -> dict[str, Any]:
    """Make ``labels.json`` with the labels, and ``predictions.json`` to be added to the loaded data set."""
    return {LABELS: coco.labels(records), "predictions.json": coco.results(records)}


def predictions(records: Sequence[Record]) -> dict[str, Any]:
    """Make ``labels.json`` whose labels are predictions."""
    return {LABELS: coco.predicted(records)}
