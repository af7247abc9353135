"""Read annotations from any of several layouts into one table."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from heatcrop.data.readers import coco, cvat, fashionai, folders, label_studio, metadata, parquet, table
from heatcrop.data.readers.collect import (
    REGIONS_TABLE,
    Annotations,
    Collector,
    FindSplit,
    find_split,
    split_in,
)
from heatcrop.data.readers.infer import Inferred, tasks_of
from heatcrop.data.readers.places import files_in
from heatcrop.data.readers.root import NO_ACCESS, Access, Root
from heatcrop.data.readers.unused import report_unused, why_unused
from heatcrop.data.tasks import FASHIONAI, Task
from heatcrop.errors import DataError
from heatcrop.files import printable

_READERS = {  # in the order of ``auto``
    "fashionai": fashionai,
    "csv": table,
    "metadata": metadata,
    "coco": coco,
    "labelstudio": label_studio,
    "cvat": cvat,
    "parquet": parquet,
    "folders": folders,
}
_FILES = {how: reader for how, reader in _READERS.items() if how not in ("fashionai", "folders")}
"""Those that read a file, and not only a folder."""
_EXPECTED = {
    "fashionai": "base/Annotations/label.csv (or rank/Tests/question.csv)",
    "csv": "a CSV file with the header image,task,label or image,label",
    "metadata": "metadata.csv, .jsonl or .parquet with a column file_name",
    "coco": "a COCO file (JSON with images, annotations and categories)",
    "labelstudio": "a Label Studio export (JSON or JSON-MIN)",
    "cvat": "annotations.xml of CVAT for images 1.1",
    "parquet": "a Parquet file with the columns image,task,label or image,label",
    "folders": "<task>/<class>/<image> or <class>/<image>",
}


def read_annotations(
    roots: Sequence[Path | str],
    tasks: Sequence[Task] | None,
    layout: str = "auto",
    *,
    splits: Mapping[str, str] | None = None,
    left_out: Sequence[str] = (),
    access: Access = NO_ACCESS,
    others: Sequence[Path] = (),
) -> Annotations:
    """Read the annotations of one or several roots, and merge them in order.

    Parameters
    ----------
    roots : sequence of path
        Folders of data, or CSV files. Of a folder with ``train.csv`` and ``test.csv``, each is a root. A row
        of an image that an earlier root already has, with the same name and the same bytes, is dropped and
        counted. Of several roots, one that cannot be read is a problem, and the others are read.
    tasks : sequence of Task, optional
        Rows of other FashionAI tasks are left out and counted. None infers them: FashionAI's tasks keep
        their classes; others are sorted by name, and so are their classes. Tasks that cannot be inferred are
        problems, see :mod:`heatcrop.data.readers.infer`.
    layout : {"auto", "fashionai", "csv", "metadata", "coco", "labelstudio", "cvat", "parquet", "folders"}
        See the modules of these names, for ``csv`` :mod:`heatcrop.data.readers.table`. ``auto``: for each
        root, the first of them that fits.
    splits : mapping, optional
        ``train``, ``val`` or ``test`` by the name that a file or folder has for it.
    left_out : sequence of str
        Names of tasks whose rows are left out and counted.
    access : Access, optional
        Whether links out of a root, and absolute paths, are allowed; by default neither.
    others : sequence of path
        Files that are read for another purpose. In a root they are no annotations that are left out.

    Returns
    -------
    Annotations
        Good rows, rejected rows with reasons, notes, problems. Images must exist, but are not opened.

    Raises
    ------
    DataError
        When no root can be read, or no row can be used.
    """
    splits = {name.casefold(): split for name, split in (splits or {}).items()}
    opened, problems = _open_roots(roots, layout, splits, access)
    reasons, notes = dict.fromkeys(left_out, ""), []
    if tasks is None:
        found = _infer(opened, splits, others)
        tasks = [task for task in found.tasks if task.name not in left_out]
        notes, reasons = found.notes, found.left_out | reasons
    collector = Collector(tasks, splits, reasons)
    collector.notes += notes
    collector.problems += problems
    faults: list[DataError] = []
    for root, how in opened:
        collector.start(root)
        collector.read_regions()
        if root.split:
            where = root.prefix if root.source == root.folder else root.name(root.source)
            collector.notes.append(f"{where}: rows without a split are in {root.split}, by its name")
        try:
            n_before = collector.n_seen
            _READERS[how].read(collector)
        except DataError as error:
            faults.append(error)
            collector.problems.append(f"{error}; the rest of this data is left out")
        else:
            if collector.n_seen == n_before:
                collector.problems.append(f"{_source_name(root)}: no row with an image; this data is empty")
    if faults and len(faults) == len(opened):
        raise faults[0]
    examined: set[str] = set()
    for root, how in opened:
        if root.path in examined:  # of several tables in one folder
            continue
        if not root.given_file:
            examined.add(root.path)
        describe = functools.partial(_describe, how=how) if layout == "auto" else None
        # The layout of folders reports the images that it does not use.
        report_unused(collector, root, describe, images=how != "folders", others=others)
    return collector.finish()


def _describe(path: Path, how: str) -> str:
    """Describe a file in another layout than the one that is read; '' where it has none."""
    for other, reader in _FILES.items():
        if other in (how, "csv"):  # tables are described by their header
            continue
        with contextlib.suppress(DataError):
            if reader.fits(path):
                return (
                    f"holds {_EXPECTED[other]}, which is not used, since data in layout {how} is; to use "
                    f"it, set data.layout={other}, or give it as --data"
                )
    return ""


def _infer(opened: Sequence[tuple[Root, str]], splits: Mapping[str, str], others: Sequence[Path]) -> Inferred:
    """Infer the tasks of all roots together; one task's classes may be spread over them."""
    labels, collector = [], Collector(FASHIONAI, splits)
    named: dict[str, list[str]] = {}
    faults: list[str] = []
    for number, (root, how) in enumerate(opened):
        collector.start(root)
        named |= fashionai.find_classes(collector) if how == "fashionai" else {}
        try:
            rows = _READERS[how].find_labels(collector)
        except DataError as error:  # reported by whoever reads the rows
            faults.append(str(error))
        else:
            labels += [
                ((number, collector.split(split or root.split)), task, label) for split, task, label in rows
            ]
    found = tasks_of(labels, named)
    if not found.tasks:
        first = opened[0][0]
        name = _source_name(first)
        reasons = [*faults, *(f"{name}: {reason}" for reason in found.left_out.values()), *collector.problems]
        reasons += [f"{name}: no class is found; {note}" for note in collector.counted_notes()]
        rejected = [f"{source}: {reason}" for *_, source, reason in collector.rejected[:1]]
        nothing = "the data holds no task; name them under data.tasks in the configuration"
        if collector.files and not labels:
            nothing = "no row with an image; expected one row per image below the header"
        # What is rejected or not used may be why the others are no task.
        n_problems = len(collector.problems)
        for root, how in opened:
            describe, known = functools.partial(_describe, how=how), [*others, root.folder / REGIONS_TABLE]
            report_unused(collector, root, describe, images=False, others=known)
        causes = [*[*reasons, *rejected, f"{name}: {nothing}"][:1], *rejected]
        raise DataError("; ".join(dict.fromkeys([*causes, *collector.problems[n_problems:][:1]])))
    return found


