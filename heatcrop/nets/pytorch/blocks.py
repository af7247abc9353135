"""The backbones of the PyTorch engine, as lists of modules that end with the last feature map.

EfficientNet-Lite0 and the residual networks have the structure of their Gluon twins, so that their weights
have the same names in both engines. Any other network is timm's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from heatcrop.errors import EngineError, WeightsError
from heatcrop.nets.backbones import TIMM, backbone
from heatcrop.nets.lite0 import EPSILON, HEAD, RESIDUALS, STEM, lite0_arrays
from heatcrop.nets.weights.published import RESNETS, published_file
from heatcrop.nets.weights.zoo_files import read_named, read_zoo_weights
from heatcrop.wording import counted

_UNITS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Pad(nn.Module):
    """Pad with zeros: left, right, top, bottom."""

    def __init__(self, *width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, self.width)


def _conv_bn(out: int, into: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution and batch norm; a stride of 2 pads as TensorFlow's SAME does on even sizes."""
    layers, pad = [], (kernel - 1) // 2
    if stride == 2:
        total = kernel - 2  # an even input needs k - s in total; the odd pixel goes right and below
        low, high = total // 2, total - total // 2
        layers.append(Pad(low, high, low, high))
        pad = 0
    return [
        *layers,
        nn.Conv2d(into, out, kernel, stride, pad, groups=groups, bias=False),
        nn.BatchNorm2d(out, eps=EPSILON, momentum=0.1),
    ]


class InvertedResidual(nn.Module):
    """A block of EfficientNet-Lite: widen, filter each channel, narrow."""

    def __init__(self, into: int, out: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = into * expand
        layers = [*_conv_bn(wide, into, 1), nn.ReLU6()] if expand != 1 else []
        layers += [*_conv_bn(wide, wide, kernel, stride, groups=wide), nn.ReLU6(), *_conv_bn(out, wide, 1)]
        self.body = nn.Sequential(*layers)
        self.shortcut = stride == 1 and into == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


def _lite0() -> list[nn.Module]:
    return [
        nn.Sequential(*_conv_bn(STEM, 3, 3, 2), nn.ReLU6()),
        *(InvertedResidual(*plan) for plan in RESIDUALS),
        nn.Sequential(*_conv_bn(HEAD, RESIDUALS[-1][1], 1), nn.ReLU6()),
    ]


class BasicBlock(nn.Module):
    """A unit of ResNet18 and 34, version 2: normalise before each convolution.

    Source: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016.
    """

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(into)
        self.conv1 = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.downsample = nn.Conv2d(into, out, 1, stride, bias=False) if into != out or stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.downsample is None else self.downsample(active)
        return self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True)) + shortcut


