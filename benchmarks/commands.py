"""Build command lines of the program."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def pipeline(*words: object, settings: Sequence[str] = ()) -> list[str]:
    """Return the command line of a pipeline command.

    >>> pipeline("run", "--jobs", 2, settings=["seed=1"])[1:]
    ['pipeline.py', 'run', '--jobs', '2', '--set', 'seed=1']
    """
    changes = (word for setting in settings for word in ("--set", setting))
    return [sys.executable, "pipeline.py", *map(str, words), *changes]
