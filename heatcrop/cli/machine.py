"""Describe the machine: Python, both engines, the GPUs, and whether the configured batches fit them."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
from pathlib import Path

import onnxruntime

from heatcrop.cli.config import Config
from heatcrop.cli.runner import network_context
from heatcrop.data.dataset import TaskData
from heatcrop.errors import EngineError
from heatcrop.nets.devices import Card, Devices, find_devices
from heatcrop.nets.engine import mxnet
from heatcrop.runs.folder import RunFolder
from heatcrop.training.loop import TrainingPlan
from heatcrop.training.memory import Need, training_need


def machine_lines(config: Config) -> tuple[list[str], Devices | None]:
    """Describe Python, engines and GPUs; with the devices, None where the configured ones are missing."""
    lines = [f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores"]
    devices, gpu_lines = None, []
    try:
        devices = find_devices(config.runtime.device, config.runtime.amp)
        gpu_lines += devices.notes
    except EngineError as error:
        gpu_lines.append(f"GPU: {error}")
    try:
        gpus = len(devices.training) if devices is not None else 0
        found = f"{gpus} GPU{'s' * (gpus > 1)}" if gpus else "no GPU: training on the CPU"
        lines.append(f"MXNet {mxnet().__version__}, {found}")
    except EngineError as error:
        lines.append(f"MXNet: {error}")
    lines += gpu_lines
    lines.append(
        f"ONNX Runtime {onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}"
    )
    lines.append(f"backbone {config.network.backbone}, input {config.network.input_px} px")
    return lines, devices


def memory_lines(config: Config, tasks: dict[str, TaskData], devices: Devices) -> tuple[list[str], int]:
    """Describe whether the configured batches fit the smallest GPU, and count those that do not.

    There are no lines for training on the CPU.
    """
    if not devices.training or not tasks:
        return [], 0
    lines, problems = [], 0
    card = min(devices.training, key=lambda one: one.memory)
    largest = max(tasks.values(), key=lambda data: len(data.task.classes))
    need = functools.cache(lambda plan: _need(config, largest, plan, devices.amp))
    for section, stage in (("cam", 0), ("finetune", 2)):
        plans = {config.plans(data.task)[stage].training for data in tasks.values()}
        plan = max(plans, key=lambda one: rows_at_once(one, len(devices.training)))
        line, fits = _line(section, plan, need(plan), card, len(devices.training))
        lines.append(line)
        problems += not fits
    return lines, problems


def rows_at_once(plan: TrainingPlan, gpus: int) -> int:
    """Count the rows of a batch that one GPU holds at a time.

    >>> [rows_at_once(TrainingPlan(batch_size=32, accumulate=parts), 2) for parts in (1, 3)]
    [16, 6]
    """
    return -(-plan.batch_size // (gpus * plan.accumulate))


def _line(section: str, plan: TrainingPlan, need: Need, card: Card, gpus: int) -> tuple[str, bool]:
    rows, memory = rows_at_once(plan, gpus), card.memory
    needed = need.at(rows)
    line = (
        f"{section}: {rows} row{'s' * (rows > 1)} at once on a GPU take about {needed / 2**30:.1f} GB "
        f"of {memory / 2**30:.1f} GB"
    )
    if needed <= memory:
        return line, True
    enough = (
        n
        for n in range(plan.accumulate + 1, plan.batch_size + 1)
        if need.at(rows_at_once(dataclasses.replace(plan, accumulate=n), gpus)) <= memory
    )
    parts = next(enough, None)
    fix = f"set {section}.training.accumulate={parts}" if parts else "take a smaller network or input"
    return f"{line}, too much for {card.name}: {fix}", False


def _need(config: Config, data: TaskData, plan: TrainingPlan, amp: bool) -> Need:
    """Compute what a training needs, from a network that is built but not run."""
    context = network_context(config, RunFolder(Path()))
    shape = context.feature_shape()
    return training_need(context.classifier(shape, len(data.task.classes)).net, shape, plan, amp)
