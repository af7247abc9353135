"""CVAT's XML, "CVAT for images 1.1": images with tags and boxes.

An attribute of a tag or shape is a task and its value the class, and a label without attributes is a class.
So is one with attributes where labels differ between images, but not within one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from heatcrop.data.readers.annotated import Annotated, Label, make_reader
from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.json_files import read_head
from heatcrop.data.readers.places import finder
from heatcrop.data.readers.regions import MOST_PX, Region, around, make_region, turn
from heatcrop.errors import DataError

ENDINGS = (".xml",)
_EXPECTED = "export it as 'CVAT for images 1.1'"
_OUTLINES = frozenset({"polygon", "polyline", "points"})
_ELEMENTS = frozenset({"tag", "box", "mask", "ellipse", "cuboid", "skeleton", *_OUTLINES})
_NO_VALUE = ("", "__undefined__")


def fits(path: Path) -> bool:
    """Return whether a file is XML whose first element is CVAT's."""
    return path.suffix.casefold() in ENDINGS and "<annotations" in read_head(path)


def _images(collector: Collector) -> tuple[list[Annotated], tuple[()]]:
    """List the images of a file, whose subset is the split.

    They are beside the file or in ``images/``, each in a folder of its subset or not.
    """
    path = collector.root.source
    name = collector.root.name(path)
    collector.files[path] = name
    document = _Document(collector, name)
    try:
        with path.open("rb") as file:
            document.parser.ParseFile(file)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise DataError(f"{name}:{error.lineno}: is not valid XML ({reason}); {_EXPECTED}") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from None
    except (LookupError, ValueError) as error:  # an encoding that Python does not know
        raise DataError(f"{name}: is not valid XML ({error}); {_EXPECTED}") from None
    document.add_described()
    return document.images, ()


find = finder(ENDINGS, fits, "annotations.xml")
read, find_labels = make_reader(_images)


@dataclass
class _Element:
    """An element while it is parsed."""

    tag: str
    values: dict[str, str]
    place: str
    text: str = ""
    inside: list[_Element] = field(default_factory=list)
    """Elements in it; of a shape, at any depth: a skeleton's points are inside it."""


