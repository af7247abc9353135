"""The tables and the gallery of ``predict`` never replace a user's other file."""

import os
import shutil

import numpy as np
import pytest

from heatcrop.data.images import write_jpeg
from heatcrop.errors import HeatCropError, RunError, UsageError
from heatcrop.predict.gallery import gallery_page
from heatcrop.predict.outputs import BOX_COLUMNS, COLUMNS, check_targets, table

HEADER, BOX_HEADER = (",".join(columns) + "\n" for columns in (COLUMNS, BOX_COLUMNS))


@pytest.fixture
def check(tmp_path):
    """Check a path as --out or --boxes; return the message of the refusal, or None."""

    def refusal(option, path, source=tmp_path):
        out, boxes = (path, None) if option == "--out" else (tmp_path / "new.csv", path)
        try:
            check_targets(source, out, boxes)
        except HeatCropError as error:
            return str(error)
        return None

    return refusal


@pytest.mark.parametrize("option", ["--out", "--boxes"])
@pytest.mark.parametrize(
    "text", ["mine", "image,task\n", HEADER[:-1] + "s\n", "\ufeff" + HEADER, " " + BOX_HEADER]
)
def test_another_file_is_refused_also_through_a_link(check, tmp_path, option, text):
    mine, link = tmp_path / "mine.txt", tmp_path / "link.csv"
    mine.write_text(text)
    link.symlink_to(mine)
    for path in (mine, link):
        message = check(option, path)
        assert message.startswith(f"{path}: exists, and is not a table written by {option}")
        assert f"give another {option}" in message


@pytest.mark.parametrize(("option", "header"), [("--out", BOX_HEADER), ("--boxes", HEADER)])
def test_a_table_of_the_other_kind_is_refused(check, tmp_path, option, header):
    (tmp_path / "other.csv").write_text(header)
    assert "exists, and is not" in check(option, tmp_path / "other.csv")


@pytest.mark.parametrize("text", [None, "", HEADER, HEADER + "a.jpg,neck,x,1,1\n"])
def test_new_empty_and_older_tables_are_accepted(check, tmp_path, text):
    path = tmp_path / "old.csv"
    if text is not None:
        path.write_text(text)
    assert check("--out", path) is None


def test_the_input_is_refused_even_if_it_is_such_a_table(check, tmp_path):
    listed = tmp_path / "list.csv"
    listed.write_text(HEADER + "a.jpg,,,,\n")
    assert f"{listed}: is the input" in check("--out", listed, source=listed)


@pytest.mark.parametrize("option", ["--out", "--boxes"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "is a folder"),
        (".", "is a folder"),
        ("/", "is a folder"),
        ("folder", "is a folder"),
        ("file/x.csv", "file is no folder"),
        ("file/x/y.csv", "file is no folder"),
        ("broken", "is a broken link"),
        ("broken/x.csv", "broken is no folder"),
        ("loop", "is a broken link"),
        ("loop/x.csv", "loop is no folder"),
        ("pipe", "no regular file"),
        ("answers.XLSX", "writes a plain CSV file; name it answers.csv"),
        ("answers.csv.gz", "writes a plain CSV file; name it answers.csv"),
        ("answers.tsv", "writes a plain CSV file; name it answers.csv"),
    ],
)
def test_a_path_that_cannot_hold_a_table_is_refused(check, tmp_path, monkeypatch, option, path, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    message = check(option, type(tmp_path)(path))
    assert words in message
    assert option in message


@pytest.mark.parametrize("boxes", ["x.csv", "./x.csv", "link/x.csv", "x.csv/boxes.csv"])
def test_two_tables_need_two_files(tmp_path, monkeypatch, boxes):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(".")
    with pytest.raises(UsageError, match="--out and --boxes need two files"):
        check_targets(tmp_path, type(tmp_path)("x.csv"), type(tmp_path)(boxes))


def test_a_link_stays_a_link_when_its_target_is_written(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "b.csv"
    link.symlink_to("real/b.csv")
    with table(link, ("a", "b")) as write:
        write([(1, 2)])
    assert link.is_symlink()
    assert (tmp_path / "real" / "b.csv").read_text() == "a,b\n1,2\n"


def test_a_failed_table_leaves_the_old_one(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(HEADER)
    with pytest.raises(KeyboardInterrupt), table(path, COLUMNS):
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]
    assert path.read_text() == HEADER


# --- the gallery's folder


@pytest.mark.parametrize("boxes", ["x_gallery/boxes.csv", "x_gallery"])
def test_boxes_in_the_gallerys_folder_are_refused(tmp_path, boxes):
    with pytest.raises(RunError, match="is in the gallery's folder"):
        gallery_page(tmp_path / "x.csv", tmp_path / boxes)


@pytest.mark.parametrize("kind", ["album", "file", "link", "loop", "record"])
def test_a_folder_that_is_no_gallery_is_refused(tmp_path, kind):
    place, album = tmp_path / "x_gallery", tmp_path / "album"
    album.mkdir()
    (album / "index.html").write_text("my album")
    write_jpeg(album / "0.jpg", np.zeros((8, 8, 3), np.uint8))
    if kind == "file":
        place.write_text("mine")
    elif kind in ("link", "loop"):
        place.symlink_to("album" if kind == "link" else place.name)
    else:
        shutil.copytree(album, place)
        (place / ".report.json").write_text('{"files": 1}' if kind == "record" else "[")
    with pytest.raises(RunError, match="--no-gallery") as caught:
        gallery_page(tmp_path / "x.csv")
    assert str(caught.value).startswith(f"{place}: ")


def test_a_new_gallery_is_beside_its_table(tmp_path):
    assert gallery_page(tmp_path / "x.csv") == tmp_path / "x_gallery" / "index.html"