class Bottleneck(nn.Module):
    """A unit of ResNet50, 101 and 152, version 2."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        narrow = out // 4
        self.bn1 = nn.BatchNorm2d(into)
        self.conv1 = nn.Conv2d(into, narrow, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, out, 1, bias=False)
        self.downsample = nn.Conv2d(into, out, 1, stride, bias=False) if into != out or stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.downsample is None else self.downsample(active)
        inner = F.relu(self.bn2(self.conv1(active)), inplace=True)
        return self.conv3(F.relu(self.bn3(self.conv2(inner)), inplace=True)) + shortcut


def _resnet_v2(depth: int) -> list[nn.Module]:
    unit: Any = BasicBlock if depth < 50 else Bottleneck
    scaling = nn.BatchNorm2d(3)  # of the input; its weight and bias stay 1 and 0
    scaling.weight.requires_grad_(False)
    scaling.bias.requires_grad_(False)
    blocks: list[nn.Module] = [scaling, nn.Conv2d(3, 64, 7, 2, 3, bias=False)]
    blocks += [nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    into = 64
    for stage, repeats in enumerate(_UNITS[depth]):
        out = (64 if depth < 50 else 256) * 2**stage
        for repeat in range(repeats):
            blocks.append(unit(into, out, 2 if stage and repeat == 0 else 1))
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
    path = None if weights in ("imagenet", "none") else weights
    try:
        if any(part in name for part in ("vit", "deit", "eva", "swin", "beit")):
            options["img_size"] = side_px
        net = timm.create_model(name, pretrained=weights == "imagenet", **options)
    except Exception as error:  # the download may raise any error of its transport
        cause = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        if weights != "imagenet":
            raise EngineError(f"timm cannot make {name} for {side_px} px ({cause})") from error
        raise WeightsError(
            f"weights of timm/{name} could not be fetched ({cause}). On a machine with a network, run once "
            f"to store them; or give a local file (--set network.weights=FILE.safetensors), or "
            f"--set network.weights=none"
        ) from error
    if path is not None:
        _load_timm(net, Path(path))
    map_of = FeatureMap(net).eval()
    with torch.no_grad():
        shape = map_of(torch.zeros(1, 3, side_px, side_px)).shape
    if len(shape) != 4 or shape[2] * shape[3] < 2:
        raise EngineError(f"timm/{name} has no feature map with positions; choose another network.backbone")
    return [map_of]


def _load_timm(net: nn.Module, path: Path) -> None:
    state = read_named(path)
    own = net.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    if missing:
        raise WeightsError(
            f"{path}: lacks {missing[0]} and {counted(len(missing) - 1, 'other weight(s)')} of the network"
        )
    found = {name: torch.from_numpy(np.array(state[name])) for name in own if name in state}
    try:
        net.load_state_dict(found, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{path}: does not fit the network: {str(error).splitlines()[-1][:200]}") from None


def build_modules(name: str, weights: str, seed: int, side_px: int) -> list[nn.Module]:
    """Build a backbone's modules with their weights, ending with the last feature map.

    `weights` is ``imagenet`` (the published ones), ``none`` (random, from `seed`), or the path of a file: of
    efficientnet_lite0 ``.pth``; of residual networks that of the complete model zoo network, see
    :func:`heatcrop.nets.weights.zoo_files.read_zoo_weights`; of timm's networks ``.safetensors`` or ``.pth``.
    `side_px` is the input's side.

    EngineError where this engine has no such backbone, WeightsError where weights are missing or do not fit.
    """
    torch.manual_seed(seed)
    path = None if weights in ("imagenet", "none") else Path(weights)
    if path is not None and not path.is_file():
        raise WeightsError(f"{path}: no such weight file; give imagenet, none or an existing file")
    if name.startswith(TIMM):
        return _timm(name.removeprefix(TIMM), weights, side_px)
    if name == "efficientnet_lite0":
        blocks = _lite0()
        if weights != "none":
            _load_lite0(blocks, path)
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


def _load_lite0(blocks: Sequence[nn.Module], path: Path | None) -> None:
    """Load ImageNet weights, see :func:`heatcrop.nets.lite0.lite0_arrays`."""
    arrays = lite0_arrays(path)
    own = nn.Sequential(*blocks).state_dict()
    tensors = [(name, tensor) for name, tensor in own.items() if not name.endswith("num_batches_tracked")]
    if len(tensors) != len(arrays):
        raise WeightsError(
            f"the weight file holds {counted(len(arrays), 'array(s)')}, the network {len(tensors)}"
        )
    with torch.no_grad():
        for (_, tensor), (name, array) in zip(tensors, arrays, strict=True):
            if tuple(tensor.shape) != array.shape:
                wanted = tuple(tensor.shape)
                raise WeightsError(f"{name} has shape {array.shape}, the network expects {wanted}")
            tensor.copy_(torch.from_numpy(array))


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
    with torch.no_grad():
        for key, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(np.array(arrays[key])))
        tensors["features.0.gamma"].fill_(1)  # whatever the file holds, as in MXNet: it is not trained


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


def load_arrays(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Load arrays by the names of :func:`named_tensors`."""
    with torch.no_grad():
        for name, tensor in named_tensors(module).items():
            tensor.copy_(torch.from_numpy(np.array(arrays[name])))


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """List the shapes of :func:`named_tensors`."""
    return {name: tuple(tensor.shape) for name, tensor in named_tensors(module).items()}
