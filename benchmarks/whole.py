"""Whole runs against whole runs: nothing done twice, tasks side by side, the time until a score."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
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
) -> Iterator[tuple[str, float | None, Ratio]]:
    """Yield name, greatest ratio of seconds that is aimed at, and the ratio found."""
    demo = out / "demo"
    shutil.rmtree(demo, ignore_errors=True)
    first = _seconds(demo)
    again = np.array([_seconds(demo) for _ in range(_REPEATS)])
    ratios = again / first
    yield (
        "second run of an unchanged configuration / the first", 0.02,
        Ratio(*(float(f(ratios)) for f in (np.median, np.min, np.max)), float(np.median(again)), first),
    )  # fmt: skip
    shutil.rmtree(demo, ignore_errors=True)
    yield "demo with --jobs 2 / --jobs 1", None, _one(first, _seconds(demo, "--jobs", "1"))
    if photos is not None and peers is not None:
        for task in ("collar", "pant", "sleeve"):
            ratio = _time_to_score(out / "photos", photos, peers, task)
            if ratio is not None:
                yield f"time to the score of a full fine-tune in PyTorch, {task}", 0.4, ratio


def _time_to_score(out: Path, photos: Path, peers: str, task: str) -> Ratio | None:
    """Seconds until stage 1 reaches what a full fine-tune in PyTorch ends with, over that fine-tune's."""
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
        return None
    seconds = json.loads(folder.marker("cam").read_text(encoding="utf-8"))["seconds"]["train"]
    # Reading and features come before the first epoch; the fold networks come after the last.
    before = seconds - history["seconds"].sum()
    return _one(before + float(final["seconds"].iloc[: reached[0] + 1].sum()), told["seconds"])