class _Document:
    """Collects the images of a file while it is parsed."""

    def __init__(self, collector: Collector, name: str) -> None:
        self.collector = collector
        self.name = name
        self.images: list[Annotated] = []
        self.labels: list[set[str]] = []
        """Of each image's elements."""
        self.described: list[tuple[Annotated, str, Label]] = []
        """Labels of elements with attributes, with their places."""
        self.numbers: set[str] = set()
        """Attributes that the document declares as numbers."""
        self.open: list[_Element] = []
        """The elements around the current place."""
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.EntityDeclHandler = self.refuse_entity

    @property
    def place(self) -> str:
        """The file and the current line."""
        return f"{self.name}:{self.parser.CurrentLineNumber}"

    def refuse_entity(self, *_: object) -> None:
        """Entities expand without limit, and read files of the machine."""
        raise DataError(f"{self.place}: declares an entity, which is not read; delete the DOCTYPE")

    def start(self, tag: str, values: dict[str, str]) -> None:
        if not self.open and tag != "annotations":
            raise DataError(
                f"{self.place}: the first element is <{tag[:40]}>, not <annotations>; {_EXPECTED}"
            )
        if tag == "track":
            raise DataError(f"{self.place}: holds tracks of a video, which are not read; {_EXPECTED}")
        self.open.append(_Element(tag, values, self.place))

    def text(self, text: str) -> None:
        if len(self.open) > 2:  # not between images
            self.open[-1].text += text

    def end(self, tag: str) -> None:
        element = self.open.pop()
        in_image = len(self.open) > 1 and self.open[1].tag == "image"
        if in_image:
            self.open[:3][-1].inside.append(element)
        elif tag == "image":
            self.add_image(element)
        elif tag == "attribute":
            declared = {one.tag: one.text.strip() for one in element.inside}
            if declared.get("input_type") == "number":
                self.numbers.add(declared.get("name", ""))
        elif self.open:
            self.open[-1].inside.append(element)

    def add_image(self, element: _Element) -> None:
        image, subset = element.values.get("name", ""), element.values.get("subset", "")
        if not image:
            self.collector.reject("", "", element.place, "the image has no name; give it its path")
            return
        split = subset if subset and self.collector.split(subset) is not None else ""
        if subset and not split:
            self.collector.count("image(s)", "in a subset that is no split, and given one", element.place)
        folders = [f"{subset}/", ""] if subset else [""]
        places = [base + folder for base in ("", "images/") for folder in folders]
        try:
            width, height = (min(int(element.values.get(side) or 0), MOST_PX) for side in ("width", "height"))
        except ValueError:  # thousands of digits, too
            width = height = 0
        size = (max(width, 0), max(height, 0))
        self.labels.append(set())
        found = Annotated(element.place, image, split, places=places)
        good = [self.add_labels(found, one, size) for one in element.inside if one.tag in _ELEMENTS]
        if found.labels or all(good):
            self.images.append(found)

    def add_labels(self, image: Annotated, element: _Element, size: tuple[int, int]) -> bool:
        """Add the labels of a tag or shape to its image; return whether it has the expected form."""
        tag, label = element.tag, element.values.get("label", "")
        region, reason = _region(tag, element.values, size) if tag != "tag" else (None, "")
        if not label.strip():
            reason = f"the {tag} has no label; give it one"
        if reason:
            self.collector.reject(image.image, "", element.place, reason)
            return False
        self.labels[-1].add(label)
        attributes = [one for one in element.inside if one.tag == "attribute"]
        named = {one.values.get("name", ""): one.text.strip() for one in attributes}
        values = {name: text for name, text in named.items() if name.strip()}
        for name in [name for name in values if name in self.numbers and self.collector.task(name) is None]:
            self.collector.count("attribute(s)", f"{name} not read, since declared as number", element.place)
            del values[name]
        if attributes:
            self.described.append((image, element.place, Label("", label, region)))
        tasks = values.items() if attributes else [("", label)]
        image.labels.extend(Label(name, text, region) for name, text in tasks if text not in _NO_VALUE)
        return True

    def add_described(self) -> None:
        """Add the labels of elements with attributes, where labels tell images apart, and not their parts."""
        several = len(set().union(*self.labels)) > 1
        classes = several and all(len(labels) < 2 for labels in self.labels)
        for image, place, label in self.described:
            if classes:
                image.labels.append(label)
            else:
                rest = f"with label {label.name!r} read by their attributes alone"
                self.collector.count("tag(s) or shape(s)", rest, place)


def _region(tag: str, values: dict[str, str], size: tuple[int, int]) -> tuple[Region | None, str]:
    """Return a box; of another shape, or one that is turned around its centre, the box around it."""
    if tag != "box":
        return _around_shape(tag, values, size)
    texts = [values.get(name, "nothing") for name in ("xtl", "ytl", "xbr", "ybr")]
    rotation = values.get("rotation") or "0"
    try:
        x0, y0, x1, y1, degrees = map(float, (*texts, rotation))
    except ValueError:
        return None, f"the box {', '.join(texts)[:80]} (rotation {rotation[:20]}) is not in numbers"
    return make_region(turn((x0, y0, x1, y1), degrees), size)


def _around_shape(tag: str, values: dict[str, str], size: tuple[int, int]) -> tuple[Region | None, str]:
    """Return the box around a shape; none of a point, an upright line, and what is not flat."""
    if tag not in ("mask", "ellipse", *_OUTLINES):
        return None, ""
    try:
        if tag == "mask":
            left, top, width, height = (float(values[name]) for name in ("left", "top", "width", "height"))
            box = (left, top, left + width, top + height)
        elif tag == "ellipse":
            x, y, across, down, degrees = (
                float(values.get(name) or 0) for name in ("cx", "cy", "rx", "ry", "rotation")
            )
            box = turn((x - across, y - down, x + across, y + down), degrees)
        else:
            box = around([float(value) for value in re.split("[,;]", values["points"])])
    except (KeyError, ValueError):
        return None, f"the {tag} is not in numbers; correct it"
    if tag in ("points", "polyline") and (box[0] == box[2] or box[1] == box[3]):
        return None, ""
    return make_region(box, size)
