"""Which rows to learn from, to choose by and to report on; folds for cross-fitting; and what leaks."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from heatcrop.data.texts import take

NAMES = np.array(["train", "val", "test"], dtype=object)
LEAKAGE = ("task", "kind", "image", "split", "label", "same_as", "same_split", "same_label")

_TAIL_BYTES = 4096


def assign_splits(
    rows: pd.DataFrame, val_share: float, test_share: float, seed: int, paths: Sequence[str] | None = None
) -> pd.Series[str]:
    """``train``, ``val`` or ``test`` for each row, task by task.

    A split that the data gives is used as it is:

    - no row of the task has one: a test set and a validation set are cut off;
    - some rows have one: the others become ``train``, and no test set is cut off (data with ``train`` and
      ``val`` alone are thus reported on ``val``);
    - if no row is ``val`` then, a validation set is cut off the training rows.

    A cut keeps the shares within each class (the ``y`` of the label) as far as whole pictures allow, and
    keeps rows together that have the same ``group`` or byte-identical pictures. It depends on the seed
    and the rows, not on their order.

    Parameters
    ----------
    rows : DataFrame
        With ``image, path, task, label, split, group``, as `heatcrop.data.readers.Annotations` has them.
    val_share, test_share : float
        Shares of the task's rows, 0 to below 1, together below 1. Of a share above 0 at least one row (or
        group) is taken, as long as one is left to train on.
    seed : int
    paths : sequence of str, optional
        Of the rows; by default their ``path``.

    Returns
    -------
    Series of str
        With the index of `rows`.
    """
    if not (0 <= val_share < 1 and 0 <= test_share < 1 and val_share + test_share < 1):
        raise ValueError(f"shares must be at least 0 and below 1 together, got {val_share} and {test_share}")
    values = rows["split"].to_numpy(dtype=object, copy=True)
    names, tasks = (rows[column].to_numpy(dtype=object) for column in ("image", "task"))
    for task in sorted(set(tasks)):
        places = np.flatnonzero(tasks == task)
        # Sorted by name, so that the order of the rows does not matter.
        order = places[np.argsort(names[places], kind="stable")]
        split = values[order]
        nothing_given = bool((split == "").all())
        split[split == ""] = "train"
        cut = [val_share * float((split != "val").all()), test_share * float(nothing_given)]
        inside = np.flatnonzero(split == "train")
        if any(cut) and len(inside):
            task_rows = rows.iloc[order[inside]]
            files = task_rows["path"].tolist() if paths is None else take(paths, order[inside])
            units = _units(task_rows["group"].tolist(), files)
            classes = np.array([label.find("y") for label in task_rows["label"]], dtype=np.int64)
            rng = np.random.default_rng(seed)
            split[inside] = NAMES[_cut(units, classes, (1 - sum(cut), *cut), rng)]
        values[order] = split
    return pd.Series(values, index=rows.index, dtype=object, name="split")


def assign_folds(
    letters: NDArray[np.int8], groups: ArrayLike | None, n_folds: int, seed: int
) -> NDArray[np.int64]:
    """A fold for each row, so that a network can be asked only about rows it has not seen.

    Parameters
    ----------
    letters : (N, C) int8
        Labels; the folds have about equal shares of each ``y`` class.
    groups : (N,) array or None
        Rows of one group come into one fold. Empty texts are groups of one. None: every row for itself.
    n_folds : int
        At least 2. With fewer groups than that, every group is a fold.
    seed : int

    Returns
    -------
    (N,) int64
        0 to n_folds - 1, each of them used.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds must be at least 2, got {n_folds}")
    letters = np.asarray(letters)
    if letters.ndim != 2:
        raise ValueError(f"letters must be (N, C), got shape {letters.shape}")
    n_rows = len(letters)
    units = np.arange(n_rows) if groups is None else _units([str(name) for name in np.asarray(groups)], None)
    if len(units) != n_rows:
        raise ValueError(f"{len(units)} groups for {n_rows} rows")
    n_units = int(units.max()) + 1 if n_rows else 0
    if n_units <= n_folds:
        return units
    classes = letters.argmax(axis=1)
    if np.bincount(classes).max() < n_folds:
        classes = np.zeros(n_rows, np.int64)  # too few of any class to spread: spread the rows
    kind = StratifiedKFold if n_units == n_rows else StratifiedGroupKFold
    folds = np.zeros(n_rows, np.int64)
    with warnings.catch_warnings():  # small classes are no fault here: some folds go without them
        warnings.filterwarnings("ignore", message="The least populated class")
        splitter = kind(n_folds, shuffle=True, random_state=seed)
        keep = None if n_units == n_rows else units
        for fold, (_, inside) in enumerate(splitter.split(np.zeros(n_rows), classes, keep)):
            folds[inside] = fold
    # Large groups can leave a fold with nothing.
    return _fill_empty(folds, units, range(n_folds))


