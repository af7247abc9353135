"""What the report knows of one task: predictions, crops and heatmaps, row by row of its data."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pandas as pd
import yaml

from heatcrop.data.dataset import TaskData
from heatcrop.data.labels import YES
from heatcrop.runs.boxes import is_uncropped, read_box_parts, read_rule
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_aligned, read_parts
from heatcrop.runs.reading import read_array
from heatcrop.training.views import framed

BRANCHES = ("full", "crop", "fused")
UNKNOWN = -1


@dataclasses.dataclass(frozen=True)
class TaskRows:
    """One task's pictures with all that the stages said about them.

    Attributes
    ----------
    data : TaskData
        N pictures.
    probabilities : dict of str to ndarray of float, shape (N, C)
        By branch; NaN where a branch did not speak (stage 3 is silent about training pictures).
    boxes : ndarray of int, shape (N, 4)
        x0, y0, x1, y1 in pixels of the picture, x1/y1 exclusive.
    fallback : ndarray of str, shape (N,)
        '' for a heatmap crop.
    heatmaps : ndarray of float, shape (M, h, w)
        A memory map; `place` says which one is whose.
    place : ndarray of int, shape (N,)
    threshold : float
        Share of the map's reference above which a position was cut.
    percentile : float
        Of the map's values, the one that is its reference.
    fit : {'stretch', 'pad'}
        How stage 1 framed the pictures.
    trained : ndarray of bool, shape (N,)
        Whether the network that spoke for the full picture had trained on it.
    """

    data: TaskData
    probabilities: dict[str, np.ndarray]
    boxes: np.ndarray
    fallback: np.ndarray
    heatmaps: np.ndarray
    place: np.ndarray
    threshold: float
    percentile: float
    fit: str
    trained: np.ndarray

    def __len__(self) -> int:
        return len(self.data)

    def spoken(self, branch: str) -> np.ndarray:
        """(N,) bool: whether a branch said anything about a picture."""
        return np.asarray(~np.isnan(self.probabilities[branch][:, 0]))

    @functools.cached_property
    def last(self) -> np.ndarray:
        """(N, C) probabilities of the last branch that spoke: fused, else full."""
        late = self.spoken("fused")[:, None]
        return np.where(late, self.probabilities["fused"], self.probabilities["full"])

    def verdict(self, probabilities: np.ndarray) -> np.ndarray:
        """(N,) int: the label's letter at the predicted class (2 y, 1 m, 0 n), -1 where none is known."""
        known = self.data.labelled & ~np.isnan(probabilities[:, 0])
        best = np.nan_to_num(probabilities, nan=0.0).argmax(axis=1)
        return np.where(known, self.data.letters[np.arange(len(self)), best], UNKNOWN)

    @functools.cached_property
    def mended(self) -> np.ndarray:
        """(N,) bool: the full image alone was not right, fused it is."""
        before, after = self._before_and_after()
        return np.asarray((before != UNKNOWN) & (before != YES) & (after == YES))

    @functools.cached_property
    def broken(self) -> np.ndarray:
        """(N,) bool: the full image alone was right, fused it is not."""
        before, after = self._before_and_after()
        return np.asarray((before == YES) & (after != UNKNOWN) & (after != YES))

    def _before_and_after(self) -> tuple[np.ndarray, np.ndarray]:
        return self.verdict(self.probabilities["full"]), self.verdict(self.probabilities["fused"])

    def frame(self, row: int) -> tuple[float, float, float, float]:
        """The rectangle of a picture, in its pixels, that its heatmap covers."""
        width, height = (int(v) for v in self.data.sizes[row])
        view = framed((0, 0, width, height), self.fit)
        return view.x0, view.y0, view.x1, view.y1

    @property
    def uncropped(self) -> np.ndarray:
        """Which pictures were not cut."""
        return is_uncropped(self.fallback)

    def counts(self, split: str) -> dict[str, int]:
        """How many pictures of a split there are, and of each kind that the gallery can be asked for."""
        chosen = (self.data.splits == split) & self.spoken("full")
        verdict = self.verdict(self.last)
        return {
            "n": int(chosen.sum()),
            "labelled": int((chosen & (verdict != UNKNOWN)).sum()),
            "right": int((chosen & (verdict == YES)).sum()),
            "mended": int((chosen & self.mended).sum()),
            "broken": int((chosen & self.broken).sum()),
            "fallback": int((chosen & self.uncropped).sum()),
        }


