"""The one inference path: a block or a file in, arrays out, with two engines behind one door.

ONNX Runtime computes everything that needs no backward pass on a CPU, two to seven times as fast
as MXNet there and equal within 1e-4; MXNet serves where its GPU build finds a card. Cards too new for
that build compute through ONNX Runtime's own, where it is installed.
"""

from __future__ import annotations

import contextlib
import functools
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from heatcrop.metrics.calibration import softmax as softmax
from heatcrop.nets.cards import ON_CPU, Card, Devices
from heatcrop.nets.engine import mxnet

_CPU_PART = 4
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Runner(Protocol):
    """Runs one network on one batch.

    Several threads may call it at once. On a CPU each call keeps one core busy, and as many calls as
    there are cores keep all of them busy without ever waiting for one another, as threads within one
    operator would; on a GPU calls follow each other.
    """

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Map (N, c, h, w) float32 to the network's outputs, each with N first."""
        ...


def onnx_cuda() -> tuple[int, int] | None:
    """The CUDA that the installed ONNX Runtime is built for; None for a build without."""
    if _CUDA not in onnxruntime.get_available_providers():
        return None
    major, _, minor = str(getattr(onnxruntime, "cuda_version", "") or "0.0").partition(".")
    return int(major), int(minor.partition(".")[0] or 0)


def onnx_fault(card: Card) -> str:
    """Compute something on a card through ONNX Runtime; why it failed, or '' where it did not."""
    from heatcrop.nets.onnx_export import tiny_onnx

    try:
        session = _session(tiny_onnx(), card)
        if _CUDA not in session.get_providers():
            return (
                f"ONNX Runtime {onnxruntime.__version__} does not start on it: its CUDA libraries are missing"
            )
        session.run(None, {session.get_inputs()[0].name: np.ones((1, 1), np.float32)})
    except Exception as error:  # its errors have no common class but this one
        return f"ONNX Runtime does not compute on it ({' '.join(str(error).split())[:200]})"
    return ""


@functools.cache
def _load_cuda() -> None:
    """Load the CUDA libraries that were installed as Python packages; it prints what it misses."""
    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()


def _session(network: str | bytes, card: Card | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    providers: list[Any] = [_CPU]
    if card is not None:
        _load_cuda()
        options.log_severity_level = 4  # what goes wrong shows in the session's providers
        # Full float32, as on a CPU; and no search among all algorithms for each size of a last batch.
        how = {"device_id": str(card.number), "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
        providers.insert(0, (_CUDA, how))
    return onnxruntime.InferenceSession(network, options, providers=providers)


def onnx_runner(path: Path, card: Card | None = None) -> Runner:
    """Open an ONNX file, on a card or on the CPU."""
    session = _session(str(path), card)
    name = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]

    # A processor's caches hold the activations of a few pictures: small parts are a fifth faster there.
    part = _CPU_PART if card is None else None

    def run(x: np.ndarray) -> tuple[np.ndarray, ...]:
        x = np.ascontiguousarray(x, np.float32)
        step = part or max(1, len(x))
        found = [session.run(names, {name: x[i : i + step]}) for i in range(0, max(1, len(x)), step)]
        return tuple(found[0]) if len(found) == 1 else tuple(map(np.concatenate, zip(*found, strict=True)))

    return run


def mxnet_runner(block: Any, gpu: int | None = None, amp: bool = False) -> Runner:
    """Run a block on MXNet, on the GPU of that number or on the CPU; in mixed precision if asked."""
    mx = mxnet()
    context = mx.cpu() if gpu is None else mx.gpu(gpu)
    block.collect_params().reset_ctx(context)
    if amp:
        from heatcrop.nets.mixed import mixed_block

        block = mixed_block(block)
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
    devices: Devices = ON_CPU,
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
        See :func:`takes_mxnet`.
    devices : Devices
    """
    from heatcrop.nets.onnx_export import export_onnx  # where networks only run there is no `onnx`

    export_onnx(block, input_shape, onnx_path, outputs)  # always: what lies there must be this network
    return exported_runner(lambda: block, onnx_path, engine, devices)


def exported_runner(block: Callable[[], Any], onnx_path: Path, engine: str, devices: Devices) -> Runner:
    """Run a network that lies exported, and that `block` makes where MXNet is what runs it."""
    if takes_mxnet(engine, devices):
        return mxnet_runner(block(), devices.training[0].number if devices.training else None, devices.amp)
    return onnx_runner(onnx_path, devices.inference)


def takes_mxnet(engine: str, devices: Devices) -> bool:
    """Whether MXNet infers: ``auto`` takes it where it has a card, and ONNX Runtime otherwise."""
    return engine == "mxnet" or (engine == "auto" and bool(devices.training))
