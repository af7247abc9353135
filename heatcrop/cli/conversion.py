"""Write a run's data with its predictions in the formats of other tools."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from heatcrop.cli.loading import Dataset
from heatcrop.cli.run_folders import reload_dataset
from heatcrop.data.dataset import TaskData
from heatcrop.data.labels import MAYBE, YES
from heatcrop.data.writers import FORMATS
from heatcrop.data.writers.records import Record
from heatcrop.metrics.localisation import true_boxes
from heatcrop.predict.formats import refuse_other_files, rounded, write_format
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import branch_file, read_arrays, read_branches
from heatcrop.runs.reading import missing


def convert_run(folder: RunFolder, name: str, out: Path, wanted: Sequence[str], copy: bool) -> int:
    """Write labels, predictions, crops and true regions of a run's finished tasks; return how many rows.

    Parameters
    ----------
    folder : RunFolder
    name : str
        One of `heatcrop.data.writers.FORMATS`.
    out : Path
        The folder to write.
    wanted : sequence of str
        Names of tasks; empty for all.
    copy : bool
        Copy the images; otherwise the files name them by their absolute paths.

    Raises
    ------
    RunError
        Where the folder holds other files, or a task is not finished.
    DataError
        Where a file of the run is missing or damaged.
    """
    refuse_other_files(out)
    dataset = reload_dataset(folder, wanted, keep=False)
    records: list[Record] = []
    images: dict[str, str] = {}
    for data in dataset.tasks.values():
        paths = [os.path.abspath(path) for path in data.paths]
        files = list(data.images) if copy else paths
        records += _records(folder, data, dataset, files)
        images |= {f"{FORMATS[name].images}/{file}": path for file, path in zip(files, paths, strict=True)}
    write_format(out, FORMATS[name].dataset(records), images if copy else None)
    return len(records)


def _records(folder: RunFolder, data: TaskData, dataset: Dataset, files: Sequence[str]) -> Iterator[Record]:
    task = folder.task(data.task.name)
    if not (file := branch_file(task, "fused")).is_file():
        raise missing(file)
    fused = read_branches(task, data)["fused"]
    crops = read_arrays(task.boxes, ("boxes",), len(data))["boxes"]
    regions = np.full((len(data), 4), np.nan)
    if dataset.boxes_true is not None:
        regions = true_boxes(data, dataset.boxes_true)
    for i, file in enumerate(files):
        width, height = data.sizes[i].tolist()
        label = data.task.classes[int(data.letters[i].argmax())] if (data.letters[i] == YES).any() else ""
        yield Record(
            file,
            (width, height),
            data.task.name,
            data.task.classes,
            str(data.splits[i]),
            label,
            tuple(data.task.classes[place] for place in np.flatnonzero(data.letters[i] == MAYBE)),
            None if np.isnan(regions[i, 0]) else _plain(regions[i]),
            () if np.isnan(fused[i, 0]) else rounded(fused[i].tolist()),
            _plain(crops[i]),
        )


def _plain(box: np.ndarray) -> tuple[float, float, float, float]:
    """Return a box's numbers, as integers where they are."""
    x0, y0, x1, y1 = (int(value) if value == int(value) else value for value in box.tolist())
    return x0, y0, x1, y1
