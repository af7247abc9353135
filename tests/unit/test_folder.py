"""What the folder of a task lists; a run's test checks its paths."""

import pytest

from heatcrop.runs.folder import RunFolder, TaskFolder


@pytest.fixture
def folder(tmp_path):
    return TaskFolder(tmp_path)


def test_a_stage_lists_the_artefacts_that_are_there(folder):
    for path in (folder.weights(1), folder.weights(1, "fold 0"), folder.weights(3), folder.rule):
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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("neck_design_labels", "neck_design_labels"),
        ("trunk", "trunk_task"),
        ("Trunk", "Trunk_task"),
        ("CACHE", "CACHE_task"),
        ("report", "report_task"),
        ("export", "export_task"),
        ("controls", "controls_task"),
        ("metrics.json", "metrics.json_task"),
        ("crops", "crops_task"),
        ("trunk_task", "trunk_task_task"),  # the folder of the task `trunk` is another
        ("trunk_task_task", "trunk_task_task_task"),
        ("neck_task", "neck_task"),
        ("trunks", "trunks"),
        ("shared_trunk", "shared_trunk"),
    ],
)
def test_a_task_never_has_a_folder_of_the_run(tmp_path, name, expected):
    assert RunFolder(tmp_path).task(name).path == tmp_path / expected
