"""NVIDIA GPUs: what the driver reports, and which engine computes on which card.

The driver is queried through its own library, libcuda, so neither a tool nor a CUDA toolkit is needed.
:func:`choose_devices` is a function of what was found; :func:`find_devices` applies it to this machine.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import importlib.util
import os
from collections.abc import Callable
from typing import Any, Literal

from heatcrop.errors import EngineError, install_command
from heatcrop.nets.backbones import TIMM
from heatcrop.nets.gluon.engine import gpu_build, gpu_fault
from heatcrop.nets.inference import onnx_cuda, onnx_fault

DeviceName = Literal["auto", "cpu", "gpu"]
TrainerName = Literal["auto", "mxnet", "torch"]

# mxnet-cu112 holds machine code for 5.0, 6.0, 7.0, 8.0 and 8.6 and no PTX that a driver could translate.
_MXNET_OLDEST, _MXNET_TOO_NEW = (5, 0), (9, 0)
_MXNET_CUDA = (11, 0)
# MXNet fuses small operators into kernels that NVRTC 11.8 compiles; older drivers cannot load those.
_MXNET_FUSION_CUDA = (11, 8)
# By the CUDA version that an ONNX Runtime package is built for: the oldest compute capability it supports.
_ONNX_OLDEST = {12: (5, 0), 13: (7, 5)}
_DRIVERS = {11: "450", 12: "525", 13: "580"}
_INSTALL_DRIVER = (
    "install it (Debian: apt install nvidia-driver; Ubuntu: ubuntu-drivers install; in a container: start it "
    "with --gpus all)"
)
_NO_DEVICE, _VERSIONS_DIFFER = 100, 803
_CAPABILITY_ATTRIBUTES = (75, 76)
_NAME_BYTES = 256


@dataclasses.dataclass(frozen=True)
class Card:
    """One card: its device number, name, compute capability such as (8, 6), and bytes of memory."""

    number: int
    name: str
    capability: tuple[int, int]
    memory: int

    def __str__(self) -> str:
        return f"{self.name} ({self.memory / 2**30:.0f} GB, compute capability {_dotted(self.capability)})"


@dataclasses.dataclass(frozen=True)
class Driver:
    """What the driver reports."""

    cuda: tuple[int, int] | None
    """The newest CUDA version it supports; None where no driver is installed."""
    cards: tuple[Card, ...] = ()
    fault: str = ""
    """Why there are no cards, and the fix."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """Where to compute."""

    training: tuple[Card, ...] = ()
    """MXNet splits each batch among these; empty for the CPU."""
    inference: Card | None = None
    """The card of ONNX Runtime; None for the CPU."""
    amp: bool = False
    """MXNet computes in mixed precision."""
    notes: tuple[str, ...] = ()
    """One line for each card, or one that explains why there is none."""
    reason: str = ""
    """Why MXNet trains on the CPU; '' where it does not."""
    driver: bool = False
    """Whether a driver was queried: training on the CPU is then worth a message."""
    torch_device: str = "cpu"
    """What PyTorch calls the device that it trains on."""

    @property
    def training_gpu(self) -> int | None:
        """The number of the card that the training engine infers on; None for the CPU."""
        return self.training[0].number if self.training else None

    @property
    def onnx_gpu(self) -> int | None:
        """The number of the card that ONNX Runtime infers on; None for the CPU."""
        return None if self.inference is None else self.inference.number

    def infer_by_trainer(self, engine: str) -> bool:
        """Return whether the training engine infers: with ``auto``, where it has a card."""
        return engine == "mxnet" or (engine == "auto" and bool(self.training))


ON_CPU = Devices()


class _DriverError(Exception):
    """A function of the driver returned an error code."""


def query_driver(open_library: Callable[[str], Any] = ctypes.CDLL) -> Driver:
    """Query the installed driver for its cards."""
    try:
        cuda = open_library("libcuda.so.1")
    except OSError:
        fault = f"no NVIDIA driver (libcuda.so.1); where there is a card, {_INSTALL_DRIVER}"
        return Driver(None, fault=fault)
    value = ctypes.c_int()
    try:
        version = (0, 0)
        if cuda.cuDriverGetVersion(ctypes.byref(value)) == 0:
            version = (value.value // 1000, value.value % 1000 // 10)
        error = cuda.cuInit(0)
        if error:
            return Driver(version, fault=_explain(error))
        _call(cuda.cuDeviceGetCount, ctypes.byref(value))
        cards = tuple(_query_card(cuda, number) for number in range(value.value))
    except (_DriverError, AttributeError) as error:
        return Driver((0, 0), fault=f"the NVIDIA driver does not answer ({error}); nvidia-smi shows more")
    return Driver(version, cards, "" if cards else _explain(_NO_DEVICE))


def _call(function: Any, *arguments: Any) -> None:
    error = function(*arguments)
    if error:
        raise _DriverError(f"{function.__name__}: error {error}")


def _query_card(cuda: Any, number: int) -> Card:
    device, value, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _call(cuda.cuDeviceGet, ctypes.byref(device), number)
    _call(cuda.cuDeviceGetName, name, _NAME_BYTES, device)
    capability = []
    for attribute in _CAPABILITY_ATTRIBUTES:
        _call(cuda.cuDeviceGetAttribute, ctypes.byref(value), attribute, device)
        capability.append(value.value)
    _call(cuda.cuDeviceTotalMem_v2, ctypes.byref(memory), device)
    return Card(number, name.value.decode(errors="replace"), (capability[0], capability[1]), memory.value)


def _explain(error: int) -> str:
    if error == _NO_DEVICE:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = "" if hidden is None else f"; CUDA_VISIBLE_DEVICES is {hidden!r}"
        return f"the NVIDIA driver finds no card{why}"
    if error == _VERSIONS_DIFFER:
        return "the NVIDIA driver's library and its kernel module differ in version; restart the machine"
    return f"the NVIDIA driver does not start (cuInit: error {error}); nvidia-smi shows more"


def choose_devices(
    driver: Driver,
    mxnet_gpu: bool,
    onnx_cuda: tuple[int, int] | None,
    device: DeviceName = "auto",
    mxnet_fault: Callable[[int], str] = lambda number: "",
    onnx_fault: Callable[[int], str] = lambda number: "",
) -> Devices:
    """Choose what is computed where.

    Whether MXNet is a build for GPUs and which CUDA ONNX Runtime is built for is given; the faults try a
    card by its number and return '' where it works. The caller checks that a required GPU was found, and sets
    `amp`.
    """
    if device == "cpu":
        return Devices(notes=("GPU: not used, runtime.device is cpu",), reason="runtime.device is cpu")
    if driver.fault:
        return Devices(notes=(f"GPU: {driver.fault}",), reason=driver.fault, driver=driver.cuda is not None)
    training, inference, notes, reasons = [], None, [], []
    for card in driver.cards:
        training_fault = _fault_for_mxnet(card, driver, mxnet_gpu) or mxnet_fault(card.number)
        inference_fault = _fault_for_onnx(card, driver, onnx_cuda) or onnx_fault(card.number)
        if not inference_fault and inference is None:
            inference = card
        if not training_fault:
            training.append(card)
            notes.append(f"GPU {card.number}: {card} trains")
            continue
        if card == inference:
            rest = "ONNX Runtime computes all but the training on it"
        else:
            rest = inference_fault if onnx_cuda or card.capability >= _MXNET_TOO_NEW else ""
        text = "; ".join(filter(None, (training_fault, rest)))
        reasons.append(f"{card.name} {text}")
        notes.append(f"GPU {card.number}: {card} {text}")
    reason = "" if training else "; ".join(reasons)
    return Devices(tuple(training), inference, False, tuple(notes), reason, True)


def _fault_for_mxnet(card: Card, driver: Driver, gpu_build: bool) -> str:
    """Explain why MXNet cannot train on a card; '' where it can."""
    if card.capability < _MXNET_OLDEST:
        return f"is too old for MXNet, whose code begins at {_dotted(_MXNET_OLDEST)} (Maxwell)"
    if card.capability >= _MXNET_TOO_NEW:
        return "is too new for MXNet, whose code ends at 8.9 (Ada)"
    if (driver.cuda or (0, 0)) < _MXNET_CUDA:
        return _driver_too_old(driver, _MXNET_CUDA[0])
    return "" if gpu_build else "is not supported by this build of MXNet: make run GPU=1 trains on it"


def _fault_for_onnx(card: Card, driver: Driver, cuda: tuple[int, int] | None) -> str:
    """Explain why ONNX Runtime cannot compute on a card; '' where it can."""
    if cuda is None:
        return "make run GPU=new computes all but the training on it"
    oldest = _ONNX_OLDEST.get(cuda[0], (0, 0))
    if card.capability < oldest:
        return f"is too old for ONNX Runtime, whose code begins at {_dotted(oldest)}"
    return _driver_too_old(driver, cuda[0]) if (driver.cuda or (0, 0))[0] < cuda[0] else ""


def _driver_too_old(driver: Driver, major: int) -> str:
    newer = f" ({_DRIVERS[major]} or newer)" if major in _DRIVERS else ""
    cuda = _dotted(driver.cuda or (0, 0))
    return f"needs a newer driver{newer}: this one supports CUDA {cuda}, not {major}"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


@functools.cache
def _found(device: DeviceName) -> Devices:
    driver = query_driver()
    if driver.cuda is not None and driver.cuda < _MXNET_FUSION_CUDA:
        os.environ.setdefault("MXNET_USE_FUSION", "0")  # MXNet computes the same without fused kernels
    return choose_devices(driver, gpu_build(), onnx_cuda(), device, gpu_fault, onnx_fault)


def find_devices(device: DeviceName = "auto", amp: bool = False, trainer: str = "mxnet") -> Devices:
    """Find the devices of this machine and installation to compute on, where `trainer` trains.

    EngineError where `device` is ``gpu``, or mixed precision is on, and no GPU works.
    """
    found = _found_for_torch(device) if trainer == "torch" else _found(device)
    if device == "gpu" and not found.training and found.inference is None:
        raise EngineError(f"runtime.device is gpu, but no GPU works: {found.reason}")
    if amp and not found.training:
        raise EngineError(
            f"runtime.amp (mixed precision) needs a GPU to train on, but there is none: {found.reason}"
        )
    return dataclasses.replace(found, amp=amp)


def choose_trainer(trainer: TrainerName, backbone: str, device: DeviceName) -> Literal["mxnet", "torch"]:
    """Choose what trains: ``auto`` takes MXNet where it is installed and knows backbone and best device.

    EngineError where PyTorch would train and is not installed.
    """
    no_torch = importlib.util.find_spec("torch") is None
    unknown = backbone.startswith(TIMM) or importlib.util.find_spec("mxnet") is None
    if trainer == "torch" or (trainer == "auto" and unknown):
        if no_torch:
            raise EngineError(f"PyTorch is to train and is not installed: {install_command('torch')}")
        return "torch"
    if trainer == "mxnet" or no_torch or device == "cpu" or _found(device).training:
        return "mxnet"
    return "torch" if _found_for_torch(device).training else "mxnet"


@functools.cache
def _found_for_torch(device: DeviceName) -> Devices:
    """Find the card that PyTorch trains on, beside that of ONNX Runtime."""
    import torch

    found = dataclasses.replace(_found(device), training=())
    if device == "cpu":
        return found
    if torch.cuda.is_available():
        number = int(os.environ.get("LOCAL_RANK") or 0)  # one for each process of a launcher
        if number >= torch.cuda.device_count():
            raise EngineError(
                f"process {number} of this machine has no card, there are {torch.cuda.device_count()}; start "
                "one process for each card (torchrun --nproc-per-node)"
            )
        of_card = torch.cuda.get_device_properties(number)
        card = Card(number, of_card.name, (of_card.major, of_card.minor), of_card.total_memory)
        title, place = f"GPU {number}: {card}", f"cuda:{number}"
        if fault := _torch_fault(place):
            return dataclasses.replace(found, notes=(f"{title} {fault}",), reason=f"{card.name} {fault}")
    elif torch.backends.mps.is_available():
        card = Card(0, "Apple GPU", (0, 0), int(torch.mps.recommended_max_memory()))
        title, place = f"{card.name}:", "mps"
    elif query_driver().cards:
        build = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        reason = f"PyTorch {torch.__version__} finds no card: it {build}"
        return dataclasses.replace(found, notes=(f"GPU: {reason}",), reason=reason)
    else:
        return found
    note = f"{title} trains with PyTorch {torch.__version__}"
    return dataclasses.replace(found, training=(card,), notes=(note,), reason="", torch_device=place)


def _torch_fault(place: str) -> str:
    """Compute something on a card, which may be listed but lack code; return why it failed, or ''."""
    import torch

    try:
        image, kernel = torch.ones(1, 1, 2, 2, device=place), torch.ones(1, 1, 1, 1, device=place)
        if float(torch.nn.functional.conv2d(image, kernel).sum()) == 4:
            return ""
        cause = "computes wrong sums"
    except (RuntimeError, AssertionError) as error:  # AssertionError: a build without CUDA
        cause = (
            f"does not compute ({str(error).splitlines()[0][:200] if str(error) else type(error).__name__})"
        )
    return f"{cause} with PyTorch {torch.__version__}, built for CUDA {torch.version.cuda}"
