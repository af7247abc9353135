"""Work side by side in worker processes, which end together whatever happens."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from attributes.processes import deaf_to_ctrl_c, end_with_parent
from program.errors import RunError
from runfolder.progress import listening, speak_through


def side_by_side(function: Callable[..., Any], work: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[Any]:
    """Call a function with each of some arguments in worker processes, and yield what comes as it comes.

    Each worker computes on one thread, and what it says is shown here. The first error ends them all.
    """
    context = multiprocessing.get_context("spawn")  # an engine does not survive a fork
    queue = context.Queue()
    queue.cancel_join_thread()  # a killed worker may leave it locked; this process must end all the same
    with _one_thread_each(), listening(queue):
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(queue,))
        try:
            with deaf_to_ctrl_c():
                futures = [pool.submit(function, *arguments) for arguments in work]
            for future in as_completed(futures):
                yield future.result()
        except BaseException as error:
            # Whatever it is, an interruption included: nothing else may start, and nothing go on for hours.
            workers = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.terminate()
            if isinstance(error, BrokenProcessPool):
                raise RunError(
                    "a worker process was ended from outside, as happens when memory runs out; "
                    "the same command goes on with what is finished, --jobs 1 needs least memory"
                ) from None
            raise
        pool.shutdown()


def _start_worker(queue: Any) -> None:
    """Prepare a worker process."""
    speak_through(queue)
    end_with_parent()


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Have worker processes start with one computing thread: their libraries read this when loaded."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
