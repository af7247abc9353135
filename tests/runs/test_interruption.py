"""Runs that are killed, interrupted, started twice or starved of something: nothing finished is lost."""

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heatcrop.cli.config_file import is_resolved
from heatcrop.cli.errors import explain
from heatcrop.errors import RunError
from heatcrop.nets.engine import mxnet
from heatcrop.runs.limits import memory_fault
from tests.soak.crash import interrupt, wait_for_handler
from tests.soak.resource_limits import full_disk, read_only
from tests.tiny_run import (
    ROOT,
    TASKS,
    comparable_files,
    differences,
    finish,
    make_project,
    make_reference,
    restore_sigint,
    start,
    wait_for,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("killed")
    make_project(home)
    return home


@pytest.fixture(scope="module")
def undisturbed(home):
    """A run that nobody disturbs, with no more than 64 open files a process."""
    return make_reference(home, 2, open_files=64)


@pytest.mark.parametrize(("how", "share"), [("kill", 0.3), ("terminate", 0.5), ("ctrl-c", 0.8)])
def test_a_run_that_was_ended_resumes_to_the_same_files(home, undisturbed, call, how, share):
    out = home / how
    process = start(home, out, 2)
    wait_for(out / "config.yaml", process)
    code, text = call("run", "--all", "--config", "tiny.yaml", "--out", out)
    assert code == 1 and re.search(rf"process {process.pid} on \S+, since 2\d\d\d-.*wait until", text), text
    time.sleep(share * (undisturbed.ends - undisturbed.starts))
    fault = "" if process.poll() is not None else interrupt(process, how)
    process.stderr.close()
    assert not fault
    finish(start(home, out, 2))
    assert differences(out, undisturbed) == []


def test_a_killed_training_goes_on_where_it_was(home, undisturbed):
    """Not by luck of the clock: killed when the second network's first checkpoint is there."""
    out = home / "training"
    process = start(home, out, 1)
    checkpoints = out / "cache" / TASKS[1] / "cam"
    wait_for(checkpoints / "fold 0.checkpoint", process)
    assert interrupt(process, "kill") == ""
    process.stderr.close()
    assert (checkpoints / "final.checkpoint").is_file() and not (out / TASKS[1] / ".cam.json").exists()
    process = start(home, out, 2)
    finish(process)
    assert differences(out, undisturbed) == [] and not checkpoints.exists()


def test_any_number_of_threads_makes_the_same_files(home, call, tmp_path):
    made = []
    for threads in (1, 5):
        out = tmp_path / str(threads)
        code, text = call(
            "run",
            "--all",
            "--config",
            "tiny.yaml",
            "--out",
            out,
            "--jobs",
            "1",
            "--set",
            f"runtime.threads={threads}",
        )
        assert code == 0, text
        made.append({name: data for name, data in comparable_files(out).items() if name != "config.yaml"})
    for name, data in made[0].items():
        assert all(other[name] == data for other in made[1:]), name
    assert len(made[0]) == len(made[1]) > 60


@pytest.mark.parametrize(
    ("lost", "redone"),
    [
        ("boxes.csv", {"crop", "finetune"}),
        ("stage3/weights.params", {"finetune"}),
        ("crops", {"crop", "finetune"}),
        ("stage1/heatmaps.npy", {"cam", "crop", "finetune"}),
    ],
)
def test_what_somebody_deleted_is_made_again(home, undisturbed, call, tmp_path, lost, redone):
    out = Path(shutil.copytree(home / "reference2", tmp_path / "run"))
    path = out / TASKS[0] / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, text = call("run", "--all", "--config", "tiny.yaml", "--out", out, "--jobs", "1")
    assert code == 0
    assert {stage for stage in ("cam", "crop", "finetune") if f"neck: {stage} in " in text} == redone, text
    # It has another place, from which the pictures have other paths, and did one task at a time.
    assert set(differences(out, undisturbed)) <= {"report/index.html", "config.yaml"}


def test_what_a_killed_process_left_is_swept(home, undisturbed, call, tmp_path):
    out = Path(shutil.copytree(home / "reference2", tmp_path / "run"))
    left = [out / ".metrics.json.123-456.partial", out / TASKS[0] / "stage1" / ".weights.params.1-2.partial"]
    for path in left:
        path.write_text("half")
    for folder in (out / TASKS[0] / ".crops.partial", out / ".report.old"):
        folder.mkdir()
        left.append(folder / "half.jpg")
        left[-1].write_text("half")
    kept = [
        out / name
        for name in (
            "notes.partial",
            "report.old/index.html",
            "mine/crops.partial/0.jpg",
            f"{TASKS[0]}/crops.old/0.jpg",
            "report/notes.txt",
        )
    ]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a user's own")
    assert call("run", "--all", "--config", "tiny.yaml", "--out", out, "--jobs", "1")[0] == 0
    assert call("report", "--run", out)[0] == 0
    assert not any(path.exists() for path in left)
    assert all(path.read_text() == "a user's own" for path in kept)


def test_a_run_killed_before_its_first_file_was_whole_can_begin_again(call, tmp_path):
    """Its folder holds a lock and a half-written configuration, and must not pass for somebody else's."""
    from heatcrop.cli.holding import claimed
    from heatcrop.runs.folder import RunFolder

    for name in (".lock", ".holder.json", ".config.yaml.1-2.partial"):
        (tmp_path / name).write_text("")
    with claimed(RunFolder(tmp_path)):
        assert sorted(os.listdir(tmp_path)) == [".holder.json", ".lock"]
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not a run's"), claimed(RunFolder(tmp_path)):
        pass


# --- two at once

HOLDER = """
import pathlib, sys, time
from heatcrop.runs.lock import hold
with hold(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_of_somebody_is_no_run_for_a_file_that_has_a_runs_name(home, call, tmp_path):
    own = "# my comments\n" + (home / "tiny.yaml").read_text()
    for name, text in (("config.yaml", own), ("metrics.json", "mine"), ("submission.csv", "mine")):
        (tmp_path / name).write_text(text)
    before = {p.name: p.read_text() for p in tmp_path.iterdir()}
    code, printed = call("run", "--all", "--config", tmp_path / "config.yaml", "--out", tmp_path)
    printed = " ".join(printed.split())
    assert code == 1 and "config.yaml: was not written by this program; give --out" in printed
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == before


def test_a_run_of_an_earlier_version_is_still_one(home, undisturbed, tmp_path):
    text = (home / "reference2" / "config.yaml").read_text()
    header, _, rest = text.partition("\n")
    assert header.startswith("# ") and is_resolved(text) and is_resolved(rest)
    assert is_resolved(f"{header}\nname: changed by hand\n# why\n{rest}")
    assert not is_resolved(f"# mine\n{rest}") and not is_resolved((home / "tiny.yaml").read_text())


def test_a_lock_says_who_holds_it_and_a_dead_process_holds_none(tmp_path):
    from heatcrop.runs.lock import HeldError, hold

    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HeldError, match=rf"process {holder.pid} on \S+, since 2"), hold(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert json.loads((tmp_path / ".holder.json").read_text())["pid"] == holder.pid  # it could not tidy up
    with hold(tmp_path):
        assert json.loads((tmp_path / ".holder.json").read_text())["pid"] == os.getpid()
    assert os.listdir(tmp_path) == [".lock"]
    with hold(tmp_path):
        pass


# --- signals

DEAF = """
import ctypes
from heatcrop.cli.signals import handle_signals
handle_signals()
print("ready", flush=True)
lock, libc = ctypes.create_string_buffer(256), ctypes.CDLL(None)
libc.pthread_mutex_lock(lock)
libc.pthread_mutex_lock(lock)  # a step in a library that never ends; signals do not end it either
"""


def test_a_program_that_is_to_outlive_its_terminal_does():
    code = (
        "import os, signal; from heatcrop.cli.signals import handle_signals; handle_signals();"
        "os.kill(os.getpid(), signal.SIGHUP); print('went on')"
    )
    done = subprocess.run(["nohup", sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0 and "went on" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_process_deep_in_a_library_ends_within_seconds(number):
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF],
        cwd=ROOT,
        text=True,
        preexec_fn=restore_sigint,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)  # until it is in that step
    began = time.monotonic()
    process.send_signal(number)
    _, printed = process.communicate(timeout=30)
    assert time.monotonic() - began < 5 and process.returncode == 130
    assert printed == "interrupted; the same command goes on with what is finished\n"


DROPPED = """
import os, signal, time
from heatcrop.cli import signals
class Held:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass
signals.handle_signals()
try:
    for _ in range(100):
        Held()  # what is raised in its __del__ goes no further
        time.sleep(0.1)
except KeyboardInterrupt:
    signals.report_interruption()
    raise SystemExit(signals.INTERRUPTED)
"""


def test_a_signal_that_comes_where_nothing_can_be_raised_is_heard_all_the_same():
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", DROPPED], cwd=ROOT, text=True, capture_output=True, timeout=60
    )
    assert done.stderr == "interrupted; the same command goes on with what is finished\n"
    assert done.returncode == 130 and time.monotonic() - began < 5


FIRST_WORKER = """
import multiprocessing, signal
from heatcrop.runs.processes import interrupts_blocked
if __name__ == "__main__":
    with interrupts_blocked():
        worker = multiprocessing.get_context("spawn").Process(
            target=signal.raise_signal, args=(signal.SIGINT,)
        )
        worker.start()
    worker.join()
    print("ended with", worker.exitcode)
"""


def test_the_first_worker_process_ignores_ctrl_c(tmp_path):
    (tmp_path / "first.py").write_text(FIRST_WORKER)
    done = subprocess.run(
        [sys.executable, tmp_path / "first.py"],
        text=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=restore_sigint,
    )
    assert done.stdout == "ended with 0\n" and done.stderr == ""


@pytest.mark.parametrize("how", ["terminate", "ctrl-c", "hang up"])
def test_a_run_that_is_still_loading_its_libraries_ends_as_well(home, how):
    process = start(home, home / "loading", 1)
    wait_for_handler(process)
    assert interrupt(process, how) == "" and process.returncode == 130
    process.stderr.close()
    assert not (home / "loading").exists()


# --- starved


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(home, undisturbed, tmp_path):
    code, printed, again, made = full_disk(home, tmp_path, 3_000_000)
    assert code == 1 and "Traceback" not in printed
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and re.search("No space left|File too large", errors[0]), printed
    assert "the same command goes on" in errors[0]
    assert again == 0
    differ = {name for name, data in made.items() if undisturbed.files.get(name) != data}
    # Paths to the pictures, and how many tasks at once.
    assert differ <= {"report/index.html", "config.yaml"} and set(made) == set(undisturbed.files)


def test_a_disk_without_room_for_features_is_told_before_the_first_is_computed(tmp_path):
    from heatcrop.training.rowfile import create_rows

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            create_rows(tmp_path / "a.npy", (1000, 10, 100), "float16")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(tmp_path / "a.npy")
    create_rows(tmp_path / "b.npy", (1000, 10, 100), "float16")
    assert (tmp_path / "b.npy").stat().st_blocks * 512 >= 2 * 1000 * 1000  # no holes: the room is taken


def test_a_folder_that_cannot_be_written_to_is_told(home, tmp_path):
    code, printed = read_only(home, tmp_path)
    assert code == 1 and "Traceback" not in printed
    assert re.search(r"^error: .*(Read-only|denied|not permitted|No such file).*", printed), printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("gigabytes", [0.06, 0.3, 1.5, 2.2])
def test_too_small_a_memory_limit_is_told_at_once(home, gigabytes):
    limit = int(gigabytes * 1e9)
    words = [sys.executable, str(ROOT / "pipeline.py"), "run", "--all", "--config", "tiny.yaml"]
    done = subprocess.run(
        ["sh", "-c", f'ulimit -v {limit // 1024}; exec "$@"', "sh", *words],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: the limit on memory (ulimit -v) is {limit / 1e9:.1f} GB")


def test_too_few_open_files_for_worker_processes_are_told_at_once(home, tmp_path):
    process = start(home, tmp_path / "run", 2, open_files=32)
    printed = finish(process, 1).splitlines()
    assert "may have 32 open files" in printed[-1] and "--jobs 1" in printed[-1]
    assert [line.startswith("error: ") for line in printed].count(True) == 1
    assert not any("Traceback" in line for line in printed)


def test_no_limit_is_no_fault():
    assert memory_fault() is None


def allocation_of_mxnet():
    try:
        mxnet().nd.zeros((2**40, 2**20)).asnumpy()
    except Exception as error:
        return error
    raise AssertionError("an exabyte was allocated")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), "runs/x: No space left.*make room"),
        (OSError(errno.EROFS, "Read-only file system", "r"), "r: Read-only file system.*--out"),
        (PermissionError(errno.EACCES, "Permission denied", "r"), "r: Permission denied.*--out"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files.*ulimit -n"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory ran out.*--jobs 1"),
        (MemoryError(), "memory ran out"),
        (RuntimeError("can't start new thread"), "memory ran out"),
        (ImportError("libx.so: cannot allocate memory in static TLS block"), "memory ran out"),
        (ValueError("shapes do not fit"), None),
        (ZeroDivisionError("division by zero"), None),
    ],
)
def test_what_the_machine_lacks_is_told_and_a_fault_of_the_program_is_not_hidden(error, words):
    told = explain(error)
    assert told is None if words is None else re.search(words, told)


def test_memory_that_mxnet_cannot_have_is_told():
    assert "memory" in (explain(allocation_of_mxnet()) or "")
