"""Contenders of the speed benchmark: PyTorch, timm and pytorch-grad-cam.

They run in the environment of ``requirements/bench.txt`` and import nothing of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import timm
import torch

from benchmarks.contenders import Workload, serve

# The program's names of networks -> timm's names of the same architectures.
NETS = {
    "efficientnet_lite0": "efficientnet_lite0",
    "resnet18_v2": "resnetv2_18",
    "resnet50_v2": "resnetv2_50",
    "resnet152_v2": "resnetv2_152",
}
N_CLASSES = 8
_PART = 32


def _net(net: str, threads: int) -> Any:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = timm.create_model(NETS[net], pretrained=False, num_classes=N_CLASSES)
    return model.to(memory_format=torch.channels_last).eval()


def forward(net: str, px: int, threads: int, images: int, compiled: bool) -> Workload:
    """Run a batch in memory, channels last, optionally compiled."""
    model = _net(net, threads)
    x = torch.randn(images, 3, px, px).to(memory_format=torch.channels_last)
    run = torch.compile(model) if compiled else model

    def work() -> int:
        with torch.inference_mode():
            for start in range(0, images, _PART):
                run(x[start : start + _PART])
        return images

    return work


def _read(path: str, px: int) -> np.ndarray:
    image = cv2.imread(path)
    assert image is not None
    scaled = cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(scaled[:, :, ::-1].transpose(2, 0, 1)).astype(np.float32) / 127.5 - 1


def _batches(files: list[str], px: int, threads: int) -> Iterator[torch.Tensor]:
    """Read batches ahead on threads."""
    with ThreadPoolExecutor(threads) as pool:
        parts = [files[i : i + _PART] for i in range(0, len(files), _PART)]
        ready = [pool.submit(_read, path, px) for path in parts[0]]
        for later in [*parts[1:], []]:
            pending, ready = ready, [pool.submit(_read, path, px) for path in later]
            yield torch.from_numpy(np.stack([future.result() for future in pending]))


def gradcam(net: str, px: int, threads: int, files: list[str], folder: str) -> Workload:
    """Run GradCAM of the predicted class from JPEG files to maps and predictions on disk."""
    from pytorch_grad_cam import GradCAM

    cv2.setNumThreads(1)
    model = _net(net, threads)
    layer = model.conv_head if net == "efficientnet_lite0" else model.stages[-1]
    cam = GradCAM(model=model, target_layers=[layer])

    def work() -> int:
        maps, scores = [], []
        for x in _batches(files, px, threads):
            maps.append(cam(x.to(memory_format=torch.channels_last), targets=None))
            scores.append(cam.outputs.detach().softmax(dim=1).numpy())
        np.save(f"{folder}/maps.npy", np.concatenate(maps))
        np.savetxt(f"{folder}/predictions.csv", np.concatenate(scores), delimiter=",")
        return len(files)

    return work


def training_step(net: str, px: int, threads: int, files: list[str], batch: int) -> Workload:
    """Train the complete network on one batch in memory, channels last, once for each file."""
    model = _net(net, threads).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-5)
    x = torch.randn(batch, 3, px, px).to(memory_format=torch.channels_last)
    soft = torch.eye(N_CLASSES)[torch.arange(batch) % N_CLASSES]

    def work() -> int:
        for start in range(0, len(files), batch):
            n = min(batch, len(files) - start)
            loss = torch.nn.functional.cross_entropy(model(x[:n]), soft[:n])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return len(files)

    return work


MAKERS: dict[str, Callable[..., Workload]] = {
    maker.__name__: maker for maker in (forward, gradcam, training_step)
}

if __name__ == "__main__":
    serve(MAKERS)
