"""Jobs on worker processes: a killed worker's job is repeated, errors arrive, and strangers are refused."""

import functools
import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import dask
import distributed  # noqa: F401  its defaults would be lost with a setting under which it is first imported
import pytest

from heatcrop.cli.errors import explain
from heatcrop.errors import RunError
from heatcrop.runs.executors import InlineExecutor, open_executor
from heatcrop.runs.folder import RunFolder
from tests.tiny_run import ROOT, TASKS, differences, pipeline, wait_until

NECK = TASKS[0]


def run_calls(executor, function, calls):
    """Call a function with each tuple of arguments; return the results in order."""
    results = []

    def graph():
        results.extend((yield list(calls)))

    executor.run([(function, graph())])
    return results


def leave_note(folder, name, after=""):
    """Leave this process's number in a file's name, and wait for the release of the job."""
    (folder / f"{name}.{os.getpid()}").touch()
    if after:
        wait_until((folder / after).exists)
    return os.getpid()


def two_steps(returned):
    """Make a graph whose second step depends on the results of the first."""
    first = yield [("a", "released"), ("b",)]
    returned += first
    returned.append((yield [(f"c{len(first)}",)]))


def test_a_killed_worker_costs_only_the_job_that_it_was_doing(tmp_path):
    killed, returned = [], []

    def kill():
        """Kill the worker of job a after job b is done, and release the repeated job."""
        wait_until(lambda: list(tmp_path.glob("a.*")) and list(tmp_path.glob("b.*")))
        killed.extend(int(path.suffix[1:]) for path in tmp_path.glob("a.*"))
        os.kill(killed[0], signal.SIGKILL)
        (tmp_path / "released").touch()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    with open_executor(2) as executor:
        executor.run([(functools.partial(leave_note, tmp_path), two_steps(returned))])
    thread.join()
    doers = {name: {int(p.suffix[1:]) for p in tmp_path.glob(f"{name}.*")} for name in ("a", "b", "c2")}
    assert doers["a"] == {killed[0], returned[0]}
    assert returned[0] != killed[0]
    assert returned[1] in doers["b"]
    assert returned[2] == list(doers["c2"])


def multiply(number, *factors):
    return math.prod(factors, start=number)


def products(found, name, steps):
    for step in steps:
        found.append((name, (yield step)))


STEPS = {"a": [[(2,), (3, 5)], [], [(7,)]], "b": [[()]], "c": []}


def test_both_executors_return_the_same_results():
    results = []
    with open_executor(2) as dask:
        for executor in (InlineExecutor(), dask):
            found = []
            multiply_ten = functools.partial(multiply, 10)
            executor.run([(multiply_ten, products(found, name, steps)) for name, steps in STEPS.items()])
            results.append(sorted(found))
            assert run_calls(executor, pow, [(2, 3), (3, 2)]) == [8, 9]
    assert results[0] == results[1] == [("a", []), ("a", [20, 150]), ("a", [70]), ("b", [10])]
    # Dask logs connections that are lost at an interruption with a traceback, at a moment that varies.
    assert not logging.getLogger("distributed.scheduler").isEnabledFor(logging.CRITICAL)


def meet(here, there):
    here.touch()
    wait_until(there.exists)


@pytest.mark.soak
def test_jobs_of_one_step_begin_at_once_on_free_workers(tmp_path):
    """Also without Dask's help, which moves waiting jobs to free workers once in a while."""
    with dask.config.set({"distributed.scheduler.work-stealing": False}), open_executor(2) as executor:
        run_calls(executor, pow, [(2, 3)] * 20)  # jobs that took no time do not mislead the scheduler
        for pair in range(5):
            a, b = tmp_path / f"a{pair}", tmp_path / f"b{pair}"
            run_calls(executor, meet, [(a, b), (b, a)])


def fail_or_wait(number, folder):
    if number == 0:
        wait_until(lambda: any(folder.iterdir()))  # the other worker is at work
        raise ZeroDivisionError
    (folder / str(number)).touch()
    wait_until((folder / "never").exists)


def test_an_error_of_a_job_ends_all_jobs(tmp_path):
    with pytest.raises(ZeroDivisionError), open_executor(2) as executor:
        run_calls(executor, fail_or_wait, [(number, tmp_path) for number in range(6)])
    assert len(list(tmp_path.iterdir())) <= 2, "the other worker had one job, and perhaps began the next"


def test_a_job_that_kills_every_worker_is_reported_in_one_line():
    with pytest.raises(RunError, match=r"killed again and again.*--jobs 1"), open_executor(2) as executor:
        run_calls(executor, os._exit, [(9,)])


# Started as a program of its own, because it is killed.
PARENT = """
import os, sys, time
from heatcrop.runs.executors import open_executor

def sleep(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(300)

if __name__ == "__main__":
    with open_executor(2) as executor:
        executor.run([(sleep, (step for step in [[(path,) for path in sys.argv[1:]]]))])
"""


def test_workers_end_with_the_process_that_started_them(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    notes = [tmp_path / name for name in ("a", "b")]
    words = [sys.executable, tmp_path / "parent.py", *notes]
    parent = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: all(note.is_file() and note.read_text() for note in notes))
    finally:
        parent.kill()
    parent.wait()
    wait_until(lambda: not any(is_running(int(note.read_text())) for note in notes), seconds=60)


def is_running(pid):
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- errors and strangers


