"""Labels, predictions and boxes in the formats of other tools: pure functions from records to files."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from heatcrop.data.writers import coco, label_studio
from heatcrop.data.writers.records import Record

# Imports nothing of pandas: prediction works where it is not installed.


@dataclass(frozen=True)
class Format:
    """How a folder in a format is written."""

    images: str
    """Its folder of images."""
    dataset: Callable[[Sequence[Record]], dict[str, Any]]
    """Makes the files of labels with predictions, by name; a text is written as it is, others as JSON."""
    predictions: Callable[[Sequence[Record]], dict[str, Any]]
    """Makes the files of predictions without labels."""
    absolute: bool
    """Whether the tool needs the absolute paths of images that are not beside the files."""


FORMATS = {
    "coco": Format("images", coco.dataset, coco.predictions, absolute=False),
    "labelstudio": Format("images", label_studio.dataset, label_studio.dataset, absolute=False),
    "fiftyone": Format(  # in the layout that FiftyOne calls COCODetectionDataset
        "data",
        functools.partial(coco.dataset, name="labels.json"),
        functools.partial(coco.predictions, name="labels.json"),
        absolute=True,
    ),
}
