"""Import MXNet and GluonCV: no other module does.

MXNet 1.9.1 was made for numpy 1 and Python up to 3.8 and is no longer maintained. On current versions numpy
provides the names that MXNet still reads while it is imported; the CUDA libraries that come as Python
packages are opened first (GPU build only); missing system libraries are reported with their packages.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from heatcrop.errors import EngineError, install_command

A = TypeVar("A")

# Names that numpy 2 removed and MXNet reads during its import, with their meaning.
_REMOVED_VALUES: dict[str, Any] = {
    "PZERO": 0.0,
    "NZERO": -0.0,
    "PINF": np.inf,
    "NINF": -np.inf,
    "Inf": np.inf,
    "NaN": np.nan,
    "NAN": np.nan,
    "product": np.prod,
    "sometrue": np.any,
    "alltrue": np.all,
    "in1d": np.isin,
    "round_": np.round,
    "trapz": getattr(np, "trapezoid", None),
}
# Financial functions that numpy 1.20 removed. MXNet lists them for its own numpy API and never calls them.
_REMOVED_FUNCTIONS = ("mirr", "msort", "npv", "pmt", "ppmt", "pv", "rate")

# System library -> its Debian package. The first two are MXNet's, the others OpenCV's.
_SYSTEM_LIBRARIES = {
    "libquadmath.so.0": "libquadmath0",
    "libgomp.so.1": "libgomp1",
    "libxcb.so.1": "libxcb1",
    "libGL.so.1": "libgl1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libSM.so.6": "libsm6",
    "libXext.so.6": "libxext6",
}

# What mxnet-cu112 needs beside the driver; requirements/gpu.txt installs it.
_CUDA_LIBRARIES = (
    *("libcudart", "libcudnn", "libcublas", "libcublasLt", "libcufft"),
    *("libcusolver", "libcurand", "libnccl", "libnvrtc", "libnvToolsExt"),
)


@contextlib.contextmanager
def _numpy_one() -> Iterator[None]:
    """Let numpy provide its removed names within a block of imports; EngineError where one of them fails."""
    for name, builtin in (("int", int), ("float", float), ("object", object), ("bool", np.bool_)):
        # MXNet reads these four later too. numpy 2 has `bool` again; Python's own would break numpy.ma.
        if name not in vars(np):
            setattr(np, name, builtin)
    values = _REMOVED_VALUES | dict.fromkeys(_REMOVED_FUNCTIONS)
    added = values.keys() - vars(np).keys()
    for name in added:
        setattr(np, name, values[name])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ImportError, OSError, AttributeError) as error:
        raise EngineError(explain_import_failure(error)) from error
    finally:
        for name in added:
            delattr(np, name)


def open_cuda_libraries() -> list[str]:
    """Open the CUDA 11 libraries that were installed as Python packages (``nvidia-*-cu11``).

    They are in ``site-packages/nvidia/*/lib``, which the loader does not search. They depend on each other,
    so all that failed are tried again until none more opens. Returns the names of those that did not.
    """
    spec = importlib.util.find_spec("nvidia")
    if spec is None or not spec.submodule_search_locations:
        return []
    waiting = [
        file for root in spec.submodule_search_locations for file in sorted(Path(root).glob("*/lib/lib*.so*"))
    ]
    while waiting:
        failed = [file for file in waiting if not _opens(str(file), ctypes.RTLD_GLOBAL)]
        if len(failed) == len(waiting):
            break
        waiting = failed
    return [file.name for file in waiting]


def _opens(library: str, mode: int = ctypes.DEFAULT_MODE) -> bool:
    try:
        ctypes.CDLL(library, mode=mode)
    except OSError:
        return False
    return True


def explain_import_failure(error: BaseException) -> str:
    """Turn a failed import of the engine into one line with the fix.

    >>> explain_import_failure(OSError("libquadmath.so.0: cannot open shared object file"))
    'system libraries are missing (libquadmath.so.0); on Debian or Ubuntu: apt install libquadmath0'
    """
    text = str(error)
    if "libcuda.so.1" in text:
        return (
            "mxnet-cu112 is installed but the NVIDIA driver (libcuda.so.1) is not; install the driver "
            "(Debian: apt install nvidia-driver; Ubuntu: ubuntu-drivers install; a container: --gpus all), "
            "or use the environment for the CPU: make install, from requirements/run.txt"
        )
    if any(f"{library}.so" in text for library in _CUDA_LIBRARIES):
        library = text.split(":", 1)[0]
        return f"a CUDA 11 library is missing ({library}); install what MXNet needs: make install GPU=1"
    if any(library in text for library in _SYSTEM_LIBRARIES):
        # The loader reports one library; name all missing ones, so that one command is enough.
        missing = [lib for lib in _SYSTEM_LIBRARIES if lib in text or not _opens(lib)]
        packages = " ".join(dict.fromkeys(_SYSTEM_LIBRARIES[lib] for lib in missing))
        names = ", ".join(missing)
        return f"system libraries are missing ({names}); on Debian or Ubuntu: apt install {packages}"
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package {error.name!r} is missing; install all of them: {install_command()}"
    return f"MXNet cannot be imported: {text}"


@functools.cache
def mxnet() -> ModuleType:
    """Import MXNet; EngineError with what to install where that fails."""
    if not (3, 10) <= sys.version_info[:2] < (3, 14):
        raise EngineError(
            f"Python {sys.version_info[0]}.{sys.version_info[1]} is not supported; use CPython 3.10 to 3.13"
        )
    if gpu_build():
        open_cuda_libraries()
    with _numpy_one():
        module = importlib.import_module("mxnet")
        # Parts that MXNet loads on demand read the removed names too.
        for part in ("mxnet.gluon.nn", "mxnet.autograd", "mxnet.onnx"):
            importlib.import_module(part)
    return module


