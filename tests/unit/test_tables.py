"""Tables of annotations: delimiters, encodings, quotes, row numbers, and files that are not used."""

import pytest

from heatcrop.data.readers import read_annotations
from heatcrop.data.readers.lines import load_text, parse_lines
from heatcrop.data.tasks import FASHIONAI, Task
from heatcrop.errors import DataError

BEAK = Task("beak", ("hooked", "long"))
ROWS = ("image,task,label,split", "a.jpg,beak,long,train", "b.jpg,beak,hooked,test")
PLAIN = "\n".join(ROWS) + "\n"
QUOTED = (
    '"","image","task","label","split"\n'
    '"1","a.jpg","beak","long","train"\n'
    '"2","b.jpg","beak","hooked","test"\n'
)


@pytest.fixture
def home(tmp_path):
    """Write class folders whose labels a table contradicts, and return what writes the table."""
    for name in ("a.jpg", "b.jpg", "gr\u00fcn.jpg", "beak/hooked/a.jpg", "beak/long/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)

    def put(content, name="labels.csv"):
        data = content if isinstance(content, bytes) else content.encode("utf-8")
        (tmp_path / name).write_bytes(data)
        return tmp_path

    return put


def columns(found):
    return found.rows[["image", "label", "split"]].values.tolist()


def about_tables(found):
    return [problem for problem in found.problems if ".csv" in problem]


def about_unused(found):
    return [problem for problem in found.problems if "without a row" not in problem]


VARIATIONS = {
    "plain": PLAIN,
    "quoted header and row numbers": QUOTED,
    "header without row numbers": QUOTED.removeprefix('"",'),
    "row numbers without quotes": QUOTED.replace('"', ""),
    "semicolons": PLAIN.replace(",", ";"),
    "semicolons and quotes": QUOTED.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "spreadsheet": "sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"),
    "old line ends": PLAIN.replace("\n", "\r"),
    "blank lines": "\n \n" + PLAIN.replace("\n", "\n\n"),
    "mark": "\ufeff" + PLAIN,
    "mark and quotes": "\ufeff" + QUOTED,
    "spaces": PLAIN.replace(",", " , "),
    "spaces and quotes": QUOTED.replace(",", ", "),
    "spaces behind quotes": QUOTED.replace(",", " , "),
    "spaces at the ends of lines": QUOTED.replace("\n", "  \n"),
    "semicolons and spaces behind quotes": QUOTED.replace(",", " ; "),
    "capitals": PLAIN.replace("image,task,label,split", "Image,TASK,Label,Split"),
    "another order": "label,note,split,task,image\nlong,,train,beak,a.jpg\nhooked,x,test,beak,b.jpg\n",
    "empty columns at the end": PLAIN.replace("\n", ",,\n"),
    "empty columns in some rows": PLAIN.replace("train\n", "train,,\n"),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16, big endian": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-16 without mark": PLAIN.encode("utf-16-le"),
    "UTF-16 without mark, big endian": PLAIN.encode("utf-16-be"),
    "UTF-32": PLAIN.encode("utf-32"),
    "UTF-16 with tabs": PLAIN.replace(",", "\t").encode("utf-16"),
}


@pytest.mark.parametrize("text", VARIATIONS.values(), ids=VARIATIONS)
@pytest.mark.parametrize("given", ["folder", "file"])
def test_variations_of_a_table_beside_class_folders(home, text, given):
    root = home(text)
    found = read_annotations([root / "labels.csv" if given == "file" else root], [BEAK])
    assert columns(found) == [["a.jpg", "ny", "train"], ["b.jpg", "yn", "test"]]
    assert len(found.rejected) == 0
    assert about_unused(found) == []


@pytest.mark.parametrize("name", ["labels.tsv", "LABELS.CSV", "labels.tab", "Annotations.csv"])
def test_names_of_tables(home, name):
    assert len(read_annotations([home(PLAIN, name)], [BEAK]).rows) == 2
    assert len(read_annotations([home(PLAIN, name) / name], [BEAK]).rows) == 2


def test_a_given_file_with_the_header_may_have_any_name(home):
    path = home(PLAIN.replace(",", "\t").encode("utf-16"), "labels.txt") / "labels.txt"
    assert len(read_annotations([path], [BEAK]).rows) == 2


def test_a_table_in_windows_1252_is_read_and_reported(home):
    root = home("image,task,label\ngr\u00fcn.jpg,beak,long\na.jpg,beak,long\n".encode("cp1252"))
    found = read_annotations([root], [BEAK])
    assert found.rows["image"].tolist() == ["gr\u00fcn.jpg", "a.jpg"]
    assert found.notes == [
        "1 row not in UTF-8, for instance labels.csv:2, read as Windows-1252; if letters are "
        "wrong, save the file as UTF-8"
    ]


def test_a_row_in_an_unknown_encoding_is_rejected(home):
    root = home("image,task,label\n\u0431.jpg,beak,long\na.jpg,beak,long\n".encode("cp1251"))
    found = read_annotations([root], [BEAK])
    assert found.rows["image"].tolist() == ["a.jpg"]
    assert found.rejected["reason"].tolist() == ["the row is not in UTF-8; save the file as UTF-8"]


