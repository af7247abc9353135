"""Read annotations from any of three layouts into one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heatcrop.data.readers import fashionai, folders, table
from heatcrop.data.readers.collect import Annotations, Collector, Root
from heatcrop.data.tasks import FASHIONAI, Task
from heatcrop.errors import DataError

_READERS = {"fashionai": fashionai, "csv": table, "folders": folders}  # in the order of ``auto``
_EXPECTED = {
    "fashionai": "base/Annotations/label.csv (or rank/Tests/question.csv)",
    "csv": "a CSV file with the header image,task,label",
    "folders": "<task>/<class>/<image>",
}


def read_annotations(roots: Sequence[Path | str], tasks: Sequence[Task], layout: str = "auto") -> Annotations:
    """Read the annotations of one or several roots, and merge them in order.

    Parameters
    ----------
    roots : sequence of path
        Folders of data, or CSV files. A row that an earlier root already has is dropped and counted.
    tasks : sequence of Task
        Rows of other FashionAI tasks are left out and counted.
    layout : {"auto", "fashionai", "csv", "folders"}
        See the modules of these names, for ``csv`` :mod:`heatcrop.data.readers.table`. ``auto``: for each
        root, the first of them that fits.

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
    for root, how in _open_roots(roots, layout):
        collector.start(root)
        _READERS[how].read(collector)
    return collector.finish()


def infer_tasks(root: Path | str, layout: str = "auto") -> tuple[Task, ...]:
    """Infer the tasks of a root from its data.

    FashionAI's tasks keep their classes; of a CSV file with class names and of folders, tasks and classes are
    sorted by name. For `layout` see `read_annotations`.

    Raises DataError when the class names are unknown (labels are letters) or a task has fewer than two.
    """
    [(opened, how)] = _open_roots([root], layout)
    collector = Collector(FASHIONAI)
    collector.start(opened)
    tasks: tuple[Task, ...] = _READERS[how].infer_tasks(collector)
    if not tasks:
        raise DataError(f"{root}: the data holds no task; name the tasks in the configuration")
    return tasks


def _open_roots(roots: Sequence[Path | str], layout: str) -> list[tuple[Root, str]]:
    """Find the layout of each root."""
    if layout not in ("auto", *_READERS):
        raise DataError(f"layout {layout!r} is unknown; expected one of auto, {', '.join(_READERS)}")
    paths = [Path(root) for root in roots]
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: there is no such data folder; correct the path after --data")
    folders = [path if path.is_dir() else path.parent for path in paths]
    # Of several roots, sources start with the name of the folder if it is unique, otherwise with its path.
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [folder.as_posix() for folder in folders]
    opened = []
    for path, folder, name in zip(paths, folders, names, strict=True):
        how, source = _layout(path, layout)
        opened.append((Root(folder, source, f"{name}/" if len(paths) > 1 else ""), how))
    return opened


def _layout(path: Path, layout: str) -> tuple[str, Path]:
    """Find a root's layout, and what holds its annotations."""
    if path.is_file():
        if layout not in ("auto", "csv") or path.suffix.casefold() != ".csv":
            raise DataError(f"{path}: is a file; expected a folder, or a .csv file in layout auto or csv")
        return "csv", path
    for how, reader in _READERS.items():
        if layout in ("auto", how) and (source := reader.find(path)):
            return how, source
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    there = ", ".join(entries[:8]) + (", …" if len(entries) > 8 else "") if entries else "nothing"
    wanted = ", or ".join(_EXPECTED.values()) if layout == "auto" else _EXPECTED[layout]
    raise DataError(f"{path}: holds {there}; expected {wanted}")
