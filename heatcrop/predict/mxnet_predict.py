"""Open a run's networks on MXNet, from its configuration and weights."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heatcrop.cli.config import Config
from heatcrop.cli.config_file import read_config
from heatcrop.cli.runner import network_context
from heatcrop.data.tasks import resolve
from heatcrop.errors import RunError
from heatcrop.nets.devices import DeviceName, find_devices
from heatcrop.nets.inference import Runner
from heatcrop.predict.description import Described, describe_run, read_outputs
from heatcrop.runs.folder import RunFolder


class MXNetNetworks:
    """The networks of one run.

    Parameters
    ----------
    folder : RunFolder
    engine : {'auto', 'onnx', 'mxnet'}
        Which engine computes what MXNet has built; ``auto``: MXNet where its build sees a GPU.
    device : {'auto', 'cpu', 'gpu'}
    """

    def __init__(self, folder: RunFolder, engine: str, device: DeviceName = "auto") -> None:
        self._folder = folder
        self._config = _on(device, read_config(folder.config))
        self._shop = dataclasses.replace(network_context(self._config, folder), engine=engine)
        self._trunk: Runner | None = None
        self._pair: tuple[tuple[Path, Path], tuple[Runner, Runner]] | None = None

    def described(self, wanted: Sequence[str]) -> list[Described]:
        """The tasks of those names, by default all that are finished.

        Raises
        ------
        RunError, DataError
            When there is none, or one lacks a file.
        """
        known = self._config.known_tasks() or ()
        begun = [task for task in known if self._folder.task(task.name).path.is_dir()]
        tasks = [resolve(name, begun or known) for name in wanted]
        tasks = tasks or [task for task in known if self._folder.task(task.name).finished]
        if not tasks:
            raise RunError(
                f"{self._folder.path}: no task is finished; run it first: python pipeline.py run --all"
            )
        return describe_run(self._config, self._folder, self._shop.form, tasks)

    def trunk(self) -> Runner | None:
        """Build the frozen part; None when nothing is frozen."""
        with tempfile.TemporaryDirectory() as scratch:  # what is exported on the way is not the run's
            self._trunk = dataclasses.replace(self._shop, trunk_folder=Path(scratch)).open_trunk()
        return self._trunk

    def pair(self, one: Described) -> tuple[Runner, Runner]:
        """Build a task's two networks behind the trunk; those of the task before, where they serve both."""
        if self._pair is None or self._pair[0] != (one.full, one.crop):
            self._pair = None
            self._pair = (one.full, one.crop), self._built(one)
        return self._pair[1]

    def _built(self, one: Described) -> tuple[Runner, Runner]:
        shape = self._shop.image_shape
        if self._trunk is not None:
            shape = self._trunk(np.zeros((1, *shape), np.float32))[0].shape[1:]
        files = self._folder.task(one.task.name)
        with tempfile.TemporaryDirectory() as scratch:
            full, crop = (
                self._open(one, files.weights(number), shape, Path(scratch) / f"{number}.onnx", number == 1)
                for number in (1, 3)
            )
        return full, crop

    @property
    def by_gradient(self) -> bool:
        """Whether heatmaps need a backward pass, and so MXNet."""
        return self._shop.maps.by_gradient

    def _open(
        self, one: Described, weights: Path, shape: tuple[int, ...], onnx: Path, mapped: bool
    ) -> Runner:
        n_outputs = len(one.task.classes)
        if one.outputs is not None:
            n_outputs = max(end for _, end in read_outputs(self._folder).values())
        return self._shop.open_classifier(weights, onnx, shape, n_outputs, mapped)


def _on(device: DeviceName, config: Config) -> Config:
    """The run on this machine: in mixed precision where the run was and a GPU of this one can."""
    amp = config.runtime.amp and bool(find_devices(device).training)
    return config.model_copy(
        update={"runtime": config.runtime.model_copy(update={"device": device, "amp": amp})}
    )