@pytest.mark.parametrize(
    ("data", "encoding", "text"),
    [
        ("\u00e4".encode(), "UTF-8", "\u00e4"),
        (b"\xef\xbb\xbf\xc3\xa4", "UTF-8", "\u00e4"),
        (b"\xe4,x", "Windows-1252", "\u00e4,x"),
        (b"\x80", "Windows-1252", "\u20ac"),
        ("\u00e4".encode("utf-16"), "UTF-16", "\u00e4"),
    ],
)
def test_encodings(tmp_path, data, encoding, text):
    (tmp_path / "x.csv").write_bytes(data)
    assert load_text(tmp_path / "x.csv") == (text.encode(), encoding)


def test_one_line_that_is_not_utf8_among_others_stays_alone(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xc3\xa4\n\xe4\nx")
    data, _ = load_text(tmp_path / "x.csv")
    assert [bool(fault) for _, _, fault in parse_lines(data)] == [False, True, False]


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (b"a;b,c,d", ["a;b", "c", "d"]),
        (b"a,b;c", ["a", "b;c"]),
        (b'"a;b;c",d', ["a;b;c", "d"]),
        (b"a|b|c,d", ["a", "b", "c,d"]),
        (b"a b", ["a b"]),
    ],
)
def test_the_most_frequent_delimiter_of_the_first_line(line, fields):
    assert [found for _, found, _ in parse_lines(line, ",;\t|")] == [fields]


def test_without_a_choice_the_delimiter_is_a_comma():
    assert [found for _, found, _ in parse_lines(b"a,b,0.1;0.2;0.7")] == [["a", "b", "0.1;0.2;0.7"]]


def test_more_fields_than_the_header_are_row_numbers_only_in_all_rows(home):
    root = home("image,task,label\n1,a.jpg,beak,long\nb.jpg,beak,long\n")
    found = read_annotations([root], [BEAK])
    assert found.rows["image"].tolist() == ["b.jpg"]
    assert found.rejected["source"].tolist() == ["labels.csv:2"]


@pytest.mark.parametrize(
    "text",
    [
        "image,task,lable\na.jpg,beak,long\n",
        "image task label\na.jpg beak long\n",
        '"image" "task" "label"\n"a.jpg" "beak" "long"\n',
        "filename,class\na.jpg,long\n",
        "image,label\nphotos/a.jpg,long\n",
        "a.jpg,beak,long\n",
        "\n\nimage,label\n",
        "image;label\nphotos/a.jpg;long\n",
    ],
)
def test_a_table_that_resembles_annotations_and_is_not_used_is_a_problem(home, text):
    found = read_annotations([home(text)], [BEAK])
    assert found.rows["source"].tolist() == ["beak/hooked/a.jpg", "beak/long/b.jpg"]
    assert len(about_tables(found)) == 1
    assert "labels.csv: resembles annotations and is not used" in about_tables(found)[0]
    assert "image,task,label" in about_tables(found)[0]


@pytest.mark.parametrize("text", ["x,y\n1,2\n", "", "image,task,x0,y0,x1,y1\n", "name,weight\n", b"\0\1\2"])
def test_other_tables_are_no_problem(home, text):
    assert about_tables(read_annotations([home(text)], [BEAK])) == []


def test_a_second_table_of_annotations_is_a_problem(home):
    home(PLAIN, "annotations.csv")
    found = read_annotations([home(PLAIN)], [BEAK])
    assert len(found.rows) == 2
    (problem,) = about_unused(found)
    assert problem.startswith("labels.csv: resembles annotations")


def test_other_tables_beside_a_given_one_do_not_matter(home):
    home(PLAIN, "other.csv")
    assert read_annotations([home(PLAIN) / "labels.csv"], [BEAK]).problems == []


def test_a_table_with_another_header_is_refused_with_what_is_recognised(home):
    with pytest.raises(
        DataError, match=r"labels.csv:1: the header .* lacks label.*commas, semicolons or tabs"
    ):
        read_annotations([home("image,class\na.jpg,long\n") / "labels.csv"], [BEAK])


@pytest.mark.parametrize("given", ["", "labels.csv"])
def test_a_table_without_a_column_of_tasks_has_one_task_named_after_the_folder(home, given):
    root = home("image,label,split\na.jpg,long,train\nb.jpg,hooked,test\n")
    found = read_annotations([root / given], None)
    assert found.tasks == (Task(root.name, ("hooked", "long")),)
    assert columns(found) == [["a.jpg", "ny", "train"], ["b.jpg", "yn", "test"]]
    assert f"labels.csv: without a column 'task', its rows are of one task, {root.name}" in found.notes


@pytest.mark.parametrize(
    "rows",
    [
        "beak\\hooked\\a.jpg,hooked\nbeak\\long\\b.jpg,long\n",
        "none.jpg,hooked\na.jpg,hooked\nb.jpg,long\n",
        "A.JPG,hooked\nB.JPG,long\n",
    ],
    ids=["backslashes", "missing first", "capitals"],
)
def test_a_table_without_a_column_of_tasks_names_an_image_in_one_of_its_first_rows(home, rows):
    found = read_annotations([home(f"image,label\n{rows}")], [BEAK])
    assert [row[1] for row in columns(found)] == ["yn", "ny"]
    assert set(found.rows["source"].str.partition(":")[0]) == {"labels.csv"}


