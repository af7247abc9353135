import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.readers import read_annotations
from heatcrop.data.tasks import FASHIONAI, MAX_FOLDER_BYTES, Task, class_folders, folder_name, resolve
from heatcrop.errors import DataError
from tests.unit.builders import touch


def test_fashionai_has_eight_tasks_with_their_class_counts():
    counts = [(task.short, len(task.classes)) for task in FASHIONAI]
    names = ["skirt", "coat", "collar", "lapel", "neck", "neckline", "pant", "sleeve"]
    assert counts == list(zip(names, [6, 8, 5, 5, 5, 10, 6, 9], strict=True))


@pytest.mark.parametrize("task", FASHIONAI, ids=lambda task: task.short)
def test_the_first_class_of_a_fashionai_task_is_invisible(task):
    assert task.invisible == 0


def test_a_task_without_invisible_class():
    assert Task("beak", ("a", "b")).invisible is None


def test_four_fashionai_tasks_are_about_length():
    assert {task.short for task in FASHIONAI if task.kind == "length"} == {"skirt", "coat", "pant", "sleeve"}


@pytest.mark.parametrize(
    "name, short",
    [
        ("neck_design_labels", "neck"),
        ("neckline_design_labels", "neckline"),
        ("coat_length_labels", "coat"),
        ("beak", "beak"),
        ("beak_labels", "beak"),
        ("length_labels", "length"),  # no text before the ending
        ("_labels", "_labels"),
    ],
)
def test_short_names(name, short):
    assert Task(name, ("a", "b")).short == short


@pytest.mark.parametrize("spelling", ["neck", "NECK", " neck ", "neck_design_labels", "Neck_Design_Labels"])
def test_full_and_short_names_find_neck_and_not_neckline(spelling):
    assert resolve(spelling, FASHIONAI).name == "neck_design_labels"


@pytest.mark.parametrize("spelling", ["nec", "neck_design", "neckl", "", "neck_design_labels2", "*"])
def test_the_error_for_an_unknown_name_lists_the_tasks(spelling):
    with pytest.raises(DataError, match="There are: skirt, coat, collar, lapel, neck, neckline"):
        resolve(spelling, FASHIONAI)


def test_the_error_for_a_misspelt_name_suggests_a_task():
    with pytest.raises(DataError, match="did you mean sleeve"):
        resolve("sleve", FASHIONAI)


SAME_SHORT = (Task("neck_design_labels", ("a", "b")), Task("neck_length_labels", ("a", "b")))


def test_an_ambiguous_short_name_is_refused():
    with pytest.raises(DataError, match="give the full name"):
        resolve("neck", SAME_SHORT)


def test_a_full_name_is_never_ambiguous():
    assert resolve("neck_length_labels", SAME_SHORT) is SAME_SHORT[1]


def test_a_full_name_takes_precedence_over_a_short_name():
    tasks = (Task("beak_labels", ("a", "b")), Task("beak", ("a", "b")))
    assert resolve("beak", tasks) is tasks[1]


@pytest.mark.parametrize(
    "name, classes, kind, reason",
    [
        ("", ("a", "b"), "design", "folder"),
        ("../up", ("a", "b"), "design", "folder"),
        ("a,b", ("a", "b"), "design", "CSV"),
        ("NUL", ("a", "b"), "design", "folder"),
        ("beak", ("a",), "design", "at least two"),
        ("beak", ("a", "a"), "design", "twice"),
        ("beak", ("a", " "), "design", "without a name"),
        ("beak", ("a", "b"), "width", "design, length"),
    ],
)
def test_an_unusable_task_is_refused(name, classes, kind, reason):
    with pytest.raises(ValueError, match=reason):
        Task(name, classes, kind)


def test_a_task_from_a_list_is_hashable():
    assert hash(Task("beak", ["hooked", "straight"])) == hash(Task("beak", ("hooked", "straight")))


def test_a_task_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Task("beak", ("a", "b")).name = "wing"


@pytest.mark.parametrize(
    "name, folder",
    [
        ("3/4 Length", "3-4 Length"),
        ("Ankle&Floor Length", "Ankle&Floor Length"),
        ("..", "unnamed"),
        ("../x", "-x"),
        (".hidden", "hidden"),
        ("a\\b", "a-b"),
        ("C:\\x", "C-x"),
        ("a\0b\nc\td", "ab c d"),
        ("ends. ", "ends"),
        ("con", "_con"),
        ("Com1.txt", "_Com1.txt"),
        ("console", "console"),
        ("what?*<>|\"'", "what-'"),
        ("", "unnamed"),
        ("\u202egnp", "gnp"),  # changes the reading direction
        ("Größe", "Größe"),
        ("Gro\u0308ße", "Größe"),  # the same word with a combining diaeresis
    ],
)
def test_folder_names(name, folder):
    assert folder_name(name) == folder


@given(st.text(max_size=300))
def test_the_folder_name_of_any_text_is_safe(text):
    name = folder_name(text)
    assert name
    assert not set(name) & set('<>:"/\\|?*')
    assert ".." not in name
    assert name[0] not in ". "
    assert name[-1] not in ". "
    assert name.isprintable()
    assert len(name.encode("utf-8")) <= MAX_FOLDER_BYTES + 1  # one for the '_' before a device name


@given(st.text(max_size=300))
def test_a_folder_name_is_its_own_folder_name(text):
    assert folder_name(folder_name(text)) == folder_name(text)


@given(st.lists(st.text(alphabet="aA3/-. ", min_size=1, max_size=4), min_size=2, max_size=9, unique=True))
def test_class_folders_differ_even_when_case_is_ignored(names):
    names = [name for name in names if name.strip()]
    if len(names) >= 2:
        folders = class_folders(Task("t", tuple(names)))
        assert len({folder.casefold() for folder in folders}) == len(names)


def test_class_folders_of_a_fashionai_task():
    folders = ("Invisible", "Short Pant", "Mid Length", "3-4 Length", "Cropped Pant", "Full Length")
    assert class_folders(resolve("pant")) == folders


def test_class_folders_are_made_once_for_all_rows(tmp_path, monkeypatch):
    names = [f"class {number}" for number in range(40)]
    made = []

    def make(name):
        made.append(name)
        return folder_name(name)

    monkeypatch.setattr("heatcrop.data.tasks.folder_name", make)
    touch(tmp_path, *(f"{name}.jpg" for name in names))
    rows = "".join(f"{name}.jpg,species,{name}\n" for name in names)
    (tmp_path / "a.csv").write_text(f"image,task,label\n{rows}")
    assert len(read_annotations([tmp_path], [Task("species", tuple(names))]).rows) == 40
    assert made.count("class 7") == 1
