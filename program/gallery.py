"""The gallery beside a file of predictions: the report's pictures, of pictures nobody has labelled."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attributes.dataset import TaskData
from program.errors import RunError
from program.predictor import Answer, Predictor
from report.build import build_gallery
from report.rows import BRANCHES, TaskRows, read_settings
from runfolder.folder import RunFolder

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
    _tasks: list[TaskRows]

    @classmethod
    def beside(cls, out: Path) -> Gallery:
        """Plan the gallery of a file of predictions.

        Raises
        ------
        RunError
            When its folder holds somebody's other files.
        """
        page = out.with_name(f"{out.stem}_gallery") / "index.html"
        home = page.parent
        if home.exists() and not (home.is_dir() and (page.is_file() or not any(home.iterdir()))):
            raise RunError(f"{home}: holds other files than a gallery's; give another --out, or --no-gallery")
        return cls(page, [])

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
            TaskRows(
                data,
                said,
                np.concatenate([a.boxes for a in answers]),
                np.array([kind for a in answers for kind in a.fallbacks]),
                np.concatenate([a.heatmaps for a in answers]),
                np.arange(n),
                rule.threshold,
                rule.percentile,
                predictor.fit,
                np.zeros(n, bool),
            )
        )

    def write(self, title: str, run: RunFolder) -> Path:
        """Write the page and the pictures beside it, and return where it lies."""
        return build_gallery(self.page, title, read_settings(run), self._tasks)
