import itertools
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatcrop.metrics.score import (
    TaskScore,
    accuracy,
    average_precision,
    basic_precision,
    mean_score,
    score_task,
    score_tasks,
)

CODE = {"y": 2, "m": 1, "n": 0}


def case(*rows):
    """Rows of (confidence, letter at the predicted class) as arrays of two classes.

    Class 0 is always predicted: class 1 has a lower number. Its letter does not matter to the score.
    """
    probabilities = np.array([[confidence, confidence - 1] for confidence, _ in rows], float)
    letters = np.array([[CODE[letter], 2 if letter != "y" else 0] for _, letter in rows], np.int8)
    return probabilities, letters


def by_all_orders(rows):
    """AP by its definition: the exact mean over every order of the rows that tied rows allow."""
    scores = []
    for order in itertools.permutations(rows):
        if any(a[0] < b[0] for a, b in itertools.pairwise(order)):
            continue
        correct = counted = 0
        precisions = []
        for _, letter in order:
            counted += letter != "m"
            correct += letter == "y"
            if counted:
                precisions.append(Fraction(correct, counted))
        scores.append(sum(precisions, Fraction(0)) / max(len(precisions), 1))
    return sum(scores, Fraction(0)) / len(scores)


HAND_WORKED = [
    # one row, right: P = 1
    ([(0.9, "y")], 1.0),
    # one row, wrong: P = 0
    ([(0.9, "n")], 0.0),
    # right then wrong: (1/1 + 1/2) / 2
    ([(0.9, "y"), (0.8, "n")], 3 / 4),
    # wrong then right: (0/1 + 1/2) / 2; the ranking counts, not only the number of hits
    ([(0.9, "n"), (0.8, "y")], 1 / 4),
    # y n y: (1 + 1/2 + 2/3) / 3 = 13/18; the order of the rows in the file does not matter
    ([(0.7, "y"), (0.9, "y"), (0.8, "n")], 13 / 18),
    # y m n: P is 1, again 1 (the m row adds nothing, but the blocked count moves on), 1/2: 5/6
    ([(0.9, "y"), (0.8, "m"), (0.7, "n")], 5 / 6),
    # m y n: the first k has no P and is left out: (1 + 1/2) / 2
    ([(0.9, "m"), (0.8, "y"), (0.7, "n")], 3 / 4),
    # n m y m: 0, 0, 1/2, 1/2: mean 1/4
    ([(0.9, "n"), (0.8, "m"), (0.7, "y"), (0.6, "m")], 1 / 4),
    # a tie of y and n: the mean of 3/4 and 1/4
    ([(0.5, "y"), (0.5, "n")], 1 / 2),
    # a tie of y and m: "y m" gives (1 + 1) / 2, "m y" gives 1 / 1: mean 1
    ([(0.5, "y"), (0.5, "m")], 1.0),
    # y, then a tie of n and m: "y n m": (1 + 1/2 + 1/2) / 3 = 2/3; "y m n": (1 + 1 + 1/2) / 3 = 5/6; mean 3/4
    ([(0.9, "y"), (0.5, "n"), (0.5, "m")], 3 / 4),
    # a tie of m and n, then y: "m n y": (0 + 1/2) / 2 = 1/4; "n m y": (0 + 0 + 1/2) / 3 = 1/6; mean 5/24
    ([(0.9, "m"), (0.9, "n"), (0.5, "y")], 5 / 24),
    # m, then a tie of y and n: the first has no P, and then the mean of 3/4 and 1/4
    ([(0.9, "m"), (0.5, "y"), (0.5, "n")], 1 / 2),
    # a tie of y, y, n: "yyn": (1 + 1 + 2/3) / 3 = 8/9; "yny": (1 + 1/2 + 2/3) / 3 = 13/18;
    # "nyy": (0 + 1/2 + 2/3) / 3 = 7/18; mean (16 + 13 + 7) / 54 = 2/3
    ([(0.5, "y"), (0.5, "y"), (0.5, "n")], 2 / 3),
    # nothing but m: no prediction was right
    ([(0.9, "m"), (0.8, "m")], 0.0),
]


@pytest.mark.parametrize("rows, expected", HAND_WORKED)
def test_hand_worked(rows, expected):
    assert average_precision(*case(*rows)) == pytest.approx(expected, abs=1e-12)
    assert by_all_orders(rows) == pytest.approx(expected, abs=1e-12)


outcomes = st.lists(
    st.tuples(st.sampled_from([0.25, 0.5, 0.75]), st.sampled_from("ymn")), min_size=1, max_size=7
)


@settings(max_examples=120, deadline=None)
@given(outcomes)
def test_ties_equal_the_mean_over_all_orders(rows):
    assert average_precision(*case(*rows)) == pytest.approx(float(by_all_orders(rows)), abs=1e-12)


@pytest.mark.parametrize("letters", ["yyymmmn", "ymmmmm", "nmmmmy", "yynnmm", "ynnnnnn", "mmmmmmn"])
def test_one_tie_of_all_rows(letters):
    rows = [(0.5, letter) for letter in letters]
    assert average_precision(*case(*rows)) == pytest.approx(float(by_all_orders(rows)), abs=1e-12)


