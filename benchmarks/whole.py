"""Whole runs against whole runs: nothing done twice, tasks side by side, the time until a score."""

from __future__ import annotations

import functools
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

from benchmarks.arena import Ratio
from heatcrop.data.tasks import FASHIONAI
from heatcrop.runs.folder import RunFolder

_REPEATS = 5
# How stage 1 trains for that score: one network, of which more is trained than `configs/photos.yaml` has it.
_TO_SCORE = ("network.input_px=224", "cam.folds=1", "network.frozen_blocks=13")


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
            for best, words in ((False, "ends with"), (True, "has in its best epoch")):
                score = partial(_time_to_score, out / "photos", photos, peers, task, best)
                name = f"time to the score that a full fine-tune in PyTorch {words}, {task}"
                found.append((name, 0.4, score))
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


def _time_to_score(out: Path, photos: Path, peers: str, task: str, best: bool) -> Ratio:
    """Seconds until stage 1 reaches the score of a full fine-tune in PyTorch, over that fine-tune's.

    The score is the one that the fine-tune ends with, or with `best` that of its best epoch, chosen on the
    same validation pictures. Infinite where stage 1 does not reach it.
    """
    ours, theirs = _histories(out / task, photos, peers, task)
    place = int(theirs["val_map"].argmax()) if best else len(theirs) - 1
    reached = np.flatnonzero(ours["val_map"].to_numpy() >= theirs["val_map"].iloc[place])
    seconds = float(ours["seconds"].iloc[reached[0]]) if len(reached) else float("inf")
    return _one(seconds, float(theirs["seconds"].iloc[place]))


@functools.cache
def _histories(out: Path, photos: Path, peers: str, task: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train both; of each epoch, ``val_map`` and ``seconds`` since the start, features included."""
    shutil.rmtree(out, ignore_errors=True)
    plan = [word for setting in _TO_SCORE for word in ("--set", setting)]
    subprocess.run(
        [
            sys.executable,
            "pipeline.py",
            "stage",
            "cam",
            "--task",
            task,
            "--config",
            "configs/photos.yaml",
            "--data",
            str(photos),
            "--out",
            str(out),
            *plan,
        ],
        check=True,
    )
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
    theirs = pd.DataFrame(json.loads((out / "peer.json").read_text(encoding="utf-8"))["history"])
    ours = pd.read_csv(folder.history(1))
    seconds = json.loads(folder.marker("cam").read_text(encoding="utf-8"))["seconds"]["train"]
    before = seconds - ours["seconds"].sum()
    return pd.DataFrame({"seconds": before + ours["seconds"].cumsum(), "val_map": ours["val_map"]}), theirs
