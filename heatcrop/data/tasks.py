"""Tasks, their classes in label order, and safe folder names."""

from __future__ import annotations

import difflib
import functools
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from heatcrop.errors import DataError
from heatcrop.wording import counted

KINDS = ("design", "length")
MAX_FOLDER_BYTES = 120  # well below the 255 of common file systems: a suffix and a long path still fit

_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')  # what Windows refuses in a name, both separators included
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)


def folder_name(class_name: str) -> str:
    """Make a readable folder name that is safe on Linux, macOS and Windows.

    Separators and characters that Windows refuses become ``-``; control and invisible characters, leading
    dots, trailing dots and spaces are removed; device names (``NUL``) get a ``_``; the length is bounded.

    >>> folder_name("3/4 Length"), folder_name("../../etc"), folder_name("Ankle&Floor Length")
    ('3-4 Length', '-etc', 'Ankle&Floor Length')
    >>> folder_name("NUL"), folder_name("...")
    ('_NUL', 'unnamed')
    """
    text = "".join(" " if char.isspace() else char for char in class_name)
    text = "".join(char for char in text if unicodedata.category(char)[0] != "C")
    text = unicodedata.normalize("NFC", text)  # macOS would decompose accents
    text = _FORBIDDEN.sub("-", text)
    text = re.sub(r"\.{2,}", "", text)
    text = re.sub(r"-{2,}", "-", re.sub(r" {2,}", " ", text))
    text = text.encode("utf-8")[:MAX_FOLDER_BYTES].decode("utf-8", errors="ignore")
    text = text.lstrip(". ").rstrip(". ")
    if _DEVICES.fullmatch(text):
        text = f"_{text}"
    return text or "unnamed"


@dataclass(frozen=True)
class Task:
    """One attribute of an image and its classes.

    >>> Task("neck_design_labels", ("Invisible", "Turtle Neck")).short
    'neck'
    >>> Task("beak", ("hooked", "straight")).short
    'beak'
    """

    name: str
    """The full name, as in annotation files and run folders (``neck_design_labels``)."""
    classes: tuple[str, ...]
    """Class names in label order: letter ``i`` of a label belongs to ``classes[i]``."""
    kind: str = "design"
    """``design``: the form of a part, which a crop shows. ``length``: how far a part reaches, which needs the
    full image, so that training uses no random crops."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))  # YAML gives a list
        if not self.name or self.name != folder_name(self.name) or re.search(r"[,;]", self.name):
            # The name becomes a folder of the run and a field in CSV files.
            raise ValueError(
                f"task name {self.name!r} cannot serve as a folder and in a CSV file; "
                "use letters, digits and '_'"
            )
        if len(self.classes) < 2:
            raise ValueError(
                f"task {self.name!r} has {counted(len(self.classes), 'class(es)')}; at least two are needed"
            )
        if any(not isinstance(name, str) or not name.strip() for name in self.classes):
            raise ValueError(f"task {self.name!r} has a class without a name: {self.classes!r}")
        repeated = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if repeated:
            raise ValueError(f"task {self.name!r} names a class twice: {', '.join(map(repr, repeated))}")
        if self.kind not in KINDS:
            raise ValueError(
                f"task {self.name!r} is of kind {self.kind!r}; expected one of {', '.join(KINDS)}"
            )

    @property
    def invisible(self) -> int | None:
        """Index of the class of images that do not show the attribute; None without one."""
        names = [name.strip().casefold() for name in self.classes]
        return names.index("invisible") if "invisible" in names else None

    @property
    def short(self) -> str:
        """The name without ``_labels``, then without ``_design`` or ``_length``."""
        stem = self.name.removesuffix("_labels")
        return re.sub("_(design|length)$", "", stem) or self.name


_FASHIONAI_CLASSES = {
    "skirt_length_labels": "Invisible, Short Length, Knee Length, Midi Length, Ankle Length, Floor Length",
    "coat_length_labels": (
        "Invisible, High Waist Length, Regular Length, Long Length, Micro Length, Knee Length, "
        "Midi Length, Ankle&Floor Length"
    ),
    "collar_design_labels": "Invisible, Shirt Collar, Peter Pan, Puritan Collar, Rib Collar",
    "lapel_design_labels": "Invisible, Notched, Collarless, Shawl Collar, Plus Size Shawl",
    "neck_design_labels": "Invisible, Turtle Neck, Ruffle Semi-High Collar, Low Turtle Neck, Draped Collar",
    "neckline_design_labels": (
        "Invisible, Strapless Neck, Deep V Neckline, Straight Neck, V Neckline, Square Neckline, "
        "Off Shoulder, Round Neckline, Sweat Heart Neck, One Shoulder Neckline"
    ),
    "pant_length_labels": "Invisible, Short Pant, Mid Length, 3/4 Length, Cropped Pant, Full Length",
    "sleeve_length_labels": (
        "Invisible, Sleeveless, Cup Sleeves, Short Sleeves, Elbow Sleeves, 3/4 Sleeves, Wrist Length, "
        "Long Sleeves, Extra Long Sleeves"
    ),
}

FASHIONAI = tuple(
    Task(name, tuple(classes.split(", ")), "length" if "_length_" in name else "design")
    for name, classes in _FASHIONAI_CLASSES.items()
)


def resolve(name: str, tasks: Sequence[Task] = FASHIONAI) -> Task:
    """Find the task of a full or short name, exactly, otherwise in any case.

    A prefix never matches: ``neck`` is not ``neckline``.

    Raises DataError when no task, or more than one, has that name; the message lists the tasks.

    >>> resolve("Neck").name
    'neck_design_labels'
    >>> resolve("neckline_design_labels").short
    'neckline'
    >>> resolve("necklin")
    Traceback (most recent call last):
    ...
    heatcrop.errors.DataError: no task is named 'necklin'; did you mean neckline? There are: skirt, coat, \
