import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatcrop.data.tasks import FASHIONAI, Task
from heatcrop.errors import DataError
from heatcrop.metrics.submissions import read_answers, read_predictions, score_files, write_submission

TASKS = (Task("beak", ("hooked", "long", "flat")), Task("wing_labels", ("red", "blue")))

# beak, ranked: a right, b wrong, c maybe, d right: P = 1, 1/2, 1/2, 2/3
ANSWERS = ["a.jpg,beak,ynn", "b.jpg,beak,nyn", "c.jpg,beak,mny", "d.jpg,beak,nny", "a.jpg,wing_labels,ny"]
PREDICTIONS = [
    "d.jpg,beak,0.3;0.1;0.6",
    "a.jpg,beak,0.9;0.1;0.0",
    "b.jpg,beak,0.8;0.1;0.1",
    "c.jpg,beak,0.7;0.1;0.2",
    "a.jpg,wing_labels,0.25;0.75",
]


def files(tmp_path, predictions=PREDICTIONS, answers=ANSWERS):
    paths = tmp_path / "predictions.csv", tmp_path / "answers.csv"
    for path, rows in zip(paths, (predictions, answers), strict=True):
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return paths


def test_the_score_of_a_submission(tmp_path):
    score = score_files(*files(tmp_path), TASKS)
    ap = (1 + 1 / 2 + 1 / 2 + 2 / 3) / 4
    assert score == {
        "map": pytest.approx((ap + 1) / 2),
        "basic_precision": pytest.approx((2 / 3 + 1) / 2),
        "tasks": {
            "beak": {"ap": pytest.approx(ap), "basic_precision": pytest.approx(2 / 3), "n": 4},
            "wing_labels": {"ap": 1.0, "basic_precision": 1.0, "n": 1},
        },
        "ignored_rows": 0,
    }
    json.dumps(score)  # nothing but plain numbers


def test_rows_need_not_sum_to_1(tmp_path):
    tenfold = [
        f"{i},{t},{';'.join(str(10 * float(p)) for p in text.split(';'))}"
        for i, t, text in (row.split(",") for row in PREDICTIONS)
    ]
    assert score_files(*files(tmp_path, tenfold), TASKS) == score_files(*files(tmp_path), TASKS)


def test_answers_may_cover_a_part_and_the_rest_is_counted(tmp_path):
    score = score_files(*files(tmp_path, answers=ANSWERS[:1]), TASKS)
    assert list(score["tasks"]) == ["beak"] and score["map"] == 1.0 and score["ignored_rows"] == 4


def test_headers_short_names_backslashes_marks_and_line_ends(tmp_path):
    predictions, answers = tmp_path / "p.csv", tmp_path / "a.csv"
    header = "image,task,class,confidence,probabilities\r\n"
    predictions.write_bytes(f"\ufeff{header}x\\a.jpg,WING,blue,0.75,0.25;0.75\r\n\r\n".encode())
    answers.write_bytes(b"image,task,label\nx/a.jpg,wing,ny\n")
    assert score_files(predictions, answers, TASKS)["map"] == 1.0


@pytest.mark.parametrize(
    "row, reason",
    [
        ("a.jpg,beak,0.1;0.9", "2 probabilities; the task has 3 classes"),
        ("a.jpg,beak,0.1;0.2;0.3;0.4", "4 probabilities"),
        ("a.jpg,beak,0.1;x;0.3", "no number"),
        ("a.jpg,beak,0.1;;0.3", "no number"),
        ("a.jpg,beak,0.1;nan;0.3", "not finite"),
        ("a.jpg,beak,0.1;inf;0.3", "not finite"),
        ("a.jpg,beak,0.9;-0.1;0.2", "'0.9;-0.1;0.2' are no probabilities; expected none below 0"),
        ("a.jpg,beak,0;0.0;0", "'0;0.0;0' are no probabilities; .* one above"),
        ("a.jpg,tail,0.1;0.2;0.7", "no task is named 'tail'"),
        ("a.jpg,bea,0.1;0.2;0.7", "did you mean beak"),
        ("a.jpg,beak", "2 columns; expected 3: image,task,probabilities"),
        ("a.jpg,beak,0.1,0.2,0.7", "5 columns"),
        ("d.jpg,beak,0.1;0.2;0.7", "d.jpg of beak is in row 1 too; drop one of them"),
        (",beak,0.1;0.2;0.7", "no picture is named"),
        ('"a.jpg,beak,0.1;0.2;0.7', "double quote"),
    ],
)
def test_a_fault_of_the_predictions_names_its_row(tmp_path, row, reason):
    paths = files(tmp_path, [PREDICTIONS[0], row, *PREDICTIONS[2:]])
    with pytest.raises(DataError, match=rf"predictions\.csv:2: .*{reason}"):
        score_files(*paths, TASKS)


