"""Pictures for the gallery: one JPEG file a row, the picture and its crop side by side.

Heat and square are not drawn into it. The page draws them from numbers, so that a reader can turn
the heat up and down, and one small file serves the picture, its heatmap and its crop.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np

from heatcrop.data.images import write_jpeg
from heatcrop.report.drawing import fitted, read_shown
from heatcrop.report.heat import heat_text, unit_heat
from heatcrop.report.rows import TaskRows

PICTURE_PX, CROP_PX, QUALITY = 340, 300, 82
LETTERS = "nmy"


def gallery_rows(
    root: Path,
    rows: TaskRows,
    chosen: np.ndarray,
    home: Path,
    threads: int = 2,
    done: Callable[[int], None] = lambda _: None,
) -> list[dict[str, object]]:
    """Write the pictures of some rows below `root` and describe each row for the page.

    Parameters
    ----------
    chosen : ndarray of int
        See :func:`heatcrop.report.rows.choose_rows`.
    home : Path
        The folder the page will lie in, from which links to the original pictures are told.

    Returns
    -------
    list of dict
        ``name``; ``split``; ``trained`` (see :class:`heatcrop.report.rows.TaskRows`); ``letters`` (n, m, y a
        class, '' without a label); ``p`` with a list a branch (or null) of C shares in thousandths;
        ``top`` with the predicted class a branch;
        ``fallback``; ``whole``; ``size`` and ``box`` in pixels of the original; ``heat``; ``thumb`` with the
        file, its size and where picture and crop lie in it; ``original`` (an address, or null).
    """
    task = rows.data.task
    (root / "thumbs" / task.name).mkdir(parents=True, exist_ok=True)

    def one(item: tuple[int, int]) -> dict[str, object]:
        number, row = item
        file = f"thumbs/{task.name}/{number:04d}.jpg"
        size, panels = _write(root / file, rows, row)
        spoken = [values[row] for values in rows.probabilities.values()]
        said = [None if np.isnan(values[0]) else values for values in spoken]
        letters = "".join(LETTERS[code] for code in rows.data.letters[row]) if rows.data.labelled[row] else ""
        return {
            "name": rows.data.images[row],
            "trained": bool(rows.trained[row]),
            "split": str(rows.data.splits[row]),
            "letters": letters,
            "p": [None if p is None else [round(1000 * v) for v in p.tolist()] for p in said],
            "top": [None if p is None else int(p.argmax()) for p in said],
            "fallback": str(rows.fallback[row]),
            "whole": bool(rows.uncropped[row]),
            "size": [int(v) for v in rows.data.sizes[row]],
            "box": [int(v) for v in rows.boxes[row]],
            "heat": heat_text(unit_heat(rows.heatmaps[rows.place[row]], rows.percentile)),
            "thumb": {"file": quote(file), "size": size, "panels": panels},
            "original": _address(rows.data.paths[row], home),
        }

    described = []
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for found in pool.map(one, enumerate(chosen.tolist())):
            described.append(found)
            done(1)
    return described


def _write(path: Path, rows: TaskRows, row: int) -> tuple[list[int], list[list[int]]]:
    """Write one file; tell its size, and x, y, width, height of the picture and of the crop in it."""
    width, height = (int(v) for v in rows.data.sizes[row])
    seen = read_shown(rows.data.paths[row], (width, height), rows.boxes[row], PICTURE_PX)
    picture = fitted(seen.picture, PICTURE_PX)
    high, wide = picture.shape[:2]
    if rows.uncropped[row]:  # the crop is the picture: one panel serves both
        write_jpeg(path, picture, QUALITY)
        return [wide, high], [[0, 0, wide, high]] * 2
    crop = fitted(seen.crop, CROP_PX)
    sheet = np.full((max(high, crop.shape[0]), wide + crop.shape[1], 3), 255, np.uint8)
    sheet[:high, :wide] = picture
    sheet[: crop.shape[0], wide:] = crop
    write_jpeg(path, sheet, QUALITY)
    return [sheet.shape[1], sheet.shape[0]], [[0, 0, wide, high], [wide, 0, crop.shape[1], crop.shape[0]]]


def _address(path: str, home: Path) -> str | None:
    """The original picture as seen from the page; None where no relative path leads there."""
    try:
        relative = os.path.relpath(os.path.abspath(path), home.resolve())
    except ValueError:  # another drive
        return None
    return quote(os.fsencode(Path(relative).as_posix()))  # a folder's name may be in any encoding
