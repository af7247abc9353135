"""Measure peak memory and time against the number of images.

    python -m benchmarks.memory                      # 10,000 and 100,000 images, about half an hour
    python -m benchmarks.memory --rows 2000 --rows 20000

Each step of the program runs in its own process on a table of few and of many rows, which name a smaller set
of files repeatedly. The network is small, so that its memory does not hide that of the rows. Two targets: the
ratio of the peaks, and the memory of each additional row. Writes ``memory.md`` and ``memory.json``, a list of
``{"name", "ratio", "low", "high", "target", "row_kb", "row_target_kb", "met"}``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.commands import pipeline
from heatcrop.data.images import write_jpeg
from heatcrop.files import write_json, write_text
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.progress import log

CLASSES = ("a", "b", "c")
FILES, TRAIN, VAL = 500, 400, 200
TARGET, ROW_TARGET_KB = 1.5, 4.0
"""Greatest ratio of peak memory at many and at few rows, and kB (1000 bytes) of an additional row."""
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
    """Write `count` names for a smaller set of image files, and tables of labels and answers."""
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
            name = f"{i // _PER_FOLDER:05d}/image-{i:08d}.jpg"
            if i % _PER_FOLDER == 0:
                (root / name).parent.mkdir(exist_ok=True)
            os.link(root / f"{i % FILES}.jpg", root / name)
            split = "train" if i < TRAIN else "val" if i < TRAIN + VAL else "test"
            label = i * 7919 % len(CLASSES)
            table.write(f"{name},wing,{CLASSES[label]},{split}\n")
            if split == "test":
                answers.write(f"{name},wing,{''.join('ny'[k == label] for k in range(len(CLASSES)))}\n")


def measure(command: list[str], codes: tuple[int, ...]) -> tuple[float, float]:
    """Run a command that ends with one of `codes`; return its peak memory in MB and its seconds."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    if code not in codes:
        raise RuntimeError(f"{' '.join(command)} ended with code {code}; see its messages above")
    return usage.ru_maxrss * 1024 / 1e6, time.perf_counter() - started


def steps(data: Path, run: Path) -> list[tuple[str, list[str], tuple[int, ...]]]:
    """Return name, command and exit codes of each step; ``check`` reports the repeated files with code 1."""
    folder = RunFolder(run)

    def command(*words: object) -> list[str]:
        return pipeline(*words, "--data", data, "--out", run, settings=SETTINGS)

    score = ("score", folder.submission, data / "answers.csv", "--config", folder.config)
    predict = ("predict", data, "--run", run, "--out", run / "predicted.csv", "--no-gallery")
    return [
        ("check", command("check"), (0, 1)),
        ("stage 1", command("stage", "cam", "--task", "wing"), (0,)),
        ("stage 2", command("stage", "crop", "--task", "wing"), (0,)),
        ("stage 3", command("stage", "finetune", "--task", "wing"), (0,)),
        ("metrics, submission and report", command("run", "--all"), (0,)),
        ("score", pipeline(*score), (0,)),
        ("report", pipeline("report", "--run", run), (0,)),
        ("predict", pipeline(*predict), (0,)),
        ("predict with MXNet", pipeline(*predict, "--engine", "mxnet"), (0,)),
    ]


def growth(name: str, by_count: dict[int, tuple[float, float]]) -> dict[str, Any]:
    """Compare the memory and time of a step on few and on many rows with the targets.

    Parameters
    ----------
    name : str
    by_count : dict of int to (MB, seconds)
        By number of rows.
    """
    (few, (less_memory, less_time)), (many, (more_memory, more_time)) = sorted(by_count.items())
    ratio = more_memory / less_memory
    row_kb = (more_memory - less_memory) * 1000 / (many - few)
    return {
        "name": f"peak memory of {name}, {many:,} images / {few:,}",
        "ratio": ratio,
        "low": ratio,
        "high": ratio,
        "target": TARGET,
        "row_kb": row_kb,
        "row_target_kb": ROW_TARGET_KB,
        "met": ratio <= TARGET and row_kb <= ROW_TARGET_KB,
        "megabytes": [less_memory, more_memory],
        "seconds": [less_time, more_time],
        "exponent": math.log(more_time / less_time) / math.log(many / few),
    }


def main(
    rows: Annotated[list[int] | None, typer.Option(min=1000, help="Two numbers of images.")] = None,
    out: Annotated[Path, typer.Option(help="Folder; images drawn there are removed.")] = Path("runs/memory"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """Measure peak memory and time against the number of images."""
    few, many = sorted(rows or (10_000, 100_000))
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for count in (few, many):
        data, run = out / f"data{count}", out / f"run{count}"
        for folder in (data, run):
            shutil.rmtree(folder, ignore_errors=True)
        draw(data, count)
        for name, command, codes in steps(data, run):
            found.setdefault(name, {})[count] = measure(command, codes)
            log(f"{count} images, {name}: {found[name][count][0]:.0f} MB, {found[name][count][1]:.1f} s")
        shutil.rmtree(data)
    results = [growth(name, by_count) for name, by_count in found.items()]
    write_json(out / "memory.json", results)
    write_text(out / "memory.md", _markdown(results, few, many))
    print(json.dumps(results, indent=2) if as_json else (out / "memory.md").read_text(encoding="utf-8"))


def _markdown(results: list[dict[str, Any]], few: int, many: int) -> str:
    lines = [f"# Memory and time, {many:,} images against {few:,}", ""]
    lines += [f"Targets: a ratio of {TARGET} and {ROW_TARGET_KB:g} kB for each additional image.", ""]
    lines += ["| step | peak memory, MB | ratio | kB a row | met | seconds | exponent of time |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for result in results:
        name = result["name"].removeprefix("peak memory of ").removesuffix(f", {many:,} images / {few:,}")
        memory, seconds = (" to ".join(f"{v:.0f}" for v in result[key]) for key in ("megabytes", "seconds"))
        lines.append(
            f"| {name} | {memory} | {result['ratio']:.2f} | {result['row_kb']:.2f} "
            f"| {'yes' if result['met'] else 'NO'} | {seconds} | {result['exponent']:.2f} |"
        )
    note = "Seconds include what does not grow: starting the program, imports, training and one search."
    return "\n".join([*lines, "", note, ""])


if __name__ == "__main__":
    typer.run(main)
