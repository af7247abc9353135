"""Contenders, each in a process of its own, that do a piece of work when asked and say how long it took.

They are started once and asked in turn, round by round, so that whatever else slows the machine slows all
of them alike; a ratio is that of two contenders in the same round.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Work = Callable[[], int]
"""Does the work once; returns how many pictures it was."""


def serve(makers: Mapping[str, Callable[..., Work]]) -> None:
    """Be a contender, ``python -m MODULE NAME``: the first line on stdin holds options, each later asks."""
    name, options = sys.argv[1], json.loads(sys.stdin.readline())
    # Libraries print as they like; answers have a channel of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    work = makers[name](**options)
    work()  # what is made at first use is not timed
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for _ in iter(sys.stdin.readline, ""):
        started = time.perf_counter()
        pictures = work()
        seconds = time.perf_counter() - started
        print(json.dumps({"pictures": pictures, "seconds": seconds}), file=answers, flush=True)


class Contender:
    """A process that serves."""

    def __init__(self, python: str, module: str, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        # Idle threads must sleep, or they would take the cores from whose turn it is.
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        self._process = subprocess.Popen(
            [python, "-m", module, name],
            text=True,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._ask(json.dumps(options))
        self._answer()

    def _ask(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with code {self._process.wait()}; see its messages above")
        return dict(json.loads(line))

    def speed(self) -> float:
        """Do the work once; pictures a second."""
        self._ask("")
        answer = self._answer()
        return float(answer["pictures"] / answer["seconds"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()


@dataclasses.dataclass(frozen=True)
class Entry:
    """How to start a contender.

    Attributes
    ----------
    python : str
        Interpreter: peers live in an environment of their own.
    module, name : str
        Which of a module's contenders.
    options : dict
    """

    python: str
    module: str
    name: str
    options: dict[str, Any]

    def start(self) -> Contender:
        return Contender(self.python, self.module, self.name, self.options)


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Ours over theirs, by round.

    Attributes
    ----------
    value, low, high : float
        Median, least and greatest.
    ours, theirs : float
        Median pictures a second.
    """

    value: float
    low: float
    high: float
    ours: float
    theirs: float


def compare(ours: Entry, theirs: Sequence[Entry], rounds: int) -> Ratio:
    """Let contenders run in turn; where there are several others, the one of highest median counts."""
    contenders: list[Contender] = []
    try:
        for entry in (ours, *theirs):
            contenders.append(entry.start())
        speeds = np.array([[one.speed() for one in contenders] for _ in range(rounds)])
    finally:
        for one in contenders:
            one.close()
    middle = np.median(speeds, axis=0)
    best = 1 + int(np.argmax(middle[1:]))
    ratios = speeds[:, 0] / speeds[:, best]
    return Ratio(
        *(float(f(ratios)) for f in (np.median, np.min, np.max)), float(middle[0]), float(middle[best])
    )
