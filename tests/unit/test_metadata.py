"""Hugging Face's ImageFolder: tables of metadata, splits, and columns that are no classes."""

import json
import random

import pytest

from heatcrop.data.readers import read_annotations
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError
from tests.unit.builders import reasons_of, regions_of, rows_of, touch

WING = Task("wing", ("plain", "striped"))
BEAK = Task("beak", ("hooked", "long"))


def write(root, text, *names, file="metadata.csv"):
    touch(root, *names)
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return root


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows) + "\n"


def left_out(found):
    return [
        note.partition(" is left out, since it holds ")[::2] for note in found.notes if "left out, si" in note
    ]


def test_columns_are_tasks_and_a_split_and_group_may_be_given(tmp_path):
    text = "file_name,wing,beak,split,group\n1.jpg,plain,long,validation,a\n2.jpg,striped,,,b\n3.jpg,,,,\n"
    root = write(tmp_path, text, "1.jpg", "2.jpg", "3.jpg")
    assert read_annotations([root], None).tasks == (WING,)  # the other one has a single class here
    found = read_annotations([root], [WING, BEAK])
    assert rows_of(found) == [
        ("1.jpg", "beak", "ny", "val"),
        ("1.jpg", "wing", "yn", "val"),
        ("2.jpg", "wing", "ny", ""),
        ("3.jpg", "beak", "", "test"),
        ("3.jpg", "wing", "", "test"),
    ]
    assert found.rows["group"].tolist() == ["a", "a", "b", "", ""]
    assert "1 row without a class in some columns, for instance metadata.csv:3" in found.notes


@pytest.mark.parametrize("column", ["label", "labels", "Class", "category"])
def test_a_column_that_says_only_class_is_the_task_of_the_folders_name(tmp_path, column):
    text = f"file_name,{column}\n1.jpg,plain\n2.jpg,striped\n"
    root = write(tmp_path / "wing", text, "1.jpg", "2.jpg")
    assert read_annotations([root], None).tasks == (WING,)
    assert rows_of(read_annotations([root], None)) == [
        ("1.jpg", "wing", "yn", ""),
        ("2.jpg", "wing", "ny", ""),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "file_name;wing\n1.jpg;plain\n2.jpg;striped\n",
        "sep=;\nfile_name;wing\n1.jpg;plain\n2.jpg;striped\n",
        "file_name\twing\n1.jpg\tplain\n2.jpg\tstriped\n",
        "File_Name,Wing\n1.jpg,plain\n2.jpg,striped\n",
        '"","file_name","wing"\n"1","1.jpg","plain"\n"2","2.jpg","striped"\n',
    ],
    ids=["semicolons", "spreadsheet", "tabs", "capitals", "row numbers"],
)
def test_a_table_may_have_what_annotations_may_have(tmp_path, text):
    found = read_annotations([write(tmp_path, text, "1.jpg", "2.jpg")], None)
    assert found.tasks == (WING,)
    assert rows_of(found) == [("1.jpg", "wing", "yn", ""), ("2.jpg", "wing", "ny", "")]
    assert found.problems == []


def test_folders_of_splits_have_tables_of_their_own(tmp_path):
    for part, label in (("train", "plain"), ("fold2", "striped"), ("validation", "plain")):
        write(
            tmp_path,
            f"file_name,wing\n{part}.jpg,{label}\n",
            f"{part}/{part}.jpg",
            file=f"{part}/metadata.csv",
        )
    found = read_annotations([tmp_path], [WING], splits={"fold2": "test"})
    assert rows_of(found) == [
        ("fold2.jpg", "wing", "ny", "test"),
        ("train.jpg", "wing", "yn", "train"),
        ("validation.jpg", "wing", "yn", "val"),
    ]


def test_true_regions_of_folders_of_splits_are_found_by_path_or_by_a_name_that_one_image_has(tmp_path):
    for part, names in (("train", "123"), ("test", "14")):
        text = "file_name,wing\n" + "".join(f"{name}.jpg,plain\n" for name in names)
        write(tmp_path, text, file=f"{part}/metadata.csv")
        for name in names:
            (tmp_path / part / f"{name}.jpg").write_text(part + name)
    boxes = [
        "test/1.jpg,wing,1,2,3,4",
        "2.jpg,wing,1,2,3,5",
        "train/3.jpg,wing,1,2,3,6",
        "9.jpg,wing,1,2,3,4",
    ]
    (tmp_path / "boxes_true.csv").write_text("\n".join(["image,task,x0,y0,x1,y1", *boxes]))
    found = read_annotations([tmp_path], [WING])
    first, second, third = regions_of(found)
    assert (second, third) == (("2.jpg", "wing", 1, 2, 3, 5), ("3.jpg", "wing", 1, 2, 3, 6))
    name_of = dict(zip(found.rows["path"], found.rows["image"], strict=True))
    assert first == (name_of[str(tmp_path / "test" / "1.jpg")], "wing", 1, 2, 3, 4)
    assert "1 true region of images that are not used, for instance boxes_true.csv:5" in found.notes
    (tmp_path / "boxes_true.csv").write_text("image,task,x0,y0,x1,y1\n1.jpg,wing,1,2,3,4\n")
    found = read_annotations([tmp_path], [WING])
    assert found.regions.empty
    note = "1 true region with the name of images in several folders not used; name the folder, too"
    assert f"{note}, for instance boxes_true.csv:2" in found.notes


