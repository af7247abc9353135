"""Executors of job graphs: inline in this process, or on Dask's worker processes.

A job graph is a generator: it yields a step, the arguments of calls that do not depend on each other, and is
sent their results. What it does between the steps runs in this process. Both executors give the same files,
since jobs exchange files and how the work is divided does not depend on who does it.

With Dask, a worker that dies costs the job that it was doing: another worker repeats it. An error of a job
ends all of them. What workers log is shown by this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import queue
import re
import signal
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from heatcrop.errors import CONTINUE, HeatCropError, RunError
from heatcrop.runs.limits import allow_open_files
from heatcrop.runs.processes import end_with_parent, interrupts_blocked
from heatcrop.runs.progress import forward_to, log, show_forwarded

if TYPE_CHECKING:
    from distributed import Client, LocalCluster, Nanny

_CONNECT_SECONDS = 60
_FILES, _FILES_PER_WORKER = 64, 32  # this process's own; connections and pipes to a worker
_MIN_FILES, _MIN_FILES_PER_WORKER = 40, 10  # at most 52, 70 and 91 were seen open with 2, 4 and 6 workers
_SILENT = logging.CRITICAL + 1  # Dask logs lost connections as critical, also those of an interrupted run
# Dask's own would also have each large array's memory mapped anew, a tenth of a run's CPU time.
_WORKER_ENVIRONMENT = {f"{library}_NUM_THREADS": 1 for library in ("OMP", "MKL", "OPENBLAS")}
_WORKER_DEATHS = 3  # of workers, one after another, during the same job

JobGraph = Generator[list[tuple[Any, ...]], list[Any], None]
Work = Sequence[tuple[Callable[..., Any], JobGraph]]
"""Graphs, the most urgent first, each with the function to call with the arguments of its jobs."""


class InlineExecutor:
    """Runs one graph after the other in this process."""

    at_once: int | None = 1

    def run(self, graphs: Work) -> None:
        """Call each graph's function for each of its jobs."""
        for function, graph in graphs:
            results: list[Any] | None = None
            with contextlib.suppress(StopIteration):
                while True:
                    results = [function(*job) for job in graph.send(results)]  # type: ignore[arg-type]


def merge_graphs(graphs: Sequence[JobGraph]) -> JobGraph:
    """Merge graphs that do not depend on each other into one, step by step."""
    running: dict[JobGraph, list[Any] | None] = dict.fromkeys(graphs)
    while running:
        steps: list[tuple[JobGraph, list[tuple[Any, ...]]]] = []
        for graph, results in running.items():
            with contextlib.suppress(StopIteration):
                steps.append((graph, graph.send(results)))  # type: ignore[arg-type]
        found = iter((yield [job for _, step in steps for job in step]) if steps else ())
        running = {graph: [next(found) for _ in step] for graph, step in steps}


@contextlib.contextmanager
def open_executor(workers: int, scheduler: str | None = None, isolated: bool = False) -> Iterator[Executor]:
    """Start an executor that does so many jobs at once, for the length of the block.

    Worker processes of this machine have one computing thread each. With the address of a Dask `scheduler`,
    such as ``tcp://10.0.0.1:8786``, its workers do the work. `isolated` runs even one job at a time in a
    worker process, whose crash can be reported.
    """
    if scheduler is None and workers == 1 and not isolated:
        yield InlineExecutor()
        return
    import dask
    from distributed import Client, LocalCluster
    from distributed.security import Security

    logging.getLogger("distributed").setLevel(_SILENT)
    settings = {
        "distributed.scheduler.allowed-failures": _WORKER_DEATHS,
        "distributed.nanny.pre-spawn-environ": _WORKER_ENVIRONMENT,
        # Measuring itself takes Dask 6 % of a core in each worker, and as much in this process.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.system-monitor.interval": "10s",
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.tick.cycle": "10s",
        "distributed.worker.memory.terminate": False,
        "distributed.scheduler.unknown-task-duration": "60s",
        "distributed.scheduler.work-stealing-interval": "100ms",
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Sending large graph")  # a group's rows, sent once
        if scheduler is None:
            _require_open_files(workers)
            # Any process that can connect could run code: other users of this machine must not.
            with interrupts_blocked():
                cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    security=Security.temporary(),
                    dashboard_address="127.0.0.1:0",
                    memory_limit=0,
                    silence_logs=_SILENT,
                )
            stack.callback(_end, cluster)
            client = Client(cluster, set_as_default=False)
        else:
            client = _connect(scheduler)
        stack.callback(client.close, timeout=2)
        _require_workers(client, scheduler)
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stack.enter_context(show_forwarded(messages))
        topic = f"heatcrop-{uuid.uuid4().hex}"  # what the workers log to this process alone
        client.subscribe_topic(topic, lambda event: messages.put(event[1]))
        at_once = workers if scheduler is None else None
        yield DaskExecutor(client, topic, scheduler or "of the workers", at_once)


