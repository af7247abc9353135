"""From annotation files of any layout to rows: which are accepted, and why others are rejected."""

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.readers import read_annotations
from heatcrop.data.readers.lines import load_text, parse_lines
from heatcrop.data.readers.root import clean_image
from heatcrop.data.tasks import FASHIONAI, Task, class_folders, resolve
from heatcrop.errors import DataError
from heatcrop.files import NOT_UTF8
from tests.unit.builders import touch

NECK, SKIRT, PANT = (resolve(name) for name in ("neck", "skirt", "pant"))
BEAK = Task("beak", ("hooked", "long", "3/4"))


def read(*roots, tasks=FASHIONAI, layout="auto"):
    return read_annotations(roots, tasks, layout)


def put(path, content=b"image"):
    """Write a file and its folders; readers never open images, so that any bytes will do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def put_images(root, *names):
    for name in names:
        put(root / name)
    return root


def fashionai(root, rows, images=(), file="base/Annotations/label.csv"):
    """Write one file of FashionAI's layout, and images of the neck task beside it."""
    put(root / file, "\n".join(rows) + "\n")
    return put_images(root / file.split("/")[0], *map(neck, images)).parent


def neck(name):
    return f"Images/neck_design_labels/{name}.jpg"


def neck_row(name, label="ynnnn"):
    return f"{neck(name)},neck_design_labels,{label}"


def labels(annotations):
    return dict(zip(annotations.rows["image"], annotations.rows["label"], strict=True))


def splits(annotations):
    return dict(zip(annotations.rows["image"], annotations.rows["split"], strict=True))


def reasons(annotations):
    return dict(zip(annotations.rejected["source"], annotations.rejected["reason"], strict=True))


def assert_nothing_to_report(annotations):
    assert len(annotations.rejected) == 0
    assert annotations.notes == []


# FashionAI's layout


def test_rows_of_the_training_set(tmp_path):
    got = read(fashionai(tmp_path, [neck_row("a"), neck_row("b", "nymnn")], "ab"))
    assert got.rows.iloc[1].to_dict() == {
        "image": neck("b"),
        "path": str(tmp_path / "base" / neck("b")),
        "task": "neck_design_labels",
        "label": "nymnn",
        "split": "",
        "group": "",
        "source": "base/Annotations/label.csv:2",
    }
    assert_nothing_to_report(got)


def test_a_split_file_gives_the_splits_and_its_bad_rows_are_rejected(tmp_path):
    fashionai(tmp_path, [neck_row("a"), neck_row("b"), neck_row("c")], "abc")
    given_splits = [("a", "train"), ("b", "VAL"), ("c", "later")]
    rows = ["image,task,split", *(f"{neck(name)},{NECK.name},{word}" for name, word in given_splits), "x"]
    put(tmp_path / "base/Annotations/split.csv", "\r\n".join(rows))
    got = read(tmp_path)
    assert got.rows["split"].tolist() == ["train", "val", ""]
    assert reasons(got) == {
        "base/Annotations/split.csv:4": "split 'later'; expected train, val or test",
        "base/Annotations/split.csv:5": "1 column; the header has 3",
    }


def test_a_split_file_of_other_data_leaves_a_note(tmp_path):
    fashionai(tmp_path, [neck_row("a")], "a")
    put(tmp_path / "base/Annotations/split.csv", f"image,task,split\n{neck('z')},neck_design_labels,val\n")
    assert "names no row" in read(tmp_path).notes[0]


def test_a_split_file_without_its_header_is_an_error(tmp_path):
    fashionai(tmp_path, [neck_row("a")], "a")
    put(tmp_path / "base/Annotations/split.csv", f"{neck('a')},neck_design_labels,val\n")
    message = r"base/Annotations/split.csv:1: the header .* lacks image, .*expected 'image,task,split'"
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("file", "row", "found"),
    [
        ("rank/Tests/question.csv", neck_row("t", "?"), ["", "test"]),
        ("rank/Tests/answer.csv", neck_row("t", "nynnn"), ["nynnn", "test"]),  # without its question
        ("web/Annotations/skirt_length_labels.csv", neck_row("t", "nnynn"), ["nnynn", ""]),
    ],
)
def test_rows_of_the_test_and_warm_up_sets(tmp_path, file, row, found):
    rows = read(fashionai(tmp_path, [row], "t", file)).rows
    path = str(tmp_path / file.split("/")[0] / neck("t"))
    assert rows[["path", "label", "split"]].values.tolist() == [[path, *found]]


