"""The training engine of PyTorch: the classifier of :mod:`heatcrop.nets.classifier`, and its updates."""

from __future__ import annotations

import collections
import contextlib
import copy
import functools
import math
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from heatcrop.errors import EngineError
from heatcrop.files import atomic_path
from heatcrop.nets.backbones import TIMM
from heatcrop.nets.classifier import OUTPUTS, Classifier, NetworkPlan, Shape, TrainingEngine, Trunk
from heatcrop.nets.devices import Devices
from heatcrop.nets.inference import CPU_BATCH, Runner, in_parts
from heatcrop.nets.maps import MapPlan
from heatcrop.nets.pytorch.blocks import build_modules, load_arrays, named_tensors, output_shape
from heatcrop.nets.pytorch.group import (
    ProcessGroup,
    SharedStatistics,
    join_group,
    process_count,
    process_group,
)
from heatcrop.nets.updater import MASKED, Optimiser, Updater

_OPSET = 17


class TorchEngine(TrainingEngine):
    """Builds networks of PyTorch's modules."""

    def version(self) -> str:
        return f"PyTorch {torch.__version__}"

    def use_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def processes(self) -> int:
        return process_count()

    def serve(self, devices: Devices) -> bool:
        group = join_group(devices)
        if group is None or group.rank == 0:
            return False
        updater: TorchUpdater | None = None
        while (call := group.receive()) is not None:
            method, arguments = call
            if method == "train":
                updater = TorchUpdater(*arguments, devices)
            else:
                getattr(updater, method)(*arguments)
        return True

    def trunk(self, plan: NetworkPlan, image_shape: Shape, seed: int) -> Trunk:
        _refuse_dilation(plan)
        blocks = build_modules(plan.backbone, plan.weights, seed, image_shape[1])
        return TorchTrunk(nn.Sequential(*blocks[plan.parts[0]]).eval(), image_shape)

    def classifier(
        self, plan: NetworkPlan, input_shape: Shape, n_classes: int, pooling: float, seed: int
    ) -> Classifier:
        _refuse_dilation(plan)
        blocks: list[nn.Module] = []
        # Networks of timm are one block.
        if plan.frozen_blocks == 0 or (plan.frozen_blocks > 0 and not plan.backbone.startswith(TIMM)):
            blocks = build_modules(plan.backbone, plan.weights, seed, input_shape[1])[plan.frozen_blocks :]
        return build_classifier(blocks, input_shape, n_classes, plan.dropout, seed, pooling)


def _refuse_dilation(plan: NetworkPlan) -> None:
    if plan.dilated:
        raise EngineError(
            "network.dilated is true, which the PyTorch engine does not have; set it to false, or "
            "runtime.trainer to mxnet"
        )


class TorchTrunk(Trunk):
    """Modules whose weights stay."""

    @property
    def output_shape(self) -> Shape:
        return output_shape(self.net, self.image_shape)

    def export(self, path: Path) -> None:
        export_onnx(self.net, self.image_shape, path, ("features",))

    def runner(self, devices: Devices) -> Runner:
        return torch_runner(self.net, devices)


class ClassifierNet(nn.Module):
    """Blocks, then logits, which are the means of class maps."""

    def __init__(
        self, blocks: list[nn.Module], n_features: int, n_classes: int, dropout: float, pooling: float
    ) -> None:
        super().__init__()
        self.dropout, self.pooling = dropout, pooling
        self.blocks = nn.Sequential(*blocks)
        self.weight = nn.Parameter(torch.empty(n_classes, n_features))
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """Pool features (N, F, h, w) and weigh them into logits (N, C)."""
        if self.pooling < 1:
            return self.logits_of(self.maps_of(F.dropout2d(features, self.dropout, self.training)))
        # The gradient of `mean` is not in channels-last format; batch norm's backward pass is then slow.
        pooled = F.avg_pool2d(features, features.shape[2:]).flatten(1)  # (N, F)
        return F.linear(F.dropout(pooled, self.dropout, self.training), self.weight, self.bias)

    def maps_of(self, features: torch.Tensor) -> torch.Tensor:
        """Weigh features (N, F, h, w) into class maps (N, C, h, w)."""
        return F.conv2d(features, self.weight[:, :, None, None])

    def logits_of(self, maps: torch.Tensor) -> torch.Tensor:
        """Average class maps over positions into logits (N, C)."""
        flat = maps.flatten(2)  # (N, C, h * w)
        if self.pooling < 1:
            flat = flat.topk(max(1, round(self.pooling * int(flat.shape[2]))), dim=2).values
        return flat.mean(dim=2) + self.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(x))


