"""What stages 1 and 3 share: cached features, networks by name, predictions part by part.

A stage lists its jobs step by step: those of a step do not depend on each other. Jobs are methods that may be
called twice and by different processes; they exchange files below the stage's cache, and how the work is
divided depends on the number of images alone.
"""

from __future__ import annotations

import abc
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from heatcrop.data.groups import TaskGroup
from heatcrop.errors import DivergedError
from heatcrop.files import link, write_table
from heatcrop.nets.classifier import Classifier, NetworkContext
from heatcrop.nets.inference import Runner
from heatcrop.runs.folder import RunFolder, TaskFolder
from heatcrop.runs.predictions import read_arrays, write_arrays
from heatcrop.runs.progress import progress
from heatcrop.training.batches import Images
from heatcrop.training.checkpoint import Checkpoint
from heatcrop.training.fit import fit
from heatcrop.training.inputs import INFERENCE_BATCH, CachedInputs, Inputs, LiveInputs, predict

Job = tuple[str, list[Any]]
"""A method's name and its arguments."""

IMAGES_PER_JOB = 8192


class Stage(abc.ABC):
    """One stage of one group of tasks, with a plan for each task.

    `trunk` opens the frozen part of the network, None where nothing is frozen. An interrupted training
    continues only under the same `fingerprint` of the stage's inputs.
    """

    name: ClassVar[str]
    seconds_as: ClassVar[dict[str, str]] = {}
    """Under which name a job's time is reported; the stage's own by default."""

    def __init__(
        self,
        group: TaskGroup,
        folder: RunFolder,
        plans: Sequence[Any],
        context: NetworkContext,
        trunk: Callable[[], Runner | None],
        fingerprint: str,
    ) -> None:
        self.group, self.plans, self.plan, self.context = group, plans, plans[0], context
        self.tasks = [folder.task(data.task.name) for data in group.tasks]
        self.networks_folder: TaskFolder = folder.networks(group)
        self.cache = folder.cache_of(group, self.name)
        self.fingerprint, self.open_trunk = fingerprint, trunk

    @abc.abstractmethod
    def jobs(self) -> Iterator[list[Job]]:
        """List the jobs, step by step; a step is asked for when the one before is done."""

    def perform(self, method: str, arguments: Sequence[Any]) -> str:
        """Do one job; return the name that its time is reported under."""
        getattr(self, method)(*arguments)
        return self.seconds_as.get(method, self.name)