@pytest.mark.parametrize(
    "place", ["rank/Tests/answer.csv", "rank/Tests/answers.csv", "fashionAI_attributes_answer_a_20180428.csv"]
)
def test_answers_give_the_labels_of_questions(tmp_path, place):
    fashionai(tmp_path, [neck_row(name, "?") for name in "tuv"], "tuvw", "rank/Tests/question.csv")
    put(tmp_path / place, "\n".join([neck_row("w", "nnnny"), neck_row("u", "nnnyn"), neck_row("t", "yynnn")]))
    got = read(tmp_path)
    # t: the answer is rejected, so that the label is unknown; w: an answer without a question is a test row.
    assert labels(got) == {neck("t"): "", neck("u"): "nnnyn", neck("v"): "", neck("w"): "nnnny"}
    assert set(got.rows["split"]) == {"test"}
    assert reasons(got) == {f"{place}:3": "label 'yynnn' has two y; exactly one is allowed"}


@pytest.mark.parametrize("task", ["neck", "Neck_Design_Labels"])
def test_answers_may_write_a_task_in_another_form_than_questions(tmp_path, task):
    fashionai(tmp_path, [neck_row("t", "?")], "t", "rank/Tests/question.csv")
    put(tmp_path / "rank/Tests/answer.csv", f"{neck('t')},{task},nynnn\n")
    got = read(tmp_path)
    assert labels(got) == {neck("t"): "nynnn"}
    assert len(got.rejected) == 0


def test_of_two_different_answers_for_an_image_the_second_is_rejected(tmp_path):
    fashionai(tmp_path, [neck_row("t", "?")], "t", "rank/Tests/question.csv")
    rows = [neck_row("t", "nynnn"), neck_row("t", "nynnn"), neck_row("t", "nnynn")]
    put(tmp_path / "rank/Tests/answer.csv", "\n".join(rows))
    got = read(tmp_path)
    assert labels(got) == {neck("t"): "nynnn"}
    reason = "another label than rank/Tests/answer.csv:1 (nnynn here, nynnn there)"
    assert reasons(got) == {"rank/Tests/answer.csv:3": reason}


def test_of_several_roots_the_first_wins(tmp_path):
    one = fashionai(tmp_path / "one", [neck_row("a"), neck_row("b", "nynnn")], "ab")
    two = fashionai(tmp_path / "two", [neck_row("b", "nnynn"), neck_row("c")], "bc")
    got = read(one, two)
    sources = [source.replace("/base/Annotations/label.csv", "") for source in got.rows["source"]]
    assert sources == ["one:1", "one:2", "two:2"]
    assert got.rows["label"].tolist() == ["ynnnn", "nynnn", "ynnnn"]
    assert got.notes == ["1 duplicate row dropped, first root wins"]
    assert len(got.rejected) == 0


def test_a_later_root_of_the_same_name_supplies_an_image_that_the_first_lacks(tmp_path):
    one = fashionai(tmp_path / "a/data", [neck_row("a"), neck_row("b")], "a")
    two = fashionai(tmp_path / "b/data", [neck_row("b")], "b")
    got = read(one, two)
    assert got.rows["path"][1] == str(two / "base" / neck("b"))
    assert list(got.rejected["source"]) == [f"{one.as_posix()}/base/Annotations/label.csv:2"]


def test_labels_hidden_by_an_earlier_root_leave_a_note(tmp_path):
    one = fashionai(tmp_path / "one", [neck_row("t", "?")], "t", "rank/Tests/question.csv")
    two = fashionai(tmp_path / "two", [neck_row("t")], "t")
    assert "1 of them with a label that the first root lacks" in read(one, two).notes[0]


# Bad rows: each is rejected, and the good ones beside it are accepted

LEAVES = "the path leaves the data folder; give one below it"
ABSOLUTE = "the path is absolute; give it relative to the data folder, or set data.absolute_paths"
DEEP = "the path has more than 100 folders; move the image up"
FIRST = "duplicate of base/Annotations/label.csv:1"


