"""Kill a tiny run at random moments, resume it, and compare all it leaves with a run that was let be.

``python -m tests.soak.crash --moments 100``; the same seed kills at the same moments of a run, as far as a
clock can. Exit code 1 when one of them ends differently.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from heatcrop.rendered import write_dataset
from heatcrop.runs.leftovers import is_ours
from heatcrop.runs.lock import LOCK

ROOT = Path(__file__).parents[2]
TASKS = ("neck_design_labels", "lapel_design_labels")
INTERRUPTED, ENDS_WITHIN_SECONDS = 130, 5.0
# SIGKILL of the first process alone leaves its workers to end by themselves; a terminal speaks to all.
KILLS = ("kill", "kill all", "terminate", "ctrl-c", "hang up")


@dataclasses.dataclass(frozen=True)
class Reference:
    """A run that nobody disturbed.

    Attributes
    ----------
    files : dict of str to bytes
        See :func:`artefacts`.
    starts, ends : float
        Seconds until its folder appeared, and in all.
    """

    files: dict[str, bytes]
    starts: float
    ends: float


def make_home(home: Path) -> None:
    """Draw a few pictures and write a configuration for them."""
    write_dataset(home / "data", 4, 1, 0, TASKS, workers=1, side_px=96)
    config = {
        "name": "tiny",
        "data": {"source": "files", "roots": ["data"]},
        "network": {
            "backbone": "mobilenet0.25",
            "weights": "none",
            "frozen_blocks": 20,
            "input_px": 64,
        },
        "cam": {"training": {"epochs": 4, "learning_rate": 0.003}, "views": 1, "folds": 2},
        "crop": {"rule": {"threshold": 0.8, "least_contrast": 0.0}, "search": {"pictures": 0}},
        "finetune": {"training": {"epochs": 4, "average": 0.9}, "views": 1},
    }
    (home / "tiny.yaml").write_text(yaml.safe_dump(config))


def start(home: Path, out: Path, jobs: int, *settings: str, files: int = 0) -> subprocess.Popen[str]:
    """Start a run in a process group of its own, with no more than `files` open files a process, if given."""

    def prepare() -> None:
        hear_ctrl_c()
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    words = [
        sys.executable,
        str(ROOT / "pipeline.py"),
        "run",
        "--all",
        "--config",
        "tiny.yaml",
        "--out",
        str(out),
        "--jobs",
        str(jobs),
    ]
    words += [word for setting in settings for word in ("--set", setting)]
    return subprocess.Popen(
        words,
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=prepare,
    )


def hear_ctrl_c() -> None:
    """Undo what a shell does to commands in its background: ignored, Ctrl-C could not be tested."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(process: subprocess.Popen[str], expected: int = 0) -> str:
    """Wait for a run's end; what it printed."""
    _, printed = process.communicate(timeout=300)
    assert process.returncode == expected, f"code {process.returncode}: {printed}"
    return printed


def reference(home: Path, jobs: int, *settings: str, files: int = 0) -> Reference:
    """Make a run that nobody disturbs."""
    out, began = home / f"reference{jobs}", time.monotonic()
    process = start(home, out, jobs, *settings, files=files)
    starts = wait_for(out / "config.yaml", process) - began
    finish(process)
    return Reference(artefacts(out), starts, time.monotonic() - began)


def wait_for(path: Path, process: subprocess.Popen[str]) -> float:
    """Wait until a file is there, or its maker is not; the time."""
    while not path.exists() and process.poll() is None:
        time.sleep(0.002)
    return time.monotonic()


def wait_to_hear(process: subprocess.Popen[str]) -> None:
    """Wait until a run has said what it does about SIGTERM; before, Python itself is still starting."""
    status, mask = Path(f"/proc/{process.pid}/status"), 1 << (signal.SIGTERM - 1)
    while process.poll() is None:
        caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status.read_text())
        if caught and int(caught[1], 16) & mask:
            return
        time.sleep(0.002)


