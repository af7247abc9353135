"""A folder per class: ``<task>/<class>/<image>``, or ``<class>/<image>`` of one task.

Both may have folders of splits: ``<split>/<task>/<class>/<image>``, ``<split>/<class>/<image>``,
``<task>/<split>/<class>/<image>``, ``<class>/<split>/<image>``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path

from heatcrop.data.listing import FORMAT, NAME, OWN, SYSTEM, find_below, list_folder, skip_lines
from heatcrop.data.readers.collect import Collector, FindSplit
from heatcrop.data.readers.naming import name_task
from heatcrop.errors import DataError
from heatcrop.files import NOT_UTF8, printable
from heatcrop.wording import counted

_Contents = Callable[[Path], tuple[list[Path], list[str], int]]
_MOST_LEVELS = 3  # of folders below the root: split, task, class
_NO_SPLIT = (
    "the folder is no split, though those beside it are; name its split, for instance "
    "--set data.splits.NAME=train, or move it away"
)
_BESIDE_SPLITS = "they are beside the folders of splits; move them into one"
_NO_TASK = "they are in no task's folder; move them into <task>/<class>/"
_TOO_DEEP = "they are below a class's folder; move them up, or give a folder further down as --data"


def find(folder: Path, _split: FindSplit) -> Path | None:
    """Return the folder if it holds an image at least one folder below.

    Raises DataError when the folder cannot be read.
    """
    faults: list[str] = []
    contents = functools.partial(_contents, faults=faults)
    if any(_has_image(below, contents) for below in contents(folder)[0]):
        return folder
    if faults:
        raise DataError(faults[0])
    return None


def read(collector: Collector) -> None:
    """Add every image of the tree to the collector.

    A class folder has the class's name or its `heatcrop.data.tasks.folder_name`. Images directly in a task's
    folder have no label and belong to the test set. Other files, and folders below a class's, are skipped
    and counted.
    """
    root, tree = collector.root, _Tree(collector)
    for split, name, label, folder, images in tree.folders:
        task, reason = collector.task(name), ""
        if task is not None and collector.label(task, label)[1]:
            reason = f"its folder {label!r} is no class of {task.name}: {', '.join(task.classes)}"
        for file in images:
            image = (folder / file).relative_to(root.folder).as_posix()
            shown = printable(image)
            source = root.prefix + shown
            if shown != image or reason:
                collector.reject(shown, printable(name), source, NOT_UTF8 if shown != image else reason)
            else:
                collector.add(source, image, name, label, split)
    tree.report()


def find_labels(collector: Collector) -> list[tuple[str, str, str]]:
    """List ``(split, task, class)`` of the folders with images, sorted by task."""
    tree = _Tree(collector)
    tree.report()
    found = [
        (split, task, label)
        for split, task, label, _, images in tree.folders
        if images and printable(task + label) == task + label  # others are rejected
    ]
    return sorted(found, key=lambda row: row[1])


class _Tree:
    """What the folders of a collector's root mean."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.folders: list[tuple[str, str, str, Path, list[str]]] = []
        """Split, task, class (``''``: no label), folder and its images."""
        self.plain_task = ""
        """The task, where the folders are the classes of one."""
        self.skipped = 0
        self.empty: list[Path] = []
        self.lost: dict[str, list[Path]] = {}
        """Images that have no place in the layout, by reason."""
        self.faults: list[str] = []
        """Folders that cannot be read."""
        self.contents = functools.cache(lambda folder: _contents(folder, self.faults))
        parts = self._parts()
        inner = [(split, folder) for split, part in parts for folder in self._filled(part)]
        classes = [folder for _, folder in inner]
        divided = self._has_splits_in_classes(classes)
        if divided or self._is_plain(classes):
            self.plain_task = name_task(collector, {folder.name for folder in classes})
            for split, folder in inner:
                for below in self._filled(folder) if divided else ():
                    self._add_class(below.name, self.plain_task, below, folder.name)
                self._add_class(split, self.plain_task, folder, deeper=[] if divided else None)
            for split, part in parts:  # images beside the classes have no label
                self.folders.append((split, self.plain_task, "", part, self.contents(part)[1]))
            return
        for split, folder in inner:
            filled = self._filled(folder)
            # Beside a split with classes, one without has images without a label.
            splits = [below for below in filled if collector.split(below.name) is not None]
            divided = not split and any(map(self._classes, splits))
            for below in filled:
                if divided and below in splits:
                    for deeper in self._filled(below):
                        self._add_class(below.name, folder.name, deeper)
                    self._add_unlabelled(below.name, folder.name, below)
                else:
                    self._add_class(split, folder.name, below)
            self._add_unlabelled(split, folder.name, folder)
        for _, part in parts:
            self._lose(_NO_TASK, (part / name for name in self.contents(part)[1]))

    def report(self) -> None:
        """Add notes on how the folders were read, and problems for what was left out."""
        root, notes, problems = self.collector.root, self.collector.notes, self.collector.problems
        where = root.prefix or f"{root.folder.resolve().name}/"
        if self.skipped:
            notes.append(
                f"{where}: {counted(self.skipped, 'file(s) or folder(s)')} skipped: not an image of a class"
            )
        found = find_below(root.folder)[1]
        for lines, reasons in ((notes, (SYSTEM, OWN)), (problems, (FORMAT, NAME))):
            skipped = [one for one in found if one[1] in reasons]
            lines += [f"{where}: {line}" for line in skip_lines(skipped)]
        if self.plain_task:
            notes.append(f"{where}: its folders are read as the classes of one task, {self.plain_task}")
        classes: dict[str, set[str]] = {}
        for _, task, label, _, images in self.folders:
            if label and images:
                classes.setdefault(printable(task), set()).add(label)
        unnamed = [task for task in classes if self.collector.split(task) is None]
        same = all(labels == next(iter(classes.values())) for labels in classes.values())
        if len(classes) > 1 and unnamed and same:
            notes.append(
                f"{where}: the tasks {', '.join(classes)} have the same classes; if they are splits of one, "
                f"name the split of {', '.join(unnamed)}, for instance --set data.splits.{unnamed[0]}=train"
            )
        problems += self.faults
        if self.empty:
            problems.append(
                f"{where}: {counted(len(self.empty), 'folder(s)')} without an image left out, for instance "
                f"{root.name(self.empty[0])}/; add images, or remove the folder"
            )
        for reason, lost in self.lost.items():
            first = root.name(lost[0])
            problems.append(
                f"{where}: {counted(len(lost), 'image(s)')} left out, for instance {first}: {reason}"
            )

    def _parts(self) -> list[tuple[str, Path]]:
        """Find the folders of splits; the root alone where there are none."""
        root, split = self.collector.root.folder, self.collector.split
        top = [folder for folder in self.contents(root)[0] if _has_image(folder, self.contents)]
        parts = [(folder.name, folder) for folder in top if split(folder.name) is not None]
        # Beside other folders, a class may be called `train`.
        divided = any(split(name) == "train" and not self.contents(folder)[1] for name, folder in parts)
        if not parts or not (divided or len(parts) == len(top)):
            return [("", root)]
        self._filled(root)  # notes those without an image
        for folder in top:
            if split(folder.name) is None:
                self._lose(_NO_SPLIT.replace("NAME", printable(folder.name)), _images_below(folder))
        self._lose(_BESIDE_SPLITS, (root / name for name in self.contents(root)[1]))
        return [(name, self._unwrapped(folder)) for name, folder in parts]

    def _unwrapped(self, folder: Path) -> Path:
        """Go down from a folder that holds only one of the same split, as ``train/train/``."""
        folders, images, _ = self.contents(folder)
        split = self.collector.split
        if len(folders) == 1 and not images and split(folders[0].name) == split(folder.name):
            return self._unwrapped(folders[0])
        return folder

    def _has_splits_in_classes(self, folders: list[Path]) -> bool:
        """Return whether these folders are classes whose images are in folders of splits."""
        inner = [below for folder in folders for below in self.contents(folder)[0]]
        filled = [below for below in inner if _has_image(below, self.contents)]
        return (
            len(folders) > 1
            and bool(filled)
            and all(self.collector.split(below.name) is not None for below in filled)
            and not any(self._classes(below) for below in filled)
        )

    def _is_plain(self, folders: list[Path]) -> bool:
        """Return whether these folders are classes and not tasks: most have images of their own."""
        labelled = [folder for folder in folders if self._classes(folder)]
        if any(self.collector.task(folder.name) is not None for folder in labelled):
            return False
        direct = {folder.name for folder in folders if self.contents(folder)[1]}
        stray = all(len(self._classes(folder)) < 2 for folder in labelled)
        return bool(direct) and (not labelled or (len(direct) > 1 and stray))

    def _classes(self, folder: Path) -> list[Path]:
        return [below for below in self.contents(folder)[0] if self.contents(below)[1]]

    def _filled(self, folder: Path) -> list[Path]:
        """List the subfolders with images, and note the others."""
        full = []
        for below in self.contents(folder)[0]:
            if _has_image(below, self.contents):
                full.append(below)
            elif deep := _images_below(below):
                self._lose(_TOO_DEEP, deep)
            else:
                self.empty.append(below)
        return full

    def _add_class(
        self, split: str, task: str, folder: Path, label: str = "", deeper: list[Path] | None = None
    ) -> None:
        """Add a class's images; folders below it, or of them those `deeper`, are skipped."""
        inner, images, n_others = self.contents(folder)
        inner = inner if deeper is None else deeper
        self.skipped += n_others + len(inner)
        self.folders.append((split, task, label or folder.name, folder, images))
        self._lose(_TOO_DEEP, (image for below in inner for image in _images_below(below)))

    def _add_unlabelled(self, split: str, task: str, folder: Path) -> None:
        _, images, n_others = self.contents(folder)
        self.skipped += n_others
        self.folders.append((split, task, "", folder, images))

    def _lose(self, reason: str, images: Iterable[Path]) -> None:
        if found := list(images):
            self.lost.setdefault(reason, []).extend(found)


def _has_image(folder: Path, contents: _Contents, levels: int = _MOST_LEVELS) -> bool:
    folders, images, _ = contents(folder)
    return bool(images) or (levels > 1 and any(_has_image(below, contents, levels - 1) for below in folders))


def _images_below(folder: Path) -> list[Path]:
    """List the images of a folder and all below it, see :mod:`heatcrop.data.listing`."""
    return [folder / name for name in find_below(folder)[0]]


def _contents(folder: Path, faults: list[str]) -> tuple[list[Path], list[str], int]:
    """List a folder's subfolders and the names of its images, and count its other files."""
    try:
        listing = list_folder(folder)
    except OSError as error:
        faults.append(f"{printable(str(folder))}: cannot be read: {error.strerror}; change its permissions")
        return [], [], 0
    return [folder / name for name in listing.folders], listing.images, len(listing.others)