@pytest.mark.parametrize("layout", ["auto", "csv"])
def test_a_table_whose_images_are_all_elsewhere_is_an_error_in_its_layout(home, layout):
    root = home("image,label\nc.jpg,hooked\nd.jpg,long\n")
    (root / "images").mkdir()
    if layout == "auto":  # the layout csv takes the table without an image, too
        (root / "images" / "d.jpg").touch()
    reason = (
        "none of the 2 rows can be used; the first, labels.csv:2: the image is missing: there is no c.jpg"
    )
    with pytest.raises(DataError, match=reason):
        read_annotations([root], [Task(root.name, BEAK.classes)], layout)


def test_tables_of_splits_whose_images_are_missing_are_an_error_in_their_layout(home):
    home("image,label\nc.jpg,long\n", "train.csv")
    root = home("image,label\nd.jpg,hooked\n", "test.csv")
    with pytest.raises(DataError, match=r"test.csv:2: the image is missing: there is no d.jpg"):
        read_annotations([root], [BEAK], "csv")


def test_a_table_without_a_column_of_tasks_has_the_run_s_only_task_with_its_classes(home):
    wing = Task("wing", ("plain", "striped"))
    found = read_annotations([home("image,label\na.jpg,long\nb.jpg,hooked\n")], [BEAK, wing])
    assert found.rows["task"].tolist() == ["beak", "beak"]


def test_columns_that_are_not_read_leave_a_note(home):
    root = home("image,label,Subset,groups,\na.jpg,long,test,1,\nb.jpg,hooked,train,2,\n")
    (note,) = [note for note in read_annotations([root], None).notes if "not read" in note]
    known = "those that are read are called image, task, label, split, group"
    assert note == f"labels.csv: 2 columns not read, 'subset, groups'; {known}"


def test_a_table_with_a_column_of_tasks_precedes_one_without(home):
    home("image,label\na.jpg,hooked\nb.jpg,hooked\n", "first.csv")
    found = read_annotations([home(PLAIN)], [BEAK])
    assert columns(found) == [["a.jpg", "ny", "train"], ["b.jpg", "yn", "test"]]
    (problem,) = about_unused(found)
    assert problem.startswith("first.csv: resembles annotations and is not used: other data is read")


def test_tables_of_splits_without_a_column_of_tasks_have_one_task(home):
    home("image,label\na.jpg,long\n", "train.csv")
    found = read_annotations([home("image,label\nb.jpg,hooked\n", "test.csv")], None)
    assert len(found.tasks) == 1
    assert sorted(columns(found)) == [["a.jpg", "ny", "train"], ["b.jpg", "yn", "test"]]


def test_labels_that_are_letters_leave_out_one_task_only(home):
    rows = "a.jpg,beak,long\nb.jpg,beak,hooked\na.jpg,wing,yn\nb.jpg,wing,ny\n"
    found = read_annotations([home("image,task,label\n" + rows)], None)
    assert found.tasks == (BEAK,)
    assert len(found.rejected) == 0
    (problem,) = about_unused(found)
    assert "task 'wing' left out (2 images): the labels of task 'wing' are letters" in problem
    assert "name them under data.tasks in the configuration" in problem


def test_a_header_without_rows_is_reported_where_tasks_are_inferred(home):
    with pytest.raises(DataError, match=r"labels\.csv: no row with an image; expected one row per image"):
        read_annotations([home(PLAIN.splitlines()[0] + "\n") / "labels.csv"], None)


def test_where_no_row_is_of_a_task_of_the_run_the_setting_of_tasks_is_named(home):
    with pytest.raises(
        DataError, match=r"data holds: beak \(2 rows\).* or name them under data\.tasks in the conf"
    ):
        read_annotations([home(PLAIN) / "labels.csv"], [Task("wing", ("plain", "striped"))])


@pytest.mark.parametrize("place", ["beak/labels.csv", "notes.txt"])
def test_tables_that_resemble_annotations_are_found_in_subfolders_and_as_text(home, place):
    found = read_annotations([home("image,task,label\n", place)], [BEAK])
    assert [problem.split(":")[0] for problem in found.problems if "resembles" in problem] == [place]


def test_fashionai_files_may_have_a_quoted_header_and_row_numbers(tmp_path):
    folder = tmp_path / "base"
    for name in ("Annotations", "Images"):
        (folder / name).mkdir(parents=True)
    (folder / "Images/1.jpg").write_text("1")
    text = '"","image","task","label"\n"1","Images/1.jpg","neck_design_labels","nynnn"\n'
    (folder / "Annotations/label.csv").write_text(text)
    found = read_annotations([tmp_path], FASHIONAI)
    assert found.rows["label"].tolist() == ["nynnn"]
    assert len(found.rejected) == 0
