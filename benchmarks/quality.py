"""Compare the fused result with full-image models of the same cost and with controls.

    python -m benchmarks.quality                                    # the rendered default, 3 seeds
    python -m benchmarks.quality --data FOLDER --config configs/photos.yaml

Every control runs the program's own stages and differs from the method in the boxes of the crop branch. Its
training crops are jittered as stage 2 jitters those of a fixed place: without, a control would lose by its
training and not by its place. The fusion of controls is fitted on the validation split; they are compared
with the method fused in the same way. Two full-image models have the same cost at prediction. Results of
each seed and task are saved: an interrupted benchmark resumes, and a control that is asked for later is added
to those that are measured. Writes ``quality.json`` and ``quality.md``.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.arms import (
    centre_boxes,
    fixed_boxes,
    jittered,
    moved_to,
    random_boxes,
    sides_of,
    true_squares,
    typical_crops,
)
from benchmarks.localisation import heat_iou, max_box_accuracy, point_hits, pointing, square_iou
from benchmarks.table import AT_TRUTH, EQUAL, FAST, PREVIOUS, TRAINING, summary, write_summary
from heatcrop.cli.config import Config
from heatcrop.cli.config_file import read_config
from heatcrop.cli.loading import load_dataset
from heatcrop.cli.prediction import trained_run
from heatcrop.cli.runner import StageRunner
from heatcrop.data.dataset import TaskData
from heatcrop.data.groups import TaskGroup, single_group
from heatcrop.files import write_array, write_json
from heatcrop.metrics.calibration import softmax
from heatcrop.metrics.fusion import Fusion, fit_fusion, fuse
from heatcrop.metrics.localisation import true_boxes
from heatcrop.predict.predictor import open_onnx
from heatcrop.predict.trained_run import describe_run
from heatcrop.runs.executors import InlineExecutor, open_executor
from heatcrop.runs.folder import RunFolder, TaskFolder
from heatcrop.runs.metrics import sure_figures
from heatcrop.runs.predictions import read_arrays, read_branches, write_arrays
from heatcrop.runs.progress import log
from heatcrop.runs.reading import read_json
from heatcrop.runs.records import fingerprint
from heatcrop.runs.thresholds import read_points, update_thresholds
from heatcrop.training.batches import Images
from heatcrop.training.inputs import LiveInputs, predict
from pipeline import STAGES, run_group
from stage1_cam.heatmaps import heatmaps_of
from stage2_crop.boxes import Heatmaps, find_crops, predicted_boxes
from stage2_crop.plan import SearchedRule
from stage2_crop.rule import CropRule
from stage3_finetune.stage import FinetuneStage

ARMS = (
    "centre crop",
    "mean box",
    "median box",
    "random crop",
    "seed's rule",
    PREVIOUS,
    "true boxes",
    TRAINING,
)
"""The controls, by name."""
# To be raised when a control is computed differently from the same data and configuration.
_CODE = 10
SEED_RULE = CropRule(
    threshold=0.5, margin=0.0, by="area", least_side=0.05, greatest_side=1.0, invisible="crop"
)
"""The competition entry's rule: "the circumscribed square of the largest connected block, framing the
entire heat map area". Its threshold was not published; half the maximum is usual."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """One seed and one task.

    Attributes
    ----------
    config : Config
        With this seed; the data was loaded with the configured one.
    folder : RunFolder
    data : TaskData
    stamp : str
        Fingerprint of the task's image files.
    truth : ndarray of float, shape (N, 4), or None
        True boxes, NaN where there is none; None where none are known.
    arms : tuple of str
        The controls; all of them if empty.
    """

    config: Config
    folder: RunFolder
    data: TaskData
    stamp: str
    truth: np.ndarray | None
    arms: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The task's name."""
        return self.data.task.name

    @property
    def group(self) -> TaskGroup:
        """The task, with networks of its own."""
        return single_group(self.data)

    @property
    def task_folder(self) -> TaskFolder:
        """Folder of the method's own artefacts."""
        return self.folder.task(self.name)

    @property
    def path(self) -> Path:
        """File of the measured arrays."""
        return self.folder.path / "measured" / f"{self.name}.npz"

    @property
    def wanted(self) -> tuple[str, ...]:
        """The controls to measure; not all tasks have all of them."""
        return self.arms or ARMS

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the program's results and of what the controls are made from."""
        own = self.runner(self.config).inputs["finetune", self.name].fingerprint
        return fingerprint(_CODE, own, SEED_RULE, self.truth)

    def runner(self, config: Config) -> StageRunner:
        """Make what runs the program's own stages."""
        return StageRunner(config, self.folder, [self.group], {self.name: self.stamp})

    def saved(self) -> dict[str, np.ndarray]:
        """Read what has been measured of the present results; nothing where they have changed since."""
        found = read_arrays(self.path) if self.path.is_file() else {}
        return found if str(found.get("fingerprint")) == self.fingerprint else {}

    def is_current(self) -> bool:
        """Return whether all wanted controls have been measured."""
        return set(self.wanted) <= set(self.saved().get("arms", np.array([])).tolist())


