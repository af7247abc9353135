"""Tasks and classes from the labels that the data holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from heatcrop.data.readers.collect import NO_LABEL, resolve_or_none
from heatcrop.data.readers.spelling import composed, merge_spellings
from heatcrop.data.tasks import FASHIONAI, Task, folder_name

Place = tuple[int, str | None]
"""The number of a root, and a split."""


@dataclass
class Inferred:
    """The tasks of all roots."""

    tasks: list[Task] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Why tasks of the data cannot be used, by name."""
    notes: list[str] = field(default_factory=list)


def tasks_of(
    labels: Iterable[tuple[Place, str, str]], named: Mapping[str, Sequence[str]] | None = None
) -> Inferred:
    """Infer tasks from ``(place, task, label)`` of all rows, and the classes that a file has `named`.

    Tasks are in order of appearance, classes sorted by name. Names that differ only by case are one unless a
    place holds both, see `heatcrop.data.readers.spelling`; a class then has the name that it has in training.
    A task of FashionAI keeps its official classes when all names are among them. A task is left out when its
    labels are letters without `named` classes (in label order), it has fewer than two classes, or its name
    cannot serve.
    """
    by_task: dict[str, dict[str, set[Place]]] = {}
    places: dict[str, set[Place]] = {}
    for place, task, label in dict.fromkeys(labels):
        if not task:  # such rows are rejected
            continue
        places.setdefault(task, set()).add(place)
        by_task.setdefault(task, {}).setdefault(label, set()).add(place)
    spellings, apart = merge_spellings(places)
    found = Inferred(
        notes=[f"tasks that differ only by case, kept apart: {', '.join(names)}" for names in apart]
    )
    classes: dict[str, dict[str, set[Place]]] = {}
    for task, by_label in by_task.items():
        merged = classes.setdefault(spellings[task], {})
        for label in by_label:
            if label not in NO_LABEL:
                merged.setdefault(label, set()).update(by_label[label])
    for task, unordered in classes.items():
        untrained = {label: all(split != "train" for _, split in there) for label, there in unordered.items()}
        ordered = sorted(unordered, key=lambda label: (untrained[label], label))
        spelled, apart = merge_spellings({label: unordered[label] for label in ordered})
        found.notes += [
            f"{task}: classes that differ only by case, kept apart since one folder or file has them: "
            f"{', '.join(names)}"
            for names in apart
        ]
        try:
            one = _task(task, set(spelled.values()), (named or {}).get(task, ()))
        except ValueError as error:
            found.left_out |= {name: str(error) for name in spellings if spellings[name] == task}
        else:
            if one not in found.tasks:
                found.tasks.append(one)
    return found


def _task(name: str, classes: set[str], named: Sequence[str]) -> Task:
    """Make a task; ValueError with the reason where it cannot be used."""
    official = resolve_or_none(name, FASHIONAI)
    letters = all(len(one) > 1 and one.count("y") == 1 and set(one) <= set("ymn") for one in classes)
    if official and (letters or classes <= {*official.classes, *map(folder_name, official.classes)}):
        return official
    if classes and letters:
        if named:
            return Task(composed(name), tuple(named), "length" if "_length_" in name else "design")
        raise ValueError(
            f"the labels of task {name!r} are letters, so the names of its classes are unknown; name them "
            "under data.tasks in the configuration, in label order (in FashionAI's layout also classes.json)"
        )
    return Task(composed(name), tuple(sorted(classes)))
