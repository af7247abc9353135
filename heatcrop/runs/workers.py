"""Work spread over worker processes, of this machine or of several, by Dask.

A worker that dies costs what it was doing: Dask gives that to another one. An error of the work itself ends
all of it. What a worker says is shown by the process that handed out the work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import queue
import signal
import socket
import threading
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from heatcrop.cli.limits import allow_open_files
from heatcrop.errors import HeatCropError, RunError
from heatcrop.runs.processes import end_with_parent, interrupts_blocked
from heatcrop.runs.progress import forward_to, show_forwarded

if TYPE_CHECKING:
    from distributed import Client, LocalCluster, Nanny

_ANSWER_SECONDS, _SAID_EVERY_SECONDS = 60, 0.2
_FILES, _FILES_A_WORKER = 64, 32  # this process's own; connections and pipes to a worker
_LEAST_FILES, _LEAST_A_WORKER = 40, 10  # most seen open was 52, 70 and 91 with 2, 4 and 6 workers
_WORKER_DEATHS = 3  # of workers, one after another, while they do the same piece of work

Rounds = Generator[list[tuple[Any, ...]], list[Any], None]
"""Yields the arguments of some calls that need nothing of one another; is sent what they returned."""


def side_by_side(function: Callable[..., Any], work: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[Any]:
    """Call a function with each of some arguments in worker processes, and yield what comes as it comes.

    Each worker computes on one thread, and what it says is shown here. The first error ends them all.
    """
    from distributed import as_completed

    with _crew(jobs, None) as crew:
        client = crew.client
        futures = [crew.submit(i, function, *arguments) for i, arguments in enumerate(work)]
        for future in as_completed(futures, loop=client.loop):
            yield future.result()


def in_rounds(
    function: Callable[..., Any], work: Sequence[tuple[Any, Rounds]], jobs: int, scheduler: str | None = None
) -> None:
    """Call a function for all that some works yield, round by round, each work at its own pace.

    Parameters
    ----------
    function : callable
        Called in a worker process with a work's shared argument and what its rounds yield.
    work : sequence of pairs
        A shared argument, sent to a worker once, and rounds; the first are the most urgent.
    jobs : int
        Worker processes of this machine.
    scheduler : str, optional
        Use the workers of this Dask scheduler instead, such as ``tcp://10.0.0.1:8786``.
    """
    from distributed import as_completed

    with _crew(jobs, scheduler) as crew:
        # Sent as work of its own, it comes back when the worker that holds it dies.
        shared = [crew.submit(i, _same, argument) for i, (argument, _) in enumerate(work)]
        waiting: dict[int, list[Any]] = {}
        open_ones: Counter[int] = Counter()
        place: dict[Any, int] = {}
        open_calls = as_completed(loop=crew.client.loop)

        def go_on(number: int, results: list[Any] | None) -> None:
            try:
                calls = work[number][1].send(results)  # type: ignore[arg-type]
            except StopIteration:
                shared[number].release()
                return
            waiting[number] = [crew.submit(number, function, shared[number], *call) for call in calls]
            open_ones[number] = len(calls)
            for future in waiting[number]:
                place[future.key] = number
                open_calls.add(future)

        for number in range(len(work)):
            go_on(number, None)
        for future in open_calls:
            number = place.pop(future.key)
            future.result()  # an error ends everything here and now
            open_ones[number] -= 1
            if not open_ones[number]:
                go_on(number, [one.result() for one in waiting.pop(number)])


@dataclasses.dataclass(frozen=True)
class _Crew:
    """Workers, and the topic under which they speak to this process alone."""

    client: Client
    topic: str

    def submit(self, number: int, function: Callable[..., Any], *arguments: Any) -> Any:
        """Hand out a call; small numbers are the most urgent."""
        return self.client.submit(
            _call, self.topic, function, *arguments, pure=False, priority=-number, retries=0
        )


def _same(argument: Any) -> Any:
    return argument


def _call(topic: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Do one piece of work in a worker process."""
    forward_to(_Voice.here(topic))
    try:
        return function(*arguments)
    except Exception as error:
        failed = _portable(error)
    raise failed  # out here it brings no error along that it was made from


def _portable(error: BaseException) -> BaseException:
    """Let an error be read by a process that has not loaded what raised it: of a library's, its words remain.

    The engine cannot be imported but through its door, which reading an error does not go through.
    """
    kind, traceback, chain = type(error), error.__traceback__, (error.__cause__, error.__context__)
    if kind.__module__ != "builtins" and not isinstance(error, HeatCropError):
        error = RuntimeError(f"{kind.__module__}.{kind.__qualname__}: {error}")
    error.__cause__, error.__context__ = (None if one is None else _portable(one) for one in chain)
    return error.with_traceback(traceback)