def measure(unit: Unit) -> None:
    """Run every arm of one seed on one task, and save predictions and localisation."""
    config, data, files = unit.config.changed("runtime", threads=1), unit.data, unit.task_folder
    runner = unit.runner(config)
    InlineExecutor().run([(runner.perform, run_group(runner, unit.group, STAGES, [unit.name]))])
    saved = unit.saved()
    known = set(saved["arms"].tolist()) if saved else set()
    asked = np.array([arm for arm in ARMS if arm in {*known, *unit.wanted}])
    arrays = {"fingerprint": np.array(unit.fingerprint), "arms": asked}
    # A control that has been measured stays.
    arrays |= {name: array for name, array in saved.items() if name.partition("/")[2] in known}
    own = read_branches(files, data)
    arrays["full"], arrays["crop/ours"], arrays["fused/ours"] = own["full"], own["crop"], own["fused"]
    # The controls' fusion is fitted on the validation split; ours is measured with that fit, too.
    arrays[f"fused/{EQUAL}"] = _fused(data, own["full"], own["crop"])
    arrays[f"fused/{FAST}"], arrays[f"passes/{FAST}"] = _fast(unit, runner)

    crops = read_arrays(files.boxes, ("boxes", "fallback"), len(data))
    boxes = crops["boxes"]
    searched = read_json(files.rule, SearchedRule)
    rule = searched.rule
    plain, in_fold, distance = _maps(unit, runner, rule.spread)
    sides = sides_of(boxes, data.sizes)
    fitted, median_side = typical_crops(sides, crops["fallback"], data.splits)
    plan = config.plans(data.task)[1]
    previous = _previous_rule(plan.rule, data.task.kind)
    arms = {
        "centre crop": centre_boxes(median_side, data.sizes),
        "mean box": fixed_boxes(np.mean, boxes, fitted, median_side, data.sizes),
        "median box": fixed_boxes(np.median, boxes, fitted, median_side, data.sizes),
        "random crop": random_boxes(sides, data.sizes, _rng(unit, "random crop", 0)),
        "seed's rule": _boxes(plain, data, config, SEED_RULE),
        PREVIOUS: _boxes(distance, data, config, previous, own["full"]),
    }
    if unit.truth is not None and np.isfinite(unit.truth[data.rows("train"), 0]).mean() > 0.5:
        arms["true boxes"] = true_squares(unit.truth, data.sizes)
    missing = {*unit.wanted} - known
    arms = {name: found for name, found in arms.items() if name in missing}
    if TRAINING in missing:
        images = np.concatenate([np.zeros_like(data.sizes), data.sizes], axis=1)
        # The views of a frozen trunk's cache contain the full image already, as often as all others.
        mixture = np.stack([boxes if config.network.frozen_blocks else images, boxes], axis=1)
        arrays[f"alone/{TRAINING}"] = _control(unit, runner, TRAINING, images, mixture)
    for arm, arm_boxes in arms.items():
        training = jittered(arm_boxes, data.sizes, plan.jitter, plan.jitters, _rng(unit, arm, 1))
        crop = _control(unit, runner, arm, arm_boxes, training)
        arrays[f"crop/{arm}"] = crop
        arrays[f"fused/{arm}"] = (
            fuse(own["full"], crop, Fusion(0.5)) if arm == "seed's rule" else _fused(data, own["full"], crop)
        )

    arrays["boxes/ours"], arrays["fallback"] = boxes, crops["fallback"]
    full_views, crop_views = (len(config.plans(data.task)[i].test.unit()) for i in (0, 2))
    n_crops = read_arrays(files.boxes, ("predicted",), len(data))["predicted"].shape[1]
    arrays["passes"] = np.array(1 + (bool(rule.zoom) + n_crops * crop_views) / full_views)
    first = searched.first or rule
    arrays["first/in-fold"] = _boxes(in_fold, data, config, first, own["full"])
    unseen = np.load(files.heatmaps_of(rule.spread))
    arrays["first/out-of-fold"] = _boxes(unseen, data, config, first, own["full"])
    for arm, arm_boxes in arms.items():
        arrays[f"boxes/{arm}"] = arm_boxes
    if unit.truth is not None:
        arrays[f"fused/{AT_TRUTH}"] = _at_places(unit, runner, moved_to(unit.truth, boxes, data.sizes))
        arrays["truth"] = unit.truth
        arrays |= _localised(data, files, rule, unit.truth, plain, boxes, fitted, config.network.fit)
    write_arrays(unit.path, **arrays)
    log(f"seed {config.seed}: {data.task.short} measured")