collar, lapel, neck, neckline, pant, sleeve
    """
    name = unicodedata.normalize("NFC", name.strip())
    wanted = name.casefold()
    found = [task for task in tasks if task.name == name]
    found = found or [task for task in tasks if task.name.casefold() == wanted]
    found = found or [task for task in tasks if task.short == name]
    found = found or [task for task in tasks if task.short.casefold() == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(task.name for task in found)
        raise DataError(f"task {name!r} could be any of {names}; give the full name")
    spellings = {spelling.casefold(): spelling for task in tasks for spelling in (task.name, task.short)}
    close = difflib.get_close_matches(wanted, spellings, n=1)
    hint = f"; did you mean {spellings[close[0]]}?" if close else "."
    there = ", ".join(task.short for task in tasks) or "none: the task list is empty"
    raise DataError(f"no task is named {name!r}{hint} There are: {there}")


def short_names(tasks: Iterable[Task]) -> dict[str, str]:
    """Return by name of each task its short name, or the name itself where several share the short one.

    >>> names = ("neck_design_labels", "arm_design_labels", "arm_length_labels")
    >>> list(short_names(Task(name, ("a", "b")) for name in names).values())
    ['neck', 'arm_design_labels', 'arm_length_labels']
    """
    shorts = {task.name: task.short for task in tasks}
    counts = Counter(short.casefold() for short in shorts.values())
    return {name: short if counts[short.casefold()] == 1 else name for name, short in shorts.items()}


@functools.cache
def class_folders(task: Task) -> tuple[str, ...]:
    """Make one folder name per class, in label order, all different even when case is ignored.

    >>> class_folders(Task("size", ("3/4", "3-4", "Full", "full")))
    ('3-4', '3-4 (2)', 'Full', 'full (2)')
    """
    return distinct_names(map(folder_name, task.classes))


def distinct_names(names: Iterable[str], taken: Iterable[str] = ()) -> tuple[str, ...]:
    """Number names until all differ from each other, and from those `taken`, even when case is ignored.

    >>> distinct_names(["wing", "Wing", "WING"], taken=["wing (2)"])
    ('wing', 'Wing (3)', 'WING (4)')
    """
    used, found = {name.casefold() for name in taken}, []
    for name in names:
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        found.append(next(one for one in itertools.chain([name], numbered) if one.casefold() not in used))
        used.add(found[-1].casefold())
    return tuple(found)
