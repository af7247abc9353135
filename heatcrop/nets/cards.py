"""NVIDIA cards: what the driver says of them, and which engine may compute on which.

The driver is asked through its own library, libcuda, so that neither a tool nor a CUDA toolkit need
be there. Nothing here imports an engine: :func:`decide` is a function of what was found.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
from collections.abc import Callable
from typing import Any, Literal

DeviceName = Literal["auto", "cpu", "gpu"]

# mxnet-cu112 holds machine code for 5.0, 6.0, 7.0, 8.0 and 8.6 and nothing a driver could translate.
_MXNET_OLDEST, _MXNET_TOO_NEW = (5, 0), (9, 0)
_MXNET_CUDA = (11, 0)
_ONNX_OLDEST = {
    12: (5, 0),
    13: (7, 5),
}  # by the CUDA that a package is built for: the oldest cards it has code for
_DRIVERS = {11: "450", 12: "525", 13: "580"}
_INSTALL_DRIVER = (
    "install it (Debian: apt install nvidia-driver; Ubuntu: ubuntu-drivers install; in a container: start it "
    "with --gpus all)"
)
_NO_DEVICE, _VERSIONS_DIFFER = 100, 803
_MAJOR, _MINOR = 75, 76
_NAME_BYTES = 256


@dataclasses.dataclass(frozen=True)
class Card:
    """One card.

    Attributes
    ----------
    number : int
        As the driver, MXNet and ONNX Runtime count.
    name : str
    capability : tuple of int
        Compute capability, such as (8, 6): what machine code it runs.
    memory : int
        Bytes in all.
    """

    number: int
    name: str
    capability: tuple[int, int]
    memory: int

    def __str__(self) -> str:
        return f"{self.name} ({self.memory / 2**30:.0f} GB, compute capability {_dotted(self.capability)})"


@dataclasses.dataclass(frozen=True)
class Driver:
    """What the driver says.

    Attributes
    ----------
    cuda : tuple of int or None
        The newest CUDA it speaks; None where no driver is installed.
    cards : tuple of Card
    fault : str
        Why it gives no cards, and what to do.
    """

    cuda: tuple[int, int] | None
    cards: tuple[Card, ...] = ()
    fault: str = ""


@dataclasses.dataclass(frozen=True)
class Devices:
    """Where to compute.

    Attributes
    ----------
    training : tuple of Card
        MXNet computes on these, a batch split among them; none: on the CPU.
    inference : Card or None
        ONNX Runtime computes on this one; None: on the CPU.
    amp : bool
        MXNet computes in mixed precision.
    notes : tuple of str
        A line for each card, or one that says why there is none.
    reason : str
        Why MXNet trains on the CPU; '' where it does not.
    driver : bool
        A driver is installed and asked: where nothing is trained on a card, that is worth a line.
    """

    training: tuple[Card, ...] = ()
    inference: Card | None = None
    amp: bool = False
    notes: tuple[str, ...] = ()
    reason: str = ""
    driver: bool = False


ON_CPU = Devices()


def ask_driver(open_library: Callable[[str], Any] = ctypes.CDLL) -> Driver:
    """Ask the installed driver for its cards."""
    try:
        cuda = open_library("libcuda.so.1")
    except OSError:
        return Driver(
            None, fault=f"no NVIDIA driver (libcuda.so.1); where there is a card, {_INSTALL_DRIVER}"
        )
    value = ctypes.c_int()
    try:
        speaks = (0, 0)
        if cuda.cuDriverGetVersion(ctypes.byref(value)) == 0:
            speaks = (value.value // 1000, value.value % 1000 // 10)
        error = cuda.cuInit(0)
        if error:
            return Driver(speaks, fault=_explain(error))
        _call(cuda.cuDeviceGetCount, ctypes.byref(value))
        cards = tuple(_card(cuda, number) for number in range(value.value))
    except (_DriverError, AttributeError) as error:
        return Driver((0, 0), fault=f"the NVIDIA driver does not answer ({error}); nvidia-smi tells more")
    return Driver(speaks, cards, "" if cards else _explain(_NO_DEVICE))


class _DriverError(Exception):
    """A function of the driver gave an error code."""


def _call(function: Any, *arguments: Any) -> None:
    error = function(*arguments)
    if error:
        raise _DriverError(f"{function.__name__}: error {error}")


def _card(cuda: Any, number: int) -> Card:
    device, value, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _call(cuda.cuDeviceGet, ctypes.byref(device), number)
    _call(cuda.cuDeviceGetName, name, _NAME_BYTES, device)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        _call(cuda.cuDeviceGetAttribute, ctypes.byref(value), attribute, device)
        capability.append(value.value)
    _call(cuda.cuDeviceTotalMem_v2, ctypes.byref(memory), device)
    told = name.value.decode(errors="replace")
    return Card(number, told, (capability[0], capability[1]), memory.value)


def _explain(error: int) -> str:
    if error == _NO_DEVICE:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = "" if hidden is None else f"; CUDA_VISIBLE_DEVICES is {hidden!r}"
        return f"the NVIDIA driver finds no card{why}"
    if error == _VERSIONS_DIFFER:
        return "the NVIDIA driver's library and its kernel module differ in version; restart the machine"
    return f"the NVIDIA driver does not start (cuInit: error {error}); nvidia-smi tells more"


def decide(
    driver: Driver,
    mxnet_gpu: bool,
    onnx_cuda: tuple[int, int] | None,
    device: DeviceName = "auto",
    mxnet_fault: Callable[[Card], str] = lambda card: "",
    onnx_fault: Callable[[Card], str] = lambda card: "",
) -> Devices:
    """Decide what is computed where.

    Parameters
    ----------
    driver : Driver
    mxnet_gpu : bool
        The installed MXNet is a build for GPUs.
    onnx_cuda : tuple of int or None
        The CUDA that the installed ONNX Runtime is built for; None for a build without.
    device : {'auto', 'cpu', 'gpu'}
        ``gpu`` is ``auto`` here: that it must not end on the CPU is the caller's to say.
    mxnet_fault, onnx_fault : callable
        Try a card; '' where it computes.

    Returns
    -------
    Devices
        Without mixed precision, which is the caller's to add.
    """
    if device == "cpu":
        return Devices(notes=("GPU: not used, runtime.device is cpu",), reason="runtime.device is cpu")
    if driver.fault:
        return Devices((), None, False, (f"GPU: {driver.fault}",), driver.fault, driver.cuda is not None)
    training, inference, notes, reasons = [], None, [], []
    for card in driver.cards:
        fault = _fault_for_mxnet(card, driver, mxnet_gpu) or mxnet_fault(card)
        other = _fault_for_onnx(card, driver, onnx_cuda) or onnx_fault(card)
        if not other and inference is None:
            inference = card
        if not fault:
            training.append(card)
            notes.append(f"GPU {card.number}: {card} trains")
            continue
        if card == inference:
            rest = "ONNX Runtime computes all but the training on it"
        else:
            rest = other if onnx_cuda or card.capability >= _MXNET_TOO_NEW else ""
        told = "; ".join(filter(None, (fault, rest)))
        reasons.append(f"{card.name} {told}")
        notes.append(f"GPU {card.number}: {card} {told}")
    reason = "" if training else "; ".join(reasons)
    return Devices(tuple(training), inference, False, tuple(notes), reason, True)


def _fault_for_mxnet(card: Card, driver: Driver, gpu_build: bool) -> str:
    """Why MXNet cannot train on a card; '' where it can."""
    if card.capability < _MXNET_OLDEST:
        return f"is too old for MXNet, whose code begins at {_dotted(_MXNET_OLDEST)} (Maxwell)"
    if card.capability >= _MXNET_TOO_NEW:
        return "is too new for MXNet, whose code ends at 8.9 (Ada)"
    if (driver.cuda or (0, 0)) < _MXNET_CUDA:
        return _old_driver(driver, _MXNET_CUDA[0])
    return "" if gpu_build else "is not known to this build of MXNet: make run GPU=1 trains on it"


def _fault_for_onnx(card: Card, driver: Driver, cuda: tuple[int, int] | None) -> str:
    """Why ONNX Runtime cannot compute on a card; '' where it can."""
    if cuda is None:
        return "make run GPU=new computes all but the training on it"
    oldest = _ONNX_OLDEST.get(cuda[0], (0, 0))
    if card.capability < oldest:
        return f"is too old for ONNX Runtime, whose code begins at {_dotted(oldest)}"
    return _old_driver(driver, cuda[0]) if (driver.cuda or (0, 0))[0] < cuda[0] else ""


def _old_driver(driver: Driver, major: int) -> str:
    newer = f" ({_DRIVERS[major]} or newer)" if major in _DRIVERS else ""
    return f"needs a newer driver{newer}: this one speaks CUDA {_dotted(driver.cuda or (0, 0))}, not {major}"


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
