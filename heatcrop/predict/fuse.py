"""Fuse finished runs and submission files: weight them, score them, and report what each one adds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heatcrop.data.dataset import TaskData
from heatcrop.files import write_json, write_table
from heatcrop.metrics.ensemble import Ensemble, fit_ensemble, fuse_members
from heatcrop.metrics.score import average_precision, scores
from heatcrop.metrics.submissions import write_submission
from heatcrop.predict.members import FUSED, SPLITS, Member
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.metrics import metrics_by_split
from heatcrop.runs.progress import log, progress

WEIGHTS, MEMBERS = "weights.json", "members.csv"


@dataclasses.dataclass(frozen=True)
class TaskEnsemble:
    """One task's ensemble."""

    data: TaskData
    predictions: dict[str, np.ndarray]
    """By member, (N, C)."""
    ensemble: Ensemble
    without: dict[str, Ensemble]
    """For each member, the ensemble fitted without it; empty when there is only one."""

    def fused(self, rows: np.ndarray, left_out: str | None = None) -> np.ndarray:
        """Fuse the predictions of some rows, with all members or without one."""
        members = [p[rows] for name, p in self.predictions.items() if name != left_out]
        return fuse_members(members, self.ensemble if left_out is None else self.without[left_out])


def write_ensemble(
    tasks: dict[str, TaskData], members: Sequence[Member], out: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Fit the weights of an ensemble on validation, and write its predictions and figures.

    Writes ``submission.csv`` (the test images), ``weights.json``, ``members.csv`` (what each member adds)
    and ``metrics.json`` (in the form of a run's) into `out`; returns the last two.
    """
    ensembles = {}
    with progress("fit weights", len(tasks)) as bar:
        for name, data in tasks.items():
            predictions = {m.name: m.predictions[name] for m in members if name in m.predictions}
            ensembles[name] = _fit_task(data, predictions)
            bar(1)
    weights, metrics = _weights(ensembles, members), _metrics(ensembles)
    table = _table(ensembles, weights["tasks"])
    rows = [
        (one.data.images[i], name, p)
        for name, one in ensembles.items()
        for i, p in zip(one.data.rows("test"), one.fused(one.data.rows("test")), strict=True)
    ]
    write_json(out / WEIGHTS, weights)
    write_table(out / MEMBERS, table)
    write_json(RunFolder(out).metrics, metrics)
    write_submission(RunFolder(out).submission, rows)
    return table, metrics


def _fit_task(data: TaskData, predictions: dict[str, np.ndarray]) -> TaskEnsemble:
    rows = data.rows("val", labelled=True)
    if not len(rows):
        log(f"{data.task.name}: there is no validation image; all that predict it get the same weight")

    def fit(left_out: str | None = None) -> Ensemble:
        members = [p[rows] for name, p in predictions.items() if name != left_out]
        return fit_ensemble(members, data.letters[rows], data.soft[rows])

    without = {name: fit(name) for name in predictions} if len(predictions) > 1 else {}
    return TaskEnsemble(data, predictions, fit(), without)


def is_weights(text: str) -> bool:
    """Return whether a file's text is an ensemble's weights."""
    try:
        return {"members", "tasks"} <= set(json.loads(text))
    except (ValueError, TypeError):
        return False


def _weights(ensembles: dict[str, TaskEnsemble], members: Sequence[Member]) -> dict[str, Any]:
    names = [member.name for member in members]
    without_weight, unknown = dict.fromkeys(names, 0.0), dict.fromkeys(names)
    return {
        "members": [{"name": m.name, "kind": m.kind, "path": str(m.path)} for m in members],
        "tasks": {
            name: {
                "rows": len(one.data.rows("val", labelled=True)),
                "weights": without_weight | dict(zip(one.predictions, one.ensemble.weights, strict=True)),
                "temperatures": unknown | dict(zip(one.predictions, one.ensemble.temperatures, strict=True)),
            }
            for name, one in ensembles.items()
        },
    }


def _metrics(ensembles: dict[str, TaskEnsemble]) -> dict[str, Any]:
    """Score the ensemble and its members on each split that has answers, in the form of a run's metrics."""

    def figures(name: str, split: str) -> dict[str, Any]:
        one = ensembles[name]
        rows = one.data.rows(split, labelled=True)
        letters = one.data.letters[rows]
        members = {member: scores(p[rows], letters) for member, p in one.predictions.items()}
        return {FUSED: scores(one.fused(rows), letters), "members": members, "n": len(rows)}

    return metrics_by_split({name: one.data for name, one in ensembles.items()}, (FUSED,), figures)


def _table(ensembles: dict[str, TaskEnsemble], weights: dict[str, Any]) -> pd.DataFrame:
    """Tabulate what each member adds: a row per task and member, then the means over tasks.

    ``<split>_ap`` is the member's own, ``<split>_without`` that of the ensemble fitted without it, and
    ``<split>_adds`` the difference to the full ensemble.
    """
    lines = []
    for name, one in ensembles.items():
        for member, weight in weights[name]["weights"].items():
            temperature = weights[name]["temperatures"][member]
            line = {"task": name, "member": member, "weight": weight, "temperature": temperature}
            for split in SPLITS:
                line |= _adds(one, member, split)
            lines.append(line)
        fused = {f"{split}_ap": _ap(one, split, one.fused) for split in SPLITS}
        lines.append({"task": name, "member": FUSED, "weight": 1.0, **fused})
    table = pd.DataFrame(lines)
    figures = [column for column in table.columns if column not in ("task", "member")]
    means = table.groupby("member", sort=False)[figures].mean().reset_index().assign(temperature=np.nan)
    return pd.concat([table, means.assign(task="mean")], ignore_index=True)[table.columns].round(6)


def _adds(one: TaskEnsemble, member: str, split: str) -> dict[str, float]:
    own = without = np.nan
    adds = 0.0
    if member in one.predictions:
        own = _ap(one, split, lambda rows: one.predictions[member][rows])
        if one.without:
            without = _ap(one, split, lambda rows: one.fused(rows, member))
        adds = _ap(one, split, one.fused) - without
    return {f"{split}_ap": own, f"{split}_without": without, f"{split}_adds": adds}


def _ap(one: TaskEnsemble, split: str, predict: Callable[[np.ndarray], np.ndarray]) -> float:
    rows = one.data.rows(split, labelled=True)
    return average_precision(predict(rows), one.data.letters[rows]) if len(rows) else float("nan")