def test_one_table_may_name_the_folders_of_splits(tmp_path):
    text = lines(
        {"file_name": "train/1.jpg", "wing": "plain"}, {"file_name": "test/2.jpg", "wing": "striped"}
    )
    root = write(tmp_path, text, "train/1.jpg", "test/2.jpg", file="metadata.jsonl")
    assert rows_of(read_annotations([root], [WING])) == [
        ("test/2.jpg", "wing", "ny", "test"),
        ("train/1.jpg", "wing", "yn", "train"),
    ]


def test_columns_whose_values_are_no_classes_are_left_out_with_a_note(tmp_path):
    chosen = random.Random(0)
    rows = [
        {
            "file_name": f"{number}.jpg",
            "wing": WING.classes[number % 2],
            "toes": number % 3,
            "ringed": number % 2 == 0,
            "caption": f"a bird that was seen on day {number}",
            "serial": f"{number:05}",
            "weight": chosen.random(),
            "width": 640,
            "objects": {"bbox": [[1, 2, 3, 4]]},
            "tags": ["a"],
            "nothing": None,
        }
        for number in range(30)
    ]
    root = write(tmp_path, lines(*rows), *(row["file_name"] for row in rows), file="metadata.jsonl")
    found = read_annotations([root], None)
    assert {task.name: task.classes for task in found.tasks} == {
        "ringed": ("false", "true"),
        "toes": ("0", "1", "2"),
        "wing": WING.classes,
    }
    assert left_out(found) == [
        ("metadata.jsonl: the column 'caption'", "another value in nearly every row"),
        ("metadata.jsonl: the column 'serial'", "another value in nearly every row"),
        ("metadata.jsonl: the column 'weight'", "numbers with decimals"),
        ("metadata.jsonl: the column 'width'", "sizes of images"),
        ("metadata.jsonl: the column 'objects'", "lists or objects"),
        ("metadata.jsonl: the column 'tags'", "lists or objects"),
        ("metadata.jsonl: the column 'nothing'", "nothing"),
    ]


def test_known_names_in_lines_of_json_may_have_capitals(tmp_path):
    rows = [
        {"File_Name": "1.jpg", "wing": "plain", "Split": "train", "GROUP": "a"},
        {"file_name": "2.jpg", "wing": "striped", "split": "test", "Wing": "plain"},
    ]
    root = write(tmp_path, lines(*rows), "1.jpg", "2.jpg", file="metadata.jsonl")
    found = read_annotations([root], None)
    assert found.tasks == (WING,)
    assert rows_of(found) == [("1.jpg", "wing", "yn", "train"), ("2.jpg", "wing", "ny", "test")]
    assert found.rows["group"].tolist() == ["a", ""]


def test_a_column_of_splits_with_another_name_is_no_task(tmp_path):
    text = "file_name,wing,subset\n1.jpg,plain,train\n2.jpg,striped,Test\n3.jpg,plain,\n"
    found = read_annotations([write(tmp_path, text, "1.jpg", "2.jpg", "3.jpg")], None)
    assert found.tasks == (WING,)
    assert left_out(found) == [
        ("metadata.csv: the column 'subset'", "names of splits; to use them, call it 'split'")
    ]


def test_a_task_of_the_run_is_never_left_out(tmp_path):
    root = write(tmp_path, "file_name,size\n1.jpg,1\n2.jpg,2\n", "1.jpg", "2.jpg")
    assert len(rows_of(read_annotations([root], [Task("size", ("1", "2"))]))) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "the line is not valid JSON (EOF while parsing an object at line 1 column 1)"),
        ("[" * 10**5, "the line is not valid JSON (recursion limit"),
        ("7", "the line is no JSON object; expected file_name and classes"),
        ('{"wing": "plain"}', "file_name is missing; expected the path of an image"),
        ('{"file_name": 7, "wing": "plain"}', "file_name is missing; expected the path of an image"),
        ('{"file_name": "../9.jpg", "wing": "plain"}', "the path leaves the data folder; give one below it"),
        ('{"file_name": "9.jpg", "wing": "plain"}', "the image is missing: there is no 9.jpg"),
        ('{"file_name": "2.jpg", "wing": "x"}', "label 'x' is neither letters y, m, n nor a class of wing"),
    ],
)
def test_a_line_that_cannot_be_used_is_rejected_alone(tmp_path, line, reason):
    text = lines({"file_name": "1.jpg", "wing": "plain"}) + line
    found = read_annotations([write(tmp_path, text, "1.jpg", "2.jpg", file="metadata.jsonl")], [WING])
    assert rows_of(found) == [("1.jpg", "wing", "yn", "")]
    assert reason in reasons_of(found)["metadata.jsonl:2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file_name\n1.jpg\n",
            "metadata.csv: it has no other columns; expected file_name, and",
        ),
        ("file_name,weight\n1.jpg,0.5\n", "metadata.csv: the columns weight hold no classes"),
        ("file_name,wing,wing\n1.jpg,a,b\n", "names a column twice"),
    ],
)
def test_a_table_without_classes_is_an_error(tmp_path, text, message):
    with pytest.raises(DataError) as error:
        read_annotations([write(tmp_path, text, "1.jpg")], [WING])
    assert message in str(error.value)


def test_a_single_file_is_read_too(tmp_path):
    root = write(tmp_path, "file_name,wing\n1.jpg,plain\n", "1.jpg")
    assert rows_of(read_annotations([root / "metadata.csv"], [WING])) == [("1.jpg", "wing", "yn", "")]