@pytest.mark.parametrize(
    "row, reason",
    [
        ("b.jpg,beak,nnn", "label 'nnn' has no y"),
        ("b.jpg,beak,yyn", "label 'yyn' has two y"),
        ("b.jpg,beak,yn", "label 'yn' has 2 letters; the task has 3 classes"),
        ("b.jpg,beak,?", "this is a list of questions"),
        ("b.jpg,beak,0.1;0.2;0.7", "only the letters y, m and n"),
        ("a.jpg,beak,ynn", "a.jpg of beak is in row 1 too"),
        ("b.jpg,tail,ynn", "no task is named 'tail'"),
    ],
)
def test_a_fault_of_the_answers_names_its_row(tmp_path, row, reason):
    paths = files(tmp_path, answers=[ANSWERS[0], row])
    with pytest.raises(DataError, match=rf"answers\.csv:2: .*{reason}"):
        score_files(*paths, TASKS)


@pytest.mark.parametrize(
    "rows, told",
    [
        ([*ANSWERS, ANSWERS[1], ANSWERS[0]], rf"answers\.csv:{len(ANSWERS) + 1}: .* is in row 2 too"),
        ([ANSWERS[0], ANSWERS[0], "b.jpg,beak,nnn"], r"answers\.csv:2: .* is in row 1 too"),
        ([ANSWERS[0], "b.jpg,beak,nnn", ANSWERS[0]], r"answers\.csv:2: label 'nnn' has no y"),
        ([ANSWERS[0], ANSWERS[0], "x"], r"answers\.csv:2: .* is in row 1 too"),
    ],
)
def test_the_first_fault_of_several_is_told(tmp_path, rows, told):
    with pytest.raises(DataError, match=told):
        score_files(*files(tmp_path, answers=rows), TASKS)


def test_missing_predictions_name_the_answered_row_and_the_count(tmp_path):
    with pytest.raises(DataError, match=r"answers\.csv:2: b\.jpg of beak has no prediction in .*predictions"):
        score_files(*files(tmp_path, [PREDICTIONS[i] for i in (0, 1, 3, 4)]), TASKS)
    with pytest.raises(DataError, match=r"answers\.csv:1: a\.jpg of beak and 3 more rows"):
        score_files(*files(tmp_path, PREDICTIONS[4:]), TASKS)


def test_files_without_rows(tmp_path):
    good, _ = files(tmp_path)
    empty, header, wrong = (tmp_path / name for name in ("empty.csv", "header.csv", "wrong.csv"))
    empty.write_text("")
    header.write_text("image,task,probabilities\n")
    wrong.write_text("image,task,label\na.jpg,beak,ynn\n")
    for path, reason in [
        (empty, "empty.csv: the file is empty"),
        (header, "a header and no rows"),
        (wrong, "wrong.csv:1: .* lacks probabilities"),
        (tmp_path / "none.csv", "no such file"),
        (tmp_path, "cannot be read"),
    ]:
        with pytest.raises(DataError, match=reason):
            read_predictions(path, TASKS)
    with pytest.raises(DataError, match="only the letters"):
        read_answers(good, TASKS)


def test_the_written_form(tmp_path):
    path = tmp_path / "submission.csv"
    write_submission(path, [("Images/beak/1.jpg", "beak", np.array([1 / 3, 2 / 3, 0], np.float32))])
    assert path.read_bytes() == b"Images/beak/1.jpg,beak,0.33333334;0.66666669;0.00000000\n"


def test_writing_leaves_nothing_behind_when_it_fails(tmp_path):
    path = tmp_path / "submission.csv"
    with pytest.raises(ValueError, match="finite"):
        write_submission(path, [("a.jpg", "beak", [0.5, np.nan, 0])])
    assert list(tmp_path.iterdir()) == []


names = st.tuples(
    st.text('ab ,"é', max_size=5).map("I{}.jpg".format), st.sampled_from(["beak", "wing_labels"])
)
# As submissions have them: of a row of zeros nothing can be said, and it is refused.
shares = st.lists(st.floats(0, 1), min_size=2, max_size=2).map(lambda some: [0.5, *some])


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(names, shares, min_size=1, max_size=6))
def test_what_is_written_is_read_again(tmp_path_factory, drawn):
    path = tmp_path_factory.getbasetemp() / "again.csv"
    sizes = {task.name: len(task.classes) for task in TASKS}
    write_submission(path, [(image, task, values[: sizes[task]]) for (image, task), values in drawn.items()])
    read = read_predictions(path, TASKS)
    for name, rows in read.items():
        expected = {image: values[: sizes[name]] for (image, task), values in drawn.items() if task == name}
        assert set(rows.images) == set(expected)
        for image, values in zip(rows.images, rows.values, strict=True):
            np.testing.assert_allclose(values, expected[image], atol=0.5e-8 + 1e-15)
    assert sum(len(rows.images) for rows in read.values()) == len(drawn)


def test_official_rows(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("Images/neck_design_labels/0a.jpg,neck_design_labels,0.2;0.2;0.2;0.2;0.2\n")
    rows = read_predictions(path, FASHIONAI)["neck_design_labels"]
    assert rows.images == ("Images/neck_design_labels/0a.jpg",) and rows.lines == (1,)
    assert rows.values.shape == (1, 5) and rows.values.dtype == np.float64