@contextlib.contextmanager
def _crew(jobs: int, scheduler: str | None) -> Iterator[_Crew]:
    """Have workers, of this machine or a scheduler's; whatever happens, none works on when the block ends."""
    import dask
    from distributed import CancelledError, Client, KilledWorker
    from distributed.comm import CommClosedError
    from distributed.security import Security

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    settings = {
        "distributed.scheduler.allowed-failures": _WORKER_DEATHS,
        "distributed.worker.memory.terminate": False,
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with dask.config.set(settings), contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Sending large graph")  # a task's rows, sent once
        if scheduler is None:
            _have_open_files(jobs)
            # Whoever may connect may have code run: other users of this machine may not.
            with interrupts_blocked():
                cluster = _local_cluster(jobs, Security.temporary())
            stack.callback(_end, cluster)
            client = Client(cluster, set_as_default=False)
        else:
            client = _remote(scheduler)
        stack.callback(client.close, timeout=2)
        said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stack.enter_context(show_forwarded(said))
        crew = _Crew(client, f"heatcrop-{uuid.uuid4().hex}")
        client.subscribe_topic(crew.topic, lambda event: said.put(tuple(event[1])))
        try:
            yield crew
        except KilledWorker:
            raise RunError(
                "a worker process was ended from outside, again and again, as happens when memory runs out; "
                "the same command goes on with what is finished, --jobs 1 needs least memory"
            ) from None
        except (CancelledError, CommClosedError):
            raise RunError(
                f"the connection to the scheduler {scheduler or 'of the workers'} was lost; when it is there "
                "again, the same command goes on with what is finished"
            ) from None


def _have_open_files(jobs: int) -> None:
    """Allow the files that workers take; Dask, short of them, would try again and again."""
    allowed, least = allow_open_files(_FILES + _FILES_A_WORKER * jobs), _LEAST_FILES + _LEAST_A_WORKER * jobs
    if allowed < least:
        raise RunError(
            f"a process may have {allowed} open files here (ulimit -Hn), and {jobs} worker processes take "
            f"{least}: allow more, or give a smaller --jobs; --jobs 1 takes next to none"
        )


def _local_cluster(jobs: int, security: Any) -> LocalCluster:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=jobs,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        security=security,
        dashboard_address="127.0.0.1:0",
        memory_limit=0,
        silence_logs=logging.CRITICAL,
    )


def _end(cluster: LocalCluster) -> None:
    """End the workers of this machine at once, in the middle of whatever they do."""
    nannies: list[Nanny] = list(cluster.workers.values())
    for nanny in nannies:
        nanny.close_gracefully()  # it does not start another worker in its place
    for nanny in nannies:
        with contextlib.suppress(ProcessLookupError):
            if nanny.pid:
                os.kill(nanny.pid, signal.SIGKILL)
    cluster.close(timeout=3)


def _remote(scheduler: str) -> Client:
    """Join a scheduler that somebody has started."""
    from distributed import Client
    from distributed import TimeoutError as NoAnswerError

    try:
        client = Client(scheduler, timeout=_ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError, NoAnswerError) as error:
        raise RunError(
            f"{scheduler}: no Dask scheduler answers ({error}); start one (dask scheduler) and its workers "
            "(dask worker ADDRESS --nthreads 1), or leave --scheduler out"
        ) from None
    try:
        client.wait_for_workers(1, timeout=_ANSWER_SECONDS)
    except NoAnswerError:
        client.close()
        raise RunError(
            f"{scheduler}: has no workers; start some: dask worker {scheduler} --nthreads 1"
        ) from None
    return client


class _Voice:
    """Sends what a worker says to the process that shows it."""

    def __init__(self, worker: Any, topic: str) -> None:
        self._worker, self._topic, self._where = worker, topic, f"{socket.gethostname()} {os.getpid()}"
        self._steps: dict[str, tuple[int, float]] = {}
        self._alone = threading.Lock()

    @staticmethod
    @functools.cache
    def here(topic: str) -> _Voice:
        """This process's voice; from its first word on, the process ends with the one that started it."""
        from distributed import get_worker

        end_with_parent()
        return _Voice(get_worker(), topic)

    def put(self, message: tuple[Any, ...]) -> None:
        """Send the messages of :mod:`heatcrop.runs.progress`; many small steps as few large ones."""
        kind, *what = message
        if kind != "log":
            what[0] = f"{self._where} {what[0]}"
        with self._alone:
            if kind == "step":
                before, last = self._steps.get(what[0], (0, 0.0))
                now, count = time.monotonic(), before + what[1]
                if now - last < _SAID_EVERY_SECONDS:
                    self._steps[what[0]] = count, last
                    return
                self._steps[what[0]] = 0, now
                what[1] = count
            elif kind == "end" and (left := self._steps.pop(what[0], (0, 0.0))[0]):
                self._worker.log_event(self._topic, ["step", what[0], left])
        self._worker.log_event(self._topic, [kind, *what])
