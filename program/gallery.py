"""The gallery beside a file of predictions: the report's pictures, of pictures nobody has labelled."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from attributes.dataset import TaskData
from attributes.texts import printable
from program.errors import RunError
from program.predictor import Answer, Predictor
from report.build import GALLERY_MARK, build_gallery
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
    def beside(cls, out: Path, boxes: Path | None = None) -> Gallery:
        """Plan the gallery of a file of predictions.

        Parameters
        ----------
        out, boxes : Path
            See :func:`program.tables.check_targets`, which is to be asked first.

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
        other = _others(home) if home.is_dir() else None
        if other is not None:
            raise RunError(f"{home}: holds other files than a gallery's, for instance {other}; {instead}")
        for end in (".partial", ".old"):  # where a gallery is built, and the older one put aside
            sibling = home.with_name(home.name + end)
            if os.path.lexists(sibling):
                raise RunError(
                    f"{sibling}: is in the way of a new gallery; rename or delete it, or {instead}"
                )
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
        return build_gallery(self.page, printable(title), read_settings(run), self._tasks)


def _others(home: Path) -> str | None:
    """A file or folder below `home` that no gallery has put there; None where there is none."""
    made = {GALLERY_MARK, *_told(home / GALLERY_MARK)}
    folders = {parent.as_posix() for name in made for parent in PurePosixPath(name).parents}
    for place, below, files in os.walk(home, onerror=_fail):
        for name in sorted(below + files):
            path = Path(place, name)
            seen, is_folder = path.relative_to(home).as_posix(), name in below and not path.is_symlink()
            if seen not in (folders if is_folder else made):
                return seen
    return None


def _fail(error: OSError) -> None:
    raise error  # what cannot be listed could hold anything


def _told(mark: Path) -> list[str]:
    """The files that a gallery's mark tells of; none where it is no such mark."""
    try:
        files = json.loads(mark.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in files if isinstance(name, str)] if isinstance(files, list) else []