def import_for_cores(cores: int) -> None:
    """Import MXNet so that it computes with so many cores; without effect after the first import.

    MXNet reads ``OMP_NUM_THREADS`` while it is imported, and otherwise takes half of the cores. A value that
    the user has set stays, and libraries that are loaded later do not see this one.
    """
    own = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(cores)}
    os.environ.update(own)
    try:
        mxnet()
    finally:
        for name in own:
            del os.environ[name]


@functools.cache
def _caller() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "mxnet")


def in_one_thread(function: Callable[..., A]) -> Callable[..., A]:
    """Run a function that calls MXNet in the one thread of this process that serves all such functions.

    MXNet allocates buffers for each thread that has called it, tens of MB for a network of ordinary size, and
    keeps them when the thread ends: threads that live for one pass over the images would leak theirs. And two
    threads must not enter a block at once.
    """

    @functools.wraps(function)
    def run(*arguments: Any) -> A:
        return _caller().submit(function, *arguments).result()

    return run


@functools.cache
def _model_zoo() -> ModuleType:
    mxnet()
    with _numpy_one():
        # `import gluoncv` reports any failure as "missing mxnet & torch"; import what it needs by name
        # first, to see the cause.
        for part in ("portalocker", "yacs", "matplotlib", "scipy", "tqdm", "requests", "PIL", "cv2"):
            importlib.import_module(part)
        from PIL import ImageFile

        # GluonCV makes Pillow accept truncated images, for the entire process.
        lenient = ImageFile.LOAD_TRUNCATED_IMAGES
        with _without_torch():
            zoo = importlib.import_module("gluoncv.model_zoo")
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient
        zoo.model_store.get_model_file = _model_file  # which networks import when they need it
    return zoo


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """Hide an installed PyTorch: GluonCV, which can use it too, refuses every version from 2.0 on."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "torch"}
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]
        sys.modules.update(hidden)


def gluoncv_net(name: str, pretrained: bool = False) -> Any:
    """Build a network of GluonCV's model zoo; EngineError where GluonCV or the network is missing."""
    try:
        net = _model_zoo().get_model(name, pretrained=pretrained)
        # Some networks ignore the argument, others take the file of a network with other layers.
        if pretrained and any(p._data is None for p in net.collect_params().values()):
            raise ValueError(f"no published weights of {name}")
        return net
    except (ValueError, RuntimeError, AssertionError) as error:
        lacks, advice = "network", "see its list"
        if pretrained:
            lacks, advice = "published weights of", "give a file, or network.weights=none"
        raise EngineError(f"GluonCV's model zoo has no {lacks} {name!r}; {advice}") from error


def zoo_checksums() -> dict[str, str]:
    """Return the SHA-1 of each file of weights that GluonCV has published."""
    found: dict[str, str] = _model_zoo().model_store._model_sha1
    return found


def _model_file(name: str, *_options: Any, **_more: Any) -> str:
    """Take the place of GluonCV's download, which may leave half a file and reports its causes poorly."""
    if name not in zoo_checksums():
        raise ValueError(f"no published weights of {name}")
    from heatcrop.nets.weights.published import published_file  # not where only ONNX Runtime is installed

    return str(published_file(name, zoo_checksums()[name]))


def chain(*layers: Any) -> Any:
    """Chain layers into one block."""
    block = mxnet().gluon.nn.HybridSequential()
    block.add(*layers)
    return block


def mixed_precision() -> ModuleType:
    """Import MXNet's automatic mixed precision, which it loads on demand."""
    mxnet()
    with _numpy_one():
        return importlib.import_module("mxnet.contrib.amp")


def mixed_block(block: Any) -> Any:
    """Convert an initialised block: float32 input, output and parameters, which are shared; float16 between.

    Convolutions and matrix products compute in float16, which exists on GPUs only (Micikevicius et al.,
    "Mixed Precision Training", ICLR 2018). MXNet's ``amp.init`` would change every operator of the process
    for good, also those of networks that are exported in float32. Here the graph of one network is converted,
    by the same lists of operators.
    """
    mx = mxnet()
    out = block(mx.sym.var("data"))
    several = isinstance(out, (tuple, list))
    symbol = mx.sym.Group(list(out)) if several else out
    converted = mixed_precision().convert_symbol(symbol, "float16", data_names=["data"])
    outputs = [mx.sym.amp_cast(one, dtype="float32") for one in converted]
    data = mx.sym.var("data", dtype="float32")
    return mx.gluon.SymbolBlock(outputs if several else outputs[0], [data], params=block.collect_params())


def loss_scaler() -> Any:
    """Return MXNet's dynamic loss scale, which a trainer consults before each update.

    The loss is multiplied by ``loss_scale``, so that small gradients survive float16. An update whose
    gradients overflowed is skipped and halves the scale; 2000 updates without overflow double it.
    """
    return mixed_precision().loss_scaler.LossScaler()


def gpu_build() -> bool:
    """Return whether the installed MXNet is the build for GPUs."""
    try:
        importlib.metadata.version("mxnet-cu112")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def gpu_fault(number: int) -> str:
    """Compute something on a GPU; return why it failed, or ''."""
    mx = mxnet()
    try:
        if (mx.nd.ones((2,), ctx=mx.gpu(number)) + 1).sum().asscalar() == 4:
            return ""
        return "computes wrong sums with MXNet"
    except mx.MXNetError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"does not compute with MXNet ({lines[-1][:200] if lines else 'for an unknown reason'})"
