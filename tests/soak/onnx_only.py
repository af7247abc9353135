"""Let a trained pipeline outlive MXNet: predict in a fresh environment of requirements/onnx.txt alone.

``python -m tests.soak.onnx_only`` trains a tiny run, exports it, installs the environment with the newest
Python there is, predicts in it and with MXNet here, and compares. Needs a package index. Exit code 1 when
a fused probability is further away than 1e-4, or a box is another one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from heatcrop.runs.predictions import split
from tests.soak.crash import ROOT, make_home

TOLERANCE = 1e-4
_PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11", "python3.10")
# Published weights, so that answers are more than even odds, and a rule that cuts many of the pictures.
_SETTINGS = tuple(
    word
    for setting in (
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
    for word in ("--set", setting)
)
_TOO_MANY = "mxnet", "gluoncv", "onnx", "pandas", "scipy"


def newest_python() -> str:
    """The newest CPython on the path that has wheels of all that is locked; this one where there is none."""
    for name in _PYTHONS:
        try:
            done = subprocess.run([name, "-c", "import venv"], capture_output=True, check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return name
    return sys.executable


def install(environment: Path, python: str) -> Path:
    """Make an environment of requirements/onnx.txt and nothing else; its Python."""
    subprocess.run([python, "-m", "venv", str(environment)], check=True)
    own = environment / "bin" / "python"
    subprocess.run(
        [
            own,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
            "-r",
            str(ROOT / "requirements/onnx.txt"),
        ],
        check=True,
    )
    subprocess.run([own, "-m", "pip", "check"], check=True, stdout=subprocess.DEVNULL)
    for name in _TOO_MANY:
        found = subprocess.run([own, "-c", f"import {name}"], capture_output=True, check=False)
        assert found.returncode == 1, f"{name} is installed there"
    return own


def predict(python: Path | str, home: Path, run: str, engine: str, *options: str) -> tuple[pd.DataFrame, ...]:
    """Predict all of home's pictures; answers and boxes."""
    tables = [home / f"{engine}.csv", home / f"{engine}_boxes.csv"]
    subprocess.run(
        [
            str(python),
            str(ROOT / "pipeline.py"),
            "predict",
            "data",
            "--run",
            run,
            "--engine",
            engine,
            "--out",
            str(tables[0]),
            "--boxes",
            str(tables[1]),
            *options,
        ],
        cwd=home,
        check=True,
    )
    return tuple(pd.read_csv(path, dtype=str, keep_default_na=False) for path in tables)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=newest_python(), help="the interpreter of the fresh environment")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        own = install(home / "environment", wanted.python)
        make_home(home)
        for words in (
            ("run", "--all", "--config", "tiny.yaml", "--out", "run", *_SETTINGS),
            ("export", "--run", "run", "--out", "exported"),
        ):
            subprocess.run([sys.executable, str(ROOT / "pipeline.py"), *words], cwd=home, check=True)
        theirs, their_boxes = predict(sys.executable, home, "run", "mxnet", "--no-gallery")
        (home / "run").rename(home / "run gone")
        ours, our_boxes = predict(own, home, "exported", "onnx")
    apart, rows = 0.0, 0
    assert ours[["image", "task"]].equals(theirs[["image", "task"]]), "other pictures"
    for task in ours["task"].unique():
        p, q = (split(t[t["task"] == task]["probabilities"].tolist()) for t in (ours, theirs))
        apart, rows = max(apart, float(np.abs(p - q).max())), rows + len(p)
    same = int((our_boxes == their_boxes).all(axis=1).sum())
    cut = int(our_boxes["fallback"].isin(["", "usual"]).sum())
    version = subprocess.run([wanted.python, "--version"], capture_output=True, text=True, check=True).stdout
    print(
        f"{version.strip()}: {rows} answers at most {apart:.1e} from MXNet's; "
        f"{same} of {rows} boxes the same, {cut} of them cut out"
    )
    return int(apart > TOLERANCE or same < rows or cut < rows / 5)


if __name__ == "__main__":
    sys.exit(main())
