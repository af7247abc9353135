"""Work spread over worker processes: what dies is done again, and the files are those of one process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from heatcrop.cli.errors import explain
from heatcrop.errors import RunError
from heatcrop.runs.lock import HeldError, hold, lent, signature
from heatcrop.runs.workers import in_rounds, side_by_side
from tests.tiny_run import ROOT, comparable_files, make_project

SECONDS = 240


def note(folder, name, seconds=0.0):
    """Leave the process's number, work for a while, and say who did it."""
    (folder / f"{name}.{os.getpid()}").touch()
    time.sleep(seconds)
    return os.getpid()


def rounds(folder, made):
    """Two rounds, the second of which uses what the first returned."""
    first = yield [("a", 8.0), ("b", 0.0)]
    made += first
    made.append((yield [(f"c{len(first)}",)]))


def test_a_worker_that_is_killed_costs_what_it_was_doing(tmp_path):
    killed, made = [], []

    def kill():
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for path in tmp_path.glob("a.*"):
                if list(tmp_path.glob("b.*")):
                    killed.append(int(path.suffix[1:]))
                    os.kill(killed[0], signal.SIGKILL)
                    return
            time.sleep(0.05)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    in_rounds(note, [(tmp_path, rounds(tmp_path, made))], 2)
    thread.join()
    doers = {name: {int(p.suffix[1:]) for p in tmp_path.glob(f"{name}.*")} for name in ("a", "b", "c2")}
    assert killed and killed[0] in doers["a"] and made[0] in doers["a"] - set(killed)
    # What another one has done is not done again.
    assert {made[1]} <= doers["b"] <= {made[1], *killed} and len(doers["a"]) == 2
    assert [set(c) for c in made[2:]] == [doers["c2"]]


ORPHAN = """
import pathlib, sys, time
from heatcrop.runs.lock import lent
with lent(pathlib.Path(sys.argv[1]), sys.argv[2]):
    print("at work", flush=True)
    time.sleep(240)
"""


def test_work_ends_when_the_run_folder_is_let_go(tmp_path):
    """A machine that did not hear that the run was broken off does not write into the next one's files."""
    with hold(tmp_path):
        held = signature(tmp_path)
        words = [sys.executable, "-c", ORPHAN, str(tmp_path), held]
        orphan = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
        try:
            assert orphan.stdout.readline() == b"at work\n"
            assert orphan.poll() is None
        except BaseException:
            orphan.kill()
            raise
    try:
        assert orphan.wait(timeout=60) == 1
    finally:
        orphan.kill()
        orphan.stdout.close()
    with pytest.raises(HeldError, match="has ended"), lent(tmp_path, held):
        pass
    with lent(tmp_path, signature(tmp_path)):
        pass


def test_a_scheduler_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr("heatcrop.runs.workers._ANSWER_SECONDS", 1)
    with pytest.raises(RunError, match=r"tcp://127.0.0.1:9: no Dask scheduler answers.*dask scheduler"):
        in_rounds(note, [], 1, "tcp://127.0.0.1:9")


def test_strangers_do_not_join_the_workers_of_a_run(tmp_path):
    """Whoever can talk to a scheduler can have it run code; without the run's own keys nobody can."""
    done = list(side_by_side(stranger, [()], 1))
    assert done == ["refused"]


def stranger():
    from distributed import Client, get_worker

    address = get_worker().scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    try:
        Client(address.replace("tls", "tcp"), timeout=2, set_as_default=False)
    except OSError:
        return "refused"
    return "let in"


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
            raise own(28, "could not be written whole", "w") from error
        raise


def test_an_error_of_a_library_that_only_a_worker_has_loaded_is_told():
    with pytest.raises(OSError, match="could not be written whole") as caught:
        list(side_by_side(fail_in, [("engine_there", OSError)], 1))
    assert explain(caught.value).startswith("w: could not be written whole; make room")
    assert repr(caught.value.__cause__) == "RuntimeError('engine_there.Fault: std::bad_alloc')"
    with pytest.raises(RuntimeError, match="engine_there.Fault: std::bad_alloc") as caught:
        list(side_by_side(fail_in, [("engine_there", None)], 1))
    assert any(frame.name == "fail_in" for frame in caught.traceback)
    assert explain(caught.value).startswith("memory ran out")


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler and two workers, each a program of its own on loopback; ended in any case."""
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
        wait_for(lambda: note.is_file() and note.read_text().rstrip().endswith("}"))  # whole
        address = json.loads(note.read_text())["address"]
        for _ in range(2):
            start(
                "worker",
                address,
                "--nthreads",
                "1",
                "--no-dashboard",
                "--host",
                "127.0.0.1",
                "--local-directory",
                tmp_path,
            )
        yield address
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(what):
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, f"not within {SECONDS} s"
        time.sleep(0.02)


def test_a_cluster_makes_the_files_of_one_process_also_when_a_worker_is_killed(tmp_path, cluster):
    """The worker that trains is killed when its first checkpoint is there."""
    make_project(tmp_path)
    words = [
        sys.executable,
        str(ROOT / "pipeline.py"),
        "run",
        "--task",
        "neck",
        "--config",
        "tiny.yaml",
        "--jobs",
        "1",
        "--out",
    ]
    how = {
        "cwd": tmp_path,
        "env": {**os.environ, "OMP_NUM_THREADS": "1"},
        "text": True,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.PIPE,
    }
    alone = subprocess.run([*words, "run"], **how, timeout=SECONDS)
    assert alone.returncode == 0, alone.stderr
    expected = comparable_files(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "alone")

    process = subprocess.Popen([*words, "run", "--scheduler", cluster], **how)
    try:
        cache = tmp_path / "run" / "cache" / "neck_design_labels" / "cam"
        wait_for(lambda: list(cache.glob("*.checkpoint")) or process.poll() is not None)
        victim = next(iter(writers(cache)), None)
        if victim is not None:
            os.kill(victim, signal.SIGKILL)
        _, said = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert victim is not None, "nobody was at work in the cache"
    assert f"spread over the workers of {cluster}" in said
    found = comparable_files(tmp_path / "run")
    assert [name for name in {*found, *expected} if found.get(name) != expected.get(name)] == []
    shutil.rmtree(tmp_path / "run")


def writers(folder):
    """Processes that have a file of a folder open."""
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if path.is_symlink() and str(path.readlink()).startswith(str(folder)):
                yield int(path.parts[2])
        except OSError:
            continue
