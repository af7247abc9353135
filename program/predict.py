"""Predict pictures nobody has labelled, from a finished run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from attributes.dataset import survey_pictures
from attributes.errors import DataError
from attributes.pictures import SUFFIXES
from attributes.tasks import Task, resolve
from learning.batches import Pictures
from learning.branch import (
    Workshop,
    load_classifier,
    make_inputs,
    map_runner,
    new_classifier,
    open_classifier,
    predict,
)
from learning.fusion import Fusion, fuse
from learning.inference import Runner, onnx_runner, softmax
from program.config import Config, read_config
from program.errors import RunError
from program.run import workshop
from runfolder.boxes import read_rule
from runfolder.files import whole_table
from runfolder.folder import RunFolder
from runfolder.predictions import DECIMALS, join
from runfolder.progress import progress, say
from stage1_cam.heatmaps import predicted_heatmaps
from stage2_crop.boxes import find_crops
from stage2_crop.rule import CropRule
from stage3_finetune.stage import read_fusion

_CHUNK = 256


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the method says of some pictures for one task.

    Attributes
    ----------
    full, crop, fused : ndarray of float64, shape (N, C)
        Probabilities of each branch.
    boxes : ndarray of int, shape (N, 4)
    fallbacks : list of str
    heatmaps : ndarray of float32, shape (N, h, w)
    """

    full: np.ndarray
    crop: np.ndarray
    fused: np.ndarray
    boxes: np.ndarray
    fallbacks: list[str]
    heatmaps: np.ndarray


class Predictor:
    """Both networks of one task, opened from a finished run."""

    def __init__(
        self, config: Config, folder: RunFolder, task: Task, trunk: Runner | None, engine: str
    ) -> None:
        self.task, self._trunk = task, trunk
        self._shop: Workshop = workshop(config, folder)
        self.fit = self._shop.form.fit
        self._cam, _, self._finetune = config.plans(task)
        files = folder.task(task.name)
        for path in (files.weights(1), files.rule, files.weights(3), files.fusion):
            if not path.is_file():
                raise RunError(
                    f"{path} is missing; finish the run first: python pipeline.py run --task {task.short}"
                )
        self.fusion: Fusion = read_fusion(files.fusion)
        self.rule = CropRule(**read_rule(files.rule)["rule"])
        self._full = self._open(files.weights(1), files.network(1), engine, self._shop.maps.by_gradient)
        self._cropped = self._open(files.weights(3), files.network(3), engine)

    def _open(self, weights: Path, onnx: Path, engine: str, by_gradient: bool = False) -> Runner:
        if engine != "mxnet" and onnx.is_file() and not by_gradient:
            return onnx_runner(onnx)
        shape = self._shop.picture_shape
        if self._trunk is not None:
            shape = self._trunk(np.zeros((1, *shape), np.float32))[0].shape[1:]
        net = new_classifier(self._shop, shape, len(self.task.classes), 0)
        load_classifier(net, weights)
        if by_gradient:
            return map_runner(self._shop, net)
        return open_classifier(dataclasses.replace(self._shop, engine=engine), net, shape, onnx)

    def __call__(self, paths: Sequence[str], sizes: np.ndarray) -> Answer:
        """Predict pictures.

        Parameters
        ----------
        paths : sequence of str
        sizes : ndarray of int, shape (N, 2)
            Width and height in pixels.
        """
        rows, none = np.arange(len(paths)), np.array([], np.int64)
        cam, finetune = self._cam, self._finetune
        inputs = make_inputs(self._shop, self._trunk, Pictures(paths), none, cam.augment, cam.test, 0, None)
        logits, heatmaps = [], []
        views = cam.test.unit()
        for some, maps, _ in predict(self._full, inputs, rows):
            logits.append(some)
            heatmaps.append(predicted_heatmaps(some, maps, views, cam.heatmap))
        full = softmax(np.concatenate(logits).astype(np.float64))
        heat = np.concatenate(heatmaps)
        invisible = full.argmax(axis=1) == self.task.invisible
        crops = find_crops(heat, sizes, self._shop.form.fit, self.rule, invisible)
        boxes = np.array([c.box for c in crops])
        inputs = make_inputs(
            self._shop,
            self._trunk,
            Pictures(paths, boxes, None, sizes),
            none,
            finetune.augment,
            finetune.test,
            0,
            None,
        )
        crop = softmax(
            np.concatenate([some for some, _, _ in predict(self._cropped, inputs, rows)]).astype(np.float64)
        )
        return Answer(full, crop, fuse(full, crop, self.fusion), boxes, [c.fallback for c in crops], heat)


