"""The files of a finished run, as scripts and people rely on them."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heatcrop.cli.config_file import read_config
from heatcrop.data.images import read_image
from heatcrop.data.tasks import resolve
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_arrays, read_table
from tests.tiny_run import PER_CLASS, SIDE_PX, TASKS, TEST_PER_CLASS

CLASSES = 5  # of either task
IMAGES = (PER_CLASS + TEST_PER_CLASS) * CLASSES
PREDICTIONS = "image,split,network,class,confidence,probabilities"
HISTORY = "network,epoch,learning_rate,train_loss,val_loss,val_map,val_accuracy,seconds"


def header(path):
    return path.read_text(encoding="utf-8").splitlines()[0]


@pytest.fixture(params=TASKS)
def folder(finished_run, request):
    return RunFolder(finished_run).task(request.param)


def test_the_run_has_every_file_of_the_contract(finished_run):
    names = ("config.yaml", "metrics.json", "submission.csv", "report/index.html", "rejected.csv")
    assert [name for name in names if not (finished_run / name).is_file()] == []


def test_each_task_has_every_file_of_the_contract(folder):
    names = ["stage1/heatmaps.npy", "stage3/fusion.json", "boxes.csv", "rule.json"]
    names += [
        f"stage{n}/{name}" for n in (1, 3) for name in ("weights.params", "network.onnx", "history.csv")
    ]
    assert [name for name in names if not (folder.path / name).stat().st_size] == []


def test_nothing_unfinished_is_left(finished_run):
    assert [p for p in finished_run.rglob("*") if re.search(r"\.(partial|tmp|old)$", p.name)] == []


def test_tables_have_the_columns_of_the_contract(folder):
    assert header(folder.boxes_csv) == "image,split,x0,y0,x1,y1,threshold,margin,fallback,score"
    assert header(folder.predictions_csv(1)) == PREDICTIONS
    assert header(folder.predictions_csv(3)) == PREDICTIONS
    assert header(folder.fused_csv) == PREDICTIONS
    assert header(folder.history(1)) == HISTORY
    assert header(folder.history(3)) == HISTORY


def test_the_resolved_configuration_is_written(tiny_home, finished_run, monkeypatch):
    monkeypatch.chdir(tiny_home)
    assert read_config(finished_run / "config.yaml") == read_config(Path("tiny.yaml"), ["runtime.jobs=1"])


@pytest.fixture(scope="module")
def metrics(finished_run):
    return json.loads((finished_run / "metrics.json").read_text())


def test_metrics_are_those_of_all_tasks_on_the_test_split(metrics):
    assert metrics["split"] == "test"
    assert set(metrics["tasks"]) == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("branch", ["full", "crop", "fused"])
def test_each_branch_is_scored(metrics, task, branch):
    figures = metrics["tasks"][task][branch]
    assert 0 <= figures["map"] <= 1
    assert 0 <= figures["accuracy"] <= 1


@pytest.mark.parametrize("task", TASKS)
def test_crops_localisation_and_seconds_are_counted(metrics, task):
    figures = metrics["tasks"][task]
    assert figures["crops"]["n"] == TEST_PER_CLASS * CLASSES
    assert 0 <= figures["crops"]["fallback_rate"] <= 1
    assert figures["localisation"]["n"] > 0
    for times in (figures["seconds"], figures["cpu_seconds"]):
        assert set(times) == {"train", "cam", "crop", "finetune"}
        assert min(times.values()) > 0


@pytest.mark.parametrize("branch", ["full", "crop", "fused"])
def test_the_mean_is_that_of_the_tasks(metrics, branch):
    mean = np.mean([figures[branch]["map"] for figures in metrics["tasks"].values()])
    assert metrics["mean"][branch]["map"] == pytest.approx(mean)


def test_training_images_are_predicted_by_networks_that_did_not_train_on_them(folder):
    table = pd.read_csv(folder.predictions_csv(1))
    train = table["split"] == "train"
    assert set(table[train]["network"]) == {"fold 0", "fold 1"}
    assert set(table[~train]["network"]) == {"final"}
    assert set(pd.read_csv(folder.history(1))["network"]) == {"final", "fold 0", "fold 1"}


def test_crops_of_training_images_are_predicted_by_networks_that_did_not_train_on_them(folder):
    full, crop = (pd.read_csv(folder.predictions_csv(n)).set_index("image") for n in (1, 3))
    train = full.index[full["split"] == "train"]
    assert crop.loc[train, "network"].tolist() == full.loc[train, "network"].tolist()


def test_labels_of_training_images_are_checked_by_probes(folder):
    stage1, stage3 = (read_arrays(folder.predictions(n)) for n in (1, 3))
    of_folds = np.char.startswith(stage1["networks"], "fold")
    assert of_folds.any()
    probed = ~np.isnan(stage3["probe"])
    assert probed.any()
    assert not probed[~of_folds].any()
    assert np.array_equal(probed.any(axis=1), probed.all(axis=1))
    assert stage3["probe"][probed[:, 0]].sum(axis=1) == pytest.approx(1.0)


def test_every_image_has_one_prediction_one_box_and_one_map(folder):
    table, probabilities = read_table(folder.predictions_csv(1))
    boxes = pd.read_csv(folder.boxes_csv)
    assert table["image"].tolist() == boxes["image"].tolist()
    assert table["image"].nunique() == len(table) == IMAGES
    assert probabilities.shape == (IMAGES, CLASSES)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    heatmaps = np.load(folder.heatmaps)
    assert heatmaps.shape == (IMAGES, 3, 3)
    assert heatmaps.dtype == np.float32


def test_arrays_and_tables_hold_the_same_predictions(folder):
    with np.load(folder.predictions(1)) as stage1, np.load(folder.predictions(3)) as stage3:
        branches = {"full": stage1["full"], "crop": stage3["crop"], "fused": stage3["fused"]}
    tables = (folder.predictions_csv(1), folder.predictions_csv(3), folder.fused_csv)
    for (branch, array), path in zip(branches.items(), tables, strict=True):
        _, written = read_table(path)
        assert np.array_equal(written, array[~np.isnan(array[:, 0])]), branch


def test_arrays_and_table_hold_the_same_boxes(folder):
    table = pd.read_csv(folder.boxes_csv, keep_default_na=False)
    with np.load(folder.boxes) as arrays:
        assert np.array_equal(arrays["boxes"], table[["x0", "y0", "x1", "y1"]].to_numpy())
        assert arrays["fallback"].tolist() == table["fallback"].tolist()


def test_crops_are_sorted_by_split_and_class(folder):
    boxes = pd.read_csv(folder.boxes_csv)
    crops = {path.stem: path for path in folder.crops.rglob("*.jpg")}
    assert len(crops) == IMAGES
    splits = {stem: path.parent.parent.name for stem, path in crops.items()}
    assert splits == {Path(row.image).stem: row.split for row in boxes.itertuples()}
    classes = {name.replace("/", "-") for name in resolve(folder.path.name).classes}
    assert {path.parent.name for path in crops.values()} <= classes


def test_a_heatmap_crop_is_a_square_inside_the_image(finished_run):
    found = [pd.read_csv(finished_run / task / "boxes.csv").assign(task=task) for task in TASKS]
    table = pd.concat(found, ignore_index=True)
    cropped = table[table["fallback"].isna()]
    assert len(cropped) > 0
    assert (cropped["x1"] - cropped["x0"]).tolist() == (cropped["y1"] - cropped["y0"]).tolist()
    assert table[["x0", "y0"]].to_numpy().min() >= 0
    assert table[["x1", "y1"]].to_numpy().max() <= SIDE_PX
    row = cropped.iloc[0]
    (path,) = (finished_run / row["task"] / "crops").rglob(f"{Path(row['image']).stem}.jpg")
    assert read_image(path).shape[:2] == (row["y1"] - row["y0"], row["x1"] - row["x0"])


def test_images_that_stage_3_does_not_train_on_have_the_chosen_box_only(folder):
    table = pd.read_csv(folder.boxes_csv, keep_default_na=False)
    boxes, training = table[["x0", "y0", "x1", "y1"]].to_numpy(), np.load(folder.training_boxes)
    assert training.shape == (len(table), 4, 4)
    held_out = table["split"] != "train"
    assert np.array_equal(training[held_out], np.repeat(boxes[held_out, None], 4, axis=1))


def test_training_crops_vary_around_the_chosen_box(finished_run):
    varied = []
    for task in TASKS:
        folder = RunFolder(finished_run).task(task)
        table = pd.read_csv(folder.boxes_csv, keep_default_na=False)
        boxes, training = table[["x0", "y0", "x1", "y1"]].to_numpy(), np.load(folder.training_boxes)
        cropped = (table["split"] == "train") & (table["fallback"] == "")
        varied += (training[cropped] != boxes[cropped, None]).any(axis=(1, 2)).tolist()
    assert len(varied) > 0
    assert any(varied)


def test_the_submission_has_the_competitions_form(finished_run):
    with (finished_run / "submission.csv").open() as file:
        rows = list(csv.reader(file))
    assert len(rows) == TEST_PER_CLASS * CLASSES * len(TASKS)
    for image, task, text in rows:
        assert image.startswith(f"Images/{task}/")
        assert re.fullmatch(r"(\d\.\d{8};){4}\d\.\d{8}", text)


def test_the_submission_is_the_fused_predictions(finished_run):
    fused = pd.concat(pd.read_csv(finished_run / task / "stage3" / "fused.csv") for task in TASKS)
    fused = fused[fused["split"] == "test"].set_index("image")["probabilities"]
    with (finished_run / "submission.csv").open() as file:
        written = {image: text for image, _, text in csv.reader(file)}
    assert written == fused.to_dict()
