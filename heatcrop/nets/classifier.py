"""The classifier every stage trains: backbone blocks, pooling, one linear layer that is its own CAM.

A class activation map (Zhou et al., "Learning Deep Features for Discriminative Localization",
CVPR 2016, eq. 2) applies the classifier's weights to the last feature map at each position.
Averaged over positions and shifted by the bias it *is* the logit (eq. 1), so one graph yields
both; no hook, no backward pass.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from heatcrop.nets.backbones import build_blocks
from heatcrop.nets.dilation import dilate_last_stage
from heatcrop.nets.engine import mxnet


def class_logits(F: Any, features: Any, weight: Any, bias: Any, n_classes: int, dropout: float = 0.0) -> Any:
    """Pool (N, F, h, w) features and weigh them into (N, C) logits, with MXNet's arrays or symbols."""
    pooled = F.Flatten(F.Pooling(features, global_pool=True, pool_type="avg", kernel=(1, 1)))  # (N, F)
    if dropout:
        pooled = F.Dropout(pooled, p=dropout)
    return F.FullyConnected(pooled, weight, bias, num_hidden=n_classes)


@functools.cache
def _classifier_class() -> type:
    mx = mxnet()

    class Classifier(mx.gluon.nn.HybridBlock):
        """Blocks, then logits; with ``with_maps`` also the class maps they are the mean of."""

        def __init__(self, blocks: list[Any], n_features: int, n_classes: int, dropout: float) -> None:
            super().__init__()
            self.with_maps = False
            self.dropout_rate = dropout
            self.blocks = mx.gluon.nn.HybridSequential()
            if blocks:
                self.blocks.add(*blocks)
            with self.name_scope():
                self.weight = self.params.get(
                    "weight", shape=(n_classes, n_features), init=mx.init.Normal(0.01)
                )
                self.bias = self.params.get("bias", shape=(n_classes,), init="zeros")

        def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any) -> Any:
            features = self.blocks(x) if len(self.blocks) else x  # (N, F, h, w)
            if not self.with_maps:
                return class_logits(F, features, weight, bias, weight_rows(self), self.dropout_rate)
            kernel = F.expand_dims(F.expand_dims(weight, 2), 3)  # (C, F, 1, 1)
            maps = F.Convolution(features, kernel, kernel=(1, 1), num_filter=weight_rows(self), no_bias=True)
            mean = F.Flatten(F.Pooling(maps, global_pool=True, pool_type="avg", kernel=(1, 1)))
            logits = F.broadcast_add(mean, F.expand_dims(bias, 0))
            return logits, maps  # (N, C), (N, C, h, w)

    def weight_rows(net: Any) -> int:
        return int(net.weight.shape[0])

    return Classifier


@dataclasses.dataclass(frozen=True)
class NetworkPlan:
    """What network to build.

    Attributes
    ----------
    backbone : str
        A key of :data:`heatcrop.nets.backbones.BACKBONES`.
    weights : str
        ``imagenet``, ``none`` or a file.
    frozen_blocks : int
        How many of the backbone's first blocks keep their weights; -1 for all. What is frozen is
        computed once a picture and cached.
    dropout : float
        On the pooled features, 0..1.
    dilated : bool
        Twice as fine a last feature map, see :mod:`heatcrop.nets.dilation`; its stage costs four times
        as much.
    """

    backbone: str
    weights: str = "imagenet"
    frozen_blocks: int = 0
    dropout: float = 0.0
    dilated: bool = False


def fresh_names() -> Any:
    """Count the names of layers from 0 within the block.

    MXNet goes on counting for as long as a process lives, and the names come to lie in exported files:
    these would depend on which networks the process happened to make before.
    """
    return mxnet().name.NameManager()


def split_blocks(plan: NetworkPlan, seed: int) -> tuple[list[Any], list[Any]]:
    """Build the backbone and cut it into the frozen trunk and the trained rest."""
    with fresh_names():
        blocks = build_blocks(plan.backbone, plan.weights, seed)
    if plan.dilated:
        dilate_last_stage(blocks, plan.backbone)
    cut = len(blocks) if plan.frozen_blocks < 0 else min(plan.frozen_blocks, len(blocks))
    return blocks[:cut], blocks[cut:]


def feature_count(blocks: list[Any], input_shape: tuple[int, ...]) -> int:
    """Infer how many channels the last feature map has, without computing it."""
    if not blocks:
        return input_shape[0]
    x = mxnet().sym.var("data")
    for block in blocks:
        x = block(x)
    _, (shape,), _ = x.infer_shape(data=(1, *input_shape))
    return int(shape[1])


def build_trunk(blocks: list[Any]) -> Any:
    """Join the frozen blocks; ``None`` when nothing is frozen."""
    if not blocks:
        return None
    trunk = mxnet().gluon.nn.HybridSequential()
    trunk.add(*blocks)
    return trunk


def build_classifier(
    blocks: list[Any], input_shape: tuple[int, ...], n_classes: int, dropout: float, seed: int
) -> Any:
    """Put a fresh classifier behind the trained blocks.

    Parameters
    ----------
    blocks : list of HybridBlock
        Initialised blocks; may be empty when all is frozen.
    input_shape : tuple (c, h, w)
        Of what enters the first of them: a picture or the trunk's feature map.
    """
    mx = mxnet()
    with fresh_names():
        net = _classifier_class()(blocks, feature_count(blocks, input_shape), n_classes, dropout)
    mx.random.seed(seed)
    net.weight.initialize()
    net.bias.initialize()
    return net
