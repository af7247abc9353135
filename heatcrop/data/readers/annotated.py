"""Images with the classes and boxes that an annotation tool has of them, and the rows they become."""

from __future__ import annotations

import dataclasses
import functools
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from heatcrop.data.listing import find_below
from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.naming import name_task, safe_task
from heatcrop.data.readers.regions import Region
from heatcrop.data.readers.root import MOST_FOLDERS, clean_image

_SHOWN = 3
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")


@dataclass(frozen=True)
class Label:
    """A class of an image."""

    task: str
    """``''``: the task that is named after the data folder."""
    name: str
    region: Region | None = None
    split: str = ""
    """Where it differs from that of the image."""
    maybe: tuple[str, ...] = ()
    """Classes that may be right too."""


@dataclass(frozen=True)
class Annotated:
    """An image with the classes and boxes of its annotations."""

    source: str
    image: str
    """As its file has it."""
    split: str = ""
    labels: list[Label] = field(default_factory=list)
    places: Sequence[str] = ("",)
    """Folders below the root, with ``/`` at their end, in which the image may be."""
    group: str = ""


def make_reader(
    list_images: Callable[[Collector], tuple[Sequence[Annotated], Sequence[str]]],
) -> tuple[Callable[[Collector], None], Callable[[Collector], list[tuple[str, str, str]]]]:
    """Make a format's functions `read` and `find_labels` of the one that lists its images and tasks."""

    def read(collector: Collector) -> None:
        _add_images(collector, *list_images(collector))

    def find_labels(collector: Collector) -> list[tuple[str, str, str]]:
        named = _named(collector, list_images(collector)[0])
        found = [(label.split or one.split, label.task, label.name) for one in named for label in one.labels]
        return sorted(found, key=lambda row: row[1])

    return read, find_labels


def _add_images(collector: Collector, images: Sequence[Annotated], tasks: Sequence[str]) -> None:
    """Add the rows of images to the collector, one for each image and task.

    An image whose annotations contradict each other is rejected for that task. Of several boxes, the largest
    one counts. An image without annotations has a row without a label for every task of the others or, where
    they have none, for `tasks`, by default the one that is named after the data folder.
    """
    finder = _Finder(collector)
    images = _named(collector, images)
    known = list(dict.fromkeys(label.task for one in images for label in one.labels))
    known = known or [safe_task(task) if task else name_task(collector, ()) for task in tasks or [""]]
    for one in images:
        image, sub, reason = finder.find(one.image, one.places, one.split or collector.root.split)
        if reason:
            collector.reject(one.image, "", one.source, reason)
            continue
        if image != clean_image(one.image)[0]:
            collector.count("image(s)", "found by the end of the path, or by the name", one.source)
        if not one.labels and collector.split(one.split or collector.root.split) in ("train", "val"):
            collector.count("image(s)", "of train or val not used, without an annotation", one.source)
            continue
        by_task: dict[str, list[Label]] = {} if one.labels else {task: [] for task in known}
        for label in one.labels:
            by_task.setdefault(label.task, []).append(label)
        for task, labels in by_task.items():
            names = list(dict.fromkeys(label.name for label in labels))
            if len(names) > 1 and collector.task(task) is not None:
                differ = ", ".join(names[:_SHOWN]) + ", …" * (len(names) > _SHOWN)
                reason = f"its annotations have different classes of {task}: {differ}; keep one of them"
                collector.reject(image, task, one.source, reason)
                continue
            if len(labels) > 1:
                rest = "with several annotations of one class; the largest box of each counts"
                collector.count("image(s)", rest, one.source)
            regions = [label.region for label in labels if label.region is not None]
            region = max(regions, key=lambda region: region.area, default=None)
            name = names[0] if names else ""
            split = next((label.split for label in labels if label.split), one.split)
            if maybe := [other for label in labels for other in label.maybe]:
                name = _with_maybe(collector, one.source, task, name, maybe)
            collector.add(one.source, image, task, name, split, one.group, sub, region)


