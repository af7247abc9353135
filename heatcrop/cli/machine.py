"""Describe the machine: Python, both engines, the GPUs, and whether the configured batches fit them."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable
from pathlib import Path

import onnxruntime

from heatcrop.cli.config import Config
from heatcrop.cli.runner import devices_of, network_context
from heatcrop.data.dataset import TaskData
from heatcrop.errors import EngineError
from heatcrop.nets.classifier import Classifier
from heatcrop.nets.devices import Devices
from heatcrop.nets.inference import onnx_version
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.progress import log
from heatcrop.training.loop import TrainingPlan
from heatcrop.wording import counted

_LIBRARIES = 2**30
"""Rough bytes of CUDA, cuDNN and its workspaces."""


def report_machine(config: Config) -> Devices | None:
    """Log Python, engines and GPUs; return the devices, None where the configured ones are missing."""
    log(f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores")
    devices, gpus = None, 0
    try:
        devices = devices_of(config)
        notes, gpus = devices.notes, len(devices.training)
    except EngineError as error:
        notes = (f"GPU: {error}",)
    try:
        found = counted(gpus, "GPU(s)") if gpus else "no GPU: training on the CPU"
        log(f"{network_context(config, RunFolder(Path())).training_engine.version()}, {found}")
    except EngineError as error:
        log(f"no training: {error}")
    for note in notes:
        log(note)
    log(f"{onnx_version()}, {', '.join(onnxruntime.get_available_providers())}")
    log(f"backbone {config.network.backbone}, input {config.network.input_px} px")
    return devices


def memory_lines(config: Config, tasks: dict[str, TaskData], devices: Devices) -> tuple[list[str], int]:
    """Describe whether the configured batches fit the smallest GPU, and count those that do not.

    There are no lines for training on the CPU.
    """
    if not devices.training or not tasks:
        return [], 0
    lines, problems, gpus = [], 0, len(devices.training)
    card = min(devices.training, key=lambda one: one.memory)
    largest = max(tasks.values(), key=lambda data: len(data.task.classes))
    context = network_context(config, RunFolder(Path()))
    shape = context.feature_shape()
    classifier = context.classifier(shape, len(largest.task.classes))  # built, but not run
    for section, stage in (("cam", 0), ("finetune", 2)):
        plans = {config.plans(data.task)[stage].training for data in tasks.values()}
        plan = max(plans, key=lambda one: rows_at_once(one, gpus))
        need, rows = training_need(classifier, plan, devices.amp), rows_at_once(plan, gpus)
        lines.append(
            f"{section}: {counted(rows, 'row(s) at once on a GPU (takes|take)')} about "
            f"{need(rows) / 2**30:.1f} GB of {card.memory / 2**30:.1f} GB"
        )
        if need(rows) > card.memory:
            enough = (
                n
                for n in range(plan.accumulate + 1, plan.batch_size + 1)
                if need(rows_at_once(dataclasses.replace(plan, accumulate=n), gpus)) <= card.memory
            )
            parts = next(enough, None)
            fix = f"set {section}.training.accumulate={parts}" if parts else "take a smaller network or input"
            lines[-1] += f", too much for {card.name}: {fix}"
            problems += 1
    return lines, problems


def rows_at_once(plan: TrainingPlan, gpus: int) -> int:
    """Count the rows of a batch that one GPU holds at a time.

    >>> [rows_at_once(TrainingPlan(batch_size=32, accumulate=parts), 2) for parts in (1, 3)]
    [16, 6]
    """
    return -(-plan.batch_size // (gpus * plan.accumulate))


def training_need(classifier: Classifier, plan: TrainingPlan, amp: bool) -> Callable[[int], int]:
    """Compute, without running it, the bytes that a training needs on one card, by the rows at once.

    In mixed precision activations are float16, and float16 weights exist beside those in float32.
    """
    states = 2 if plan.optimizer == "adam" else 1
    kept = plan.reload_best + 3 * bool(plan.average)  # the best; average, live and newest
    copies = 2 + states + kept + (0.5 if amp else 0)
    fixed = int(4 * classifier.weight_numbers() * copies) + _LIBRARIES
    row = (2 if amp else 4) * classifier.activation_numbers()  # what the forward pass keeps for the backward
    return lambda rows: fixed + rows * row
