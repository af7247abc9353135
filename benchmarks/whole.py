"""Whole runs against whole runs: nothing done twice, tasks side by side, the time until a score."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from attributes.tasks import FASHIONAI
from benchmarks.arena import Ratio
from runfolder.folder import RunFolder

_REPEATS = 5


def _seconds(out: Path, *options: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "pipeline.py", "run", "--all", "--out", str(out), *options], check=True)
    return time.perf_counter() - started


def _one(ours: float, theirs: float) -> Ratio:
    """Of works that take too long to be repeated."""
    return Ratio(ours / theirs, ours / theirs, ours / theirs, ours, theirs)


def whole_runs(
    out: Path, photos: Path | None, peers: str | None
) -> list[tuple[str, float | None, Callable[[], Ratio]]]:
    """List what is compared: name, greatest ratio of seconds that is aimed at, and how to find the ratio."""
    found: list[tuple[str, float | None, Callable[[], Ratio]]] = [
        ("second run of an unchanged configuration / the first", 0.02, lambda: _second_run(out / "demo")),
        ("demo of few pictures with --jobs 2 / --jobs 1", None, lambda: _side_by_side(out / "jobs")),
    ]
    if photos is not None and peers is not None:
        for task in ("collar", "pant", "sleeve"):
            score = partial(_time_to_score, out / "photos", photos, peers, task)
            found.append((f"time to the score of a full fine-tune in PyTorch, {task}", 0.4, score))
    return found


def _second_run(demo: Path) -> Ratio:
    """The whole default run, as `make run` does it; then again and again."""
    shutil.rmtree(demo, ignore_errors=True)
    first = _seconds(demo)
    again = np.array([_seconds(demo) for _ in range(_REPEATS)])
    low, value, high = (float(f(again / first)) for f in (np.min, np.median, np.max))
    return Ratio(value, low, high, float(np.median(again)), first)


def _side_by_side(demo: Path) -> Ratio:
    """A quarter of the default's pictures: all eight tasks, both ways."""
    seconds = []
    for jobs in ("2", "1"):
        shutil.rmtree(demo, ignore_errors=True)
        seconds.append(_seconds(demo, "--jobs", jobs, "--set", "data.rendered.per_class=15"))
    return _one(*seconds)


def _time_to_score(out: Path, photos: Path, peers: str, task: str) -> Ratio:
    """Seconds until stage 1 reaches the best score of a full fine-tune in PyTorch, over that fine-tune's.

    Infinite where it does not reach it.
    """
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run(
        [sys.executable, "pipeline.py", "stage", "cam", "--task", task, "--config", "configs/photos.yaml",
         "--data", str(photos), "--out", str(out), "--set", "network.input_px=224"],
        check=True,
    )  # fmt: skip
    name = next(t.name for t in FASHIONAI if t.short == task)
    folder = RunFolder(out).task(name)
    rows = pd.read_csv(folder.predictions(1), usecols=["image", "split"])
    labels = pd.read_csv(
        photos / "base/Annotations/label.csv", header=None, names=["image", "task", "label"], dtype=str
    )
    labels = labels[labels["task"] == name].drop(columns="task")
    table = rows.merge(labels, on="image")
    table["path"] = [str((photos / "base" / image).resolve()) for image in table["image"]]
    table.to_csv(out / "rows.csv", index=False)
    subprocess.run(
        [peers, "-m", "benchmarks.peer_finetune", str(out / "rows.csv"), str(out / "peer.json")], check=True
    )
    told = json.loads((out / "peer.json").read_text(encoding="utf-8"))
    history = pd.read_csv(folder.history(1))
    final = history[history["network"] == "final"]
    reached = np.flatnonzero(final["val_map"].to_numpy() >= told["val_map"])
    if not len(reached):
        return _one(float("inf"), told["seconds"])
    seconds = json.loads(folder.marker("cam").read_text(encoding="utf-8"))["seconds"]["train"]
    # Reading and features come before the first epoch; the fold networks come after the last.
    before = seconds - history["seconds"].sum()
    return _one(before + float(final["seconds"].iloc[: reached[0] + 1].sum()), told["seconds"])