@given(outcomes, st.randoms())
def test_the_order_of_the_rows_does_not_matter(rows, random):
    before = average_precision(*case(*rows))
    random.shuffle(rows)
    assert average_precision(*case(*rows)) == pytest.approx(before, abs=1e-12)


@given(outcomes)
def test_only_the_order_of_confidences_matters_and_ap_is_a_share(rows):
    ap = average_precision(*case(*rows))
    assert -1e-12 <= ap <= 1 + 1e-12
    assert average_precision(*case(*((confidence**3, letter) for confidence, letter in rows))) == ap


@given(st.lists(st.sampled_from("ymn"), min_size=1, max_size=30))
def test_without_ties_it_is_the_plain_mean(letters):
    rows = [(1 - index / 100, letter) for index, letter in enumerate(letters)]
    kept, precisions = "", []
    for letter in letters:
        kept += letter
        if kept.count("y") + kept.count("n"):
            precisions.append(kept.count("y") / (kept.count("y") + kept.count("n")))
    expected = np.mean(precisions) if precisions else 0.0
    assert average_precision(*case(*rows)) == pytest.approx(expected, abs=1e-12)


def test_a_tie_is_what_random_orders_give_in_the_mean():
    rng = np.random.default_rng(0)
    rows = [
        (value, letter)
        for value, letter in zip(rng.integers(1, 4, 300), rng.choice([*"ymn"], 300), strict=True)
    ]
    probabilities, letters = case(*rows)
    jittered = [
        average_precision(probabilities + rng.random((300, 1)) * [0.5, 0], letters) for _ in range(400)
    ]
    error = np.std(jittered) / np.sqrt(len(jittered))
    assert abs(average_precision(probabilities, letters) - np.mean(jittered)) < 4 * error


@pytest.mark.parametrize("kind", ["no ties", "all tied", "large ties"])
def test_a_hundred_thousand_rows_are_scored_at_once(kind):
    rng = np.random.default_rng(0)
    n = 100_000
    letters = (np.eye(10, dtype=np.int8) * 2)[rng.integers(0, 10, n)]
    letters[(rng.random(letters.shape) < 0.3) & (letters == 0)] = 1
    values = {
        "no ties": rng.random((n, 10)),
        "all tied": np.ones((n, 10)),
        "large ties": rng.integers(0, 9, (n, 10)),
    }
    start = time.perf_counter()
    ap = average_precision(values[kind], letters)
    assert time.perf_counter() - start < 2  # 0.03 s at rest
    assert ap == pytest.approx(0.1 / 0.73, abs=0.02)  # a tenth is right, 0.27 of the rows do not count


# The other figures


def test_basic_precision_and_accuracy():
    # y n m y at the predicted class: two right of the three counted, and of all four
    arrays = case((0.9, "y"), (0.8, "n"), (0.7, "m"), (0.6, "y"))
    assert basic_precision(*arrays) == pytest.approx(2 / 3)
    assert accuracy(*arrays) == 0.5
    # the ranks: 1, 1/2, 1/2, 2/3
    assert score_task(*arrays) == TaskScore(pytest.approx((1 + 1 / 2 + 1 / 2 + 2 / 3) / 4), 2 / 3, 0.5, 4)
    only_maybe = case((0.9, "m"))
    assert basic_precision(*only_maybe) == accuracy(*only_maybe) == 0.0


def test_a_tie_within_a_row_goes_to_the_lowest_class():
    assert accuracy([[0.5, 0.5], [0.2, 0.2]], [[2, 0], [0, 2]]) == 0.5


def test_the_mean_over_tasks_gives_each_task_equal_weight():
    right, wrong = case((0.9, "y")), case(*[(0.9, "n")] * 9)
    scores = score_tasks({"a": right[0], "b": wrong[0], "extra": wrong[0]}, {"a": right[1], "b": wrong[1]})
    assert list(scores) == ["a", "b"]
    assert mean_score(scores) == TaskScore(0.5, 0.5, 0.5, 10)


@pytest.mark.parametrize(
    "probabilities, letters, reason",
    [
        ([[0.5, np.nan]], [[2, 0]], "row 0 are not finite"),
        ([[0.5, 0.5], [np.inf, 0]], [[2, 0], [2, 0]], "row 1 are not finite"),
        ([[0.5, 0.5]], [[2, 0, 0]], r"\(1, 2\) and letters \(1, 3\)"),
        ([0.5, 0.5], [2, 0], r"must both be \(N, C\)"),
        (np.zeros((0, 3)), np.zeros((0, 3), np.int8), "nothing to score"),
        ([[0.5, 0.5]], [[3, 0]], "codes"),
    ],
)
def test_what_cannot_be_scored_is_refused(probabilities, letters, reason):
    for score in (average_precision, basic_precision, accuracy):
        with pytest.raises(ValueError, match=reason):
            score(probabilities, letters)


def test_missing_or_ill_fitting_tasks_are_named():
    with pytest.raises(ValueError, match="no probabilities for neck"):
        score_tasks({}, {"neck": [[2, 0]]})
    with pytest.raises(ValueError, match="neck: .* not finite"):
        score_tasks({"neck": [[np.nan, 0]]}, {"neck": [[2, 0]]})
    with pytest.raises(ValueError, match="no task"):
        mean_score({})
