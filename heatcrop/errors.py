"""Errors whose message is written for the user: the command line prints it without a traceback."""

from __future__ import annotations

from pathlib import Path

_IN_CHECKOUT = (Path(__file__).parents[1] / "Makefile").is_file()

PROGRAM = "python pipeline.py" if _IN_CHECKOUT else "heatcrop"
"""How the command line is started."""

CONTINUE = "the same command continues with what is finished"
"""The fix for an interruption of any kind."""


def install_command(trainer: str = "") -> str:
    """Return the command that installs what is missing, with a training engine, ``mxnet`` or ``torch``.

    >>> install_command("torch")
    'make install TRAINER=torch'
    """
    if _IN_CHECKOUT:
        return "make install" + " TRAINER=torch" * (trainer == "torch")
    return f"python -m pip install '.[{trainer or 'mxnet'}]' in the folder of HeatCrop's source"


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
