"""What ``predict`` writes takes nobody's file away, and what it cannot write or read is told at once."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heatcrop.files import NOT_UTF8, remove_leftovers
from heatcrop.predict.outputs import BOX_COLUMNS, COLUMNS
from tests.tiny_run import make_project

ROOT = Path(__file__).parents[2]
HEADER, BOX_HEADER = (",".join(columns) + "\n" for columns in (COLUMNS, BOX_COLUMNS))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a finished run, and pictures nobody has labelled."""
    home = tmp_path_factory.mktemp("outputs")
    make_project(home)
    words = [
        sys.executable,
        str(ROOT / "pipeline.py"),
        "run",
        "--all",
        "--config",
        "tiny.yaml",
        "--out",
        "run",
    ]
    done = subprocess.run(words, cwd=home, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (home / "photos").mkdir()
    for number, path in enumerate(sorted((home / "data" / "rank").rglob("*.jpg"))[:3]):
        shutil.copy(path, home / "photos" / f"{number}.jpg")
    return home


def refused(found, code, *words):
    assert found[0] == code, found
    assert "Traceback" not in found[1] and found[1].count("error: ") == 1, found
    assert len(found[1].splitlines()) == 1, found
    for word in words:
        assert word in found[1], found


def bytes_of(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- refused before anything is opened: there is no run


@pytest.mark.parametrize("option", ["--out", "--boxes"])
@pytest.mark.parametrize(
    "text", ["mine", "image,task\n", HEADER[:-1] + "s\n", "\ufeff" + HEADER, " " + BOX_HEADER]
)
def test_another_file_is_never_written_over(call, tmp_path, option, text):
    mine = tmp_path / "mine.txt"
    mine.write_text(text)
    given = ("--out", mine) if option == "--out" else ("--out", tmp_path / "x.csv", "--boxes", mine)
    refused(
        call("predict", "photos", "--run", "nowhere", *given),
        1,
        f"{mine}: is there already",
        f"another {option}",
    )
    link = tmp_path / "link.csv"
    link.symlink_to(mine)
    refused(call("predict", "photos", "--run", "nowhere", "--out", link), 1, f"{link}: is there already")
    assert mine.read_text() == text and link.is_symlink()


def test_a_table_of_the_other_kind_is_never_written_over(call, tmp_path):
    out, boxes = tmp_path / "out.csv", tmp_path / "boxes.csv"
    out.write_text(HEADER)
    boxes.write_text(BOX_HEADER)
    found = call("predict", "photos", "--run", "nowhere", "--out", boxes)
    refused(found, 1, f"{boxes}: is there already")
    found = call("predict", "photos", "--run", "nowhere", "--out", tmp_path / "x.csv", "--boxes", out)
    refused(found, 1, f"{out}: is there already")
    found = call("predict", "photos", "--run", "nowhere", "--out", out, "--boxes", boxes)
    refused(found, 1, "nowhere: is not a run folder")


def test_what_is_predicted_is_never_written_over(call, home, tmp_path):
    picture, listed = tmp_path / "a.jpg", tmp_path / "list.csv"
    shutil.copy(home / "photos" / "0.jpg", picture)
    listed.write_text(HEADER + "a.jpg,,,,\n")  # an older table serves as a list
    before = bytes_of(tmp_path)
    refused(call("predict", picture, "--run", "nowhere", "--out", picture), 1, "is what is to be predicted")
    refused(call("predict", listed, "--run", "nowhere", "--out", listed), 1, "is what is to be predicted")
    assert bytes_of(tmp_path) == before


@pytest.mark.parametrize("option", ["--out", "--boxes"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "is a folder"),
        (".", "is a folder"),
        ("/", "is a folder"),
        ("photos", "is a folder"),
        ("tiny.yaml/x.csv", "tiny.yaml is no folder"),
        ("tiny.yaml/x/y.csv", "tiny.yaml is no folder"),
        ("dangling", "leads nowhere"),
        ("dangling/x.csv", "dangling is no folder"),
        ("loop", "leads nowhere"),
        ("loop/x.csv", "loop is no folder"),
        ("pipe", "no regular file"),
    ],
)
def test_a_path_that_is_no_place_for_a_table_is_told_at_once(call, home, tmp_path, option, path, words):
    for name, make in (("dangling", "gone"), ("loop", "loop")):
        if not (home / name).is_symlink():
            (home / name).symlink_to(make)
    if not (home / "pipe").exists():
        os.mkfifo(home / "pipe")
    given = ("--out", path) if option == "--out" else ("--out", tmp_path / "x.csv", "--boxes", path)
    refused(call("predict", "photos", "--run", "nowhere", *given), 1, words, option)
    assert (home / "pipe").is_fifo()


@pytest.mark.parametrize("boxes", ["x.csv", "./x.csv", "link/x.csv", "x.csv/boxes.csv"])
def test_two_tables_want_two_files(call, home, boxes, monkeypatch):
    if not (home / "link").is_symlink():
        (home / "link").symlink_to(".")
    found = call("predict", "photos", "--run", "nowhere", "--out", "x.csv", "--boxes", boxes)
    refused(found, 2, "--out and --boxes want two files")


def test_boxes_are_not_laid_where_the_gallery_is_made_anew(call, tmp_path):
    given = ("--out", tmp_path / "x.csv", "--boxes")
    for boxes in (tmp_path / "x_gallery" / "boxes.csv", tmp_path / "x_gallery"):
        found = call("predict", "photos", "--run", "nowhere", *given, boxes)
        refused(found, 1, f"{boxes}: lies in the gallery's folder")


@pytest.mark.parametrize("kind", ["album", "file", "link", "loop", "mark"])
def test_a_folder_that_is_no_gallery_is_never_taken(call, home, tmp_path, kind):
    place, album = tmp_path / "x_gallery", tmp_path / "album"
    album.mkdir()
    (album / "index.html").write_text("my album")
    shutil.copy(home / "photos" / "0.jpg", album)
    if kind == "file":
        place.write_text("mine")
    elif kind in ("link", "loop"):
        place.symlink_to("album" if kind == "link" else place.name)
    else:
        shutil.copytree(album, place)
        (place / ".report.json").write_text('{"files": 1}' if kind == "mark" else "[")
    before = bytes_of(tmp_path)
    found = call("predict", "photos", "--run", "nowhere", "--out", tmp_path / "x.csv")
    refused(found, 1, f"{place}: ", "--no-gallery")
    assert bytes_of(tmp_path) == before
    found = call("predict", "photos", "--run", "nowhere", "--out", tmp_path / "x.csv", "--no-gallery")
    refused(found, 1, "nowhere: is not a run folder")


def test_an_empty_path_is_not_the_current_folder(call, tmp_path):
    code, text = call("predict", "", "--run", "run", "--out", tmp_path / "x.csv")
    assert code == 2 and "empty path" in text


# --- with a finished run


def test_an_older_table_and_its_gallery_are_made_anew(call, home, tmp_path):
    out, boxes, page = tmp_path / "x.csv", tmp_path / "real" / "b.csv", tmp_path / "x_gallery"
    boxes.parent.mkdir()
    boxes.write_text(BOX_HEADER)
    link = tmp_path / "b.csv"
    link.symlink_to("real/b.csv")
    given = ("--run", "run", "--out", out, "--boxes", link)
    assert call("predict", "photos/0.jpg", *given)[0] == 0
    assert {row["image"] for row in csv.DictReader(out.open())} == {"0.jpg"}
    code, text = call("predict", "photos", *given)
    assert code == 0, text
    assert {row["image"] for row in csv.DictReader(out.open())} == {"0.jpg", "1.jpg", "2.jpg"}
    assert link.is_symlink() and {row["image"] for row in csv.DictReader(boxes.open())} >= {"2.jpg"}
    assert [p.name for p in boxes.parent.iterdir()] == ["b.csv"]
    assert len(list(page.rglob("*.jpg"))) == 6

    (page / "thumbs" / "mine.txt").write_text("mine")
    (page / "mine").symlink_to(home / "photos")
    assert call("predict", "photos/0.jpg", *given)[0] == 0
    assert (page / "thumbs" / "mine.txt").read_text() == "mine" and (page / "mine").is_symlink()
    assert len(list((page / "thumbs").rglob("*.jpg"))) == 2


@pytest.mark.parametrize("end", ["old", "partial"])
def test_a_users_folders_beside_the_gallery_stay(call, tmp_path, end):
    mine = tmp_path / f"x_gallery.{end}" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    call("predict", "photos/0.jpg", "--run", "run", "--out", tmp_path / "x.csv")
    assert mine.read_text() == "mine"


def test_a_name_that_is_not_in_utf_8_is_left_out(call, home, tmp_path):
    photos = tmp_path / os.fsdecode(b"\xe9t\xe9")  # nor is the folder's, which no file names
    shutil.copytree(home / "photos", photos)
    (photos / "1.jpg").rename(photos / os.fsdecode(b"caf\xe9.jpg"))
    out = tmp_path / "x.csv"
    code, text = call("predict", photos, "--run", "run", "--out", out)
    assert code == 0 and f"left out caf?.jpg: {NOT_UTF8}" in text
    assert {row["image"] for row in csv.DictReader(out.open())} == {"0.jpg", "2.jpg"}
    assert "%E9t%E9/0.jpg" in (tmp_path / "x_gallery" / "index.html").read_text()
    alone = photos / os.fsdecode(b"caf\xe9.jpg")
    command = [
        sys.executable,
        ROOT / "pipeline.py",
        "predict",
        alone,
        "--run",
        "run",
        "--out",
        tmp_path / "y.csv",
    ]
    done = subprocess.run(command, cwd=home, capture_output=True, timeout=300)
    assert done.returncode == 1 and b"Traceback" not in done.stderr and NOT_UTF8.encode() in done.stderr


def test_a_list_without_rows_is_told(call, tmp_path):
    listed = tmp_path / "l.csv"
    for text in ("image,note\n", "image,note\n,x\n"):
        listed.write_text(text)
        found = call("predict", listed, "--run", "run", "--out", tmp_path / "x.csv")
        refused(found, 1, f"{listed}: names no picture")


def test_a_pipe_is_not_waited_for(call, tmp_path):
    pipe = tmp_path / "x.csv"
    os.mkfifo(pipe)
    found = call("predict", pipe, "--run", "run", "--out", tmp_path / "y.csv")
    refused(found, 1, f"{pipe}: is no regular file")


def test_the_runs_own_tasks_are_told(call, tmp_path):
    found = call("predict", "photos", "--run", "run", "--out", tmp_path / "x.csv", "--task", "nope")
    refused(found, 1, "no task is named 'nope'")
    assert found[1].rstrip().endswith("There are: lapel, neck"), found[1]


def test_what_a_killed_process_left_is_removed_and_nothing_else(call, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f".x.csv.{dead.pid}-140.partial"
    others = [
        f".x.csv.{os.getpid()}-140.partial",  # being written, for all one can tell
        f".y.csv.{dead.pid}-140.partial",
        f".x.csv.{dead.pid}-140.partial.txt",
        f".x.csv.{dead.pid}.partial",
        f".xxcsv.{dead.pid}-140.partial",
        f".x.csv.{10**30}-140.partial",
    ]
    for path in (left, *(tmp_path / name for name in others)):
        path.write_text("half")
    assert (
        call("predict", "photos/0.jpg", "--run", "run", "--out", tmp_path / "x.csv", "--no-gallery")[0] == 0
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*others, "x.csv"])
    left.mkdir()
    remove_leftovers(tmp_path / "x.csv")
    remove_leftovers(tmp_path / "gone" / "x.csv")
    assert left.is_dir()
