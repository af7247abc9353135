"""Formats of other tools with a finished run: `convert`, `predict --format`, and true regions of a run."""

import csv
import json
import shutil

import pandas as pd
import pytest

from heatcrop.cli.config_file import read_config
from heatcrop.cli.loading import load_dataset
from heatcrop.data.readers import read_annotations
from heatcrop.data.readers.root import Access
from heatcrop.data.tasks import resolve
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.metrics import task_metrics
from tests.tiny_run import TASKS
from tests.unit.builders import regions_of, rows_of

KNOWN = [resolve(name) for name in TASKS]


@pytest.fixture(scope="module")
def home(tiny_home, finished_run, tmp_path_factory):
    """A folder with a finished run and its data."""
    home = tmp_path_factory.mktemp("formats")
    (home / "run").symlink_to(finished_run)
    (home / "data").symlink_to(tiny_home / "data")
    return home


def same_data(one, other):
    """Whether two readings have the same labels of the same images, and the same true regions."""

    def labels(found):
        return {row[:3] for row in rows_of(found) if row[2]}

    assert labels(one) == labels(other)
    assert regions_of(one) == regions_of(other)
    return bool(labels(one)) and bool(regions_of(one))


@pytest.mark.parametrize("name", ["coco", "labelstudio", "fiftyone"])
def test_a_converted_run_is_read_back_with_the_same_labels_and_regions(call, home, tmp_path, name):
    out = tmp_path / name
    code, text = call("convert", "--run", "run", "--to", name, "--out", out)
    assert code == 0, text
    assert same_data(read_annotations([out], KNOWN), read_annotations([home / "data"], KNOWN))
    before = {path: path.read_bytes() for path in out.rglob("*.json")}
    code, text = call("convert", "--run", "run", "--to", name, "--out", out)
    assert code == 0, text
    assert {path: path.read_bytes() for path in out.rglob("*.json")} == before


def test_a_conversion_has_predictions_crops_and_splits(call, finished_run, tmp_path):
    given = ("--run", "run", "--to", "coco", "--task", "neck", "--out", tmp_path / "x", "--no-images")
    code, text = call("convert", *given)
    assert code == 0, text
    document = json.loads((tmp_path / "x" / "annotations.json").read_text())
    results = json.loads((tmp_path / "x" / "predictions.json").read_text())
    images = {one["id"]: one for one in document["images"]}
    assert all(one["file_name"].startswith("/") for one in images.values())
    access = Access(absolute_paths=True)
    assert len(read_annotations([tmp_path / "x"], KNOWN, access=access).rows) == len(document["annotations"])
    with (finished_run / TASKS[0] / "stage3" / "fused.csv").open() as file:
        fused = {(row["image"], row["class"], float(row["confidence"])) for row in csv.DictReader(file)}
    names = {one["id"]: one["name"] for one in document["categories"]}

    def shown(one):
        image = images[one["image_id"]]["file_name"]
        return names[one["category_id"]], one["score"], image

    for image, label, confidence in fused:
        assert any(shown(one)[:2] == (label, confidence) and shown(one)[2].endswith(image) for one in results)
    assert {one["split"] for one in document["annotations"]} == {"train", "val", "test"}
    with (finished_run / TASKS[0] / "boxes.csv").open() as file:
        boxes = {row["image"]: row for row in csv.DictReader(file)}
    for one in document["annotations"]:
        (box,) = [row for name, row in boxes.items() if images[one["image_id"]]["file_name"].endswith(name)]
        x0, y0, x1, y1 = (int(box[name]) for name in ("x0", "y0", "x1", "y1"))
        assert one["crop"] == [x0, y0, x1 - x0, y1 - y0]