class DaskExecutor:
    """Runs graphs on the workers of a Dask client, which log to a topic.

    `at_once` is the number of jobs that run at once; None where workers that others started may come and go.
    """

    def __init__(self, client: Client, topic: str, scheduler: str, at_once: int | None) -> None:
        self._client, self._topic, self._scheduler, self.at_once = client, topic, scheduler, at_once
        self._steps = itertools.count()

    def run(self, graphs: Work) -> None:
        """Call each graph's function for each of its jobs, each graph at its own pace."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        try:
            self._run(graphs)
        except KilledWorker:
            raise RunError(
                f"a worker process was killed again and again, as happens when memory runs out; {CONTINUE}, "
                "--jobs 1 needs least memory"
            ) from None
        except (CancelledError, CommClosedError):
            raise RunError(
                f"the connection to the scheduler {self._scheduler} was lost; when it is back, {CONTINUE}"
            ) from None

    def _run(self, graphs: Work) -> None:
        from distributed import as_completed

        # Submitted as a job of its own, it comes back when the worker that holds it dies.
        functions = [self._submit("function", i, _identity, one) for i, (one, _) in enumerate(graphs)]
        # Dask gives a job to a worker that holds its arguments, and moves it to a free one only much later.
        self._client.replicate(functions)
        step: dict[int, list[Any]] = {}
        unfinished: Counter[int] = Counter()
        graph_of: dict[Any, int] = {}
        running = as_completed(loop=self._client.loop)

        def advance(number: int, results: list[Any] | None) -> None:
            try:
                jobs = graphs[number][1].send(results)  # type: ignore[arg-type]
            except StopIteration:
                functions[number].release()
                return
            if not jobs:
                advance(number, [])
                return
            # Dask places a job by the mean duration of those of the same name, which differs between steps.
            name = f"step{next(self._steps)}"
            step[number] = [self._submit(name, number, functions[number], *job) for job in jobs]
            unfinished[number] = len(jobs)
            for future in step[number]:
                graph_of[future.key] = number
                running.add(future)

        for number in range(len(graphs)):
            advance(number, None)
        for future in running:
            number = graph_of.pop(future.key)
            future.result()  # raises an error here and now
            unfinished[number] -= 1
            if not unfinished[number]:
                advance(number, [one.result() for one in step.pop(number)])

    def _submit(self, name: str, number: int, *call: Any) -> Any:
        key = f"{name}-{uuid.uuid4()}"
        return self._client.submit(_call, self._topic, *call, key=key, priority=-number, retries=0)


Executor = InlineExecutor | DaskExecutor


def _identity(argument: Any) -> Any:
    return argument


def _call(topic: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Do one job in a worker process."""
    forward_to(_sender(topic))
    try:
        return function(*arguments)
    except Exception as error:
        failed = _picklable(error)
    raise failed  # out here it has no context that would be pickled with it


@functools.cache
def _sender(topic: str) -> Callable[[Any], None]:
    """Return what sends this worker's messages; the worker then ends with the process that started it."""
    from distributed import get_worker

    end_with_parent()
    return functools.partial(get_worker().log_event, topic)


def _picklable(error: BaseException) -> BaseException:
    """Replace a library's error by its text, for a process that has not loaded what raised it.

    Unpickling would import the engine directly, past the preparations of :mod:`heatcrop.nets.gluon.engine`.
    """
    kind, traceback, chain = type(error), error.__traceback__, (error.__cause__, error.__context__)
    if kind.__module__ != "builtins" and not isinstance(error, HeatCropError):
        error = RuntimeError(f"{kind.__module__}.{kind.__qualname__}: {error}")
    error.__cause__, error.__context__ = (None if one is None else _picklable(one) for one in chain)
    return error.with_traceback(traceback)


def _require_open_files(workers: int) -> None:
    """Raise the limit on open files as workers need; Dask, short of them, would retry forever."""
    allowed = allow_open_files(_FILES + _FILES_PER_WORKER * workers)
    needed = _MIN_FILES + _MIN_FILES_PER_WORKER * workers
    if allowed < needed:
        raise RunError(
            f"a process may have {allowed} open files here (ulimit -Hn), and {workers} worker processes need "
            f"{needed}: allow more, or give a smaller --jobs; --jobs 1 needs next to none"
        )


def _end(cluster: LocalCluster) -> None:
    """End the local workers at once, whatever they are doing."""
    nannies: list[Nanny] = list(cluster.workers.values())
    for nanny in nannies:
        nanny.close_gracefully()  # it does not start another worker instead
    for nanny in nannies:
        with contextlib.suppress(ProcessLookupError):
            if nanny.pid:
                os.kill(nanny.pid, signal.SIGKILL)
    cluster.close(timeout=3)


def _connect(scheduler: str) -> Client:
    """Connect to a running scheduler."""
    from distributed import Client
    from distributed import TimeoutError as NoAnswerError

    try:
        # A client that could not connect would wait again, for minutes, when the process ends.
        asyncio.run(_probe(scheduler))
        return Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError, NoAnswerError) as error:
        raise RunError(
            f"{scheduler or '--scheduler'}: no Dask scheduler answers ({error}); start one (dask scheduler) "
            "and its workers (dask worker ADDRESS --nthreads 1), or omit --scheduler"
        ) from None


async def _probe(scheduler: str) -> None:
    """Connect to a scheduler and disconnect again; ValueError for an address that cannot be one."""
    from distributed.comm import connect
    from distributed.security import Security

    port = re.search(r":(\d+)/?$", scheduler)
    if port and not 0 < int(port[1]) < 65_536:
        raise ValueError(f"its port is {port[1]}; expected 1 to 65535")
    log(f"connecting to {scheduler or 'nothing'}, for up to {_CONNECT_SECONDS} s")
    arguments = Security().get_connection_args("client")
    comm = await connect(scheduler, timeout=_CONNECT_SECONDS, **arguments)
    await comm.close()


def _require_workers(client: Client, scheduler: str | None) -> None:
    """Wait until there is a worker; without one, jobs would wait forever."""
    from distributed import TimeoutError as NoAnswerError

    try:
        client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
    except NoAnswerError:
        if scheduler is None:
            found = f"no worker process has started within {_CONNECT_SECONDS} s; use --jobs 1"
        else:
            found = f"{scheduler}: has no workers; start some: dask worker {scheduler} --nthreads 1"
        raise RunError(found) from None
