"""Tell whether an artefact is up to date: a hash of everything it was made from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heatcrop.data.settings import spoken

_ITEMS_AT_ONCE = 1000


def fingerprint(*parts: Any) -> str:
    """Hash plans, arrays, strings and numbers into 32 hex characters.

    >>> fingerprint({"a": 1}) == fingerprint({"a": 1}) != fingerprint({"a": 2})
    True
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, (list, tuple)):
            for text in _in_pieces(part):
                digest.update(text.encode())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=_describe).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _in_pieces(part: Sequence[Any]) -> Iterator[str]:
    """The JSON of a list, a few of its items at a time: the whole text of millions of them is long."""
    yield "["
    for start in range(0, len(part), _ITEMS_AT_ONCE):
        some = json.dumps(part[start : start + _ITEMS_AT_ONCE], sort_keys=True, default=_describe)[1:-1]
        yield f", {some}" if start else some
    yield "]"


def _describe(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            "": type(value).__name__,
            **spoken(value),
        }
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return fingerprint(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot fingerprint {type(value).__name__}")


def files_stamp(paths: Sequence[str]) -> np.ndarray:
    """Sizes and modification times of files, (N, 2) int64: changes when a picture does."""
    stamps = np.empty((len(paths), 2), np.int64)
    for i, path in enumerate(paths):
        status = os.stat(path)
        stamps[i] = status.st_size, status.st_mtime_ns
    return stamps


def read_mark(marker: Path) -> str:
    """The fingerprint that a marker holds; '' where there is none."""
    try:
        return str(json.loads(marker.read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def vouched(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """What a marker in `folder` says of what was made: names, and the bytes of those that are files."""
    found = {name: folder / name for name in names}
    sizes = {name: path.stat().st_size for name, path in found.items() if path.is_file()}
    return {"files": list(names), "bytes": sizes}


def first_fault(marker: Path) -> str:
    """What is wrong with the first file that a marker vouches for and that is not as it was left.

    Nothing is read but the files' sizes, which markers of earlier versions do not hold; '' where all is well,
    or no marker to be read.
    """
    try:
        told = json.loads(marker.read_text(encoding="utf-8"))
        return _fault(marker.parent, told)
    except (OSError, ValueError, AttributeError, TypeError):
        return ""


def _fault(folder: Path, told: dict[str, Any]) -> str:
    sizes = told.get("bytes", {})
    for name in told.get("files", ()):
        try:
            found = os.stat(folder / name).st_size
        except FileNotFoundError:
            return f"{name} is missing"
        if found != sizes.get(name, found):
            return f"{name} is damaged ({found} bytes instead of {sizes[name]})"
    return ""


def is_current(marker: Path, mark: str) -> bool:
    """Tell whether `marker` holds this fingerprint, and what it says was made is still there, and whole."""
    try:
        told = json.loads(marker.read_text(encoding="utf-8"))
        return bool(told.get("fingerprint") == mark) and not _fault(marker.parent, told)
    except (OSError, ValueError, AttributeError, TypeError):
        return False
