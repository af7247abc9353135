"""The gallery beside a file of predictions: the report's pictures, of pictures nobody has labelled."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heatcrop.data.dataset import TaskData
from heatcrop.errors import RunError
from heatcrop.files import printable
from heatcrop.predict.predictor import Answer, Predictor
from heatcrop.report.build import build_gallery, may_be_rebuilt
from heatcrop.report.results import TaskResults, read_settings
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import BRANCHES

SPLIT = "new"
"""What the gallery calls pictures that belong to no split."""


@dataclasses.dataclass
class Gallery:
    """Collects what was said of pictures, task by task, and writes the page.

    Attributes
    ----------
    page : Path
        ``<predictions>_gallery/index.html`` beside the file of predictions.
    """

    page: Path
    _tasks: list[TaskResults]

    @classmethod
    def beside(cls, out: Path, boxes: Path | None = None) -> Gallery:
        """Plan the gallery of a file of predictions.

        Parameters
        ----------
        out, boxes : Path
            See :func:`heatcrop.predict.outputs.check_targets`, which is to be asked first.

        Raises
        ------
        RunError
            When its folder, which is made anew, is no folder or holds somebody's other files.
        """
        home = out.with_name(f"{out.stem}_gallery")
        instead = "give another --out, or --no-gallery"
        if boxes is not None and Path(os.path.realpath(boxes)).is_relative_to(os.path.realpath(home)):
            raise RunError(f"{boxes}: lies in the gallery's folder, which is made anew; give another --boxes")
        if os.path.lexists(home) and (home.is_symlink() or not home.is_dir()):
            raise RunError(f"{home}: the gallery's place is taken by what is no folder; {instead}")
        if home.is_dir() and not may_be_rebuilt(home):
            raise RunError(f"{home}: holds other files than a gallery's; {instead}")
        return cls(home / "index.html", [])

    def add(
        self,
        predictor: Predictor,
        pictures: Sequence[tuple[str, str, tuple[int, int]]],
        answers: Sequence[Answer],
    ) -> None:
        """Add one task.

        Parameters
        ----------
        predictor : Predictor
            Whose answers they are.
        pictures : sequence of (image, path, size)
        answers : sequence of Answer
            Of the pictures, in order.
        """
        n, task, rule = len(pictures), predictor.task, predictor.rule
        data = TaskData(
            task,
            tuple(image for image, _, _ in pictures),
            tuple(path for _, path, _ in pictures),
            np.array([size for _, _, size in pictures]),
            np.zeros((n, len(task.classes)), np.int8),
            np.full(n, SPLIT),
            np.full(n, ""),
        )
        said = {branch: np.concatenate([getattr(a, branch) for a in answers]) for branch in BRANCHES}
        self._tasks.append(
            TaskResults(
                data,
                said,
                np.concatenate([a.boxes for a in answers]),
                np.array([kind for a in answers for kind in a.fallbacks]),
                np.concatenate([a.heatmaps for a in answers]),
                rule.threshold,
                rule.percentile,
                predictor.fit,
                np.zeros(n, bool),
            )
        )

    def write(self, title: str, run: RunFolder) -> Path:
        """Write the page and the pictures beside it, and return where it lies."""
        return build_gallery(self.page, printable(title), read_settings(run), self._tasks)
