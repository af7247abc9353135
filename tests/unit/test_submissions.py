import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.tasks import FASHIONAI, Task
from heatcrop.errors import DataError
from heatcrop.metrics.submissions import read_answers, read_submission, score_files, write_submission

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


def test_a_score_can_be_written_as_json(tmp_path):
    score = score_files(*files(tmp_path), TASKS)
    assert json.loads(json.dumps(score)) == score


def test_probabilities_need_not_sum_to_1(tmp_path):
    tenfold = [
        f"{i},{t},{';'.join(str(10 * float(p)) for p in text.split(';'))}"
        for i, t, text in (row.split(",") for row in PREDICTIONS)
    ]
    assert score_files(*files(tmp_path, tenfold), TASKS) == score_files(*files(tmp_path), TASKS)


def test_tasks_without_answers_are_not_scored(tmp_path):
    assert list(score_files(*files(tmp_path, answers=ANSWERS[:1]), TASKS)["tasks"]) == ["beak"]


def test_predictions_without_an_answer_are_counted(tmp_path):
    assert score_files(*files(tmp_path, answers=ANSWERS[:1]), TASKS)["ignored_rows"] == 4


def test_headers_short_names_backslashes_byte_order_marks_and_line_ends(tmp_path):
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
        (",beak,0.1;0.2;0.7", "no image is named"),
        ('"a.jpg,beak,0.1;0.2;0.7', "double quote"),
    ],
)
def test_a_fault_of_a_submission_names_its_row(tmp_path, row, reason):
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
def test_a_fault_of_an_answer_file_names_its_row(tmp_path, row, reason):
    paths = files(tmp_path, answers=[ANSWERS[0], row])
    with pytest.raises(DataError, match=rf"answers\.csv:2: .*{reason}"):
        score_files(*paths, TASKS)


