"""What a user is told when something cannot be done: one line, no traceback."""

from __future__ import annotations

from attributes.errors import DataError
from attributes.pictures import PictureError
from learning.engine import EngineError
from learning.torch_weights import WeightsError


class UsageError(Exception):
    """The command or the configuration asks for something that does not exist (exit code 2)."""


class RunError(Exception):
    """The work cannot go on (exit code 1)."""


TOLD = (DataError, PictureError, EngineError, WeightsError, RunError, UsageError)
"""Errors whose text is written for the user."""
