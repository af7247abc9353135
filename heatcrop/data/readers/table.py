"""A CSV file with the header ``image,task,label``, and optionally ``split`` and ``group``."""

from __future__ import annotations

from pathlib import Path

from heatcrop.data.readers.collect import NO_LABEL, SPLITS, Collector, resolve_or_none
from heatcrop.data.tasks import FASHIONAI, Task, folder_name
from heatcrop.errors import DataError

USUAL_NAME = "annotations.csv"
_NEEDED = ("image", "task", "label")
_OPTIONAL = ", and optionally 'split' and 'group'"


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


def read(collector: Collector) -> None:
    """Add the rows of a CSV file to the collector; images are relative to the file's folder.

    A label is letters (``nyn``) or a class name. A row without a label belongs to the test set.
    """
    for source, row in collector.table(collector.root.source, _NEEDED, _OPTIONAL):
        split = SPLITS.get(row.get("split", "").casefold())
        if split is None:
            reason = f"split {row['split']!r}; expected train, val, test or nothing"
            collector.reject(row["image"], row["task"], source, reason)
        else:
            group = row.get("group", "")
            collector.add(source, row["image"], row["task"], row["label"], split, group)


def infer_tasks(collector: Collector) -> tuple[Task, ...]:
    """Infer tasks from the class names of a CSV file; see `make_tasks`."""
    classes: dict[str, set[str]] = {}
    for _, row in collector.table(collector.root.source, _NEEDED, _OPTIONAL):
        names = classes.setdefault(row["task"], set())
        if row["label"] not in NO_LABEL:
            names.add(row["label"])
    return make_tasks(collector.root.name(collector.root.source), classes)


def make_tasks(name: str, classes: dict[str, set[str]]) -> tuple[Task, ...]:
    """Make tasks, sorted by name, from the class names found in a file.

    A task of FashionAI keeps its official classes when all names are among them.

    Raises DataError when the labels of a task are letters (so that the class names are unknown), or when
    a task has fewer than two classes.
    """
    tasks = []
    for text, found in sorted(classes.items()):
        official = resolve_or_none(text, FASHIONAI)
        letters = all(len(one) > 1 and one.count("y") == 1 and set(one) <= set("ymn") for one in found)
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


def _fits(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            first = file.readline(4096).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return False
    return set(_NEEDED) <= {part.strip().casefold() for part in first.split(",")}
