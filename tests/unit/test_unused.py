"""Images that no annotation names, and files beside the annotations that are not read."""

import io
import shutil
import zipfile

import pytest

from heatcrop.data.readers import read_annotations
from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.root import Root
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError
from tests.unit.builders import n_calls, rows_of, touch

BEAK = Task("beak", ("hooked", "long"))
HEADER = "image,task,label\n"
FIX = "add a row for each, or move them away"


@pytest.fixture
def birds(tmp_path):
    return touch(tmp_path / "birds", "hooked/1.jpg", "hooked/2.jpg", "long/3.jpg", "long/4.jpg")


def write(path, text):
    path.write_text(text)
    return path


def archive(**members):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return data.getvalue()


# --- images


def test_images_that_the_table_beside_class_folders_does_not_list_are_a_problem(birds):
    write(birds / "labels.csv", HEADER + "hooked/2.jpg,beak,hooked\nlong/3.jpg,beak,long\n")
    found = read_annotations([birds], [BEAK])
    assert rows_of(found) == [("hooked/2.jpg", "beak", "yn", ""), ("long/3.jpg", "beak", "ny", "")]
    assert found.problems == [
        f"labels.csv: 2 images without a row in the annotations, for instance hooked/1.jpg; {FIX}"
    ]


def test_images_of_rows_that_are_not_used_are_listed(birds):
    rows = ["hooked/1.jpg,beak,hooked", "hooked/2.jpg,beak,blunt", "long/3.jpg,wing,plain"]
    write(birds / "labels.csv", HEADER + "\n".join([*rows, "LONG\\4.JPG,beak,maybe"]))
    found = read_annotations([birds], [BEAK])
    assert len(found.rows) == 1
    assert found.rejected["source"].tolist() == ["labels.csv:3", "labels.csv:4", "labels.csv:5"]
    assert found.problems == []


def test_images_beside_those_of_a_table_that_is_given_are_a_note(birds):
    touch(birds, "more/5.jpg")
    table = write(birds / "labels.csv", HEADER + "hooked/2.jpg,beak,hooked\n")
    found = read_annotations([table], [BEAK])
    assert found.problems == []
    # Not more/5.jpg: the table names no image of that folder.
    assert found.notes == [
        "labels.csv: 1 image without a row in the annotations, for instance hooked/1.jpg; " + FIX
    ]


def test_images_that_another_root_lists_are_not_lost(birds):
    one = write(birds / "train.csv", HEADER + "hooked/1.jpg,beak,hooked\nlong/3.jpg,beak,long\n")
    two = write(birds / "test.csv", HEADER + "hooked/2.jpg,beak,hooked\nlong/4.jpg,beak,long\n")
    found = read_annotations([one, two], [BEAK])
    assert len(found.rows) == 4
    assert not [note for note in found.notes if "without a row" in note]


def test_finding_an_image_among_unused_rows_of_its_name_takes_as_long_for_many(tmp_path):
    root = Root(tmp_path, tmp_path)
    counts = []
    for n in (10, 1000):
        collector = Collector([BEAK])
        collector.start(root)
        for number in range(n):
            collector.add(f"a.csv:{number}", f"{number}/1.jpg", "wing", "plain", "")
        assert collector.is_named(root, "7/1.jpg")
        assert not collector.is_named(root, "other/1.jpg")
        counts.append(n_calls(collector.is_named, root, "other/1.jpg"))
    assert counts[0] == counts[1]


def test_hidden_images_are_not_lost(birds):
    touch(birds, ".ipynb_checkpoints/1.jpg", "__MACOSX/hooked/._1.jpg")
    rows = ["hooked/1.jpg,beak,hooked", "hooked/2.jpg,beak,hooked", "long/3.jpg,beak,long"]
    write(birds / "labels.csv", HEADER + "\n".join([*rows, "long/4.jpg,beak,long"]))
    assert read_annotations([birds], [BEAK]).problems == []


# --- files


RESEMBLES = "resembles annotations and is not used: "
GIVE = "; give it the header 'image,task,label', give it as --data, or move it away"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        (
            "labels.csv",
            "Bild;Klasse\nhooked/1.jpg;a\n",
            "its first row 'bild,klasse' lacks ",
        ),
        (
            "labels.csv",
            "# by hand\n" + HEADER + "1.jpg,beak,long\n",
            "its first row '# by hand' lacks image, ",
        ),
        ("labels.csv", "id,breed\n1,a\n4,b\n", "its first row 'id,breed' lacks "),
        (
            "val.txt",
            "hooked/1.jpg 0\nlong/3.jpg 1\n",
            "its first row 'hooked/1.jpg 0' lacks ",
        ),
        (
            "hooked/1.txt",
            "0 0.5 0.5 0.25 0.1\n",
            "its first row '0 0.5 0.5 0.25 0.1' lacks ",
        ),
    ],
)
def test_a_table_whose_rows_name_images_is_a_problem(birds, name, text, fault):
    write(birds / name, text)
    (problem,) = read_annotations([birds], [Task("birds", BEAK.classes)]).problems
    assert problem.startswith(f"{name}: {RESEMBLES}{fault}")
    assert problem.endswith(GIVE)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.json", '{"hooked/1.jpg": "a"}'),
        ("via.json", '{"1.jpg123": {"filename": "1.jpg", "regions": []}}'),
        ("hooked/1.xml", "<annotation><filename>1.jpg</filename></annotation>"),
        ("data.yaml", "train:\n- hooked/1.JPG\n"),
    ],
)
def test_a_document_in_no_known_format_is_a_problem(birds, name, text):
    write(birds / name, text)
    (problem,) = read_annotations([birds], [Task("birds", BEAK.classes)]).problems
    fix = "expected a format of docs/formats.md; convert it, or move it away"
    assert problem == f"{name}: {RESEMBLES}{fix}"


