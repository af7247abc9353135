"""Formats of other tools: their content by hand, round trips through the readers, and a user's files."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heatcrop.data.listing import OWN, find_below
from heatcrop.data.readers import read_annotations
from heatcrop.data.tasks import Task
from heatcrop.data.writers import FORMATS
from heatcrop.data.writers.records import Record
from heatcrop.errors import RunError
from heatcrop.predict.formats import (
    format_folder,
    prediction_records,
    refuse_other_files,
    write_format,
)
from heatcrop.predict.images import Image
from heatcrop.predict.predictor import Prediction
from tests.unit.builders import regions_of, rows_of, touch

WING = Task("wing", ("plain", "striped"))
BEAK = Task("beak", ("hooked", "long"))
SIZE = (200, 100)


def record(image, task, **more):
    return Record(image, SIZE, task.name, task.classes, **more)


RECORDS = [
    record("a/1.jpg", WING, split="train", label="striped", region=(10, 20, 50, 40), crop=(0, 10, 60, 70)),
    record("2.jpg", WING, split="test", label="plain", probabilities=(0.75, 0.25), crop=(0, 0, 200, 100)),
    record("a/1.jpg", BEAK, split="val", label="long", probabilities=(0.4, 0.6), crop=(1, 2, 31, 32)),
]


def test_a_coco_document_of_labels_and_the_list_of_results():
    files = FORMATS["coco"].dataset(RECORDS)
    assert files["annotations.json"] == {
        "info": {"description": "HeatCrop", "supercategory": "task"},
        "images": [
            {"id": 1, "file_name": "a/1.jpg", "width": 200, "height": 100},
            {"id": 2, "file_name": "2.jpg", "width": 200, "height": 100, "split": "test"},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 2,
                "bbox": [10, 20, 40, 20],
                "area": 800,
                "iscrowd": 0,
                "task": "wing",
                "split": "train",
                "crop": [0, 10, 60, 60],
            },
            {
                "id": 2,
                "image_id": 2,
                "category_id": 1,
                "bbox": [0, 0, 200, 100],
                "area": 20000,
                "iscrowd": 0,
                "task": "wing",
                "split": "test",
                "crop": [0, 0, 200, 100],
            },
            {
                "id": 3,
                "image_id": 1,
                "category_id": 4,
                "bbox": [0, 0, 200, 100],
                "area": 20000,
                "iscrowd": 0,
                "task": "beak",
                "split": "val",
                "crop": [1, 2, 30, 30],
            },
        ],
        "categories": [
            {"id": 1, "name": "plain", "supercategory": "wing"},
            {"id": 2, "name": "striped", "supercategory": "wing"},
            {"id": 3, "name": "hooked", "supercategory": "beak"},
            {"id": 4, "name": "long", "supercategory": "beak"},
        ],
    }
    assert files["predictions.json"][1] == {
        "id": 2,
        "image_id": 1,
        "category_id": 4,
        "bbox": [1, 2, 30, 30],
        "area": 900,
        "iscrowd": 0,
        "score": 0.6,
        "task": "beak",
        "probabilities": {"hooked": 0.4, "long": 0.6},
    }


def test_label_studio_tasks_and_configuration():
    files = FORMATS["labelstudio"].dataset(RECORDS)
    first, second = files["tasks.json"]
    assert first["data"] == {"image": "/data/local-files/?d=a/1.jpg", "split": ""}
    (annotation,), (prediction,) = first["annotations"], first["predictions"]
    values = [(one["from_name"], one["type"], one["value"]) for one in annotation["result"]]
    box = {"x": 5, "y": 20, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["wing"]}
    assert values == [
        ("wing", "choices", {"choices": ["striped"]}),
        ("region", "rectanglelabels", box),
        ("beak", "choices", {"choices": ["long"]}),
    ]
    assert [one["id"] for one in prediction["result"]] == ["beak-class", "beak-box"]
    assert {one["score"] for one in prediction["result"]} == {0.6}
    assert (prediction["model_version"], prediction["score"]) == ("HeatCrop", 0.6)
    assert second["predictions"][0]["result"][0]["value"] == {"choices": ["plain"]}
    controls = {one.get("name") for one in ElementTree.fromstring(files["labelling_config.xml"]).iter()}
    assert controls >= {"image", "region", "wing", "beak"}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_back(tmp_path, name):
    touch(tmp_path / "source", "a/1.jpg", "2.jpg", "3.jpg")
    records = [*RECORDS, record("3.jpg", WING, split="test", probabilities=(0.5, 0.5), crop=(0, 0, 9, 9))]
    home = FORMATS[name].images
    images = {f"{home}/{one.image}": f"{tmp_path}/source/{one.image}" for one in records}
    write_format(tmp_path / "out", FORMATS[name].dataset(records), images)
    found = read_annotations([tmp_path / "out"], [WING, BEAK])
    # Label Studio has no place for a split of one task.
    wing, beak = ("", "") if name == "labelstudio" else ("train", "val")
    assert rows_of(found) == [
        ("2.jpg", "wing", "yn", "test"),
        ("3.jpg", "beak", "", "test"),
        ("3.jpg", "wing", "", "test"),
        ("a/1.jpg", "beak", "ny", beak),
        ("a/1.jpg", "wing", "ny", wing),
    ]
    assert regions_of(found) == [("a/1.jpg", "wing", 10, 20, 50, 40)]
    assert found.rejected.empty
    assert found.problems == []


@st.composite
def labelled(draw):
    """Draw records of several images and tasks, with whole boxes inside images of any size."""
    records = []
    for number in range(draw(st.integers(1, 4))):
        width, height = draw(st.integers(2, 9000)), draw(st.integers(2, 9000))
        for task in (WING, BEAK):
            x0, y0 = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
            box = (x0, y0, draw(st.integers(x0 + 1, width - 1)), draw(st.integers(y0 + 1, height - 1)))
            region, label = draw(st.sampled_from([None, box])), draw(st.sampled_from(task.classes))
            size, name = (width, height), f"a b/é{number}.jpg"
            maybe = draw(st.sampled_from([(), tuple(one for one in task.classes if one != label)]))
            more = {"label": label, "maybe": maybe, "region": region, "crop": box}
            records.append(Record(name, size, task.name, task.classes, "train", **more))
    return records


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=labelled())
def test_labels_and_whole_boxes_survive_exactly(tmp_path, name, records):
    root = tmp_path / name
    touch(root, *(f"{FORMATS[name].images}/{one.image}" for one in records))
    for file, value in FORMATS[name].dataset(records).items():
        (root / file).write_text(value if isinstance(value, str) else json.dumps(value))
    found = read_annotations([root], [WING, BEAK])
    assert rows_of(found) == sorted((one.image, one.task, letters(one), "train") for one in records)
    assert regions_of(found) == sorted((one.image, one.task, *one.region) for one in records if one.region)


def letters(one):
    return "".join("y" if name == one.label else "nm"[name in one.maybe] for name in one.classes)


def prediction(n):
    fused = np.tile([0.123456789, 0.876543211], (n, 1))
    return Prediction(fused, fused, fused, np.tile([1, 2, 3, 4], (n, 1)), [""] * n, np.zeros((n, 1, 1)))


@pytest.mark.parametrize("name", FORMATS)
def test_a_task_may_be_called_like_nothing_in_particular(tmp_path, name):
    task = Task("object", ("a", "b"))
    images = [touch(tmp_path, "1.jpg") / "1.jpg", touch(tmp_path, "2.jpg") / "2.jpg"]
    records = [record(path.name, task, label=label) for path, label in zip(images, "ab", strict=True)]
    copies = {f"{FORMATS[name].images}/{path.name}": str(path) for path in images}
    write_format(tmp_path / "out", FORMATS[name].dataset(records), copies)
    assert read_annotations([tmp_path / "out"], None).tasks == (task,)


def test_predictions_of_new_images_have_no_label(tmp_path):
    images = [Image("1.jpg", "photos/1.jpg", SIZE), Image("2.jpg", "photos/2.jpg", SIZE)]
    chunks = [prediction(1), prediction(1)]
    first, second = prediction_records("coco", WING, images, chunks)
    expected = record("1.jpg", WING, probabilities=(0.12345679, 0.87654321), crop=(1, 2, 3, 4))
    assert first == expected
    (annotation, _) = FORMATS["coco"].predictions([first, second])["annotations.json"]["annotations"]
    assert (annotation["category_id"], annotation["bbox"]) == (2, [1, 2, 2, 2])
    (task, _) = FORMATS["labelstudio"].predictions([first, second])["tasks.json"]
    assert task["annotations"] == []
    absolute = next(prediction_records("fiftyone", WING, images, chunks)).image
    assert absolute == str(Path("photos/1.jpg").absolute())


# --- a user's files


def test_a_folder_is_written_again_and_a_users_files_stay(tmp_path):
    source, out = tmp_path / "1.jpg", tmp_path / "out"
    source.write_text("image")
    write_format(out, {"a.json": [1], "b.xml": "text"}, {"images/1.jpg": str(source)})
    (out / "images" / "mine.txt").write_text("mine")
    write_format(out, {"a.json": [2]})
    assert json.loads((out / "a.json").read_text()) == [2]
    assert sorted(path.name for path in out.rglob("*")) == [".converted.json", "a.json", "images", "mine.txt"]


def test_a_folder_that_was_written_is_skipped_below_and_read_itself(tmp_path):
    touch(tmp_path, "a/1.jpg", "2.jpg")
    images = {f"images/{one.image}": f"{tmp_path}/{one.image}" for one in RECORDS}
    write_format(tmp_path / "out", FORMATS["coco"].dataset(RECORDS), images)
    assert find_below(tmp_path) == (["2.jpg", "a/1.jpg"], [("out", OWN)])
    assert len(rows_of(read_annotations([tmp_path / "out"], [WING, BEAK]))) == 3


def test_a_folder_with_other_files_is_refused(tmp_path):
    refuse_other_files(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="has files that are not a conversion's"):
        refuse_other_files(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}', '{"files": ["../x"]}', '{"files": ["/x"]}'])
def test_a_record_of_another_program_is_refused(tmp_path, text):
    (tmp_path / ".converted.json").write_text(text)
    with pytest.raises(RunError, match="was not written by this program"):
        refuse_other_files(tmp_path)


def test_a_file_that_the_user_added_is_not_replaced(tmp_path):
    write_format(tmp_path / "out", {"a.json": 1})
    (tmp_path / "out" / "b.json").write_text("mine")
    with pytest.raises(RunError, match="b.json: was not written by this program"):
        write_format(tmp_path / "out", {"a.json": 2, "b.json": 3})
    assert (tmp_path / "out" / "b.json").read_text() == "mine"
    assert (tmp_path / "out" / "a.json").read_text() == "1\n"


def test_the_folder_of_a_tables_predictions_is_beside_it(tmp_path):
    assert format_folder(tmp_path / "x.csv", "coco") == tmp_path / "x_coco"
    (tmp_path / "x_coco").write_text("mine")
    with pytest.raises(RunError, match="x_coco: is a file; give another --out, or leave --format out"):
        format_folder(tmp_path / "x.csv", "coco")


@pytest.mark.parametrize("boxes", ["x_coco", "x_coco/boxes.csv"])
def test_a_table_in_the_folder_of_a_format_is_refused(tmp_path, boxes):
    with pytest.raises(RunError, match=f"{boxes}: is in the folder of --format coco; give another --boxes"):
        format_folder(tmp_path / "x.csv", "coco", tmp_path / boxes)
