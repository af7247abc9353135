"""Read weights of the model zoo's networks from the files of other libraries, for both engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from heatcrop.errors import WeightsError
from heatcrop.nets.weights.params_file import read_params, require_fit
from heatcrop.nets.weights.pth_file import read_torch_weights, widened
from heatcrop.nets.weights.published import RESNETS

_NORM = ("gamma", "beta", "running_mean", "running_var")
_KINDS = (*_NORM, "weight", "bias")
_SAFETENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
"""Types of safetensors; numpy reads the bits of BF16 as integers."""

Shapes = Mapping[str, tuple[int, ...]]
Layers = Sequence[tuple[str, np.ndarray]]
"""Arrays in the order of the forward pass, each with its kind: ``weight``, ``gamma`` and so on."""


def weights_file(weights: str) -> Path | None:
    """Return the file of a network's weights; None for ``imagenet`` and ``none``."""
    path = Path(weights)
    if weights in ("imagenet", "none"):
        return None
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file; give imagenet, none or an existing file")
    return path


def read_zoo_weights(
    path: Path, network: str, shapes: Shapes, old_names: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """Read the weights of a network of the model zoo, with or without its head.

    Parameters
    ----------
    path : Path
        ``.params``, ``.safetensors`` or ``.pth`` with the names of the model zoo (``.params`` also with the
        names that Gluon wrote before MXNet 1.3), or ``.onnx`` for ``resnet18_v2`` to ``resnet152_v2``, whose
        layers are identified by their order.
    network : str
        Name of the network.
    shapes : mapping of str to tuple of int
        The wanted arrays, in the order of the forward pass.
    old_names : mapping of str to str, optional
        Their names by those of MXNet before 1.3, where they are known. Files with other old names are read by
        order, which only networks without layers beside the main path allow.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    WeightsError
        The file is missing, damaged, of an unknown format, or does not fit.
    """
    if path.suffix == ".onnx":
        if network not in RESNETS:
            known = ", ".join(RESNETS)
            raise WeightsError(f"{path}: .onnx files are read for {known} only, not for {network}")
        return _name_by_order(_read_onnx(path), shapes, path)
    if path.suffix == ".params":
        arrays = {name.removeprefix("arg:").removeprefix("aux:"): a for name, a in read_params(path).items()}
        if old_names and old_names.keys() <= arrays.keys():
            arrays = {name: arrays[old] for old, name in old_names.items()}
        elif not any("." in name for name in arrays):  # resnetv20_stage1_conv0_weight
            layers = [(_kind(name), array) for name, array in arrays.items() if "dense" not in name]
            return _name_by_order(layers, shapes, path)
    else:
        arrays = read_named(path, ".params, .safetensors, .pth or .onnx")
    arrays = {name: array for name, array in arrays.items() if name in shapes}
    require_fit(arrays, shapes, path)
    return arrays


def read_named(path: Path, kinds: str = ".safetensors or .pth") -> dict[str, np.ndarray]:
    """Read named arrays from a ``.safetensors`` or ``.pth`` file; `kinds` are those that the caller reads."""
    if path.suffix in (".pth", ".pt"):
        return read_torch_weights(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: unknown kind of weight file {path.suffix!r}; expected {kinds}")
    try:
        from safetensors import deserialize
    except ModuleNotFoundError:
        raise WeightsError(
            f"{path}: needs the Python package safetensors: python -m pip install safetensors"
        ) from None
    try:
        parts = deserialize(path.read_bytes())
        return {name: _safetensor(**part) for name, part in parts}
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # safetensors has its own classes of errors
        raise WeightsError(f"{path}: cannot be read as safetensors ({str(error)[:160]})") from error


def _safetensor(dtype: str, shape: Sequence[int], data: bytes) -> np.ndarray:
    if dtype not in _SAFETENSORS:
        raise ValueError(f"its numbers are {dtype}; save it as F32")
    array = np.frombuffer(data, _SAFETENSORS[dtype]).reshape(shape)
    return widened(array) if dtype == "BF16" else array


def _read_onnx(path: Path) -> Layers:
    """Read the convolutions and batch norms of an ONNX file.

    Names and the order of the file do not count: layers are ordered as the graph is passed backwards from its
    output, along the longest branch first, so that a residual unit's projection follows its convolutions.
    """
    import onnx  # not installed where networks are only run

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
        arrays = {tensor.name: tensor for tensor in graph.initializer}
        if any(tensor.data_location for tensor in arrays.values()):
            raise ValueError("its weights are in other files, which are not opened")
        outputs = [(name, node) for node in graph.node for name in node.output if name]
        maker = dict(outputs)
        if len(maker) < len(outputs):
            raise ValueError("two of its outputs have the same name")
        depth: dict[str, int] = {}
        for node in graph.node:
            inputs = [depth[name] for name in node.input if name in maker]  # made earlier, or a KeyError
            depth |= dict.fromkeys(node.output, 1 + max(inputs, default=0))
        layers: list[tuple[str, np.ndarray]] = []
        done: set[str] = set()
        waiting = [graph.output[0].name]
        while waiting:
            name = waiting[-1]
            missing = [one for one in maker[name].input if one in maker and one not in done]
            if missing:
                waiting.append(max(missing, key=depth.__getitem__))
                continue
            done.add(waiting.pop())
            kinds = {"Conv": ("weight", "bias"), "BatchNormalization": _NORM}.get(maker[name].op_type, ())
            layers += [
                (kind, onnx.numpy_helper.to_array(arrays[one]))
                for kind, one in zip(kinds, maker[name].input[1:], strict=False)
            ]
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a damaged file can raise anything
        raise WeightsError(f"{path}: cannot be read as a network in ONNX format ({error!r:.160})") from error
    return layers


def _kind(name: str) -> str:
    return next((kind for kind in _KINDS if name.endswith(kind)), name)


def _name_by_order(layers: Layers, shapes: Shapes, path: Path) -> dict[str, np.ndarray]:
    """Give arrays the names at the same places; WeightsError where number, kinds or shapes differ."""
    if len(layers) != len(shapes):
        raise WeightsError(
            f"{path}: weights do not fit this network (it holds {len(layers)} arrays of convolutions and "
            f"batch norms, the network has {len(shapes)})"
        )
    named = {}
    for (name, shape), (kind, array) in zip(shapes.items(), layers, strict=True):
        if kind != _kind(name) or array.shape != tuple(shape):
            raise WeightsError(
                f"{path}: weights do not fit this network (at the place of {name}, {tuple(shape)}, is a "
                f"{kind} of shape {array.shape})"
            )
        named[name] = array
    return named
