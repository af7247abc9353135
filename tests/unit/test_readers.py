import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.readers import infer_tasks, read_annotations
from heatcrop.data.readers.collect import clean_image
from heatcrop.data.readers.lines import read_lines
from heatcrop.data.tasks import FASHIONAI, Task, class_folders, resolve
from heatcrop.errors import DataError
from heatcrop.files import NOT_UTF8

NECK, SKIRT, PANT = (resolve(name) for name in ("neck", "skirt", "pant"))
BEAK = Task("beak", ("hooked", "long", "3/4"))


def put(path, content=b"image"):
    """Write a file and its folders; readers never open images, so that any bytes will do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def fashionai(root, rows, images=(), sub="base", file="Annotations/label.csv"):
    put(root / sub / file, "\n".join(rows) + "\n")
    for image in images:
        put(root / sub / image)
    return root


def neck(name):
    return f"Images/neck_design_labels/{name}.jpg"


def neck_row(name, label="ynnnn"):
    return f"{neck(name)},neck_design_labels,{label}"


def reasons(annotations):
    return dict(zip(annotations.rejected["source"], annotations.rejected["reason"], strict=True))


# FashionAI's layout


@pytest.fixture
def two_good_rows(tmp_path):
    fashionai(tmp_path, [neck_row("a"), neck_row("b", "nymnn")], [neck("a"), neck("b")])
    return read_annotations([tmp_path], FASHIONAI)


def test_a_row_of_the_training_set(two_good_rows, tmp_path):
    assert two_good_rows.rows.iloc[1].to_dict() == {
        "image": neck("b"),
        "path": str(tmp_path / "base" / neck("b")),
        "task": "neck_design_labels",
        "label": "nymnn",
        "split": "",
        "group": "",
        "source": "base/Annotations/label.csv:2",
    }


def test_good_rows_leave_no_rejected_row(two_good_rows):
    assert len(two_good_rows.rejected) == 0


def test_good_rows_leave_no_note(two_good_rows):
    assert two_good_rows.notes == []


@pytest.fixture
def with_split_file(tmp_path):
    fashionai(tmp_path, [neck_row("a"), neck_row("b"), neck_row("c")], map(neck, "abc"))
    given_splits = [("a", "train"), ("b", "VAL"), ("c", "later")]
    split = ["image,task,split", *(f"{neck(name)},{NECK.name},{word}" for name, word in given_splits), "x"]
    put(tmp_path / "base/Annotations/split.csv", "\r\n".join(split))
    return read_annotations([tmp_path], FASHIONAI)


def test_a_split_file_gives_the_splits(with_split_file):
    assert with_split_file.rows["split"].tolist() == ["train", "val", ""]


def test_bad_rows_of_a_split_file_are_rejected(with_split_file):
    assert reasons(with_split_file) == {
        "base/Annotations/split.csv:4": "split 'later'; expected image, task and one of train, val, test",
        "base/Annotations/split.csv:5": "1 columns; expected image, task and one of train, val, test",
    }


def test_a_split_file_of_other_data_leaves_a_note(tmp_path):
    fashionai(tmp_path, [neck_row("a")], [neck("a")])
    put(tmp_path / "base/Annotations/split.csv", f"image,task,split\n{neck('z')},neck_design_labels,val\n")
    assert "names no row" in read_annotations([tmp_path], FASHIONAI).notes[0]


def test_a_split_file_without_its_header_is_an_error(tmp_path):
    fashionai(tmp_path, [neck_row("a")], [neck("a")])
    put(tmp_path / "base/Annotations/split.csv", f"{neck('a')},neck_design_labels,val\n")
    with pytest.raises(
        DataError, match=r"base/Annotations/split.csv:1: the header is .*expected 'image,task,split'"
    ):
        read_annotations([tmp_path], FASHIONAI)


def test_a_question_without_an_answer_is_an_unlabelled_test_row(tmp_path):
    fashionai(tmp_path, [neck_row("t", "?")], [neck("t")], "rank", "Tests/question.csv")
    rows = read_annotations([tmp_path], FASHIONAI).rows
    path = str(tmp_path / "rank" / neck("t"))
    assert rows[["path", "label", "split"]].values.tolist() == [[path, "", "test"]]


@pytest.mark.parametrize(
    "place", ["rank/Tests/answer.csv", "rank/Tests/answers.csv", "fashionAI_attributes_answer_a_20180428.csv"]
)
def test_answers_give_the_labels_of_questions(tmp_path, place):
    questions = [neck_row(name, "?") for name in "tuv"]
    fashionai(tmp_path, questions, map(neck, "tuvw"), "rank", "Tests/question.csv")
    put(tmp_path / place, "\n".join([neck_row("w", "nnnny"), neck_row("u", "nnnyn"), neck_row("t", "yynnn")]))
    got = read_annotations([tmp_path], FASHIONAI)
    labels = dict(zip(got.rows["image"], got.rows["label"], strict=True))
    # t: the answer is rejected, so that the label is unknown; w: an answer without a question is a test row.
    assert labels == {neck("t"): "", neck("u"): "nnnyn", neck("v"): "", neck("w"): "nnnny"}
    assert set(got.rows["split"]) == {"test"}
    assert reasons(got) == {f"{place}:3": "label 'yynnn' has two y; exactly one is allowed"}


def test_answers_without_questions_are_test_rows(tmp_path):
    fashionai(tmp_path, [neck_row("t", "nynnn")], [neck("t")], "rank", "Tests/answer.csv")
    assert read_annotations([tmp_path], FASHIONAI).rows["label"].tolist() == ["nynnn"]


def test_the_warm_up_set(tmp_path):
    image = "Images/skirt_length_labels/s.jpg"
    row = f"{image},skirt_length_labels,nnynnn"
    fashionai(tmp_path, [row], [image], "web", "Annotations/skirt_length_labels.csv")
    rows = read_annotations([tmp_path], FASHIONAI).rows
    path = str(tmp_path / "web" / image)
    assert rows[["path", "label", "split"]].values.tolist() == [[path, "nnynnn", ""]]


@pytest.fixture
def two_roots(tmp_path):
    one = fashionai(tmp_path / "one", [neck_row("a"), neck_row("b", "nynnn")], map(neck, "ab"))
    two = fashionai(tmp_path / "two", [neck_row("b", "nnynn"), neck_row("c")], map(neck, "bc"))
    return read_annotations([one, two], FASHIONAI)


def test_roots_are_merged_in_order(two_roots):
    sources = [source.replace("/base/Annotations/label.csv", "") for source in two_roots.rows["source"]]
    assert sources == ["one:1", "one:2", "two:2"]


def test_the_first_of_several_roots_wins(two_roots):
    assert two_roots.rows["label"].tolist() == ["ynnnn", "nynnn", "ynnnn"]


def test_rows_of_later_roots_are_dropped_with_a_note(two_roots):
    assert two_roots.notes == ["1 duplicate rows dropped, first root wins"]


def test_rows_of_later_roots_are_not_rejected(two_roots):
    assert len(two_roots.rejected) == 0


@pytest.fixture
def roots_of_one_name(tmp_path):
    one = fashionai(tmp_path / "a/data", [neck_row("a"), neck_row("b")], [neck("a")])
    two = fashionai(tmp_path / "b/data", [neck_row("b")], [neck("b")])
    return one, two, read_annotations([one, two], FASHIONAI)


def test_a_later_root_supplies_an_image_that_the_first_lacks(roots_of_one_name):
    _, two, got = roots_of_one_name
    assert got.rows["path"][1] == str(two / "base" / neck("b"))


def test_sources_give_the_path_of_roots_that_have_the_same_name(roots_of_one_name):
    one, _, got = roots_of_one_name
    assert list(got.rejected["source"]) == [f"{one.as_posix()}/base/Annotations/label.csv:2"]


def test_labels_hidden_by_an_earlier_root_leave_a_note(tmp_path):
    one = fashionai(tmp_path / "one", [neck_row("t", "?")], [neck("t")], "rank", "Tests/question.csv")
    two = fashionai(tmp_path / "two", [neck_row("t")], [neck("t")])
    note = read_annotations([one, two], FASHIONAI).notes[0]
    assert "1 of them have a label that the first root lacks" in note


# Bad rows: each is rejected, and the good ones beside it are accepted


@pytest.mark.parametrize(
    "row, reason",
    [
        (neck_row("gone"), "the image is missing: there is no base/Images/neck_design_labels/gone.jpg"),
        (neck_row("no/x"), "the image is missing: there is no folder base/Images/neck_design_labels/no"),
        (neck_row("b", "nnnnn"), "label 'nnnnn' has no y; exactly one is needed"),
        (neck_row("b", "nnyny"), "label 'nnyny' has two y; exactly one is allowed"),
        (neck_row("b", "nny"), "label 'nny' has 3 letters; the task has 5 classes"),
        (
            neck_row("b", "nnxny"),
            "label 'nnxny' is neither letters y, m, n nor a class of neck_design_labels: "
            "Invisible, Turtle Neck, Ruffle Semi-High Collar, Low Turtle Neck, Draped Collar",
        ),
        (f"{neck('b')},nek,ynnnn", "unknown task 'nek'"),
        (f"{neck('b')},,ynnnn", "unknown task ''"),
        (neck_row("a"), "duplicate of base/Annotations/label.csv:1"),
        (
            neck_row("a", "nynnn"),
            "duplicate of base/Annotations/label.csv:1, with another label (nynnn here, ynnnn there)",
        ),
        (f"../{neck_row('b')}", "the path leaves the data folder; give one below it"),
        ("Images/../../x.jpg,neck_design_labels,ynnnn", "the path leaves the data folder; give one below it"),
        (r"..\b.jpg,neck_design_labels,ynnnn", "the path leaves the data folder; give one below it"),
        ("/etc/passwd,neck_design_labels,ynnnn", "the path is absolute; give it relative to the data folder"),
        (r"C:\b.jpg,neck_design_labels,ynnnn", "the path is absolute; give it relative to the data folder"),
        (",neck_design_labels,ynnnn", "no image is named"),
        ("a\0b.jpg,neck_design_labels,ynnnn", "the image's name holds a control character"),
        (
            "Images/neck_design_labels,neck_design_labels,ynnnn",
            "base/Images/neck_design_labels is a folder, not an image",
        ),
        (neck("b"), "1 columns; expected 3: image, task, label"),
        (neck_row("b") + ",extra", "4 columns; expected 3: image, task, label"),
        ('"' + neck_row("b"), "a double quote is not closed, or stands inside a field"),
    ],
)
def test_a_bad_row_is_rejected_alone(tmp_path, row, reason):
    fashionai(tmp_path, [neck_row("a"), row, neck_row("c")], map(neck, "abc"))
    got = read_annotations([tmp_path], FASHIONAI)
    assert got.rows["image"].tolist() == [neck("a"), neck("c")]
    assert reasons(got) == {"base/Annotations/label.csv:2": reason}
    assert got.notes == ["1 rows rejected, see `rejected`"]


def test_bytes_that_are_not_utf8_reject_one_row(tmp_path):
    fashionai(tmp_path, [], map(neck, "ab"))
    rows = [neck_row("a").encode(), neck_row("gr\xfcn").encode("latin-1"), neck_row("b").encode()]
    put(tmp_path / "base/Annotations/label.csv", b"\n".join(rows))
    got = read_annotations([tmp_path], FASHIONAI)
    assert got.rows["image"].tolist() == [neck("a"), neck("b")]
    assert reasons(got) == {"base/Annotations/label.csv:2": "the row is not in UTF-8; save the file as UTF-8"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_byte_order_marks_empty_lines_and_backslashes(tmp_path, end, mark):
    rows = [
        neck_row("a"),
        "",
        neck_row("b").replace("/", "\\"),
        "  ",
        f" {neck('c')} , neck_design_labels , ynnnn ",
    ]
    fashionai(tmp_path, [], map(neck, "abc"))
    put(tmp_path / "base/Annotations/label.csv", mark + end.join(rows) + end)
    got = read_annotations([tmp_path], FASHIONAI)
    assert got.rows["image"].tolist() == [neck("a"), neck("b"), neck("c")]
    assert got.rows["source"].str[-1].tolist() == ["1", "3", "5"]
    assert len(got.rejected) == 0
    assert got.notes == ["base/Annotations/label.csv: 2 empty lines skipped"]


def test_a_header_of_the_training_set_is_skipped(tmp_path):
    fashionai(tmp_path, ["image,task,label", neck_row("a")], [neck("a")])
    got = read_annotations([tmp_path], FASHIONAI)
    assert got.rows["source"].tolist() == ["base/Annotations/label.csv:2"]
    assert len(got.rejected) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("start", ["root", "link to the root"])
def test_links_out_of_the_data_folder_are_rejected(tmp_path, start):
    root, outside = tmp_path / "root", put(tmp_path / "outside/secret.jpg").parent
    fashionai(root, [neck_row(name) for name in ("a", "in", "out", "up/secret", "broken")], [neck("a")])
    folder = root / "base/Images/neck_design_labels"
    (folder / "in.jpg").symlink_to(folder / "a.jpg")
    (folder / "out.jpg").symlink_to(outside / "secret.jpg")
    (folder / "up").symlink_to(outside)
    (folder / "broken.jpg").symlink_to(folder / "none.jpg")
    (tmp_path / "link to the root").symlink_to(root)
    got = read_annotations([tmp_path / start], FASHIONAI)
    assert got.rows["image"].tolist() == [neck("a"), neck("in")]
    link, up, broken = reasons(got).values()
    assert "link leads out of the data folder" in link
    assert "up leads out of the data folder" in up
    assert "missing" in broken


# Tasks


def test_rows_of_other_official_tasks_are_left_out_and_counted(tmp_path):
    fashionai(tmp_path, [neck_row("a"), "Images/p.jpg,pant_length_labels,ynnnnn"], [neck("a")])
    got = read_annotations([tmp_path], [NECK])
    assert len(got.rejected) == 0
    assert got.notes == ["1 rows of other tasks left out: pant_length_labels 1"]


def test_data_without_a_task_of_the_run_are_refused(tmp_path):
    fashionai(tmp_path, [neck_row("a"), f"{neck('b')},crest,yn"], map(neck, "ab"))
    with pytest.raises(DataError, match=r"\(beak\).*neck_design_labels \(1 rows\), crest.*`classes`"):
        read_annotations([tmp_path], [BEAK])


def test_data_without_a_usable_row_are_refused_with_the_first_reason(tmp_path):
    fashionai(tmp_path, [neck_row("a"), neck_row("b")])
    with pytest.raises(DataError, match=r"none of the 2 rows .*label.csv:1: the image is missing"):
        read_annotations([tmp_path], FASHIONAI)


# A CSV file with a header


def birds(tmp_path, text, name="annotations.csv"):
    for image in "abcd":
        put(tmp_path / f"{image}.jpg")
    return put(tmp_path / name, text)


@pytest.mark.parametrize("by_name", [True, False])
def test_a_csv_with_class_names_letters_splits_and_groups(tmp_path, by_name):
    path = birds(
        tmp_path,
        "Group,image,task,label,split,remark\n"
        "g1,a.jpg,beak,Hooked,train,\n"
        ",b.jpg,BEAK,3/4,val,x\n"
        "g1,c.jpg,beak,nym,,\n"
        'g2,d.jpg,beak,?,,"a remark, with a comma"\n',
    )
    rows = read_annotations([path if by_name else tmp_path], [BEAK]).rows
    assert rows.drop(columns="path").values.tolist() == [
        ["a.jpg", "beak", "ynn", "train", "g1", "annotations.csv:2"],
        ["b.jpg", "beak", "nny", "val", "", "annotations.csv:3"],
        ["c.jpg", "beak", "nym", "", "g1", "annotations.csv:4"],
        ["d.jpg", "beak", "", "test", "g2", "annotations.csv:5"],
    ]
    assert rows["path"].tolist() == [str(tmp_path / f"{name}.jpg") for name in "abcd"]


def test_bad_rows_of_a_csv(tmp_path):
    birds(
        tmp_path,
        "image,task,label,split\na.jpg,beak,long,train\nb.jpg,beak,long,soon\n"
        "b.jpg,beak,long\nb.jpg,beak,?,train\nb.jpg,beak,low,val\n",
    )
    assert reasons(read_annotations([tmp_path], [BEAK])) == {
        "annotations.csv:3": "split 'soon'; expected train, val, test or nothing",
        "annotations.csv:4": "3 columns; the header has 4",
        "annotations.csv:5": "no label, though it is a row of train",
        "annotations.csv:6": "label 'low' is neither letters y, m, n nor a class of beak: hooked, long, 3/4",
    }


@pytest.mark.parametrize(
    "text, reason",
    [
        ("image;task;label\na.jpg;beak;long\n", r"annotations.csv:1: the header .* lacks image, task, label"),
        ("a.jpg,beak,long\n", "lacks image, task, label"),
        ("image,task,label,Label\na.jpg,beak,long,x\n", "names a column twice"),
        ("", "annotations.csv: the file is empty"),
        ("\n \n", "annotations.csv: the file is empty"),
        (b"\xff\xfei\0m\0", "UTF-16"),
        (b"\xffimage,task,label\n", r"annotations.csv:1: no row of the file can be read"),
    ],
)
def test_a_csv_that_cannot_be_read_is_refused(tmp_path, text, reason):
    path = birds(tmp_path, text)
    with pytest.raises(DataError, match=reason):
        read_annotations([path], [BEAK])


@pytest.mark.parametrize(
    "names, found", [(["one.csv"], "one.csv"), (["one.csv", "annotations.csv"], "annotations.csv")]
)
def test_the_annotations_of_a_folder_are_the_csv_with_the_header_or_the_usual_name(tmp_path, names, found):
    put(tmp_path / "other.csv", "x,y\n1,2\n")
    for name in names:
        birds(tmp_path, "image,task,label\na.jpg,beak,long\n", name)
    assert read_annotations([tmp_path], [BEAK]).rows["source"].tolist() == [f"{found}:2"]


def test_several_possible_csv_files_of_a_folder_are_refused(tmp_path):
    for name in ("one.csv", "two.csv"):
        birds(tmp_path, "image,task,label\na.jpg,beak,long\n", name)
    with pytest.raises(DataError, match=r"several files .*one.csv, two.csv"):
        read_annotations([tmp_path], [BEAK])


# A folder per class


def test_a_folder_per_task_and_class(tmp_path):
    hooked, _, three_quarters = class_folders(BEAK)
    for place in (f"beak/{hooked}/a.jpg", f"beak/{three_quarters}/b.PNG", "beak/Long/c.webp", "beak/d.jpg"):
        put(tmp_path / place)
    for other in (
        "beak/hooked/Thumbs.db",
        "beak/hooked/.DS_Store",
        ".git/x/y.jpg",
        "beak/hooked/deep/e.jpg",
    ):
        put(tmp_path / other)
    got = read_annotations([tmp_path], [BEAK])
    labels = dict(zip(got.rows["image"], got.rows["label"] + got.rows["split"], strict=True))
    assert labels == {
        "beak/3-4/b.PNG": "nny",
        "beak/Long/c.webp": "nyn",
        "beak/hooked/a.jpg": "ynn",
        "beak/d.jpg": "test",
    }
    assert len(got.rejected) == 0
    assert "2 files or folders" in got.notes[0]


def test_folders_below_a_split(tmp_path):
    for place in ("train/beak/long/a.jpg", "valid/beak/long/b.jpg", "test/beak/c.jpg", "train/beak/d.jpg"):
        put(tmp_path / place)
    got = read_annotations([tmp_path], [BEAK])
    assert sorted(zip(got.rows["image"], got.rows["split"], strict=True)) == [
        ("test/beak/c.jpg", "test"),
        ("train/beak/long/a.jpg", "train"),
        ("valid/beak/long/b.jpg", "val"),
    ]
    assert reasons(got) == {"train/beak/d.jpg": "no label, though it is a row of train"}


def test_folders_without_a_class_or_task_are_rejected(tmp_path):
    for place in ("beak/long/a.jpg", "beak/short/b.jpg", "beak/short/c.jpg", "wing/red/d.jpg"):
        put(tmp_path / place)
    assert reasons(read_annotations([tmp_path], [BEAK])) == {
        "beak/short": "2 images in a folder that is no class of beak: hooked, long, 3/4",
        "wing/red/d.jpg": "unknown task 'wing'",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_a_file_name_that_is_not_utf8_is_rejected(tmp_path):
    put(tmp_path / "beak/long/a.jpg")
    with open(os.fsencode(tmp_path) + b"/beak/long/\xff.jpg", "wb") as file:
        file.write(b"x")
    assert reasons(read_annotations([tmp_path], [BEAK])) == {"beak/long/?.jpg": NOT_UTF8}


# Roots and layouts


def test_layouts_may_differ_between_roots(tmp_path):
    fashionai(tmp_path / "one", [neck_row("a")], [neck("a")])
    birds(tmp_path / "two", "image,task,label\na.jpg,neck,Turtle Neck\n")
    put(tmp_path / "three/neck_design_labels/Draped Collar/a.jpg")
    rows = read_annotations([tmp_path / name for name in ("one", "two", "three")], FASHIONAI).rows
    assert rows["label"].tolist() == ["ynnnn", "nynnn", "nnnny"]
    assert [source.split("/")[0] for source in rows["source"]] == ["one", "two", "three"]


@pytest.mark.parametrize(
    "names, layout, reason",
    [
        ([], "auto", "no data folder is given"),
        (["none"], "auto", "there is no such data folder"),
        (["empty"], "auto", "holds nothing; expected base/Annotations/label.csv"),
        (["empty"], "csv", "expected a CSV file"),
        (["empty"], "fashionai", "expected base/Annotations/label.csv"),
        (["empty"], "folders", "expected <task>/<class>/<image>"),
        (["empty"], "tar", "layout 'tar' is unknown"),
        (["x.txt"], "auto", "is a file"),
    ],
)
def test_roots_without_data_are_refused(tmp_path, names, layout, reason):
    (tmp_path / "empty").mkdir()
    put(tmp_path / "x.txt")
    with pytest.raises(DataError, match=reason):
        read_annotations([tmp_path / name for name in names], FASHIONAI, layout)


def test_class_folders_are_not_taken_for_tasks(tmp_path):
    put(tmp_path / "hooked/a.jpg")
    put(tmp_path / "long/b.jpg")
    with pytest.raises(DataError, match="holds hooked/, long/; expected .*<task>/<class>/<image>"):
        read_annotations([tmp_path], [BEAK])


# Tasks inferred from the data


def test_tasks_inferred_from_folders(tmp_path):
    for place in (
        "beak/long/a.jpg",
        "beak/hooked/b.jpg",
        "wing/red/c.jpg",
        "wing/blue/d.jpg",
        "wing/empty/x.txt",
    ):
        put(tmp_path / place)
    assert infer_tasks(tmp_path) == (Task("beak", ("hooked", "long")), Task("wing", ("blue", "red")))


def test_tasks_inferred_from_a_csv(tmp_path):
    birds(
        tmp_path,
        "image,task,label\na.jpg,beak,long\nb.jpg,beak,hooked\nc.jpg,beak,?\n"
        "a.jpg,neck_design_labels,Turtle Neck\na.jpg,pant,ynnnnn\n",
    )
    assert infer_tasks(tmp_path) == (Task("beak", ("hooked", "long")), NECK, PANT)


def test_tasks_inferred_from_fashionai_files(tmp_path):
    fashionai(tmp_path, [neck_row("a"), "Images/s.jpg,skirt_length_labels,ynnnnn", "x.jpg,crest,yn"])
    assert infer_tasks(tmp_path) == (SKIRT, NECK)


@pytest.mark.parametrize(
    "rows, reason",
    [
        ("a.jpg,beak,yn\nb.jpg,beak,ny\n", "annotations.csv: the labels of task 'beak' are letters"),
        ("a.jpg,beak,long\n", "task 'beak' has 1 classes; at least two are needed"),
        ("a.jpg,../beak,long\nb.jpg,../beak,short\n", "cannot serve as a folder"),
        ("", "holds no task"),
    ],
)
def test_data_without_clear_tasks_are_refused(tmp_path, rows, reason):
    birds(tmp_path, "image,task,label\n" + rows)
    with pytest.raises(DataError, match=reason):
        infer_tasks(tmp_path)


# Properties


@given(st.text(max_size=60))
def test_a_clean_path_stays_below_the_root(text):
    image, reason = clean_image(text)
    if not reason:
        assert "\\" not in image
        assert not image.startswith("/")
        assert ".." not in image.split("/")
        assert os.path.normpath(os.path.join("/data", image)).startswith("/data")
        assert clean_image(image) == (image, "")


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=8))
def test_every_line_of_any_file_is_counted_once(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    raw = [line.replace(b"\n", b"").replace(b"\r", b"") for line in raw]
    path.write_bytes(b"\n".join(raw))
    try:
        numbers = [line.number for line in read_lines(path)]
    except DataError:
        return
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) in (len(raw), len(raw) - 1)  # a last line may be empty


@given(
    st.lists(st.tuples(st.sampled_from("abcx"), st.sampled_from(["ynnnn", "nynnn", "nn", "?"])), min_size=1)
)
def test_every_row_is_accepted_or_rejected_once(tmp_path_factory, drawn):
    root = fashionai(
        tmp_path_factory.getbasetemp() / "kept",
        [neck_row("good"), *(neck_row(name, label) for name, label in drawn)],
        map(neck, ["good", "a", "b", "c"]),
    )
    got = read_annotations([root], FASHIONAI)
    lines = [int(source.rpartition(":")[2]) for source in [*got.rows["source"], *got.rejected["source"]]]
    assert sorted(lines) == list(range(1, len(drawn) + 2))
    assert not got.rows.duplicated(["task", "image"]).any()
