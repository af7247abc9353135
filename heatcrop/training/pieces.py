"""A stage's work in pieces, which one process does in turn or several do side by side.

A stage lists its pieces in rounds: those of a round need nothing of one another, and all of the round
before. They meet in files below the task's cache, so that it does not matter who did which; and where work
is cut does not depend on how many do it, so the files that a stage leaves do not either.
"""

from __future__ import annotations

import abc
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from heatcrop.data.dataset import TaskData
from heatcrop.errors import DivergedError
from heatcrop.files import atomic_path
from heatcrop.nets.classifier import Classifier, NetworkContext
from heatcrop.nets.inference import Runner
from heatcrop.training.augment import Augmentation
from heatcrop.training.batches import Images
from heatcrop.training.checkpoint import Checkpoint
from heatcrop.training.fit import fit
from heatcrop.training.inputs import CachedInputs, Inputs, LiveInputs
from heatcrop.training.loop import TrainingPlan
from heatcrop.training.views import TestViews

Piece = tuple[str, list[Any]]
"""A method's name and its arguments, plain enough for JSON."""
Seconds = dict[str, float]
"""What a piece took, by what it is counted as."""

_LOOKED_AT_ONCE = 8192


class Work(Protocol):
    """One stage of one task. Its pieces are methods that return :data:`Seconds`."""

    def rounds(self) -> Iterator[list[Piece]]:
        """List the pieces, round by round; a round may be asked for when the one before is done."""
        ...


def do(work: Work, piece: Piece) -> Seconds:
    """Do one piece of a work."""
    method, arguments = piece
    took: Seconds = getattr(work, method)(*arguments)
    return took


def do_all(work: Work) -> None:
    """Do a work's pieces one after another."""
    for pieces in work.rounds():
        for piece in pieces:
            do(work, piece)


class BranchPlan(Protocol):
    """What the plans of stage 1 and stage 3 have in common."""

    training: TrainingPlan
    augment: Augmentation
    views: int
    test: TestViews


