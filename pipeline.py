#!/usr/bin/env python3
"""HeatCrop classifies fine visual attributes from a full image and from the crop that its heatmap gives.

This file is the method: load the data, stage 1, stage 2, stage 3, score, report. Each arrow is a file in the
run folder that a person can open::

    annotations -> stage1_cam/stage.py -> weights, predictions, heatmaps
                -> stage2_crop/stage.py -> boxes.csv, crop folder
                -> stage3_finetune/stage.py -> weights, predictions, fused predictions -> score, report

``python pipeline.py --help`` lists the commands, which are defined in ``heatcrop/cli/commands.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from heatcrop.runs.folder import STAGES

if TYPE_CHECKING:
    from heatcrop.cli.config import Config
    from heatcrop.cli.loading import Dataset
    from heatcrop.cli.runner import StageRunner
    from heatcrop.data.groups import TaskGroup
    from heatcrop.runs.executors import JobGraph
    from heatcrop.runs.folder import RunFolder
    from heatcrop.timing import RunTimes

# Other imports are inside the functions: `--help` is printed at once, and signals are handled early.


def run(
    config: Config,
    folder: RunFolder,
    wanted: Sequence[str] = (),
    stages: Sequence[str] = STAGES,
    scheduler: str | None = None,
) -> tuple[Dataset, dict[str, Any], RunTimes]:
    """Run some stages of some tasks; after all three, score the run and write its report.

    Parameters
    ----------
    config : Config
    folder : RunFolder
        Owned by this process.
    wanted : sequence of str
        Task names; empty for all that have images.
    stages : sequence of str
        Of :data:`heatcrop.runs.folder.STAGES`, in order.
    scheduler : str, optional
        Address of a Dask scheduler whose workers do the work.

    Returns
    -------
    dataset : Dataset
    metrics : dict
        The figures of ``metrics.json``; empty where not all stages were asked for.
    times : RunTimes
        What this call took, not what an earlier one has done.
    """
    from heatcrop.cli.loading import load_dataset
    from heatcrop.cli.run_folders import with_finished
    from heatcrop.cli.runner import StageRunner
    from heatcrop.cli.startup import begin_run, choose_executor, finish_stages, first_task
    from heatcrop.report.build import build_report
    from heatcrop.runs.metrics import write_results
    from heatcrop.timing import RunTimes

    times = RunTimes()
    begin_run(config, folder, wanted, stages)
    # One task's contact sheet is there before the images of the others are rendered.
    for names, part in (*first_task(config, wanted, stages, scheduler), (wanted, stages)):
        with times.part("data"):
            dataset = load_dataset(config, names, folder)
        folder.assign_folders(task.name for task in dataset.known)
        runner = StageRunner(config, folder, dataset.groups, dataset.stamps, times)
        # The shortest first, for its sheet; then the longest, so that the last ones end together.
        *longer, shortest = sorted(dataset.groups, key=len, reverse=True)
        with times.around_jobs(), choose_executor(runner, dataset, part, scheduler) as executor:
            times.at_once = executor.at_once
            executor.run(
                [
                    (runner.worker(executor, one), run_group(runner, one, part, dataset.tasks))
                    for one in (shortest, *longer)
                ]
            )
    finish_stages(runner, dataset)
    if tuple(stages) != STAGES:
        return dataset, {}, times
    with times.part("scores"):
        dataset = with_finished(folder, dataset)
        metrics = write_results(dataset.tasks, folder, dataset.boxes_true)
    with times.part("report"):
        build_report(folder, dataset.tasks, metrics, dataset.boxes_true, anew=False)
    return dataset, metrics, times


def run_group(
    runner: StageRunner, group: TaskGroup, stages: Sequence[str], tasks: Collection[str]
) -> JobGraph:
    """Run the stages of one group of tasks: a single one, or all that share a network."""
    from heatcrop.data.groups import single_group
    from heatcrop.runs.executors import merge_graphs

    if "cam" in stages:  # train on full images; predict, and extract heatmaps
        yield from runner.run_stage("cam", group)
    if "crop" in stages:  # heatmap -> connected component -> square -> crop, task by task
        singles = [single_group(data) for data in group.tasks if data.task.name in tasks]
        yield from merge_graphs([runner.run_stage("crop", single) for single in singles])
    if "finetune" in stages:  # fine-tune on the crops; fuse with the full image
        yield from runner.run_stage("finetune", group)


if __name__ == "__main__":
    from heatcrop.cli.main import main

    sys.exit(main())
