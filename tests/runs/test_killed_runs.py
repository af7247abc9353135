"""Runs that are killed or interrupted resume to the files of an undisturbed run."""

import os
import re
import signal
import subprocess
import sys

import pytest

from heatcrop.runs.folder import STAGES, RunFolder
from tests.soak.crash import INTERRUPTED, interrupt
from tests.tiny_run import ROOT, TASKS, TINY, restore_signals, start, tiny_run, wait_until

NECK, LAPEL = TASKS

# Kills itself right after the first file with the given ending takes its place; prints which checkpoints it
# continues from.
KILL = """
import os, signal, sys
from heatcrop.training.checkpoint import Checkpoint
ending = sys.argv.pop(1)
read = Checkpoint.read
def printed(checkpoint):
    found = read(checkpoint)
    if found is not None:
        print("continues from", checkpoint.path.name, flush=True)
    return found
Checkpoint.read = printed
def killed_after(move):
    def moved(source, target, **options):
        move(source, target, **options)
        if str(target).endswith(ending):
            os.kill(os.getpid(), signal.SIGKILL)
    return moved
os.replace, os.rename = killed_after(os.replace), killed_after(os.rename)
from heatcrop.cli.main import main
sys.exit(main())
"""


def outdate(run, stage):
    RunFolder(run).task(NECK).record(stage).unlink()


def run_until(home, run, ending):
    """Run until a file appears, check that the run was killed there, and return what it printed."""
    words = [sys.executable, "-c", KILL, ending, *tiny_run(run.name, 1)[2:]]
    how = {"cwd": home, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    done = subprocess.run(words, timeout=300, **how)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout


def test_a_run_that_is_killed_twice_continues_from_its_checkpoint_to_the_same_files(
    tiny_home, run_copy, resume
):
    """Killed while stage 1 trains, and when the old crops are moved and the new ones are not there yet."""
    outdate(run_copy, "cam")
    run_until(tiny_home, run_copy, "fold 0.checkpoint")
    assert (run_copy / "cache" / NECK / "cam" / "fold 0.checkpoint").is_file()
    assert "continues from fold 0.checkpoint" in run_until(tiny_home, run_copy, ".crops.old")
    assert not RunFolder(run_copy).task(NECK).record("crop").exists()
    assert resume() == []
    assert not (run_copy / "cache" / NECK / "cam").exists()


@pytest.mark.soak
def test_a_stage_whose_artefacts_are_partly_new_is_made_again(tiny_home, run_copy, resume):
    outdate(run_copy, "finetune")
    run_until(tiny_home, run_copy, "stage3/predictions.npz")
    assert not RunFolder(run_copy).task(NECK).record("finetune").exists()
    assert resume() == []


def test_a_run_that_was_killed_after_its_stages_is_scored_and_reported(tiny_home, run_copy, resume):
    (run_copy / "report" / "index.html").unlink()
    (run_copy / "submission.csv").unlink()
    run_until(tiny_home, run_copy, "metrics.json")
    assert not (run_copy / "submission.csv").exists()
    assert resume() == []
    assert (run_copy / "report" / "index.html").is_file()


def test_a_run_with_workers_is_owned_interrupted_and_resumed(call, tiny_home, run_copy, resume):
    """Also with few open files a process."""
    outdate(run_copy, "finetune")
    process = start(tiny_home, run_copy, 2, open_files=64)
    try:
        cache = run_copy / "cache" / NECK / "finetune"
        wait_until(lambda: list(cache.glob("*.checkpoint")) or process.poll() is not None)
        code, printed = call("run", "--all", *TINY, "--out", run_copy.name)
        assert code == 1
        assert re.search(rf"process {process.pid} on \S+, since 2\d\d\d-.*wait until", printed), printed
        assert interrupt(process, "ctrl-c") == ""
        assert process.returncode == INTERRUPTED
    finally:
        process.kill()
        process.stderr.close()
    assert not RunFolder(run_copy).task(NECK).record("finetune").exists()
    assert resume() == []


def test_any_number_of_threads_gives_the_same_files(call, finished_run, tiny_home):
    out = tiny_home / "threads"
    words = ("--task", "neck", *TINY, "--out", out, "--jobs", "1", "--set", "runtime.threads=5")
    for stage in STAGES:
        code, printed = call("stage", stage, *words)
        assert code == 0, printed
    names = [p.relative_to(finished_run) for p in (finished_run / NECK).rglob("*") if p.is_file()]
    names = [n for n in names if "sheets" not in n.parts and n.name != "suspects.csv"]  # of a complete run
    names = [name for name in names if name.name != "history.csv" and name.suffix != ".json"]
    assert len(names) > 30
    assert [n for n in names if (out / n).read_bytes() != (finished_run / n).read_bytes()] == []


# --- what killed processes leave


UNFINISHED = (
    ".metrics.json.123-456.partial",
    f"{NECK}/stage1/.weights.params.1-2.partial",
    f"{NECK}/.crops.partial/half.jpg",
    ".report.old/half.jpg",
)
KEPT = (
    "notes.partial",
    "report.old/index.html",
    "mine/crops.partial/0.jpg",
    f"{NECK}/crops.old/0.jpg",
    "report/notes.txt",
)


def test_unfinished_files_are_removed_and_files_of_a_user_stay(call, run_copy, resume):
    for path in (run_copy / name for name in (*UNFINISHED, *KEPT)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    resume()
    assert call("report", "--run", run_copy)[0] == 0
    assert [name for name in UNFINISHED if (run_copy / name).exists()] == []
    assert [name for name in KEPT if (run_copy / name).read_text() != "text"] == []


def test_signals_have_their_default_in_started_runs():
    """Also where this process ignores SIGHUP, as under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        code = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_DFL)"
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, preexec_fn=restore_signals, capture_output=True, text=True)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done.stdout == "True\n"