def _named(collector: Collector, images: Sequence[Annotated]) -> list[Annotated]:
    """Name every label's task so that it can serve, and write classes on one line."""
    one_line = functools.cache(lambda text: " ".join(text.split()))
    plain = {one_line(label.name) for one in images for label in one.labels if not label.task}
    default = name_task(collector, plain) if plain else ""
    names = functools.cache(lambda text: safe_task(text) if text else default)

    def named(label: Label) -> Label:
        maybe = tuple(map(one_line, label.maybe))
        return Label(names(label.task), one_line(label.name), label.region, label.split, maybe)

    return [dataclasses.replace(one, labels=list(map(named, one.labels))) for one in images]


def _with_maybe(collector: Collector, source: str, name: str, label: str, maybe: Sequence[str]) -> str:
    """Return the letters of a class with others that may be right too; the class where they are unknown."""
    task = collector.task(name)
    letters = collector.label(task, label)[0] if task is not None else ""
    if task is None or not letters:
        return label
    for other in maybe:
        place = collector.label(task, other)[0].find("y")
        if place < 0:
            collector.count("class(es)", "that may be right too and that the task does not have", source)
        elif letters[place] == "n":
            letters = f"{letters[:place]}m{letters[place + 1 :]}"
    return letters


class _Finder:
    """Find images by names that another machine gave them, below a root and nowhere else."""

    def __init__(self, collector: Collector) -> None:
        self.root, self.split = collector.root, collector.split

    def find(self, text: str, places: Sequence[str], split: str) -> tuple[str, str, str]:
        """Find an image by its path in one of some folders, else by the longest end of it, else by its name.

        One of a split is not found by its name in the folder of another split. Returns its name and the
        folder that it is relative to, as `Collector.add` takes them, and the reason why it cannot be found,
        or ``''``. Of an image that is not there, the collector gives the reason.
        """
        image, reason = clean_image(text)
        if self.root.access.absolute_paths and os.path.isabs(text) and os.path.isfile(text):
            return text, "", ""
        for place in () if reason else places:
            if not self.root.find(place + image)[1]:
                return image, place, ""
        folder, name = posixpath.split(image)
        # Label Studio puts such a prefix before the name of an uploaded file.
        for path in dict.fromkeys((image, posixpath.join(folder, _UPLOADED.sub("", name)))):
            parts = [part for part in posixpath.normpath(path).split("/") if part not in ("", ".", "..")]
            parts = parts[-MOST_FOLDERS:]
            for end in ("/".join(parts[start:]) for start in range(len(parts))):
                if not clean_image(end)[1] and not self.root.find(end)[1]:
                    return end, "", ""
            name = posixpath.basename(path)
            found = self._by_name.get(name, [])
            if not found and path != image:
                found = self._by_stored_name.get(name, [])
            if own := self.split(split):
                found = [
                    one for one in found if {self.split(part) for part in one.split("/")[:-1]} <= {own, None}
                ]
            if len(found) == 1:
                return found[0], "", ""
            if found:
                shown = ", ".join(found[:_SHOWN]) + ", …" * (len(found) > _SHOWN)
                return image, "", f"the image could be any of {len(found)}: {shown}; write its path"
        return text, places[0], ""

    @functools.cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """The images below the root."""
        found: dict[str, list[str]] = {}
        for path in find_below(self.root.folder)[0]:
            found.setdefault(posixpath.basename(path), []).append(path)
        return found

    @functools.cached_property
    def _by_stored_name(self) -> dict[str, list[str]]:
        """The same, by the names that Label Studio gives them."""
        found: dict[str, list[str]] = {}
        for name, paths in self._by_name.items():
            found.setdefault(_stored(name), []).extend(paths)
        return found


def _stored(name: str) -> str:
    """Write a file's name as Label Studio stores it, behind its prefix.

    >>> _stored("my bird (1).jpg")
    'my_bird_1.jpg'
    """
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))