def artefacts(run: Path) -> dict[str, bytes]:
    """All files of a run by name, without what is written down of a clock."""
    found = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file() and p.name != LOCK):
        data = path.read_bytes()
        if path.name == "history.csv":
            data = pd.read_csv(path, dtype=str).drop(columns="seconds").to_csv().encode()
        elif path.suffix == ".json":
            data = json.dumps(_timeless(json.loads(data))).encode()
        found[path.relative_to(run).as_posix()] = data
    return found


def _timeless(value: object) -> object:
    """JSON without seconds, and without the bytes of files that tell seconds: what they hold is compared."""
    if isinstance(value, dict):
        return {key: _timeless(v) for key, v in value.items() if key not in ("seconds", "bytes")}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def differences(run: Path, undisturbed: Reference) -> list[str]:
    """Names of files that one of the two lacks, or whose bytes differ; leftovers are such files too."""
    found = artefacts(run)
    names = sorted({*found, *undisturbed.files})
    leftovers = [p.name for p in run.rglob("*") if is_ours(p) and p.name != LOCK]
    return leftovers + [name for name in names if found.get(name) != undisturbed.files.get(name)]


def disturb(process: subprocess.Popen[str], how: str) -> str:
    """Kill a run, wait for its end, and tell what was not as it should be; '' when all was."""
    began = time.monotonic()
    if how == "kill":
        process.kill()
    elif how == "terminate":
        process.terminate()
    else:
        to_all = {"kill all": signal.SIGKILL, "ctrl-c": signal.SIGINT, "hang up": signal.SIGHUP}
        os.killpg(process.pid, to_all[how])
    try:
        _, printed = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"did not end within a minute of {how}"
    took = time.monotonic() - began
    if how in ("kill", "kill all") or process.returncode == 0:
        return ""
    if took > ENDS_WITHIN_SECONDS:
        return f"took {took:.1f} s to end"
    if process.returncode != INTERRUPTED or "Traceback" in printed:
        return f"ended with code {process.returncode}: {printed}"
    return "" if "the same command goes on" in printed else f"did not say how to go on: {printed}"


def one_moment(
    home: Path, undisturbed: Reference, jobs: int, rng: np.random.Generator, how: str
) -> tuple[str, bool]:
    """Kill a run at a random moment, one in four once more, resume it and compare.

    Returns
    -------
    fault : str
        Empty when all is well.
    hit : bool
        Whether the run was still at work when it was killed.
    """
    out, hit = home / "killed", False
    for again in range(1 + int(rng.random() < 0.25)):
        process = start(home, out, jobs)
        if rng.random() < 0.1:  # while it loads its libraries
            if how not in ("kill", "kill all"):
                wait_to_hear(process)
            time.sleep(rng.uniform(0, undisturbed.starts))
        else:
            # A resumed run ends sooner: its moments lie nearer to its start.
            work = (undisturbed.ends - undisturbed.starts) / (1 + again)
            wait_for(out / LOCK, process)
            time.sleep(rng.uniform(0, work))
        fault = "" if process.poll() is not None else disturb(process, how)
        hit |= process.returncode != 0
        if process.stderr:
            process.stderr.close()
        if fault:
            return fault, hit
    printed = finish(start(home, out, jobs))
    differ = differences(out, undisturbed)
    _remove(out)
    return f"differ after {how}: {', '.join(differ)}\n{printed}" if differ else "", hit


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def main() -> int:
    """Run the proof; print a line a moment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, faults = np.random.default_rng(options.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        make_home(home)
        undisturbed = {jobs: reference(home, jobs) for jobs in (1, 2)}
        number = tried = 0
        while number < options.moments:
            jobs, how = 1 + tried % 2, KILLS[tried // 2 % len(KILLS)]
            fault, hit = one_moment(home, undisturbed[jobs], jobs, rng, how)
            tried, number, faults = tried + 1, number + hit, faults + bool(fault)
            told = fault or ("the same" if hit else "had ended already, not counted")
            print(f"{number} of {options.moments}: {how}, {jobs} at once: {told}", flush=True)
            if (home / "killed").exists():
                _remove(home / "killed")
    print(f"{options.moments - faults} of {options.moments} the same")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
