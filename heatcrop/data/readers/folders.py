"""A folder a task and class: ``<task>/<class>/<picture>``, or ``<split>/<task>/<class>/<picture>``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from heatcrop.data.images import SUFFIXES
from heatcrop.data.readers.collect import SPLITS, Collector, Root, Row
from heatcrop.data.readers.listing import PictureFolders
from heatcrop.data.readers.table import make_tasks
from heatcrop.data.tasks import Task
from heatcrop.data.texts import NOT_UTF8, printable
from heatcrop.errors import DataError


def fits(folder: Path) -> bool:
    """Whether there is at least one ``<task>/<class>/<picture>``, under a split or not."""
    classes = (class_folder for _, task in _task_folders(folder) for class_folder in _subfolders(task))
    return any(_pictures(class_folder)[0] for class_folder in classes)


def read(root: Root, collector: Collector) -> None:
    """Give every picture of the tree to the collector.

    A class folder bears the class's name or its `heatcrop.data.tasks.folder_name`. Pictures that lie directly
    in a task's folder have no label and belong to the test set. Other files, and folders below a class's,
    are passed over and counted.
    """
    folders = PictureFolders(root.folder)
    passed_over = 0
    for split, task_folder in _task_folders(root.folder):
        unlabelled, others = _pictures(task_folder)
        passed_over += others
        task = collector.task(task_folder.name)
        for class_folder in _subfolders(task_folder):
            pictures, others = _pictures(class_folder)
            passed_over += others + len(_subfolders(class_folder))
            source = root.name(class_folder)
            if task is not None and collector.label(task, class_folder.name)[1]:
                known = ", ".join(task.classes)
                reason = f"{len(pictures):,} pictures in a folder that is no class of {task.name}: {known}"
                collector.reject(source, task.name, source, reason)
                continue
            for name in pictures:
                _add(
                    root, collector, folders, class_folder / name, task_folder.name, class_folder.name, split
                )
        for name in unlabelled:
            _add(root, collector, folders, task_folder / name, task_folder.name, "", split)
    if passed_over:
        collector.notes.append(
            f"{root.prefix or root.folder.name}: {passed_over:,} files or folders that are no pictures of a "
            "class passed over"
        )


def infer_tasks(root: Root) -> tuple[Task, ...]:
    """Tasks from the folders: tasks and classes sorted by name."""
    classes: dict[str, set[str]] = {}
    for _, task_folder in _task_folders(root.folder):
        names = classes.setdefault(task_folder.name, set())
        names |= {folder.name for folder in _subfolders(task_folder) if _pictures(folder)[0]}
    if not classes:
        raise DataError(f"{root.folder}: holds no folders; expected <task>/<class>/<picture>")
    return make_tasks(str(root.folder), classes)


def _add(
    root: Root, collector: Collector, folders: PictureFolders, path: Path, task: str, label: str, split: str
) -> None:
    image = path.relative_to(root.folder).as_posix()
    shown = printable(image)
    if shown != image:
        collector.reject(shown, task, root.prefix + shown, NOT_UTF8)
    else:
        collector.add(folders, "", Row(image, task, label, split, "", root.prefix, 0))


def _task_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """``(split, folder of a task)``; the upper folders are splits when all of them are named like one."""
    upper = _subfolders(folder)
    if upper and all(path.name.casefold() in SPLITS for path in upper):
        for path in upper:
            for task in _subfolders(path):
                yield SPLITS[path.name.casefold()], task
    else:
        for path in upper:
            yield "", path


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
    return [folder / name for name in names]


def _pictures(folder: Path) -> tuple[list[str], int]:
    """Names of the pictures in a folder, sorted, and the number of other files; hidden ones do not count."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name[0] != "." and not entry.is_dir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
    pictures = [name for name in names if os.path.splitext(name)[1].casefold() in SUFFIXES]
    return pictures, len(names) - len(pictures)
