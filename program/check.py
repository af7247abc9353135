"""Tell what the data and the machine are, before hours are spent."""

from __future__ import annotations

import os
import platform
import shutil

import numpy as np
import onnxruntime
import pandas as pd
from rich.table import Table

from attributes.dataset import TaskData
from attributes.labels import format_letters
from attributes.splits import leakage
from learning.engine import EngineError, gpu_count, mxnet
from program.config import Config
from program.data import open_data
from runfolder.progress import console, say


def machine_lines(config: Config) -> list[str]:
    """Describe Python, engine, device and disk."""
    lines = [f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores"]
    try:
        mx = mxnet()
        gpus = gpu_count()
        lines.append(f"MXNet {mx.__version__}, " + (f"{gpus} GPU" if gpus else "no GPU: training on the CPU"))
    except EngineError as error:
        lines.append(f"MXNet: {error}")
    lines.append(
        f"ONNX Runtime {onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}"
    )
    free = shutil.disk_usage(".").free
    lines.append(f"free disk space {free / 1e9:.1f} GB; backbone {config.network.backbone}, "
                 f"input {config.network.input_px} px")  # fmt: skip
    return lines


def check(config: Config, wanted: list[str]) -> int:
    """Print tables on data and machine; return the number of problems found."""
    for line in machine_lines(config):
        say(line)
    opened = open_data(config, wanted, None, strict=False)
    counts = Table(title="pictures", title_justify="left")
    for name in ("task", "train", "val", "test", "classes", "smallest class", "sides (px)"):
        counts.add_column(name, justify="left" if name == "task" else "right")
    problems = 0
    for name, data in opened.tasks.items():
        train = data.rows("train", labelled=True)
        per_class = np.bincount(data.letters[train].argmax(axis=1), minlength=len(data.task.classes))
        smallest = int(per_class.argmin())
        empty = int((per_class == 0).sum())
        low, high = int(data.sizes.min()), int(data.sizes.max())
        counts.add_row(
            name, *(str(len(data.rows(s))) for s in ("train", "val", "test")),
            f"{len(per_class) - empty} of {len(per_class)}",
            f"{data.task.classes[smallest]}: {per_class[smallest]}", f"{low}-{high}",
        )  # fmt: skip
        leaks = leakage(_rows(data))
        for kind, text in (("split", "byte-identical in two splits"), ("label", "under two labels")):
            found = leaks[leaks["kind"] == kind]
            if len(found):
                problems += 1
                first = found.iloc[0]
                pair = f"{first['image']} and {first['same_as']}"
                say(f"{name}: {len(found)} pictures {text}, for instance {pair}")
    console.print(counts)
    for note in (*opened.notes, *opened.faults):
        say(note)
    problems += len(opened.faults)
    for row in opened.rejected.head(5).itertuples():
        problems += 1
        say(f"rejected {row.source}: {row.reason}")
    if len(opened.rejected) > 5:
        say(f"... and {len(opened.rejected) - 5} more")
    return problems


def _rows(data: TaskData) -> pd.DataFrame:
    labels = [format_letters(r) if (r == 2).any() else "" for r in data.letters]
    return pd.DataFrame({"image": data.images, "path": data.paths, "task": data.task.name, "label": labels,
                         "split": data.splits, "group": data.groups})  # fmt: skip
