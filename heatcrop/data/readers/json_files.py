"""JSON files: whether one may be of a format, its content, and the entries of its lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.lines import load_text
from heatcrop.errors import DataError
from heatcrop.validation import error_line

_Entry = TypeVar("_Entry", bound=BaseModel)
HEAD_BYTES = 262_144


def read_head(path: Path) -> str:
    """Read the start of a text file; '' where there is none."""
    try:
        return load_text(path, n_bytes=HEAD_BYTES)[0].decode("utf-8", "replace").lstrip()
    except DataError:
        return ""


def read_json(collector: Collector, path: Path) -> Any:
    """Read a JSON file; DataError naming the line and column where it is none."""
    name = collector.root.name(path)
    collector.files[path] = name
    try:
        return from_json(load_text(path, name)[0])
    except ValueError as error:
        raise DataError(f"{name}: is not valid JSON ({error}); export it again") from None


def entries(
    collector: Collector, values: Iterable[tuple[int, Any]], kind: type[_Entry], where: str
) -> Iterator[tuple[str, _Entry]]:
    """Yield ``(source, entry)`` of numbered entries that have the expected form; reject the others.

    A source is `where` and the number of the entry, from 0: ``annotations.json:images[3]``.
    """
    for number, value in values:
        source = f"{where}[{number}]"
        try:
            yield source, kind.model_validate(value)
        except ValidationError as error:
            collector.reject("", "", source, fault(error))


def fault(error: ValidationError) -> str:
    """Describe the first error."""
    return error_line(error.errors(include_url=False)[0], yaml=False)