def test_a_users_folder_is_refused_before_the_run_is_read(call, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    code, text = call("convert", "--run", "run", "--to", "coco", "--out", tmp_path)
    assert code == 1
    assert "has files that are not a conversion's" in text
    (tmp_path / "x_coco").mkdir()
    (tmp_path / "x_coco" / "mine.txt").write_text("mine")
    given = ("--run", "nowhere", "--out", tmp_path / "x.csv", "--no-gallery")
    code, text = call("predict", "data/rank", *given, "--format", "coco")
    assert code == 1
    assert "x_coco: has files that are not a conversion's" in text


def test_predictions_are_written_for_other_tools_too(call, home, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, path in enumerate(sorted((home / "data" / "rank").rglob("*.jpg"))[:2]):
        shutil.copy(path, photos / f"{number}.jpg")
    out, boxes = photos / "x.csv", photos / "boxes.csv"
    formats = [word for name in ("coco", "labelstudio", "fiftyone") for word in ("--format", name)]
    given = ("--run", "run", "--task", "neck", "--boxes", boxes, "--no-gallery", "--out", out)
    code, text = call("predict", photos, *given, *formats)
    assert code == 0, text
    document = json.loads((photos / "x_coco" / "annotations.json").read_text())
    names = {one["id"]: one["name"] for one in document["categories"]}
    with out.open() as file:
        rows = list(csv.DictReader(file))
    with boxes.open() as file:
        crops = list(csv.DictReader(file))
    assert [names[one["category_id"]] for one in document["annotations"]] == [row["class"] for row in rows]
    assert [one["score"] for one in document["annotations"]] == [float(row["confidence"]) for row in rows]
    for one, row in zip(document["annotations"], crops, strict=True):
        x, y, width, height = one["bbox"]
        assert [x, y, x + width, y + height] == [int(row[name]) for name in ("x0", "y0", "x1", "y1")]
    tasks = json.loads((photos / "x_labelstudio" / "tasks.json").read_text())
    assert [one["data"]["image"] for one in tasks] == [f"/data/local-files/?d={n}.jpg" for n in (0, 1)]
    labels = json.loads((photos / "x_fiftyone" / "labels.json").read_text())
    assert [one["file_name"] for one in labels["images"]] == [f"{photos}/{n}.jpg" for n in (0, 1)]
    # Beside the images, they are skipped by the next prediction, and replaced.
    code, text = call("predict", photos, *given, *formats)
    assert code == 0, text
    assert text.count("2 images,") == 1


def test_true_regions_of_a_document_are_those_of_the_run(call, home, tiny_home, tmp_path):
    out = tmp_path / "x"
    code, text = call("convert", "--run", "run", "--to", "coco", "--out", out)
    assert code == 0, text

    def regions():
        dataset = load_dataset(config_of(tiny_home, out), [], None)
        return dataset.boxes_true, dataset.problems

    expected = load_dataset(config_of(tiny_home, tiny_home / "data"), [], None).boxes_true
    found, problems = regions()
    key = ["task", "image"]
    one, other = (table.sort_values(key, ignore_index=True) for table in (found, expected))
    pd.testing.assert_frame_equal(one, other, check_dtype=False)
    assert problems == []
    figures = json.loads((home / "run" / "metrics.json").read_text())["tasks"]
    for name, data in load_dataset(config_of(tiny_home, out), [], None).tasks.items():
        scored = task_metrics(data, RunFolder(home / "run").task(name), "test", found)
        assert scored["localisation"] == pytest.approx(figures[name]["localisation"])
        assert scored["localisation"]["n"] > 0

    document = json.loads((out / "annotations.json").read_text())
    document["images"][0]["height"] += 1
    (out / "annotations.json").write_text(json.dumps(document))
    found, problems = regions()
    name = document["images"][0]["file_name"]
    assert set(found["image"]) == set(expected["image"]) - {name}
    assert f"1 true region left out, for instance of {name}: it was annotated at 96x97" in problems[0]


def config_of(home, data):
    return read_config(home / "tiny.yaml", ["data.roots=" + json.dumps([str(data)])])