def _source_name(root: Root) -> str:
    """Name what holds a root's annotations in messages."""
    return str(root.folder) if root.source == root.folder else root.name(root.source)


def _open_roots(
    roots: Sequence[Path | str], layout: str, splits: Mapping[str, str], access: Access
) -> tuple[list[tuple[Root, str]], list[str]]:
    """Find the layout of each root; return those that can be read, and the problems of the others."""
    if not roots:
        raise DataError("no data folder is given; name one with --data")
    if layout not in ("auto", *_READERS):
        raise DataError(f"layout {layout!r} is unknown; expected one of auto, {', '.join(_READERS)}")
    given = [_openable(Path(root)) for root in roots]
    find = functools.partial(find_split, renamed=splits)
    tables = [_split_tables(path, layout, find) for path in given]
    paths = [table for found in tables for table in found]
    folders = [_folder(path) for path in paths]
    # Of several roots, sources start with the name of the folder if it is unique, otherwise with its path.
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len({folder.resolve() for folder in folders}):
        names = [folder.as_posix() for folder in folders]
    opened, faults = [], []
    for path, folder, name, label in zip(paths, folders, names, _labels(folders), strict=True):
        several, above = len(paths) > 1, folder.resolve().name  # of train_labels.csv, or train/
        split = (split_in(path.name, find) or (above if find(above) else "")) if several else ""
        try:
            how, source = _layout(path, layout, find)
        except DataError as error:
            faults.append(error)
        else:
            prefix, given_file = f"{name}/" if several else "", path in given and path.is_file()
            opened.append((Root(folder, source, prefix, label, split, access, given_file), how))
    if not opened:
        raise faults[0]
    return opened, [f"{error}; this data is left out" for error in faults]


