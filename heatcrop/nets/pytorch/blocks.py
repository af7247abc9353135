"""The backbones of the PyTorch engine, as lists of modules that end with the last feature map.

EfficientNet-Lite0 and the residual networks have the structure of their Gluon twins, so that their weights
have the same names in both engines. Any other network is timm's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from heatcrop.errors import EngineError, WeightsError
from heatcrop.nets.backbones import TIMM, backbone
from heatcrop.nets.lite0 import BLOCKS, EPSILON, Convolution, lite0_arrays
from heatcrop.nets.weights.published import RESNETS, published_file
from heatcrop.nets.weights.zoo_files import read_named, read_zoo_weights, weights_file
from heatcrop.wording import counted

_UNITS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class InvertedResidual(nn.Module):
    """A block of EfficientNet-Lite, see :class:`heatcrop.nets.lite0.Block`."""

    def __init__(self, body: nn.Module, shortcut: bool) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


def _lite0_layers(plan: Convolution) -> list[nn.Module]:
    low, high = plan.padding
    layers: list[nn.Module] = []
    if plan.stride == 2:  # more on one side than on the other
        layers.append(nn.ZeroPad2d((low, high, low, high)))
        low = 0
    sizes = (plan.into, plan.out, plan.kernel, plan.stride, low)
    layers.append(nn.Conv2d(*sizes, groups=plan.groups, bias=False))
    layers.append(nn.BatchNorm2d(plan.out, eps=EPSILON, momentum=0.1))
    return [*layers, nn.ReLU6()] if plan.relu6 else layers


def _lite0() -> list[nn.Module]:
    bodies = [
        nn.Sequential(*(layer for one in plan.layers for layer in _lite0_layers(one))) for plan in BLOCKS
    ]
    return [
        InvertedResidual(body, plan.shortcut) if plan.residual else body
        for plan, body in zip(BLOCKS, bodies, strict=True)
    ]


class ResidualUnit(nn.Module):
    """A unit of a residual network, version 2: normalise before each convolution.

    Source: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016. Two convolutions, or with
    `bottleneck` three, of which the middle one works on a quarter of the channels.
    """

    def __init__(self, into: int, out: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        sizes = [(into, out, 3, stride), (out, out, 3, 1)]  # input and output channels, kernel, stride
        if bottleneck:
            narrow = out // 4
            sizes = [(into, narrow, 1, 1), (narrow, narrow, 3, stride), (narrow, out, 1, 1)]
        self.count = len(sizes)
        for number, (channels, *rest) in enumerate(sizes, 1):
            convolution = nn.Conv2d(channels, *rest, padding=rest[1] // 2, bias=False)
            self.add_module(f"bn{number}", nn.BatchNorm2d(channels))
            self.add_module(f"conv{number}", convolution)
        self.downsample = nn.Conv2d(into, out, 1, stride, bias=False) if into != out or stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.downsample is None else self.downsample(active)
        x = self.conv1(active)
        for number in range(2, self.count + 1):
            norm, convolution = self.get_submodule(f"bn{number}"), self.get_submodule(f"conv{number}")
            x = convolution(F.relu(norm(x), inplace=True))
        return x + shortcut


def _resnet_v2(depth: int) -> list[nn.Module]:
    bottleneck = depth >= 50
    scaling = nn.BatchNorm2d(3)  # of the input; its weight and bias stay 1 and 0
    scaling.weight.requires_grad_(False)
    scaling.bias.requires_grad_(False)
    blocks: list[nn.Module] = [scaling, nn.Conv2d(3, 64, 7, 2, 3, bias=False)]
    blocks += [nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    into = 64
    for stage, repeats in enumerate(_UNITS[depth]):
        out = (256 if bottleneck else 64) * 2**stage
        for repeat in range(repeats):
            blocks.append(ResidualUnit(into, out, 2 if stage and repeat == 0 else 1, bottleneck))
            into = out
    return [*blocks, nn.BatchNorm2d(into), nn.ReLU()]


class FeatureMap(nn.Module):
    """A network of timm without its head; tokens are arranged as a map (N, F, h, w)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.net.forward_features(x)
        if features.ndim == 3:  # (N, T, F), after tokens that belong to no position
            features = features[:, int(getattr(self.net, "num_prefix_tokens", 0)) :]
            height, width = self.net.patch_embed.dynamic_feat_size(x.shape[2:])
            return features.transpose(1, 2).unflatten(2, (height, width))
        if getattr(self.net, "output_fmt", "NCHW") == "NHWC":
            return features.permute(0, 3, 1, 2)
        return features


