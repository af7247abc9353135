"""Load the runs that ``report`` compares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heatcrop.cli.run_folders import known_tasks, reload_dataset
from heatcrop.errors import UsageError
from heatcrop.report.compare import ComparedRun
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.records import refuse_old_records


def compared_runs(paths: Sequence[Path]) -> tuple[ComparedRun, ComparedRun]:
    """Load two finished runs, and write nothing; UsageError unless they are two different ones."""
    if len(paths) != 2:
        raise UsageError(f"--run: {len(paths)} runs are given; two can be compared, more in pairs")
    if paths[0].resolve() == paths[1].resolve():
        raise UsageError(f"{paths[1]}: is given twice; give two different runs")
    first, second = map(_load, map(RunFolder, paths))
    return first, second


def _load(folder: RunFolder) -> ComparedRun:
    known = known_tasks(folder)
    refuse_old_records(folder)
    dataset = reload_dataset(folder, keep=False)
    return ComparedRun(folder, known, dataset.tasks, dataset.boxes_true)