@pytest.mark.parametrize(
    "row, reason",
    [
        (neck_row("gone"), "the image is missing: there is no base/Images/neck_design_labels/gone.jpg"),
        (neck_row("no/x"), "the image is missing: there is no folder base/Images/neck_design_labels/no"),
        (neck_row("b", "nny"), "label 'nny' has 3 letters; the task has 5 classes"),
        (
            neck_row("b", "nnxny"),
            "label 'nnxny' is neither letters y, m, n nor a class of neck_design_labels: "
            "Invisible, Turtle Neck, Ruffle Semi-High Collar, Low Turtle Neck, Draped Collar",
        ),
        (f"{neck('b')},nek,ynnnn", "unknown task 'nek'"),
        (f"{neck('b')},,ynnnn", "no task is named"),
        (neck_row("a"), FIRST),
        (neck_row("a", "nynnn"), f"{FIRST}, with another label (nynnn here, ynnnn there)"),
        (f"../{neck_row('b')}", LEAVES),
        ("Images/../../x.jpg,neck_design_labels,ynnnn", LEAVES),
        (r"..\b.jpg,neck_design_labels,ynnnn", LEAVES),
        ("/etc/passwd,neck_design_labels,ynnnn", ABSOLUTE),
        (r"C:\b.jpg,neck_design_labels,ynnnn", ABSOLUTE),
        pytest.param("a/" * 300_000 + neck_row("b"), DEEP, id="deep"),
        (",neck_design_labels,ynnnn", "no image is named"),
        ("a\0b.jpg,neck_design_labels,ynnnn", "the image's name holds a control character"),
        (
            "Images/neck_design_labels,neck_design_labels,ynnnn",
            "base/Images/neck_design_labels is a folder, not an image",
        ),
        (neck("b"), "1 column; expected 3: image, task, label"),
        (neck_row("b") + ",extra", "4 columns; expected 3: image, task, label"),
        ('"' + neck_row("b"), "a double quote is not closed, or stands inside a field"),
        (neck_row("gr\udcfcn"), "the row is not in UTF-8; save the file as UTF-8"),
    ],
)
def test_a_bad_row_is_rejected_alone(tmp_path, row, reason):
    fashionai(tmp_path, [], "abc")
    text = "\n".join([neck_row("a"), row, neck_row("c")])
    put(tmp_path / "base/Annotations/label.csv", text.encode("utf-8", "surrogateescape"))
    got = read(tmp_path)
    assert got.rows["image"].tolist() == [neck("a"), neck("c")]
    assert reasons(got) == {"base/Annotations/label.csv:2": reason}
    assert got.notes == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_byte_order_marks_empty_lines_and_backslashes(tmp_path, end, mark):
    rows = [neck_row("a"), "", neck_row("b").replace("/", "\\"), "  ", neck_row("c").replace(",", " , ")]
    fashionai(tmp_path, [], "abc")
    put(tmp_path / "base/Annotations/label.csv", mark + end.join(rows) + end)
    got = read(tmp_path)
    assert got.rows["image"].tolist() == [neck("a"), neck("b"), neck("c")]
    assert got.rows["source"].str[-1].tolist() == ["1", "3", "5"]
    assert len(got.rejected) == 0
    assert got.notes == ["base/Annotations/label.csv: 2 empty lines skipped"]


def test_a_header_of_the_training_set_is_skipped(tmp_path):
    got = read(fashionai(tmp_path, ["image,task,label", neck_row("a")], "a"))
    assert got.rows["source"].tolist() == ["base/Annotations/label.csv:2"]
    assert_nothing_to_report(got)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("start", ["root", "link to the root"])
def test_links_out_of_the_data_folder_are_rejected(tmp_path, start):
    outside = put(tmp_path / "outside/secret.jpg").parent
    root = fashionai(
        tmp_path / "root", [neck_row(name) for name in ("a", "in", "out", "up/secret", "broken")], "a"
    )
    folder = root / "base/Images/neck_design_labels"
    (folder / "in.jpg").symlink_to(folder / "a.jpg")
    (folder / "out.jpg").symlink_to(outside / "secret.jpg")
    (folder / "up").symlink_to(outside)
    (folder / "broken.jpg").symlink_to(folder / "none.jpg")
    (tmp_path / "link to the root").symlink_to(root)
    got = read(tmp_path / start)
    assert got.rows["image"].tolist() == [neck("a"), neck("in")]
    link, up, broken = reasons(got).values()
    assert "link leads out of the data folder" in link
    assert "up leads out of the data folder" in up
    assert "missing" in broken


