"""What the writers know of an image and a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Record:
    """The label and prediction of one image for one task."""

    image: str
    """Its name in the written files."""
    size: tuple[int, int]
    """Width and height in pixels."""
    task: str
    classes: tuple[str, ...]
    """The task's, in label order."""
    split: str = ""
    label: str = ""
    """The class; '' when unknown."""
    maybe: tuple[str, ...] = ()
    """Classes that may be right too."""
    region: Box | None = None
    """The true region: x0, y0, x1, y1 in pixels."""
    probabilities: tuple[float, ...] = ()
    """Predicted, by class; none without a prediction."""
    crop: Box | None = None

    @property
    def score(self) -> float:
        """Probability of the predicted class."""
        return max(self.probabilities)

    @property
    def predicted(self) -> str:
        """The class with the highest probability."""
        return self.classes[self.probabilities.index(self.score)]


def tasks_of(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """Return the classes of each task, in order of appearance."""
    return {record.task: record.classes for record in records}


def by_image(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Group records by image, in order of appearance."""
    images: dict[str, list[Record]] = {}
    for record in records:
        images.setdefault(record.image, []).append(record)
    return images


def split_of(records: Sequence[Record]) -> str:
    """Return the split of an image's records; '' where they have several."""
    splits = {record.split for record in records}
    return splits.pop() if len(splits) == 1 else ""