class WithMaps(nn.Module):
    """A classifier that returns logits (N, C) and class maps (N, C, h, w)."""

    def __init__(self, net: ClassifierNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.net.maps_of(self.net.blocks(x))
        return self.net.logits_of(maps), maps


def build_classifier(
    blocks: list[nn.Module],
    input_shape: Shape,
    n_classes: int,
    dropout: float,
    seed: int,
    pooling: float = 1.0,
) -> TorchClassifier:
    """Put a fresh linear layer behind modules; there are none where all are frozen."""
    n_features = output_shape(nn.Sequential(*blocks).eval(), input_shape)[0]
    net = ClassifierNet(blocks, n_features, n_classes, dropout, pooling).eval()
    nn.init.normal_(net.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
    return TorchClassifier(net, input_shape)


class TorchClassifier(Classifier):
    """A :class:`ClassifierNet`."""

    digest_key = b"torch 2"

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: _array(tensor) for name, tensor in named_tensors(self.net).items()}

    def set_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        own = named_tensors(self.net)
        load_arrays(own.values(), [arrays[name] for name in own])

    def export(self, path: Path) -> None:
        export_onnx(WithMaps(self.net), self.input_shape, path, OUTPUTS)

    def runner(self, devices: Devices, maps: MapPlan) -> Runner:
        if maps.by_gradient:
            return gradient_runner(self.net, maps, devices)
        return torch_runner(WithMaps(self.net), devices)

    def without_linear(self) -> TorchTrunk:
        return TorchTrunk(self.net.blocks, self.input_shape)

    def updater(self, optimiser: Optimiser, devices: Devices) -> Updater:
        return TorchUpdater(self.net, optimiser, devices)

    def activation_numbers(self) -> int:
        """Count what autograd keeps of one row, by running it once."""
        kept: dict[int, int] = {}
        own = {tensor.data_ptr() for tensor in named_tensors(self.net).values()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.data_ptr() not in own:
                kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            self.net(torch.zeros(1, *self.input_shape))
        return math.prod(self.input_shape) + sum(kept.values())


def _everywhere(method: Callable[..., Any]) -> Callable[..., Any]:
    """Call an updater's method in all processes of the group."""

    @functools.wraps(method)
    def call(self: TorchUpdater, *arguments: Any) -> Any:
        if self._group is not None:
            self._group.send(method.__name__, *arguments)
        return method(self, *arguments)

    return call


class TorchUpdater(Updater):
    """A :class:`ClassifierNet` in training, on one device, or on one of each process of a group.

    What changes the weights happens in all processes of the group, and each computes its share of a batch,
    see :mod:`heatcrop.nets.pytorch.group`.

    With `devices.amp` convolutions and matrix products compute in bfloat16, whose range needs no scaling of
    the loss; weights and updates are float32 (Kalamkar et al., "A Study of BFLOAT16 for Deep Learning
    Training", 2019).
    """

    def __init__(self, net: ClassifierNet, optimiser: Optimiser, devices: Devices) -> None:
        self._device, self._devices, self._net = torch.device(devices.torch_device), devices, net
        self._group = process_group()
        if self._group is not None:
            self._group.send("train", net, optimiser)
        self._trainable = [p for p in net.parameters() if p.requires_grad]
        net.to(self._device, memory_format=torch.channels_last)
        self._tensors = list(named_tensors(net).values())
        head = [net.weight, net.bias]
        rest = [p for p in self._trainable if all(p is not one for one in head)]
        self._rates = {"head": optimiser.head_rate, "rest": 1.0}
        groups = [{"params": head, "name": "head"}, {"params": rest, "name": "rest"}]
        groups = [group for group in groups if group["params"]]
        self._decay, self._accumulate = optimiser.weight_decay, optimiser.accumulate
        on_gpu = self._device.type == "cuda"
        self._copies = torch.cuda.Stream(self._device) if on_gpu else None
        self._updates: collections.deque[torch.cuda.Event] = collections.deque()
        self._optimizer: torch.optim.Optimizer
        if optimiser.optimizer == "sgd":
            self._optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True)
        else:
            self._optimizer = torch.optim.Adam(groups, lr=1.0, weight_decay=self._decay)

    @_everywhere
    def begin_epoch(self, seed: int) -> None:
        torch.manual_seed(seed if self._group is None else seed + self._group.rank * 2**32)

    @_everywhere
    def update(self, x: np.ndarray, y: np.ndarray, rate: float) -> Any:
        self._limit_ahead()
        self._net.train()
        self._optimizer.zero_grad(set_to_none=True)
        n_parts, total = max(1, min(self._accumulate, len(x))), torch.zeros((), device=self._device)
        for part_x, part_y in zip(np.array_split(x, n_parts), np.array_split(y, n_parts), strict=True):
            own_rows = slice(None) if self._group is None else self._group.share(len(part_x))
            targets = self._to_device(part_y[own_rows])
            with (
                _autocast(self._devices, torch.bfloat16),
                # PyTorch's batch norm refuses a row alone whose map has one position.
                SharedStatistics() if self._group or len(part_x) == 1 else contextlib.nullcontext(),
            ):
                logits = self._net(self._input(part_x[own_rows])).float()  # (b, C)
            own = targets >= 0
            logits, targets = logits - MASKED * ~own, targets * own
            loss = -(targets * F.log_softmax(logits, dim=1)).sum()
            (loss / len(x)).backward()
            total += loss.detach()
        if self._group is not None:
            total = self._sum_gradients(self._group, total)
        self._set_rate(rate)
        self._optimizer.step()
        if self._copies is None:
            return float(total)
        self._updates.append(torch.cuda.current_stream(self._device).record_event())
        return total

    def _limit_ahead(self) -> None:
        """Wait until at most one update is unfinished: the inputs of all that are would fill the memory."""
        while len(self._updates) > 1:
            self._updates.popleft().synchronize()

    def _sum_gradients(self, group: ProcessGroup, loss: torch.Tensor) -> torch.Tensor:
        """Sum gradients and loss over all processes."""
        gradients = [p.grad for p in self._trainable if p.grad is not None]
        flat = torch.cat([*(g.flatten() for g in gradients), loss.reshape(1)])
        group.sum(flat)
        for gradient, part in zip(gradients, flat[:-1].split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view(gradient.shape))
        return flat[-1]

    def _set_rate(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            own = rate * self._rates[group["name"]]
            if isinstance(self._optimizer, torch.optim.Adam):
                group["lr"] = own
                continue
            # The momentum is that of updates, each with the rate of its time, not of gradients: as in MXNet.
            group["weight_decay"] = own * self._decay
            torch._foreach_mul_([p.grad for p in group["params"] if p.grad is not None], own)

    @_everywhere
    def end_epoch(self) -> None:
        if self._group is not None:
            for tensor in self._tensors:  # they are equal, unless a sum was rounded differently somewhere
                self._group.copy_first(tensor.detach())

    @_everywhere
    def logits(self, x: np.ndarray) -> np.ndarray:
        self._net.eval()
        rows = slice(None) if self._group is None else self._group.share(len(x))
        with torch.no_grad(), _autocast(self._devices, torch.bfloat16):
            own = self._net(self._input(x[rows])).float()
        if self._group is None:
            return _array(own)
        logits = own.new_zeros(len(x), own.shape[1])
        logits[rows] = own
        return _array(self._group.sum(logits))

    def weights(self) -> list[Any]:
        return [tensor.detach().clone() for tensor in self._tensors]

    @_everywhere
    def set_weights(self, weights: list[Any]) -> None:
        with torch.no_grad():
            for tensor, value in zip(self._tensors, weights, strict=True):
                tensor.copy_(value)

    def to_numpy(self, weights: list[Any]) -> list[np.ndarray]:
        return [_array(value) for value in weights]

    def from_numpy(self, arrays: list[np.ndarray]) -> list[Any]:
        return [torch.from_numpy(array).to(self._device) for array in arrays]

    def optimiser_state(self) -> list[np.ndarray]:
        """Read the arrays of each trained weight: for Adam step and two moments, for SGD its momentum.

        The first array is the numbers of these weights: a network of timm may have some that are not used.
        """
        states = {i: self._optimizer.state.get(p) for i, p in enumerate(self._trainable)}
        used = [i for i, state in states.items() if state]
        return [
            np.array(used, np.int64),
            *(_array(states[i][name]) for i in used for name in sorted(states[i])),
        ]

    @_everywhere
    def set_optimiser_state(self, arrays: list[np.ndarray]) -> None:
        names = ["exp_avg", "exp_avg_sq", "step"]
        if isinstance(self._optimizer, torch.optim.SGD):
            names = ["momentum_buffer"]
        used, rest = [self._trainable[i] for i in arrays[0]], iter(arrays[1:])
        if len(arrays) != 1 + len(names) * len(used):
            raise ValueError("the optimiser's state belongs to other parameters")
        for p in used:
            for name in names:
                value = torch.from_numpy(next(rest).copy())
                if name == "step":
                    self._optimizer.state[p][name] = value
                    continue
                if value.shape != p.shape:
                    raise ValueError("the optimiser's state belongs to other parameters")
                moment = torch.empty_like(p, memory_format=torch.preserve_format)
                self._optimizer.state[p][name] = moment.copy_(value)

    @_everywhere
    def close(self) -> None:
        self._net.to("cpu", memory_format=torch.contiguous_format).eval()

    def _input(self, x: np.ndarray) -> torch.Tensor:
        return self._to_device(x).contiguous(memory_format=torch.channels_last)

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        """Copy an array; to a GPU while it computes the update before."""
        tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32))
        if self._copies is None:
            return tensor.to(self._device)
        with torch.cuda.stream(self._copies):
            moved = tensor.to(self._device)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._copies)
        moved.record_stream(computing)  # its memory is not reused before
        return moved


