import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.labels import MAYBE, NO, YES, format_letters, parse_letters, soft_label, soft_labels

labels = (
    st.integers(0, 9)
    .flatmap(lambda n: st.tuples(st.integers(0, n), st.text(alphabet="nm", min_size=n, max_size=n)))
    .map(lambda drawn: drawn[1][: drawn[0]] + "y" + drawn[1][drawn[0] :])
)


def test_codes():
    assert (YES, MAYBE, NO) == (2, 1, 0)
    parsed = parse_letters("nmymn", 5)
    assert parsed.dtype == np.int8 and parsed.tolist() == [0, 1, 2, 1, 0]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("nnyny", "label 'nnyny' has two y; exactly one is allowed"),
        ("yyyyy", "label 'yyyyy' has 5 y; exactly one is allowed"),
        ("nnnmn", "label 'nnnmn' has no y; exactly one is needed"),
        ("nny", "label 'nny' has 3 letters; the task has 5 classes"),
        ("nnynnn", "label 'nnynnn' has 6 letters; the task has 5 classes"),
        ("nnYnn", "label 'nnYnn' holds 'Y'; only the letters y, m and n are allowed"),
        ("nny n", "holds ' '"),
        ("?", r"label '\?' holds '\?'"),
        ("", "label '' has 0 letters; the task has 5 classes"),
        ("n" * 5000, r"label 'n{37}\.\.\.' has 5000 letters"),
    ],
)
def test_a_bad_label_is_told_precisely(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_letters(text, 5)


@pytest.mark.parametrize(
    "text, shares",
    [
        ("nny", [0, 0, 1]),
        ("nmy", [0, 0.2, 0.8]),
        ("mmy", [0.15, 0.15, 0.7]),
        ("mmym", [0.1, 0.1, 0.7, 0.1]),
        ("mmymm", [0.1, 0.1, 0.6, 0.1, 0.1]),  # four m share 0.4
        ("mmymmmmmm", [0.05, 0.05, 0.6] + [0.05] * 6),  # eight m share 0.4
    ],
)
def test_the_soft_label_rule(text, shares):
    soft = soft_label(parse_letters(text, len(text)))
    assert soft.dtype == np.float32
    np.testing.assert_allclose(soft, shares, atol=1e-7)


@given(labels)
def test_letters_come_back_and_shares_sum_to_one(text):
    parsed = parse_letters(text, len(text))
    assert format_letters(parsed) == text
    soft = soft_label(parsed)
    assert abs(float(soft.sum()) - 1) < 1e-6
    assert soft.argmax() == text.index("y")


@given(st.lists(st.sampled_from(["ynnnnn", "mynnnn", "mmynnn", "mmmynn", "mmmmyn", "mmmmmy"]), max_size=8))
def test_many_at_once_equal_one_by_one(texts):
    letters = np.array([parse_letters(text, 6) for text in texts], np.int8).reshape(len(texts), 6)
    one_by_one = np.array([soft_label(row) for row in letters], np.float32).reshape(len(texts), 6)
    np.testing.assert_array_equal(soft_labels(letters), one_by_one)


def test_soft_labels_need_one_yes_and_two_dimensions():
    with pytest.raises(ValueError, match="row 1 of the letters has 0 y"):
        soft_labels(np.array([[2, 0], [0, 1]], np.int8))
    with pytest.raises(ValueError, match="must be"):
        soft_labels(np.array([2, 0], np.int8))
