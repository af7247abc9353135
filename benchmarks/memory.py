"""Does memory stay flat, and does time grow no faster than the number of pictures?

    python -m benchmarks.memory                      # 10,000 and 100,000 pictures, about half an hour
    python -m benchmarks.memory --rows 2000 --rows 20000

Each step of the program runs in a process of its own on a table of few and of many rows, which repeat a
smaller set of files under names of their own. The network is a small one, so that what the rows take is not
hidden behind what a network takes. Leaves ``memory.json``, a list of ``{"name", "ratio", "low", "high",
"target", "met"}`` as of the benchmark of speed, and ``memory.md``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from heatcrop.data.images import write_jpeg
from heatcrop.files import write_json, write_text
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.progress import log

CLASSES = ("a", "b", "c")
FILES, TRAIN, VAL = 500, 400, 200
TARGET = 1.15
SETTINGS = (
    "data.source=files",
    "data.tasks=infer",
    "network.backbone=mobilenet0.25",
    "network.weights=none",
    "network.frozen_blocks=0",
    "network.input_px=64",
    "cam.folds=1",
    "cam.training.epochs=1",
    "finetune.training.epochs=1",
    "finetune.cross_fit=false",
    "cam.test.flip=false",
    "finetune.test.flip=false",
)
_PER_FOLDER = 1000


def draw(root: Path, count: int) -> None:
    """Make a folder of that many names for a smaller set of pictures, with a table of labels."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(FILES):
        blocks = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        write_jpeg(root / f"{i}.jpg", blocks.repeat(12, axis=0).repeat(10, axis=1))
    tables = (root / name for name in ("label.csv", "answers.csv"))
    with contextlib.ExitStack() as open_files:
        table, answers = (open_files.enter_context(t.open("w", encoding="utf-8")) for t in tables)
        table.write("image,task,label,split\n")
        for i in range(count):
            name = f"{i // _PER_FOLDER:05d}/picture-{i:08d}.jpg"
            if i % _PER_FOLDER == 0:
                (root / name).parent.mkdir(exist_ok=True)
            os.link(root / f"{i % FILES}.jpg", root / name)
            split = "train" if i < TRAIN else "val" if i < TRAIN + VAL else "test"
            of = i * 7919 % len(CLASSES)
            table.write(f"{name},wing,{CLASSES[of]},{split}\n")
            if split == "test":
                answers.write(f"{name},wing,{''.join('ny'[k == of] for k in range(len(CLASSES)))}\n")


def measured(command: list[str], fine: tuple[int, ...] = (0,)) -> tuple[float, float]:
    """Run a command; its peak memory in MB and its seconds."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    if code not in fine:
        raise RuntimeError(f"{' '.join(command)} ended with code {code}; see its messages above")
    return used.ru_maxrss / 1024, time.perf_counter() - started


def steps(data: Path, run: Path) -> list[tuple[str, list[str], tuple[int, ...]]]:
    """Name, command and exit codes of each step; ``check`` finds the repeated files, and says so with 1."""
    how = ["--data", str(data), "--out", str(run), *(x for s in SETTINGS for x in ("--set", s))]
    door, folder = "pipeline.py", RunFolder(run)
    return [
        ("check", [door, "check", *how], (0, 1)),
        ("stage 1", [door, "stage", "cam", "--task", "wing", *how], (0,)),
        ("stage 2", [door, "stage", "crop", "--task", "wing", *how], (0,)),
        ("stage 3", [door, "stage", "finetune", "--task", "wing", *how], (0,)),
        ("metrics, submission and report", [door, "run", "--all", *how], (0,)),
        (
            "score",
            [
                door,
                "score",
                str(folder.submission),
                str(data / "answers.csv"),
                "--config",
                str(folder.config),
            ],
            (0,),
        ),
        ("report", [door, "report", "--run", str(run)], (0,)),
        (
            "predict",
            [
                door,
                "predict",
                str(data),
                "--run",
                str(run),
                "--out",
                str(run / "predicted.csv"),
                "--no-gallery",
            ],
            (0,),
        ),
    ]


def main(
    rows: Annotated[list[int] | None, typer.Option(min=1000, help="Two numbers of pictures.")] = None,
    out: Annotated[Path, typer.Option(help="Folder; what is drawn there is removed again.")] = Path(
        "runs/memory"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """Measure peak memory and time against the number of pictures."""
    few, many = sorted(rows or (10_000, 100_000))
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for count in (few, many):
        data, run = out / f"data{count}", out / f"run{count}"
        for folder in (data, run):
            shutil.rmtree(folder, ignore_errors=True)
        draw(data, count)
        for name, command, fine in steps(data, run):
            found.setdefault(name, {})[count] = measured(command, fine)
            log(f"{count} pictures, {name}: {found[name][count][0]:.0f} MB, {found[name][count][1]:.1f} s")
        shutil.rmtree(data)
    told: list[dict[str, Any]] = []
    for name, by_count in found.items():
        (little, quick), (much, slow) = by_count[few], by_count[many]
        ratio = much / little
        told.append(
            {
                "name": f"peak memory of {name}, {many:,} pictures / {few:,}",
                "ratio": ratio,
                "low": ratio,
                "high": ratio,
                "target": TARGET,
                "met": ratio <= TARGET,
                "megabytes": [little, much],
                "seconds": [quick, slow],
                "exponent": math.log(slow / quick) / math.log(many / few),
            }
        )
    write_json(out / "memory.json", told)
    write_text(out / "memory.md", _markdown(told, few, many))
    print(json.dumps(told, indent=2) if as_json else (out / "memory.md").read_text(encoding="utf-8"))


def _markdown(told: list[dict[str, Any]], few: int, many: int) -> str:
    lines = [f"# Memory and time, {many:,} pictures against {few:,}", ""]
    lines += ["| step | peak memory, MB | ratio | target | met | seconds | exponent of time |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for one in told:
        name = one["name"].removeprefix("peak memory of ").removesuffix(f", {many:,} pictures / {few:,}")
        memory, seconds = (" to ".join(f"{v:.0f}" for v in one[key]) for key in ("megabytes", "seconds"))
        lines.append(
            f"| {name} | {memory} | {one['ratio']:.2f} | {one['target']} | {'yes' if one['met'] else 'NO'} "
            f"| {seconds} | {one['exponent']:.2f} |"
        )
    told_how = "Seconds include starting the program and what does not grow: importing, training, one search."
    return "\n".join([*lines, "", told_how, ""])


if __name__ == "__main__":
    typer.run(main)