class BranchWork(abc.ABC):
    """What stage 1 and stage 3 share: cached features, networks by name, what they say part by part.

    Parameters
    ----------
    data : TaskData
    plan : BranchPlan
    shop : NetworkContext
    trunk : callable
        Opens the frozen part; None when nothing is frozen.
    cache : Path
        For features, checkpoints, and what pieces leave for each other.
    mark : str
        The stage's fingerprint: a training that broke off goes on only under the same one.
    """

    data: TaskData
    shop: NetworkContext
    names: list[str]
    """Of the networks: ``final`` first, then those of the folds."""
    stage: int
    section: str
    """Of the configuration, where its training is set."""
    mapped = False
    """Whether heatmaps are made of what the networks say."""

    def __init__(
        self,
        data: TaskData,
        plan: BranchPlan,
        shop: NetworkContext,
        trunk: Callable[[], Runner | None],
        cache: Path,
        mark: str,
    ) -> None:
        self.data, self.shop, self.cache, self.mark = data, shop, cache, mark
        self._plan, self._open_trunk = plan, trunk
        self._runner: tuple[str, Runner] | None = None
        self.train_rows, self.val_rows = data.rows("train", labelled=True), data.rows("val", labelled=True)

    @abc.abstractmethod
    def pictures(self) -> Images:
        """What the branch looks at."""

    @abc.abstractmethod
    def shown(self, name: str) -> np.ndarray:
        """The rows that a network looks at."""

    def rounds(self) -> Iterator[list[Piece]]:
        """List the pieces: features, trainings, looks, and putting together what was said."""
        yield self.feature_pieces()
        yield [("train", [name]) for name in self.names]
        yield self.all_looks()
        yield [("finish", [])]

    def all_looks(self) -> list[Piece]:
        """Pieces ``look`` of all networks."""
        return [piece for name in self.names for piece in self.look_pieces(name, self.shown(name))]

    def augment_of(self, i: int) -> Augmentation:
        """How the training views of row i vary."""
        return self._plan.augment

    @functools.cached_property
    def inputs(self) -> Inputs:
        """The branch's inputs: from cached features, where blocks are frozen."""
        form, seed = self.shop.form, self.shop.seed
        live = LiveInputs(self.pictures(), form, self._plan.test, self.augment_of, seed, self._open_trunk)
        if not self.shop.network.frozen_blocks:
            return live
        again = np.union1d(self.train_rows, self.val_rows)
        return CachedInputs(live, self.train_rows, again, self._plan.views, self.cache)

    @property
    def features(self) -> CachedInputs:
        """The inputs, where blocks are frozen."""
        assert isinstance(self.inputs, CachedInputs)
        return self.inputs

    def feature_pieces(self) -> list[Piece]:
        """Pieces ``compute``; none where nothing is frozen."""
        if not self.shop.network.frozen_blocks:
            return []
        return [("compute", [part]) for part in range(self.features.parts)]

    def compute_features(self, part: int, done: Callable[[int], None]) -> None:
        """Compute one part of the cached features."""
        self.features.compute(part, done)

    def new_network(self) -> Classifier:
        """A fresh classifier of the task's classes."""
        return self.shop.classifier(self.inputs.shape, len(self.data.task.classes))

    def train_network(
        self,
        name: str,
        classifier: Classifier,
        rows: np.ndarray,
        seed: int,
        weights: Path,
        exported: Path,
        done: Callable[[int], None],
    ) -> None:
        """Train one network on some rows and leave it and its history behind."""
        checkpoint = Checkpoint(self.cache / f"{name}.checkpoint", f"{self.mark} {name}")
        try:
            history = fit(
                classifier.net,
                self.inputs,
                self.data.soft,
                self.data.letters,
                rows,
                self.val_rows,
                self._plan.training,
                seed,
                name,
                done,
                checkpoint,
                self.shop.devices,
            )
        except DivergedError as error:
            raise self._diverged(name, str(error)) from None
        classifier.save(weights)
        classifier.export(exported)
        self._leave(f"{name}.history", rows=np.array(json.dumps(history)))

    def _diverged(self, name: str, how: str) -> DivergedError:
        """Tell whose training ran away, and the settings that drive it."""
        plan, place = self._plan.training, f"{self.section}.training"
        told = [f"{place}.learning_rate (it is {plan.learning_rate:g})"]
        if plan.head_rate > 1:
            told.append(f"{place}.head_rate (it is {plan.head_rate:g})")
        if plan.weight_decay:
            told.append(f"{place}.weight_decay (it is {plan.weight_decay:g})")
        return DivergedError(
            f"{self.data.task.short}: the training of stage {self.stage} ({name}) {how}; "
            f"lower {' or '.join(told)}"
        )

    def runner(self, name: str, weights: Path, exported: Path) -> Runner:
        """Open a trained network; the last one stays open."""
        if self._runner is None or self._runner[0] != name:
            self._runner = (
                name,
                self.shop.open_classifier(
                    weights, exported, self.inputs.shape, len(self.data.task.classes), self.mapped
                ),
            )
        return self._runner[1]

    def look_pieces(self, name: str, rows: np.ndarray) -> list[Piece]:
        """Pieces ``look``, each of a part of the rows that a network looks at."""
        batch = self._batch()
        each = batch * max(1, _LOOKED_AT_ONCE // (batch * len(self._plan.test.unit())))
        return [("look", [name, first, first + each]) for first in range(0, len(rows), each)]

    def _batch(self) -> int:
        return max(1, 32 // len(self._plan.test.unit()))

    # --- what pieces leave for each other

    def history(self, names: list[str]) -> list[dict[str, Any]]:
        """The rows of some networks, one after another."""
        return [row for name in names for row in json.loads(str(self._read(f"{name}.history")["rows"]))]

    def leave_looks(self, name: str, first: int, **arrays: np.ndarray) -> None:
        """Keep what a network said of a part of its rows; DivergedError where that is nothing."""
        if not np.isfinite(arrays["logits"]).all():  # its last update, which no validation has seen
            raise self._diverged(name, "has diverged (its predictions are not finite)")
        self._leave(f"{name}.{first}.look", **arrays)

    def looks(self, name: str, first: int) -> dict[str, np.ndarray]:
        """What :meth:`leave_looks` has kept."""
        return self._read(f"{name}.{first}.look")

    def _leave(self, what: str, **arrays: np.ndarray) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.cache / f"{what}.npz") as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def _read(self, what: str) -> dict[str, np.ndarray]:
        with np.load(self.cache / f"{what}.npz", allow_pickle=False) as file:
            return dict(file)
