"""Names of tasks that the data does not name itself, or not in a form that can serve."""

from __future__ import annotations

import re
from collections.abc import Collection

from heatcrop.data.readers.collect import Collector, match_label
from heatcrop.data.tasks import folder_name

LABEL_COLUMNS = frozenset({"label", "labels", "class", "classes", "class_name", "category", "target"})
"""Names of a column of classes that do not name the task."""


def safe_task(text: str) -> str:
    """Make a name that can serve as a task's: a folder of the run, and a field in CSV files.

    >>> safe_task("bird; wing/left")
    'bird- wing-left'
    """
    return re.sub("[,;]", "-", folder_name(text))


def name_task(collector: Collector, classes: Collection[str]) -> str:
    """Name the task of a root after its folder, or take the only one of the run with these classes.

    A folder that is called like a split gives way to the one above it.
    """
    folder = collector.root.folder.resolve()
    if collector.split(folder.name) and folder.parent.name:
        folder = folder.parent
    name = safe_task(folder.name)
    fitting = [task for task in collector.tasks if not any(match_label(task, label)[1] for label in classes)]
    return fitting[0].name if collector.task(name) is None and len(fitting) == 1 else name
