"""What a second command does again, and what it keeps."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from heatcrop.cli.config_file import read_config
from heatcrop.data.listing import RUN_HEADER
from heatcrop.data.tasks import resolve
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import is_uncropped
from tests.tiny_run import ROOT, TASKS, differences, file_stamps

NECK, LAPEL = TASKS


@pytest.fixture
def run(call, run_copy):
    """Give a command for the copied run, with the settings that made it."""

    def command(*words):
        return call(*words, "--config", "tiny.yaml", "--out", run_copy.name, "--jobs", "1")

    return command


def stages_done(printed, task="neck"):
    return [stage for stage in ("cam", "crop", "finetune") if f"{task}: {stage} in " in printed]


def test_a_second_run_does_nothing(run, run_copy):
    before = file_stamps(run_copy / NECK) | file_stamps(run_copy / LAPEL)
    code, printed = run("run", "--all")
    assert code == 0
    assert "neck: cam, crop, finetune up to date" in printed
    assert "lapel: cam, crop, finetune up to date" in printed
    assert file_stamps(run_copy / NECK) | file_stamps(run_copy / LAPEL) == before


def test_a_second_run_imports_no_library_that_only_its_work_needs(run_copy):
    code = (
        "import sys; from heatcrop.cli.main import main; code = main(); "
        "print(code, *sorted({'mxnet', 'torch', 'skimage'} & set(sys.modules)))"
    )
    words = ["run", "--all", "--config", "tiny.yaml", "--out", run_copy.name, "--jobs", "1"]
    how = {"cwd": run_copy.parent, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "timeout": 120}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, **how)
    assert done.stdout.splitlines()[-1:] == ["0"], done.stderr


def test_a_copied_run_has_the_files_of_the_first(run, run_copy, undisturbed):
    assert run("run", "--all")[0] == 0
    assert differences(run_copy, undisturbed) == []


def test_a_stage_of_other_data_is_refused_and_nothing_changes(run, run_copy, tmp_path):
    before = file_stamps(run_copy)
    code, printed = run("stage", "crop", "--all", "--data", tmp_path)
    assert code == 1
    assert f"give --config {run_copy.name}/config.yaml, or another --out" in " ".join(printed.split())
    assert file_stamps(run_copy) == before


def test_data_that_was_moved_is_the_same_data(run, run_copy, tiny_home, tmp_path, monkeypatch):
    """The folder that made the run is gone."""
    moved = tmp_path / "moved"
    moved.symlink_to(tiny_home / "data")
    config = run_copy / "config.yaml"
    made = yaml.safe_load(config.read_text(encoding="utf-8"))
    made["data"]["roots"] = [str(tmp_path / "gone")]
    config.write_text(RUN_HEADER + yaml.safe_dump(made), encoding="utf-8")
    code, printed = run("stage", "crop", "--all", "--data", moved)
    assert code == 0, printed
    assert "was made from" not in printed


THRESHOLD = ("--task", "neck", "--set", "crop.rule.threshold=0.95")


@pytest.fixture(scope="module")
def cropped(call, finished_run):
    """A copy of the run whose neck was cropped again with another threshold; tests only read it."""
    yield from with_threshold(call, finished_run, "stage", "crop")


@pytest.fixture(scope="module")
def followed(call, finished_run, no_plots):
    """The same after a run has done what follows."""
    yield from with_threshold(call, finished_run, "run")


def with_threshold(call, run, *command):
    """Yield a copy of a run in which a command was given with another threshold, and what that printed."""
    copy = run.with_name(f"threshold-{command[0]}")
    shutil.copytree(run, copy, symlinks=True)
    code, printed = call(*command, *THRESHOLD, "--config", "tiny.yaml", "--out", copy.name, "--jobs", "1")
    assert code == 0, printed
    yield copy, printed
    shutil.rmtree(copy)


def is_changed(copy, run, part):
    """Return whether a folder of a copied run was written to since."""
    times = [
        {path.relative_to(one): path.stat().st_mtime_ns for path in (one / part).rglob("*") if path.is_file()}
        for one in (copy, run)
    ]
    assert times[1]
    return times[0] != times[1]


def test_stage_crop_leaves_the_networks(cropped, finished_run):
    for stage in ("stage1", "stage3"):
        assert not is_changed(cropped[0], finished_run, f"{NECK}/{stage}")


def test_stage_crop_uses_a_new_threshold(cropped, finished_run):
    folder = RunFolder(cropped[0]).task(NECK)
    assert set(pd.read_csv(folder.boxes_csv)["threshold"]) == {0.95}
    # A component above a higher threshold is a part of the one before: no crop grows.
    before, after = areas(RunFolder(finished_run).task(NECK)), areas(folder)
    both = np.isfinite(before) & np.isfinite(after)
    assert both.any()
    assert (after[both] <= before[both]).all()
    assert after[both].sum() < before[both].sum()


def test_a_command_for_one_task_leaves_the_plans_of_the_others(cropped, finished_run):
    before, after = (read_config(run / "config.yaml") for run in (finished_run, cropped[0]))
    neck, lapel = (resolve(name, before.known_tasks()) for name in TASKS)
    assert after.plans(lapel) == before.plans(lapel)
    assert after.plans(neck)[1].rule.threshold == 0.95
    assert after.plans(neck)[0] == before.plans(neck)[0]
    assert set(after.tasks) == {NECK}


def test_tasks_with_another_network_than_the_configured_one_are_not_predicted(run, call, run_copy, tiny_home):
    with_own = yaml.safe_load((run_copy / "config.yaml").read_text())
    with_own["network"]["input_px"] += 32
    (run_copy / "config.yaml").write_text(RUN_HEADER + yaml.safe_dump(with_own))
    (run_copy / "heatcrop.json").unlink()
    image = next((tiny_home / "data").rglob("*.jpg"))
    code, printed = call("predict", image, "--run", run_copy, "--out", run_copy / "answers.csv")
    assert code == 1
    assert "was made with network.input_px=" in " ".join(printed.split())


def test_a_task_is_not_predicted_before_its_later_stages(cropped, call, tiny_home, tmp_path):
    image, answers = next((tiny_home / "data").rglob("*.jpg")), tmp_path / "answers.csv"
    words = ("predict", image, "--run", cropped[0], "--out", answers, "--task")
    code, printed = call(*words, "neck")
    assert code == 1
    assert f"{NECK} is not finished" in " ".join(printed.split())
    code, printed = call(*words, "lapel")
    assert code == 0, printed


def test_stage_3_is_refused_where_stage_2_has_not_followed_stage_1(run):
    assert run("stage", "cam", "--task", "neck", "--set", "cam.training.epochs=1")[0] == 0
    code, printed = run("stage", "finetune", "--task", "neck")
    assert code == 1
    assert f"stage crop --task {NECK}" in " ".join(printed.split())


def test_a_stage_reports_that_the_one_before_was_made_with_other_settings(run, run_copy):
    assert run("stage", "crop", *THRESHOLD)[0] == 0
    code, printed = run("stage", "finetune", "--task", "neck")
    printed = " ".join(printed.split())
    assert code == 0
    assert "continues from stage crop as it is" in printed
    assert "crop.rule.threshold 0.95 -> " in printed
    assert f"report --run {run_copy.name}" in printed
    config = read_config(run_copy / "config.yaml")
    assert config.plans(resolve(NECK, config.known_tasks()))[1].rule.threshold == 0.95


def test_the_card_has_no_scores_of_networks_before_the_present_ones(run, call, run_copy, tmp_path):
    assert run("stage", "finetune", *THRESHOLD)[0] == 0
    assert call("export", "--run", run_copy, "--out", tmp_path / "export")[0] == 0
    card = (tmp_path / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"| {NECK} | not scored since its networks were trained |" in card
    assert f"| {LAPEL} | not scored" not in card


def areas(folder):
    """Return the area of each crop in pixels; NaN for an image that is not cropped."""
    table = pd.read_csv(folder.boxes_csv, keep_default_na=False)
    area = (table["x1"] - table["x0"]) * (table["y1"] - table["y0"])
    return area.where(~is_uncropped(table["fallback"].to_numpy(str)), np.nan).to_numpy(float)


def test_a_run_with_a_new_threshold_does_only_what_follows(followed, finished_run):
    copy, printed = followed
    assert stages_done(printed) == ["crop", "finetune"]
    assert not is_changed(copy, finished_run, f"{NECK}/stage1")
    assert is_changed(copy, finished_run, f"{NECK}/stage3")
    for part in ("stage1", "stage3", "crops"):
        assert not is_changed(copy, finished_run, f"{LAPEL}/{part}")


def test_the_time_of_what_was_done_is_printed(followed):
    printed = followed[1]
    table = printed[printed.index("where the time went") :].splitlines()
    (row,) = (line for line in table if line.startswith(" neck "))
    assert re.fullmatch(rf" neck +up to date +{SPENT} +{SPENT} +{SPENT} +\d+% *", row)
    parts = [line.split()[0] for line in table if re.search(rf"{SPENT} +\d+%", line)]
    assert parts == ["neck", "all", "data", "other", "scores", "report", "total"]


SPENT = r"[\d.]+ \([\d.]+\)"
"""Seconds and CPU seconds."""


def test_a_run_that_has_nothing_to_do_takes_no_time_for_it(run, no_plots):
    code, printed = run("run", "--all")
    assert code == 0
    for task in ("neck", "lapel"):
        assert re.search(rf"^ {task} +up to date +up to date +up to date +0.0 \(0.0\)", printed, re.M)


def test_crops_from_outdated_heatmaps_are_outdated(run):
    """Stage crop uses what stage cam left, even if the settings have changed since; a run does not."""
    changed = ("--task", "neck", "--set", "cam.training.epochs=1")
    assert run("stage", "crop", *changed)[0] == 0
    code, printed = run("run", *changed, "--dry-run")
    assert code == 0
    assert "3 of 3 stages would run" in printed


def test_a_run_of_one_task_keeps_the_figures_of_the_other(run, run_copy):
    assert run("run", "--task", "neck")[0] == 0
    assert set(json.loads((run_copy / "metrics.json").read_text())["tasks"]) == set(TASKS)
    assert LAPEL in (run_copy / "submission.csv").read_text()


def test_stage_1_of_other_splits_is_refused(run):
    """With another seed, images that stage 1 trained on may be validation images."""
    code, printed = run("stage", "crop", "--task", "neck", "--set", "seed=5")
    assert code == 1
    assert "belongs to other images, labels or splits" in printed
    assert "run --task neck" in printed


@pytest.mark.parametrize(("stage", "before"), [("crop", "cam"), ("finetune", "crop")])
def test_a_stage_without_the_one_before_is_refused(call, tmp_path, stage, before):
    options = ("--task", "neck", "--config", "tiny.yaml", "--out", tmp_path / "new")
    code, printed = call("stage", stage, *options)
    assert code == 1
    assert f"python pipeline.py stage {before} --task {NECK}" in printed


@pytest.mark.parametrize(
    ("lost", "outdated"),
    [
        ("boxes.csv", 2),
        ("boxes.npz", 2),
        ("crops", 2),
        ("stage1/heatmaps.npy", 3),
        ("stage1/predictions.npz", 3),
        ("stage1/fold0.params", 3),
        ("stage3/weights.params", 1),
        ("stage3/fused.csv", 1),
    ],
)
def test_a_deleted_file_outdates_its_stage_and_the_later_ones(run, run_copy, lost, outdated):
    path = run_copy / NECK / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, printed = run("run", "--all", "--dry-run")
    assert code == 0
    assert f"{outdated} of 6 stages would run" in printed
    assert f"{lost} is missing" in " ".join(printed.split())


def test_a_deleted_file_is_made_again_with_the_same_bytes(resume, run_copy):
    shutil.rmtree(run_copy / NECK / "crops")
    assert resume() == []


# --- run folders of earlier versions


@pytest.fixture
def old_copy(run_copy):
    """Rewrite the copy's records as an earlier version wrote them, without the files that it did not have."""
    for stage in ("cam", "crop", "finetune"):
        for task in TASKS:
            path = RunFolder(run_copy).task(task).record(stage)
            path.write_text(json.dumps({"fingerprint": "abc", "seconds": {}, "files": [], "made_from": {}}))
    for path in run_copy.glob("*/**/*.npz"):
        path.unlink()
    return run_copy


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--all", "--config", "tiny.yaml", "--out"),
        ("stage", "crop", "--task", "neck", "--config", "tiny.yaml", "--out"),
        ("report", "--run"),
    ],
)
def test_run_folders_of_earlier_versions_are_refused_and_left(call, old_copy, words):
    before = file_stamps(old_copy)
    code, printed = call(*words, old_copy)
    assert code == 1
    assert "earlier version" in printed
    assert "--out" in printed
    assert file_stamps(old_copy) == before


def test_run_folders_of_earlier_versions_are_read_by_predict(
    call, old_copy, finished_run, tiny_home, tmp_path
):
    images = tiny_home / "data" / "rank" / "Images" / NECK
    for run, name in ((old_copy, "old.csv"), (finished_run, "new.csv")):
        words = ("predict", images, "--run", run, "--out", tmp_path / name, "--no-gallery")
        code, printed = call(*words)
        assert code == 0, printed
    assert (tmp_path / "old.csv").read_bytes() == (tmp_path / "new.csv").read_bytes()


def test_run_folders_of_earlier_versions_are_read_by_fuse(call, old_copy, finished_run, tmp_path):
    code, printed = call("fuse", "--run", finished_run, "--run", old_copy, "--out", tmp_path / "ensemble")
    assert code == 0, printed
    assert (tmp_path / "ensemble" / "submission.csv").is_file()
