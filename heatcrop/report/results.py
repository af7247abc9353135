"""Results of one task, row by row of its data: predictions, crops and heatmaps."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from heatcrop.data.dataset import TaskData
from heatcrop.data.labels import NO, YES
from heatcrop.files import update_text
from heatcrop.metrics.ensemble import calibrated, weighted_mean
from heatcrop.metrics.fusion import Fusion
from heatcrop.metrics.localisation import true_boxes
from heatcrop.metrics.suspects import find_suspects
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import is_uncropped, read_arrays, read_branches, read_probe
from heatcrop.runs.reading import read_array, read_json
from stage2_crop.boxes import Heatmaps, deciding_heat
from stage2_crop.plan import CropRule, SearchedRule

if TYPE_CHECKING:
    import pandas as pd  # not installed where only ONNX Runtime is

UNKNOWN = -1


@dataclasses.dataclass(frozen=True)
class TaskResults:
    """N images of one task and what the stages computed for them."""

    data: TaskData
    probabilities: dict[str, np.ndarray]
    """(N, C) by branch; NaN without a prediction, as stage 3's of training images without ``cross_fit``."""
    boxes: np.ndarray
    """(N, 4) int: x0, y0, x1, y1 in pixels of the image, x1/y1 exclusive."""
    fallback: np.ndarray
    """(N,) str: '' for a heatmap crop."""
    heatmaps: Heatmaps
    rule: CropRule
    trained: np.ndarray
    """(N,) bool: whether the full-image prediction comes from a network that trained on the image."""
    folder: str = ""
    """Name of the task's folders in the report, which no other task has."""
    first: CropRule | None = None
    """The rule of the first crops, where `rule` zooms."""
    boxes_true: pd.DataFrame | None = None
    """The true regions, see :func:`heatcrop.metrics.localisation.true_boxes`."""
    probe: np.ndarray | None = None
    """(N, C) by probes of training labels, see :func:`heatcrop.training.probe.probe_labels`; else NaN."""
    full_temperature: float = 1.0
    """What fusion divides the logits of the full image by."""

    @functools.cached_property
    def regions(self) -> np.ndarray:
        """(N, 4) true regions in pixels, NaN where none is known."""
        if self.boxes_true is None:
            return np.full((len(self.data), 4), np.nan)
        return true_boxes(self.data, self.boxes_true)

    @property
    def has_regions(self) -> bool:
        """Whether the true region of any image is known."""
        return not np.isnan(self.regions).all()

    def predicted(self, branch: str) -> np.ndarray:
        """(N,) bool: whether a branch has a prediction."""
        return np.asarray(~np.isnan(self.probabilities[branch][:, 0]))

    @functools.cached_property
    def last(self) -> np.ndarray:
        """(N, C) probabilities of the last branch that has a prediction: fused, else full."""
        fused = self.predicted("fused")[:, None]
        return np.where(fused, self.probabilities["fused"], self.probabilities["full"])

    @functools.cached_property
    def verdict(self) -> np.ndarray:
        """:meth:`outcomes` of the last branch."""
        return self.outcomes(self.last)

    def outcomes(self, probabilities: np.ndarray) -> np.ndarray:
        """(N,) int: the label's letter at the predicted class (2 y, 1 m, 0 n), -1 without a label."""
        known = self.data.labelled & ~np.isnan(probabilities[:, 0])
        best = np.nan_to_num(probabilities).argmax(axis=1)
        return np.where(known, self.data.letters[np.arange(len(best)), best], UNKNOWN)

    @functools.cached_property
    def fixed(self) -> np.ndarray:
        """(N,) bool: full was not right, fused is."""
        return self._changed("full", "fused")

    @functools.cached_property
    def lost(self) -> np.ndarray:
        """(N,) bool: full was right, fused is not."""
        return self._changed("fused", "full")

    def _changed(self, wrong: str, right: str) -> np.ndarray:
        verdict = self.outcomes(self.probabilities[wrong])
        known = (verdict != UNKNOWN) & (verdict != YES)
        return known & (self.outcomes(self.probabilities[right]) == YES)

    @functools.cached_property
    def change(self) -> np.ndarray:
        """(N, C) fused less calibrated full probabilities, NaN where a branch has no prediction."""
        return self.probabilities["fused"] - calibrated(self.probabilities["full"], self.full_temperature)

    @functools.cached_property
    def gain(self) -> np.ndarray:
        """(N,) :attr:`change` of the label's probability, NaN without a label."""
        gain = self.change[np.arange(len(self.data)), self.data.letters.argmax(axis=1)]
        return np.where(self.data.labelled, gain, np.nan)

    @functools.cached_property
    def unseen(self) -> np.ndarray:
        """(N, C) mean of :attr:`last` and :attr:`probe`: of labelled training and validation images.

        NaN elsewhere, and where a network has trained on the image.
        """
        known = self.data.labelled & ~self.trained & (self.data.splits != "test")
        found = self.last
        if self.probe is not None:
            mean = weighted_mean((found, self.probe), (0.5, 0.5))
            found = np.where(np.isnan(self.probe), found, mean)
        return np.where(known[:, None], found, np.nan)

    @functools.cached_property
    def label_probability(self) -> np.ndarray:
        """(N,) probability of the label by :attr:`unseen`, NaN where that is."""
        return np.asarray(self.unseen[np.arange(len(self.data)), self.data.letters.argmax(axis=1)])

    @functools.cached_property
    def suspect(self) -> np.ndarray:
        """(N,) bool: doubtful labels, see :func:`heatcrop.metrics.suspects.find_suspects`."""
        known, found = ~np.isnan(self.label_probability), np.zeros(len(self.data), bool)
        found[known] = find_suspects(self.data.letters[known].argmax(axis=1), self.unseen[known])
        # A class that the image may show too ("maybe") is no error.
        top = np.nan_to_num(self.unseen).argmax(axis=1)
        return found & (self.data.letters[np.arange(len(found)), top] == NO)

    @functools.cached_property
    def uncropped(self) -> np.ndarray:
        """(N,) bool: no crop was made."""
        return is_uncropped(self.fallback)

    def note(self, row: int) -> str:
        """Describe why an image has no heatmap crop; '' where it has one."""
        kind = str(self.fallback[row])
        return f"not cropped: {kind}" if self.uncropped[row] else "usual place" if kind else ""

    def heat(self, row: int) -> tuple[np.ndarray, tuple[float, float, float, float]]:
        """Return the heat that decided an image's crop, see :func:`stage2_crop.boxes.deciding_heat`."""
        return deciding_heat(self.heatmaps, row, self.rule)

    def counts(self, split: str) -> dict[str, int]:
        """Count the images of a split, and those of each kind that the gallery filters by."""
        chosen = (self.data.splits == split) & self.predicted("full")
        kinds = {
            "n": chosen,
            "labelled": self.verdict != UNKNOWN,
            "right": self.verdict == YES,
            "fixed": self.fixed,
            "lost": self.lost,
            "uncropped": self.uncropped,
        }
        return {kind: int((chosen & rows).sum()) for kind, rows in kinds.items()}