def units_of(groups: Sequence[str], paths: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of what must stay together, (N,): rows joined by a group, by identical files, or by a chain."""
    return _units(groups, paths)


def identical_groups(paths: Sequence[str]) -> NDArray[np.int64]:
    """Numbers that are equal where the files hold the same bytes.

    Cheap in three steps: files of different size differ; of equal size, the last 4 KB are compared; only
    where these are equal too is the whole file read.

    Parameters
    ----------
    paths : sequence of str
        Files; one that cannot be read is equal to none.

    Returns
    -------
    (N,) int64
        Counted from 0 in the order in which contents first appear.
    """
    contents = np.empty(len(paths), np.int64)
    for place, path in enumerate(paths):
        try:
            contents[place] = os.stat(path).st_size
        except (OSError, ValueError):
            contents[place] = -1 - place
    numbers = _in_order(contents)
    for n_bytes in (_TAIL_BYTES, None):
        digests = np.zeros((len(paths), 2), np.uint64)
        for place in np.flatnonzero(np.bincount(numbers, minlength=1)[numbers] > 1).tolist():
            digests[place] = np.frombuffer(_digest(paths[place], n_bytes, place), np.uint64)
        for half in digests.T:
            numbers = _in_order(numbers * (len(paths) + 1) + _in_order(half))
    return numbers


def leakage(rows: pd.DataFrame) -> pd.DataFrame:
    """Byte-identical pictures of one task that sit in different splits, or bear different labels.

    Parameters
    ----------
    rows : DataFrame
        With ``image, path, task, label, split``; `split` as `assign_splits` leaves it.

    Returns
    -------
    DataFrame
        ``task, kind, image, split, label, same_as, same_split, same_label``, one row for each picture that
        differs from the first of its kind: ``kind`` is ``split`` (it sits in another split) or ``label``
        (both labels are known and differ). A picture that does both has two rows.
    """
    found: list[pd.DataFrame] = []
    images, splits, labels = (rows[name].to_numpy(object) for name in ("image", "split", "label"))
    names, tasks = np.unique(rows["task"].to_numpy(object).astype(str), return_inverse=True)
    for number, task in enumerate(names.tolist()):
        places = np.flatnonzero(tasks == number)
        places = places[np.argsort(images[places], kind="stable")]
        contents = identical_groups(rows["path"].to_numpy(object)[places].tolist())
        first = places[np.unique(contents, return_index=True)[1]][contents]
        torn = splits[places] != splits[first]
        known = (labels[places] != "") & (labels[first] != "")
        differs = np.column_stack([torn, known & (labels[places] != labels[first])])
        row, kind = np.nonzero(differs)  # row by row, the split before the label
        own, same = places[row], first[row]
        kinds = np.array(["split", "label"], object)[kind]
        told = (images[own], splits[own], labels[own], images[same], splits[same], labels[same])
        columns = (task, kinds, *told)
        found.append(pd.DataFrame(dict(zip(LEAKAGE, columns, strict=True))))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(LEAKAGE))


def _digest(path: str, n_bytes: int | None, place: int) -> bytes:
    """16 bytes that tell contents apart; of a file that cannot be read, those of its place."""
    try:
        with open(path, "rb") as file:
            if n_bytes is not None:
                file.seek(max(0, os.fstat(file.fileno()).st_size - n_bytes))
            data = file.read()
    except OSError:
        data = f"unreadable file {place}".encode()
    return hashlib.blake2b(data, digest_size=16).digest()


def _in_order(values: NDArray[Any]) -> NDArray[np.int64]:
    """0, 1, 2, … for the values in order of first appearance."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), np.int64)
    numbers[np.argsort(first)] = np.arange(len(first))
    return numbers[inverse]


def _units(groups: Sequence[str], paths: Sequence[str] | None) -> NDArray[np.int64]:
    """Numbers of what must stay together: rows joined by a group, by identical pictures, or by a chain."""
    n_rows = len(groups)
    codes, names = pd.factorize(np.asarray(groups, dtype=object))
    grouped = np.flatnonzero(np.array([name != "" for name in names], bool)[codes]) if n_rows else codes
    joints = [(grouped, n_rows + codes[grouped])]
    if paths is not None:
        joints.append((np.arange(n_rows), n_rows + len(names) + identical_groups(paths)))
    ends = [np.concatenate(side) for side in zip(*joints, strict=True)]
    n_nodes = n_rows + len(names) + n_rows  # rows, groups, pictures
    joined = coo_array((np.ones(len(ends[0]), np.int8), tuple(ends)), shape=(n_nodes, n_nodes))
    return _in_order(connected_components(joined, directed=False)[1][:n_rows])


def _cut(
    units: NDArray[np.int64], classes: NDArray[np.int64], shares: tuple[float, ...], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The part (train, val, test) of each row; rows of one unit come into one part.

    Large units are placed first, each where its classes lack most; single rows, by far the most common,
    then fill each class up to its share.
    """
    wanted = np.asarray(shares, dtype=np.float64)
    n_classes = int(classes.max()) + 2  # one more, at -1, for rows whose label is unknown
    present = np.bincount(classes % n_classes, minlength=n_classes)
    lack: NDArray[np.float64] = wanted[:, None] * present  # (parts, classes)
    sizes = np.bincount(units)
    part = np.zeros(len(units), np.int64)
    members = np.split(np.argsort(units, kind="stable"), np.cumsum(sizes)[:-1])
    shuffled = rng.permutation(len(sizes))
    for unit in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        if sizes[unit] == 1:
            break
        counts = np.bincount(classes[members[unit]] % n_classes, minlength=n_classes)
        weights = counts / np.maximum(lack.clip(0).sum(axis=0), 1)
        chosen = int(np.argmax(np.where(wanted > 0, lack @ weights, -np.inf)))
        part[members[unit]] = chosen
        lack[chosen] -= counts
    single = shuffled[sizes[shuffled] == 1]
    rows = np.array([members[unit][0] for unit in single], dtype=np.int64)
    for class_ in np.unique(classes[rows]):
        of_class = rows[classes[rows] == class_]
        part[of_class] = np.repeat(np.arange(len(wanted)), _round(lack[:, class_], len(of_class)))
    return _fill_empty(part, units, np.flatnonzero(wanted).tolist())


def _round(lack: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Whole numbers that sum to `total`, in proportion to what is lacking (largest remainders)."""
    lack = lack.clip(0)
    exact = lack / lack.sum() * total if lack.sum() > 0 else np.eye(len(lack))[0] * total
    counts: NDArray[np.int64] = np.floor(exact + 1e-9).astype(np.int64)
    for place in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[place] += 1
    return counts


def _fill_empty(
    part: NDArray[np.int64], units: NDArray[np.int64], wanted: Sequence[int]
) -> NDArray[np.int64]:
    """Give each wanted part that came out empty the smallest unit of the part that has most units."""
    sizes = np.bincount(units)
    for empty in wanted:
        if not (part == empty).any():
            owned = [np.unique(units[part == other]) for other in wanted]
            spare = max(owned, key=len)
            if len(spare) > 1:
                part[units == spare[np.argmin(sizes[spare])]] = empty
    return part