def torch_runner(net: nn.Module, devices: Devices) -> Runner:
    """Run a module on a device, as a function from arrays to a tuple of arrays.

    With `devices.amp` it computes in float16, which has three more bits than bfloat16 and range enough
    without gradients.
    """
    device, own = torch.device(devices.torch_device), threading.local()
    net = net.to(device).eval()
    if device.type == "cuda":
        net = net.to(memory_format=torch.channels_last)
        torch.cuda.synchronize(device)  # other streams read the weights

    def run(x: np.ndarray) -> tuple[np.ndarray, ...]:
        if device.type == "cuda" and not hasattr(own, "stream"):
            own.stream = torch.cuda.Stream(device)  # threads copy and compute at the same time
        with torch.no_grad(), torch.cuda.stream(getattr(own, "stream", None)), _autocast(devices):
            out = net(torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(device))
            return tuple(map(_array, out)) if isinstance(out, tuple) else (_array(out),)

    return in_parts(run, CPU_BATCH) if device.type == "cpu" else run


def _autocast(devices: Devices, kind: torch.dtype = torch.float16) -> Any:
    """Compute convolutions and matrix products in another type, if mixed precision is on."""
    device = torch.device(devices.torch_device)
    return torch.autocast(device.type, kind) if devices.amp else contextlib.nullcontext()