def read_settings(folder: RunFolder) -> dict[str, Any]:
    """Read the run's configuration as plain values; empty when there is none that can be read."""
    try:
        found = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def read_results(
    data: TaskData, folder: RunFolder, settings: dict[str, Any], boxes_true: pd.DataFrame | None = None
) -> TaskResults | None:
    """Read one task's results; None where the first two stages have not run yet.

    `boxes_true` are the true regions, see :func:`heatcrop.metrics.localisation.true_boxes`. DataError where a
    file of a finished task is missing or damaged.
    """
    task = folder.task(data.task.name)
    files = (task.predictions(1), task.boxes, task.heatmaps)
    if not (task.finished or all(file.is_file() for file in files)):
        return None
    network = settings.get("network")
    crops = read_arrays(task.boxes, ("boxes", "fallback"), len(data))
    networks = read_arrays(task.predictions(1), ("networks",), len(data))["networks"]
    probabilities, searched = read_branches(task, data), read_json(task.rule, SearchedRule)
    rule = searched.rule
    fit = str((network.get("fit") if isinstance(network, dict) else None) or "pad")
    invisible = probabilities["full"].argmax(axis=1) == data.task.invisible
    # A task that shares the network tests on the image: stage 3 predicts no row that it has trained on.
    held_out = ~np.isnan(probabilities["crop"][:, 0])
    zoomed = [read_array(one) if rule.zoom and one.is_file() else None for one in (task.zoomed, task.regions)]
    return TaskResults(
        data=data,
        probabilities=probabilities,
        folder=task.path.name,
        trained=(data.splits == "train") & ~np.char.startswith(networks, "fold") & ~held_out,
        boxes=crops["boxes"],
        fallback=crops["fallback"],
        heatmaps=Heatmaps(read_array(task.heatmaps_of(rule.spread)), data.sizes, fit, invisible, *zoomed),
        rule=rule,
        first=searched.first,
        boxes_true=boxes_true,
        probe=read_probe(task, data),
        full_temperature=read_json(task.fusion, Fusion).full_temperature if task.fusion.is_file() else 1.0,
    )


