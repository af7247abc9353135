"""Build a stub of the NVIDIA driver, a libcuda.so.1 that reports any cards, with the system's C compiler.

It implements the functions that :mod:`heatcrop.nets.devices` calls. The other functions that mxnet-cu112
links against report that there is no card, so that MXNet can be loaded and computes on the CPU.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from heatcrop.nets.devices import Card

_SOURCE = """
#include <stddef.h>
#include <string.h>
static const char *names[] = {%(names)s};
static const int major[] = {%(major)s}, minor[] = {%(minor)s};
static const size_t memory[] = {%(memory)s};
int cuDriverGetVersion(int *version) { *version = %(version)d; return 0; }
int cuInit(unsigned flags) { return flags ? 1 : %(init)d; }
int cuDeviceGetCount(int *count) { *count = %(count)d; return 0; }
int cuDeviceGet(int *device, int number) { *device = number + 40; return number >= %(count)d; }
int cuDeviceGetName(char *name, int length, int device) {
  strncpy(name, names[device - 40], length);
  return 0;
}
int cuDeviceGetAttribute(int *value, int what, int device) {
  if (what != 75 && what != 76) return 1;
  *value = what == 75 ? major[device - 40] : minor[device - 40];
  return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = memory[device - 40]; return 0; }
"""
_NO_DEVICE = "int %s(void) { return 100; }\n"


def compiler() -> str | None:
    """Find the system's C compiler."""
    return shutil.which("gcc") or shutil.which("cc")


def build_stub(
    folder: Path,
    cards: Sequence[Card] = (),
    cuda: tuple[int, int] = (11, 8),
    init: int = 0,
    others: Sequence[str] = (),
) -> Path:
    """Build ``libcuda.so.1`` in a folder.

    Parameters
    ----------
    folder : Path
    cards : sequence of Card
        The cards to report.
    cuda : tuple of int
        The CUDA version to report.
    init : int
        Return code of ``cuInit``.
    others : sequence of str
        Further functions, which report that there is no card.

    Returns
    -------
    Path
        The library.
    """
    values = {
        "names": ", ".join(f'"{card.name}"' for card in cards) or '""',
        "major": ", ".join(str(card.capability[0]) for card in cards) or "0",
        "minor": ", ".join(str(card.capability[1]) for card in cards) or "0",
        "memory": ", ".join(f"{card.memory}ULL" for card in cards) or "0",
        "version": cuda[0] * 1000 + cuda[1] * 10,
        "init": init,
        "count": len(cards),
    }
    source, library = folder / "libcuda.c", folder / "libcuda.so.1"
    source.write_text(_SOURCE % values + "".join(_NO_DEVICE % name for name in others))
    command = [compiler() or "cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(library)]
    subprocess.run([*command, str(source)], check=True, capture_output=True)
    return library
