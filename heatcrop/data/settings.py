"""What the dataclasses that hold settings say of their fields, beside the values."""

from __future__ import annotations

import dataclasses
from typing import Any

SILENT = {"silent": True}
"""Metadata of a field that came later: at its default it says nothing, so that what an earlier version
made is still up to date."""


def spoken(plan: Any) -> dict[str, Any]:
    """A dataclass's fields by name, without those that say nothing.

    >>> Plan = dataclasses.make_dataclass("Plan", [("a", int, 1), ("b", int, dataclasses.field(
    ...     default=2, metadata=SILENT))])
    >>> spoken(Plan()), spoken(Plan(b=3))
    ({'a': 1}, {'a': 1, 'b': 3})
    """
    values = {field: getattr(plan, field.name) for field in dataclasses.fields(plan)}
    return {
        field.name: value
        for field, value in values.items()
        if not (field.metadata.get("silent") and value == field.default)
    }
