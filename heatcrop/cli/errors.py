"""Explain a failure to the user in one line, without a traceback."""

from __future__ import annotations

import errno

from heatcrop.errors import CONTINUE, HeatCropError
from heatcrop.nets.gluon.engine import explain_import_failure

_REMEDIES = {
    errno.ENOENT: "if it was there before, restore it, or give the same command again: it rejects an image "
    "that is gone; if it was to be written, give another folder (--out)",
    errno.EEXIST: "a file or a broken link is where a folder must be made; remove it, or give another folder "
    "(--out)",
    errno.ENOTDIR: "a file is where a folder should be; give a path below a folder (--out)",
    errno.ELOOP: "it is a link to itself; remove it, or give another folder (--out)",
    errno.ENOSPC: f"make room on that disk; {CONTINUE}",
    errno.EDQUOT: f"make room within your quota; {CONTINUE}",
    errno.EFBIG: f"allow larger files (ulimit -f); {CONTINUE}",
    errno.EROFS: "give a folder that can be written to (--out)",
    errno.EACCES: "change its permissions, or give another folder (--out)",
    errno.EPERM: "change its permissions, or give another folder (--out)",
    errno.EMFILE: f"allow more open files (ulimit -n 1024); {CONTINUE}",
    errno.ENFILE: f"close other programs; {CONTINUE}",
}
_OURS = ("heatcrop", "stage1_cam", "stage2_crop", "stage3_finetune")
_NO_MEMORY = f"memory ran out; {CONTINUE}, --jobs 1 needs least memory"
_NO_GPU_MEMORY = (
    "the GPU's memory ran out; compute a batch in parts (cam.training.accumulate and "
    "finetune.training.accumulate, see check for the number), or end other programs that use it"
)
# In the messages of MXNet, ONNX Runtime, OpenCV, the dynamic loader and Python's threads.
_MEMORY_WORDS = ("bad_alloc", "allocate", "insufficient memory", "out of memory", "start new thread")


def explain(error: Exception) -> str | None:
    """Explain a failure that the user can fix; None for a fault of the program."""
    if isinstance(error, HeatCropError):
        return str(error)
    if isinstance(error, MemoryError):
        return _NO_MEMORY
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] not in _OURS:
        return explain_import_failure(error)
    words = str(error).casefold()
    if "cuda" in words and "out of memory" in words:
        return _NO_GPU_MEMORY
    if isinstance(error, OSError) and error.errno != errno.ENOMEM:
        if "allocate" in words:  # a library that could not be loaded
            return _NO_MEMORY
        place = f"{error.filename}: " if error.filename else ""
        remedy = _REMEDIES.get(error.errno or 0)
        return f"{place}{error.strerror or error}" + (f"; {remedy}" if remedy else "")
    if any(word in words for word in _MEMORY_WORDS):
        return _NO_MEMORY
    return None
