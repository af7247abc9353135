"""Too little disk, memory or open files, and folders that cannot be written to, are reported in one line."""

import errno
import re
import resource
import subprocess

import pytest

from heatcrop.cli.errors import explain
from heatcrop.nets.gluon.engine import mxnet
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.limits import memory_fault
from tests.soak.resource_limits import read_only
from tests.tiny_run import TASKS, finish, pipeline, start, tiny_run


def errors(printed):
    assert "Traceback" not in printed
    return [line for line in printed.splitlines() if line.startswith("error: ")]


@pytest.mark.soak
def test_a_run_that_cannot_write_its_files_is_resumed_when_it_can(tiny_home, run_copy, resume):
    """A full disk behaves the same, see tests/soak/resource_limits.py."""
    RunFolder(run_copy).task(TASKS[0]).record("finetune").unlink()

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    how = {"cwd": tiny_home, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(tiny_run(run_copy.name, 1), preexec_fn=limit_files, **how)
    assert done.returncode == 1
    (error,) = errors(done.stderr)
    assert "File too large" in error
    assert "the same command continues" in error
    assert resume() == []


def test_a_folder_that_cannot_be_written_to_is_reported(tiny_home, tmp_path):
    code, printed = read_only(tiny_home, tmp_path)
    assert code == 1
    assert re.search(r"^error: .*(Read-only|denied|not permitted|No such file).*", printed), printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("gigabytes", [0.06, 2.2])
def test_too_small_a_memory_limit_is_reported_at_once(tiny_home, gigabytes):
    kib = int(gigabytes * 1e9) // 1024
    words = [
        "sh",
        "-c",
        f'ulimit -v {kib}; exec "$@"',
        "sh",
        *pipeline("run", "--all", "--config", "tiny.yaml"),
    ]
    done = subprocess.run(words, cwd=tiny_home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: the limit on memory (ulimit -v) is {kib * 1024 / 1e9:.1f} GB")


def test_without_a_limit_there_is_enough_memory():
    assert memory_fault() is None


def test_too_few_open_files_for_workers_are_reported_at_once(tiny_home):
    printed = finish(start(tiny_home, tiny_home / "few-files", 2, open_files=32), 1)
    (error,) = errors(printed)
    assert "may have 32 open files" in error
    assert "--jobs 1" in error


def allocate_with_mxnet():
    try:
        mxnet().nd.zeros((2**40, 2**20)).asnumpy()
    except Exception as error:
        return error
    raise AssertionError("an exabyte was allocated")


def test_memory_that_mxnet_cannot_allocate_is_explained():
    assert "memory ran out" in explain(allocate_with_mxnet())


@pytest.mark.parametrize(
    ("error", "explained"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), "runs/x: No space left.*make room"),
        (OSError(errno.EROFS, "Read-only file system", "r"), "r: Read-only file system.*--out"),
        (PermissionError(errno.EACCES, "Permission denied", "r"), "r: Permission denied.*--out"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files.*ulimit -n"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory ran out.*--jobs 1"),
        (MemoryError(), "memory ran out"),
        (RuntimeError("can't start new thread"), "memory ran out"),
        (ImportError("libx.so: cannot allocate memory in static TLS block"), "memory ran out"),
    ],
)
def test_what_the_machine_lacks_is_explained(error, explained):
    assert re.search(explained, explain(error))


@pytest.mark.parametrize("error", [ValueError("shapes do not fit"), ZeroDivisionError("division by zero")])
def test_a_fault_of_the_program_is_not_explained(error):
    assert explain(error) is None
