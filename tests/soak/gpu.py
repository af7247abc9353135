"""The environment for GPUs on a machine without one: installed, loaded, and told what to do.

``python -m tests.soak.gpu`` installs MXNet's GPU build and the CUDA libraries, about 5 GB, into an
environment that is thrown away, and gives it drivers that are made up (:mod:`tests.soak.stub_cuda`).
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
from tests.soak.crash import ROOT
from tests.soak.stub_cuda import build_stub

# What mxnet-cu112 links against beside what heatcrop.nets.devices asks.
_MXNETS = (
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

# The import, no card, and all that training does, on the CPU.
_WORK = """
import numpy as np
from heatcrop.nets.devices import find_devices
from heatcrop.nets.engine import gpu_build, mxnet
from heatcrop.nets.classifier import build_classifier
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
    train(net, lambda epoch: [(x, y)], 1, lambda f: (0.0, float(f(x)[0, 0]), 0.0), plan, 0, contexts=contexts)
    return net.weight.data().asnumpy()
np.testing.assert_allclose(trained(2, 2), trained(1, 1), rtol=1e-4, atol=1e-6)
print(mx.__version__, "|", find_devices().reason)
"""
_TOLD = "from heatcrop.nets.devices import find_devices; print(find_devices().reason)"
_COUNT = "from heatcrop.nets.engine import mxnet; print('GPUs:', mxnet().context.num_gpus())"
_LEFT_OUT = "import heatcrop.nets.engine as e; print(e.open_cuda_libraries())"


def _run(python: Path, words: list[str], driver: Path | None) -> tuple[int, str]:
    environment = {**os.environ, "LD_LIBRARY_PATH": "" if driver is None else str(driver.parent)}
    done = subprocess.run([str(python), *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def install(folder: Path) -> Path:
    """Make the environment as ``make install GPU=1`` does; its Python.

    Without a driver the check at its end fails, and that is the first thing to see.
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
    """Yield what is not as it should be.

    Parameters
    ----------
    python : Path
        Of the environment for GPUs.
    folder : Path
        For the drivers.
    """

    def driver(name: str, *cards: Card, cuda: tuple[int, int] = (11, 8), init: int = 0) -> Path:
        (folder / name).mkdir()
        return build_stub(folder / name, cards, cuda, init, _MXNETS)

    none, sound = driver("none", init=100), driver("sound", _CARD)
    cases = (
        ("libraries", ["-c", _LEFT_OUT], none, 0, ["[]"]),
        ("no driver", ["-m", "heatcrop.nets.engine"], None, 1, ["error: mxnet-cu112", "install the driver"]),
        ("no card counted", ["-c", _COUNT], none, 0, ["GPUs: 0"]),
        ("no card", ["-c", _WORK], none, 0, ["1.9.1 | the NVIDIA driver finds no card"]),
        # CUDA's runtime asks more of a driver with cards than is made up here: nothing is trained.
        ("a card that does nothing", ["-c", _TOLD], sound, 0, ["RTX 3080 does not compute with MXNet"]),
        ("too new", ["-c", _TOLD], driver("new", _NEW), 0, ["H100", "too new", "make run GPU=new"]),
        ("old driver", ["-c", _WORK], driver("old", _CARD, cuda=(10, 2)), 0, ["450 or newer"]),
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
            none,
            1,
            ["error: runtime.device is gpu, but no GPU works"],
        ),
    )
    for name, words, library, code, told in cases:
        found, printed = _run(python, words, library)
        good = found == code and all(part in printed for part in told) and "Traceback" not in printed
        last = printed.strip().splitlines()[-1:] or [""]
        print(f"{name}: code {found}, {last[0][:200]}: {'good' if good else 'NOT GOOD'}", flush=True)
        if not good:
            yield f"{name}: {printed}"


def main() -> int:
    """Install, load, tell; print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--python", type=Path, help="of an environment that is there already")
    python = parser.parse_args().python
    with tempfile.TemporaryDirectory() as name:
        python = python or install(Path(name))
        found = list(faults(python, Path(name)))
    for fault in found:
        print(fault, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