def test_files_beside_many_images_are_one_problem(birds):
    for i in range(4):
        write(birds / "long" / f"{i}.xml", f"<annotation><filename>{i}.jpg</filename></annotation>")
    (problem,) = read_annotations([birds], [Task("birds", BEAK.classes)]).problems
    assert problem.startswith("long/0.xml: resembles annotations")
    assert problem.endswith("(4 such files in this folder)")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("licence.txt", "Free for all.\nThe cover is cover.jpg.\nNo warranty.\nAsk first.\n"),
        ("weights.csv", "x,y\n7,1\n8,2\n"),
        ("settings.json", '{"batch": 8}'),
        ("data.yaml", "names: [hooked, long]"),
    ],
)
def test_other_files_are_no_problem(birds, name, text):
    write(birds / name, text)
    assert read_annotations([birds], [Task("birds", BEAK.classes)]).problems == []


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        (
            "labels.csv",
            "filename,class\n1.jpg,a\n3.jpg,b\n",
            "labels.csv: resembles annotations and is not used",
        ),
        (
            "a.csv",
            "image,task,label\nlong/3.jpg,w,a\nlong/4.jpg,w,b,x\n",
            "a.csv:3: 4 columns; the header has 3",
        ),
        ("boxes_true.csv", "image,task,x0,y0,x1,y1\nlong/3.jpg,birds,1,2,3,4\n", ""),
    ],
)
def test_the_error_of_a_task_with_one_class_names_what_is_not_used(birds, name, text, cause):
    shutil.rmtree(birds / "hooked")
    write(birds / name, text)
    with pytest.raises(DataError) as error:
        read_annotations([birds], None)
    reason, _, rest = str(error.value).partition("; at least two are needed")
    assert reason.endswith("has 1 class")
    assert rest.startswith(f"; {cause}") if cause else not rest


def test_a_layout_that_is_chosen_leaves_documents_in_others_unmentioned(birds):
    write(birds / "labels.json", '{"hooked/1.jpg": "a"}')
    assert read_annotations([birds], [Task("birds", BEAK.classes)], "folders").problems == []


# --- spreadsheets and archives

SPREADSHEET = "is a spreadsheet, which is not read; save it as CSV in UTF-8"
UNPACK = ", which is not read; unpack it and give the folder, or move it away"
NOT_READ = {
    "labels.xlsx": (archive(**{"[Content_Types].xml": "", "xl/workbook.xml": ""}), SPREADSHEET),
    "labels.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), SPREADSHEET),
    "labels.ods": (archive(mimetype="application/vnd.oasis.opendocument.spreadsheet", a="1"), SPREADSHEET),
    "labels.csv": (archive(**{"[Content_Types].xml": "", "xl/workbook.xml": ""}), SPREADSHEET),
    "export.zip": (archive(**{"a.csv": HEADER, "b.csv": HEADER}), "is an archive of 2 files" + UNPACK),
    "export.tar.gz": (b"\x1f\x8b", "is an archive" + UNPACK),
}


@pytest.mark.parametrize(("name", "data", "reason"), [(name, *rest) for name, rest in NOT_READ.items()])
@pytest.mark.parametrize("given", ["folder", "file", "flat folder"])
def test_a_spreadsheet_or_an_archive_is_named_with_the_fix(birds, name, data, reason, given):
    (birds / name).write_bytes(data)
    if given == "folder":
        assert read_annotations([birds], [Task("birds", BEAK.classes)]).problems == [f"{name}: {reason}"]
        return
    flat = touch(birds.parent / "flat", "1.jpg")
    (flat / name).write_bytes(data)
    with pytest.raises(DataError) as error:
        read_annotations([birds / name if given == "file" else flat], [BEAK])
    assert f"{name}: {reason}" in str(error.value)
    assert "\n" not in str(error.value)


# --- lists of images that are left out of training


SUSPECTS = "image,task,split,label,suggested,label_probability,suggested_probability,suspect\n"


@pytest.mark.parametrize("beside", ["", "labels.csv"])
def test_a_copy_of_suspects_is_not_taken_for_the_annotations(birds, beside):
    write(birds / "bad.csv", SUSPECTS + "hooked/1.jpg,beak,train,hooked,long,0.1,0.9,1\n")
    names = [
        f"{name}/{number}.jpg" for name, number in (("hooked", 1), ("hooked", 2), ("long", 3), ("long", 4))
    ]
    if beside:
        rows = "".join(f"{name},beak,{name.partition('/')[0]}\n" for name in names)
        write(birds / beside, HEADER + rows)
    found = read_annotations([birds], None)
    assert sorted(found.rows["image"]) == names
    assert found.problems == []


def test_a_file_that_is_read_for_another_purpose_is_no_problem(birds):
    write(birds / "bad.csv", "image,task\nhooked/1.jpg,birds\n")
    assert len(read_annotations([birds], None).problems) == 1
    assert read_annotations([birds], None, others=[birds / "long/../bad.csv"]).problems == []
