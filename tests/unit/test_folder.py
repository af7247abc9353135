"""Paths of a run folder: the contract that scripts and people rely on."""

import pytest

from heatcrop.runs.folder import RunFolder, TaskFolder
from heatcrop.runs.predictions import write_arrays


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("config", "config.yaml"),
        ("metrics", "metrics.json"),
        ("submission", "submission.csv"),
        ("rejected", "rejected.csv"),
        ("report", "report/index.html"),
        ("description", "heatcrop.json"),
    ],
)
def test_paths_of_a_run(tmp_path, name, path):
    assert getattr(RunFolder(tmp_path), name) == tmp_path / path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("boxes_csv", "boxes.csv"),
        ("crops", "crops"),
        ("heatmaps", "stage1/heatmaps.npy"),
        ("rule", "rule.json"),
        ("fused_csv", "stage3/fused.csv"),
        ("fusion", "stage3/fusion.json"),
    ],
)
def test_paths_of_a_task(tmp_path, name, path):
    assert getattr(RunFolder(tmp_path).task("neck"), name) == tmp_path / "neck" / path


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("weights", "weights.params"),
        ("network", "network.onnx"),
        ("history", "history.csv"),
        ("predictions_csv", "predictions.csv"),
    ],
)
def test_paths_of_a_stage(tmp_path, number, name, path):
    assert getattr(TaskFolder(tmp_path), name)(number) == tmp_path / f"stage{number}" / path


@pytest.fixture
def folder(tmp_path):
    return TaskFolder(tmp_path)


def test_a_stage_lists_the_artefacts_that_are_there(folder):
    for path in (folder.weights(1), folder.fold_weights("fold 0"), folder.weights(3), folder.rule):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    folder.crops.mkdir()
    assert folder.artefacts("cam") == ["stage1/fold0.params", "stage1/weights.params"]
    assert folder.artefacts("crop") == ["crops", "rule.json"]
    assert folder.artefacts("finetune") == ["stage3/weights.params"]


@pytest.mark.parametrize("missing", ["record", "fusion"])
def test_a_task_is_finished_with_its_last_record_and_fusion(folder, missing):
    folder.stage(3).mkdir()
    for path in (folder.record("finetune"), folder.fusion):
        path.touch()
    assert folder.finished
    (folder.record("finetune") if missing == "record" else folder.fusion).unlink()
    assert not folder.finished


def test_arrays_of_a_stage_take_the_place_of_older_ones(folder):
    for number in (1.0, 2.0):
        write_arrays(folder.boxes, value=[number])
    assert [path.name for path in folder.path.iterdir()] == ["boxes.npz"]
