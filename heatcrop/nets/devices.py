"""Which devices this installation computes on: the driver, both engines and the setting taken together."""

from __future__ import annotations

import dataclasses
import functools
import os

from heatcrop.errors import EngineError
from heatcrop.nets.cards import Card, DeviceName, Devices, ask_driver, decide
from heatcrop.nets.engine import gpu_build, gpu_fault
from heatcrop.nets.inference import onnx_cuda, onnx_fault

_OWN_KERNELS = (11, 8)


@functools.cache
def _found(device: DeviceName) -> Devices:
    driver = ask_driver()
    if driver.cuda is not None and driver.cuda < _OWN_KERNELS:
        # MXNet joins small operators into kernels of its own, which NVRTC 11.8 writes for drivers that
        # speak CUDA 11.8; without them it computes the same.
        os.environ.setdefault("MXNET_USE_FUSION", "0")

    def mxnet_fault(card: Card) -> str:
        return gpu_fault(card.number)

    return decide(driver, gpu_build(), onnx_cuda(), device, mxnet_fault, onnx_fault)


def find_devices(device: DeviceName = "auto", amp: bool = False) -> Devices:
    """Find the devices to compute on.

    Parameters
    ----------
    device : {'auto', 'cpu', 'gpu'}
        ``auto`` takes the GPU where it works.
    amp : bool
        Mixed precision, which exists on GPUs alone.

    Raises
    ------
    EngineError
        Where a GPU is asked for and none works.
    """
    found = _found(device)
    if device == "gpu" and not found.training and found.inference is None:
        raise EngineError(f"runtime.device is gpu, but no GPU works: {found.reason}")
    if amp and not found.training:
        raise EngineError(
            f"runtime.amp (mixed precision) needs a GPU to train on, but there is none: {found.reason}"
        )
    return dataclasses.replace(found, amp=amp)
