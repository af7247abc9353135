from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatcrop.data.splits import _cut, assign_folds, assign_splits, identical_groups, leakage


def table(labels, split="", group="", task="beak", folder="/nowhere"):
    """Rows whose pictures do not exist, so that none is identical to another."""
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


def counts(rows, splits):
    return Counter(zip(rows["label"], splits, strict=True))


def test_a_cut_is_stratified_by_the_yes_class():
    rows = table(HUNDRED)
    assert counts(rows, assign_splits(rows, 0.1, 0.2, seed=0)) == {
        ("ynn", "train"): 42,
        ("ynn", "val"): 6,
        ("ynn", "test"): 12,
        ("nyn", "train"): 21,
        ("nyn", "val"): 3,
        ("nyn", "test"): 6,
        ("nny", "train"): 7,
        ("nny", "val"): 1,
        ("nny", "test"): 2,
    }


def test_the_seed_decides_and_the_order_of_rows_does_not():
    rows = table(HUNDRED, group=[f"g{index % 40}" if index % 3 else "" for index in range(100)])
    split = assign_splits(rows, 0.1, 0.2, seed=3)
    for order in (np.random.default_rng(0).permutation(100), np.arange(100)[::-1]):
        shuffled = rows.iloc[order]
        pd.testing.assert_series_equal(assign_splits(shuffled, 0.1, 0.2, seed=3).sort_index(), split)
    assert (assign_splits(rows, 0.1, 0.2, seed=4) != split).any()


def test_tasks_are_cut_apart_from_each_other():
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
def test_given_splits_are_used(given_splits, expected):
    rows = table(["yn"] * len(given_splits), split=given_splits)
    got = assign_splits(rows, 0.1, 0.2, seed=0)
    assert Counter(got) == expected
    kept = rows["split"] != ""
    if "val" in given_splits:
        assert (got[kept] == rows["split"][kept]).all()


def test_shares_of_zero_and_unlabelled_rows():
    rows = table(["yn"] * 5 + [""] * 5)
    assert Counter(assign_splits(rows, 0, 0, seed=0)) == {"train": 10}
    assert Counter(assign_splits(rows, 0.2, 0, seed=0)) == {"train": 8, "val": 2}


@pytest.mark.parametrize(
    "n, expected", [(1, {"train": 1}), (2, {"train": 1, "val": 1}), (3, {"train": 1, "val": 1, "test": 1})]
)
def test_few_rows_give_each_split_one_while_train_keeps_one(n, expected):
    assert Counter(assign_splits(table(["yn"] * n), 0.05, 0.05, seed=0)) == expected


def test_shares_out_of_range_are_refused():
    for shares in [(-0.1, 0.1), (0.5, 0.5), (1, 0)]:
        with pytest.raises(ValueError, match="shares must be"):
            assign_splits(table(["yn"] * 4), *shares, seed=0)


def test_no_rows():
    assert len(assign_splits(table([]), 0.1, 0.1, seed=0)) == 0
    assert len(leakage(table([]))) == 0


def test_groups_and_identical_pictures_stay_on_one_side(tmp_path):
    rows = table(["yn", "ny"] * 20, group=[f"g{index // 2}" if index < 20 else "" for index in range(40)])
    rows["path"] = [str(tmp_path / image) for image in rows["image"]]
    for index, path in enumerate(rows["path"]):
        content = index % 5 if index >= 20 else index  # rows 20 to 39 hold five pictures four times each
        with open(path, "wb") as file:
            file.write(b"%d" % (1000 + content))
    for seed in range(5):
        split = assign_splits(rows, 0.2, 0.2, seed=seed)
        assert set(split) == {"train", "val", "test"}
        for places in (range(0, 20, 2), range(20, 25)):
            for place in places:
                same = [place, place + 1] if place < 20 else range(place, 40, 5)
                assert len(set(split.iloc[list(same)])) == 1
        assert len(leakage(rows.assign(split=split)).query("kind == 'split'")) == 0


def test_a_chain_of_group_and_picture_stays_together(tmp_path):
    # a and b share a group, b and c hold the same bytes, c and d share another group
    rows = table(["yn"] * 12, group=["g", "g", "h", "h", *[""] * 8])
    rows["path"] = [str(tmp_path / image) for image in rows["image"]]
    for index, path in enumerate(rows["path"]):
        with open(path, "w") as file:
            file.write("same" if index in (1, 2) else f"own {index}")
    for seed in range(8):
        assert len(set(assign_splits(rows, 0.3, 0.3, seed=seed)[:4])) == 1


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=40),
    st.sampled_from([(0.9, 0.1, 0.0), (0.7, 0.1, 0.2), (0.34, 0.33, 0.33)]),
    st.integers(0, 3),
)
def test_any_cut_keeps_units_and_fills_each_part(drawn, shares, seed):
    classes = np.array([class_ for class_, _ in drawn])
    units = np.unique([unit for _, unit in drawn], return_inverse=True)[1]
    part = _cut(units, classes, shares, np.random.default_rng(seed))
    assert all(len(set(part[units == unit])) == 1 for unit in set(units))
    wanted = [index for index, share in enumerate(shares) if share > 0]
    assert set(part) <= set(wanted)
    assert len(set(part)) == min(len(wanted), len(set(units)))


