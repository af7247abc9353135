"""Measure PyTorch's engine on a GPU: images a second, memory, and an epoch of FashionAI's size.

    python -m benchmarks.gpu --out gpu.json

Each row is one network, input and precision: the program's update from batches in memory; the same modules
and optimiser on tensors that are on the card already; memory; inference; and the complete training loop from
JPEG files with augmentation.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import typer

from benchmarks.ours import N_CLASSES, labelled_in_turn
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.nets.classifier import Classifier, NetworkContext, NetworkPlan
from heatcrop.nets.maps import MapPlan
from heatcrop.training.augment import Augmentation
from heatcrop.training.batches import Images, normalise
from heatcrop.training.fit import fit
from heatcrop.training.inputs import LiveInputs
from heatcrop.training.loop import TrainingPlan
from heatcrop.training.views import TestViews

FASHIONAI_IMAGES = 79_573
"""Labelled images of the competition's first season."""
_SECONDS = 3.0
_AUGMENTED = Augmentation(crop_scale=0.76, aspect=1.333, brightness=0.2, erase=0.5)


@dataclasses.dataclass(frozen=True)
class Row:
    """What is measured: a network, the side of its input, and images of one update."""

    backbone: str
    side_px: int
    batch: int


ROWS = (
    Row("efficientnet_lite0", 288, 64),
    Row("resnet18_v2", 224, 256),
    Row("resnet50_v2", 448, 64),
    Row("resnet152_v2", 448, 32),
    Row("resnet152_v2", 448, 64),
)


def _rate(work: Callable[[], Any], images: int) -> float:
    """Return images a second of some work, repeated for a few seconds after two calls that are not timed."""
    for _ in range(2):
        work()
    torch.cuda.synchronize()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < _SECONDS:
        work()
        done += images
    torch.cuda.synchronize()
    return done / (time.perf_counter() - began)


def _context(row: Row, amp: bool, threads: int) -> NetworkContext:
    plan = NetworkPlan(row.backbone, "none")
    form = InputForm(row.side_px, "pad", backbone(row.backbone), threads)
    return NetworkContext(
        plan, form, Path(tempfile.mkdtemp()), trainer="torch", device="gpu", amp=amp, engine="auto"
    )


