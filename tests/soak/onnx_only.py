"""Predict with an exported run in a new environment that holds requirements/onnx.txt alone.

``python -m tests.soak.onnx_only`` trains a tiny run, exports it, installs the environment with the newest
Python found, predicts there and with MXNet here, and compares. Needs a package index. Exit code 1 when a
fused probability differs by more than 1e-4, or a box differs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from tests.tiny_run import ROOT, make_project, parse_probabilities, pipeline, tiny_run

TOLERANCE = 1e-4
_PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11", "python3.10")
# Pretrained weights, so that probabilities are not uniform, and a rule that crops many of the images.
_SETTINGS = (
    "network.backbone=efficientnet_lite0",
    "network.weights=imagenet",
    "network.frozen_blocks=16",
    "network.input_px=128",
    "cam.folds=1",
    "crop.rule.threshold=0.85",
    "crop.rule.margin=0",
    "crop.rule.least_contrast=0",
    "crop.rule.invisible=crop",
)
_ABSENT = "mxnet", "gluoncv", "onnx", "pandas", "sklearn"


def newest_python() -> str:
    """Return the newest CPython on the path that has wheels of all locked packages, else this one."""
    for name in _PYTHONS:
        try:
            done = subprocess.run([name, "-c", "import venv"], capture_output=True, check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return name
    return sys.executable


def install(environment: Path, python: str) -> Path:
    """Make an environment of requirements/onnx.txt and nothing else; return its Python."""
    subprocess.run([python, "-m", "venv", str(environment)], check=True)
    installed = environment / "bin" / "python"
    pip = [str(installed), "-m", "pip"]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "install", *options, "-r", str(ROOT / "requirements/onnx.txt")], check=True)
    subprocess.run([*pip, "check"], check=True, stdout=subprocess.DEVNULL)
    for name in _ABSENT:
        found = subprocess.run([installed, "-c", f"import {name}"], capture_output=True, check=False)
        assert found.returncode == 1, f"{name} is installed in {environment}"
    return installed


def predict(
    python: Path | str, folder: Path, run: str, engine: str, *options: str
) -> tuple[pd.DataFrame, ...]:
    """Predict all images of the project; return the tables of predictions and boxes."""
    tables = [folder / f"{engine}.csv", folder / f"{engine}_boxes.csv"]
    words = pipeline(
        "predict", "data", "--run", run, "--engine", engine, "--out", tables[0], "--boxes", tables[1]
    )
    subprocess.run([str(python), *words[1:], *options], cwd=folder, check=True)
    return tuple(pd.read_csv(path, dtype=str, keep_default_na=False) for path in tables)


def main() -> int:
    """Train, export, install, predict twice, compare; print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=newest_python(), help="the interpreter of the new environment")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = install(folder / "environment", options.python)
        make_project(folder)
        subprocess.run(tiny_run("run", 1, *_SETTINGS), cwd=folder, check=True)
        subprocess.run(pipeline("export", "--run", "run", "--out", "exported"), cwd=folder, check=True)
        theirs, their_boxes = predict(sys.executable, folder, "run", "mxnet", "--no-gallery")
        (folder / "run").rename(folder / "moved")
        ours, our_boxes = predict(python, folder, "exported", "onnx")
    assert ours[["image", "task"]].equals(theirs[["image", "task"]]), "other images"
    largest, rows = 0.0, 0
    for task in ours["task"].unique():
        p, q = (parse_probabilities(t[t["task"] == task]["probabilities"]) for t in (ours, theirs))
        largest, rows = max(largest, float(np.abs(p - q).max())), rows + len(p)
    same = int((our_boxes == their_boxes).all(axis=1).sum())
    cropped = int(our_boxes["fallback"].isin(["", "usual"]).sum())
    version = subprocess.run([options.python, "--version"], capture_output=True, text=True, check=True).stdout
    print(
        f"{version.strip()}: {rows} predictions differ from MXNet's by at most {largest:.1e}; "
        f"{same} of {rows} boxes the same, {cropped} of them crops"
    )
    return int(largest > TOLERANCE or same < rows or cropped < rows / 5)


if __name__ == "__main__":
    sys.exit(main())