# Tasks


def test_rows_of_other_official_tasks_are_left_out_and_counted(tmp_path):
    fashionai(tmp_path, [neck_row("a"), "Images/p.jpg,pant_length_labels,ynnnnn"], "a")
    got = read(tmp_path, tasks=[NECK])
    assert len(got.rejected) == 0
    assert got.notes == ["1 row of other tasks left out: pant_length_labels 1"]


def test_data_without_a_task_of_the_run_are_refused(tmp_path):
    fashionai(tmp_path, [neck_row("a"), f"{neck('b')},crest,yn"], "ab")
    with pytest.raises(DataError, match=r"\(beak\).*neck_design_labels \(1 row\), crest.*`classes`"):
        read(tmp_path, tasks=[BEAK])


def test_data_without_a_usable_row_are_refused_with_the_first_reason(tmp_path):
    fashionai(tmp_path, [neck_row("a"), neck_row("b")])
    with pytest.raises(
        DataError,
        match=r"none of the 2 rows .*label.csv:1: the image is missing",
    ):
        read(tmp_path)


# A CSV file with a header


def birds(tmp_path, *lines, name="annotations.csv"):
    put_images(tmp_path, *(f"{image}.jpg" for image in "abcd"))
    return put(tmp_path / name, "\n".join(lines) + "\n")


HEADER, WITH_SPLIT = "image,task,label", "image,task,label,split"


@pytest.mark.parametrize("by_name", [True, False])
def test_a_csv_with_class_names_letters_splits_and_groups(tmp_path, by_name):
    path = birds(
        tmp_path,
        "Group,image,task,label,split,remark",
        "g1,a.jpg,beak,Hooked,train,",
        ",b.jpg,BEAK,3/4,val,x",
        "g1,c.jpg,beak,nym,,",
        'g2,d.jpg,beak,?,,"a remark, with a comma"',
    )
    rows = read(path if by_name else tmp_path, tasks=[BEAK]).rows
    assert rows.drop(columns="path").values.tolist() == [
        ["a.jpg", "beak", "ynn", "train", "g1", "annotations.csv:2"],
        ["b.jpg", "beak", "nny", "val", "", "annotations.csv:3"],
        ["c.jpg", "beak", "nym", "", "g1", "annotations.csv:4"],
        ["d.jpg", "beak", "", "test", "g2", "annotations.csv:5"],
    ]
    assert rows["path"].tolist() == [str(tmp_path / f"{name}.jpg") for name in "abcd"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("b.jpg,beak,long,soon", "split 'soon'; expected train, val, test or nothing"),
        ("b.jpg,beak,long", "3 columns; the header has 4"),
        ("b.jpg,beak,?,train", "no label, though it is a row of train"),
    ],
)
def test_a_bad_row_of_a_csv_is_rejected(tmp_path, row, reason):
    birds(tmp_path, WITH_SPLIT, "a.jpg,beak,long,train", row)
    assert reasons(read(tmp_path, tasks=[BEAK])) == {"annotations.csv:3": reason}


def test_a_bad_row_of_a_table_with_row_numbers_is_rejected_alone(tmp_path):
    birds(tmp_path, HEADER, "1,a.jpg,beak,long", "2,b.jpg,beak", "3,c.jpg,beak,hooked")
    got = read(tmp_path, tasks=[BEAK])
    assert got.rows["image"].tolist() == ["a.jpg", "c.jpg"]
    assert reasons(got) == {"annotations.csv:3": "3 columns; the header has 4"}


def test_the_name_of_an_unknown_task_is_searched_once(tmp_path, monkeypatch):
    names = []

    def search(name, tasks):
        names.append(name)
        return resolve(name, tasks)

    monkeypatch.setattr("heatcrop.data.readers.collect.resolve", search)
    birds(tmp_path, HEADER, "a.jpg,beak,long", *["b.jpg,wing,plain"] * 30)
    assert len(read(tmp_path, tasks=[BEAK]).rejected) == 30
    assert names.count("wing") == 2  # among the tasks of the run, and among FashionAI's


