"""Time contenders, each a process of its own, in turns.

Contenders start once and work in turns, round by round, so that other load on the machine slows all of them
alike; a ratio compares two contenders of the same round.
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

Workload = Callable[[], int]
"""Does the work once; returns the number of images."""


def serve(makers: Mapping[str, Callable[..., Workload]]) -> None:
    """Serve as a contender, ``python -m MODULE NAME``.

    The first line on stdin holds options; each further line starts the work once, and is answered on stdout
    with the number of images and the seconds.
    """
    name, options = sys.argv[1], json.loads(sys.stdin.readline())
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    work = makers[name](**options)
    work()  # first calls allocate and compile, and are not timed
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for _ in iter(sys.stdin.readline, ""):
        started = time.perf_counter()
        images = work()
        seconds = time.perf_counter() - started
        print(json.dumps({"images": images, "seconds": seconds}), file=answers, flush=True)


class Contender:
    """A process that runs :func:`serve`."""

    def __init__(self, python: str, module: str, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        # Idle threads must sleep, or they take the cores from the contender whose turn it is.
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        self._process = subprocess.Popen(
            [python, "-m", module, name],
            text=True,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._send(json.dumps(options))
        self._receive()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with code {self._process.wait()}; see its messages above")
        return dict(json.loads(line))

    def speed(self) -> float:
        """Do the work once; return images a second."""
        self._send("")
        answer = self._receive()
        return float(answer["images"] / answer["seconds"])

    def close(self) -> None:
        """End the process."""
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
        Interpreter; peers have their own environment.
    module, name : str
        A module that serves, and which of its contenders.
    options : dict
        Arguments of the contender.
    """

    python: str
    module: str
    name: str
    options: dict[str, Any]

    def start(self) -> Contender:
        """Start the process and wait until it is ready."""
        return Contender(self.python, self.module, self.name, self.options)


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Our speed divided by theirs.

    Attributes
    ----------
    value, low, high : float
        Median, least and greatest ratio of a round.
    ours, theirs : float
        Median images a second.
    """

    value: float
    low: float
    high: float
    ours: float
    theirs: float


def compare(ours: Entry, theirs: Sequence[Entry], rounds: int) -> Ratio:
    """Time contenders in turns; of several others the one with the highest median speed counts."""
    contenders: list[Contender] = []
    try:
        for entry in (ours, *theirs):
            contenders.append(entry.start())
        speeds = np.array([[contender.speed() for contender in contenders] for _ in range(rounds)])
    finally:
        for contender in contenders:
            contender.close()
    medians = np.median(speeds, axis=0)
    best = 1 + int(np.argmax(medians[1:]))
    ratios = speeds[:, 0] / speeds[:, best]
    value, low, high = (float(f(ratios)) for f in (np.median, np.min, np.max))
    return Ratio(value, low, high, float(medians[0]), float(medians[best]))
