"""The one inference path: a block or a file in, arrays out, with two engines behind one door.

ONNX Runtime computes everything that needs no backward pass on a CPU, two to seven times as fast
as MXNet there and equal within 1e-4; MXNet serves where its GPU build finds a card.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from learning.engine import gpu_count, mxnet

_CPU_PART = 4


class Runner(Protocol):
    """Runs one network on one batch.

    Several threads may call it at once. On a CPU each call keeps one core busy, and as many calls as
    there are cores keep all of them busy without ever waiting for one another, as threads within one
    operator would; on a GPU calls follow each other.
    """

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Map (N, c, h, w) float32 to the network's outputs, each with N first."""
        ...


def onnx_runner(path: Path) -> Runner:
    """Open an ONNX file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    available = onnxruntime.get_available_providers()
    providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    name = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]

    # A processor's caches hold the activations of a few pictures: small parts are a fifth faster there.
    part = _CPU_PART if providers == ["CPUExecutionProvider"] else None

    def run(x: np.ndarray) -> tuple[np.ndarray, ...]:
        x = np.ascontiguousarray(x, np.float32)
        step = part or max(1, len(x))
        found = [session.run(names, {name: x[i : i + step]}) for i in range(0, max(1, len(x)), step)]
        return tuple(found[0]) if len(found) == 1 else tuple(map(np.concatenate, zip(*found, strict=True)))

    return run


def mxnet_runner(block: Any, gpu: int | None = None) -> Runner:
    """Run a block on MXNet, on the GPU of that number or on the CPU."""
    mx = mxnet()
    context = mx.cpu() if gpu is None else mx.gpu(gpu)
    block.collect_params().reset_ctx(context)
    block.hybridize(static_alloc=True)
    alone = threading.Lock()  # a block is not to be entered by two threads at once

    def run(x: np.ndarray) -> tuple[np.ndarray, ...]:
        with alone:
            out = block(mx.nd.array(x, ctx=context, dtype="float32"))
            return tuple(o.asnumpy() for o in out) if isinstance(out, (tuple, list)) else (out.asnumpy(),)

    return run


def block_runner(
    block: Any,
    input_shape: tuple[int, int, int],
    onnx_path: Path,
    outputs: tuple[str, ...],
    engine: str = "auto",
) -> Runner:
    """Make a block ready for inference.

    Parameters
    ----------
    block : HybridBlock
    input_shape : tuple (c, h, w)
    onnx_path : Path
        Where the exported network is written (and kept).
    outputs : tuple of str
    engine : {'auto', 'onnx', 'mxnet'}
        ``auto`` takes MXNet when its build sees a GPU, ONNX Runtime otherwise.
    """
    from learning.onnx_export import export_onnx  # where networks only run there is no `onnx`

    export_onnx(block, input_shape, onnx_path, outputs)  # always: what lies there must be this network
    if engine == "mxnet" or (engine == "auto" and gpu_count() > 0):
        return mxnet_runner(block, 0 if gpu_count() else None)
    return onnx_runner(onnx_path)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn (..., C) logits into probabilities.

    >>> softmax(np.array([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
