"""Signals end a process within seconds, whatever it is doing."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.soak.crash import INTERRUPTED, interrupt, wait_for_handler
from tests.tiny_run import ROOT, restore_signals, start

MESSAGE = "interrupted; the same command continues with what is finished\n"


def run_code(*words, **options):
    return subprocess.run(words, cwd=ROOT, text=True, capture_output=True, timeout=60, **options)


IGNORED = (
    "import os, signal; from heatcrop.cli.signals import handle_signals; handle_signals();"
    "os.kill(os.getpid(), signal.SIGHUP); print('continues')"
)


def test_a_program_under_nohup_outlives_its_terminal():
    done = run_code("nohup", sys.executable, "-c", IGNORED)
    assert done.returncode == 0
    assert "continues" in done.stdout


IN_A_LIBRARY = """
import contextlib, ctypes
from heatcrop.cli.signals import handle_signals
handle_signals()
lock, libc = ctypes.create_string_buffer(256), ctypes.CDLL(None)
libc.pthread_mutex_lock(lock)
with contextlib.suppress(KeyboardInterrupt):  # where the signal comes before the call
    print("ready", flush=True)
    libc.pthread_mutex_lock(lock)  # a call that never ends, also not by signals
libc.pthread_mutex_lock(lock)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_process_in_a_library_call_ends_within_seconds(number):
    words = [sys.executable, "-c", IN_A_LIBRARY]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    process = subprocess.Popen(words, preexec_fn=restore_signals, **how)
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    process.send_signal(number)
    _, printed = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert process.returncode == INTERRUPTED
    assert printed == MESSAGE


UNRAISABLE = """
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
        Held()  # Python drops what is raised in its __del__
        time.sleep(0.1)
except KeyboardInterrupt:
    signals.report_interruption()
    raise SystemExit(signals.INTERRUPTED)
"""


def test_a_signal_where_nothing_can_be_raised_ends_the_process():
    done = run_code(sys.executable, "-c", UNRAISABLE)
    assert done.stderr == MESSAGE
    assert done.returncode == INTERRUPTED


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


def test_the_first_worker_process_ignores_ctrl_c_too(tmp_path):
    (tmp_path / "first.py").write_text(FIRST_WORKER)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = run_code(sys.executable, tmp_path / "first.py", env=env, preexec_fn=restore_signals)
    assert done.stdout == "ended with 0\n"
    assert done.stderr == ""


@pytest.mark.parametrize("how", ["terminate", "ctrl-c", "hang up"])
def test_a_run_that_loads_its_libraries_ends_as_well(tiny_home, how):
    process = start(tiny_home, tiny_home / "loading", 1)
    wait_for_handler(process)
    assert interrupt(process, how) == ""
    process.stderr.close()
    assert process.returncode == INTERRUPTED
    assert not (tiny_home / "loading").exists()


WAITING = """
import sys, threading, time
from heatcrop.cli.main import main
threading.Thread(target=time.sleep, args=(60,)).start()  # as a library's that waits for an answer
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("words", "expected"), [(["report", "--run", "absent"], 1), (["run", "--config", "absent.yaml"], 2)]
)
def test_a_failed_command_ends_within_seconds(words, expected):
    started = time.monotonic()
    done = run_code(sys.executable, "-c", WAITING, *words)
    assert done.returncode == expected
    assert "absent" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - started < 30
