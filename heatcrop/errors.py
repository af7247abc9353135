"""Errors whose message is written for the user: the command line prints it without a traceback."""

from __future__ import annotations

REMAKE = "delete it, and python pipeline.py run --all makes it again"
"""The fix for a damaged file of a run folder, whose stages notice what is missing."""

CONTINUE = "the same command continues with what is finished"
"""The fix for an interruption of any kind."""


class HeatCropError(Exception):
    """The base of all errors that the user can fix.

    The message names the file and row, what was found, what was expected and how to fix it, for example
    ``base/Annotations/label.csv:17: label 'nnyny' has two y; exactly one is allowed``. Any other exception
    is a fault of the program.
    """


class DataError(HeatCropError):
    """The user's data or names are wrong (exit code 1)."""


class EngineError(HeatCropError):
    """This machine lacks an engine, or the engine cannot do what is asked (exit code 1)."""


class WeightsError(HeatCropError):
    """A weight file is missing, damaged or belongs to another network (exit code 1)."""


class DivergedError(HeatCropError):
    """A training computes numbers that are not finite (exit code 1)."""


class RunError(HeatCropError):
    """The work cannot continue (exit code 1)."""


class UsageError(HeatCropError):
    """The command or the configuration asks for something that does not exist (exit code 2)."""