def _rng(unit: Unit, arm: str, use: int) -> np.random.Generator:
    """Draw for one control, whichever others are measured."""
    return np.random.default_rng((unit.config.seed, ARMS.index(arm), use))


def promised(unit: Unit) -> np.ndarray:
    """Compare what the chosen thresholds promise with the test images, ndarray of float, shape (P, 4).

    A row for each accuracy that a threshold was found for: the accuracy, the test images, how many of them
    reach the threshold, and how many of these are right.
    """
    data, files, rows = unit.data, unit.task_folder, unit.data.rows("test", labelled=True)
    update_thresholds(files, data)
    fused = read_branches(files, data)["fused"][rows]
    kept = sure_figures(read_points(files) or (), fused, data.letters[rows]) or ()
    found = [(one["promised"], len(rows), one["n"], one["right"]) for one in kept if one["n"] is not None]
    return np.array(found, float).reshape(-1, 4)


def _fast(unit: Unit, runner: StageRunner) -> tuple[np.ndarray, np.ndarray]:
    """Predict the test images as ``predict --fast`` does.

    Returns (N, C) probabilities, NaN for other images, and the cost in passes of the full-image model with
    its mirror, ().
    """
    data, context = unit.data, runner.context
    described = describe_run(trained_run(unit.config, unit.folder), [data.task])
    rows, pipeline = data.rows("test"), open_onnx(described, context.form).fast()
    (found,) = pipeline.predict([data.task], [data.paths[i] for i in rows], data.sizes[rows])
    fused = np.full(data.letters.shape, np.nan)
    fused[rows] = found.fused
    full, fast = described.tasks[unit.name], pipeline.description.tasks[unit.name]
    views = [len(branch.views.unit()) for branch in (fast.full, fast.crop, full.full)]
    return fused, np.array((views[0] + views[1]) / views[2])


def _at_places(unit: Unit, runner: StageRunner, boxes: np.ndarray) -> np.ndarray:
    """Predict the test images with the method's own networks and fusion, and other (N, 4) boxes.

    Returns (N, C) fused probabilities, NaN for other images.
    """
    data, files, rows = unit.data, unit.task_folder, unit.data.rows("test")
    test, full = unit.config.plans(data.task)[2].test, read_branches(files, data)["full"]
    rule = read_json(files.rule, SearchedRule).rule
    images = Images(data.paths, predicted_boxes(boxes, data.sizes, rule), sizes=data.sizes)
    inputs = LiveInputs(images, runner.context.form, test, open_trunk=lambda: runner.trunk)
    opened = files.weights(3), files.network(3), inputs.shape, len(data.task.classes), False
    fused, fusion = np.full(full.shape, np.nan), read_json(files.fusion, Fusion)
    for logits, _, index in predict(runner.context.open_classifier(*opened), inputs, rows):
        fused[index] = fuse(full[index], softmax(logits), fusion)
    return fused


