"""Class folders without a task, folders of splits, stray folders, and names that differ by case."""

import gzip
import unicodedata

import pytest

from heatcrop.data.readers import read_annotations
from heatcrop.data.readers.collect import Collector, find_split
from heatcrop.data.readers.folders import find_labels
from heatcrop.data.readers.root import Root
from heatcrop.data.tasks import FASHIONAI, Task
from heatcrop.errors import DataError
from tests.unit.builders import n_calls, touch

BEAK = Task("beak", ("hooked", "long"))
NFC, NFD = "\u00e9", "e\u0301"


@pytest.fixture
def home(tmp_path):
    """Make a folder `birds`, and return what writes images into it."""
    root = tmp_path / "birds"

    def put(*names):
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return root

    return put


def inferred(*roots, **options):
    return read_annotations(roots, None, **options)


def labels(read):
    return dict(zip(read.rows["image"], read.rows["label"], strict=True))


def splits(read):
    return dict(zip(read.rows["image"], read.rows["split"], strict=True))


# --- one task: a folder per class


def test_class_folders_are_one_task_named_after_the_folder(home):
    read = inferred(home("hooked/1.jpg", "long/1.jpg", "long/2.jpg"))
    assert read.tasks == (Task("birds", ("hooked", "long")),)
    assert labels(read) == {"hooked/1.jpg": "yn", "long/1.jpg": "ny", "long/2.jpg": "ny"}
    assert set(read.rows["task"]) == {"birds"}
    assert read.problems == []
    assert read.notes == ["birds/: its folders are read as the classes of one task, birds"]


def test_class_folders_below_splits_are_one_task(home):
    read = inferred(home("train/hooked/1.jpg", "train/long/2.jpg", "test/long/3.jpg", "val/hooked/4.jpg"))
    assert read.tasks == (Task("birds", ("hooked", "long")),)
    assert splits(read) == {
        "test/long/3.jpg": "test",
        "train/hooked/1.jpg": "train",
        "train/long/2.jpg": "train",
        "val/hooked/4.jpg": "val",
    }


def test_images_beside_class_folders_have_no_label(home):
    read = inferred(home("train/hooked/1.jpg", "train/long/2.jpg", "test/3.jpg"))
    assert labels(read)["test/3.jpg"] == ""
    assert splits(read)["test/3.jpg"] == "test"


def test_images_of_a_training_folder_without_a_class_are_rejected(home):
    read = inferred(home("train/hooked/1.jpg", "train/long/2.jpg", "train/3.jpg"))
    assert read.rejected["source"].tolist() == ["train/3.jpg"]


def test_a_stray_folder_in_a_class_does_not_make_it_a_task(home):
    read = inferred(home("hooked/1.jpg", "long/2.jpg", "long/more/3.jpg", "long/more/4.jpg"))
    assert read.tasks == (Task("birds", ("hooked", "long")),)
    assert len(read.rows) == 2
    assert len(read.problems) == 1
    assert "2 images left out, for instance long/more/3.jpg" in read.problems[0]


def test_class_folders_may_have_names_of_official_tasks(home):
    assert inferred(home("coat/1.jpg", "skirt/2.jpg")).tasks == (Task("birds", ("coat", "skirt")),)


def test_a_class_may_be_called_like_a_split(home):
    read = inferred(home("train/1.jpg", "bus/2.jpg", "car/3.jpg"))
    assert read.tasks == (Task("birds", ("bus", "car", "train")),)
    assert set(read.rows["split"]) == {""}


def test_class_folders_of_the_only_task_with_these_classes(home):
    read = read_annotations([home("hooked/1.jpg", "long/2.jpg")], [BEAK, Task("wing", ("plain", "striped"))])
    assert read.rows["task"].tolist() == ["beak", "beak"]