def _bare(net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, amp: bool) -> Callable[[], None]:
    """Train the same modules on tensors of the card."""
    optimizer = torch.optim.Adam(net.parameters(), 1e-5)
    x = x.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        net.train()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=amp):
            loss = F.cross_entropy(net(x).float(), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def measure(row: Row, amp: bool, threads: int, files: list[str]) -> dict[str, Any]:
    """Measure one row in one precision."""
    context = _context(row, amp, threads)
    classifier: Any = context.classifier(context.image_shape, N_CLASSES)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, row.batch, row.side_px, row.side_px, 3), np.uint8)
    batches = [normalise(one, context.form.backbone) for one in pixels]
    y = np.eye(N_CLASSES, dtype=np.float32)[np.arange(row.batch) % N_CLASSES]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    updater, number = classifier.updater(TrainingPlan().optimiser, context.devices), iter(range(10**9))
    found: dict[str, Any] = {**dataclasses.asdict(row), "precision": "bfloat16" if amp else "TF32"}
    found["updates"] = _rate(lambda: updater.update(batches[next(number) % 4], y, 1e-5), row.batch)
    found["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    on_card = [torch.from_numpy(array).cuda() for array in (batches[0], y)]
    found["bare"] = _rate(_bare(classifier.net, on_card[0], on_card[1], amp), row.batch)
    updater.close()
    on_card.clear()
    runner, parts = classifier.runner(context.devices, MapPlan()), np.array_split(batches[0], row.batch // 32)
    with ThreadPoolExecutor(min(4, threads)) as pool:
        found["inference"] = _rate(lambda: list(pool.map(runner, parts * 8)), row.batch * 8)
    classifier.net.cpu()
    if files:
        found["from_files"], found["reading"] = _from_files(context, classifier, row, files)
        found["epoch_minutes"] = FASHIONAI_IMAGES / found["from_files"] / 60
    return found


def _from_files(
    context: NetworkContext, classifier: Classifier, row: Row, files: list[str]
) -> tuple[float, float]:
    """Return images a second of the training loop from files, and of reading alone."""
    data = labelled_in_turn(files, context.form.threads)
    inputs = LiveInputs(Images(data.paths), context.form, TestViews(), lambda i: _AUGMENTED)
    plan = TrainingPlan(epochs=1, batch_size=row.batch, learning_rate=1e-5, reload_best=False)
    none = np.array([], np.int64)

    def read(rows: np.ndarray) -> None:
        for _ in inputs.training(1, rows, row.batch):
            pass

    def train(rows: np.ndarray) -> None:
        name, devices = "speed", context.devices
        fit(classifier, inputs, data.soft, data.letters, rows, none, plan, 0, name, devices=devices)

    return _steady_rate(train, len(data)), _steady_rate(read, len(data))


def _steady_rate(work: Callable[[np.ndarray], None], count: int) -> float:
    """Return images a second, without the time until the first batch has been read."""
    seconds = []
    for rows in (np.arange(count), np.tile(np.arange(count), 3)):
        began = time.perf_counter()
        work(rows)
        seconds.append(time.perf_counter() - began)
    return 2 * count / (seconds[1] - seconds[0])


def draw_files(folder: Path, count: int, side_px: int = 512) -> list[str]:
    """Write JPEG files of smooth noise, which take as long to decode as photographs of that size."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for i in range(count):
        rng = np.random.default_rng(i)
        image = sum(
            cv2.resize(rng.normal(0, 40, (n, n, 3)).astype(np.float32), (side_px, side_px)) * 4 / n**0.5
            for n in (4, 16, 64, 256)
        )
        files.append(str(folder / f"{i:05d}.jpg"))
        cv2.imwrite(files[-1], np.clip(image + 128, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return files


def table(rows: list[dict[str, Any]]) -> str:
    """Write Markdown."""
    columns = {
        "updates": "updates from memory, images/s",
        "bare": "bare PyTorch",
        "memory_gb": "memory, GB",
        "inference": "inference, images/s",
        "reading": "reading files",
        "from_files": "training from files, images/s",
        "epoch_minutes": "FashionAI epoch, minutes",
    }
    lines = ["| network | input | batch | precision |" + "".join(f" {title} |" for title in columns.values())]
    lines.append("|---|---|---|---|" + "---|" * len(columns))
    for row in rows:
        cells = (
            f"{row[name]:.3g}" if row[name] < 100 else f"{row[name]:.0f}" for name in columns if name in row
        )
        head = f"| {row['backbone']} | {row['side_px']} px | {row['batch']} | {row['precision']} | "
        lines.append(head + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    out: Annotated[Path, typer.Option(help="JSON file of the results.")] = Path("gpu.json"),
    files: Annotated[int, typer.Option(help="JPEG files to train from; 0 for none.")] = 1024,
    threads: Annotated[int, typer.Option(help="Threads that read images.")] = 16,
    only: Annotated[str, typer.Option(help="Networks to measure, separated by commas; all by default.")] = "",
) -> None:
    """Measure all rows in both precisions; print a table."""
    found: list[dict[str, Any]] = []
    card = torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_files(Path(folder), files)
        for row in (row for row in ROWS if not only or row.backbone in only.split(",")):
            for amp in (False, True):
                found.append(measure(row, amp, threads, drawn))
                print(json.dumps(found[-1]), flush=True)
                out.write_text(
                    json.dumps({"card": card, "torch": torch.__version__, "rows": found}, indent=1)
                )
    print(f"{card}, PyTorch {torch.__version__}\n\n{table(found)}")


if __name__ == "__main__":
    typer.run(main)
