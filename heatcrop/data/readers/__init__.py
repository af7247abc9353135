"""Read annotations from any of three layouts into one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heatcrop.data.readers import fashionai, folders, table
from heatcrop.data.readers.collect import Annotations, Collector, Root
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError

__all__ = ["LAYOUTS", "Annotations", "infer_tasks", "read_annotations"]

LAYOUTS = ("auto", "fashionai", "csv", "folders")


def read_annotations(
    roots: Sequence[Path | str],
    tasks: Sequence[Task],
    layout: str = "auto",
) -> Annotations:
    """Read the annotations of one or several roots, and merge them in order.

    Parameters
    ----------
    roots : sequence of path
        Folders of data, or CSV files. A row that an earlier root already has is dropped and counted.
    tasks : sequence of Task
        Rows of other FashionAI tasks are left out and counted.
    layout : {"auto", "fashionai", "csv", "folders"}
        ``fashionai``: ``base/Annotations/label.csv``, ``rank/Tests/question.csv``, ``web/``.
        ``csv``: a file with the header ``image,task,label[,split][,group]``, images relative to it.
        ``folders``: ``<task>/<class>/<image>`` or ``<split>/<task>/<class>/<image>``.
        ``auto``: for each root, the first of them that fits.

    Returns
    -------
    Annotations
        Good rows, rejected rows with reasons, notes. Images must exist, but are not opened.

    Raises
    ------
    DataError
        When a root is missing or fits no layout, its file has the wrong header, or no row can be used.
    """
    if not roots:
        raise DataError("no data folder is given; name one with --data")
    collector = Collector(tasks)
    for root, how, path in _open_roots(roots, layout):
        collector.start_root()
        if how == "fashionai":
            fashionai.read(root, collector)
        elif how == "csv":
            table.read(root, path, collector)
        else:
            folders.read(root, collector)
    return collector.finish()


def infer_tasks(root: Path | str, layout: str = "auto") -> tuple[Task, ...]:
    """Infer the tasks of a root from its data.

    FashionAI's tasks keep their classes; of a CSV file with class names and of folders, tasks and classes are
    sorted by name. For `layout` see `read_annotations`.

    Raises
    ------
    DataError
        When the class names are unknown (labels are letters) or a task has fewer than two.
    """
    [(opened, how, path)] = _open_roots([root], layout)
    if how == "fashionai":
        tasks = fashionai.infer_tasks(opened)
    elif how == "csv":
        tasks = table.infer_tasks(opened, path)
    else:
        tasks = folders.infer_tasks(opened)
    if not tasks:
        raise DataError(f"{root}: the data holds no task; name the tasks in the configuration")
    return tasks


def _open_roots(roots: Sequence[Path | str], layout: str) -> list[tuple[Root, str, Path]]:
    """Find ``(root, layout, csv file)`` of each; the file is the folder itself in other layouts."""
    if layout not in LAYOUTS:
        raise DataError(f"layout {layout!r} is unknown; expected one of {', '.join(LAYOUTS)}")
    paths = [Path(root) for root in roots]
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: there is no such data folder; correct the path after --data")
    folders = [path if path.is_dir() else path.parent for path in paths]
    # Of several roots, sources start with the name of the folder if it is unique, otherwise with its path.
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [folder.as_posix() for folder in folders]
    prefixes = [f"{name}/" if len(paths) > 1 else "" for name in names]
    return [
        (Root(folder, prefix), *_layout(path, layout))
        for path, folder, prefix in zip(paths, folders, prefixes, strict=True)
    ]


def _layout(path: Path, layout: str) -> tuple[str, Path]:
    if path.is_file():
        if layout not in ("auto", "csv") or path.suffix.casefold() != ".csv":
            raise DataError(f"{path}: is a file; expected a folder, or a .csv file in layout auto or csv")
        return "csv", path
    if layout in ("auto", "fashionai") and fashionai.fits(path):
        return "fashionai", path
    if layout in ("auto", "csv"):
        found = table.find(path)
        if found is not None:
            return "csv", found
    if layout in ("auto", "folders") and folders.fits(path):
        return "folders", path
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    there = ", ".join(entries[:8]) + (", …" if len(entries) > 8 else "") if entries else "nothing"
    expected = {
        "fashionai": "base/Annotations/label.csv (or rank/Tests/question.csv)",
        "csv": "a CSV file with the header image,task,label",
        "folders": "<task>/<class>/<image>",
    }
    wanted = ", or ".join(expected.values()) if layout == "auto" else expected[layout]
    raise DataError(f"{path}: holds {there}; expected {wanted}")