def _fused(data: TaskData, full: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """Fuse as stage 3 does without cross-fitting, fitted on the validation split."""
    val = data.rows("val", labelled=True)
    return fuse(full, crop, fit_fusion(full[val], crop[val], data.letters[val], data.soft[val]))


def _boxes(
    maps: np.ndarray, data: TaskData, config: Config, rule: CropRule, full: np.ndarray | None = None
) -> np.ndarray:
    guess = np.full(len(data), -1) if full is None else full.argmax(axis=1)
    crops = find_crops(Heatmaps(maps, data.sizes, config.network.fit, guess == data.task.invisible), rule)
    return np.array([crop.box for crop in crops])


def _previous_rule(rule: CropRule, kind: str) -> CropRule:
    """Return the rule of commit 2f9c5f9 for a kind of task, which its search began with."""
    threshold, margin = (0.6, 0.1) if kind == "design" else (0.55, 0.15)
    own = {"prior_weight": 0.0, "invisible": "whole", "least_side": 0.2}
    return dataclasses.replace(rule, threshold=threshold, margin=margin, **own)


def _maps(unit: Unit, runner: StageRunner, spread: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute heatmaps of all images.

    Plain maps and the method's, with the network trained on the training split, and those of the predicted
    class's distance to the others, with networks that did not train on the image.
    """
    data, cam, files = unit.data, runner.config.plans(unit.data.task)[0], unit.task_folder
    (trained,) = unit.group.trained_classes
    views, kinds = cam.test.unit(), ("plain", "spread" if spread else cam.heatmap, "distance")
    inputs = LiveInputs(Images(data.paths), runner.context.form, cam.test, open_trunk=lambda: runner.trunk)
    networks = read_arrays(files.predictions(1), ("networks",), len(data))["networks"]
    found = [np.zeros(np.load(files.heatmaps, mmap_mode="r").shape, np.float32) for _ in kinds]
    for network in np.unique(networks).tolist():
        final = network == "final"
        rows = np.arange(len(data)) if final else np.flatnonzero(networks == network)
        exported = files.network(1) if final else unit.folder.cache / f"{unit.name} {network}.onnx"
        if not final:
            exported.unlink(missing_ok=True)  # of weights that an earlier measurement trained
        opened = files.weights(1, network), exported, inputs.shape, len(data.task.classes), True
        for logits, maps, index in predict(runner.context.open_classifier(*opened), inputs, rows):
            for kind, heatmaps in zip(kinds, found, strict=True):
                own = networks[index] == network if kind == "distance" else np.full(len(index), final)
                if own.any():
                    how = kind, data.task.invisible, trained
                    made = heatmaps_of(logits[own], maps[own], views, *how)
                    heatmaps[index[own]] = made
    return found[0], found[1], found[2]


def _control(
    unit: Unit, runner: StageRunner, arm: str, boxes: np.ndarray, training: np.ndarray
) -> np.ndarray:
    """Run stage 3 on other boxes, trained on (N, J, 4) ones in turn; return the crop branch's predictions."""
    folder = RunFolder(unit.folder.path / "controls" / arm.replace(" ", "_").replace("'", ""))
    task = folder.task(unit.name)
    shutil.rmtree(task.path, ignore_errors=True)
    task.path.mkdir(parents=True)
    task.stage(1).symlink_to(unit.task_folder.stage(1).resolve(), target_is_directory=True)
    write_arrays(task.boxes, boxes=boxes, predicted=boxes[:, None])
    write_array(task.training_boxes, training.astype(np.int32))
    plan = dataclasses.replace(runner.config.plans(unit.data.task)[2], cross_fit=False)
    shared = runner.context, lambda: runner.trunk, unit.fingerprint
    stage = FinetuneStage(unit.group, folder, [plan], *shared)
    for step in stage.jobs():
        for method, arguments in step:
            stage.perform(method, arguments)
    shutil.rmtree(folder.cache / unit.name)
    return read_branches(task, unit.data)["crop"]


def _localised(
    data: TaskData,
    files: TaskFolder,
    rule: CropRule,
    truth: np.ndarray,
    plain: np.ndarray,
    boxes: np.ndarray,
    fitted: np.ndarray,
    fit: str,
) -> dict[str, np.ndarray]:
    """Measure localisation on the test images that show the attribute."""
    rows = data.rows("test", labelled=True)
    rows, maps = rows[~np.isnan(truth[rows, 0])], np.load(files.heatmaps_of(rule.spread))
    sizes, true = data.sizes[rows], truth[rows]
    mean = ((boxes[:, :2] + boxes[:, 2:]) / 2 / data.sizes)[fitted].mean(axis=0)
    found = {
        "ours": heat_iou(maps[rows], sizes, fit, true),
        "plain map": heat_iou(plain[rows], sizes, fit, true),
        "centred box": square_iou(np.full((len(rows), 2), 0.5), sizes, true),
        "mean box": square_iou(np.tile(mean, (len(rows), 1)), sizes, true),
    }
    out = {
        f"box_acc/{name}": np.array(list(max_box_accuracy(values).values())) for name, values in found.items()
    }
    out["pointing/heatmap"] = np.array(pointing(maps[rows], sizes, fit, true))
    heat, regions = maps, None
    if rule.zoom:
        heat, regions = np.load(files.zoomed), np.load(files.regions)[rows]
    out["pointing/ours"] = np.array(pointing(heat[rows], sizes, fit, true, regions, rule))
    out["pointing/plain map"] = np.array(pointing(plain[rows], sizes, fit, true))
    for name, place in (("centred box", np.array([0.5, 0.5])), ("mean box", mean)):
        out[f"pointing/{name}"] = np.array(point_hits(np.tile(place, (len(rows), 1)), sizes, true))
    return out


def main(
    config: Annotated[Path, typer.Option(help="Configuration file.")] = Path("configs/demo.yaml"),
    data: Annotated[list[str] | None, typer.Option(help="Labelled images instead of rendered ones.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; runs/quality-<name> by default.")] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds.")] = 3,
    task: Annotated[list[str] | None, typer.Option(help="Some tasks only; repeatable.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Some controls only, by name; repeatable.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    resamples: Annotated[int, typer.Option(min=100, help="Resamples of the bootstrap.")] = 1000,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Change a setting.")] = None,
) -> None:
    """Compare the method with its controls."""
    if unknown := sorted(set(arm or ()) - set(ARMS)):
        raise typer.BadParameter(f"{unknown[0]!r} is no control; there are {', '.join(ARMS)}")
    given = ["data.source=files", f"data.roots={json.dumps(data)}"] if data else []
    configured = read_config(config, [*given, *(settings or [])])
    out = out or Path("runs") / f"quality-{configured.name}"
    out.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset(configured, task or [], RunFolder(out))
    for name, task_data in dataset.tasks.items():
        if not len(task_data.rows("test", labelled=True)):
            raise typer.BadParameter(f"{name} has no test image with an answer; see data.splits")
    units = [
        Unit(
            configured.model_copy(update={"seed": seed}),
            RunFolder(out / f"seed{seed}"),
            task_data,
            dataset.stamps[task_data.task.name],
            None if dataset.boxes_true is None else true_boxes(task_data, dataset.boxes_true),
            tuple(arm or ()),
        )
        for seed in range(seeds)
        for task_data in sorted(dataset.tasks.values(), key=len, reverse=True)
    ]
    if outdated := [(unit,) for unit in units if not unit.is_current()]:
        with open_executor(jobs, isolated=True) as executor:
            executor.run([(measure, (step for step in [outdated]))])  # one step of independent jobs
    measured: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in dataset.tasks}
    for unit in units:
        measured[unit.name].append(read_arrays(unit.path) | {"promised": promised(unit)})
    results = summary(configured.name, dataset.tasks, measured, resamples)
    write_json(out / "quality.json", results)
    write_summary(out / "quality.md", results)
    log((out / "quality.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