def test_class_folders_of_no_known_task_suggest_to_infer_it(home):
    with pytest.raises(DataError, match=r"the data holds: birds \(2 rows\).*data.tasks=infer"):
        read_annotations([home("hooked/1.jpg", "long/2.jpg")], FASHIONAI)


def test_a_task_folder_with_unlabelled_images_stays_a_task(home):
    read = inferred(home("beak/hooked/1.jpg", "beak/long/2.jpg", "beak/3.jpg", "wing/4.jpg"))
    assert read.tasks == (BEAK,)
    assert labels(read) == {"beak/3.jpg": "", "beak/hooked/1.jpg": "yn", "beak/long/2.jpg": "ny"}


@pytest.mark.parametrize(
    ("folder", "task"), [("a,b", "a-b"), ("birds/train", "birds"), (".birds", "birds"), ("birds", "birds")]
)
def test_the_name_of_the_task(tmp_path, folder, task):
    for name in ("x", "y"):
        (tmp_path / folder / name).mkdir(parents=True)
        (tmp_path / folder / name / "1.jpg").touch()
    assert [one.name for one in read_annotations([tmp_path / folder], None).tasks] == [task]


# --- one stray item


@pytest.mark.parametrize("stray", ["empty", "beak/none", "train", "other/inner"])
def test_a_folder_without_images_is_left_out(home, stray):
    root = home("beak/hooked/1.jpg", "beak/long/2.jpg")
    (root / stray).mkdir(parents=True)
    read = inferred(root)
    assert read.tasks == (BEAK,)
    assert len(read.rows) == 2
    assert len(read.rejected) == 0
    first = stray.split("/inner")[0]
    assert len(read.problems) == 1
    assert f"1 folder without an image left out, for instance {first}/" in read.problems[0]


def test_a_folder_without_images_beside_splits_is_left_out(home):
    root = home("train/beak/hooked/1.jpg", "train/beak/long/2.jpg", "test/beak/long/3.jpg")
    (root / "__MACOSX").mkdir()
    assert splits(inferred(root))["test/beak/long/3.jpg"] == "test"


def test_an_empty_folder_that_is_no_class_rejects_no_row(home):
    root = home("beak/hooked/1.jpg", "beak/long/2.jpg")
    (root / "beak/none").mkdir()
    read = read_annotations([root], [BEAK])
    assert len(read.rejected) == 0
    assert len(read.problems) == 1


def test_a_task_with_one_class_is_left_out(home):
    read = inferred(home("beak/hooked/1.jpg", "beak/long/2.jpg", "wing/plain/3.jpg", "wing/plain/4.jpg"))
    assert read.tasks == (BEAK,)
    assert read.left_out == ("wing",)
    assert len(read.rejected) == 0
    assert read.problems == [
        "task 'wing' left out (2 images): task 'wing' has 1 class; at least two are needed"
    ]


def test_a_task_that_is_left_out_by_name_is_counted(home):
    root = home("beak/hooked/1.jpg", "beak/long/2.jpg", "wing/plain/3.jpg")
    read = read_annotations([root], [BEAK], left_out=["wing"])
    assert len(read.rejected) == 0
    assert read.problems == []
    assert read.notes == ["task 'wing' left out (1 image)"]


def test_classes_are_counted_over_all_roots(home, tmp_path):
    one, two = home("a/wing/plain/1.jpg", "b/wing/striped/1.jpg") / "a", tmp_path / "birds/b"
    read = inferred(one, two)
    assert read.tasks == (Task("wing", ("plain", "striped")),)
    assert read.problems == []


@pytest.mark.parametrize("bad", ["nowhere", "empty"])
def test_one_bad_root_is_left_out(home, tmp_path, bad):
    (tmp_path / "empty").mkdir()
    read = inferred(tmp_path / bad, home("beak/hooked/1.jpg", "beak/long/2.jpg"))
    assert len(read.rows) == 2
    assert len(read.problems) == 1
    assert "this data is left out" in read.problems[0]