@pytest.mark.parametrize(
    "text, reason",
    [
        ("image task label\na.jpg beak long\n", r"annotations.csv:1: the header .* lacks image, label"),
        ("a.jpg,beak,long\n", "lacks image, label"),
        ("image,task,label,Label\na.jpg,beak,long,x\n", "names a column twice"),
        ("", "annotations.csv: the file is empty"),
        ("\n \n", "annotations.csv: the file is empty"),
        (b"\xff\xfei\0m\0", "UTF-16"),
        (b"\xffimage,task,label\n", r"annotations.csv:1: no row of the file can be read"),
    ],
)
def test_a_csv_that_cannot_be_read_is_refused(tmp_path, text, reason):
    with pytest.raises(DataError, match=reason):
        read(put(tmp_path / "annotations.csv", text), tasks=[BEAK])


@pytest.mark.parametrize(
    "names, found", [(["one.csv"], "one.csv"), (["one.csv", "annotations.csv"], "annotations.csv")]
)
def test_the_annotations_of_a_folder_are_the_csv_with_the_header_or_the_usual_name(tmp_path, names, found):
    put(tmp_path / "other.csv", "x,y\n1,2\n")
    for name in names:
        birds(tmp_path, HEADER, "a.jpg,beak,long", name=name)
    assert read(tmp_path, tasks=[BEAK]).rows["source"].tolist() == [f"{found}:2"]


def test_several_possible_csv_files_of_a_folder_are_refused(tmp_path):
    for name in ("one.csv", "two.csv"):
        birds(tmp_path, HEADER, "a.jpg,beak,long", name=name)
    with pytest.raises(DataError, match=r"several files .*one.csv, two.csv"):
        read(tmp_path, tasks=[BEAK])


# A folder per class


def test_a_folder_per_task_and_class(tmp_path):
    hooked, _, three_quarters = class_folders(BEAK)
    put_images(tmp_path, f"beak/{hooked}/a.jpg", f"beak/{three_quarters}/b.PNG", "beak/Long/c.webp")
    put_images(tmp_path, "beak/d.jpg", "beak/hooked/Thumbs.db", "beak/hooked/.DS_Store", ".git/x/y.jpg")
    put_images(tmp_path, "beak/hooked/deep/e.jpg")
    got = read(tmp_path, tasks=[BEAK])
    classes = {"beak/3-4/b.PNG": "nny", "beak/Long/c.webp": "nyn", "beak/hooked/a.jpg": "ynn"}
    assert labels(got) == {**classes, "beak/d.jpg": ""}
    assert splits(got) == {**dict.fromkeys(classes, ""), "beak/d.jpg": "test"}
    assert len(got.rejected) == 0
    assert "2 files or folders" in got.notes[0]


def test_folders_below_a_split(tmp_path):
    put_images(tmp_path, "train/beak/long/a.jpg", "valid/beak/long/b.jpg", "test/beak/c.jpg")
    put_images(tmp_path, "train/beak/d.jpg")
    got = read(tmp_path, tasks=[BEAK])
    assert splits(got) == {
        "test/beak/c.jpg": "test",
        "train/beak/long/a.jpg": "train",
        "valid/beak/long/b.jpg": "val",
    }
    assert reasons(got) == {"train/beak/d.jpg": "no label, though it is a row of train"}