def read_settings(folder: RunFolder) -> dict[str, Any]:
    """Read the run's configuration as plain values; empty when there is none."""
    try:
        found = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}


def gather(data: TaskData, folder: RunFolder, settings: dict[str, Any]) -> TaskRows | None:
    """Read one task's artefacts; None when its first two stages have left nothing to look at yet."""
    task = folder.task(data.task.name)
    if not (task.predictions(1).is_file() and task.boxes.is_file() and task.heatmaps.is_file()):
        return None
    files = {"full": task.predictions(1), "crop": task.predictions(3), "fused": task.fused}
    places, silent = pd.Index(data.images, dtype=object), np.full(data.letters.shape, np.nan)
    probabilities = {
        branch: read_aligned(file, places, data.letters.shape) if file.is_file() else silent
        for branch, file in files.items()
    }
    place, trained, row = np.zeros(len(data), np.int64), data.splits == "train", 0
    for said, _ in read_parts(task.predictions(1)):
        at = places.get_indexer(said["image"].tolist())
        known, own = np.flatnonzero(at >= 0), at[at >= 0]
        place[own] = row + known
        trained[own] &= ~said["network"].str.startswith("fold").to_numpy(bool)[known]
        row += len(said)
    boxes = np.concatenate([np.zeros_like(data.sizes), data.sizes], axis=1).astype(np.int64)
    fallback = np.full(len(data), "no box", dtype=object)
    for table, found in read_box_parts(task.boxes):
        at = places.get_indexer(table["image"].tolist())
        own = at[at >= 0]
        boxes[own], fallback[own] = found[at >= 0], table["fallback"].to_numpy(object)[at >= 0]
    rule = read_rule(task.rule)["rule"]
    return TaskRows(
        data,
        probabilities,
        boxes,
        fallback,
        read_array(task.heatmaps),
        place,
        rule["threshold"],
        rule["percentile"],
        str(_dig(settings, "network", "fit") or "pad"),
        trained,
    )


def choose_rows(rows: TaskRows, limit: int, seed: int) -> np.ndarray:
    """Choose the pictures of the gallery.

    Where there are more than `limit` of validation and test together, half of the places go to
    pictures whose class fusion changed (largest change first), a quarter to other mistakes (most
    confident first), the rest to a random sample of the others; places that nobody claims are given
    to whoever is left. A tenth of `limit` more are training pictures, drawn at random.

    Returns
    -------
    ndarray of int
        Rows, in order.
    """
    rng = np.random.default_rng(seed)
    train = rows.data.splits == "train"
    pool = np.flatnonzero(~train & rows.spoken("full"))
    if len(pool) > limit:
        last, full = rows.last, rows.probabilities["full"]
        confidence = np.nan_to_num(last.max(axis=1))
        gap = np.nan_to_num(np.abs(last - full).max(axis=1))
        wrong = np.isin(rows.verdict(last), (0, 1))
        changed = np.nan_to_num(last).argmax(axis=1) != np.nan_to_num(full).argmax(axis=1)
        first = pool[changed[pool]]
        first = first[np.argsort(-gap[first], kind="stable")]
        second = pool[~changed[pool] & wrong[pool]]
        second = second[np.argsort(-confidence[second], kind="stable")]
        others = rng.permutation(pool[~changed[pool] & ~wrong[pool]])
        half, quarter = limit // 2, limit // 4
        queue = (first[:half], second[:quarter], others, first[half:], second[quarter:])
        pool = np.concatenate(queue)[:limit]
    trained = np.flatnonzero(train & rows.spoken("full"))
    trained = rng.permutation(trained)[: limit // 10]
    return np.sort(np.concatenate([pool, trained]))


def _dig(layer: Any, *keys: str) -> Any:
    for key in keys:
        layer = layer.get(key) if isinstance(layer, dict) else None
    return layer
