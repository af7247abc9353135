"""Training, validation and test splits; folds for cross-fitting; identical files."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

NAMES = np.array(["train", "val", "test"], dtype=object)


def group_copies(rows: pd.DataFrame) -> pd.Series[str]:
    """Bring byte-identical images of a task into one group, so that neither a split nor a fold divides them.

    Groups that share an image become one. It has the name of the first of them by image, or where none has a
    name that of its first image. Images that the data give to different splits are not brought together, nor
    those of a given test split.

    Parameters
    ----------
    rows : DataFrame
        With ``image, path, task, split, group``, see `heatcrop.data.readers.Annotations`.
    """
    groups = rows["group"].to_numpy(dtype=object, copy=True)
    splits = rows["split"].where(rows["split"] != "", "train")
    order = rows[["image"]].assign(place=np.arange(len(rows))).sort_values("image", kind="stable")
    for (_, split), part in order.groupby([rows["task"], splits], observed=True):
        if split == "test":
            continue
        places, images = part["place"].to_numpy(), part["image"].reset_index(drop=True)
        own = pd.Series(groups[places], dtype=object)
        units = connected_groups(own.tolist(), rows["path"].iloc[places].tolist())
        named = own.mask(own == "").groupby(units).transform("first")
        unnamed = "copies of " + images.groupby(units).transform("first")
        several = np.bincount(units)[units] > 1
        groups[places] = np.where(several, named.where(named.notna(), unnamed), own)
    return pd.Series(groups, index=rows.index, dtype=object, name="group")


def assign_splits(rows: pd.DataFrame, val_share: float, test_share: float, seed: int) -> pd.Series[str]:
    """Assign ``train``, ``val`` or ``test`` to each row, task by task.

    A split given by the data is kept:

    - no row of the task has one: a test set and a validation set are cut off;
    - some rows have one, as have those without a label (``test``): the others become ``train``, and no test
      set is cut off (data without a label on ``test`` are reported on ``val``);
    - if no row is ``val`` then, a validation set is cut off the training rows.

    A cut keeps the shares within each class (the ``y`` of the label) as far as possible, and rows of the same
    ``group`` together (see :func:`group_copies`). It depends on the seed and the rows, not on their order.

    Parameters
    ----------
    rows : DataFrame
        With ``image, task, label, split, group``, see `heatcrop.data.readers.Annotations`.
    val_share, test_share : float
        Shares of the task's rows, 0 to below 1, together below 1. For a share above 0 at least one row (or
        group) is cut off, as long as one remains to train on.
    seed : int
    """
    splits = rows["split"].to_numpy(dtype=object, copy=True)
    images, tasks = (rows[column].to_numpy(dtype=object) for column in ("image", "task"))
    for task in sorted(set(tasks)):
        of_task = np.flatnonzero(tasks == task)
        of_task = of_task[np.argsort(images[of_task], kind="stable")]  # independent of the rows' order
        split = splits[of_task]
        none_given = bool((split == "").all())
        split[split == ""] = "train"
        shares = [val_share * float((split != "val").all()), test_share * float(none_given)]
        train = np.flatnonzero(split == "train")
        if any(shares) and len(train):
            train_rows = rows.iloc[of_task[train]]
            groups = connected_groups(train_rows["group"].tolist())
            classes = np.array([label.find("y") for label in train_rows["label"]], dtype=np.int64)
            rng = np.random.default_rng(seed)
            split[train] = NAMES[_cut(groups, classes, (1 - sum(shares), *shares), rng)]
        splits[of_task] = split
    return pd.Series(splits, index=rows.index, dtype=object, name="split")


def assign_folds(letters: NDArray[np.int8], groups: ArrayLike, n_folds: int, seed: int) -> NDArray[np.int64]:
    """Assign a fold to each row, so that a network predicts only rows it was not trained on.

    Where some rows share a group, groups of several rows are divided first; each other row then goes to the
    fold that has the fewest rows of its class, and of several such folds to the smallest.

    Parameters
    ----------
    letters : ndarray of int8, shape (N, C)
        Labels; the folds have about equal shares of each ``y`` class.
    groups : array_like of str, shape (N,)
        Rows of one group are in one fold. An empty text is a group of one row.
    n_folds : int
        At least 2. With fewer groups, each group is a fold; every fold has rows.
    seed : int
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # takes a second to import

    numbers = connected_groups(np.asarray(groups).tolist())
    if int(numbers.max(initial=-1)) < n_folds:
        return numbers
    single = np.bincount(numbers)[numbers] == 1
    # Single rows beside groups are left to `_deal`: StratifiedGroupKFold takes 0.4 ms for each.
    kind, first = (StratifiedKFold, single) if single.all() else (StratifiedGroupKFold, ~single)
    rows, own = np.flatnonzero(first), np.unique(numbers[first], return_inverse=True)[1]
    classes, folds = letters.argmax(axis=1), np.full(len(letters), -1)
    if own.max() < n_folds:
        folds[rows] = own
    else:
        strata = classes[rows]
        if np.bincount(strata).max() < n_folds:
            strata = np.zeros(len(rows), np.int64)  # every class is too small to stratify by
        with warnings.catch_warnings():  # a small class may be absent from some folds
            warnings.filterwarnings("ignore", message="The least populated class")
            splitter = kind(n_folds, shuffle=True, random_state=seed)
            keep = None if kind is StratifiedKFold else own
            for fold, (_, held_out) in enumerate(splitter.split(rows, strata, keep)):
                folds[rows[held_out]] = fold
    _deal(folds, classes, n_folds, np.random.default_rng(seed))
    return _fill_empty(folds, numbers, range(n_folds))  # large groups can leave a fold empty


