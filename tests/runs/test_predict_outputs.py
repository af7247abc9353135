"""What ``predict`` writes with a finished run, and which of a user's files stay."""

import csv
import os
import shutil
import subprocess
import sys

import pytest

from heatcrop.files import NOT_UTF8, remove_leftovers
from heatcrop.predict.outputs import BOX_COLUMNS
from tests.tiny_run import pipeline


@pytest.fixture(scope="module")
def home(tiny_home, finished_run, tmp_path_factory):
    """A folder with a finished run, and unlabelled images."""
    home = tmp_path_factory.mktemp("outputs")
    (home / "run").symlink_to(finished_run)
    (home / "photos").mkdir()
    for number, path in enumerate(sorted((tiny_home / "data" / "rank").rglob("*.jpg"))[:3]):
        shutil.copy(path, home / "photos" / f"{number}.jpg")
    return home


def assert_refused(result, code, *words):
    found, text = result
    assert found == code, text
    assert len(text.splitlines()) == 1, text
    assert text.startswith("error: "), text
    for word in words:
        assert word in text


def images_of(table):
    return {row["image"] for row in csv.DictReader(table.open())}


@pytest.mark.parametrize("option", ["--out", "--boxes"])
def test_a_users_file_is_refused_before_the_run_is_opened(call, tmp_path, option):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    given = ("--out", mine) if option == "--out" else ("--out", tmp_path / "x.csv", "--boxes", mine)
    assert_refused(call("predict", "photos", "--run", "nowhere", *given), 1, f"{mine}: exists")
    assert mine.read_text() == "mine"


def test_no_gallery_is_needed_where_its_folder_is_taken(call, tmp_path):
    (tmp_path / "x_gallery").write_text("mine")
    given = ("predict", "photos", "--run", "nowhere", "--out", tmp_path / "x.csv")
    assert_refused(call(*given), 1, "x_gallery: the gallery needs this path")
    assert_refused(call(*given, "--no-gallery"), 1, "nowhere: is not a run folder")


def test_an_empty_path_is_not_the_current_folder(call, tmp_path):
    code, text = call("predict", "", "--run", "run", "--out", tmp_path / "x.csv")
    assert code == 2
    assert "empty path" in text


def test_an_older_table_and_its_gallery_are_replaced(call, home, tmp_path):
    out, boxes, page = tmp_path / "x.csv", tmp_path / "real" / "b.csv", tmp_path / "x_gallery"
    boxes.parent.mkdir()
    boxes.write_text(",".join(BOX_COLUMNS) + "\n")
    link = tmp_path / "b.csv"
    link.symlink_to("real/b.csv")
    given = ("--run", "run", "--out", out, "--boxes", link)
    assert call("predict", "photos/0.jpg", *given)[0] == 0
    assert images_of(out) == {"0.jpg"}
    code, text = call("predict", "photos", *given)
    assert code == 0, text
    assert images_of(out) == {"0.jpg", "1.jpg", "2.jpg"}
    assert images_of(boxes) >= {"2.jpg"}
    assert link.is_symlink()
    assert [p.name for p in boxes.parent.iterdir()] == ["b.csv"]
    assert len(list(page.rglob("*.webp"))) == 6

    (page / "thumbs" / "mine.txt").write_text("mine")
    (page / "mine").symlink_to(home / "photos")
    assert call("predict", "photos/0.jpg", *given)[0] == 0
    assert (page / "thumbs" / "mine.txt").read_text() == "mine"
    assert (page / "mine").is_symlink()
    assert len(list((page / "thumbs").rglob("*.webp"))) == 2


@pytest.mark.parametrize("end", ["old", "partial"])
def test_a_users_folders_beside_the_gallery_stay(call, tmp_path, end):
    mine = tmp_path / f"x_gallery.{end}" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    call("predict", "photos/0.jpg", "--run", "run", "--out", tmp_path / "x.csv")
    assert mine.read_text() == "mine"


def test_an_image_whose_name_is_not_in_utf_8_is_skipped(call, home, tmp_path):
    photos = tmp_path / os.fsdecode(b"\xe9t\xe9")  # its folder's name is in no output
    shutil.copytree(home / "photos", photos)
    (photos / "1.jpg").rename(photos / os.fsdecode(b"caf\xe9.jpg"))
    out = tmp_path / "x.csv"
    code, text = call("predict", photos, "--run", "run", "--out", out)
    assert code == 0, text
    assert f"skipped caf?.jpg: {NOT_UTF8}" in text
    assert images_of(out) == {"0.jpg", "2.jpg"}
    assert "%E9t%E9/0.jpg" in (tmp_path / "x_gallery" / "index.html").read_text()


def test_a_single_image_whose_name_is_not_in_utf_8_is_an_error(home, tmp_path):
    alone = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(home / "photos" / "0.jpg", alone)
    command = pipeline("predict", alone, "--run", "run", "--out", tmp_path / "y.csv")
    done = subprocess.run(command, cwd=home, capture_output=True, timeout=300)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert NOT_UTF8.encode() in done.stderr


@pytest.mark.parametrize("text", ["image,note\n", "image,note\n,x\n"])
def test_a_list_without_rows_is_an_error(call, tmp_path, text):
    listed = tmp_path / "l.csv"
    listed.write_text(text)
    found = call("predict", listed, "--run", "run", "--out", tmp_path / "x.csv")
    assert_refused(found, 1, f"{listed}: names no image")


def test_a_pipe_is_not_waited_for(call, tmp_path):
    pipe = tmp_path / "x.csv"
    os.mkfifo(pipe)
    found = call("predict", pipe, "--run", "run", "--out", tmp_path / "y.csv")
    assert_refused(found, 1, f"{pipe}: is no regular file")


def test_an_unknown_task_is_answered_with_the_runs_own(call, tmp_path):
    found = call("predict", "photos", "--run", "run", "--out", tmp_path / "x.csv", "--task", "nope")
    assert_refused(found, 1, "no task is named 'nope'")
    assert found[1].rstrip().endswith("There are: lapel, neck")


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(call, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f".x.csv.{dead.pid}-140.partial"
    others = [
        f".x.csv.{os.getpid()}-140.partial",  # may still be written
        f".y.csv.{dead.pid}-140.partial",
        f".x.csv.{dead.pid}-140.partial.txt",
        f".x.csv.{dead.pid}.partial",
        f".xxcsv.{dead.pid}-140.partial",
        f".x.csv.{10**30}-140.partial",
    ]
    for path in (left, *(tmp_path / name for name in others)):
        path.write_text("half")
    out = tmp_path / "x.csv"
    assert call("predict", "photos/0.jpg", "--run", "run", "--out", out, "--no-gallery")[0] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*others, "x.csv"])


def test_a_folder_named_like_a_leftover_stays(tmp_path):
    folder = tmp_path / f".x.csv.{10**7}-140.partial"
    folder.mkdir()
    remove_leftovers(tmp_path / "x.csv")
    remove_leftovers(tmp_path / "gone" / "x.csv")
    assert folder.is_dir()
