"""Images of several roots: what is the same image, and what it is called."""

import os

import pytest

from heatcrop.data.readers import read_annotations
from heatcrop.data.readers.root import Access
from heatcrop.data.tasks import Task, resolve
from tests.unit.builders import regions_of, touch

WING = Task("wing", ("plain", "striped"))
NECK = resolve("neck")


@pytest.fixture
def put(tmp_path):
    """Write an image with the given bytes."""

    def put(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return put


def read(tmp_path, *roots, tasks=(WING,), **options):
    return read_annotations([tmp_path / root for root in roots], tasks, **options)


def paths(found, tmp_path):
    names = [os.path.relpath(path, tmp_path) for path in found.rows["path"]]
    return dict(zip(found.rows["image"], names, strict=True))


def test_images_of_equal_names_and_other_bytes_are_all_kept(put, tmp_path):
    put("x/wing/plain/1.jpg", b"one")
    put("y/wing/plain/1.jpg", b"two")
    put("z/wing/plain/1.jpg", b"six")
    found = read(tmp_path, "x", "y", "z")
    assert paths(found, tmp_path) == {
        "wing/plain/1.jpg": "x/wing/plain/1.jpg",
        "y/wing/plain/1.jpg": "y/wing/plain/1.jpg",
        "z/wing/plain/1.jpg": "z/wing/plain/1.jpg",
    }
    assert len(found.rejected) == 0
    assert found.problems == []
    assert found.notes == [
        "2 images with the name of another image; the folder's name is put in front, for instance "
        "y/wing/plain/1.jpg"
    ]


def test_only_identical_bytes_are_dropped(put, tmp_path):
    for root, content in (("x", b"one"), ("y", b"two"), ("z", b"two"), ("w", b"one")):
        put(f"{root}/wing/plain/1.jpg", content)
    found = read(tmp_path, "x", "y", "z", "w")
    assert list(paths(found, tmp_path)) == ["wing/plain/1.jpg", "y/wing/plain/1.jpg"]
    assert "2 duplicate rows dropped, first root wins" in found.notes


def test_identical_bytes_of_another_name_are_kept(put, tmp_path):
    put("x/wing/plain/1.jpg", b"one")
    put("y/wing/plain/2.jpg", b"one")
    assert len(read(tmp_path, "x", "y").rows) == 2


def test_roots_of_equal_names_get_a_longer_one(put, tmp_path):
    put("a/data/wing/plain/1.jpg", b"one")
    put("b/data/wing/plain/1.jpg", b"two")
    assert list(paths(read(tmp_path, "a/data", "b/data"), tmp_path)) == [
        "wing/plain/1.jpg",
        "b/data/wing/plain/1.jpg",
    ]


def test_a_longer_name_may_be_taken(put, tmp_path):
    put("x/y/wing/plain/1.jpg", b"one")  # read as y/wing/plain/1.jpg, from a table
    put("x/wing/plain/1.jpg", b"two")
    put(
        "x/annotations.csv", b"image,task,label\ny/wing/plain/1.jpg,wing,plain\nwing/plain/1.jpg,wing,plain\n"
    )
    put("y/wing/plain/1.jpg", b"six")
    assert list(paths(read(tmp_path, "x", "y"), tmp_path)) == [
        "y/wing/plain/1.jpg",
        "wing/plain/1.jpg",
        "y-2/wing/plain/1.jpg",
    ]


def test_a_root_that_is_given_twice_is_read_once(put, tmp_path):
    put("x/wing/plain/1.jpg", b"one")
    found = read(tmp_path, "x", "x")
    assert len(found.rows) == 1
    assert found.notes == ["1 duplicate row dropped, first root wins"]


def test_a_root_inside_another_is_read_once(put, tmp_path):
    put("x/a/1.jpg", b"one")
    put("x/annotations.csv", b"image,task,label\na/1.jpg,wing,plain\n")
    put("x/a/annotations.csv", b"image,task,label\n1.jpg,wing,plain\n")
    assert list(paths(read(tmp_path, "x", "x/a"), tmp_path)) == ["a/1.jpg"]


def test_copies_with_another_label_are_a_problem(put, tmp_path):
    put("x/wing/plain/1.jpg", b"one")
    put("x/annotations.csv", b"image,task,label\nwing/plain/1.jpg,wing,striped\n")
    put("y/wing/plain/1.jpg", b"one")
    found = read(tmp_path, "x", "y")
    assert found.rows["label"].tolist() == ["ny"]
    assert found.problems == [
        "1 copy in later roots with another label or split, which is dropped, for instance "
        "y/wing/plain/1.jpg has yn, x/annotations.csv:2 has ny; correct one of them"
    ]


def test_one_image_has_one_name_in_all_tasks(put, tmp_path):
    put("x/1.jpg", b"one")
    put("x/annotations.csv", b"image,task,label\n1.jpg,wing,plain\n")
    put("y/1.jpg", b"two")
    put("y/annotations.csv", b"image,task,label\n1.jpg,beak,long\n1.jpg,wing,plain\n")
    found = read(tmp_path, "x", "y", tasks=(WING, Task("beak", ("hooked", "long"))))
    assert found.rows["image"].tolist() == ["1.jpg", "y/1.jpg", "y/1.jpg"]
    assert found.rows["task"].tolist() == ["wing", "beak", "wing"]


def test_training_and_test_images_of_equal_names_are_kept(put, tmp_path):
    name = "Images/neck_design_labels/1.jpg"
    put(f"f/base/{name}", b"one")
    put(f"f/rank/{name}", b"two")
    put("f/base/Annotations/label.csv", f"{name},neck_design_labels,ynnnn\n".encode())
    put("f/rank/Tests/question.csv", f"{name},neck_design_labels,?\n".encode())
    found = read(tmp_path, "f", tasks=(NECK,))
    assert paths(found, tmp_path) == {name: f"f/base/{name}", f"f/rank/{name}": f"f/rank/{name}"}


def test_a_table_of_true_regions_is_read_once_for_several_tables(put, tmp_path):
    for number, split in ((1, "train"), (2, "test")):
        put(f"x/{number}.jpg", b"%d" % number)
        put(f"x/{split}.csv", f"image,task,label\n{number}.jpg,wing,plain\n".encode())
    rows = "1.jpg,wing,1,2,3,4\n2.jpg,wing,5,6,7,8\n2.jpg,wing,x,1,4,4\n"
    put("x/boxes_true.csv", f"image,task,x0,y0,x1,y1\n{rows}".encode())
    found = read(tmp_path, "x")
    assert regions_of(found) == [("1.jpg", "wing", 1, 2, 3, 4), ("2.jpg", "wing", 5, 6, 7, 8)]
    assert found.rejected["source"].tolist() == ["x/boxes_true.csv:4"]
    assert not [note for note in found.notes if "true region" in note]


# --- images outside the data folder


def test_links_are_followed_where_allowed(put, tmp_path):
    store = put("store/1.jpg", b"one")
    put("x/wing/plain/2.jpg", b"two")
    (tmp_path / "x/wing/plain/1.jpg").symlink_to(store)
    (tmp_path / "x/wing/striped").symlink_to(store.parent)
    found = read(tmp_path, "x", access=Access(follow_links=True))
    assert found.rows["image"].tolist() == ["wing/plain/1.jpg", "wing/plain/2.jpg", "wing/striped/1.jpg"]
    assert len(found.rejected) == 0


def test_links_are_refused_with_the_setting_that_allows_them(put, tmp_path):
    store = put("store/1.jpg", b"one")
    put("x/wing/plain/2.jpg", b"two")
    (tmp_path / "x/wing/plain/1.jpg").symlink_to(store)
    found = read(tmp_path, "x")
    assert found.rows["image"].tolist() == ["wing/plain/2.jpg"]
    assert "data.follow_links" in found.rejected["reason"][0]


def test_absolute_paths_are_read_where_allowed(put, tmp_path):
    store = put("store/1.jpg", b"one")
    inside = put("x/2.jpg", b"two")
    rows = f"{store},wing,plain\n{inside},wing,striped\n{tmp_path}/store/none.jpg,wing,plain\n"
    put("x/annotations.csv", f"image,task,label\n{rows}".encode())
    found = read(tmp_path, "x", access=Access(absolute_paths=True))
    assert found.rows["path"].tolist() == [str(store), str(inside)]
    assert found.rows["image"].tolist() == [str(store).lstrip("/"), "2.jpg"]
    assert found.rejected["reason"].tolist() == [
        f"the image is missing: there is no {tmp_path}/store/none.jpg"
    ]


def test_true_regions_of_absolute_paths_are_read_where_allowed(put, tmp_path):
    image = put("x/1.jpg", b"one")
    put("x/annotations.csv", f"image,task,label\n{image},wing,plain\n".encode())
    put("x/boxes_true.csv", f"image,task,x0,y0,x1,y1\n{image},wing,1,2,3,4\n".encode())
    found = read(tmp_path, "x", access=Access(absolute_paths=True))
    assert regions_of(found) == [("1.jpg", "wing", 1, 2, 3, 4)]


def test_copies_in_another_split_are_a_problem(put, tmp_path):
    for root in ("d/train", "d/test"):
        put(f"{root}/wing/plain/1.jpg", b"one")
    found = read(tmp_path, "d/train", "d/test")
    assert found.rows["split"].tolist() == ["train"]
    assert len(found.problems) == 1
    assert "test/wing/plain/1.jpg has test, train/wing/plain/1.jpg has train" in found.problems[0]


def test_a_label_of_a_later_root_that_is_dropped_is_a_problem(put, tmp_path):
    for root, label in (("x", "?"), ("y", "plain")):
        put(f"{root}/1.jpg", b"one")
        put(f"{root}/annotations.csv", f"image,task,label\n1.jpg,wing,{label}\n".encode())
    found = read(tmp_path, "x", "y")
    assert len(found.problems) == 1
    assert "1 label of copies in later roots dropped" in found.problems[0]


def test_a_root_without_a_row_is_a_problem(tmp_path):
    touch(tmp_path, "one/beak/hooked/1.jpg", "one/beak/long/2.jpg", "two/1.jpg")
    (tmp_path / "two" / "a.csv").write_text("image,task,label\n")
    found = read_annotations([tmp_path / "one", tmp_path / "two" / "a.csv"], None)
    assert len(found.rows) == 2
    assert found.problems == ["two/a.csv: no row with an image; this data is empty"]


def test_a_task_whose_images_are_all_in_another_one_is_no_loss(tmp_path):
    # The folder `e` alone would be a task of one class; its images are of the other root's task.
    touch(tmp_path, "p/c/1.jpg", "p/d/2.jpg", "e/c/3.jpg")
    found = read_annotations([tmp_path / "p", tmp_path / "e"], None)
    assert len(found.rows) == 3
    assert found.problems == []
