"""A folder per task and class: ``<task>/<class>/<image>``, or ``<split>/<task>/<class>/<image>``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from heatcrop.data.listing import FORMAT, NAME, OWN, SYSTEM, find_below, list_folder, skip_lines
from heatcrop.data.readers.collect import SPLITS, Collector
from heatcrop.data.readers.table import make_tasks
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError
from heatcrop.files import NOT_UTF8, printable

_REPORTED = (SYSTEM, OWN, FORMAT, NAME)
"""Reasons for which a file or folder is skipped that have a note of their own."""


def find(folder: Path) -> Path | None:
    """Return the folder if it holds at least one ``<task>/<class>/<image>``, with or without splits."""
    classes = (class_folder for _, task in _task_folders(folder) for class_folder in _contents(task)[0])
    return folder if any(_contents(class_folder)[1] for class_folder in classes) else None


def read(collector: Collector) -> None:
    """Add every image of the tree to the collector.

    A class folder has the class's name or its `heatcrop.data.tasks.folder_name`. Images directly in a task's
    folder have no label and belong to the test set. Other files, and folders below a class's, are skipped
    and counted.
    """
    root, skipped = collector.root, 0

    def add(folder: Path, names: list[str], task: str, label: str, split: str) -> None:
        for name in names:
            image = (folder / name).relative_to(root.folder).as_posix()
            shown = printable(image)
            source = root.prefix + shown
            if shown != image:
                collector.reject(shown, task, source, NOT_UTF8)
            else:
                collector.add(source, image, task, label, split)

    for split, task_folder in _task_folders(root.folder):
        class_folders, unlabelled, n_others = _contents(task_folder)
        skipped += n_others
        task = collector.task(task_folder.name)
        for class_folder in class_folders:
            inner, images, n_others = _contents(class_folder)
            skipped += n_others + len(inner)
            if task is not None and collector.label(task, class_folder.name)[1]:
                source, known = root.name(class_folder), ", ".join(task.classes)
                reason = f"{len(images):,} images in a folder that is no class of {task.name}: {known}"
                collector.reject(source, task.name, source, reason)
            else:
                add(class_folder, images, task_folder.name, class_folder.name, split)
        add(task_folder, unlabelled, task_folder.name, "", split)
    if skipped:
        name = root.prefix or root.folder.name
        collector.notes.append(
            f"{name}: {skipped:,} files or folders skipped, which are no images of a class"
        )
    found = [one for one in find_below(root.folder)[1] if one[1] in _REPORTED]
    collector.notes += [f"{root.prefix or root.folder.name}: {line}" for line in skip_lines(found)]


def infer_tasks(collector: Collector) -> tuple[Task, ...]:
    """Infer tasks from the folders: tasks and classes sorted by name."""
    classes: dict[str, set[str]] = {}
    for _, task_folder in _task_folders(collector.root.folder):
        names = classes.setdefault(task_folder.name, set())
        names |= {folder.name for folder in _contents(task_folder)[0] if _contents(folder)[1]}
    return make_tasks(str(collector.root.folder), classes)


def _task_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield ``(split, folder of a task)``; the top folders are splits when all have a split's name."""
    top = _contents(folder)[0]
    if any(path.name.casefold() not in SPLITS for path in top):
        yield from (("", path) for path in top)
    else:
        for path in top:
            yield from ((SPLITS[path.name.casefold()], task) for task in _contents(path)[0])


def _contents(folder: Path) -> tuple[list[Path], list[str], int]:
    """List a folder's subfolders and the names of its images, and count its other files."""
    try:
        listing = list_folder(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
    return [folder / name for name in listing.folders], listing.images, len(listing.others)
