"""Compare the times of complete runs: an unchanged one, parallel tasks, and the time to a score."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.commands import pipeline
from benchmarks.contenders import Ratio
from heatcrop.data.tasks import FASHIONAI
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.records import stage_times

_REPEATS = 5
# Stage 1 for the time to a score: one network, with fewer frozen blocks than in `configs/photos.yaml`.
_SCORE_SETTINGS = ("network.input_px=224", "cam.folds=1", "network.frozen_blocks=13")


def _seconds(out: Path, *options: str, settings: tuple[str, ...] = ()) -> float:
    started = time.perf_counter()
    subprocess.run(pipeline("run", "--all", "--out", out, *options, settings=settings), check=True)
    return time.perf_counter() - started


def _single(ours: float, theirs: float) -> Ratio:
    """Return the ratio of times that are too long to be repeated."""
    return Ratio(ours / theirs, ours / theirs, ours / theirs, ours, theirs)


def full_runs(
    out: Path, photos: Path | None, peers: str | None
) -> list[tuple[str, float | None, Callable[[], Ratio]]]:
    """List the comparisons: name, greatest ratio of seconds as target, and a function that measures it."""
    comparisons: list[tuple[str, float | None, Callable[[], Ratio]]] = [
        ("second run of an unchanged configuration / the first", 0.02, lambda: _second_run(out / "demo")),
        ("demo of few images with --jobs 2 / --jobs 1", None, lambda: _parallel(out / "jobs")),
    ]
    if photos is not None and peers is not None:
        for task in ("collar", "pant", "sleeve"):
            for best, words in ((False, "ends with"), (True, "has in its best epoch")):
                score = partial(_time_to_score, out / "photos", photos, peers, task, best)
                name = f"time to the score that a full fine-tune in PyTorch {words}, {task}"
                comparisons.append((name, 0.4, score))
    return comparisons


def _second_run(demo: Path) -> Ratio:
    """Time the default run, and its repetitions without a change."""
    shutil.rmtree(demo, ignore_errors=True)
    first = _seconds(demo)
    again = np.array([_seconds(demo) for _ in range(_REPEATS)])
    low, value, high = (float(f(again / first)) for f in (np.min, np.median, np.max))
    return Ratio(value, low, high, float(np.median(again)), first)


def _parallel(demo: Path) -> Ratio:
    """Time all eight tasks with two jobs and with one, on a quarter of the default's images."""
    seconds, settings = [], ("data.rendered.per_class=15",)
    # The images are rendered before: the first run would render them for both.
    subprocess.run(pipeline("check", "--no-speed", settings=settings), check=True)
    for jobs in ("2", "1"):
        shutil.rmtree(demo, ignore_errors=True)
        seconds.append(_seconds(demo, "--jobs", jobs, settings=settings))
    return _single(*seconds)


def _time_to_score(out: Path, photos: Path, peers: str, task: str, best: bool) -> Ratio:
    """Compare the seconds until stage 1 and a full fine-tune in PyTorch reach a score.

    The score is that of the fine-tune's last epoch, or with `best` of its best epoch, chosen on the same
    validation images. The ratio is infinite where stage 1 does not reach it.
    """
    ours, theirs = _histories(out / task, photos, peers, task)
    place = int(theirs["val_map"].argmax()) if best else len(theirs) - 1
    reached = np.flatnonzero(ours["val_map"].to_numpy() >= theirs["val_map"].iloc[place])
    seconds = float(ours["seconds"].iloc[reached[0]]) if len(reached) else float("inf")
    return _single(seconds, float(theirs["seconds"].iloc[place]))


@functools.cache
def _histories(out: Path, photos: Path, peers: str, task: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train both; return ``val_map`` and ``seconds`` since the start of each epoch, features included."""
    shutil.rmtree(out, ignore_errors=True)
    options = ("--config", "configs/photos.yaml", "--data", photos, "--out", out)
    stage1 = pipeline("stage", "cam", "--task", task, *options, settings=_SCORE_SETTINGS)
    subprocess.run(stage1, check=True)
    name = next(t.name for t in FASHIONAI if t.short == task)
    folder = RunFolder(out).task(name)
    rows = pd.read_csv(folder.predictions_csv(1), usecols=["image", "split"])
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
    before = stage_times(folder)["seconds"]["train"] - ours["seconds"].sum()
    return pd.DataFrame({"seconds": before + ours["seconds"].cumsum(), "val_map": ours["val_map"]}), theirs
