"""Kill a tiny run at random moments, resume it, and compare its files with those of an uninterrupted run.

``python -m tests.soak.crash --moments 100``; the same seed kills at about the same moments. Exit code 1 when
files differ.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from heatcrop.runs.lock import LOCK
from tests.tiny_run import Reference, differences, finish, make_project, make_reference, start, wait_for

INTERRUPTED, ENDS_WITHIN_SECONDS = 130, 5.0
# "kill" ends the first process alone, and its workers must end by themselves; a terminal signals all.
KILLS = ("kill", "kill all", "terminate", "ctrl-c", "hang up")


def wait_for_handler(process: subprocess.Popen[str]) -> None:
    """Wait until a run handles SIGTERM; before, Python itself is starting."""
    status, mask = Path(f"/proc/{process.pid}/status"), 1 << (signal.SIGTERM - 1)
    while process.poll() is None:
        caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status.read_text())
        if caught and int(caught[1], 16) & mask:
            return
        time.sleep(0.002)


def interrupt(process: subprocess.Popen[str], how: str) -> str:
    """End a run by a signal, and describe what is wrong with its end; '' when nothing is."""
    began = time.monotonic()
    if how == "kill":
        process.kill()
    elif how == "terminate":
        process.terminate()
    else:
        signals = {"kill all": signal.SIGKILL, "ctrl-c": signal.SIGINT, "hang up": signal.SIGHUP}
        os.killpg(process.pid, signals[how])
    try:
        _, printed = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"did not end within a minute of {how}"
    seconds = time.monotonic() - began
    if how in ("kill", "kill all") or process.returncode == 0:
        return ""
    if seconds > ENDS_WITHIN_SECONDS:
        return f"took {seconds:.1f} s to end"
    if process.returncode != INTERRUPTED or "Traceback" in printed:
        return f"ended with code {process.returncode}: {printed}"
    return "" if "the same command continues" in printed else f"does not report how to resume: {printed}"


def kill_and_resume(
    folder: Path, reference: Reference, jobs: int, rng: np.random.Generator, how: str
) -> tuple[str, bool]:
    """Kill a run at a random moment, one in four twice, resume it and compare.

    Returns
    -------
    fault : str
        Empty if there is none.
    hit : bool
        Whether the run was still working when it was killed.
    """
    out, hit = folder / "killed", False
    for earlier_kills in range(1 + int(rng.random() < 0.25)):
        process = start(folder, out, jobs)
        if rng.random() < 0.1:  # while it imports its libraries
            if how not in ("kill", "kill all"):
                wait_for_handler(process)
            time.sleep(rng.uniform(0, reference.starts))
        else:
            # A resumed run ends sooner.
            work = (reference.ends - reference.starts) / (1 + earlier_kills)
            wait_for(out / LOCK, process)
            time.sleep(rng.uniform(0, work))
        fault = "" if process.poll() is not None else interrupt(process, how)
        hit |= process.returncode != 0
        if process.stderr:
            process.stderr.close()
        if fault:
            return fault, hit
    printed = finish(start(folder, out, jobs))
    differing = differences(out, reference)
    return f"differ after {how}: {', '.join(differing)}\n{printed}" if differing else "", hit


def main() -> int:
    """Kill runs; print one line a moment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_project(folder)
        references = {jobs: make_reference(folder, jobs) for jobs in (1, 2)}
        hits = tried = faults = 0
        while hits < options.moments:
            jobs, how = 1 + tried % 2, KILLS[tried // 2 % len(KILLS)]
            fault, hit = kill_and_resume(folder, references[jobs], jobs, rng, how)
            tried, hits, faults = tried + 1, hits + hit, faults + bool(fault)
            outcome = fault or ("same files" if hit else "had ended already, not counted")
            print(f"{hits} of {options.moments}: {how}, {jobs} jobs: {outcome}", flush=True)
            shutil.rmtree(folder / "killed", ignore_errors=True)
    print(f"{options.moments - faults} of {options.moments} with the same files")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
