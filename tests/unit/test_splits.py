from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from heatcrop.data.splits import (
    _cut,
    assign_folds,
    assign_splits,
    group_copies,
    identical_groups,
)


def table(labels, split="", group="", task="beak", folder="/nowhere"):
    """Make rows whose images do not exist, so that all differ."""
    n = len(labels)
    images = [f"{index:04d}.jpg" for index in range(n)]
    return pd.DataFrame(
        {
            "image": images,
            "path": [f"{folder}/{image}" for image in images],
            "task": task,
            "label": labels,
            "split": [split] * n if isinstance(split, str) else split,
            "group": [group] * n if isinstance(group, str) else group,
        }
    )


HUNDRED = ["ynn"] * 60 + ["nyn"] * 30 + ["nny"] * 10


SOME_GROUPED = table(HUNDRED, group=[f"g{index % 40}" if index % 3 else "" for index in range(100)])


def test_a_cut_is_stratified_by_the_y_class():
    rows = table(HUNDRED)
    counts = pd.crosstab(rows["label"], assign_splits(rows, 0.1, 0.2, seed=0).tolist())
    assert counts.loc[["ynn", "nyn", "nny"], ["train", "val", "test"]].values.tolist() == [
        [42, 6, 12],
        [21, 3, 6],
        [7, 1, 2],
    ]


@pytest.mark.parametrize(
    ("per_class", "shares", "expected"),
    [
        (4, (0.15, 0.15), {"train": 60, "val": 10, "test": 10}),  # 0.6 and 0.6 of each class's 4
        (10, (0.15, 0.15), {"train": 140, "val": 30, "test": 30}),  # 1.5 and 1.5
        (3, (0.1, 0.2), {"train": 40, "val": 7, "test": 13}),  # 0.3 and 0.6, of which 1 is held out
        (1, (0.15, 0.15), {"train": 18, "val": 1, "test": 1}),
    ],
)
def test_of_many_small_classes_validation_and_test_get_their_shares(per_class, shares, expected):
    labels = ["n" * (i % 20) + "y" + "n" * (19 - i % 20) for i in range(20 * per_class)]
    assert Counter(assign_splits(table(labels), *shares, seed=0)) == expected


@pytest.mark.parametrize("order", [np.random.default_rng(0).permutation(100), np.arange(100)[::-1]])
def test_splits_do_not_depend_on_the_order_of_rows(order):
    shuffled = assign_splits(SOME_GROUPED.iloc[order], 0.1, 0.2, seed=3)
    pd.testing.assert_series_equal(shuffled.sort_index(), assign_splits(SOME_GROUPED, 0.1, 0.2, seed=3))


def test_splits_depend_on_the_seed():
    one, other = (assign_splits(SOME_GROUPED, 0.1, 0.2, seed=seed) for seed in (3, 4))
    assert (one != other).any()


def test_the_splits_of_a_task_do_not_depend_on_other_tasks():
    both = pd.concat([table(HUNDRED), table(HUNDRED[::-1], task="wing")], ignore_index=True)
    alone = assign_splits(both[both["task"] == "wing"], 0.1, 0.2, seed=1)
    pd.testing.assert_series_equal(assign_splits(both, 0.1, 0.2, seed=1)[both["task"] == "wing"], alone)


@pytest.mark.parametrize(
    "given_splits, expected",
    [
        # train and val given: kept; nothing is cut, and the row without a split is for training
        (["train"] * 9 + ["val", ""], {"train": 10, "val": 1}),
        # a test set is given: only a validation set is cut off
        (["test"] * 10 + [""] * 10, {"test": 10, "train": 9, "val": 1}),
        # all three are given
        (["test"] * 3 + ["val"] * 3 + ["train"] * 4, {"test": 3, "val": 3, "train": 4}),
        # training rows alone are given: no test set is invented
        (["train"] * 20, {"train": 18, "val": 2}),
        # a validation set alone is given
        (["val"] * 5 + [""] * 15, {"val": 5, "train": 15}),
        # test rows only: nothing to cut
        (["test"] * 5, {"test": 5}),
        # nothing is given
        ([""] * 20, {"train": 14, "val": 2, "test": 4}),
    ],
)
def test_splits_of_the_data_are_completed(given_splits, expected):
    rows = table(["yn"] * len(given_splits), split=given_splits)
    assert Counter(assign_splits(rows, 0.1, 0.2, seed=0)) == expected


