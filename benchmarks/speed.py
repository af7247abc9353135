"""Compare speed with the bare work of the hardware and with peers.

    python -m benchmarks.speed                                  # ratios to the bare work
    python -m benchmarks.speed --peers .venv-bench/bin/python   # and to PyTorch, timm, pytorch-grad-cam
    python -m benchmarks.speed --torch .venv-torch/bin/python   # and the program's PyTorch engine
    python -m benchmarks.speed --complete                       # and complete runs, which take hours

Every contender is a process of its own with the same number of threads. They work in turns; a result is the
median over rounds of the ratio within a round, with the least and the greatest. Writes ``speed.md`` and
``speed.json``, a list of ``{"name", "ratio", "low", "high", "target", "met", "limit"}``; where a target is
missed and ours is as fast as the bare work, ``limit`` is our share of its speed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.commands import pipeline
from benchmarks.contenders import Entry, Ratio, compare
from benchmarks.full_runs import full_runs
from heatcrop.cli.config_file import read_config
from heatcrop.cli.loading import load_dataset
from heatcrop.files import write_json, write_text
from heatcrop.runs.progress import log

LITE, R18, R50, R152 = "efficientnet_lite0", "resnet18_v2", "resnet50_v2", "resnet152_v2"
PX = 224
AT_LIMIT = 0.95
"""Share of the bare work's speed that counts as the limit of what a program can reach."""


@dataclasses.dataclass(frozen=True)
class Match:
    """One line of the table.

    Attributes
    ----------
    name : str
    ours : Entry
    theirs : tuple of Entry
        Of several, the fastest counts.
    target : float
        Least ratio of images a second, ours over theirs.
    bare : str
        Name of our comparison with the bare work alone, where there is one: nothing is left to gain where
        its ratio is at least :data:`AT_LIMIT`.
    """

    name: str
    ours: Entry
    theirs: tuple[Entry, ...]
    target: float
    bare: str = ""


def matches(
    files: list[str], run: Path, scratch: Path, threads: int, peers: str | None, torch: str | None
) -> Iterator[Match]:
    """List the comparisons, each with its target."""

    def ours(name: str, python: str = sys.executable, **options: Any) -> Entry:
        return Entry(python, "benchmarks.ours", name, options)

    def peer(name: str, **options: Any) -> Entry:
        return Entry(str(peers), "benchmarks.peers", name, {"px": PX, "threads": threads, **options})

    common = {"px": PX, "threads": threads}
    for net, count, against_mxnet, against_torch in (
        (LITE, 128, 5.0, 1.4),
        (R50, 64, 1.8, 1.2),
        (R152, 32, 1.8, None),
    ):
        engine = ours("forward", net=net, images=count, **common)
        name = f"engine, {net}"
        plain = ours("mxnet_forward", net=net, images=count, **common)
        yield Match(f"{name} / MXNet hybridized", engine, (plain,), against_mxnet)
        if peers and against_torch:
            plain_torch = tuple(peer("forward", net=net, images=count, compiled=c) for c in (False, True))
            yield Match(f"{name} / PyTorch", engine, plain_torch, against_torch)
    for net, count, against_cam in ((LITE, 256, 4.0), (R50, 96, 3.0)):
        bare = ours("forward", net=net, images=count, views=2, **common)
        two_views = ours("heatmaps", net=net, files=files[:count], flip=True, **common)
        against_bare = f"heatmaps from files, {net} / bare forward passes"
        yield Match(against_bare, two_views, (bare,), 0.85)
        if peers:
            one_view = ours("heatmaps", net=net, files=files[:count], flip=False, **common)
            cam = peer("gradcam", net=net, files=files[:count], folder=str(scratch))
            name = f"heatmaps from files, {net} / pytorch-grad-cam"
            yield Match(name, one_view, (cam,), against_cam, against_bare)
    for net, count in ((LITE, 96), (R50, 48)):
        step = {"net": net, "files": files[:count], "batch": 16, **common}
        name = f"training from files, {net} / bare step"
        yield Match(name, ours("training", **step), (ours("training_step", **step),), 0.92)
    for net in (LITE, R18) if torch else ():
        step = {"net": net, "files": files[:64], "batch": 16, **common}
        own = ours("training_step", python=str(torch), trainer="torch", **step)
        name = f"training step of the PyTorch engine, {net}"
        yield Match(f"{name} / of the MXNet engine", own, (ours("training_step", **step),), 1.6)
        if peers:
            plain_step = peer("training_step", net=net, files=files[:64], batch=16)
            yield Match(f"{name} / PyTorch and timm", own, (plain_step,), 0.95)
    name, stage2 = "stage 2 / OpenCV decode and encode", {"files": files, "threads": threads}
    yield Match(name, ours("crops", **stage2), (ours("opencv_crops", **stage2),), 0.85)
    bare = ours("forward", net=LITE, images=256, views=2, passes=2, **common)
    full = ours("predict", run=str(run), files=files[:256])
    yield Match("predict / two bare forward passes", full, (bare,), 0.75)


