"""CVAT's XML, "CVAT for images 1.1": images with tags and boxes.

An attribute of a tag or box is a task and its value the class; a label without attributes is a class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from heatcrop.data.readers.annotated import Annotated, Label, add_images, labels_of
from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.json_files import read_head
from heatcrop.data.readers.places import choose_file, files_in
from heatcrop.data.readers.regions import MOST_PX, Region, make_region, turn
from heatcrop.errors import DataError

ENDINGS = (".xml",)
_USUAL_NAME = "annotations.xml"
_EXPECTED = "export it as 'CVAT for images 1.1'"
_SHAPES = frozenset({"polygon", "polyline", "points", "mask", "ellipse", "cuboid", "skeleton"})
_NO_VALUE = ("", "__undefined__")


def find(folder: Path) -> Path | None:
    """Find the only file of this format in a folder.

    Raises DataError when there are several.
    """
    return choose_file(folder, [path for path in files_in(folder, ENDINGS) if fits(path)], _USUAL_NAME)


def fits(path: Path) -> bool:
    """Return whether a file is XML whose first element is CVAT's."""
    return path.suffix.casefold() in ENDINGS and "<annotations" in read_head(path)


def read(collector: Collector) -> None:
    """Add the images of a file to the collector; their subset is the split.

    Images are beside the file or in ``images/``, each in a folder of its subset or not.
    """
    add_images(collector, _images(collector))


def find_labels(collector: Collector) -> list[tuple[str, str, str]]:
    """List ``(split, task, class)`` of the tags and boxes, sorted by task."""
    return labels_of(collector, _images(collector))


def _images(collector: Collector) -> list[Annotated]:
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
    return document.images


@dataclass
class _Element:
    """A tag or box while it is parsed."""

    label: str
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
            return
        elif tag in ("tag", "box"):
            self.start_element(tag, self.image, values)
        elif tag == "attribute" and self.element is not None:
            self.attribute = values.get("name", "")
            self.element.attributes[self.attribute] = ""
        elif tag in _SHAPES:
            self.collector.count("annotation(s)", f"of type {tag} not read", self.place)

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
        self.image, self.faulty = Annotated(self.place, image, split, places=places), False
        try:
            width, height = (min(int(values.get(side) or 0), MOST_PX) for side in ("width", "height"))
        except ValueError:  # thousands of digits, too
            width = height = 0
        self.size = (max(width, 0), max(height, 0))

    def start_element(self, tag: str, image: Annotated, values: dict[str, str]) -> None:
        region, reason = _region(values, self.size) if tag == "box" else (None, "")
        if not values.get("label", "").strip():
            reason = f"the {tag} has no label; give it one"
        if reason:
            self.faulty = True
            self.collector.reject(image.image, "", self.place, reason)
        else:
            self.element = _Element(values["label"], region)

    def text(self, text: str) -> None:
        if self.element is not None and self.attribute is not None:
            self.element.attributes[self.attribute] += text

    def end(self, tag: str) -> None:
        self.depth -= 1
        if tag == "attribute":
            self.attribute = None
        elif tag in ("tag", "box") and self.element is not None and self.image is not None:
            values = {name: text.strip() for name, text in self.element.attributes.items() if name.strip()}
            if values:
                rest = f"of label {self.element.label!r} read by their attributes alone"
                self.collector.count("tag(s) or box(es)", rest, self.place)
            tasks = values.items() or [("", self.element.label)]
            self.image.labels.extend(
                Label(name, text, self.element.region) for name, text in tasks if text not in _NO_VALUE
            )
            self.element = None
        elif tag == "image" and self.image is not None:
            if self.image.labels or not self.faulty:
                self.images.append(self.image)
            self.image = None


def _region(values: dict[str, str], size: tuple[int, int]) -> tuple[Region | None, str]:
    """Return a box; of one that is turned around its centre, the box around it."""
    texts = [values.get(name, "nothing") for name in ("xtl", "ytl", "xbr", "ybr")]
    rotation = values.get("rotation") or "0"
    try:
        x0, y0, x1, y1, degrees = map(float, (*texts, rotation))
    except ValueError:
        return None, f"the box {', '.join(texts)[:80]} (rotation {rotation[:20]}) is not in numbers"
    return make_region(turn((x0, y0, x1, y1), degrees), size)
