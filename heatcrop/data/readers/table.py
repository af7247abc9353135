"""A CSV file with the header ``image,task,label``, and optionally ``split`` and ``group``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from heatcrop.data.readers.collect import NO_LABEL, SPLITS, Collector, resolve_or_none
from heatcrop.data.readers.root import Root
from heatcrop.data.tasks import FASHIONAI, Task, folder_name
from heatcrop.errors import DataError

USUAL_NAME = "annotations.csv"
_NEEDED = ("image", "task", "label")


def find(folder: Path) -> Path | None:
    """Find a folder's CSV file that has the header; `USUAL_NAME` comes before others.

    Raises DataError when several files fit and none has the usual name.
    """
    fitting = [path for path in sorted(folder.glob("*.csv")) if _fits(path)]
    usual = [path for path in fitting if path.name == USUAL_NAME]
    if len(fitting) > 1 and not usual:
        names = ", ".join(path.name for path in fitting)
        raise DataError(
            f"{folder}: several files could hold the annotations ({names}); give one of them as the data, "
            f"or call it {USUAL_NAME}"
        )
    return next(iter(usual or fitting), None)


def read(root: Root, collector: Collector) -> None:
    """Add the rows of a CSV file to the collector; images are relative to the file's folder.

    A label is letters (``nyn``) or a class name. A row without a label belongs to the test set.
    """
    for source, row in _rows(root, collector):
        split = SPLITS.get(row.get("split", "").casefold())
        if split is None:
            reason = f"split {row['split']!r}; expected train, val, test or nothing"
            collector.reject(row["image"], row["task"], source, reason)
        else:
            group = row.get("group", "")
            collector.add(root, source, row["image"], row["task"], row["label"], split, group)


def infer_tasks(root: Root) -> tuple[Task, ...]:
    """Infer tasks from the class names of a CSV file; see `make_tasks`."""
    classes: dict[str, set[str]] = {}
    for _, row in _rows(root, Collector(())):
        names = classes.setdefault(row["task"], set())
        if row["label"] not in NO_LABEL:
            names.add(row["label"])
    return make_tasks(root.name(root.source), classes)


def make_tasks(name: str, classes: dict[str, set[str]]) -> tuple[Task, ...]:
    """Make tasks, sorted by name, from the class names found in a file.

    A task of FashionAI keeps its official classes when all names are among them.

    Raises DataError when the labels of a task are letters (so that the class names are unknown), or when
    a task has fewer than two classes.
    """
    tasks = []
    for text, found in sorted(classes.items()):
        official, letters = resolve_or_none(text, FASHIONAI), all(map(_is_letters, found))
        if official and (letters or found <= {*official.classes, *map(folder_name, official.classes)}):
            tasks.append(official)
            continue
        if found and letters:
            raise DataError(
                f"{name}: the labels of task {text!r} are letters, so the names of its classes are unknown; "
                "name them under `tasks` in the configuration, in label order"
            )
        try:
            tasks.append(Task(text, tuple(sorted(found))))
        except ValueError as error:
            raise DataError(f"{name}: {error}") from None
    return tuple(tasks)


def _is_letters(label: str) -> bool:
    return len(label) > 1 and label.count("y") == 1 and set(label) <= set("ymn")


def _fits(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            first = file.readline(4096).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return False
    return set(_NEEDED) <= {part.strip().casefold() for part in first.split(",")}


def _rows(root: Root, collector: Collector) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ``(source, {column: text})`` of each row that has as many columns as the header."""
    rows, n_rejected = collector.read(root, root.source), len(collector.rejected)
    source, fields = next(rows, ("", []))
    if not fields:
        *_, source, reason = collector.rejected[n_rejected]
        raise DataError(f"{source}: no row of the file can be read; {reason}")
    header = [text.casefold() for text in fields]
    missing = [column for column in _NEEDED if column not in header]
    if missing or len(set(header)) < len(header):
        fault = f"lacks {', '.join(missing)}" if missing else "names a column twice"
        raise DataError(
            f"{source}: the header {','.join(header)[:200]!r} {fault}; expected "
            "'image,task,label', and optionally 'split' and 'group', separated by commas"
        )
    for source, fields in rows:
        if len(fields) == len(header):
            yield source, dict(zip(header, fields, strict=True))
        else:
            reason = f"{len(fields)} columns; the header has {len(header)}"
            collector.reject(fields[0], "", source, reason)
