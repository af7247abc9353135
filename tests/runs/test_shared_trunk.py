"""One network for all tasks: its settings, its run, and predictions with it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import heatcrop.cli.estimate
import heatcrop.nets.inference
import heatcrop.predict.images
import heatcrop.predict.predictor
from heatcrop.cli.config_file import read_config
from heatcrop.cli.estimate import _Speed, expected_cost
from heatcrop.cli.loading import load_dataset
from heatcrop.errors import UsageError
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_arrays, read_table
from heatcrop.timing import Spent
from tests.conftest import SHARED
from tests.tiny_run import ROOT, TASKS, parse_probabilities

NECK, LAPEL = TASKS
OUTPUTS = {LAPEL: [0, 5], NECK: [5, 10]}

# --- the settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "length: {cam: {training: {epochs: 3}}}",
            ["cam.training", "skirt", "collar", "network.shared_trunk"],
        ),
        ("tasks: {neck: {finetune: {views: 9}}}", ["finetune.views", "neck", "the same"]),
        ("design: {cam: {test: {flip: false}}}\ndata: {tasks: infer}", ["cam.test", "design", "length"]),
        ("heatmap: {method: grad_cam}", ["heatmap.method", "grad_cam", "shared_trunk"]),
    ],
)
def test_settings_that_cannot_differ_are_refused_in_one_line(tmp_path, text, words):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    read_config(path)  # without sharing they may
    with pytest.raises(UsageError) as error:
        read_config(path, ["network.shared_trunk=true"])
    assert len(str(error.value).splitlines()) == 1
    assert [word for word in words if word not in str(error.value)] == []


def test_augmentation_and_heatmaps_may_differ(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("design: {cam: {heatmap: plain, augment: {flip: 0}}}\nnetwork: {shared_trunk: true}")
    assert read_config(path).network.shared_trunk


def test_the_demo_may_share_its_network():
    assert read_config(ROOT / "configs" / "demo.yaml", ["network.shared_trunk=true"]).network.shared_trunk


# --- the run


@pytest.fixture(params=TASKS)
def folder(shared_run, request):
    return RunFolder(shared_run).task(request.param)


def test_the_outputs_of_each_task_are_written(shared_run):
    assert json.loads(RunFolder(shared_run).outputs.read_text()) == OUTPUTS
    description = json.loads(RunFolder(shared_run).description.read_text())
    assert {task: one["outputs"] for task, one in description["tasks"].items()} == OUTPUTS


def test_a_description_that_an_older_version_would_misread_has_a_higher_number(shared_run, finished_run):
    numbers = [
        json.loads(RunFolder(run).description.read_text())["format"] for run in (shared_run, finished_run)
    ]
    assert numbers == [2, 1]


def test_each_task_has_its_own_results(folder):
    files = (
        folder.heatmaps,
        folder.history(1),
        folder.history(3),
        folder.boxes,
        folder.boxes_csv,
        folder.fusion,
    )
    assert [path for path in files if path.is_symlink() or not path.is_file()] == []


def test_the_networks_are_stored_once(shared_run, folder):
    shared = RunFolder(shared_run).shared
    for number in (1, 3):
        for name in ("weights.params", "network.onnx"):
            path = folder.stage(number) / name
            assert path.is_symlink()
            assert path.resolve() == (shared.stage(number) / name).resolve()


def test_predictions_are_those_of_the_tasks_own_classes(folder):
    _, probabilities = read_table(folder.predictions_csv(1))
    assert probabilities.shape[1] == 5
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert len(read_table(folder.fused_csv)[0]) == len(probabilities)


def test_training_images_are_predicted_by_networks_that_did_not_train_on_them(folder):
    table = pd.read_csv(folder.predictions_csv(1))
    assert set(table[table["split"] == "train"]["network"]) == {"fold 0", "fold 1"}


def test_training_crops_repeat_where_tasks_have_different_numbers_of_them(shared_run):
    counts = {task: np.load(RunFolder(shared_run).task(task).training_boxes).shape[1] for task in TASKS}
    assert counts == {NECK: 4, LAPEL: 3}


def test_the_seconds_of_training_are_shared_between_the_tasks(folder):
    seconds = json.loads(folder.record("cam").read_text())["seconds"]
    assert seconds["train"] > 0
    assert seconds["cam"] > 0


@pytest.mark.soak
def test_worker_processes_train_the_same_networks(call, tiny_home, shared_run):
    words = ("stage", "cam", "--all", "--config", "tiny.yaml", "--out", "spread", "--jobs", "2", *SHARED)
    code, printed = call(*words)
    assert code == 0, printed
    one, other = RunFolder(shared_run), RunFolder(tiny_home / "spread")
    names = ("weights.params", "fold0.params", "fold1.params")
    pairs = [(one.shared.stage(1) / name, other.shared.stage(1) / name) for name in names]
    for task in TASKS:
        pairs.append((one.task(task).heatmaps, other.task(task).heatmaps))
        pairs.append((one.task(task).predictions(1), other.task(task).predictions(1)))
    assert [path.name for path, same in pairs if path.read_bytes() != same.read_bytes()] == []


# --- one task of several


@pytest.mark.parametrize("words", [("run",), ("stage", "cam"), ("stage", "finetune"), ("run", "--dry-run")])
def test_training_one_task_alone_is_refused(call, shared_run, words):
    code, printed = call(*words, "--task", "neck", "--config", "tiny.yaml", "--out", shared_run, *SHARED)
    assert code == 2
    assert len(printed.splitlines()) <= 4
    assert "--all" in printed
    assert "network.shared_trunk" in printed


def test_a_task_that_is_not_finished_is_continued_with_all(call, shared_copy, tmp_path):
    command = RunFolder(shared_copy).command("run", "--all")
    options = ("--config", "tiny.yaml", "--out", shared_copy, *SHARED, *MARGIN)
    code, printed = call("stage", "crop", "--task", "neck", *options)
    assert code == 0
    assert f"{NECK}: its later stages are to run: {command}" in printed
    code, printed = call("convert", "--run", shared_copy, "--task", "neck", "--to", "coco", "--out", tmp_path)
    assert code == 1
    assert f"{NECK} is not finished; run it first: {command}" in printed


@pytest.fixture
def plan(call, shared_copy):
    def dry_run(*words):
        code, printed = call(*words, "--dry-run", "--config", "tiny.yaml", "--out", shared_copy, *SHARED)
        assert code == 0, printed
        return " ".join(printed.split())

    return dry_run


MARGIN = ("--set", "tasks.neck.crop.rule.margin=0.2")


def test_a_finished_run_is_up_to_date(plan):
    assert "0 of 6 stages" in plan("run", "--all")


def test_a_change_of_one_task_outdates_what_shares_its_network(plan):
    printed = plan("run", "--all", *MARGIN)
    assert "3 of 6 stages" in printed
    assert "it shares a network with a task that changed" in printed


def test_the_crops_of_one_task_are_its_own(plan):
    printed = plan("stage", "crop", "--task", "neck", *MARGIN)
    assert "1 of 1 stages" in printed
    assert "0.0 -> 0.2" in printed


@pytest.mark.parametrize(
    ("shared", "unit", "networks"), [("true", "network", 1), ("false", "task", len(TASKS))]
)
def test_shared_networks_are_counted_once(tiny_home, monkeypatch, shared, unit, networks):
    monkeypatch.chdir(tiny_home)
    speed = _Speed(Spent(), Spent(), Spent(1.0, 1.0), Spent(), 1e9, 0.0)
    monkeypatch.setattr(heatcrop.cli.estimate, "_measure", lambda *_: speed)
    settings = ["runtime.jobs=2", "data.tasks=fashionai", f"network.shared_trunk={shared}"]
    config = read_config(Path("tiny.yaml"), settings)
    cost = expected_cost(config, load_dataset(config, (), None).tasks)
    # Weights of both stages, once more as ONNX, and those of two folds.
    assert round(cost.kept_bytes / 1e9) == networks * (4 + 2)
    assert cost.unit == unit


# --- predictions


@pytest.fixture
def predict(call, shared_run, tiny_home, tmp_path):
    """Give a prediction of the test images; it returns the predictions and the boxes."""

    def command(*words):
        files = tmp_path / "p.csv", tmp_path / "b.csv"
        options = ("--run", shared_run, "--out", files[0], "--boxes", files[1], "--no-gallery", *words)
        code, printed = call("predict", tiny_home / "data" / "rank" / "Images", *options)
        assert code == 0, printed
        return tuple(pd.read_csv(path) for path in files)

    return command


def values(table):
    return parse_probabilities(table["probabilities"])


def test_each_image_passes_the_shared_network_once_and_its_surroundings_once_a_task(predict, monkeypatch):
    passes, opened = [], heatcrop.nets.inference.open_network

    def counted(path, *arguments):
        runner = opened(path, *arguments)

        def run(x):
            passes.append((Path(path).parent.name, len(x)))
            return runner(x)

        return run

    monkeypatch.setattr(heatcrop.predict.predictor, "open_network", counted)
    monkeypatch.setattr(heatcrop.predict.images, "_CHUNK", 7)  # several chunks, so that tasks take turns
    table, _ = predict("--engine", "onnx")
    n, views = table["image"].nunique(), 2  # plain and mirrored
    assert table["task"].tolist() == [LAPEL] * n + [NECK] * n
    rows = {name: sum(count for stage, count in passes if stage == name) for name in ("stage1", "stage3")}
    assert rows == {"stage1": n * views + n * len(TASKS), "stage3": n * views * 3}  # two crops of lapels


def test_both_engines_predict_the_same(predict):
    (onnx, onnx_boxes), (mxnet, mxnet_boxes) = (predict("--engine", engine) for engine in ("onnx", "mxnet"))
    assert onnx_boxes.equals(mxnet_boxes)
    np.testing.assert_allclose(values(onnx), values(mxnet), atol=1e-4)


def test_one_task_is_predicted_as_among_all(predict):
    table, _ = predict("--engine", "onnx")
    alone, _ = predict("--engine", "onnx", "--task", "neck")
    assert alone.equals(table[table["task"] == NECK].reset_index(drop=True))


@pytest.mark.parametrize("task", TASKS)
def test_test_images_are_predicted_as_in_the_run(predict, shared_run, task):
    table, _ = predict("--engine", "onnx")
    own = table[table["task"] == task].set_index("image")
    fused, probabilities = read_table(RunFolder(shared_run).task(task).fused_csv)
    names = fused["image"].str.removeprefix("Images/")
    tested = names.isin(own.index).to_numpy()
    assert tested.sum() == 5
    # The run's cached features have half precision.
    np.testing.assert_allclose(values(own.loc[names[tested]]), probabilities[tested], atol=4e-3)


def test_an_export_has_the_shared_networks_once(call, shared_run, tmp_path):
    code, printed = call("export", "--run", shared_run, "--out", tmp_path / "export")
    assert code == 0, printed
    names = sorted(path.name for path in (tmp_path / "export").glob("*.onnx"))
    assert names == ["stage1.onnx", "stage3.onnx", "trunk.onnx"]


def test_stage_3_reads_the_full_images_predictions_of_each_task(shared_run):
    for task in TASKS:
        folder = RunFolder(shared_run).task(task)
        full = read_arrays(folder.predictions(1), ("full",))["full"]
        assert np.array_equal(read_table(folder.predictions_csv(1))[1], full)