def test_splits_of_the_data_are_kept():
    given_splits = ["train"] * 9 + ["val", "test"]
    rows = table(["yn"] * 11, split=given_splits)
    assert assign_splits(rows, 0.1, 0.2, seed=0).tolist() == given_splits


@pytest.mark.parametrize("val_share, expected", [(0, {"train": 10}), (0.2, {"train": 8, "val": 2})])
def test_a_share_of_zero_cuts_nothing_off(val_share, expected):
    rows = table(["yn"] * 5 + [""] * 5)
    assert Counter(assign_splits(rows, val_share, 0, seed=0)) == expected


@pytest.mark.parametrize(
    "n, expected", [(1, {"train": 1}), (2, {"train": 1, "val": 1}), (3, {"train": 1, "val": 1, "test": 1})]
)
def test_few_rows_fill_each_split_as_long_as_train_keeps_one(n, expected):
    assert Counter(assign_splits(table(["yn"] * n), 0.05, 0.05, seed=0)) == expected


def test_no_rows_have_no_splits():
    assert len(assign_splits(table([]), 0.1, 0.1, seed=0)) == 0


@pytest.fixture
def groups_and_copies(tmp_path):
    """Make rows of which 0 to 19 are in pairs, and 20 to 39 hold five images four times each."""
    rows = table(["yn", "ny"] * 20, group=[f"g{index // 2}" if index < 20 else "" for index in range(40)])
    rows["path"] = [str(tmp_path / image) for image in rows["image"]]
    for index, path in enumerate(rows["path"]):
        Path(path).write_bytes(b"%d" % (1000 + (index % 5 if index >= 20 else index)))
    return rows.assign(group=group_copies(rows))


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_in_one_split(groups_and_copies, seed):
    split = assign_splits(groups_and_copies, 0.2, 0.2, seed=seed).to_numpy()
    assert (split[0:20:2] == split[1:20:2]).all()


@pytest.mark.parametrize("seed", range(5))
def test_identical_images_stay_in_one_split(groups_and_copies, seed):
    split = assign_splits(groups_and_copies, 0.2, 0.2, seed=seed).to_numpy()
    assert (split[20:].reshape(4, 5) == split[20:25]).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_chain_of_groups_and_identical_images_stays_together(tmp_path, seed):
    # a and b share a group, b and c hold the same bytes, c and d share another group
    rows = table(["yn"] * 12, group=["g", "g", "h", "h", *[""] * 8])
    rows["path"] = [str(tmp_path / image) for image in rows["image"]]
    for index, path in enumerate(rows["path"]):
        Path(path).write_text("same" if index in (1, 2) else f"own {index}")
    rows["group"] = group_copies(rows)
    assert len(set(assign_splits(rows, 0.3, 0.3, seed=seed)[:4])) == 1


@pytest.mark.parametrize("seed", range(5))
def test_identical_images_stay_in_one_fold(groups_and_copies, seed):
    letters = np.eye(2, dtype=np.int8)[np.arange(40) % 2] * 2
    folds = assign_folds(letters, groups_and_copies["group"], 3, seed)
    assert (folds[20:].reshape(4, 5) == folds[20:25]).all()


@pytest.fixture
def copies(tmp_path):
    """Make six rows: the first and the last three hold the same bytes."""
    rows = table(["yn"] * 6)
    rows["path"] = [str(tmp_path / image) for image in rows["image"]]
    for index, path in enumerate(rows["path"]):
        Path(path).write_text("same" if index not in (1, 2) else f"own{index}")
    return rows