def _split_tables(path: Path, layout: str, split: FindSplit) -> list[Path]:
    """List a folder's tables where there are several, each with its own split's name; otherwise the path."""
    if not path.is_dir() or fashionai.find(path, split):
        return [path]
    for how, reader in (("csv", table), ("parquet", parquet)):
        if layout in ("auto", how):
            files = files_in(path, reader.ENDINGS)
            found = list(filter(reader.fits, files))
            if layout == "csv":
                found = found or list(filter(table.has_header, files))
            if found:
                names = {split_in(file.name, split) for file in found} - {""}
                return found if len(names) == len(found) > 1 else [path]
    return [path]


def _folder(path: Path) -> Path:
    """Return the folder of a root's images."""
    return path if path.is_dir() else path.parent.parent if _is_beside(path) else path.parent


def _openable(path: Path) -> Path:
    """Write a path so that `_folder` has a name even where it is the one above the current folder."""
    return Path(os.path.abspath(path)) if _is_beside(path) else path


def _is_beside(path: Path) -> bool:
    """Return whether a file is in a folder of its own, beside those of the images."""
    named = path.suffix.casefold() in coco.ENDINGS and path.resolve().parent.name in coco.FOLDERS
    return named and not path.is_dir()


def _labels(folders: Sequence[Path]) -> list[str]:
    """Name each folder by the last parts of its path, as many as distinguish them."""
    real = [folder.resolve().parts[1:] for folder in folders]
    numbers = itertools.count(1)
    n_parts = next(n for n in numbers if len({parts[-n:] for parts in real}) == len(set(real)))
    return ["/".join(parts[-n_parts:]) for parts in real]


def _layout(path: Path, layout: str, split: FindSplit) -> tuple[str, Path]:
    """Find a root's layout, and what holds its annotations."""
    for full in (os.path.abspath(path), os.path.realpath(path)):
        if printable(full) != full:
            raise DataError(f"{printable(full)}: the path is not in UTF-8; rename its parts that are not")
    if not path.exists():
        unset = "; a variable in it is not set" if "$" in str(path) else ""
        raise DataError(f"{path}: there is no such data folder{unset}; correct the path after --data")
    if not path.is_file() and not path.is_dir():  # such as /dev/null
        raise DataError(f"{path}: is neither a file nor a folder; correct the path after --data")
    if path.is_file():
        readers = {how: reader for how, reader in _FILES.items() if layout in ("auto", how)}
        fitting = [how for how, reader in readers.items() if reader.fits(path)]
        # Of a file with a known ending, the reader reports what is wrong with it.
        named = path.name.casefold()
        fitting += [how for how, reader in readers.items() if named.endswith(reader.ENDINGS)]
        if not fitting:
            if reason := why_unused(path):
                raise DataError(f"{path}: {reason}")
            wanted = ", or ".join(_EXPECTED[how] for how in readers)
            raise DataError(f"{path}: is a file; expected a folder" + f", or {wanted}" * bool(wanted))
        return fitting[0], path
    for how, reader in _READERS.items():
        if layout in ("auto", how) and (source := reader.find(path, split)):
            return how, source
    if layout == "csv" and (source := table.find(path, split, table.has_header)):
        return layout, source
    entries = sorted(printable(entry.name) + "/" * entry.is_dir() for entry in path.iterdir())
    there = ", ".join(entries[:8]) + (", …" if len(entries) > 8 else "") if entries else "nothing"
    wanted = ", or ".join(_EXPECTED.values()) if layout == "auto" else _EXPECTED[layout]
    files = sorted(entry for entry in path.iterdir() if entry.is_file())
    unused = [f"{file.name}: {reason}" for file in files if (reason := why_unused(file))]
    raise DataError("; ".join([f"{path}: holds {there}; expected {wanted}", *unused[:1]]))