def test_folders_without_a_class_or_task_are_rejected(tmp_path):
    put_images(tmp_path, "beak/long/a.jpg", "beak/short/b.jpg", "beak/short/c.jpg", "wing/red/d.jpg")
    assert reasons(read(tmp_path, tasks=[BEAK])) == {
        "beak/short/c.jpg": "its folder 'short' is no class of beak: hooked, long, 3/4",
        "beak/short/b.jpg": "its folder 'short' is no class of beak: hooked, long, 3/4",
        "wing/red/d.jpg": "unknown task 'wing'",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_a_file_name_that_is_not_utf8_is_rejected(tmp_path):
    put_images(tmp_path, "beak/long/a.jpg", "beak/long/\udcff.jpg")
    assert reasons(read(tmp_path, tasks=[BEAK])) == {"beak/long/?.jpg": NOT_UTF8}


BAD = "\udcff"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
@pytest.mark.parametrize(
    "images", [[f"beak/{BAD}/c.jpg"], [f"{BAD}/long/c.jpg"], [f"{BAD}/long/c.jpg", f"{BAD}/hooked/d.jpg"]]
)
def test_images_in_a_folder_whose_name_is_not_utf8_are_rejected(tmp_path, images):
    root = touch(tmp_path / "birds", "beak/long/a.jpg", "beak/hooked/b.jpg", *images)
    got = read(root, tasks=None)
    assert got.tasks == (Task("beak", ("hooked", "long")),)
    assert reasons(got) == {image.replace(BAD, "?"): NOT_UTF8 for image in images}
    assert "".join([*got.rejected.to_numpy().ravel(), *got.notes, *got.problems]).isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
@pytest.mark.parametrize("place", [BAD, "link"])
def test_a_data_folder_whose_name_is_not_utf8_is_refused(tmp_path, place):
    touch(tmp_path / BAD, "hooked/1.jpg", "long/2.jpg")
    (tmp_path / "link").symlink_to(tmp_path / BAD)
    with pytest.raises(DataError, match=r"/\?: the path is not in UTF-8; rename its parts that are not$"):
        read(tmp_path / place)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_a_table_whose_name_is_not_utf8_is_read(tmp_path):
    birds(tmp_path, HEADER, "a.jpg,beak,long", "x.jpg,beak,long", name=f"{BAD}.csv")
    got = read(tmp_path, tasks=[BEAK])
    assert got.rows["source"].tolist() == ["?.csv:2"]
    assert list(reasons(got)) == ["?.csv:3"]


# Roots and layouts


def test_layouts_may_differ_between_roots(tmp_path):
    fashionai(tmp_path / "one", [neck_row("a")], "a")
    birds(tmp_path / "two", HEADER, "a.jpg,neck,Turtle Neck")
    put(tmp_path / "three/neck_design_labels/Draped Collar/a.jpg")
    rows = read(*(tmp_path / name for name in ("one", "two", "three"))).rows
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
        (["/dev/null"], "auto", "/dev/null: is neither a file nor a folder; correct the path after --data"),
        (["flat"], "auto", "holds a.jpg, b.jpg; expected .*<task>/<class>/<image> or <class>/<image>"),
    ],
)
def test_roots_without_data_are_refused(tmp_path, names, layout, reason):
    (tmp_path / "empty").mkdir()
    put_images(tmp_path, "x.txt", "flat/a.jpg", "flat/b.jpg")
    with pytest.raises(DataError, match=reason):
        read(*(tmp_path / name for name in names), layout=layout)


# Tasks inferred from the data


def test_tasks_inferred_from_folders(tmp_path):
    put_images(tmp_path, "beak/long/a.jpg", "beak/hooked/b.jpg", "wing/red/c.jpg", "wing/blue/d.jpg")
    put_images(tmp_path, "wing/empty/x.txt")
    assert read_annotations([tmp_path], None).tasks == (
        Task("beak", ("hooked", "long")),
        Task("wing", ("blue", "red")),
    )


def test_tasks_inferred_from_a_csv(tmp_path):
    ours = ("a.jpg,beak,long", "b.jpg,beak,hooked", "c.jpg,beak,?")
    birds(tmp_path, HEADER, *ours, "a.jpg,neck_design_labels,Turtle Neck", "a.jpg,pant,ynnnnn")
    assert read_annotations([tmp_path], None).tasks == (Task("beak", ("hooked", "long")), NECK, PANT)


def test_rows_without_a_task_are_rejected_where_tasks_are_inferred(tmp_path):
    birds(tmp_path, HEADER, "a.jpg,beak,long", "b.jpg,,short", "c.jpg,beak,hooked", "d.jpg,beak,long")
    got = read_annotations([tmp_path], None)
    assert got.tasks == (Task("beak", ("hooked", "long")),)
    assert (reasons(got), got.problems) == ({"annotations.csv:3": "no task is named"}, [])


