"""Annotation files that are compressed."""

import bz2
import gzip
import io
import lzma
import zipfile

import pytest

from heatcrop.data.readers import read_annotations
from heatcrop.data.readers.lines import load_text
from heatcrop.data.tasks import FASHIONAI, Task
from heatcrop.errors import DataError
from heatcrop.predict.images import find_images
from tests.unit.builders import rows_of, touch

BEAK = Task("beak", ("hooked", "long"))
TEXT = "image;task;label\n1.jpg;beak;long\n2.jpg;beak;hooked\n"


def zipped(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside/labels.csv", data)
        archive.writestr("__MACOSX/inside/._labels.csv", b"\0\5")
    return file.getvalue()


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zip": zipped}


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("stem", ["labels.csv", "labels"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_compressed_table_is_read_like_a_plain_one(tmp_path, ending, stem, encoding):
    root = touch(tmp_path, "1.jpg", "2.jpg")
    (root / f"{stem}{ending}").write_bytes(PACK[ending](TEXT.encode(encoding)))
    for given in (root, root / f"{stem}{ending}"):
        found = read_annotations([given], [BEAK])
        assert rows_of(found) == [("1.jpg", "beak", "ny", ""), ("2.jpg", "beak", "yn", "")]
        assert found.rows["source"].tolist() == [f"{stem}{ending}:2", f"{stem}{ending}:3"]
        assert found.problems == []


@pytest.mark.parametrize("ending", PACK)
def test_a_compressed_list_of_images_is_predicted(tmp_path, ending):
    path = tmp_path / f"list.csv{ending}"
    path.write_bytes(PACK[ending](TEXT.encode()))
    assert [image.name for image in find_images(path)] == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_cut_file_is_an_error_in_one_line(tmp_path, ending, share):
    data = PACK[ending](bytes(range(32, 127)) * 50)
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError) as error:
        load_text(path)
    assert str(error.value).startswith(f"{path}: cannot be unpacked (")
    assert str(error.value).endswith("; unpack it, or compress it again")
    assert "\n" not in str(error.value)


def test_the_start_of_a_compressed_file_is_read_alone(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(TEXT.encode() * 1000))
    assert load_text(tmp_path / "a.csv.gz", n_bytes=5) == (b"image", "UTF-8")


def test_a_compressed_document_is_read_where_it_is_given_and_named_in_a_folder(tmp_path):
    root = touch(tmp_path, "hooked/1.jpg", "long/2.jpg")
    images = ", ".join(
        f'{{"id": {i}, "file_name": "{name}"}}' for i, name in ((1, "hooked/1.jpg"), (2, "long/2.jpg"))
    )
    labels = '{"image_id": 1, "category_id": 2}, {"image_id": 2, "category_id": 1}'
    kinds = '{"id": 1, "name": "hooked"}, {"id": 2, "name": "long"}'
    text = f'{{"images": [{images}], "annotations": [{labels}], "categories": [{kinds}]}}'
    (root / "annotations.json.gz").write_bytes(gzip.compress(text.encode()))
    task = Task(tmp_path.name, BEAK.classes)
    found = read_annotations([root / "annotations.json.gz"], [task])
    assert [row[2] for row in rows_of(found)] == ["ny", "yn"]
    (problem,) = read_annotations([root], [task]).problems
    assert problem.startswith("annotations.json.gz: holds a COCO file")


@pytest.mark.parametrize("ending", PACK)
def test_compressed_tables_of_other_layouts_are_read(tmp_path, ending):
    image = "Images/neck_design_labels/1.jpg"
    one = touch(tmp_path / "one", f"base/{image}")
    touch(one, "rank/Images/neck_design_labels/2.jpg")
    files = {
        "base/Annotations/label.csv": f"{image},neck_design_labels,nynnn\n",
        "base/Annotations/split.csv": f"image,task,split\n{image},neck_design_labels,val\n",
        "rank/Tests/question.csv": "Images/neck_design_labels/2.jpg,neck_design_labels,?\n",
    }
    for name, text in files.items():
        path = one / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PACK[ending](text.encode()))
    found = read_annotations([one], FASHIONAI)
    assert found.rows[["label", "split"]].to_numpy().tolist() == [["nynnn", "val"], ["", "test"]]
    assert found.problems == []
    two = touch(tmp_path / "two", "1.jpg", "2.jpg")
    (two / f"metadata.csv{ending}").write_bytes(PACK[ending](b"file_name,beak\n1.jpg,long\n2.jpg,hooked\n"))
    assert rows_of(read_annotations([two], [BEAK])) == [
        ("1.jpg", "beak", "ny", ""),
        ("2.jpg", "beak", "yn", ""),
    ]