def _timm(name: str, weights: str, side_px: int) -> list[nn.Module]:
    import timm

    options: dict[str, Any] = {"num_classes": 0, "global_pool": ""}
    try:
        if timm.models.get_pretrained_cfg_value(name, "fixed_input_size"):
            options["img_size"] = side_px
        net = timm.create_model(name, pretrained=weights == "imagenet", **options)
    except Exception as error:  # the download may raise any error of its transport
        cause = _cause(error)
        if weights != "imagenet":
            raise EngineError(f"timm cannot make {name} for {side_px} px ({cause})") from error
        _timm(name, "none", side_px)  # raises EngineError where the network itself is the cause
        raise WeightsError(
            f"weights of timm/{name} could not be fetched ({cause}). On a machine with a network, run once "
            f"to store them; or give a local file (--set network.weights=FILE.safetensors), or "
            f"--set network.weights=none"
        ) from error
    if weights not in ("imagenet", "none"):
        _load_timm(net, Path(weights))
    map_of = FeatureMap(net).eval()
    try:
        shape = output_shape(map_of, (3, side_px, side_px))
        cause = f"its output has the shape {shape}"
    except Exception as error:  # tokens of unknown places; another input size, which may raise anything
        shape, cause = (), _cause(error)
    if len(shape) != 3 or shape[1] * shape[2] < 2:
        raise EngineError(
            f"timm/{name} has no feature map with positions for an input of {side_px} px ({cause}); choose "
            "another network.input_px or network.backbone"
        )
    return [map_of]


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]


def _load_timm(net: nn.Module, path: Path) -> None:
    state = {key: torch.from_numpy(np.array(array)) for key, array in read_named(path).items()}
    # Most networks have a function that fits their published weights to the input's side.
    fitted = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", lambda state, _: state)
    try:
        state = fitted(state, net)
    except Exception as error:  # a file of another network may raise anything
        raise WeightsError(f"{path}: does not fit the network: {_cause(error)}") from error
    own = net.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    if missing:
        raise WeightsError(
            f"{path}: lacks {missing[0]} and {counted(len(missing) - 1, 'other weight(s)')} of the network"
        )
    found = {name: state[name] for name in own if name in state}
    try:
        net.load_state_dict(found, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{path}: does not fit the network: {str(error).splitlines()[-1][:200]}") from None


def build_modules(name: str, weights: str, seed: int, side_px: int) -> list[nn.Module]:
    """Build a backbone's modules with their weights, ending with the last feature map.

    `weights` is ``imagenet`` (the published ones), ``none`` (random, from `seed`), or the path of a file: of
    efficientnet_lite0 and timm's networks ``.pth`` or ``.safetensors``; of residual networks that of the
    complete model zoo network, see :func:`heatcrop.nets.weights.zoo_files.read_zoo_weights`.
    `side_px` is the input's side.

    EngineError where this engine has no such backbone, WeightsError where weights are missing or do not fit.
    """
    torch.manual_seed(seed)
    path = weights_file(weights)
    if name.startswith(TIMM):
        return _timm(name.removeprefix(TIMM), weights, side_px)
    if name == "efficientnet_lite0":
        blocks = _lite0()
        if weights != "none":
            load_arrays(named_tensors(nn.Sequential(*blocks)).values(), lite0_arrays(path))
            return blocks
    elif name in RESNETS:
        blocks = _resnet_v2(_depth(name))
        if weights != "none":
            _load_zoo(blocks, path or published_file(name, RESNETS[name]), name)
            return blocks
    else:
        backbone(name)
        raise EngineError(
            f"the PyTorch engine has no {name}; take one of efficientnet_lite0, "
            f"resnet18|34|50|101|152_v2 and timm/<name>, or set runtime.trainer to mxnet"
        )
    for module in nn.Sequential(*blocks).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return blocks


def _depth(name: str) -> int:
    return int(name.removeprefix("resnet").removesuffix("_v2"))


def _load_zoo(blocks: Sequence[nn.Module], path: Path, name: str) -> None:
    """Load a file of the complete model zoo network, where each stage of units is one of its features."""
    repeats = _UNITS[_depth(name)]
    units = [f"{5 + stage}.{unit}" for stage, count in enumerate(repeats) for unit in range(count)]
    places = [*map(str, range(5)), *units, "9", "10"]
    tensors = {
        f"features.{place}.{rest}": tensor
        for place, block in zip(places, blocks, strict=True)
        for rest, tensor in named_tensors(block).items()
    }
    arrays = read_zoo_weights(path, name, {key: tuple(tensor.shape) for key, tensor in tensors.items()})
    arrays["features.0.gamma"] = np.ones(3)  # whatever the file holds, as in MXNet: it is not trained
    load_arrays(tensors.values(), [arrays[key] for key in tensors])


def named_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """List a module's weights and running statistics by the names of a Gluon block of the same structure."""
    found: dict[str, torch.Tensor] = {}
    for prefix, part in module.named_modules():
        norm = isinstance(part, nn.BatchNorm2d)
        own = [*part.named_parameters(recurse=False)]
        own += [(name, value) for name, value in part.named_buffers(recurse=False) if "running" in name]
        for name, value in own:
            renamed = {"weight": "gamma", "bias": "beta"}.get(name, name) if norm else name
            found[f"{prefix}.{renamed}" if prefix else renamed] = value
    return found


def output_shape(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Find the shape that leaves a module by running it once; both without the batch axis."""
    with torch.no_grad():
        return tuple(module(torch.zeros(1, *input_shape)).shape[1:])


def load_arrays(tensors: Iterable[torch.Tensor], arrays: Iterable[np.ndarray]) -> None:
    """Replace the values of tensors by those of arrays of the same shapes."""
    with torch.no_grad():
        for tensor, array in zip(tensors, arrays, strict=True):
            tensor.copy_(torch.from_numpy(np.array(array)))
