"""A tiny run for tests: its data and configuration, its commands, and the comparison of its files."""

from __future__ import annotations

import dataclasses
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from heatcrop.data.images import encode_jpeg
from heatcrop.rendered import write_dataset
from heatcrop.runs.lock import LOCK
from heatcrop.runs.records import TIMES
from heatcrop.runs.swap import is_remnant

ROOT = Path(__file__).parents[1]
TASKS = ("neck_design_labels", "lapel_design_labels")
TINY = ("--config", "tiny.yaml")
PER_CLASS, TEST_PER_CLASS, SIDE_PX = 4, 1, 96
CONFIG = {
    "name": "tiny",
    "data": {"source": "files", "roots": ["data"]},
    "network": {"frozen_blocks": 17, "input_px": 96},
    "cam": {"training": {"epochs": 2, "learning_rate": 0.003}, "views": 1, "folds": 2},
    "crop": {"rule": {"threshold": 0.8, "margin": 0.0, "least_contrast": 0.0}, "search": {"pictures": 0}},
    "finetune": {"training": {"epochs": 2, "average": 0.9}, "views": 1},
}


@dataclasses.dataclass(frozen=True)
class Reference:
    """An uninterrupted run.

    Attributes
    ----------
    files : dict of str to bytes
        See :func:`comparable_files`.
    starts, ends : float
        Seconds until its folder appeared, and in total.
    """

    files: dict[str, bytes]
    starts: float
    ends: float


def make_project(folder: Path) -> None:
    """Write a few images to ``data`` and a configuration for them to ``tiny.yaml``."""
    write_dataset(folder / "data", PER_CLASS, TEST_PER_CLASS, 0, TASKS, workers=1, side_px=SIDE_PX)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))


def draw_pairs(folder: Path, side_px: int, brighter: Sequence[tuple[slice, slice]]) -> dict[str, list[int]]:
    """Draw 8 training, 4 validation and 4 test images of noise, of two kinds in turn.

    The images of kind `k` are brighter in the region ``brighter[k]``. Returns the kinds, by split; image
    `i` of a split is ``<split><i>.jpg``.
    """
    rng, kinds = np.random.default_rng(0), {"train": [0, 1] * 4, "val": [0, 1] * 2, "test": [0, 1] * 2}
    for split, of_split in kinds.items():
        for i, kind in enumerate(of_split):
            image = rng.integers(0, 90, (side_px, side_px, 3), np.uint8)
            image[brighter[kind]] += np.uint8(120)
            (folder / f"{split}{i}.jpg").write_bytes(encode_jpeg(image))
    return kinds


def pipeline(*words: object) -> list[str]:
    """Return the command line of a pipeline command."""
    return [sys.executable, str(ROOT / "pipeline.py"), *map(str, words)]


def tiny_run(out: Path | str, jobs: int, *settings: str) -> list[str]:
    """Return the command line of the tiny run, to be started in the project's folder."""
    changes = [word for setting in settings for word in ("--set", setting)]
    return pipeline("run", "--all", "--config", "tiny.yaml", "--out", out, "--jobs", jobs, *changes)


def start(folder: Path, out: Path, jobs: int, open_files: int = 0) -> subprocess.Popen[str]:
    """Start the tiny run in a process group of its own.

    Parameters
    ----------
    folder : Path
        From :func:`make_project`.
    out : Path
    jobs : int
    open_files : int
        Limit of open files of each process; 0 for the system's.
    """

    def prepare() -> None:
        restore_signals()
        if open_files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))

    return subprocess.Popen(
        tiny_run(out, jobs),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=prepare,
    )


def restore_signals() -> None:
    """Restore the defaults of SIGINT, which shells ignore in background commands, and of SIGHUP, as nohup."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def finish(process: subprocess.Popen[str], expected: int = 0) -> str:
    """Wait until a run ends with the expected exit code, and return its messages."""
    _, printed = process.communicate(timeout=300)
    assert process.returncode == expected, f"code {process.returncode}: {printed}"
    return printed


def wait_for(path: Path, process: subprocess.Popen[str]) -> float:
    """Wait until a file exists or the process has ended; return the time."""
    while not path.exists() and process.poll() is None:
        time.sleep(0.002)
    return time.monotonic()


def wait_until(condition: Callable[[], object], seconds: float = 240.0) -> None:
    """Wait until a condition holds; AssertionError where it does not within the given time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.01)


def file_stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Read modification time and inode of all files below a folder: they change where a file is written."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != LOCK:
            status = path.stat()
            found[path] = status.st_mtime_ns, status.st_ino
    return found


def parse_probabilities(texts: Iterable[str]) -> np.ndarray:
    """Read ``p1;p2;…`` of some rows, ndarray of float, shape (N, C)."""
    return np.array([text.split(";") for text in texts], float)


def make_reference(folder: Path, jobs: int, open_files: int = 0) -> Reference:
    """Make an uninterrupted run in ``reference<jobs>``."""
    out, began = folder / f"reference{jobs}", time.monotonic()
    process = start(folder, out, jobs, open_files)
    starts = wait_for(out / "config.yaml", process) - began
    finish(process)
    return Reference(comparable_files(out), starts, time.monotonic() - began)


def comparable_files(run: Path) -> dict[str, bytes]:
    """Read all files of a run by name, without measured times."""
    found = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file() and p.name != LOCK):
        data = path.read_bytes()
        if path.name == "history.csv":
            data = pd.read_csv(path, dtype=str).drop(columns="seconds").to_csv().encode()
        elif path.suffix == ".json":
            data = json.dumps(_without_times(json.loads(data))).encode()
        found[path.relative_to(run).as_posix()] = data
    return found


def _without_times(value: object) -> object:
    """Remove seconds from JSON, and the sizes of files that hold seconds."""
    if isinstance(value, dict):
        varying = [key for key in value if key in TIMES or key.endswith(("history.csv", "rule.json"))]
        return {key: _without_times(v) for key, v in value.items() if key not in varying}
    return [_without_times(v) for v in value] if isinstance(value, list) else value


def differences(run: Path, reference: Reference) -> list[str]:
    """List files that only one of two runs has, files whose bytes differ, and unfinished files."""
    found = comparable_files(run)
    names = sorted({*found, *reference.files})
    unfinished = [p.name for p in run.rglob("*") if is_remnant(p) and p.name != LOCK]
    return unfinished + [name for name in names if found.get(name) != reference.files.get(name)]
