"""What each stage was made from, kept beside it: so a run can tell beforehand what it would do, and why."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heatcrop.data.dataset import TaskData
from heatcrop.data.settings import spoken
from heatcrop.runs.fingerprint import files_stamp, fingerprint, first_fault

_MOST = 3
"""Changed settings that are named; more are counted."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """What one stage is made from, in the parts that a person would name.

    Attributes
    ----------
    settings : dict of str to Any
        By dotted name.
    labels : str
        Fingerprint of pictures' names, labels, splits and groups; '' for the stages that build on an
        earlier one.
    pictures : str
        Fingerprint of the picture files' sizes and times; '' likewise.
    code : int
    """

    settings: dict[str, Any]
    labels: str
    pictures: str
    code: int


def origin(settings: dict[str, Any], code: int, data: TaskData | None = None) -> Origin:
    """Describe a stage.

    Parameters
    ----------
    settings : dict
        Plans by name; dataclasses and dicts inside are opened.
    data : TaskData or None
        What the stage reads itself, beside what the stage before it has left.
    """
    if data is None:
        return Origin(_flat(settings), "", "", code)
    labels = fingerprint(data.images, list(data.splits), list(data.groups), data.task, data.letters)
    return Origin(_flat(settings), labels, fingerprint(files_stamp(data.paths)), code)


def why_outdated(marker: Path, now: Origin) -> str:
    """Tell in a few words what changed since a stage left its marker, its own files among it.

    Returns
    -------
    str
        ``not done yet`` where there is none; '' where nothing of its own changed.
    """
    try:
        before = json.loads(marker.read_text(encoding="utf-8"))["made_from"]
        settings = dict(before["settings"])
    except FileNotFoundError:
        return "not done yet"
    except (OSError, ValueError, KeyError, TypeError):
        return "changed since an earlier version made it"
    reasons = _changed(settings, json.loads(json.dumps(now.settings)))
    reasons += ["other labels, splits or groups"] if before.get("labels") != now.labels else []
    if before.get("labels") == now.labels and before.get("pictures") != now.pictures:
        reasons.append("picture files changed")
    fault = first_fault(marker)
    reasons += [fault] if fault else []
    reasons += ["the program makes it differently now"] if before.get("code") != now.code else []
    return "; ".join(reasons)


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    names = [n for n in dict.fromkeys([*now, *before]) if before.get(n) != now.get(n)]
    told = [f"{name} {_word(before.get(name))} -> {_word(now.get(name))}" for name in names[:_MOST]]
    return told + ([f"{len(names) - _MOST} more settings"] if len(names) > _MOST else [])


def _word(value: Any) -> str:
    return "none" if value is None else str(value)


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    """Open dataclasses and dicts: ``{"crop": {"rule": …}}`` becomes ``{"crop.rule.threshold": 0.6, …}``."""
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = spoken(values)
    if not isinstance(values, dict):
        return {
            name: list(values) if isinstance(values, Sequence) and not isinstance(values, str) else values
        }
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flat(value, f"{name}.{key}" if name else str(key))
    return out
