"""Stage records: what a finished stage of a task was made from, and the files that it left.

One :class:`StageInputs` answers both questions about a stage: its fingerprint shows whether the artefacts are
up to date, and its parts show what has changed since.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.data.dataset import TaskData
from heatcrop.data.listing import REPORT_RECORD
from heatcrop.errors import RunError
from heatcrop.files import write_json
from heatcrop.runs.folder import STAGES, RunFolder, TaskFolder
from heatcrop.timing import Spent
from heatcrop.wording import counted

FORMAT = 2
"""Of a record; those of earlier versions have no such key."""
TIMES = ("seconds", "cpu_seconds")
"""Keys of a record that hold times, by the name of a part of the work."""
_MAX_NAMED = 3


@dataclasses.dataclass(frozen=True)
class StageInputs:
    """Everything that one stage of one task is made from."""

    settings: dict[str, Any]
    """By dotted name, in plain JSON values."""
    rows: str = ""
    """Fingerprint of image names, labels, splits and groups; '' where only an earlier stage is read."""
    images: str = ""
    """Fingerprint of the image files' sizes and modification times; '' likewise."""
    code: int = 1
    """Version of the stage's code, raised when it makes something else from the same inputs."""
    previous: str = ""
    """Fingerprint of the earlier stages, also of other tasks where they share a network."""

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of all parts."""
        return fingerprint(dataclasses.asdict(self))


def fingerprint(*parts: Any) -> str:
    """Hash plain values, arrays and sequences of text into 32 hexadecimal characters.

    >>> fingerprint({"a": 1}) == fingerprint({"a": 1}) != fingerprint({"a": 2})
    True
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype != object:
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, (list, tuple, np.ndarray)) and all(isinstance(item, str) for item in part):
            for text in part:  # not joined: millions of names are a long text
                digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
        else:
            digest.update(json.dumps(part, sort_keys=True, default=dataclasses.asdict).encode())
        digest.update(b"\0\0")
    return digest.hexdigest()


def rows_fingerprint(data: TaskData) -> str:
    """Hash a task's image names, labels, splits and groups."""
    return fingerprint(data.task, data.images, data.letters, data.splits, data.groups)


def file_stamps(paths: Sequence[str]) -> np.ndarray:
    """Read the sizes and modification times of files, ndarray of int64, shape (N, 2)."""
    stamps = ((status.st_size, status.st_mtime_ns) for status in map(os.stat, paths))
    return np.fromiter(stamps, np.dtype((np.int64, 2)), len(paths))


def flatten(values: Any, name: str = "") -> dict[str, Any]:
    """Turn nested dataclasses and dicts into dotted names and plain values.

    >>> flatten({"crop": {"rule": {"threshold": 0.6}, "steps": (1, 2)}})
    {'crop.rule.threshold': 0.6, 'crop.steps': [1, 2]}
    """
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = dataclasses.asdict(values)
    if not isinstance(values, dict):
        return {name: list(values) if isinstance(values, tuple) else values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{name}.{key}" if name else str(key))
    return flat


def write_record(path: Path, inputs: StageInputs, files: Sequence[str], spent: dict[str, Spent]) -> None:
    """Write a stage's record, after its artefacts.

    `files` are the artefacts, relative to the record's folder; a folder counts as one. `spent` is the time of
    each part of the work.
    """
    found = {name: path.parent / name for name in files}
    sizes = {name: file.stat().st_size if file.is_file() else None for name, file in found.items()}
    record = {
        "format": FORMAT,
        "fingerprint": inputs.fingerprint,
        "seconds": {name: one.wall for name, one in spent.items()},
        "cpu_seconds": {name: one.cpu for name, one in spent.items()},
        "files": sizes,
    }
    write_json(path, {**record, "inputs": dataclasses.asdict(inputs)})


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a record; None where there is none of this version, or it is damaged."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        kinds = {"fingerprint": str, "seconds": dict, "files": dict, "inputs": dict}
        complete = record["format"] == FORMAT and all(isinstance(record[key], kinds[key]) for key in kinds)
        return record if complete else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def stage_times(folder: TaskFolder) -> dict[str, dict[str, float]]:
    """Return the ``seconds`` and ``cpu_seconds`` that each part of the work took when it was last done.

    Records of an earlier version have no CPU seconds.
    """
    records = [record for stage in STAGES if (record := read_record(folder.record(stage)))]
    return {
        kind: {name: took for record in records for name, took in record.get(kind, {}).items()}
        for kind in TIMES
    }


def reported_sheets(folder: RunFolder) -> set[Path]:
    """Return the sheets that the last report wrote beside the crops, and the HTML files that link them."""
    home = folder.report.parent
    record = read_record(home / REPORT_RECORD) or {"files": ()}
    # Those of its own folder are not sheets.
    sheets = [name for name in record["files"] if name.startswith("../") and name.endswith(".jpg")]
    files = [Path(os.path.normpath(home / name)) for name in sheets]
    return {*files, *(file.with_suffix(".html") for file in files)}


def refuse_old_records(folder: RunFolder) -> None:
    """Raise RunError where a task was finished by a version whose files this one does not read."""
    for path in sorted(path for stage in STAGES for path in folder.path.glob(f"*/.{stage}.json")):
        with contextlib.suppress(OSError, ValueError, RecursionError):  # a damaged one: the stage runs again
            record = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(record, dict) and "fingerprint" in record and "format" not in record:
                raise RunError(
                    f"{folder.path}: {path.parent.name} was made by an earlier version of this program, "
                    "which this one cannot continue or report; give another --out (predict and fuse read it)"
                )


def is_current(path: Path, fingerprint_now: str) -> bool:
    """Return whether a stage's artefacts are there as it left them, made from the same inputs."""
    record = read_record(path)
    return record is not None and record["fingerprint"] == fingerprint_now and not file_fault(path)


def why_outdated(path: Path, inputs: StageInputs) -> str:
    """Describe what has changed since a stage wrote its record; '' where nothing but an earlier stage has."""
    record = read_record(path)
    if record is None:
        return "changed since an earlier version made it" if path.is_file() else "not done yet"
    before, now = record["inputs"], json.loads(json.dumps(dataclasses.asdict(inputs)))
    reasons = _changed_settings(before["settings"], now["settings"])
    if before["rows"] != now["rows"]:
        reasons.append("other labels, splits or groups")
    elif before["images"] != now["images"]:
        reasons.append("image files changed")
    reasons += filter(None, [file_fault(path)])
    if before["code"] != now["code"]:
        reasons.append("this version of the program makes it differently")
    return "; ".join(reasons)


def _changed_settings(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    names = [name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)]
    pairs = [(name, *("none" if v.get(name) is None else v[name] for v in (before, now))) for name in names]
    more = [counted(len(names) - _MAX_NAMED, "more setting(s)")] if len(names) > _MAX_NAMED else []
    return [f"{name} {old} -> {new}" for name, old, new in pairs[:_MAX_NAMED]] + more


def file_fault(path: Path) -> str:
    """Describe the first artefact of a record that is missing or has another size; '' where there is none."""
    for name, size in (read_record(path) or {"files": {}})["files"].items():
        try:
            found = os.stat(path.parent / name).st_size
        except FileNotFoundError:
            return f"{name} is missing"
        if size is not None and found != size:
            return f"{name} is damaged ({found} bytes instead of {size})"
    return ""
