"""Images are listed, and hidden, system and own folders are skipped, by one rule."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from heatcrop.data.images import encode_jpeg
from heatcrop.data.listing import (
    FORMAT,
    LINK,
    NAME,
    OWN,
    OWN_TABLES,
    REPORT_RECORD,
    RUN_HEADER,
    SYSTEM,
    UNFINISHED,
    UNREADABLE,
    find_below,
    is_system,
    list_folder,
    skip_lines,
)
from heatcrop.data.readers import read_annotations
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError
from heatcrop.predict.images import find_images
from tests.unit.builders import write_noise

WING = Task("wing", ("plain", "spotted"))


def put(root, *names, content=b"x"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".ipynb_checkpoints", True),
        (".Trash-1000", True),
        (".Trashes", True),
        ("._a.jpg", True),
        ("$RECYCLE.BIN", True),
        ("$Recycle.Bin", True),
        ("System Volume Information", True),
        ("__MACOSX", True),
        ("@eaDir", True),
        ("#recycle", True),
        ("lost+found", True),
        ("Thumbs.db", True),
        ("desktop.ini", True),
        ("photos", False),
        ("_new", False),
        ("$5 bill", False),
        ("@home", False),
        ("trash", False),
    ],
)
def test_hidden_and_system_names(name, expected):
    assert is_system(name) == expected


@pytest.mark.parametrize("folder", [".ipynb_checkpoints", "$RECYCLE.BIN", "a/__MACOSX", "a/@eaDir", ".trash"])
def test_a_hidden_or_system_folder_is_skipped_and_counted(tmp_path, folder):
    put(tmp_path, "a/1.jpg", f"{folder}/2.jpg", f"{folder}/deep/3.jpg")
    assert find_below(tmp_path) == (["a/1.jpg"], [(folder, SYSTEM)])


def test_a_hidden_file_is_counted_where_it_could_be_an_image(tmp_path):
    put(tmp_path, "1.jpg", "._1.jpg", ".DS_Store", "Thumbs.db")
    listing = list_folder(tmp_path)
    assert listing.images == ["1.jpg"]
    assert listing.skipped == [("._1.jpg", SYSTEM)]


def test_names_of_readable_formats_are_read_and_others_counted(tmp_path):
    put(tmp_path, "a.jfif", "b.JPE", "c.heic", "d.avif", "e.pgm", "f.PSD", "g.nef", "h.svg", "i.txt")
    listing = list_folder(tmp_path)
    assert listing.images == ["a.jfif", "b.JPE", "c.heic", "d.avif", "e.pgm"]
    assert listing.skipped == [("f.PSD", FORMAT), ("g.nef", FORMAT), ("h.svg", FORMAT)]
    assert listing.others == ["i.txt"]


def test_images_by_content_are_read_without_a_suffix_and_counted_with_another(tmp_path):
    [image] = write_noise(tmp_path, [(20, 20)])
    os.rename(image, tmp_path / "a")
    put(tmp_path, "b.jpg_large", content=(tmp_path / "a").read_bytes())
    put(tmp_path, "c")
    listing = list_folder(tmp_path)
    assert listing.images == ["a"]
    assert listing.skipped == [("b.jpg_large", NAME)]
    assert listing.others == ["c"]


def test_the_given_folder_is_read_whatever_its_name(tmp_path):
    put(tmp_path, ".photos/a.jpg")
    assert find_below(tmp_path / ".photos") == (["a.jpg"], [])


def test_links_to_folders_are_counted_and_not_followed(tmp_path):
    put(tmp_path, "a/1.jpg")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert find_below(tmp_path) == (["a/1.jpg"], [("a/loop", LINK)])


@pytest.mark.parametrize("failing", ["a", "."])
def test_a_folder_that_cannot_be_read_is_counted_and_the_others_are_read(tmp_path, monkeypatch, failing):
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    scan = os.scandir

    def refuse(path):
        if path == tmp_path / failing:
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr("heatcrop.data.listing.os.scandir", refuse)
    images, skipped = find_below(tmp_path)
    assert images == ([] if failing == "." else ["b/2.jpg"])
    assert skipped == [(failing, UNREADABLE)]


def test_a_link_to_itself_does_not_hide_the_images_beside_it(tmp_path):
    put(tmp_path, "a/1.jpg")
    (tmp_path / "a/loop").symlink_to("loop")
    (tmp_path / "a/loop.jpg").symlink_to("loop.jpg")
    assert find_below(tmp_path) == (["a/1.jpg", "a/loop.jpg"], [])  # the second is reported when it is read


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions are others there")
@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o444, (["1.jpg", "locked/2.jpg"], [])), (0o000, (["1.jpg"], [("locked", UNREADABLE)]))],
)
def test_a_folder_without_permissions_does_not_hide_the_images_beside_it(mode, expected):
    own = os.geteuid()
    with tempfile.TemporaryDirectory() as name:  # every user can reach it, unlike pytest's folder
        folder = Path(name)
        put(folder, "1.jpg", "locked/2.jpg")
        folder.chmod(0o755)
        (folder / "locked").chmod(mode)
        try:
            if own == 0:  # root has all permissions
                os.seteuid(65534)
            found = find_below(folder)
        finally:
            os.seteuid(own)
            (folder / "locked").chmod(0o755)
    assert found == expected


def test_each_reason_gives_a_line_with_count_example_and_fix():
    lines = list(skip_lines([("x.psd", FORMAT), (".git", SYSTEM), ("y.psd", FORMAT)]))
    assert len(lines) == 2
    assert lines[0].startswith("1 skipped, for instance .git: hidden or system")
    assert lines[1].startswith("2 skipped, for instance x.psd: images in a format that is not read; save")


# --- folders that this program wrote


def make_gallery(folder):
    put(folder, "index.html", "thumbs/wing/0001.jpg", REPORT_RECORD)


def make_run(folder):
    put(folder, "config.yaml", content=RUN_HEADER.encode() + b"name: x\n")
    put(folder, "wing/crops/val/plain/1.jpg")


def make_export(folder):
    put(folder, "heatcrop.json", content=json.dumps({"input": {}, "tasks": {}}).encode())
    put(folder, "sample.jpg")


def make_unfinished_export(folder):
    put(folder, "heatcrop.json", content=json.dumps(UNFINISHED).encode())
    put(folder, "sample.jpg")


@pytest.mark.parametrize("make", [make_gallery, make_run, make_export, make_unfinished_export])
@pytest.mark.parametrize("place", ["own", "deep/er/own"])
def test_own_folders_are_skipped_and_counted(tmp_path, make, place):
    put(tmp_path, "a.jpg")
    make(tmp_path / place)
    assert find_below(tmp_path) == (["a.jpg"], [(place, OWN)])


@pytest.mark.parametrize("record", [".cam.json", ".crop.json", "boxes.npz"])
def test_crops_and_sheets_of_a_task_are_skipped(tmp_path, record):
    put(tmp_path, f"wing/{record}", "wing/crops/val/plain/1.jpg", "wing/sheets/val/plain.jpg", "wing/2.jpg")
    assert find_below(tmp_path) == (["wing/2.jpg"], [("wing/crops", OWN), ("wing/sheets", OWN)])


def test_an_own_folder_that_is_given_itself_is_read(tmp_path):
    make_gallery(tmp_path)
    assert find_below(tmp_path)[0] == ["thumbs/wing/0001.jpg"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", b"name: mine\n"),
        ("heatcrop.json", b'{"tasks": "a list of things to do"}'),
        ("heatcrop.json", b"\xff\xfe"),
        ("index.html", b"<!doctype html>"),
    ],
)
def test_folders_of_others_are_read(tmp_path, name, content):
    put(tmp_path, f"b/{name}", content=content)
    put(tmp_path, "b/1.jpg", "crops/2.jpg", "sheets/3.jpg", "report/4.jpg")
    assert find_below(tmp_path) == (["b/1.jpg", "crops/2.jpg", "report/4.jpg", "sheets/3.jpg"], [])


# --- the same rule in prediction and in the layout of folders


def test_prediction_logs_what_it_skips(tmp_path, capsys):
    put(tmp_path, "1.jpg", ".ipynb_checkpoints/1-checkpoint.jpg", "raw.cr2")
    make_gallery(tmp_path / "a_gallery")
    assert [image.name for image in find_images(tmp_path)] == ["1.jpg"]
    printed = capsys.readouterr().err
    assert "1 skipped, for instance .ipynb_checkpoints: hidden or system" in printed
    assert "1 skipped, for instance a_gallery: folders that this program wrote" in printed
    assert "1 skipped, for instance raw.cr2: images in a format that is not read" in printed


def test_a_folder_without_an_image_names_what_is_skipped(tmp_path, capsys):
    put(tmp_path, ".thumbs/1.jpg", "raw.cr2")
    with pytest.raises(DataError, match=r"holds no image.*\.thumbs: hidden.*raw\.cr2: images in a format"):
        find_images(tmp_path)
    assert capsys.readouterr().err == ""


def test_the_layout_of_folders_skips_and_notes_the_same(tmp_path):
    image = encode_jpeg(np.zeros((9, 9, 3), np.uint8))
    put(tmp_path, "wing/plain/1.jpg", "wing/spotted/2.jfif", "wing/plain/@eaDir/1.jpg", content=image)
    put(tmp_path, "__MACOSX/wing/plain/._1.jpg", "wing/.ipynb_checkpoints/1.jpg", content=image)
    put(tmp_path, "wing/plain/raw.cr2", "wing/plain/notes.txt")
    make_run(tmp_path / "runs")
    assert read_annotations([tmp_path], None).tasks == (WING,)
    got = read_annotations([tmp_path], [WING])
    assert got.rows["image"].tolist() == ["wing/plain/1.jpg", "wing/spotted/2.jfif"]
    assert len(got.rejected) == 0
    assert [line.partition(": ")[2] for line in got.notes] == [
        "1 file or folder skipped: not an image of a class",
        f"1 skipped, for instance runs: {OWN}",
        f"3 skipped, for instance __MACOSX: {SYSTEM}",
    ]
    assert [line.partition(": ")[2] for line in got.problems] == [
        f"1 skipped, for instance wing/plain/raw.cr2: {FORMAT}"
    ]


# --- images that a table names


def table(folder, text, encoding="utf-8"):
    (folder / "list.csv").write_bytes(text.encode(encoding))
    return folder / "list.csv"


def test_a_table_may_have_what_annotations_may_have(tmp_path):
    text = '\r\n"","Image","note"\r\n"1","sub\\a.jpg","x, y"\r\n\r\n"2"," b.jpg ",""\r\n'
    images = find_images(table(tmp_path, text, "utf-8-sig"))
    assert [image.name for image in images] == ["sub/a.jpg", "b.jpg"]
    assert [image.path for image in images] == [str(tmp_path / "sub/a.jpg"), str(tmp_path / "b.jpg")]


@pytest.mark.parametrize(
    "numbered", ['"image","note"\n"1","a.jpg","x"\n"2","b.jpg",""\n', "image\n1,a.jpg\n2,b.jpg\n"]
)
def test_a_table_may_have_row_numbers_that_its_header_lacks(tmp_path, numbered):
    assert [image.name for image in find_images(table(tmp_path, numbered))] == ["a.jpg", "b.jpg"]


def test_rows_of_a_table_that_cannot_be_used_are_counted(tmp_path, capsys):
    rows = ["image,note", "a.jpg,x", ",x", 'b.jpg,"open', "a.jpg,again", "c.jpg,x", ",y"]
    assert [image.name for image in find_images(table(tmp_path, "\n".join(rows)))] == ["a.jpg", "c.jpg"]
    printed = capsys.readouterr().err
    assert "2 skipped, for instance list.csv:3: rows without a name" in printed
    assert "1 skipped, for instance list.csv:4: a double quote is not closed" in printed
    assert "1 skipped, for instance list.csv:5: rows that name an image again" in printed


@pytest.mark.parametrize(
    ("listed", "stored"), [("caf\u00e9.jpg", "cafe\u0301.jpg"), ("cafe\u0301.jpg", "caf\u00e9.jpg")]
)
def test_accents_may_be_stored_in_another_form(tmp_path, listed, stored):
    put(tmp_path, stored)
    [image] = find_images(table(tmp_path, f"image\n{listed}\n"))
    assert image.name == listed
    assert image.path == str(tmp_path / stored)


def test_an_image_is_listed_once_whatever_its_spelling(tmp_path, capsys):
    put(tmp_path, "photos/0.jpg")
    listed = ("Photos/0.JPG", "./photos/0.jpg", "photos/0.jpg", tmp_path / "photos" / "0.jpg")
    [image] = find_images(table(tmp_path, "\n".join(["image", *map(str, listed)])))
    assert image.path == str(tmp_path / "photos" / "0.jpg")
    assert "3 skipped, for instance list.csv:3: rows that name an image again" in capsys.readouterr().err


def test_a_table_may_name_images_outside_its_folder(tmp_path):
    put(tmp_path, "photos/0.jpg", "photos/1.jpg", "lists/2.jpg")
    (tmp_path / "lists" / "link.jpg").symlink_to(tmp_path / "photos" / "1.jpg")
    images = find_images(table(tmp_path / "lists", "image\n../photos/0.jpg\nlink.jpg\n"))
    assert [os.path.realpath(image.path) for image in images] == [
        str(tmp_path / "photos" / "0.jpg"),
        str(tmp_path / "photos" / "1.jpg"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,label\na.jpg,x\n", "list.csv:1: the header 'file,label' lacks image"),
        ("image\n", "names no image"),
    ],
)
def test_a_table_without_images_is_refused(tmp_path, text, reason):
    with pytest.raises(DataError, match=reason):
        find_images(table(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("list.csv", "note;image\nx;a.jpg\n", "utf-8"),
        ("list.tsv", "note\timage\nx\ta.jpg\n", "utf-8"),
        ("list.csv", "note,image\nx,a.jpg\n", "utf-16"),
        ("list.csv", "note,image\n\u00e9,a.jpg\n", "latin-1"),
    ],
)
def test_a_table_may_have_any_delimiter_and_encoding(tmp_path, name, text, encoding):
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert [image.name for image in find_images(tmp_path / name)] == ["a.jpg"]


@pytest.mark.parametrize("header", OWN_TABLES)
def test_own_tables_are_no_annotations(tmp_path, header):
    put(tmp_path, "wing/plain/1.jpg", "wing/spotted/2.jpg")
    put(tmp_path, "a.csv", content=",".join(header).encode() + b"\n" + b"1.jpg,wing,plain,0,0,0,0"[:24])
    assert read_annotations([tmp_path], [WING]).problems == []
