"""Walk the stages of one task in order, each only when what it was made from has changed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import time
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from heatcrop.cli.config import Config
from heatcrop.data.dataset import TaskData
from heatcrop.data.joined import NAME, JoinedData
from heatcrop.errors import RunError
from heatcrop.files import write_json
from heatcrop.nets.backbones import backbone
from heatcrop.nets.classifier import NetworkPlan
from heatcrop.nets.gradients import MapPlan
from heatcrop.nets.inference import Runner
from heatcrop.predict.trained_run import read_outputs
from heatcrop.runs.built import clear_built, is_sheet
from heatcrop.runs.changes import Origin, origin, why_outdated
from heatcrop.runs.fingerprint import files_stamp, fingerprint, first_fault, is_current, vouched
from heatcrop.runs.folder import RunFolder, TaskFolder
from heatcrop.runs.predictions import read_parts
from heatcrop.runs.progress import log
from heatcrop.training.batches import InputForm
from heatcrop.training.branch import Workshop
from heatcrop.training.pieces import Piece, Seconds, Work, do
from stage1_cam.joined import JoinedCamWork
from stage1_cam.stage import CamWork
from stage2_crop.stage import CropWork
from stage3_finetune.joined import JoinedFinetuneWork
from stage3_finetune.stage import FinetuneWork

STAGES = ("cam", "crop", "finetune")
# Raised when a stage's code changes what it makes from the same plan and data.
_CODE = {"cam": 3, "crop": 3, "finetune": 3}

Errand = tuple[str, str, Piece]
"""A piece of a stage's work: stage, the stage's fingerprint, piece."""


def workshop(config: Config, folder: RunFolder) -> Workshop:
    """Collect what all tasks and stages share."""
    net = config.network
    plan = NetworkPlan(net.backbone, net.weights, net.frozen_blocks, net.dropout, net.dilated)
    form = InputForm(net.input_px, net.fit, backbone(net.backbone), config.runtime.threads)
    how = config.runtime
    return Workshop(plan, form, folder.trunk, how.engine, config.seed, how.device, how.amp, config.heatmap)


class Walk:
    """One walk through the stages of a run.

    Parameters
    ----------
    joined : JoinedData, optional
        All tasks as one, where they share a network: a change of one is then a change of all.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        joined: JoinedData | None = None,
    ) -> None:
        self.config, self.folder, self.joined = config, folder, joined
        self.shop = workshop(config, folder)
        self._work: tuple[tuple[str, str, str], Work] | None = None
        self._trunk: Runner | None = None
        self._trunk_open = False

    def trunk(self) -> Runner | None:
        """Open the frozen part once, when the first stage needs it."""
        if not self._trunk_open:
            self._trunk, self._trunk_open = self.shop.trunk(), True
            if self._trunk is not None:
                write_json(
                    self.folder.trunk_marker, vouched(self.folder.trunk, [self.folder.trunk_network.name])
                )
        return self._trunk

    def mend(self) -> None:
        """Make again what all tasks share and no stage vouches for, where it is missing or damaged."""
        network = self.folder.trunk_network
        if self.config.network.frozen_blocks and (
            not network.is_file() or first_fault(self.folder.trunk_marker)
        ):
            self.trunk()
            log(f"{network.name} was missing or damaged, and is made again")
        if self.joined is not None:
            self._write_outputs(self.joined)

    def _write_outputs(self, joined: JoinedData) -> None:
        """Tell which outputs of the networks that all tasks share are whose, where that is not told yet."""
        spans = {part.task.name: joined.columns(number) for number, part in enumerate(joined.parts)}
        told = {name: (span.start, span.stop) for name, span in spans.items()}
        with contextlib.suppress(RunError):
            if read_outputs(self.folder) == told:
                return
        write_json(self.folder.outputs, told)

    def marks(self, data: TaskData) -> dict[str, str]:
        """Fingerprint of each stage: its plan, its inputs, its code, and the stages before it."""
        if self.joined is not None:
            return self._joined_marks[data.task.name]
        _, crop, finetune = self.config.plans(data.task)
        marks = {"cam": self._cam_mark(data)}
        marks["crop"] = fingerprint(_CODE["crop"], crop, marks["cam"])
        marks["finetune"] = fingerprint(_CODE["finetune"], finetune, marks["crop"])
        return marks

    @functools.cached_property
    def _joined_marks(self) -> dict[str, dict[str, str]]:
        """The same by task where all share a network, of which each task's data is a part."""
        assert self.joined is not None
        parts, plans = self.joined.parts, [self.config.plans(part.task) for part in self.joined.parts]
        alone = [self._cam_mark(part) for part in parts]
        cams = [fingerprint(NAME, own, alone) for own in alone]
        crops = [fingerprint(_CODE["crop"], plan[1], cam) for plan, cam in zip(plans, cams, strict=True)]
        finetunes = [plan[2] for plan in plans]
        marks = {
            part.task.name: {
                "cam": cam,
                "crop": crop,
                "finetune": fingerprint(_CODE["finetune"], NAME, own, crop, finetunes, crops),
            }
            for part, cam, crop, own in zip(parts, cams, crops, finetunes, strict=True)
        }
        marks[NAME] = {stage: fingerprint([own[stage] for own in marks.values()]) for stage in STAGES}
        return marks

    def _cam_mark(self, data: TaskData) -> str:
        cam, _, _ = self.config.plans(data.task)
        shared = (self.shop.network, self.shop.form.side_px, self.shop.form.fit, self.config.seed)
        facts = (
            data.images,
            list(data.splits),
            list(data.groups),
            data.task,
            data.letters,
            files_stamp(data.paths),
            *self._maps().values(),
        )
        return fingerprint(_CODE["cam"], cam, shared, *facts)

    def origins(self, data: TaskData) -> dict[str, Origin]:
        """The same that :meth:`marks` hashes, part by part, for telling people what changed."""
        cam, crop, finetune = self.config.plans(data.task)
        network = dataclasses.asdict(self.shop.network)
        network |= {"input_px": self.shop.form.side_px, "fit": self.shop.form.fit}
        network |= {"shared_trunk": True} if self.joined is not None else {}
        shared = {"network": network, "seed": self.config.seed, **self._maps()}
        return {
            "cam": origin({"cam": cam, **shared}, _CODE["cam"], data),
            "crop": origin({"crop": crop}, _CODE["crop"]),
            "finetune": origin({"finetune": finetune}, _CODE["finetune"]),
        }

    def _maps(self) -> dict[str, MapPlan]:
        """How maps are made, where not by CAM: finished runs that know of no other way stay current."""
        return {"heatmap": self.shop.maps} if self.shop.maps != MapPlan() else {}

    def to_do(self, stages: Sequence[str], data: TaskData) -> dict[str, str]:
        """Which of some stages would run, and why; those that are up to date are not named."""
        origins = self.origins(data)
        folder, out = self.folder.task(data.task.name), {}
        for stage in stages:
            # After one that runs, the later ones run too, whatever they were made from.
            if not out and self._up_to_date(stage, self._unit(stage, data)):
                continue
            before = f"after {list(out)[-1]}" if out else "the stage before it was done anew"
            if self._unit(stage, data) is not data and not out:
                before = "it shares a network with a task that changed"
            out[stage] = why_outdated(folder.marker(stage), origins[stage]) or before
        return out

    def steps(
        self, stages: Sequence[str], tasks: Sequence[TaskData]
    ) -> list[tuple[tuple[str, ...], list[TaskData]]]:
        """Stages and what goes through them, one after another.

        Each task goes through all stages by itself, or, where tasks share a network, all go together through
        those that train it.
        """
        if self.joined is None:
            return [(tuple(stages), list(tasks))]
        return [((stage,), list(tasks) if stage == "crop" else [self.joined]) for stage in stages]

    def _unit(self, stage: str, data: TaskData) -> TaskData:
        """What goes through a stage together with a task."""
        return data if self.joined is None or stage == "crop" else self.joined

    def _up_to_date(self, stage: str, data: TaskData) -> bool:
        return all(
            is_current(self.folder.task(part.task.name).marker(stage), self.marks(part)[stage])
            for part in parts_of(data)
        )

    def rounds(self, stages: Sequence[str], data: TaskData) -> Generator[list[Errand], list[Seconds], None]:
        """One task's work, round by round; to be told what each piece of a round took when it is done.

        Stages that are up to date have none. What comes between the rounds is done here and now.
        """
        idle = []
        for stage in stages:
            mark = self.marks(data)[stage]
            if self._up_to_date(stage, data):
                self._clear(stage, data)
                idle.append(stage)
            else:
                yield from self._stage(stage, data, mark)
        if idle:
            log(f"{data.task.short}: {', '.join(idle)} up to date")

    def _stage(self, stage: str, data: TaskData, mark: str) -> Generator[list[Errand], list[Seconds], None]:
        for part in parts_of(data):
            folder = self.folder.task(part.task.name)
            self._needs(stage, folder)
            if stage != "cam":
                same_rows(folder, part)
        for folder in (self.folder.task(part.task.name) for part in parts_of(data)):
            # Its own, and the later stages': what they made from its former artefacts is out of date.
            for outdated in STAGES[STAGES.index(stage) :]:
                folder.marker(outdated).unlink(missing_ok=True)
            clear_built(folder.sheets, is_sheet)  # the report lays new ones
        started, seconds = time.perf_counter(), Counter[str]()
        for pieces in self.work(stage, data, mark).rounds():
            for took in (yield [(stage, mark, piece) for piece in pieces]) if pieces else ():
                seconds.update(took)
        if hasattr(os, "sync"):
            os.sync()  # crops are many, and brought to the disk together, before the stage counts as done
        if isinstance(data, JoinedData):
            self._write_outputs(data)
        for part in parts_of(data):
            folder, share = self.folder.task(part.task.name), len(part) / len(data)
            told = {
                "fingerprint": self.marks(part)[stage],
                "seconds": {what: share * took for what, took in seconds.items()},
                **vouched(folder.path, folder.artefacts(stage)),
                "made_from": dataclasses.asdict(self.origins(part)[stage]),
            }
            write_json(folder.marker(stage), told)
        self._work = None
        self._clear(stage, data)
        log(f"{data.task.short}: {stage} in {time.perf_counter() - started:.0f} s")

    def work(self, stage: str, data: TaskData, mark: str) -> Work:
        """A stage's work on one task; the last one is kept, with the networks and files it has open."""
        key = (stage, data.task.name, mark)
        if self._work is None or self._work[0] != key:
            self._work = None
            self._work = key, self._new_work(stage, data, mark)
        return self._work[1]

    def _new_work(self, stage: str, data: TaskData, mark: str) -> Work:
        if isinstance(data, JoinedData):
            return self._new_joined_work(stage, data, mark)
        cam, crop, finetune = self.config.plans(data.task)
        folder, cache = self.folder.task(data.task.name), self._cache(stage, data)
        if stage == "crop":
            return CropWork(data, folder, crop, self.shop, cache)
        if stage == "cam":
            return CamWork(data, folder, cam, self.shop, self.trunk, cache, mark)
        return FinetuneWork(data, folder, finetune, self.shop, self.trunk, cache, mark)

    def _new_joined_work(self, stage: str, data: JoinedData, mark: str) -> Work:
        folders = [self.folder.task(part.task.name) for part in data.parts]
        cams, _, finetunes = zip(*(self.config.plans(part.task) for part in data.parts), strict=True)
        common = (self.shop, self.trunk, self._cache(stage, data), mark)
        if stage == "cam":
            return JoinedCamWork(data, self.folder.joined, folders, cams, *common)
        return JoinedFinetuneWork(data, self.folder.joined, folders, finetunes, *common)

    def do(self, data: TaskData, stage: str, mark: str, piece: Piece) -> Seconds:
        """Do one piece of a stage's work."""
        return do(self.work(stage, data, mark), piece)

    def is_current(self, stages: Sequence[str], data: TaskData) -> bool:
        """Tell whether there is nothing to do."""
        current = all(self._up_to_date(stage, data) for stage in stages)
        for stage in stages if current else ():
            self._clear(stage, data)
        return current

    def _cache(self, stage: str, data: TaskData) -> Path:
        return self.folder.cache / data.task.name / stage

    def _clear(self, stage: str, data: TaskData) -> None:
        """Remove what a finished stage has no more need of, also where it was killed before it could."""
        cache = self._cache(stage, data)
        if not self.config.runtime.keep_cache:
            shutil.rmtree(cache, ignore_errors=True)
        for checkpoint in cache.glob("*.checkpoint"):
            checkpoint.unlink()

    def _needs(self, stage: str, folder: TaskFolder) -> None:
        """Refuse a stage whose predecessor has left nothing."""
        need = {"crop": ("cam", folder.heatmaps), "finetune": ("crop", folder.boxes)}.get(stage)
        if need and not need[1].is_file():
            raise RunError(
                f"{need[1]} is missing; run the stage before it first: "
                f"python pipeline.py stage {need[0]} --task {folder.path.name}"
            )


def parts_of(data: TaskData) -> tuple[TaskData, ...]:
    """The tasks that some rows are of."""
    return data.parts if isinstance(data, JoinedData) else (data,)


def in_turn(walk: Walk, data: TaskData, stages: Sequence[str]) -> None:
    """Do one task's work in this process."""
    rounds, took = walk.rounds(stages, data), None
    with contextlib.suppress(StopIteration):
        while True:
            took = [walk.do(data, *errand) for errand in rounds.send(took)]  # type: ignore[arg-type]


def same_rows(folder: TaskFolder, data: TaskData) -> None:
    """Refuse to go on from what stage 1 said of other pictures, or of the same ones split otherwise.

    Raises
    ------
    RunError
    """
    start, same = 0, True
    for table, _ in read_parts(folder.predictions(1)):
        rows = slice(start, start + len(table))
        same &= tuple(table["image"]) == data.images[rows]
        same &= np.array_equal(table["split"].to_numpy(object), data.splits[rows])
        start += len(table)
    if not same or start != len(data):
        raise RunError(
            f"{folder.predictions(1)}: is of other pictures or another split than the data has now; "
            f"run all stages again: python pipeline.py run --task {data.task.short}"
        )
