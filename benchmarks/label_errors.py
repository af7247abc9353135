"""Flip some training labels, and measure whether suspects.csv finds them and training without helps.

    python -m benchmarks.label_errors --data data/rendered/60+15-seed0 --task neck --task collar

The data has FashionAI's layout. Three runs: with the flipped labels; without the first of each list of
doubtful labels, as many as were flipped; and, as a control, without as many random images. Test labels stay
right. Writes ``label_errors.json``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from benchmarks.commands import pipeline
from heatcrop.cli.loading import config_of_run, load_dataset
from heatcrop.data.dataset import TaskData
from heatcrop.files import write_json, write_table
from heatcrop.metrics.bootstrap import bootstrap, interval
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_branches

FLIPPED, CLEANED, RANDOM = "flipped", "without the first of suspects.csv", "without random images"


def flip_labels(source: Path, folder: Path, share: float, seed: int) -> set[str]:
    """Write the data set with a share of each task's training labels moved to another class.

    Images are linked. Returns the names of the images whose label was moved.
    """
    annotations = folder / "base" / "Annotations"
    annotations.mkdir(parents=True, exist_ok=True)
    for place in (Path("base/Images"), Path("rank"), Path("boxes_true.csv")):
        if not (folder / place).exists():
            (folder / place).symlink_to((source / place).resolve())
    names = ["image", "task", "letters"]
    table = pd.read_csv(source / "base" / "Annotations" / "label.csv", header=None, names=names)
    rng, moved = np.random.default_rng(seed), set()
    for _, rows in table.groupby("task"):
        for row in rng.choice(rows.index.to_numpy(), round(share * len(rows)), replace=False).tolist():
            letters = str(table.loc[row, "letters"])
            others = [i for i, letter in enumerate(letters) if letter != "y"]
            place = int(rng.choice(others))
            table.loc[row, "letters"] = "".join("y" if i == place else "n" for i in range(len(letters)))
            moved.add(str(table.loc[row, "image"]))
    table.to_csv(annotations / "label.csv", header=False, index=False)
    return moved


def found_share(suspects: pd.DataFrame, moved: set[str], first: float) -> float:
    """Return the share of the moved labels of a list that are in its first part."""
    wrong = suspects["image"].isin(moved).to_numpy()
    return float(wrong[: round(first * len(wrong))].sum() / max(1, wrong.sum()))


def main(
    data: Annotated[Path, typer.Option(help="Folder with base/, rank/ and answers.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/label-errors"),
    config: Annotated[Path, typer.Option(help="Configuration.")] = Path("configs/demo.yaml"),
    task: Annotated[list[str] | None, typer.Option(help="Tasks, by short name; all by default.")] = None,
    share: Annotated[float, typer.Option(help="Labels to flip, and images to leave out.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the flips and of the run.")] = 0,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap.")] = 1000,
) -> None:
    """Run all three, and write what the lists find and what the runs score."""
    moved = flip_labels(data, out / "data", share, seed)

    def run(name: str, *settings: str) -> RunFolder:
        given = ["data.source=files", "data.follow_links=true", f"seed={seed}", *settings]
        words = [word for one in task or () for word in ("--task", one)] or ["--all"]
        words += ["--config", str(config), "--data", str(out / "data"), "--out", str(out / name)]
        subprocess.run(pipeline("run", *words, settings=given), check=True)
        return RunFolder(out / name)

    runs = {FLIPPED: run("flipped")}
    tasks = _tasks(runs[FLIPPED], task)
    lists = {name: pd.read_csv(runs[FLIPPED].task(name).suspects) for name in tasks}
    rng = np.random.default_rng(seed)
    for name, file, order in (
        (CLEANED, "suspects", lambda n: np.arange(n)),
        (RANDOM, "random", lambda n: rng.permutation(n)),
    ):
        chosen = [table.iloc[order(len(table))[: round(share * len(table))]] for table in lists.values()]
        path = out / f"{file}.csv"
        write_table(path, pd.concat(chosen)[["image", "task"]])
        runs[name] = run(file, f"data.excluded=[{path}]")
    found = {"share": share, "seed": seed, **_scores(runs, tasks, task, resamples)}
    found["found in the first tenth"] = {name: found_share(lists[name], moved, 0.1) for name in lists}
    write_json(out / "label_errors.json", found)
    print(pd.Series(found["found in the first tenth"]).round(3).to_string())
    print(pd.DataFrame(found["map"]).round(3).to_string())
    print(found["less flipped"])


def _tasks(run: RunFolder, wanted: list[str] | None) -> dict[str, TaskData]:
    return load_dataset(config_of_run(run), wanted or [], run, keep=False).tasks


def _scores(
    runs: dict[str, RunFolder], tasks: dict[str, TaskData], wanted: list[str] | None, resamples: int
) -> dict[str, Any]:
    """Score the fused predictions of all runs on the test images."""
    rows = {name: data.rows("test", labelled=True) for name, data in tasks.items()}
    letters = {name: data.letters[rows[name]] for name, data in tasks.items()}
    arms: dict[str, dict[str, list[np.ndarray]]] = {arm: {} for arm in runs}
    for arm, folder in runs.items():
        loaded = _tasks(folder, wanted)
        for name, data in tasks.items():
            places = {image: row for row, image in enumerate(loaded[name].images)}
            own = [places[data.images[row]] for row in rows[name]]
            arms[arm][name] = [read_branches(folder.task(name), loaded[name])["fused"][own]]
    scored = bootstrap(arms, letters, resamples)
    return {
        "map": {arm: {name: float(of[0, 0]) for name, of in scored[arm].items()} for arm in arms},
        "less flipped": {
            arm: interval(scored[arm]["mean"][:, 0] - scored[FLIPPED]["mean"][:, 0])
            for arm in (CLEANED, RANDOM)
        },
    }


if __name__ == "__main__":
    typer.run(main)