@pytest.mark.parametrize(
    ("splits", "groups", "expected"),
    [
        ([""] * 6, [""] * 6, ["c", "", "", "c", "c", "c"]),
        ([""] * 6, ["", "g", "g", "", "g", ""], ["g"] * 6),
        ([""] * 6, ["h", "g", "g", "", "g", ""], ["h"] * 6),
        # an own split of the data divides them; rows without a split are for training
        (["train", "", "", "", "val", "val"], [""] * 6, ["c", "", "", "c", "v", "v"]),
        (["train"] + ["test"] * 5, [""] * 6, [""] * 6),
    ],
)
def test_identical_images_of_a_split_become_one_group(copies, splits, groups, expected):
    names = {"c": "copies of 0000.jpg", "v": "copies of 0004.jpg"}
    found = group_copies(copies.assign(split=splits, group=groups))
    assert found.tolist() == [names.get(name, name) for name in expected]


def test_groups_of_copies_do_not_depend_on_the_order_of_rows(copies):
    pd.testing.assert_series_equal(group_copies(copies[::-1]).sort_index(), group_copies(copies))


def test_identical_images_of_two_tasks_are_not_grouped(copies):
    tasks = ["beak", "beak", "beak", "wing", "tail", "foot"]
    assert group_copies(copies.assign(task=tasks)).tolist() == [""] * 6


def test_no_rows_have_no_groups():
    assert len(group_copies(table([]))) == 0


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=40),
    st.sampled_from([(0.9, 0.1, 0.0), (0.7, 0.1, 0.2), (0.34, 0.33, 0.33)]),
    st.integers(0, 3),
)
def test_any_cut_keeps_groups_and_fills_each_part(drawn, shares, seed):
    classes = np.array([class_ for class_, _ in drawn])
    groups = np.unique([group for _, group in drawn], return_inverse=True)[1]
    part = _cut(groups, classes, shares, np.random.default_rng(seed))
    assert all(len(set(part[groups == group])) == 1 for group in set(groups))
    wanted = [index for index, share in enumerate(shares) if share > 0]
    assert set(part) <= set(wanted)
    assert len(set(part)) == min(len(wanted), len(set(groups)))


# Folds


def one_hot(classes, n_classes):
    return (np.eye(n_classes, dtype=np.int8) * 2)[classes]


SIXTY_FORTY = np.repeat([0, 1], [60, 40])


@pytest.mark.parametrize("class_, n", [(0, 15), (1, 10)])
def test_folds_are_stratified(class_, n):
    folds = assign_folds(one_hot(SIXTY_FORTY, 2), [""] * len(SIXTY_FORTY), 4, seed=0)
    assert np.bincount(folds[class_ == SIXTY_FORTY]).tolist() == [n] * 4


def test_folds_with_groups_have_about_equal_sizes():
    groups = np.array([f"g{index // 4}" for index in range(100)])
    folds = assign_folds(one_hot(SIXTY_FORTY, 2), groups, 4, seed=0)
    assert np.bincount(folds).min() >= 20


def test_rows_without_a_group_are_groups_of_one():
    folds = assign_folds(one_hot(np.zeros(30, int), 2), [""] * 30, 3, seed=0)
    assert np.bincount(folds).tolist() == [10, 10, 10]


@pytest.mark.parametrize("classes", [[0] * 20 + [1] * 2 + [2], list(range(7)), [0, 0, 0, 0, 1, 1]])
def test_small_classes_give_folds_without_a_warning(classes, recwarn):
    assert set(assign_folds(one_hot(classes, 8), [""] * len(classes), 5, seed=0)) == set(range(5))
    assert len(recwarn) == 0