def test_a_task_to_be_left_out_that_the_data_does_not_have_is_a_problem(home):
    root = home("beak/hooked/1.jpg", "beak/long/2.jpg")
    read = read_annotations([root], [BEAK], left_out=["wign"])
    assert read.problems == [
        "data.left_out names 'wign', which is the task of no row; write it as the data does"
    ]


def test_a_task_whose_name_cannot_serve_is_left_out(home):
    read = inferred(home("beak/hooked/1.jpg", "beak/long/2.jpg", "a;b/x/3.jpg", "a;b/y/4.jpg"))
    assert read.tasks == (BEAK,)
    assert "task 'a;b' left out (2 images)" in read.problems[0]


# --- splits


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *dict.fromkeys(
            ("train", "training", "Train", "TRAINING", "training_set", "trainset", "train_2017"), "train"
        ).items(),
        *dict.fromkeys(("val", "valid", "validation", "dev", "val2017", "validation-set"), "val").items(),
        *dict.fromkeys(
            ("test", "testing", "holdout", "eval", "HoldOut", "hold-out", "Hold_Out", "test_set"), "test"
        ).items(),
        *dict.fromkeys(("beak", "trains", "set", "fold1", "2017", "train20", "development"), None).items(),
        ("", ""),
    ],
)
def test_names_of_splits(name, split):
    assert find_split(name, {}) == split


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("training", "holdout"), ("train", "test")),
        (("train", "dev"), ("train", "val")),
        (("Training", "eval"), ("train", "test")),
    ],
)
@pytest.mark.parametrize("task", ["", "beak/"])
def test_folders_of_splits(home, names, found, task):
    files = [f"{name}/{task}{label}/1.jpg" for name in names for label in ("hooked", "long")]
    read = inferred(home(*files))
    assert [one.classes for one in read.tasks] == [("hooked", "long")]
    assert splits(read) == {file: found[i // 2] for i, file in enumerate(files)}


@pytest.mark.parametrize(
    ("renamed", "found"),
    [
        ({"fold1": "train", "fold2": "test"}, {"train", "test"}),
        ({"fold1": "val", "fold2": "train"}, {"train", "val"}),
    ],
)
def test_folders_of_renamed_splits(home, renamed, found):
    root = home(*(f"fold{i}/{label}/1.jpg" for i in (1, 2) for label in ("hooked", "long")))
    read = inferred(root, splits=renamed)
    assert read.tasks == (Task("birds", ("hooked", "long")),)
    assert set(read.rows["split"]) == found


def test_a_usual_split_that_is_used_as_another_is_noted(home):
    root = home("train/hooked/1.jpg", "train/long/2.jpg", "val/hooked/3.jpg", "val/long/4.jpg")
    assert not any("data.splits" in note for note in inferred(root).notes)
    (note,) = (note for note in inferred(root, splits={"val": "test"}).notes if "data.splits" in note)
    assert note.startswith("2 rows given as val used as test (data.splits)")


def test_renaming_two_splits_exchanges_them(home):
    root = home("valid/hooked/1.jpg", "valid/long/2.jpg", "test/long/3.jpg", "train/long/4.jpg")
    read = inferred(root, splits={"val": "test", "test": "val"})
    assert splits(read) == {
        "test/long/3.jpg": "val",
        "train/long/4.jpg": "train",
        "valid/hooked/1.jpg": "test",
        "valid/long/2.jpg": "test",
    }


def test_a_csv_may_have_renamed_splits(home):
    root = home("1.jpg", "2.jpg", "3.jpg")
    rows = "1.jpg,beak,hooked,fold1\n2.jpg,beak,long,holdout\n3.jpg,beak,long,other\n"
    (root / "annotations.csv").write_text(f"image,task,label,split\n{rows}")
    read = read_annotations([root], [BEAK], splits={"fold1": "train"})
    assert splits(read) == {"1.jpg": "train", "2.jpg": "test"}
    assert read.rejected["source"].tolist() == ["annotations.csv:4"]


def test_a_folder_beside_splits_that_is_none_is_a_problem(home):
    read = inferred(home("train/hooked/1.jpg", "train/long/2.jpg", "extra/long/3.jpg"))
    assert read.tasks == (Task("birds", ("hooked", "long")),)
    assert len(read.rows) == 2
    assert len(read.problems) == 1
    assert "1 image left out, for instance extra/long/3.jpg" in read.problems[0]
    assert "--set data.splits.extra=train" in read.problems[0]


def test_a_folder_beside_splits_of_several_tasks_is_a_problem(home):
    read = inferred(home("train/beak/hooked/1.jpg", "train/beak/long/2.jpg", "extra/beak/long/3.jpg"))
    assert read.tasks == (BEAK,)
    assert read.rows["split"].tolist() == ["train", "train"]
    assert "1 image left out, for instance extra/beak/long/3.jpg" in read.problems[0]


@pytest.mark.parametrize(
    ("names", "unnamed", "first"),
    [(("fold1", "fold2"), "fold1, fold2", "fold1"), (("test", "trian"), "trian", "trian")],
)
def test_tasks_with_the_same_classes_may_be_splits(home, names, unnamed, first):
    read = inferred(home(*(f"{name}/{label}/1.jpg" for name in names for label in ("hooked", "long"))))
    assert len(read.tasks) == 2
    assert f"the tasks {', '.join(names)} have the same classes" in read.notes[0]
    assert read.notes[0].endswith(f"split of {unnamed}, for instance --set data.splits.{first}=train")


def test_roots_that_are_splits(home, tmp_path):
    home("train/hooked/1.jpg", "train/long/1.jpg", "test/long/1.jpg")
    read = inferred(tmp_path / "birds/train", tmp_path / "birds/test")
    assert read.tasks == (Task("birds", ("hooked", "long")),)
    assert read.rows["split"].tolist() == ["train", "train", "test"]


# --- case and Unicode form


def test_classes_of_one_folder_that_differ_by_case_are_apart(home):
    read = inferred(home("letter/A/1.jpg", "letter/a/2.jpg", "letter/b/3.jpg"))
    assert read.tasks == (Task("letter", ("A", "a", "b")),)
    assert labels(read) == {"letter/A/1.jpg": "ynn", "letter/a/2.jpg": "nyn", "letter/b/3.jpg": "nny"}
    assert len(read.notes) == 1
    assert "differ only by case" in read.notes[0]


def test_classes_of_two_splits_that_differ_by_case_are_one(home):
    read = inferred(home("train/letter/A/1.jpg", "train/letter/b/2.jpg", "test/letter/a/3.jpg"))
    assert [len(task.classes) for task in read.tasks] == [2]
    assert labels(read)["train/letter/A/1.jpg"] == labels(read)["test/letter/a/3.jpg"]
    assert len(read.notes) == 1
    assert "labels in another spelling" in read.notes[0]


@pytest.mark.parametrize(("trained", "tested"), [("A", "a"), ("a", "A"), ("Ab", "aB")])
def test_a_class_has_the_name_that_it_has_in_training(home, trained, tested):
    read = inferred(home(f"train/{trained}/1.jpg", "train/b/2.jpg", f"test/{tested}/3.jpg"))
    assert set(read.tasks[0].classes) == {trained, "b"}


@pytest.mark.parametrize(("trained", "tested"), [("A", "a"), ("a", "A")])
def test_a_class_has_the_name_that_it_has_in_the_root_of_training(home, tmp_path, trained, tested):
    home(f"train/t/{trained}/1.jpg", "train/t/b/2.jpg", f"test/t/{tested}/3.jpg", "test/t/b/4.jpg")
    read = inferred(tmp_path / "birds/train", tmp_path / "birds/test")
    assert set(read.tasks[0].classes) == {trained, "b"}


def test_tasks_of_two_splits_that_differ_by_case_are_one(home):
    read = inferred(home("train/Beak/hooked/1.jpg", "train/Beak/long/2.jpg", "test/beak/long/3.jpg"))
    assert [task.classes for task in read.tasks] == [("hooked", "long")]
    assert len(read.rows) == 3


def test_tasks_of_one_folder_that_differ_by_case_are_apart(home):
    read = inferred(home("T/x/1.jpg", "T/y/2.jpg", "t/x/3.jpg", "t/y/4.jpg"))
    assert [task.name for task in read.tasks] == ["T", "t"]
    assert read.rows["task"].tolist() == ["T", "T", "t", "t"]


@pytest.mark.parametrize(
    ("text", "label"), [("A", "ynn"), ("a", "nyn"), ("B", "nny"), (NFD + "b", ""), ("b", "nny")]
)
def test_a_class_is_matched_exactly_first_and_then_by_case(home, text, label):
    root = home("1.jpg", "2.jpg")
    (root / "annotations.csv").write_text(f"image,task,label\n1.jpg,t,{text}\n2.jpg,t,b\n")
    read = read_annotations([root], [Task("t", ("A", "a", "b"))])
    assert labels(read).get("1.jpg", "") == label


def test_a_label_that_could_be_two_classes_is_rejected(home):
    root = home("1.jpg", "2.jpg")
    (root / "annotations.csv").write_text("image,task,label\n1.jpg,t,AB\n2.jpg,t,Ab\n")
    read = read_annotations([root], [Task("t", ("Ab", "aB"))])
    assert labels(read) == {"2.jpg": "yn"}
    assert "differs only by case from 'Ab' or 'aB'" in read.rejected["reason"][0]


@pytest.mark.parametrize(("one", "other"), [(NFC, NFD), (NFD, NFC)])
def test_unicode_forms_of_a_class_are_one(home, one, other):
    read = inferred(home(f"train/{one}/1.jpg", "train/b/2.jpg", f"test/{other}/3.jpg"))
    assert [unicodedata.normalize("NFC", name) for name in read.tasks[0].classes].count(NFC) == 1
    assert len(read.tasks[0].classes) == 2
    assert len(read.rows) == 3


@pytest.mark.parametrize("form", [NFC, NFD])
def test_a_task_may_have_an_accent_in_either_unicode_form(home, form):
    read = inferred(home(f"{form}/a/1.jpg", f"{form}/b/2.jpg"))
    assert read.tasks == (Task(NFC, ("a", "b")),)
    assert read.rows["task"].tolist() == [NFC, NFC]
    assert read.problems == []


@pytest.mark.parametrize(
    ("annotated", "on_disk"),
    [
        (f"{NFC}/{NFC}.jpg", f"{NFD}/{NFD}.jpg"),
        (f"{NFD}.jpg", f"{NFC}.jpg"),
        ("IMG_1.JPG", "img_1.jpg"),
        ("pics/a.jpg", "Pics/A.jpg"),
    ],
)
def test_a_file_is_found_under_another_spelling(home, annotated, on_disk):
    root = home(on_disk)
    text = f"image,task,label\n{annotated},beak,long\n"
    (root / "annotations.csv").write_text(text, encoding="utf-8")
    read = read_annotations([root], [BEAK])
    assert read.rows["image"].tolist() == [annotated]
    assert read.rows["path"].tolist() == [f"{root}/{on_disk}"]
    assert len(read.notes) == 1
    assert "1 image found under a name that differs" in read.notes[0]


def test_an_exact_file_name_comes_first(home):
    root = home("a.jpg", "A.jpg")
    (root / "annotations.csv").write_text("image,task,label\na.jpg,beak,long\nA.jpg,beak,hooked\n")
    read = read_annotations([root], [BEAK])
    assert labels(read) == {"a.jpg": "ny", "A.jpg": "yn"}
    assert read.notes == []


def test_two_spellings_of_one_file_are_duplicates(home):
    root = home("a.jpg")
    (root / "annotations.csv").write_text("image,task,label\na.jpg,beak,long\nA.jpg,beak,long\n")
    read = read_annotations([root], [BEAK])
    assert read.rejected["reason"].tolist() == ["duplicate of annotations.csv:2"]


def test_a_file_name_that_could_be_two_files_is_rejected(home):
    root = home("ab.jpg", "AB.jpg")
    (root / "annotations.csv").write_text("image,task,label\naB.jpg,beak,long\nab.jpg,beak,long\n")
    read = read_annotations([root], [BEAK])
    assert read.rejected["reason"].tolist() == ["the image is missing: there is no aB.jpg"]


# --- splits within tasks, tables of splits, folders too deep


def test_splits_within_a_task(home):
    read = inferred(home("beak/train/hooked/1.jpg", "beak/train/long/2.jpg", "beak/test/long/3.jpg"))
    assert read.tasks == (BEAK,)
    assert splits(read) == {
        "beak/test/long/3.jpg": "test",
        "beak/train/hooked/1.jpg": "train",
        "beak/train/long/2.jpg": "train",
    }
    assert read.problems == []


def test_a_test_set_without_classes_beside_divided_splits_has_no_label(home):
    read = inferred(home("beak/train/hooked/1.jpg", "beak/train/long/2.jpg", "beak/test/3.jpg"))
    assert read.tasks == (BEAK,)
    assert labels(read)["beak/test/3.jpg"] == ""
    assert splits(read)["beak/test/3.jpg"] == "test"


@pytest.fixture
def two_tables(home):
    root = home("1.jpg", "2.jpg", "3.jpg")
    (root / "train.csv").write_text("image,task,label\n1.jpg,beak,long\n2.jpg,beak,hooked\n")
    (root / "test.csv").write_text("image,task,label\n3.jpg,beak,long\n")
    return root


@pytest.mark.parametrize("names", [["train.csv", "test.csv"], [""]], ids=["tables", "folder"])
def test_tables_that_are_splits(two_tables, names):
    read = inferred(*(two_tables / name for name in names))
    assert splits(read) == {"1.jpg": "train", "2.jpg": "train", "3.jpg": "test"}
    assert read.problems == []
    assert sorted(read.notes) == [
        "birds/test.csv: rows without a split are in test, by its name",
        "birds/train.csv: rows without a split are in train, by its name",
    ]


@pytest.mark.parametrize("together", [True, False])
def test_tables_with_a_split_in_their_names(two_tables, together):
    names = "train_labels.csv", "labels.test.csv"
    for old, new in zip(("train.csv", "test.csv"), names, strict=True):
        (two_tables / old).rename(two_tables / new)
    read = inferred(two_tables) if together else inferred(*(two_tables / name for name in names))
    assert splits(read) == {"1.jpg": "train", "2.jpg": "train", "3.jpg": "test"}
    assert set(splits(inferred(two_tables / names[0])).values()) == {""}


@pytest.mark.parametrize("name", ["train_val.csv", "train_old.csv"])
def test_tables_without_a_split_of_their_own_are_refused(two_tables, name):
    (two_tables / name).write_text((two_tables / "train.csv").read_text())
    with pytest.raises(DataError, match="several files could hold the annotations"):
        inferred(two_tables)


def test_what_tables_that_are_splits_leave_out_is_a_problem(two_tables):
    touch(two_tables, "4.jpg")
    (two_tables / "labels.json").write_text('{"4.jpg": "long"}')
    document, image = inferred(two_tables).problems
    assert document.startswith("birds/labels.json: resembles annotations and is not used")
    assert "1 image without a row in the annotations, for instance birds/4.jpg" in image


def test_compressed_tables_that_are_splits(two_tables):
    for path in (two_tables / "train.csv", two_tables / "test.csv"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert splits(inferred(two_tables)) == {"1.jpg": "train", "2.jpg": "train", "3.jpg": "test"}


def test_of_tables_with_other_names_one_is_to_be_chosen(two_tables):
    (two_tables / "train.csv").rename(two_tables / "mine.csv")
    with pytest.raises(DataError, match=r"several files could hold the annotations \(mine.csv, test.csv\)"):
        inferred(two_tables)


def test_a_table_with_the_usual_name_comes_before_those_of_splits(two_tables):
    (two_tables / "annotations.csv").write_text("image,task,label\n1.jpg,beak,long\n2.jpg,beak,hooked\n")
    assert set(splits(inferred(two_tables))) == {"1.jpg", "2.jpg"}


def test_a_task_called_like_a_split_is_one_where_it_is_the_only_root(home, tmp_path):
    home("test/hooked/1.jpg", "test/long/2.jpg")
    assert set(inferred(tmp_path / "birds/test").rows["split"]) == {""}


@pytest.mark.parametrize("tasks", [None, [BEAK]])
def test_folders_too_deep_are_named_in_the_error(home, tasks):
    root = home("data/birds/beak/hooked/1.jpg", "data/birds/beak/long/2.jpg")
    with pytest.raises(DataError, match="no image can be used|left out|expected"):
        read_annotations([root], tasks)


def test_images_too_deep_beside_others_are_named(home):
    (problem,) = inferred(home("beak/hooked/1.jpg", "beak/long/2.jpg", "a/b/c/d/3.jpg")).problems
    assert "1 image left out, for instance a/b/c/d/3.jpg: they are below a class's folder" in problem


def test_images_too_deep_are_named_in_the_error(home):
    root = home("data/birds/deep/1.jpg", "data/birds/deep/2.jpg")
    with pytest.raises(DataError, match=r"2 images left out, for instance data/birds/deep/1.jpg"):
        read_annotations([root], [BEAK])


def test_splits_within_classes(home):
    read = inferred(home("hooked/train/1.jpg", "hooked/test/2.jpg", "long/train/3.jpg", "long/4.jpg"))
    assert read.tasks == (Task("birds", ("hooked", "long")),)
    assert labels(read) == {
        "hooked/test/2.jpg": "yn",
        "hooked/train/1.jpg": "yn",
        "long/4.jpg": "ny",
        "long/train/3.jpg": "ny",
    }
    assert splits(read) == {
        "hooked/test/2.jpg": "test",
        "hooked/train/1.jpg": "train",
        "long/4.jpg": "",
        "long/train/3.jpg": "train",
    }
    assert read.problems == []


def test_images_beside_classes_that_hold_splits_have_no_label(home):
    read = inferred(home("hooked/train/1.jpg", "hooked/test/2.jpg", "long/train/3.jpg", "4.jpg"))
    assert labels(read)["4.jpg"] == ""
    assert splits(read)["4.jpg"] == "test"


def test_a_folder_of_a_split_in_another_of_the_same(home):
    read = inferred(
        home(
            "training_set/training_set/cat/1.jpg",
            "training_set/training_set/dog/2.jpg",
            "test/test/dog/3.jpg",
        )
    )
    assert read.tasks == (Task("birds", ("cat", "dog")),)
    assert read.rows["split"].tolist() == ["test", "train", "train"]
    assert read.problems == []


def test_ten_times_as_many_classes_take_about_ten_times_as_many_calls(tmp_path):
    counts = []
    for n in (30, 300):
        root = touch(tmp_path / f"{n}", *(f"beak/{i}/1.jpg" for i in range(n)))
        collector = Collector([BEAK])
        collector.start(Root(root, root))
        counts.append(n_calls(find_labels, collector))
    assert counts[1] < 15 * counts[0]
