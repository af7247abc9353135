"""Install the environment for GPUs on a machine without one, and check what it reports.

``python -m tests.soak.gpu`` installs MXNet's GPU build and the CUDA libraries, about 5 GB, into a temporary
environment, and loads them with stub drivers (:mod:`tests.soak.stub_cuda`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from heatcrop.nets.devices import Card
from tests.soak.stub_cuda import build_stub
from tests.tiny_run import ROOT

# What mxnet-cu112 links against, besides the functions that heatcrop.nets.devices calls.
_MXNET_FUNCTIONS = (
    "cuDevicePrimaryCtxRetain",
    "cuGetErrorString",
    "cuGraphKernelNodeGetParams",
    "cuGraphNodeGetType",
    "cuLaunchKernel",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleLoadDataEx",
    "cuModuleUnload",
)
_CARD = Card(0, "NVIDIA GeForce RTX 3080", (8, 6), 10 * 2**30)
_NEW = Card(0, "NVIDIA H100 80GB HBM3", (9, 0), 80 * 2**30)

# Import MXNet without a card, and train on the CPU.
_TRAIN = """
import numpy as np
from heatcrop.nets.devices import find_devices
from heatcrop.nets.gluon.engine import gpu_build, mxnet
from heatcrop.nets.gluon.classifier import build_classifier
from heatcrop.nets.gluon.updater import MxnetUpdater
from heatcrop.training.loop import TrainingPlan, train
assert gpu_build()
mx = mxnet()
assert mx.runtime.Features().is_enabled("CUDA")
rng = np.random.default_rng(0)
x, y = rng.normal(size=(12, 3, 6, 6)).astype(np.float32), np.eye(3, dtype=np.float32)[np.arange(12) % 3]
def trained(devices, parts):
    mx.random.seed(7)
    block = mx.gluon.nn.Conv2D(5, 3, in_channels=3)
    block.initialize(mx.init.Xavier())
    net = build_classifier([block], (3, 6, 6), 3, 0.0, 0)
    plan = TrainingPlan(epochs=2, learning_rate=0.1, optimizer="sgd", accumulate=parts)
    contexts = [mx.cpu(i) for i in range(devices)]
    updater = MxnetUpdater(net, plan.optimiser, contexts)
    train(updater, lambda epoch: [(x, y)], 1, lambda f: (0.0, float(f(x)[0, 0]), 0.0), plan, 0)
    return net.weight.data().asnumpy()
np.testing.assert_allclose(trained(2, 2), trained(1, 1), rtol=1e-4, atol=1e-6)
print(mx.__version__, "|", find_devices().reason)
"""
_REASON = "from heatcrop.nets.devices import find_devices; print(find_devices().reason)"
_COUNT = "from heatcrop.nets.gluon.engine import mxnet; print('GPUs:', mxnet().context.num_gpus())"
_MISSING_LIBRARIES = "import heatcrop.nets.gluon.engine as e; print(e.open_cuda_libraries())"


def _run(python: Path, words: list[str], driver: Path | None) -> tuple[int, str]:
    environment = {**os.environ, "LD_LIBRARY_PATH": "" if driver is None else str(driver.parent)}
    done = subprocess.run([str(python), *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def install(folder: Path) -> Path:
    """Make the environment as ``make install GPU=1`` does; return its Python.

    Its last step, which checks the environment, may fail because there is no driver.
    """
    venv = folder / "venv"
    words = [
        "sh",
        "tools/install",
        str(venv),
        "requirements/run.txt",
        sys.executable,
        "mxnet",
        "requirements/gpu.txt",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode and "NVIDIA driver" not in done.stderr:
        raise RuntimeError(done.stderr)
    return venv / "bin" / "python"


def faults(python: Path, folder: Path) -> Iterator[str]:
    """Check the environment's messages with several drivers; yield the name and output of failed cases."""

    def driver(name: str, *cards: Card, cuda: tuple[int, int] = (11, 8), init: int = 0) -> Path:
        (folder / name).mkdir()
        return build_stub(folder / name, cards, cuda, init, _MXNET_FUNCTIONS)

    no_card, one_card = driver("no_card", init=100), driver("one_card", _CARD)
    cases = (
        ("libraries", ["-c", _MISSING_LIBRARIES], no_card, 0, ["[]"]),
        (
            "no driver",
            ["-m", "tools.check_engine"],
            None,
            1,
            ["error: mxnet-cu112", "install the driver"],
        ),
        ("no card counted", ["-c", _COUNT], no_card, 0, ["GPUs: 0"]),
        ("no card", ["-c", _TRAIN], no_card, 0, ["1.9.1 | the NVIDIA driver finds no card"]),
        # CUDA's runtime calls more functions than the stub has: nothing is trained.
        (
            "a card that does not compute",
            ["-c", _REASON],
            one_card,
            0,
            ["RTX 3080 does not compute with MXNet"],
        ),
        ("too new", ["-c", _REASON], driver("new", _NEW), 0, ["H100", "too new", "make run GPU=new"]),
        ("old driver", ["-c", _TRAIN], driver("old", _CARD, cuda=(10, 2)), 0, ["450 or newer"]),
        (
            "a run",
            [
                "pipeline.py",
                "run",
                "--task",
                "neck",
                "--set",
                "runtime.device=gpu",
                "--out",
                str(folder / "run"),
            ],
            no_card,
            1,
            ["error: runtime.device is gpu, but no GPU works"],
        ),
    )
    for name, words, library, code, expected in cases:
        found, printed = _run(python, words, library)
        passed = found == code and all(part in printed for part in expected) and "Traceback" not in printed
        last = printed.strip().splitlines()[-1:] or [""]
        print(f"{name}: code {found}, {last[0][:200]}: {'passed' if passed else 'FAILED'}", flush=True)
        if not passed:
            yield f"{name}: {printed}"


def main() -> int:
    """Install and check; print one line a case."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--python", type=Path, help="of an environment that is installed already")
    python = parser.parse_args().python
    with tempfile.TemporaryDirectory() as name:
        python = python or install(Path(name))
        found = list(faults(python, Path(name)))
    for fault in found:
        print(fault, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