def find_pictures(source: Path) -> list[tuple[str, str]]:
    """List the pictures that a picture, a folder or a CSV names.

    Returns
    -------
    list of (image, path)
        `image` is what the answer file calls it: relative to the folder, or as the CSV has it.
    """
    if source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise DataError(f"{source}: holds no picture ({', '.join(sorted(SUFFIXES))})")
        return [(p.relative_to(source).as_posix(), str(p)) for p in files]
    if source.suffix.lower() == ".csv":
        return _from_csv(source)
    if not source.is_file():
        raise DataError(f"{source}: no such picture, folder or CSV file")
    return [(source.name, str(source))]


def _from_csv(source: Path) -> list[tuple[str, str]]:
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{source}: cannot be read as CSV ({str(error).splitlines()[0]})") from None
    if "image" not in table.columns:
        raise DataError(f"{source}:1: no column 'image'; found {', '.join(map(str, table.columns))[:200]}")
    images = list(dict.fromkeys(table["image"].str.strip().str.replace("\\", "/")))
    return [(image, str(source.parent / image)) for image in images if image]


def predict_pictures(
    source: Path, folder: RunFolder, out: Path, wanted: Sequence[str], engine: str,
    seen: Callable[[Predictor, Sequence[tuple[str, str, tuple[int, int]]], list[Answer]], None] | None = None,
) -> tuple[int, int, list[tuple[str, str]]]:  # fmt: skip
    """Predict and write image,task,class,confidence,probabilities.

    Parameters
    ----------
    seen : callable or None
        Given each task's predictor, its pictures (image, path, size) and all that was said of them.

    Returns
    -------
    rows, pictures : int
        Written rows and good pictures.
    bad : list of (image, reason)
        Pictures that could not be read.
    """
    if not folder.config.is_file():
        raise RunError(
            f"{folder.path}: is not a run folder (no config.yaml); give --run the folder of a finished run"
        )
    config = read_config(folder.config)
    if config.heatmap.by_gradient and engine == "onnx":
        raise RunError(
            f"{folder.path}: its heatmaps ({config.heatmap.method}) need a backward pass, which ONNX Runtime "
            "has not; predict with --engine auto or mxnet"
        )
    tasks = _finished(config, folder, wanted)
    named = find_pictures(source)
    with progress("check pictures", len(named)) as bar:
        found, reasons = survey_pictures([path for _, path in named], config.runtime.threads, bar)
    bad = [(image, reason) for (image, _), reason in zip(named, reasons, strict=True) if reason]
    if len(bad) == len(named):
        raise DataError(f"{source}: no readable picture; for instance {bad[0][0]}: {bad[0][1]}")
    usable = [i for i, reason in enumerate(reasons) if not reason]
    trunk = dataclasses.replace(workshop(config, folder), engine=engine).trunk()
    with whole_table(out) as write:
        for task in tasks:
            predictor = Predictor(config, folder, task, trunk, engine)
            answers = []
            with progress(f"{task.short}: predict", len(usable)) as bar:
                for start in range(0, len(usable), _CHUNK):
                    part = usable[start : start + _CHUNK]
                    answer = predictor([named[i][1] for i in part], found[part])
                    if seen is not None:
                        answers.append(answer)
                    write(_rows(task, [named[i][0] for i in part], answer.fused))
                    bar(len(part))
            if seen is not None:
                pictures = [(*named[i], (int(found[i, 0]), int(found[i, 1]))) for i in usable]
                seen(predictor, pictures, answers)
    for image, reason in bad[:10]:
        say(f"left out {image}: {reason}")
    return len(usable) * len(tasks), len(usable), bad


def _finished(config: Config, folder: RunFolder, wanted: Sequence[str]) -> list[Task]:
    """The tasks of a run that have both networks."""
    known = config.known_tasks() or ()
    if wanted:
        return [resolve(name, known) for name in wanted]
    tasks = [task for task in known if folder.task(task.name).finished]
    if not tasks:
        raise RunError(f"{folder.path}: no task is finished; run it first: python pipeline.py run --all")
    return tasks


def _rows(task: Task, images: Sequence[str], fused: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({
        "image": list(images),
        "task": task.name,
        "class": [task.classes[i] for i in fused.argmax(axis=1)],
        "confidence": [f"{p:.{DECIMALS}f}" for p in fused.max(axis=1)],
        "probabilities": join(fused),
    })  # fmt: skip