@pytest.mark.parametrize(
    "classes, groups, expected",
    [([0, 1, 0], ["", "", ""], [0, 1, 2]), ([0, 1, 0], ["a", "a", "b"], [0, 0, 1]), ([], [], [])],
)
def test_each_group_is_a_fold_when_there_are_few(classes, groups, expected):
    letters = one_hot(np.array(classes, int), 2)
    assert assign_folds(letters, groups, 5, seed=0).tolist() == expected


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", *"abcdefgh"])), min_size=1, max_size=40),
    st.integers(2, 5),
)
def test_any_folds_are_all_used_and_keep_groups_together(drawn, n_folds):
    classes, groups = [class_ for class_, _ in drawn], np.array([group for _, group in drawn])
    folds = assign_folds(one_hot(classes, 4), groups, n_folds, seed=1)
    n_groups = len(set(groups) - {""}) + int((groups == "").sum())
    assert set(folds) == set(range(min(n_folds, n_groups)))
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups) - {""})


def test_rows_without_a_group_even_out_a_large_group():
    classes = np.arange(200) % 2
    groups = ["g" if index < 40 else "" for index in range(200)]
    folds = assign_folds(one_hot(classes, 2), groups, 4, seed=0)
    assert np.bincount(2 * folds + classes).tolist() == [25] * 8


SIX_PAIRS = [f"g{index // 2}" for index in range(12)]


@pytest.mark.parametrize("n_single", [0, 500])
def test_only_rows_that_share_a_group_are_divided_by_groups(monkeypatch, n_single):
    divided = []
    split = StratifiedGroupKFold.split

    def record(self, rows, classes, groups):
        divided.append(len(rows))
        return split(self, rows, classes, groups)

    monkeypatch.setattr(StratifiedGroupKFold, "split", record)
    classes = np.arange(12 + n_single) % 2
    assign_folds(one_hot(classes, 2), SIX_PAIRS + [""] * n_single, 4, seed=0)
    assert divided == [12]


@pytest.mark.parametrize(
    ("kind", "groups"), [(StratifiedKFold, [""] * 12), (StratifiedGroupKFold, SIX_PAIRS)], ids=["none", "all"]
)
def test_folds_where_no_rows_or_all_share_a_group_are_those_of_scikit_learn(kind, groups):
    classes = np.array([0, 1, 1, 0, 1, 1] * 2)
    splitter = kind(4, shuffle=True, random_state=7)
    numbers = np.unique(groups, return_inverse=True)[1] if groups == SIX_PAIRS else None
    expected = np.zeros(12, int)
    for fold, (_, held_out) in enumerate(splitter.split(classes, classes, numbers)):
        expected[held_out] = fold
    assert assign_folds(one_hot(classes, 2), groups, 4, seed=7).tolist() == expected.tolist()


# Identical images


def test_identical_groups(tmp_path):
    long = b"x" * 10_000
    # The sixth has the size and the last 4 KB of the fifth, but not its first byte; the last two are missing.
    contents = [b"one", b"two", b"one", b"four", long + b"1", b"0" + long[1:] + b"1", long + b"1"]
    for index, content in enumerate(contents):
        (tmp_path / f"{index}").write_bytes(content)
    paths = [str(tmp_path / f"{index}") for index in range(9)]
    assert identical_groups(paths).tolist() == [0, 1, 0, 2, 3, 4, 3, 5, 6]


def test_no_files_have_no_groups():
    assert identical_groups([]).tolist() == []


@given(st.lists(st.sampled_from([b"", b"a", b"b", b"aa", b"x" * 5000, b"y" + b"x" * 4999]), max_size=10))
def test_equal_numbers_mean_equal_bytes(tmp_path_factory, contents):
    folder = tmp_path_factory.getbasetemp() / "bytes"
    folder.mkdir(exist_ok=True)
    for index, content in enumerate(contents):
        (folder / f"{index}").write_bytes(content)
    ids = identical_groups([str(folder / f"{index}") for index in range(len(contents))])
    assert ids.tolist() == [list(dict.fromkeys(contents)).index(content) for content in contents]