def _small_run(run: Path, per_class: int) -> None:
    """Make a finished run for the speed of predict; its quality does not matter."""
    settings = (
        f"data.rendered.per_class={per_class}",
        f"network.input_px={PX}",
        "cam.training.epochs=1",
        "finetune.training.epochs=1",
    )
    subprocess.run(pipeline("run", "--task", "collar", "--out", run, settings=settings), check=True)


def result(
    name: str, target: float | None, ratio: Ratio, less_is_better: bool = False, of_bare: float = 0.0
) -> dict[str, Any]:
    """Make an entry of ``speed.json``; `of_bare` is our speed over that of the bare work, where known."""
    met = None
    if target is not None:
        met = ratio.value <= target if less_is_better else ratio.value >= target
    return {
        "name": name,
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "target": target,
        "met": met,
        "limit": of_bare if met is False and of_bare >= AT_LIMIT else None,
        "ours": ratio.ours,
        "theirs": ratio.theirs,
    }


def markdown(results: list[dict[str, Any]], rounds: int, threads: int) -> str:
    """Make the table."""
    lines = [f"# Speed: {threads} threads, medians of {rounds} rounds", ""]
    lines += ["| work / against | ratio | least to greatest | target | met | ours | theirs |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for one in results:
        target = "" if one["target"] is None else f"{one['target']:g}"
        met = {None: "", True: "yes", False: "NO"}[one["met"]]
        if one["limit"] is not None:
            met = f"at the limit: {one['limit']:.2f} of the bare work"
        lines.append(
            f"| {one['name']} | {one['ratio']:.3g} | {one['low']:.3g} to {one['high']:.3g} "
            f"| {target} | {met} | {one['ours']:.4g} | {one['theirs']:.4g} |"
        )
    return "\n".join([*lines, "", "Ours and theirs are images a second, or seconds for complete runs.", ""])


def main(
    peers: Annotated[Path | None, typer.Option(help="Python with requirements/bench.txt.")] = None,
    torch: Annotated[Path | None, typer.Option(help="Python of an installation with TRAINER=torch.")] = None,
    photos: Annotated[Path | None, typer.Option(help="Labelled photographs for the time to a score.")] = None,
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("runs/speed"),
    rounds: Annotated[int, typer.Option(min=3, help="Repetitions of each.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every contender.")] = os.cpu_count() or 1,
    only: Annotated[str, typer.Option(help="Only comparisons whose name contains this.")] = "",
    per_class: Annotated[int, typer.Option(min=4, help="Rendered images of each class.")] = 12,
    complete: Annotated[bool, typer.Option("--complete", help="Complete runs too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """Measure speed side by side."""
    out.mkdir(parents=True, exist_ok=True)
    config = read_config(Path("configs/demo.yaml"), [f"data.rendered.per_class={per_class}"])
    tasks = load_dataset(config, [], None).tasks
    files = sorted(path for data in tasks.values() for path in data.paths)
    _small_run(out / "run", per_class)
    results: list[dict[str, Any]] = []
    others = (None if python is None else str(python) for python in (peers, torch))
    for match in matches(files, out / "run", out, threads, *others):
        if only in match.name:
            bare = next((r["ratio"] for r in results if r["name"] == match.bare), 0.0)
            ratio = compare(match.ours, match.theirs, rounds)
            results.append(result(match.name, match.target, ratio, of_bare=bare))
            log(f"{match.name}: {results[-1]['ratio']:.3g}")
    if complete:
        for name, target, measure in full_runs(out, photos, None if peers is None else str(peers)):
            if only in name:
                results.append(result(name, target, measure(), less_is_better=True))
                log(f"{name}: {results[-1]['ratio']:.3g}")
    write_json(out / "speed.json", results)
    write_text(out / "speed.md", markdown(results, rounds, threads))
    print(json.dumps(results, indent=2) if as_json else (out / "speed.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
