"""Validate settings and descriptions with pydantic, and word its errors."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ConfigDict

CHECKED = ConfigDict(extra="forbid", allow_inf_nan=False)
"""For dataclasses that are part of a file: a misspelt key or a number that is not finite is an error."""

UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""pydantic's types of the error that a key is none of those expected."""

_QUOTE = '; put the text in quotes, as "yes" or "001": without them YAML reads a truth value, number or date'
_PYTHON_TERMS = (
    (re.compile(r"a valid tuple"), "a list, as [a, b]"),
    (re.compile(r"a valid dictionary.*|a dictionary or an instance of \w+"), "a section, as key: value"),
)
"""What pydantic words in Python's terms, and what a reader of YAML calls it."""
_BOUNDS = {
    "greater_than_equal": "at least",
    "greater_than": "more than",
    "less_than_equal": "at most",
    "less_than": "less than",
}


def reason_of(error: Any, yaml: bool = True) -> str:
    """Describe what was found and what was expected, given an entry of pydantic's list of errors.

    `yaml` adds how to write a text in YAML, where a text was expected.

    >>> reason_of({"type": "less_than_equal", "msg": "", "loc": ("a",), "input": 5000, "ctx": {"le": 1000.0}})
    'is 5000; expected at most 1000'
    >>> reason_of({"type": "tuple_type", "msg": "Input should be a valid tuple", "loc": ("a",), "input": 5})
    'is 5; expected a list, as [a, b]'
    """
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if not error["loc"] and kind == "value_error":  # a check of our own, which names the place itself
        return message
    if kind in UNKNOWN:
        return "no such setting; docs/settings.md lists them"
    if kind == "json_invalid":
        return f"is not valid JSON ({error['ctx']['error']})"
    if kind == "missing":
        return "is missing"
    found = repr(error["input"])
    found = found if len(found) < 80 else found[:77] + "..."
    if kind in _BOUNDS:
        (bound,) = error["ctx"].values()
        return f"is {found}; expected {_BOUNDS[kind]} {f'{bound:,}' if bound > 1000 else f'{bound:g}'}"
    if message.startswith("Input should be "):
        expected = message.removeprefix("Input should be ")
        if yaml:
            expected = next((words for term, words in _PYTHON_TERMS if term.fullmatch(expected)), expected)
        unquoted = kind == "string_type" and not isinstance(error["input"], (list, dict))
        unquoted |= kind == "literal_error" and isinstance(error["input"], bool)
        return f"is {found}; expected {expected}{_QUOTE if yaml and unquoted else ''}"
    return message if isinstance(error["input"], dict) else f"{message} (found {found})"


def error_line(error: Any, prefix: str = "", yaml: bool = True) -> str:
    """Word an entry of pydantic's list of errors as ``key: reason``, with the dotted key below `prefix`.

    For `yaml` see `reason_of`.
    """
    parts = map(str, (prefix, *error["loc"]))
    # pydantic adds the type of a union that was tried, such as list[str].
    key = ".".join(part for part in parts if part and "[" not in part and part != "constrained-int")
    return f"{key}: {reason_of(error, yaml)}" if key else reason_of(error, yaml)
