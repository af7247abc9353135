"""Measure what work takes: the time that passes, and the computing time of all threads and processes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator

# Imports nothing but Python's library: prediction measures itself where little else is installed.


@dataclasses.dataclass(frozen=True)
class Spent:
    """Time that some work took.

    >>> Spent(2.0, 3.0) + 2 * Spent(1.0, 4.0) - Spent(0.5, 1.0)
    Spent(wall=3.5, cpu=10.0)
    """

    wall: float = 0.0
    """Seconds that passed."""
    cpu: float = 0.0
    """CPU seconds, of the kernel too: of all threads of this process, and of its child processes that have
    ended."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall - other.wall, self.cpu - other.cpu)

    def __rmul__(self, factor: float) -> Spent:
        return Spent(factor * self.wall, factor * self.cpu)


def now() -> Spent:
    """Read the clocks: the difference of two readings is the time between them."""
    children = os.times()  # 0 on Windows; of all others to a hundredth of a second
    cpu = time.process_time() + children.children_user + children.children_system
    return Spent(time.perf_counter(), cpu)


class RunTimes:
    """Where the time of a run goes, from its creation on.

    Attributes
    ----------
    stages : dict of str to dict of str to (Spent or None)
        What jobs took, by group of tasks and by stage; None for a stage that was up to date.
    parts : dict of str to Spent
        Parts of the run that this process does alone.
    at_once : int or None
        Jobs that may run at once; None for workers that others started.
    """

    def __init__(self) -> None:
        self._began = now()
        self.stages: dict[str, dict[str, Spent | None]] = {}
        self.parts: dict[str, Spent] = {}
        self.at_once: int | None = 1

    @property
    def passed(self) -> float:
        """Seconds since the run began."""
        return (now() - self._began).wall

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure the block as a part of the run."""
        began = now()
        yield
        self._add(name, now() - began)

    def _add(self, name: str, spent: Spent) -> None:
        self.parts[name] = self.parts.get(name, Spent()) + spent

    @contextlib.contextmanager
    def around_jobs(self) -> Iterator[None]:
        """Measure a block that runs all jobs: the part ``other`` is what the jobs leave of it.

        Each job that may run at once has the block's seconds. What is left is spent on starting and ending
        worker processes, between jobs, and waiting where fewer jobs than workers are left.
        """
        began, before = now(), self.jobs()
        yield
        block = now() - began
        if self.at_once is not None:
            whole = Spent(self.at_once * block.wall, block.cpu)
            self._add("other", whole - (self.jobs() - before))

    def jobs(self, group: str | None = None, stage: str | None = None) -> Spent:
        """Add up what jobs took: all, or those of one group, or of one stage."""
        found = (
            spent
            for name, stages in self.stages.items()
            for kind, spent in stages.items()
            if spent is not None and group in (None, name) and stage in (None, kind)
        )
        return sum(found, Spent())

    @property
    def total(self) -> Spent:
        """All jobs and parts, those that ran at once added up."""
        return sum(self.parts.values(), self.jobs())