def connected_groups(groups: Sequence[str], paths: Sequence[str] | None = None) -> NDArray[np.int64]:
    """Number the rows that must stay together, from 0 in order of first appearance.

    Rows are connected by any chain of equal groups ('' is a group of one row) and, with `paths`, of identical
    files.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n, names = len(groups), np.asarray(groups, dtype=object)
    numbers: NDArray[np.int64] = pd.factorize(
        np.where(names == "", n + np.arange(n), pd.factorize(names)[0])
    )[0]
    if paths is None or n == 0:
        return numbers
    # Nodes are groups and file contents; each row is an edge from its group to its content.
    edges = (np.ones(n, np.int8), (numbers, n + identical_groups(paths)))
    components = connected_components(coo_array(edges, shape=(2 * n, 2 * n)), directed=False)[1]
    return np.asarray(pd.factorize(components[numbers])[0], np.int64)


def identical_groups(paths: Sequence[str]) -> NDArray[np.int64]:
    """Number files by content, from 0 in order of first appearance: equal numbers for equal bytes.

    Files are compared by size, then by the last 4 KB, and are read in full only where both are equal. A file
    that cannot be read equals no other.
    """
    sizes = np.empty(len(paths), np.int64)
    for place, path in enumerate(paths):
        try:
            sizes[place] = os.stat(path).st_size
        except (OSError, ValueError):
            sizes[place] = -1 - place
    numbers = pd.factorize(sizes)[0]
    for n_bytes in (4096, None):
        repeated = np.bincount(numbers, minlength=1)[numbers] > 1
        digests = [_digest(paths[i], n_bytes, i) if repeated[i] else b"" for i in range(len(paths))]
        known: dict[tuple[int, bytes], int] = {}
        keys = zip(numbers.tolist(), digests, strict=True)
        numbers = np.array([known.setdefault(key, len(known)) for key in keys], np.int64)
    return numbers


def _digest(path: str, n_bytes: int | None, place: int) -> bytes:
    """Hash a file's last bytes, or all; the place of a file that cannot be read."""
    try:
        with open(path, "rb") as file:
            if n_bytes is not None:
                file.seek(max(0, os.fstat(file.fileno()).st_size - n_bytes))
            data = file.read()
    except OSError:
        data = f"unreadable file {place}".encode()
    return hashlib.blake2b(data, digest_size=16).digest()


def _cut(
    groups: NDArray[np.int64], classes: NDArray[np.int64], shares: tuple[float, ...], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Assign a part (train, val, test) to each row; rows of one group are in one part.

    Large groups are placed first, each where its classes lack most; single rows, by far the most common,
    then fill each class up to its share.
    """
    wanted = np.asarray(shares, dtype=np.float64)
    n_classes = int(classes.max()) + 2  # one more, at -1, for rows whose label is unknown
    present = np.bincount(classes % n_classes, minlength=n_classes)
    lack: NDArray[np.float64] = wanted[:, None] * present  # (parts, classes)
    sizes = np.bincount(groups)
    part = np.zeros(len(groups), np.int64)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(sizes)[:-1])
    shuffled = rng.permutation(len(sizes))
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        if sizes[group] == 1:
            break
        counts = np.bincount(classes[members[group]] % n_classes, minlength=n_classes)
        weights = counts / np.maximum(lack.clip(0).sum(axis=0), 1)
        chosen = int(np.argmax(np.where(wanted > 0, lack @ weights, -np.inf)))
        part[members[group]] = chosen
        lack[chosen] -= counts
    single = shuffled[sizes[shuffled] == 1]
    rows = np.array([members[group][0] for group in single], dtype=np.int64)
    owed = np.zeros(len(wanted) - 1)  # what rounding has taken from val and test in earlier classes
    for class_ in np.unique(classes[rows]):
        of_class = rows[classes[rows] == class_]
        counts = _round(lack[:, class_], len(of_class))
        held_out, lacking = int(counts[1:].sum()), lack[1:, class_].clip(0)
        if held_out:
            exact = held_out * lacking / lacking.sum() + owed
            counts[1:] = _round(exact, held_out)
            owed = exact - counts[1:]
        part[of_class] = np.repeat(np.arange(len(wanted)), counts)
    return _fill_empty(part, groups, np.flatnonzero(wanted).tolist())


def _deal(
    folds: NDArray[np.int64], classes: NDArray[np.int64], n_folds: int, rng: np.random.Generator
) -> None:
    """Place the rows whose fold is -1, in random order, where their class has the fewest rows."""
    placed = folds >= 0
    counts = np.zeros((int(classes.max()) + 1, n_folds), np.int64)
    np.add.at(counts, (classes[placed], folds[placed]), 1)
    of_class, sizes = counts.tolist(), counts.sum(axis=0).tolist()
    for row in rng.permutation(np.flatnonzero(~placed)).tolist():
        there = of_class[classes[row]]
        *_, fold = min(zip(there, sizes, range(n_folds), strict=True))
        folds[row] = fold
        there[fold] += 1
        sizes[fold] += 1


def _round(lack: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Round to integers that sum to `total`, in proportion to what is lacking (largest remainders)."""
    lack = lack.clip(0)
    exact = lack / lack.sum() * total if lack.sum() > 0 else np.eye(len(lack))[0] * total
    counts: NDArray[np.int64] = np.floor(exact + 1e-9).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return counts


def _fill_empty(
    part: NDArray[np.int64], groups: NDArray[np.int64], wanted: Sequence[int]
) -> NDArray[np.int64]:
    """Give each empty part the smallest group of the part that has most groups."""
    sizes = np.bincount(groups)
    for empty in wanted:
        if not (part == empty).any():
            owned = [np.unique(groups[part == other]) for other in wanted]
            spare = max(owned, key=len)
            if len(spare) > 1:
                part[groups == spare[np.argmin(sizes[spare])]] = empty
    return part
