"""The one exception that is meant for the person at the keyboard."""

from __future__ import annotations

MADE_AGAIN = "delete it, and python pipeline.py run --all makes it again"
"""What helps against a damaged file of a run folder, whose stages notice by themselves what is missing."""


class DataError(Exception):
    """Something in the user's files or words is wrong, and the message says what to do about it.

    The message names the file and row, what was found, what was expected and the remedy, for example
    ``base/Annotations/label.csv:17: label 'nnyny' has two y; exactly one is allowed``. The command line
    prints it without a traceback; every other exception is a fault of the program.
    """
