import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.labels import MAYBE, NO, YES, format_letters, parse_letters, soft_labels

label_texts = (
    st.integers(0, 9)
    .flatmap(lambda n: st.tuples(st.integers(0, n), st.text(alphabet="nm", min_size=n, max_size=n)))
    .map(lambda drawn: drawn[1][: drawn[0]] + "y" + drawn[1][drawn[0] :])
)


def soft_label(letters):
    return soft_labels(letters[None])[0]


def test_letters_become_codes():
    assert parse_letters("nmymn", 5).tolist() == [NO, MAYBE, YES, MAYBE, NO]


def test_codes_are_those_of_the_file_formats():
    assert (YES, MAYBE, NO) == (2, 1, 0)


def test_codes_are_single_bytes():
    assert parse_letters("ny", 2).dtype == np.int8


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
        ("n" * 5000, r"label 'n{37}\.\.\.' has 5,000 letters"),
    ],
)
def test_the_error_for_a_bad_label_gives_the_reason(text, reason):
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
    np.testing.assert_allclose(soft_label(parse_letters(text, len(text))), shares, atol=1e-7)


def test_soft_labels_are_single_precision():
    assert soft_labels(np.array([[2, 1]], np.int8)).dtype == np.float32


@given(label_texts)
def test_formatted_letters_are_the_parsed_text(text):
    assert format_letters(parse_letters(text, len(text))) == text


@given(label_texts)
def test_soft_labels_sum_to_one(text):
    assert abs(float(soft_label(parse_letters(text, len(text))).sum()) - 1) < 1e-6


@given(label_texts)
def test_the_y_has_the_largest_soft_label(text):
    assert soft_label(parse_letters(text, len(text))).argmax() == text.index("y")


@given(st.lists(st.sampled_from(["ynnnnn", "mynnnn", "mmynnn", "mmmynn", "mmmmyn", "mmmmmy"]), max_size=8))
def test_soft_labels_of_many_rows_equal_those_of_single_rows(texts):
    letters = np.array([parse_letters(text, 6) for text in texts], np.int8).reshape(len(texts), 6)
    one_by_one = np.array([soft_label(row) for row in letters], np.float32).reshape(len(texts), 6)
    np.testing.assert_array_equal(soft_labels(letters), one_by_one)
