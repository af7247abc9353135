"""Images of the gallery: one WebP file a row, the image and its crop side by side.

Heat and box are not drawn into it. The page draws them from numbers, so that a reader can change the
heat's opacity and the crop rule, and one small file serves the image, its heatmap and its crop.
"""

from __future__ import annotations

import base64
import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np

from heatcrop.data.labels import format_letters
from heatcrop.files import write_atomic
from heatcrop.report.drawing import THREADS, read_panels
from heatcrop.report.results import TaskResults

IMAGE_PX, CROP_PX, QUALITY = 320, 288, 70
_EDGE_PX = 2


def write_gallery(
    root: Path, results: TaskResults, chosen: np.ndarray, home: Path, done: Callable[[int], None]
) -> dict[str, Any]:
    """Write the images of some rows below `root`; return what the scripts of the page in `home` read.

    Of a row, ``p`` has a list a branch (or null) of C shares in thousandths, ``top`` the predicted class a
    branch, ``letters`` n, m, y a class ('' without a label), ``label`` the label's probability in thousandths
    by networks that did not train on it (or null), ``gain`` the change of the label's probability from
    calibrated full to fused (or null), ``maps`` the heatmaps of the image and, where the rule zooms, of
    ``zoomed``, a part of it; ``thumb`` x, y, width, height of image and crop in its file, ``original`` an
    address (or null), ``at`` the row of the data. ``size``, ``box``, ``zoomed`` and ``region``, the true
    one, are in pixels of the original.
    """
    data, task, heatmaps = results.data, results.data.task, results.heatmaps
    maps = [one for one in (heatmaps.maps, heatmaps.zoomed) if one is not None]
    kinds = ("trained", "fixed", "lost", "suspect")
    values = {"label": results.label_probability, "gain": results.gain}
    regions = results.regions
    splits = ("test", "val", "train", *np.unique(data.splits).tolist())

    def describe(number: int, row: int) -> dict[str, Any]:
        file = f"thumbs/{results.folder}/{number:04d}.webp"
        size, panels = _write_thumb(root / file, results, row)
        shares = [None if np.isnan(p[row, 0]) else p[row] for p in results.probabilities.values()]
        return {
            "name": data.images[row],
            "split": str(data.splits[row]),
            **{kind: bool(getattr(results, kind)[row]) for kind in kinds},
            "letters": format_letters(data.letters[row]) if data.labelled[row] else "",
            "p": [None if p is None else [round(1000 * v) for v in p.tolist()] for p in shares],
            "top": [None if p is None else int(p.argmax()) for p in shares],
            **{key: None if np.isnan(of[row]) else round(1000 * of[row]) for key, of in values.items()},
            "fallback": str(results.fallback[row]),
            "size": data.sizes[row].tolist(),
            "box": results.boxes[row].tolist(),
            "invisible": bool(heatmaps.invisible[row]),
            "maps": [_base64(maps[row]) for maps in maps],
            "zoomed": None if heatmaps.regions is None else heatmaps.regions[row].tolist(),
            "region": None if np.isnan(regions[row, 0]) else regions[row].tolist(),
            "thumb": {"file": quote(file), "size": size, "panels": panels},
            "original": address(data.paths[row], home),
            "at": row,
        }

    gallery = {
        "name": task.name,
        "short": task.short,
        "classes": task.classes,
        "rule": dataclasses.asdict(results.rule),
        "first": None if results.first is None else dataclasses.asdict(results.first),
        "invisible": task.invisible is not None,
        "fit": heatmaps.fit,
        "map": [heatmaps.maps.shape[2], heatmaps.maps.shape[1]],
        "counts": {split: results.counts(split) for split in splits},
        "rows": [],
    }
    with ThreadPoolExecutor(THREADS) as pool:
        for row in pool.map(describe, range(len(chosen)), chosen.tolist()):
            gallery["rows"].append(row)
            done(1)
    return gallery


def _write_thumb(path: Path, results: TaskResults, row: int) -> tuple[list[int], list[list[int]]]:
    """Write one file; return its size, and x, y, width, height of the image and of the crop in it."""
    data = results.data
    image, crop = read_panels(data.paths[row], data.sizes[row], results.boxes[row], IMAGE_PX, CROP_PX)
    height, width = image.shape[:2]
    sheet, panels = image, [[0, 0, width, height]] * 2
    if not results.uncropped[row]:  # otherwise one panel serves both
        # Each repeats its edge, since browsers show a part of a pixel beyond a panel.
        high, repeat = max(height, len(crop)) + _EDGE_PX, cv2.BORDER_REPLICATE
        parts = [
            cv2.copyMakeBorder(part, 0, high - len(part), _EDGE_PX, _EDGE_PX, repeat)
            for part in (image, crop)
        ]
        sheet = np.hstack(parts)
        panels = [
            [_EDGE_PX, 0, width, height],
            [width + 3 * _EDGE_PX, 0, crop.shape[1], crop.shape[0]],
        ]
    # Half of the bytes of a JPEG of this quality.
    encoded = cv2.imencode(".webp", sheet[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1]
    write_atomic(path, encoded.tobytes())
    return [sheet.shape[1], sheet.shape[0]], panels


def _base64(heatmap: np.ndarray) -> str:
    """Encode a heatmap without loss, since the page must find the same boxes: 32-bit floats, row by row."""
    return base64.b64encode(heatmap.astype("<f4").tobytes()).decode()


def address(path: str, home: Path) -> str | None:
    """Give a file's address relative to a folder of pages; None where no relative path exists."""
    try:
        relative = os.path.relpath(os.path.abspath(path), home.resolve())
    except ValueError:  # another drive
        return None
    return quote(os.fsencode(Path(relative).as_posix()))  # a folder's name may be in any encoding
