"""The crop folder: its files, its names, and what is kept when it is replaced."""

from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.data.images import ImageError, read_image, write_jpeg
from heatcrop.runs.swap import recover
from stage2_crop.crops import begin_crops, crop_names, cut_crops, end_crops


def smooth(width, height):
    """Make an image that a JPEG keeps within a few grey levels."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 127 // (width + height)], axis=2).astype(
        np.uint8
    )


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "in").mkdir()
    paths = []
    for i, (width, height) in enumerate([(120, 80), (64, 200), (90, 90)]):
        paths.append(str(tmp_path / "in" / f"{i}.jpg"))
        write_jpeg(paths[-1], smooth(width, height), 100)
    return paths


BOXES = np.array([[10, 20, 50, 60], [0, 100, 64, 164], [0, 0, 90, 90]])


def write_crops(root, names, paths, boxes, done=lambda _: None):
    begin_crops(root, names)
    cut_crops(root, names, paths, boxes, done=done)
    end_crops(root, names)


def names_of(paths, split="train", folder="Round"):
    return crop_names(paths, [folder] * len(paths), [split] * len(paths))


def files(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def test_crops_are_the_images_pixels_at_full_resolution(tmp_path, paths):
    done = []
    names = names_of(["a/0.jpg", "a/1.jpg", "a/2.jpg"])
    write_crops(tmp_path / "crops", names, paths, BOXES, done=done.append)
    assert sum(done) == 3
    for name, path, (x0, y0, x1, y1) in zip(names, paths, BOXES, strict=True):
        crop, original = read_image(tmp_path / "crops" / name), read_image(path)[y0:y1, x0:x1]
        assert crop.shape == original.shape == (y1 - y0, x1 - x0, 3)
        assert np.abs(crop.astype(int) - original).mean() < 2
        assert np.abs(crop.astype(int) - original).max() < 16


def test_the_folder_is_laid_out_by_split_and_class(tmp_path, paths):
    names = crop_names(
        ["Images/neck/0.jpg", "Images/neck/1.jpg", "Images/neck/2.jpg"],
        ["Turtle Neck", "Turtle Neck", "Draped Collar (predicted)"],
        ["train", "val", "test"],
    )
    write_crops(tmp_path / "crops", names, paths, BOXES)
    assert files(tmp_path / "crops") == [
        "test/Draped Collar (predicted)/2.jpg",
        "train/Turtle Neck/0.jpg",
        "val/Turtle Neck/1.jpg",
    ]


def test_a_new_rule_leaves_no_crop_of_the_old_one(tmp_path, paths):
    root = tmp_path / "crops"
    write_crops(root, names_of(["0.jpg", "1.jpg", "2.jpg"]), paths, BOXES)
    write_crops(root, names_of(["0.jpg"], folder="Square"), paths[:1], BOXES[:1] + 5)
    assert files(root) == ["train/Square/0.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".crops.json", "crops", "in"]


def test_what_an_interruption_left_is_removed(tmp_path, paths):
    for stale in (".crops.partial", ".crops.old"):
        (tmp_path / stale / "train" / "Round").mkdir(parents=True)
        (tmp_path / stale / "train" / "Round" / "stale.jpg").touch()
    write_crops(tmp_path / "crops", names_of(["0.jpg"]), paths[:1], BOXES[:1])
    assert files(tmp_path / "crops") == ["train/Round/0.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".crops.json", "crops", "in"]


def test_files_of_a_user_among_the_crops_stay(tmp_path, paths):
    root = tmp_path / "crops"
    write_crops(root, names_of(["0.jpg"]), paths[:1], BOXES[:1])
    mine = ("notes.txt", "train/wrong.jpg", "train/Round/0.txt", "train/Round/mine.jpg", "mine/deep/er/0.jpg")
    for name in mine:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (tmp_path / "crops.old").mkdir()  # a user's own copy
    write_crops(root, names_of(["1.jpg"]), paths[1:2], BOXES[:1])
    assert files(root) == sorted([*mine, "train/Round/1.jpg"])
    assert all((root / name).read_text() == name for name in mine)
    assert (tmp_path / "crops.old").is_dir()


def test_moved_crops_come_back_where_the_new_ones_never_came(tmp_path, paths):
    """As after a kill between the two renames; a user's files may be among them."""
    root, aside = tmp_path / "crops", tmp_path / ".crops.old"
    write_crops(root, names_of(["0.jpg"]), paths[:1], BOXES[:1])
    (root / "notes.txt").write_text("mine")
    root.rename(aside)
    recover(root)
    assert files(root) == ["notes.txt", "train/Round/0.jpg"]
    assert not aside.exists()


def test_a_failure_leaves_the_old_crops(tmp_path, paths):
    root = tmp_path / "crops"
    write_crops(root, names_of(["0.jpg"]), paths[:1], BOXES[:1])
    before = (root / "train" / "Round" / "0.jpg").read_bytes()
    with pytest.raises(ImageError):
        write_crops(root, names_of(["0.jpg", "9.jpg"]), [paths[1], str(tmp_path / "9.jpg")], BOXES[:2])
    assert files(root) == ["train/Round/0.jpg"]
    assert (root / "train" / "Round" / "0.jpg").read_bytes() == before


def test_no_images_give_an_empty_folder(tmp_path):
    write_crops(tmp_path / "crops", [], [], np.zeros((0, 4), int))
    assert (tmp_path / "crops").is_dir()
    assert files(tmp_path / "crops") == []


# --- names


def named(images, folder="X", split="val"):
    return crop_names(images, [folder] * len(images), [split] * len(images))


def test_a_crop_has_the_name_of_its_image():
    assert named(["Images/neck/1f3a.jpg", "b.PNG"]) == ["val/X/1f3a.jpg", "val/X/b.jpg"]


def test_equal_names_get_their_folder_in_front():
    assert named(["s1/1.jpg", "s2/1.jpg", "2.jpg"]) == ["val/X/s1_1.jpg", "val/X/s2_1.jpg", "val/X/2.jpg"]
    assert named(["1.jpg", "1.png"]) == ["val/X/1.jpg", "val/X/1_2.jpg"]


def test_names_differ_where_case_does_not_count():
    names = named(["a.jpg", "A.jpg", "sub/a.jpg"])
    assert len({n.casefold() for n in names}) == 3


def test_equal_names_in_other_classes_or_splits_stay():
    names = crop_names(["a/1.jpg", "b/1.jpg", "c/1.jpg"], ["X", "Y", "X"], ["val", "val", "test"])
    assert names == ["val/X/1.jpg", "val/Y/1.jpg", "test/X/1.jpg"]


PARTS = st.text("aA1_.-", min_size=1, max_size=3).filter(lambda t: t.strip("."))
IMAGES = st.lists(PARTS, min_size=1, max_size=5).map("/".join)


@given(st.lists(st.tuples(IMAGES, st.sampled_from("XxY"), st.sampled_from(["train", "val"])), max_size=12))
def test_names_are_unique_and_in_their_folder(rows):
    images, folders, splits = zip(*rows, strict=True) if rows else ((), (), ())
    names = crop_names(images, folders, splits)
    assert len({n.casefold() for n in names}) == len(rows)
    for text, folder, split in zip(names, folders, splits, strict=True):
        name = PurePosixPath(text)
        assert len(name.parts) == 3
        assert name.parts[:2] == (split, folder)
        assert name.suffix == ".jpg"
        assert name.name != ".jpg"
