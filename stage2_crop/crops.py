"""The crop folder: ``crops/<split>/<class name>/<image id>.jpg``, for people to inspect.

Labelled images are below their class, unlabelled ones below the predicted class with ``(predicted)``.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from heatcrop.data.images import encode_jpeg, read_image
from heatcrop.files import write_bytes, write_json
from heatcrop.runs import swap
from heatcrop.runs.reading import read_json
from heatcrop.training.batches import read_ahead

_AT_ONCE = 8


def crop_names(images: Sequence[str], folders: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Name each crop ``split/class/id.jpg``; equal ids get their folder's name in front.

    >>> crop_names(["a/1.jpg", "b/1.png", "b/2.png"], ["X"] * 3, ["val"] * 3)
    ['val/X/a_1.jpg', 'val/X/b_1.jpg', 'val/X/2.jpg']
    """
    # Without leading dots: ``..jpg`` must not name its folder.
    ids = [_fitting(PurePosixPath(image).stem.lstrip(".") or "_") for image in images]
    stems = [f"{s}/{f}/{i}" for i, f, s in zip(ids, folders, splits, strict=True)]
    # Case does not count: some file systems would let the later one overwrite the earlier.
    counts = Counter(map(str.casefold, stems))
    taken = {stem.casefold() for stem in stems if counts[stem.casefold()] == 1}
    names = []
    for image, stem in zip(images, stems, strict=True):
        if counts[stem.casefold()] > 1:
            folder, _, last = stem.rpartition("/")
            longer = _fitting("_".join([*PurePosixPath(image).parent.parts[-3:], last]).strip("/"))
            stem, number = f"{folder}/{longer}", 2
            while stem.casefold() in taken:
                stem = f"{folder}/{longer}_{number}"
                number += 1
            taken.add(stem.casefold())
        names.append(f"{stem}.jpg")
    return names


def _fitting(stem: str) -> str:
    """Shorten a name so that an ending and a number fit into a file system's 255 bytes."""
    return stem.encode("utf-8")[:200].decode("utf-8", "ignore")


def begin_crops(root: Path, names: Sequence[str]) -> None:
    """Make the folders for crops of these names, in a staging folder beside the crop folder.

    It replaces `root` when it is complete, so that no crop of an earlier rule stays behind.
    """
    building = swap.staging_folder(root)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for folder in {name.rpartition("/")[0] for name in names}:
        (building / folder).mkdir(parents=True, exist_ok=True)


def cut_crops(
    root: Path,
    names: Sequence[str],
    paths: Sequence[str],
    boxes: np.ndarray,
    threads: int = 2,
    quality: int = 95,
    done: Callable[[int], None] = lambda _: None,
) -> None:
    """Crop the original images at full resolution into the staging folder; processes may share the work.

    `names` and (N, 4) int `boxes` are those of the images; `done` gets the number of crops written since its
    last call.
    """
    staging = swap.staging_folder(root)

    def write(part: range) -> int:
        for i in part:
            x0, y0, x1, y1 = boxes[i].tolist()
            # Not atomic: only the complete folder is put in place.
            crop = read_image(paths[i])[y0:y1, x0:x1]
            write_bytes(staging / names[i], encode_jpeg(crop, quality))
        return len(part)

    # By several, since handing over costs as much as a tenth of a crop.
    parts = (range(i, min(i + _AT_ONCE, len(paths))) for i in range(0, len(paths), _AT_ONCE))
    for count in read_ahead(write, parts, threads):
        done(count)


def end_crops(root: Path, names: Sequence[str]) -> None:
    """Put the complete folder in place, unless that is done: a job may be repeated.

    The crops' names are listed beside the folder: other files in it are a user's, and stay.
    """
    listed = root.with_name(".crops.json")
    if swap.staging_folder(root).exists() or not root.exists():
        written = set[str]()
        if listed.is_file():
            written = {*read_json(listed, list[str]), *names}
            write_json(listed, sorted(written))  # a killed process leaves the old folder or the new one
        # Earlier versions wrote no list.
        swap.swap_in(root, lambda name: str(name) in written if written else _is_crop(name))
    write_json(listed, names)


def _is_crop(name: PurePosixPath) -> bool:
    return len(name.parts) == 3 and name.suffix == ".jpg"
