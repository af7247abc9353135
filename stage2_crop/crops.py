"""The crop folder: ``crops/<split>/<class name>/<picture id>.jpg``, laid out for the eye.

Labelled pictures lie under their own class, unlabelled ones under the predicted class with a
question mark, so that a folder opened in a file manager is a claim that can be checked at a glance.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from heatcrop.data.images import encode_jpeg, read_image
from heatcrop.runs import built
from heatcrop.training.batches import read_ahead
from stage2_crop.rule import Crop, Crops

_AT_ONCE = 8


def crop_names(images: Sequence[str], folders: Sequence[str], splits: Sequence[str]) -> list[str]:
    """Name each crop ``split/class/id.jpg``; ids that would meet get their folder's name in front.

    >>> crop_names(["a/1.jpg", "b/1.png", "b/2.png"], ["X"] * 3, ["val"] * 3)
    ['val/X/a_1.jpg', 'val/X/b_1.jpg', 'val/X/2.jpg']
    """
    names = [f"{s}/{f}/{_stem(i)}" for i, f, s in zip(images, folders, splits, strict=True)]
    # File systems that do not tell upper from lower case would let the later one overwrite the earlier.
    keys = np.array([_key(name) for name in names], np.uint64)
    _, place, counts = np.unique(keys, return_inverse=True, return_counts=True)
    meeting = counts[place] > 1
    alone, taken = np.sort(keys[~meeting]), set[int]()
    for i in np.flatnonzero(meeting).tolist():
        folder, _, stem = names[i].rpartition("/")
        stem = _fitting("_".join([*PurePosixPath(images[i]).parent.parts[-3:], stem]).strip("/"))
        name, number = f"{folder}/{stem}", 2
        while _key(name) in taken or _is_in(_key(name), alone):
            name = f"{folder}/{stem}_{number}"
            number += 1
        taken.add(_key(name))
        names[i] = name
    for i, name in enumerate(names):  # in place: one of millions of texts at a time
        names[i] = name + ".jpg"
    return names


def _key(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.casefold().encode("utf-8"), digest_size=8).digest(), "little")


def _is_in(key: int, ordered: np.ndarray) -> bool:
    at = int(np.searchsorted(ordered, np.uint64(key)))
    return at < len(ordered) and int(ordered[at]) == key


def _stem(image: str) -> str:
    """A picture's name without ending or leading dots: ``..jpg`` must not name its folder."""
    return _fitting(PurePosixPath(image).stem.lstrip(".") or "_")


def _fitting(stem: str) -> str:
    """Cut to what leaves room for an ending and a number within a file system's 255 bytes."""
    return stem.encode("utf-8")[:200].decode("utf-8", "ignore")


def begin_crops(root: Path, names: Sequence[str]) -> None:
    """Make the folders that crops of these names go into, beside the crop folder.

    It takes the place of `root` when it is complete, so that no crop of an earlier rule stays behind.
    """
    building = built.building(root)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for folder in {name.rpartition("/")[0] for name in names}:
        (building / folder).mkdir(parents=True, exist_ok=True)


def cut_crops(
    root: Path,
    names: Sequence[str],
    paths: Sequence[str],
    crop_of: Callable[[int], Crop],
    threads: int = 2,
    quality: int = 95,
    done: Callable[[int], None] = lambda _: None,
) -> Crops:
    """Cut crops out of the original pictures at full resolution, between beginning and end.

    Several processes may do so at once, each its own.

    Parameters
    ----------
    root : Path
        The crop folder.
    names : sequence of str
        See :func:`crop_names`.
    paths : sequence of str
        The original pictures.
    crop_of : callable
        Finds the i-th picture's crop; called by the thread that cuts it.
    quality : int
        JPEG quality, 1..100.
    """
    building, found = built.building(root), Crops()

    def cut(part: range) -> list[Crop]:
        crops = [crop_of(i) for i in part]
        for i, crop in zip(part, crops, strict=True):
            x0, y0, x1, y1 = crop.box
            # Only the folder as a whole takes its place, so a file need not be written whole or not at all.
            picture = read_image(paths[i])[y0:y1, x0:x1]
            (building / names[i]).write_bytes(encode_jpeg(picture, quality))
        return crops

    # By several, since handing over costs as much as a tenth of a crop.
    parts = (range(i, min(i + _AT_ONCE, len(paths))) for i in range(0, len(paths), _AT_ONCE))
    for crops in read_ahead(cut, parts, threads):
        for crop in crops:
            found.append(crop)
        done(len(crops))
    return found


def end_crops(root: Path) -> None:
    """Let the complete folder take its place, if nobody has done so: a piece of work may come twice."""
    if built.building(root).exists() or not root.exists():
        built.take_place(root, built.is_crop)
