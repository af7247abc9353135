"""Inference with two engines: open a network, call it with an array, get arrays.

ONNX Runtime computes everything that needs no backward pass on a CPU, two to seven times as fast as MXNet
and equal within 1e-4. MXNet infers where its GPU build finds a card. Cards that are too new for that build
compute through ONNX Runtime, where its GPU package is installed.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from heatcrop.errors import RunError
from heatcrop.files import printable
from heatcrop.runs.folder import remake

Runner = Callable[[np.ndarray], tuple[np.ndarray, ...]]
"""Maps (N, c, h, w) float32 to the network's outputs, each with N first.

Threads may call it concurrently. On a CPU each call uses one core, so as many calls as cores keep all of
them busy without the waiting that threads within one operator cause; on a GPU calls follow each other.
"""

CPU_BATCH = 4
"""Images that a CPU computes at once: their activations fit its caches, and take little memory."""
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

# A network to try a card with: y = x + x for (1, 1) float32, as onnx.helper.make_model serialises it.
DOUBLING_NETWORK = (
    b'\x08\x08:@\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x04tinyZ\x13\n\x01x\x12\x0e\n\x0c\x08\x01'
    b"\x12\x08\n\x02\x08\x01\n\x02\x08\x01b\x13\n\x01y\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x01\n"
    b"\x02\x08\x01B\x04\n\x00\x10\r"
)


def in_parts(run: Runner, size: int) -> Runner:
    """Run a network on so many images at once, and join its outputs."""

    def run_parts(x: np.ndarray) -> tuple[np.ndarray, ...]:
        parts = [run(x[first : first + size]) for first in range(0, max(1, len(x)), size)]
        return parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))

    return run_parts


def onnx_version() -> str:
    """Return ONNX Runtime's name and version."""
    return f"ONNX Runtime {onnxruntime.__version__}"


def onnx_cuda() -> tuple[int, int] | None:
    """Return the CUDA version that the installed ONNX Runtime is built for; None for a build without."""
    if _CUDA not in onnxruntime.get_available_providers():
        return None
    major, _, minor = str(getattr(onnxruntime, "cuda_version", "") or "0.0").partition(".")
    return int(major), int(minor.partition(".")[0] or 0)


def onnx_fault(gpu: int) -> str:
    """Compute something on the GPU of that number through ONNX Runtime; return why it failed, or ''."""
    try:
        session = _session(DOUBLING_NETWORK, gpu)
        if _CUDA not in session.get_providers():
            return f"{onnx_version()} does not start on it: its CUDA libraries are missing"
        session.run(None, {session.get_inputs()[0].name: np.ones((1, 1), np.float32)})
    except Exception as error:  # ONNX Runtime's errors have no common class but this one
        return f"ONNX Runtime does not compute on it ({' '.join(str(error).split())[:200]})"
    return ""


@functools.cache
def _load_cuda() -> None:
    """Load the CUDA libraries that are installed as Python packages, without printing the missing ones."""
    onnxruntime.set_default_logger_severity(4)  # it warns of each card, and of convolutions that it replaces
    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()


def _session(network: str | bytes, gpu: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    providers: list[Any] = [_CPU]
    if gpu is not None:
        _load_cuda()
        options.log_severity_level = 4  # failures show in the session's providers
        # Full float32, as on a CPU; and no search among all algorithms for the size of each last batch.
        settings = {"device_id": str(gpu), "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
        providers.insert(0, (_CUDA, settings))
    return onnxruntime.InferenceSession(network, options, providers=providers)


def open_network(path: Path, gpu: int | None = None, fix: str = "") -> Runner:
    """Open an ONNX file with ONNX Runtime, on a GPU or on the CPU; MXNet need not be installed.

    RunError where the file is missing or damaged; the message ends with `fix`, by default for a run.
    """
    if printable(str(path)) != str(path):
        raise RunError(f"{printable(str(path))}: ONNX Runtime opens names in UTF-8 only; rename the folder")
    try:
        session = _session(str(path), gpu)
    except Exception as error:  # ONNX Runtime has one class for each kind of damage
        if isinstance(error, MemoryError) or "alloc" in str(error):
            raise
        cause = str(error).splitlines()[0][:160]
        raise RunError(f"{path}: cannot be opened as a network ({cause}); {fix or remake(path)}") from None
    name = session.get_inputs()[0].name
    outputs = [output.name for output in session.get_outputs()]

    def run(x: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(session.run(outputs, {name: np.ascontiguousarray(x, np.float32)}))

    return in_parts(run, CPU_BATCH) if gpu is None else run
