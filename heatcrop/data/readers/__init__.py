"""Annotations, read from any of three layouts into one table; see `read_annotations`."""

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
    csv_name: str | None = None,
) -> Annotations:
    """Read the annotations of one or several roots and merge them in order.

    Parameters
    ----------
    roots : sequence of path
        Folders of data, or CSV files. A row that an earlier root has already is dropped and counted.
    tasks : sequence of Task
        What to read. Rows of FashionAI tasks that are not among them are left out and counted.
    layout : {"auto", "fashionai", "csv", "folders"}
        ``fashionai``: ``base/Annotations/label.csv``, ``rank/Tests/question.csv``, ``web/``.
        ``csv``: a file with the header ``image,task,label[,split][,group]``, pictures relative to it.
        ``folders``: ``<task>/<class>/<picture>`` or ``<split>/<task>/<class>/<picture>``.
        ``auto`` takes, for each root, the first of them that fits.
    csv_name : str, optional
        The name of the CSV file within its folder, when several could be meant.

    Returns
    -------
    Annotations
        Good rows, rejected rows with reasons, notes. Pictures are looked for, but not opened.

    Raises
    ------
    DataError
        When a root is missing, fits no layout, its file has the wrong header, or not one row is usable.
    """
    if not roots:
        raise DataError("no data folder is given; name one with --data")
    collector = Collector(tasks)
    for root, how, path in _open_roots(roots, layout, csv_name):
        collector.start_root()
        if how == "fashionai":
            fashionai.read(root, collector)
        elif how == "csv":
            table.read(root, path, collector)
        else:
            folders.read(root, collector)
    return collector.finish()


def infer_tasks(root: Path | str, layout: str = "auto", csv_name: str | None = None) -> tuple[Task, ...]:
    """The tasks that a root speaks of, for data that comes with no list of tasks.

    FashionAI's own are taken as they are; of a CSV file with class names and of folders, tasks and classes
    are sorted by name. Parameters as in `read_annotations`.

    Raises
    ------
    DataError
        When the names of the classes cannot be known (labels are letters) or a task has fewer than two.
    """
    [(opened, how, path)] = _open_roots([root], layout, csv_name)
    if how == "fashionai":
        tasks = fashionai.infer_tasks(opened)
    elif how == "csv":
        tasks = table.infer_tasks(opened, path)
    else:
        tasks = folders.infer_tasks(opened)
    if not tasks:
        raise DataError(f"{root}: no task could be told from the data; name them in the configuration")
    return tasks


def _open_roots(
    roots: Sequence[Path | str], layout: str, csv_name: str | None
) -> list[tuple[Root, str, Path]]:
    """``(root, layout, csv file)`` of each; the file is the folder itself where the layout has none."""
    if layout not in LAYOUTS:
        raise DataError(f"layout {layout!r} is unknown; expected one of {', '.join(LAYOUTS)}")
    paths = [Path(root) for root in roots]
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: there is no such data folder; correct the path after --data")
    homes = [path if path.is_dir() else path.parent for path in paths]
    names = [home.resolve().name for home in homes]
    # Sources name the root where there are several, by its last folder if that tells them apart.
    several, unique = len(paths) > 1, len(set(names)) == len(names)
    opened = []
    for path, home, name in zip(paths, homes, names, strict=True):
        prefix = f"{name if unique else home.as_posix()}/" if several else ""
        opened.append((Root(home, prefix), *_layout(path, layout, csv_name)))
    return opened


def _layout(path: Path, layout: str, csv_name: str | None) -> tuple[str, Path]:
    if path.is_file():
        if layout not in ("auto", "csv") or path.suffix.casefold() != ".csv":
            raise DataError(f"{path}: is a file; expected a folder, or a .csv file in layout auto or csv")
        return "csv", path
    if layout in ("auto", "csv") and csv_name:
        if not (path / csv_name).is_file():
            raise DataError(f"{path}: there is no {csv_name} in it")
        return "csv", path / csv_name
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
        "folders": "<task>/<class>/<picture>",
    }
    wanted = ", or ".join(expected.values()) if layout == "auto" else expected[layout]
    raise DataError(f"{path}: holds {there}; expected {wanted}")