def test_a_scheduler_that_is_not_there_is_reported(monkeypatch):
    monkeypatch.setattr("heatcrop.runs.executors._CONNECT_SECONDS", 1)
    message = r"tcp://127.0.0.1:9: no Dask scheduler answers.*dask scheduler"
    with pytest.raises(RunError, match=message), open_executor(1, "tcp://127.0.0.1:9"):
        pass


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "x://127.0.0.1:9",
        *(
            pytest.param(address, marks=pytest.mark.soak)
            for address in ("localhost:abc", "tcp://127.0.0.1", "::1", "127.0.0.1:99999")
        ),
    ],
)
def test_an_address_that_is_none_ends_the_command_within_seconds(tiny_home, tmp_path, address):
    words = pipeline(
        "run", "--all", "--config", "tiny.yaml", "--out", tmp_path / "run", "--scheduler", address
    )
    with subprocess.Popen(words, cwd=tiny_home, stderr=subprocess.PIPE, text=True) as process:
        message = next(line for line in process.stderr if line.startswith("error: "))
        printed = time.monotonic()
        rest = process.communicate(timeout=60)[1]
    assert time.monotonic() - printed < 5
    assert message.startswith(f"error: {address}: no Dask scheduler answers")
    assert rest == ""
    assert process.returncode == 1


def connect():
    """Try to connect to the own scheduler without the run's keys."""
    from distributed import Client, get_worker

    address = get_worker().scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    try:
        Client(address.replace("tls", "tcp"), timeout=2, set_as_default=False)
    except OSError:
        return "refused"
    return "connected"


def fail_in(library, own):
    """Fail with an error of a library that only the worker has, or with one that such an error caused."""
    fault = type("Fault", (Exception,), {"__module__": library})
    module = types.ModuleType(library)
    module.Fault = fault
    sys.modules[library] = module
    try:
        raise fault("std::bad_alloc")
    except fault as error:
        if own:
            raise own(28, "could not be written", "w") from error
        raise


def measure_sleep():
    """Sleep; return the seconds that passed, and the CPU seconds of all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    time.sleep(3)
    return time.perf_counter() - wall, time.process_time() - cpu


@pytest.fixture(scope="module")
def one_worker():
    with open_executor(1, isolated=True) as executor:
        yield executor


def test_a_worker_keeps_freed_memory_and_computes_with_one_core(one_worker):
    names = ("MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS")
    assert run_calls(one_worker, os.environ.get, [(name,) for name in names]) == [None, "1"]


def test_a_worker_does_not_measure_itself(one_worker):
    """It would take several per cent of its core while another thread computes."""
    ((idle, computing),) = run_calls(one_worker, measure_sleep, [()])
    assert computing < 0.03 * idle


def test_a_process_without_the_keys_of_a_run_is_refused(one_worker):
    """Whoever can connect to a scheduler can have it run code."""
    assert run_calls(one_worker, connect, [()]) == ["refused"]


def test_an_error_of_a_library_that_only_the_worker_has_arrives_as_text(one_worker):
    with pytest.raises(RuntimeError, match="engine_there.Fault: std::bad_alloc") as caught:
        run_calls(one_worker, fail_in, [("engine_there", None)])
    assert any(frame.name == "fail_in" for frame in caught.traceback)
    assert explain(caught.value).startswith("memory ran out")


def test_an_error_that_such_an_error_caused_keeps_its_type(one_worker):
    with pytest.raises(OSError, match="could not be written") as caught:
        run_calls(one_worker, fail_in, [("engine_there", OSError)])
    assert explain(caught.value).startswith("w: could not be written; make room")
    assert repr(caught.value.__cause__) == "RuntimeError('engine_there.Fault: std::bad_alloc')"


# --- workers of a cluster


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler and two workers, each a program of its own on loopback."""
    quiet = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "cwd": ROOT,
        "start_new_session": True,
    }
    note, started = tmp_path / "scheduler.json", []

    def start(*words):
        started.append(subprocess.Popen([sys.executable, "-m", "dask", *words], **quiet))

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", note)
        wait_until(lambda: note.is_file() and note.read_text().rstrip().endswith("}"))
        address = json.loads(note.read_text())["address"]
        options = ("--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", "--local-directory", tmp_path)
        for _ in range(2):
            start("worker", address, *options)
        yield address, [process.pid for process in started[1:]]
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.soak
def test_a_cluster_makes_the_files_of_one_process_also_when_a_worker_is_killed(
    call, cluster, run_copy, undisturbed, no_plots
):
    """One is killed at the first checkpoint: both train then, since three networks are to be trained."""
    RunFolder(run_copy).task(NECK).record("cam").unlink()
    (address, nannies), killed = cluster, []

    def kill():
        cache = run_copy / "cache" / NECK / "cam"
        wait_until(lambda: list(cache.glob("*.checkpoint")))
        killed.append(worker_of(nannies[0]))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    words = ("run", "--all", "--config", "tiny.yaml", "--out", run_copy.name, "--jobs", "1")
    code, printed = call(*words, "--scheduler", address)
    thread.join()
    assert code == 0, printed
    assert not is_running(killed[0])
    assert f"spread over the workers of {address}" in printed
    assert differences(run_copy, undisturbed) == []


def worker_of(nanny):
    """Return the worker process that a Dask nanny has started, and would start again."""
    threads = Path(f"/proc/{nanny}/task").iterdir()
    children = [pid for thread in threads for pid in (thread / "children").read_text().split()]
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return next(int(pid) for pid, command in commands.items() if b"spawn_main" in command)
