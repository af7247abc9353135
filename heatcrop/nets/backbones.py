"""Backbones: their names, and how their input is prepared.

A backbone is a flat list of blocks that ends with the last feature map. Freezing the first k blocks,
training the rest and reading the last feature map all work on that list, so a new backbone is one entry in
:data:`BACKBONES` and one row in its test.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import re
from typing import Literal

from heatcrop.errors import EngineError, install_command

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Backbone:
    """How one network's input is prepared and where its blocks come from."""

    name: str
    """As the configuration names it; for GluonCV networks also the model zoo's name."""
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    """Of RGB values in 0..1; the network sees ``(x / 255 - mean) / std``."""
    multiple_of: int = 32
    least_px: int = 32
    most_px: int = 2048
    """The input side is a multiple of the first, between the others."""
    head_px: int = 224
    """A side that the network's original head accepts."""
    source: Literal["lite0", "inceptionv4", "gluoncv", "timm"] = "gluoncv"

    def misfit(self, input_px: int) -> str:
        """Explain why an input side does not fit; '' where it does."""
        if self.least_px <= input_px <= self.most_px and input_px % self.multiple_of == 0:
            return ""
        needed = f"a multiple of {self.multiple_of}, {self.least_px} or more"
        if self.least_px == self.most_px:
            needed = f"{self.least_px} and no other"
        elif self.multiple_of == 1:
            needed = f"{self.least_px} or more"
        return f"input_px is {input_px}; {self.name} needs {needed}"


@dataclasses.dataclass(frozen=True)
class InputForm:
    """How an image becomes a network's input."""

    side_px: int
    fit: str
    """See :func:`heatcrop.training.views.framed`."""
    backbone: Backbone
    """Gives mean and standard deviation."""
    threads: int = 2
    """That read images."""


# The image classifiers of GluonCV's model zoo, except its int8 networks, which cannot be trained, those with
# group norm, which cannot be exported, and nasnet, whose maps MXNet's oneDNN cannot slice in training.
ZOO = (
    "resnet{18,34,50,101,152}_v{1,2}",
    "resnet{18,34}_v1b",
    "resnet{50,101,152}_v1{b,c,d,e,s}",
    "resnet18_v1b_0.89",
    "resnet50_v1d_{0.86,0.48,0.37,0.11}",
    "resnet101_v1d_{0.76,0.73}",
    "se_resnet{18,34,50,101,152}_v{1,2}",
    "{,se_}resnext{50_32x4d,101_32x4d,101_64x4d,101e_64x4d}",
    "senet_154{,e}",
    "resnest{14,26,50,101,200,269}",
    "residualattentionnet{56,92,128,164,200,236,452}",
    "densenet{121,161,169,201}",
    "mobilenet{1.0,0.75,0.5,0.25}",
    "mobilenetv2_{1.0,0.75,0.5,0.25}",
    "mobilenetv3_{large,small}",
    "shufflenet_v{1,2}",
    "squeezenet1.{0,1}",
    "vgg{11,13,16,19}{,_bn}",
    "alexnet",
    "googlenet",
    "inceptionv3",
    "xception{,71}",
    "darknet53",
    "dla34",
    "hrnet_w{18_small_v1,18_small_v2,18,30,32,40,44,48,64}_c",
)


def expand(pattern: str) -> list[str]:
    """Expand the braces of a pattern of names.

    >>> expand("vgg{11,13}{,_bn}")
    ['vgg11', 'vgg11_bn', 'vgg13', 'vgg13_bn']
    """
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def _zoo_backbone(name: str) -> Backbone:
    # Inception and Xception do not pad, so small inputs leave no map; others divide the side by 32.
    if name.startswith(("inception", "xception")):
        return Backbone(name, multiple_of=1, least_px=75, head_px=299)
    if name.startswith("residualattention"):  # its maps are scaled up to fixed sizes
        return Backbone(name, least_px=224, most_px=224)
    return Backbone(name, least_px=64 if name == "alexnet" else 32)


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone("efficientnet_lite0", (0.498,) * 3, (0.502,) * 3, source="lite0"),
        Backbone("inceptionv4", (0.5,) * 3, (0.5,) * 3, 1, 75, head_px=299, source="inceptionv4"),
        *(_zoo_backbone(name) for pattern in ZOO for name in expand(pattern)),
    )
}


TIMM = "timm/"
"""Before the name of a network of timm, which the PyTorch engine builds."""


def unknown_backbone(name: str) -> str:
    """Explain that a backbone does not exist, and which ones do.

    >>> unknown_backbone("resnet18v2")[:59]
    "unknown backbone 'resnet18v2'; near: resnet18_v2, resnet18_"
    """
    close = difflib.get_close_matches(name, BACKBONES, 3, 0.5)
    near = f"; near: {', '.join(close)}" if close else ""
    known = ", ".join(("efficientnet_lite0", "inceptionv4", f"{TIMM}<name>", *ZOO))
    return f"unknown backbone {name!r}{near}; known: {known}"


@functools.cache
def backbone(name: str) -> Backbone:
    """Return a backbone by name; EngineError for an unknown one."""
    if name.startswith(TIMM):
        return _timm_backbone(name)
    if name not in BACKBONES:
        raise EngineError(unknown_backbone(name))
    return BACKBONES[name]


def _timm_backbone(name: str) -> Backbone:
    """Describe the input of a network of timm, as its own configuration does."""
    try:
        import timm
    except ModuleNotFoundError:
        raise EngineError(
            f"backbone {name!r} needs the Python package timm, which is not installed: "
            f"{install_command('torch')}"
        ) from None
    plain = name.removeprefix(TIMM)
    if not timm.is_model(plain.partition(".")[0]):
        near = difflib.get_close_matches(plain.partition(".")[0], timm.list_models(), 3, 0.5)
        hint = f"; near: {', '.join(f'{TIMM}{one}' for one in near)}" if near else ""
        raise EngineError(f"timm has no model {plain!r}{hint}")
    try:
        found = timm.models.get_pretrained_cfg(plain)
    except RuntimeError:
        tags = ", ".join(timm.list_pretrained(f"{plain.partition('.')[0]}.*"))
        raise EngineError(f"timm has no weights {plain!r}; known: {tags}") from None
    given = {"mean": tuple(found.mean), "std": tuple(found.std)} if found is not None else {}
    patch = re.search(r"patch(\d+)", plain)
    return Backbone(name, multiple_of=int(patch[1]) if patch else 32, source="timm", **given)
