"""Join finished runs and foreign submission files: weigh them, score them, tell what each one adds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heatcrop.cli.loading import config_of_run, load_dataset
from heatcrop.cli.run_folders import refuse_others
from heatcrop.data.dataset import TaskData
from heatcrop.files import write_json, write_table
from heatcrop.metrics.ensemble import Ensemble, equal_weights, fit_ensemble, join
from heatcrop.metrics.score import score_task
from heatcrop.metrics.submissions import write_submission
from heatcrop.predict.members import (
    FUSED,
    SPLITS,
    Member,
    file_member,
    finished_tasks,
    member_names,
    run_member,
)
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.metrics import report_split
from heatcrop.runs.progress import log, progress

WEIGHTS, MEMBERS = "weights.json", "members.csv"


@dataclasses.dataclass(frozen=True)
class Joined:
    """One task's ensemble.

    Attributes
    ----------
    data : TaskData
    names : list of str
        Its members'.
    how : Ensemble
    said : list of ndarray of float, shape (N, C)
        Of each member.
    without : list of Ensemble or None
        For each member, the ensemble fitted without it; None when it is the only one.
    """

    data: TaskData
    names: list[str]
    how: Ensemble
    said: list[np.ndarray]
    without: list[Ensemble | None]

    def fused(self, rows: np.ndarray) -> np.ndarray:
        return join([p[rows] for p in self.said], self.how)

    def fused_without(self, i: int, rows: np.ndarray) -> np.ndarray | None:
        how = self.without[i]
        rest = [p[rows] for k, p in enumerate(self.said) if k != i]
        return None if how is None else join(rest, how)


def fuse_runs(
    runs: Sequence[Path], files: Sequence[Path], wanted: Sequence[str], out: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Fit the weights of an ensemble on validation and write all that there is to know about it.

    Writes ``submission.csv`` (the test pictures), ``weights.json``, ``members.csv`` (what each member adds)
    and ``metrics.json`` (of the form of a run's) into `out`.

    Parameters
    ----------
    runs : sequence of Path
        Run folders; the first one's data gives pictures, splits and answers.
    files : sequence of Path
        Submission files, which must hold rows of the validation pictures too.
    wanted : sequence of str
        Task names; empty for all that the first run has finished.

    Returns
    -------
    table : DataFrame
        ``members.csv``.
    metrics : dict

    Raises
    ------
    UsageError, RunError, DataError
    """
    names = member_names([*runs, *files])
    refuse_others(out, out / WEIGHTS, "an ensemble's", _is_weights)
    first = RunFolder(runs[0])
    tasks = finished_tasks(first, wanted)
    opened = load_dataset(config_of_run(first), [task.name for task in tasks], first, keep=False)
    members = [
        run_member(name, RunFolder(path), first, opened.tasks)
        for name, path in zip(names[: len(runs)], runs, strict=True)
    ]
    members += [
        file_member(name, path, first, opened.known, opened.tasks)
        for name, path in zip(names[len(runs) :], files, strict=True)
    ]
    joined = {}
    with progress("fit weights", len(opened.tasks)) as bar:
        for name, data in opened.tasks.items():
            joined[name] = _join_task(data, [m for m in members if name in m.said])
            bar(1)
    metrics, table = _metrics(joined), _table(joined, members)
    rows = [
        (one.data.images[i], name, p)
        for name, one in joined.items()
        for i, p in zip(one.data.rows("test"), one.fused(one.data.rows("test")), strict=True)
    ]
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / WEIGHTS, _weights(joined, members))
    write_table(out / MEMBERS, table)
    write_json(RunFolder(out).metrics, metrics)
    write_submission(RunFolder(out).submission, rows)
    return table, metrics


def _join_task(data: TaskData, members: Sequence[Member]) -> Joined:
    name, rows = data.task.name, data.rows("val", labelled=True)
    said = [member.said[name] for member in members]
    if not len(rows):
        log(f"{name}: there is no validation picture; all members count alike")

    def fit(some: Sequence[np.ndarray]) -> Ensemble:
        if not len(rows):
            return equal_weights(len(some))
        return fit_ensemble([p[rows] for p in some], data.letters[rows], data.soft[rows])

    without = [fit(said[:i] + said[i + 1 :]) if len(said) > 1 else None for i in range(len(said))]
    return Joined(data, [member.name for member in members], fit(said), said, without)


