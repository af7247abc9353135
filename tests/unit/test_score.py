"""The competition's average precision against its definition, and the other figures."""

import itertools
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heatcrop.metrics.score import average_precision, average_precisions, scores

CODE = {"y": 2, "m": 1, "n": 0}


def case(*rows):
    """Make arrays of two classes from rows of (confidence, letter at the predicted class).

    Class 0 is always predicted. The letter of class 1 does not affect the score.
    """
    probabilities = np.array([[confidence, confidence - 1] for confidence, _ in rows], float)
    letters = np.array([[CODE[letter], 2 if letter != "y" else 0] for _, letter in rows], np.int8)
    return probabilities, letters


def by_all_orders(rows):
    """Compute AP by its definition: the exact mean over every order of tied rows."""
    scores = []
    for order in set(itertools.permutations(rows)):
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
    return float(sum(scores, Fraction(0)) / len(scores))


HAND_CALCULATED = [
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


@pytest.mark.parametrize("rows, expected", HAND_CALCULATED)
def test_ap_equals_hand_calculated_values(rows, expected):
    assert average_precision(*case(*rows)) == pytest.approx(expected, abs=1e-12)


@given(
    st.lists(st.tuples(st.sampled_from([0.25, 0.5, 0.75]), st.sampled_from("ymn")), min_size=1, max_size=7)
)
@example([(0.5, letter) for letter in "yyymmmn"])
@example([(0.5, letter) for letter in "nmmmmy"])
def test_ap_with_ties_is_the_mean_over_all_orders(rows):
    assert average_precision(*case(*rows)) == pytest.approx(by_all_orders(rows), abs=1e-12)


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_lists_are_scored_as_each_alone(length, n_lists, seed):
    rng = np.random.default_rng(seed)
    confidence = rng.choice([0.25, 0.5, 0.75], (n_lists, length))
    outcome = rng.integers(0, 3, (n_lists, length), np.int8)
    found = average_precisions(confidence, outcome)
    alone = [average_precisions(a[None], b[None])[0] for a, b in zip(confidence, outcome, strict=True)]
    np.testing.assert_allclose(found, alone, rtol=0, atol=1e-12)


@given(st.text("ymn", min_size=1, max_size=30))
def test_ap_without_ties_is_the_plain_mean(letters):
    firsts = [letters[:n].replace("m", "") for n in range(1, len(letters) + 1)]
    precisions = [first.count("y") / len(first) for first in firsts if first]
    rows = [(1 - index / 100, letter) for index, letter in enumerate(letters)]
    assert average_precision(*case(*rows)) == pytest.approx(np.mean(precisions or [0]), abs=1e-12)


@pytest.mark.parametrize("kind", ["no ties", "all tied", "large ties"])
def test_a_hundred_thousand_rows_are_scored_within_two_seconds(kind):
    rng = np.random.default_rng(0)
    n = 100_000
    letters = (np.eye(10, dtype=np.int8) * 2)[rng.integers(0, 10, n)]
    letters[(rng.random(letters.shape) < 0.3) & (letters == 0)] = 1
    values = {
        "no ties": rng.random((n, 10)),
        "all tied": np.ones((n, 10)),
        "large ties": rng.integers(0, 9, (n, 10)),
    }
    start = time.process_time()
    ap = average_precision(values[kind], letters)
    assert time.process_time() - start < 2  # 0.03 s on an idle machine
    assert ap == pytest.approx(0.1 / 0.73, abs=0.02)  # a tenth is right, 0.27 of the rows are skipped


# Other figures

# y n m y at the predicted class: two right of three counted and of four in all; ranks 1, 1/2, 1/2, 2/3
FOUR_ROWS = case((0.9, "y"), (0.8, "n"), (0.7, "m"), (0.6, "y"))


def test_basic_precision_skips_rows_with_m():
    assert scores(*FOUR_ROWS)["basic_precision"] == pytest.approx(2 / 3)


def test_accuracy_counts_rows_with_m():
    assert scores(*FOUR_ROWS)["accuracy"] == 0.5


def test_average_precision_repeats_the_precision_before_a_row_with_m():
    assert average_precision(*FOUR_ROWS) == pytest.approx((1 + 1 / 2 + 1 / 2 + 2 / 3) / 4)


def test_rows_with_m_alone_score_0():
    assert scores(*case((0.9, "m"))) == {"map": 0.0, "basic_precision": 0.0, "accuracy": 0.0}


def test_equal_probabilities_within_a_row_predict_the_lowest_class():
    assert scores([[0.5, 0.5], [0.2, 0.2]], [[2, 0], [0, 2]])["accuracy"] == 0.5


@pytest.mark.parametrize("figure", [average_precision, scores])
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
def test_invalid_arrays_are_refused(figure, probabilities, letters, reason):
    with pytest.raises(ValueError, match=reason):
        figure(probabilities, letters)