def test_tasks_inferred_from_fashionai_files(tmp_path):
    fashionai(tmp_path, [neck_row("a"), "Images/s.jpg,skirt_length_labels,ynnnnn", "x.jpg,crest,yn"], "a")
    assert read_annotations([tmp_path], None).tasks == (SKIRT, NECK)


def test_a_file_beside_the_labels_names_the_classes_of_inferred_tasks(tmp_path):
    fashionai(tmp_path, ["a.jpg,crest,yn", "a.jpg,wing_length_labels,ny", neck_row("a")], "a")
    put(
        tmp_path / "classes.json",
        b'{"crest": ["tall", "flat"], "wing_length_labels": ["long", "short"], "neck_design_labels": ["x"]}',
    )
    crest = Task("crest", ("tall", "flat"))
    wing = Task("wing_length_labels", ("long", "short"), "length")
    assert read_annotations([tmp_path], None).tasks == (resolve("neck"), crest, wing)


def test_labels_of_another_length_than_the_file_of_classes_are_rejected(tmp_path):
    fashionai(tmp_path, [f"{neck('a')},crest,yn", f"{neck('b')},crest,ynn"], "ab")
    put(tmp_path / "classes.json", b'{"crest": ["tall", "flat", "none"]}')
    got = read(tmp_path, tasks=None)
    assert labels(got) == {neck("b"): "ynn"}
    reason = "label 'yn' has 2 letters; the task has 3 classes"
    assert reasons(got) == {"base/Annotations/label.csv:1": reason}


@pytest.mark.parametrize("text", [b"[]", b'{"crest": "tall"}', b'{"crest": ["tall", 2]}', b"{"])
def test_a_file_of_classes_in_another_form_is_refused(tmp_path, text):
    fashionai(tmp_path, ["a.jpg,crest,yn", neck_row("a")])
    put(tmp_path / "classes.json", text)
    with pytest.raises(DataError, match=r"classes\.json: (expected the class names|is not valid JSON)"):
        read_annotations([tmp_path], None)


@pytest.mark.parametrize(
    "rows, reason",
    [
        (["a.jpg,beak,yn", "b.jpg,beak,ny"], "annotations.csv: the labels of task 'beak' are letters"),
        (["a.jpg,beak,long"], "task 'beak' has 1 class; at least two are needed"),
        (["a.jpg,../beak,long", "b.jpg,../beak,short"], "cannot serve as a folder"),
        ([], "no row with an image"),
    ],
)
def test_data_without_clear_tasks_are_refused(tmp_path, rows, reason):
    birds(tmp_path, HEADER, *rows)
    with pytest.raises(DataError, match=reason):
        read_annotations([tmp_path], None)


# Properties


@given(st.text(alphabet=st.sampled_from("a./\\:é\0") | st.characters(), max_size=40))
def test_a_clean_path_stays_below_the_root(text):
    image, reason = clean_image(text)
    if not reason:
        assert "\\" not in image
        assert os.path.normpath(os.path.join("/data", image)).startswith("/data")
        assert ".." not in image.split("/")
        assert clean_image(image) == (image, "")


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=8))
def test_every_line_of_any_file_is_counted_once(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    raw[0] = b"x" + raw[0]  # no byte order mark, with which line ends are other bytes
    raw = [line.replace(b"\n", b"").replace(b"\r", b"") for line in raw]
    path.write_bytes(b"\n".join(raw))
    try:
        numbers = [number for number, _, _ in parse_lines(load_text(path)[0])]
    except DataError:
        return
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) in (len(raw), len(raw) - 1)  # a last line may be empty


ROWS = st.tuples(st.sampled_from("abcx"), st.sampled_from(["ynnnn", "nynnn", "nn", "?"]))


@given(st.lists(ROWS, min_size=1))
def test_every_row_is_accepted_or_rejected_once(tmp_path_factory, drawn):
    rows = [neck_row("good"), *(neck_row(name, label) for name, label in drawn)]
    got = read(fashionai(tmp_path_factory.getbasetemp() / "kept", rows, ["good", "a", "b", "c"]))
    lines = [int(source.rpartition(":")[2]) for source in [*got.rows["source"], *got.rejected["source"]]]
    assert sorted(lines) == list(range(1, len(drawn) + 2))
    assert not got.rows.duplicated(["task", "image"]).any()