def _is_weights(text: str) -> bool:
    """Whether a file of that name is an ensemble's."""
    try:
        return {"members", "tasks"} <= set(json.loads(text))
    except (ValueError, TypeError):
        return False


def _weights(joined: dict[str, Joined], members: Sequence[Member]) -> dict[str, Any]:
    return {
        "members": [{"name": m.name, "kind": m.kind, "path": str(m.path)} for m in members],
        "tasks": {
            name: {
                "rows": len(one.data.rows("val", labelled=True)),
                "weights": {m.name: _of(one, m.name, one.how.weights, 0.0) for m in members},
                "temperatures": {m.name: _of(one, m.name, one.how.temperatures, None) for m in members},
            }
            for name, one in joined.items()
        },
    }


def _of(one: Joined, member: str, values: Sequence[Any], nothing: Any) -> Any:
    return values[one.names.index(member)] if member in one.names else nothing


def _metrics(joined: dict[str, Joined]) -> dict[str, Any]:
    """Scores of the ensemble and its members on each split that has answers, as in a run's metrics."""
    by_split: dict[str, Any] = {}
    for split in SPLITS:
        figures = {}
        for name, one in joined.items():
            rows = one.data.rows(split, labelled=True)
            if len(rows):
                spoke = {member: p[rows] for member, p in zip(one.names, one.said, strict=True)}
                letters = one.data.letters[rows]
                figures[name] = {
                    FUSED: _score(one.fused(rows), letters),
                    "members": {member: _score(p, letters) for member, p in spoke.items()},
                    "n": len(rows),
                }
        if figures:
            keys = ("map", "basic_precision", "accuracy")
            mean = {k: float(np.mean([f[FUSED][k] for f in figures.values()])) for k in keys}
            by_split[split] = {"tasks": figures, "mean": {FUSED: mean}, "split": split}
    split = report_split({name: one.data for name, one in joined.items()})
    nothing = {"tasks": {}, "mean": {FUSED: {"map": None}}, "split": split}
    return {**by_split.get(split, nothing), "splits": {k: v for k, v in by_split.items() if k != split}}


def _score(probabilities: np.ndarray, letters: np.ndarray) -> dict[str, float]:
    score = score_task(probabilities, letters)
    return {"map": score.ap, "basic_precision": score.basic_precision, "accuracy": score.accuracy}


def _table(joined: dict[str, Joined], members: Sequence[Member]) -> pd.DataFrame:
    """What each member adds: a row a task and member, then the means over tasks.

    ``<split>_ap`` is the member's own, ``<split>_without`` that of the ensemble fitted without it, and
    ``<split>_adds`` what the whole ensemble has more than that.
    """
    lines = []
    for name, one in joined.items():
        for member in members:
            line: dict[str, Any] = {"task": name, "member": member.name}
            line["weight"] = _of(one, member.name, one.how.weights, 0.0)
            line["temperature"] = _of(one, member.name, one.how.temperatures, np.nan)
            for split in SPLITS:
                line |= _adds(one, member.name, split)
            lines.append(line)
        lines.append(
            {"task": name, "member": FUSED, "weight": 1.0}
            | {f"{split}_ap": _ap(one, split, one.fused) for split in SPLITS}
        )
    table = pd.DataFrame(lines)
    figures = [column for column in table.columns if column not in ("task", "member")]
    means = table.groupby("member", sort=False)[figures].mean().reset_index().assign(temperature=np.nan)
    return pd.concat([table, means.assign(task="mean")], ignore_index=True)[table.columns].round(6)


def _adds(one: Joined, member: str, split: str) -> dict[str, float]:
    if member not in one.names:
        return {f"{split}_{what}": np.nan for what in ("ap", "without")} | {f"{split}_adds": 0.0}
    i = one.names.index(member)
    without = _ap(one, split, lambda rows: one.fused_without(i, rows))
    return {
        f"{split}_ap": _ap(one, split, lambda rows: one.said[i][rows]),
        f"{split}_without": without,
        f"{split}_adds": _ap(one, split, one.fused) - without,
    }


def _ap(one: Joined, split: str, said: Any) -> float:
    rows = one.data.rows(split, labelled=True)
    found = said(rows) if len(rows) else None
    return float("nan") if found is None else score_task(found, one.data.letters[rows]).ap
