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
    """A tag or shape while it is parsed."""

    tag: str
    label: str
    place: str
    region: Region | None = None
    attributes: dict[str, str] = field(default_factory=dict)


class _Document:
    """Collects the images of a file while it is parsed."""

    def __init__(self, collector: Collector, name: str) -> None:
        self.collector = collector
        self.name = name
        self.images: list[Annotated] = []
        self.image: Annotated | None = None
        self.size = (0, 0)
        self.faulty = False
        self.element: _Element | None = None
        self.labels: list[set[str]] = []
        """Of each image's elements."""
        self.described: list[tuple[Annotated, _Element]] = []
        """Elements with attributes."""
        self.numbers: set[str] = set()
        """Attributes that the document declares as numbers."""
        self.declared: dict[str, str] | None = None
        """The declaration of an attribute while it is parsed, and the tag of its current field."""
        self.field = ""
        self.attribute: str | None = None
        self.depth = 0
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
        self.depth += 1
        if self.depth == 1 and tag != "annotations":
            raise DataError(
                f"{self.place}: the first element is <{tag[:40]}>, not <annotations>; {_EXPECTED}"
            )
        if tag == "track":
            raise DataError(f"{self.place}: holds tracks of a video, which are not read; {_EXPECTED}")
        if tag == "image":
            self.start_image(values)
        elif self.image is None:
            self.field = tag
            if tag == "attribute":
                self.declared = {}
        elif tag in _ELEMENTS and self.element is None:  # the points of a skeleton are inside it
            self.start_element(tag, self.image, values)
        elif tag == "attribute" and self.element is not None:
            self.attribute = values.get("name", "")
            self.element.attributes[self.attribute] = ""

    def start_image(self, values: dict[str, str]) -> None:
        image, subset = values.get("name", ""), values.get("subset", "")
        if not image:
            self.collector.reject("", "", self.place, "the image has no name; give it its path")
            return
        split = subset if subset and self.collector.split(subset) is not None else ""
        if subset and not split:
            self.collector.count("image(s)", "in a subset that is no split, and given one", self.place)
        folders = [f"{subset}/", ""] if subset else [""]
        places = [base + folder for base in ("", "images/") for folder in folders]
        self.labels.append(set())
        self.image, self.faulty = Annotated(self.place, image, split, places=places), False
        try:
            width, height = (min(int(values.get(side) or 0), MOST_PX) for side in ("width", "height"))
        except ValueError:  # thousands of digits, too
            width = height = 0
        self.size = (max(width, 0), max(height, 0))

    def start_element(self, tag: str, image: Annotated, values: dict[str, str]) -> None:
        region, reason = _region(tag, values, self.size) if tag != "tag" else (None, "")
        if not values.get("label", "").strip():
            reason = f"the {tag} has no label; give it one"
        if reason:
            self.faulty = True
            self.collector.reject(image.image, "", self.place, reason)
        else:
            self.element = _Element(tag, values["label"], self.place, region)
            self.labels[-1].add(values["label"])

    def text(self, text: str) -> None:
        if self.element is not None and self.attribute is not None:
            self.element.attributes[self.attribute] += text
        elif self.declared is not None:
            self.declared[self.field] = self.declared.get(self.field, "") + text

    def end(self, tag: str) -> None:
        self.depth -= 1
        if tag == "attribute":
            self.attribute = None
            if self.declared is not None and self.declared.get("input_type", "").strip() == "number":
                self.numbers.add(self.declared.get("name", "").strip())
            self.declared = None
        elif self.image is not None and self.element is not None and tag == self.element.tag:
            self.end_element(self.image, self.element)
            self.element = None
        elif tag == "image" and self.image is not None:
            if self.image.labels or not self.faulty:
                self.images.append(self.image)
            self.image = None

    def end_element(self, image: Annotated, element: _Element) -> None:
        values = {name: text.strip() for name, text in element.attributes.items() if name.strip()}
        for name in [name for name in values if name in self.numbers and self.collector.task(name) is None]:
            self.collector.count("attribute(s)", f"{name} not read, since declared as number", element.place)
            del values[name]
        if element.attributes:
            self.described.append((image, element))
        tasks = values.items() if element.attributes else [("", element.label)]
        image.labels.extend(
            Label(name, text, element.region) for name, text in tasks if text not in _NO_VALUE
        )

    def add_described(self) -> None:
        """Add the labels of elements with attributes, where labels tell images apart, and not their parts."""
        several = len(set().union(*self.labels)) > 1
        classes = several and all(len(labels) < 2 for labels in self.labels)
        for image, element in self.described:
            if classes:
                image.labels.append(Label("", element.label, element.region))
            else:
                rest = f"with label {element.label!r} read by their attributes alone"
                self.collector.count("tag(s) or shape(s)", rest, element.place)


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