class BranchStage(Stage):
    """A stage that trains networks and predicts with them: ``final``, and one for each fold."""

    number: ClassVar[int]
    titles: ClassVar[dict[str, str]]
    """How progress names features, training and prediction."""
    networks: list[str]
    """``final`` first, then ``fold 0`` and so on."""
    network_of: np.ndarray
    """The network that predicts each row, (N,) str; one for a fold has not trained on it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.train_rows, self.val_rows = self.group.rows("train"), self.group.rows("val")
        self._runner: tuple[str, Runner] | None = None

    @abc.abstractmethod
    def images(self) -> Images:
        """Return what the networks are shown."""

    @abc.abstractmethod
    def write_task(self, number: int, folder: TaskFolder) -> None:
        """Join the predictions of one task from all networks, and write them."""

    def keep(self, logits: np.ndarray, maps: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return what is kept of some predictions: ``logits`` and others, one row an image."""
        return {"logits": logits}

    @abc.abstractmethod
    def initial_classifier(self, network: str) -> Classifier:
        """Build what a network's training begins with."""

    def training_rows(self, network: str) -> np.ndarray:
        """Return the rows that a network trains on."""
        own = self.network_of[self.train_rows] == network
        return self.train_rows[~own | (network == "final")]

    def predicted_rows(self, network: str) -> np.ndarray:
        """Return the rows that a network predicts."""
        return np.flatnonzero(self.network_of == network)

    def jobs(self) -> Iterator[list[Job]]:
        """List the jobs: features of the frozen part, trainings, predictions, and joining these."""
        if isinstance(self.inputs, CachedInputs):
            yield [("compute_features", [part]) for part in range(self.inputs.parts)]
        yield [("train", [network]) for network in self.networks]
        yield [("infer", list(part)) for part in self.parts(self.networks)]
        yield [("finish", [])]

    def parts(self, networks: Sequence[str]) -> list[tuple[str, int, int]]:
        """Divide the predictions of some networks: network, first and end of its :meth:`predicted_rows`."""
        views = len(self.plan.test.unit())
        batch = max(1, INFERENCE_BATCH // views)
        size = batch * max(1, IMAGES_PER_JOB // (batch * views))
        return [
            (network, first, first + size)
            for network in networks
            for first in range(0, len(self.predicted_rows(network)), size)
        ]

    @functools.cached_property
    def inputs(self) -> Inputs:
        """What enters the trained part of the networks: cached features where blocks are frozen."""
        task_of, augments = self.group.task_of, [plan.augment for plan in self.plans]
        live = LiveInputs(
            self.images(),
            self.context.form,
            self.plan.test,
            lambda row: augments[task_of[row]],
            self.context.seed,
            self.open_trunk,
        )
        if not self.context.network.frozen_blocks:
            return live
        cached_rows = np.union1d(self.train_rows, self.val_rows)
        return CachedInputs(live, self.train_rows, cached_rows, self.plan.views, self.cache)

    def compute_features(self, part: int) -> None:
        """Compute a part of the cached features."""
        assert isinstance(self.inputs, CachedInputs)
        title = f"{self.group.short}: {self.titles['compute_features']}"
        with progress(title, self.inputs.images_in(part)) as bar:
            self.inputs.compute(part, bar)

    def train(self, network: str) -> None:
        """Train one network; leave its weights, its ONNX file and its history."""
        classifier = self.initial_classifier(network)
        checkpoint = Checkpoint(self.cache / f"{network}.checkpoint", f"{self.fingerprint} {network}")
        title = f"{self.group.short}: {self.titles['train']} {network}"
        with progress(title, self.plan.training.epochs) as bar:
            try:
                history = fit(
                    classifier,
                    self.inputs,
                    self.group.soft,
                    self.group.letters,
                    self.training_rows(network),
                    self.val_rows,
                    self.plan.training,
                    self.context.seed + (self.number == 3),
                    network,
                    bar,
                    checkpoint,
                    self.context.devices,
                )
            except DivergedError as error:
                raise self._diverged(network, str(error)) from None
        classifier.save(self.weights(network))
        classifier.export(self.exported(network))
        write_arrays(self.history(network), rows=np.array(json.dumps(history)))

    def infer(self, network: str, first: int, end: int) -> None:
        """Predict a part of a network's rows."""
        rows = self.predicted_rows(network)[first:end]
        kept: list[dict[str, np.ndarray]] = []
        title = f"{self.group.short}: {self.titles['infer']} {network}"
        with progress(title, len(rows)) as bar:
            for logits, maps, index in predict(self._open(network), self.inputs, rows):
                kept.append(self.keep(logits, maps, index))
                bar(len(index))
        arrays = {name: np.concatenate([part[name] for part in kept]) for name in kept[0]}
        if not np.isfinite(arrays["logits"]).all():  # after the last update, which no validation has seen
            raise self._diverged(network, "has diverged (its logits are not finite)")
        write_arrays(self.predicted(network, first), **arrays)

    def finish(self) -> None:
        """Join the predictions of all networks, and write each task's artefacts."""
        rows = {one: json.loads(str(read_arrays(self.history(one))["rows"])) for one in self.networks}
        history = pd.DataFrame(row | {"network": one} for one, found in rows.items() for row in found)
        made = (self.exported("final"), *map(self.weights, self.networks))
        for number, folder in enumerate(self.tasks):
            self.write_task(number, folder)
            write_table(folder.history(self.number), history)
            for file in (file for file in made if file.parent != self.cache):
                link(folder.stage(self.number) / file.name, file)

    def predictions(self, number: int) -> Iterator[tuple[str, np.ndarray, dict[str, np.ndarray]]]:
        """Yield one task's predictions part by part: network, rows of the task, what :meth:`keep` kept."""
        span, classes = self.group.rows_of(number), self.group.columns(number)
        for network, first, end in self.parts(self.networks):
            rows = self.predicted_rows(network)[first:end]
            own = (rows >= span.start) & (rows < span.stop)
            part = read_arrays(self.predicted(network, first))
            part = {name: array[own] for name, array in part.items()}
            yield network, rows[own] - span.start, part | {"logits": part["logits"][:, classes]}

    def history(self, network: str) -> Path:
        """Return where the history of a network's training is, until it is joined with the others."""
        return self.cache / f"{network}.history.npz"

    def predicted(self, network: str, first: int) -> Path:
        """Return where a part of a network's predictions is, until it is joined with the others."""
        return self.cache / f"{network}.{first}.predictions.npz"

    def weights(self, network: str) -> Path:
        """Return where a network's weights are."""
        if network == "final" or self.number == 1:
            return self.networks_folder.weights(self.number, network)
        return self.cache / f"{network}.params"

    def exported(self, network: str) -> Path:
        """Return where a network's ONNX file is."""
        if network == "final":
            return self.networks_folder.network(self.number)
        return self.cache / f"{network}.onnx"

    def _open(self, network: str) -> Runner:
        """Open a trained network; the last one stays open."""
        if self._runner is None or self._runner[0] != network:
            files, n_classes = (self.weights(network), self.exported(network)), self.group.n_classes
            runner = self.context.open_classifier(*files, self.inputs.shape, n_classes, self.number == 1)
            self._runner = network, runner
        return self._runner[1]

    def _diverged(self, network: str, how: str) -> DivergedError:
        """Make the error that names the training and the settings that drive it."""
        plan, section = self.plan.training, f"{self.name}.training"
        keys = {"learning_rate": True, "head_rate": plan.head_rate > 1, "weight_decay": plan.weight_decay > 0}
        settings = [
            f"{section}.{key} (it is {getattr(plan, key):g})" for key, drives in keys.items() if drives
        ]
        return DivergedError(
            f"{self.group.short}: the training of stage {self.number} ({network}) {how}; "
            f"lower {' or '.join(settings)}"
        )
