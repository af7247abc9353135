"""What a killed process leaves in a run folder besides its artefacts."""

from __future__ import annotations

import os
import re
from pathlib import Path

from heatcrop.runs.built import sweep_built
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.lock import LOCK, NOTE

# As heatcrop.files.atomic_path names a file that is being written.
_PARTIAL = re.compile(r"\..+\.\d+-\d+\.partial")
_BUILT = ("crops", "report")  # folders that are built beside, and take their place when complete


def is_ours(path: Path) -> bool:
    """Whether a file of a new run folder can only be a killed process's, before it got to config.yaml."""
    return path.name in (LOCK, NOTE) or _PARTIAL.fullmatch(path.name) is not None


def sweep(folder: RunFolder) -> None:
    """Remove half-written files and folders; call it only while the run folder is held.

    Crop folders are passed by: they are many files, and are complete when they bear their name.
    """
    for built in (folder.report.parent, *(task / "crops" for task in folder.path.iterdir() if task.is_dir())):
        sweep_built(built)
    for place, folders, files in os.walk(folder.path):
        folders[:] = [name for name in folders if name not in _BUILT]
        for name in files:
            if _PARTIAL.fullmatch(name):
                (Path(place) / name).unlink(missing_ok=True)
