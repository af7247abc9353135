import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.tasks import FASHIONAI, MAX_FOLDER_BYTES, Task, class_folders, folder_name, resolve
from heatcrop.errors import DataError


def test_the_eight_tasks_and_their_class_counts():
    counts = {task.short: len(task.classes) for task in FASHIONAI}
    assert counts == {
        "skirt": 6,
        "coat": 8,
        "collar": 5,
        "lapel": 5,
        "neck": 5,
        "neckline": 10,
        "pant": 6,
        "sleeve": 9,
    }
    assert all(task.classes[0] == "Invisible" for task in FASHIONAI)
    assert {task.short for task in FASHIONAI if task.kind == "length"} == {"skirt", "coat", "pant", "sleeve"}


@pytest.mark.parametrize(
    "name, short",
    [
        ("neck_design_labels", "neck"),
        ("neckline_design_labels", "neckline"),
        ("coat_length_labels", "coat"),
        ("beak", "beak"),
        ("beak_labels", "beak"),
        ("length_labels", "length"),  # nothing before the ending: it is the name itself
        ("_labels", "_labels"),
    ],
)
def test_short_names(name, short):
    assert Task(name, ("a", "b")).short == short


@pytest.mark.parametrize("spelling", ["neck", "NECK", " neck ", "neck_design_labels", "Neck_Design_Labels"])
def test_neck_is_never_neckline(spelling):
    assert resolve(spelling, FASHIONAI).name == "neck_design_labels"


@pytest.mark.parametrize("spelling", ["nec", "neck_design", "neckl", "", "neck_design_labels2", "*"])
def test_prefixes_and_strangers_are_refused_with_a_list(spelling):
    with pytest.raises(DataError, match="There are: skirt, coat, collar, lapel, neck, neckline"):
        resolve(spelling, FASHIONAI)


def test_a_slip_of_the_finger_gets_a_suggestion():
    with pytest.raises(DataError, match="did you mean sleeve"):
        resolve("sleve", FASHIONAI)


def test_equal_short_names_need_the_whole_name():
    tasks = (Task("neck_design_labels", ("a", "b")), Task("neck_length_labels", ("a", "b")))
    with pytest.raises(DataError, match="give the whole name"):
        resolve("neck", tasks)
    assert resolve("neck_length_labels", tasks) is tasks[1]


def test_a_whole_name_comes_before_a_short_name():
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


def test_a_task_is_frozen_and_hashable_even_from_a_list():
    task = Task("beak", ["hooked", "straight"])
    assert hash(task) == hash(Task("beak", ("hooked", "straight")))
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.name = "wing"


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
        ("\u202egnp", "gnp"),  # a mark that turns the reading direction
        ("Größe", "Größe"),
        ("Gro\u0308ße", "Größe"),  # the same word, spelt with a separate dot pair
    ],
)
def test_folder_names(name, folder):
    assert folder_name(name) == folder


@given(st.text(max_size=300))
def test_any_text_gives_a_safe_folder_and_a_folder_is_its_own_folder(text):
    name = folder_name(text)
    assert name and name == folder_name(name)
    assert not set(name) & set('<>:"/\\|?*') and ".." not in name
    assert name[0] not in ". " and name[-1] not in ". "
    assert all(char.isprintable() for char in name)
    assert len(name.encode("utf-8")) <= MAX_FOLDER_BYTES + 1  # one for the '_' before a device name


@given(st.lists(st.text(alphabet="aA3/-. ", min_size=1, max_size=4), min_size=2, max_size=9, unique=True))
def test_class_folders_are_unique_where_case_does_not_count(names):
    names = [name for name in names if name.strip()]
    if len(names) >= 2:
        folders = class_folders(Task("t", tuple(names)))
        assert len({folder.casefold() for folder in folders}) == len(names)


def test_the_official_class_folders():
    pant = resolve("pant")
    assert class_folders(pant) == (
        "Invisible",
        "Short Pant",
        "Mid Length",
        "3-4 Length",
        "Cropped Pant",
        "Full Length",
    )