@pytest.mark.parametrize(
    "rows, message",
    [
        ([*ANSWERS, ANSWERS[1], ANSWERS[0]], rf"answers\.csv:{len(ANSWERS) + 1}: .* is in row 2 too"),
        ([ANSWERS[0], ANSWERS[0], "b.jpg,beak,nnn"], r"answers\.csv:2: .* is in row 1 too"),
        ([ANSWERS[0], "b.jpg,beak,nnn", ANSWERS[0]], r"answers\.csv:2: label 'nnn' has no y"),
        ([ANSWERS[0], ANSWERS[0], "x"], r"answers\.csv:2: .* is in row 1 too"),
    ],
)
def test_the_first_of_several_faults_is_reported(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        score_files(*files(tmp_path, answers=rows), TASKS)


@pytest.mark.parametrize(
    "present, message",
    [
        ([0, 1, 3, 4], r"answers\.csv:2: b\.jpg of beak has no prediction in .*predictions"),
        ([4], r"answers\.csv:1: a\.jpg of beak and 3 more rows have no prediction in"),
    ],
)
def test_missing_predictions_name_the_answered_row_and_the_count(tmp_path, present, message):
    with pytest.raises(DataError, match=message):
        score_files(*files(tmp_path, [PREDICTIONS[i] for i in present]), TASKS)


@pytest.mark.parametrize(
    "content, reason",
    [
        ("", "p.csv: the file is empty"),
        ("image,task,probabilities\n", "a header and no rows"),
        ("image,task,label\na.jpg,beak,ynn\n", "p.csv:1: .* lacks probabilities"),
        (None, "no such file"),
    ],
)
def test_a_submission_without_rows_is_refused(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "p.csv").write_text(content)
    with pytest.raises(DataError, match=reason):
        read_submission(tmp_path / "p.csv", TASKS)


def test_a_folder_is_no_submission(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_submission(tmp_path, TASKS)


def test_answers_may_be_class_names(tmp_path):
    """AP of the beak: a right, b wrong, c wrong (flat is not certain here), d right: 1, 1/2, 1/3, 2/4."""
    answers = [
        "image,task,label",
        "a.jpg,beak,hooked",
        "b.jpg,beak,Long",
        "c.jpg,beak,flat",
        "d.jpg,beak,nny",
        "a.jpg,wing_labels,blue",
    ]
    figures = score_files(*files(tmp_path, answers=answers), TASKS)
    assert figures["tasks"]["beak"]["ap"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    assert figures["tasks"]["wing_labels"]["ap"] == 1


@pytest.mark.parametrize("delimiter", [";", "\t", " | "])
@pytest.mark.parametrize("header", [[], ["image,task,label"]])
def test_answers_may_have_the_delimiters_of_annotations(tmp_path, header, delimiter):
    other = [row.replace(",", delimiter) for row in [*header, *ANSWERS]]
    assert score_files(*files(tmp_path, answers=other), TASKS) == score_files(*files(tmp_path), TASKS)


def test_an_unknown_class_name_lists_the_classes(tmp_path):
    paths = files(tmp_path, answers=["a.jpg,beak,hoked"])
    with pytest.raises(DataError, match=r"answers\.csv:1: .*'hoked'.* a class: hooked, long, flat"):
        score_files(*paths, TASKS)


def test_a_submission_is_no_answer_file(tmp_path):
    with pytest.raises(DataError, match="only the letters"):
        read_answers(files(tmp_path)[0], TASKS)


def test_probabilities_are_written_with_8_decimals(tmp_path):
    path = tmp_path / "submission.csv"
    write_submission(path, [("Images/beak/1.jpg", "beak", np.array([1 / 3, 2 / 3, 0], np.float32))])
    assert path.read_bytes() == b"Images/beak/1.jpg,beak,0.33333334;0.66666669;0.00000000\n"


def test_probabilities_that_are_not_finite_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="finite"):
        write_submission(tmp_path / "submission.csv", [("a.jpg", "beak", [0.5, np.nan, 0])])


def test_a_failed_write_leaves_no_file(tmp_path):
    with contextlib.suppress(ValueError):
        write_submission(tmp_path / "submission.csv", [("a.jpg", "beak", [0.5, np.nan, 0])])
    assert list(tmp_path.iterdir()) == []


names = st.tuples(
    st.text('ab ,"é', max_size=5).map("I{}.jpg".format), st.sampled_from(["beak", "wing_labels"])
)
# A row of zeros is refused.
shares = st.lists(st.floats(0, 1), min_size=2, max_size=2).map(lambda some: [0.5, *some])


@given(st.dictionaries(names, shares, min_size=1, max_size=6))
def test_a_written_submission_is_read_again(tmp_path_factory, drawn):
    path = tmp_path_factory.getbasetemp() / "again.csv"
    sizes = {task.name: len(task.classes) for task in TASKS}
    write_submission(path, [(image, task, values[: sizes[task]]) for (image, task), values in drawn.items()])
    read = read_submission(path, TASKS)
    for name, rows in read.items():
        expected = {image: values[: sizes[name]] for (image, task), values in drawn.items() if task == name}
        assert set(rows) == set(expected)
        for image, row in rows.items():
            np.testing.assert_allclose(row.values, expected[image], atol=0.5e-8 + 1e-15)
    assert sum(map(len, read.values())) == len(drawn)


@pytest.fixture
def official(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("Images/neck_design_labels/0a.jpg,neck_design_labels,0.2;0.2;0.2;0.2;0.2\n")
    return read_submission(path, FASHIONAI)["neck_design_labels"]


def test_images_are_named_as_in_the_file(official):
    assert list(official) == ["Images/neck_design_labels/0a.jpg"]


def test_lines_are_counted_from_1(official):
    assert [row.line for row in official.values()] == [1]


def test_probabilities_are_double_precision(official):
    [row] = official.values()
    assert (row.values.shape, row.values.dtype) == ((5,), np.float64)
