"""What the folder of a task lists; a run's test checks its paths."""

import pytest

from heatcrop.data.groups import single_group
from heatcrop.errors import DataError
from heatcrop.runs.folder import RunFolder, TaskFolder
from heatcrop.runs.swap import staging_folder, swap_in
from tests.unit.builders import make_data


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


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def folders_of(run, *names):
    run.assign_folders(names)
    return [RunFolder(run.path).task(name).path.name for name in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["wing", "Wing", "WING", "beak"], ["wing", "Wing (2)", "WING (3)", "beak"]),
        (["T", "t (2)", "t"], ["T", "t (2)", "t (3)"]),
        (["trunk", "Trunk"], ["trunk_task", "Trunk_task (2)"]),
        (["\u00c9", "\u00e9"], ["\u00c9", "\u00e9 (2)"]),
    ],
)
def test_folders_of_tasks_differ_where_case_is_ignored(run, names, expected):
    assert folders_of(run, *names) == expected
    # Whatever the order of later commands.
    assert folders_of(run, *reversed(names)) == expected[::-1]


def test_a_task_keeps_its_folder_when_another_one_joins(run):
    assert folders_of(run, "t") == ["t"]
    assert not run.folders.exists()
    run.task("t").path.mkdir()
    assert folders_of(run, "T", "t") == ["T (2)", "t"]


def test_a_folder_of_an_earlier_task_is_not_used(run):
    run.task("T").path.mkdir()
    assert folders_of(run, "t") == ["t (2)"]


def test_a_damaged_file_of_folders_is_reported(run):
    run.folders.write_text("[")
    with pytest.raises(DataError, match="folders.json"):
        run.task("t")


def test_the_cache_of_tasks_differs_where_case_is_ignored(run):
    run.assign_folders(["t", "T"])
    groups = [single_group(make_data(["train"] * 2, name=name)) for name in "tT"]
    assert [run.cache_of(group, "cam") for group in groups] == [
        run.path / "cache" / "t" / "cam",
        run.path / "cache" / "T (2)" / "cam",
    ]


def test_a_folder_that_is_a_link_is_replaced_more_than_once(tmp_path):
    (tmp_path / "big").mkdir()
    home = tmp_path / "report"
    home.symlink_to("big")
    for number in range(3):
        staging_folder(home).mkdir()
        (staging_folder(home) / "page").write_text(str(number))
        swap_in(home, lambda name: True)
        assert (home / "page").read_text() == str(number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big", "report"]