def write_suspects(path: Path, results: TaskResults) -> None:
    """Write the labels of training and validation images, the most doubtful first.

    ``image, task, split, label, suggested``: the label, and the most probable class by networks that did not
    train on the image; ``label_probability, suggested_probability``: see :attr:`TaskResults.unseen`;
    ``suspect``: 1 where confident learning takes the label for wrong. An unchanged file is not written again.
    """
    import pandas as pd

    data, p = results.data, results.unseen
    rows = np.argsort(results.label_probability, kind="stable")  # NaN last
    rows = rows[: np.count_nonzero(~np.isnan(results.label_probability))]
    classes = np.array(data.task.classes, object)
    table = {
        "image": [data.images[i] for i in rows],
        "task": data.task.name,
        "split": data.splits[rows],
        "label": classes[data.letters[rows].argmax(axis=1)],
        "suggested": classes[p[rows].argmax(axis=1)],
        "label_probability": [f"{value:.4f}" for value in results.label_probability[rows]],
        "suggested_probability": [f"{value:.4f}" for value in p[rows].max(axis=1)],
        "suspect": results.suspect[rows].astype(int),
    }
    update_text(path, pd.DataFrame(table).to_csv(index=False, lineterminator="\n"))


def choose_rows(results: TaskResults, limit: int) -> np.ndarray:
    """Choose the rows of the gallery, in order.

    Where validation and test have more than `limit` images, half of the places go to images whose
    class fusion changed (largest change first), a quarter to other mistakes (most confident first),
    the rest to a random sample of the others; unused places go to the remaining images. On top come training
    images: a tenth of `limit` at random, and as many of those with the most doubtful labels.
    """
    rng = np.random.default_rng(0)
    train, predicted = results.data.splits == "train", results.predicted("full")
    pool = np.flatnonzero(~train & predicted)
    if len(pool) > limit:
        last, full = results.last[pool], results.probabilities["full"][pool]
        changed = last.argmax(axis=1) != full.argmax(axis=1)
        wrong = ~changed & np.isin(results.verdict[pool], (0, 1))
        by_gap = np.argsort(-np.abs(results.change[pool]).max(axis=1), kind="stable")
        by_confidence = np.argsort(-last.max(axis=1), kind="stable")
        first, second = by_gap[changed[by_gap]], by_confidence[wrong[by_confidence]]
        others = rng.permutation(np.flatnonzero(~changed & ~wrong))
        half, quarter = limit // 2, limit // 4
        queue = (first[:half], second[:quarter], others, first[half:], second[quarter:])
        pool = pool[np.concatenate(queue)[:limit]]
    trained = rng.permutation(np.flatnonzero(train & predicted))[: limit // 10]
    doubtful = np.flatnonzero(train & results.suspect)
    doubtful = doubtful[np.argsort(results.label_probability[doubtful], kind="stable")][: limit // 10]
    return np.unique(np.concatenate([pool, trained, doubtful]))