# Folds


def one_hot(classes, n_classes):
    return (np.eye(n_classes, dtype=np.int8) * 2)[classes]


def test_folds_are_stratified_and_keep_groups():
    classes = np.repeat([0, 1], [60, 40])
    folds = assign_folds(one_hot(classes, 2), None, 4, seed=0)
    assert folds.dtype == np.int64
    assert np.bincount(folds[classes == 0]).tolist() == [15] * 4
    assert np.bincount(folds[classes == 1]).tolist() == [10] * 4

    groups = np.array([f"g{index // 4}" for index in range(100)])
    folds = assign_folds(one_hot(classes, 2), groups, 4, seed=0)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    assert np.bincount(folds).min() >= 20


def test_empty_groups_are_groups_of_one():
    folds = assign_folds(one_hot(np.zeros(30, int), 2), [""] * 30, 3, seed=0)
    assert np.bincount(folds).tolist() == [10, 10, 10]


@pytest.mark.parametrize("classes", [[0] * 20 + [1] * 2 + [2], list(range(7)), [0, 0, 0, 0, 1, 1]])
def test_small_classes_are_no_error(classes, recwarn):
    folds = assign_folds(one_hot(classes, 8), None, 5, seed=0)
    assert set(folds) == set(range(5)) and len(recwarn) == 0


def test_fewer_rows_or_groups_than_folds():
    assert assign_folds(one_hot([0, 1, 0], 2), None, 5, seed=0).tolist() == [0, 1, 2]
    assert assign_folds(one_hot([0, 1, 0], 2), ["a", "a", "b"], 5, seed=0).tolist() == [0, 0, 1]
    assert assign_folds(np.zeros((0, 2), np.int8), None, 5, seed=0).tolist() == []


def test_impossible_folds_are_refused():
    for letters, groups, n_folds, reason in [
        (one_hot([0, 1], 2), None, 1, "at least 2"),
        (np.zeros(3, np.int8), None, 2, r"\(N, C\)"),
        (one_hot([0, 1], 2), ["a"], 2, "1 groups for 2 rows"),
    ]:
        with pytest.raises(ValueError, match=reason):
            assign_folds(letters, groups, n_folds, seed=0)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", *"abcdefgh"])), min_size=1, max_size=40),
    st.integers(2, 5),
)
def test_any_folds_are_all_used_and_keep_groups(drawn, n_folds):
    classes, groups = [class_ for class_, _ in drawn], np.array([group for _, group in drawn])
    folds = assign_folds(one_hot(classes, 4), groups, n_folds, seed=1)
    n_units = len(set(groups) - {""}) + int((groups == "").sum())
    assert set(folds) == set(range(min(n_folds, n_units)))
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups) - {""})


# Identical pictures


def test_identical_groups(tmp_path):
    long = b"x" * 10_000
    contents = [b"one", b"two", b"one", b"four", long + b"1", b"0" + long[1:] + b"1", long + b"1", None, None]
    paths = []
    for index, content in enumerate(contents):
        paths.append(str(tmp_path / f"{index}"))
        if content is not None:
            (tmp_path / f"{index}").write_bytes(content)
    # The sixth has the size and the last 4 KB of the fifth, but not its first byte.
    assert identical_groups(paths).tolist() == [0, 1, 0, 2, 3, 4, 3, 5, 6]
    assert identical_groups([]).tolist() == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([b"", b"a", b"b", b"aa", b"x" * 5000, b"y" + b"x" * 4999]), max_size=10))
def test_equal_numbers_mean_equal_bytes(tmp_path_factory, contents):
    folder = tmp_path_factory.getbasetemp() / "bytes"
    folder.mkdir(exist_ok=True)
    for index, content in enumerate(contents):
        (folder / f"{index}").write_bytes(content)
    ids = identical_groups([str(folder / f"{index}") for index in range(len(contents))])
    assert ids.tolist() == [list(dict.fromkeys(contents)).index(content) for content in contents]


def test_leakage_between_splits_and_labels(tmp_path):
    contents = ["A", "B", "A", "A", "B", "C"]
    rows = table(["yn", "yn", "ny", "yn", "", "yn"], split=["train", "train", "train", "val", "test", "val"])
    rows["path"] = [str(tmp_path / image) for image in rows["image"]]
    for path, content in zip(rows["path"], contents, strict=True):
        with open(path, "w") as file:
            file.write(content)
    other = rows.iloc[:1].assign(task="wing", split="test")  # another task: its networks never meet these
    found = leakage(pd.concat([rows, other]))
    assert found[["kind", "image", "same_as"]].values.tolist() == [
        ["label", "0002.jpg", "0000.jpg"],
        ["split", "0003.jpg", "0000.jpg"],
        ["split", "0004.jpg", "0001.jpg"],
    ]
    assert found.iloc[0][["label", "same_label"]].tolist() == ["ny", "yn"]
    assert found.iloc[1][["split", "same_split"]].tolist() == ["val", "train"]