def gradient_runner(net: ClassifierNet, plan: MapPlan, devices: Devices) -> Runner:
    """Run a trained classifier for its logits (N, C), and its class maps (N, C, h, w) by a backward pass.

    See :func:`heatcrop.nets.gluon.gradients.gradient_runner`, which computes the same with MXNet.
    """
    device = torch.device(devices.torch_device)
    net = net.to(device).eval()
    plan.check(len(net.blocks))
    cut = len(net.blocks) - plan.layer
    lock, n_classes = threading.Lock(), net.weight.shape[0]

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            features = net.blocks[:cut](torch.from_numpy(x).to(device))  # (n, F, h, w)
        # Repeat each image for each class: one backward pass serves the logits of all classes.
        tiled = features.repeat_interleave(n_classes, dim=0).requires_grad_()  # (n * C, F, h, w)
        logits = net.head(net.blocks[cut:](tiled))  # (n * C, C)
        classes = torch.arange(n_classes, device=device).repeat(len(x))
        own = logits.gather(1, classes[:, None]).sum()
        (gradient,) = torch.autograd.grad(own, tiled)
        if plan.method == "grad_cam":
            weights = gradient.sum(dim=(2, 3), keepdim=True)  # (n * C, F, 1, 1)
        else:
            weights = F.relu(gradient) * (gradient.shape[2] * gradient.shape[3])
        maps = (tiled * weights).sum(dim=1)  # (n * C, h, w)
        return _array(logits[::n_classes]), _array(maps.reshape(len(x), n_classes, *maps.shape[1:]))

    def one_at_a_time(x: np.ndarray) -> tuple[np.ndarray, ...]:
        with lock:
            return run(np.ascontiguousarray(x, np.float32))

    return in_parts(one_at_a_time, plan.images_at_once(n_classes))


def export_onnx(net: nn.Module, input_shape: Shape, path: Path, outputs: tuple[str, ...]) -> None:
    """Export a module with a free batch size and named outputs, atomically."""
    net = copy.deepcopy(net).cpu().eval().to(memory_format=torch.contiguous_format)
    names = ("data", *outputs)
    with atomic_path(path) as partial, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about traced sizes, which do not change
        torch.onnx.export(
            net,
            (torch.zeros(2, *input_shape),),
            str(partial),
            input_names=["data"],
            output_names=list(outputs),
            dynamic_axes={name: {0: "N"} for name in names},
            opset_version=_OPSET,
            dynamo=False,
        )


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())
