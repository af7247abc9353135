"""A dry run lists what would run and why, and writes nothing."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

import heatcrop.cli.runner
from heatcrop.cli.config import Config
from heatcrop.cli.config_file import read_config
from heatcrop.cli.loading import load_dataset
from heatcrop.cli.runner import StageRunner
from heatcrop.cli.startup import plan_run
from heatcrop.data.images import read_image, write_jpeg
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.progress import console
from heatcrop.runs.records import write_record
from tests.tiny_run import ROOT, TASKS, file_stamps

NECK = TASKS[0]


@pytest.fixture
def plan(call, run_copy, monkeypatch):
    """Give a dry run of the copied run; it returns the reasons by task and stage."""
    monkeypatch.setattr(console, "width", 200)

    def dry_run(*words):
        before = file_stamps(run_copy)
        code, printed = call("run", "--all", "--config", "tiny.yaml", "--out", run_copy, "--dry-run", *words)
        assert code == 0, printed
        assert file_stamps(run_copy) == before
        task, reasons = "", {}
        for line in printed.splitlines():
            if found := re.match(r" (\w*) +(cam|crop|finetune) +(.+?) *$", line):
                task = found[1] or task
                reasons[task, found[2]] = found[3]
        assert len(reasons) == 6, printed
        return reasons

    return dry_run


def test_a_finished_run_is_up_to_date(plan):
    assert set(plan().values()) == {"up to date"}


def test_a_setting_of_one_task_outdates_that_task(plan):
    reasons = plan("--set", "tasks.neck.crop.rule.threshold=0.5")
    assert reasons["neck", "cam"] == "up to date"
    assert reasons["neck", "crop"] == "crop.rule.threshold 0.8 -> 0.5"
    assert reasons["neck", "finetune"] == "after crop"
    assert reasons["lapel", "crop"] == "up to date"


def test_each_stage_names_its_own_setting(plan):
    reasons = plan("--set", "cam.training.epochs=3", "--set", "finetune.training.epochs=1")
    assert reasons["lapel", "cam"] == "cam.training.epochs 2 -> 3"
    assert reasons["lapel", "crop"] == "after cam"
    assert reasons["lapel", "finetune"] == "finetune.training.epochs 2 -> 1"


def test_a_setting_of_the_network_outdates_stage_1(plan):
    assert plan("--set", "network.input_px=128")["neck", "cam"] == "network.input_px 96 -> 128"


def test_another_method_of_heatmaps_outdates_stage_1(plan):
    assert plan("--set", "heatmap.method=grad_cam")["neck", "cam"] == "heatmap.method cam -> grad_cam"


def test_an_image_that_is_left_out_of_training_outdates_its_task(plan, finished_run, tmp_path):
    predictions = pd.read_csv(RunFolder(finished_run).task(NECK).predictions_csv(1))
    image = predictions.loc[predictions["split"] == "train", "image"].iloc[0]
    (tmp_path / "bad.csv").write_text(f"image,task\n{image},neck\n")
    reasons = plan("--set", f"data.excluded=['{tmp_path}/bad.csv']")
    assert reasons["neck", "cam"] == "other labels, splits or groups"
    assert reasons["lapel", "cam"] == "up to date"


def test_a_list_that_the_run_itself_writes_is_refused(call, finished_run):
    words = ("--config", "tiny.yaml", "--out", finished_run, "--dry-run")
    path = RunFolder(finished_run).task(NECK).suspects
    code, printed = call("run", "--all", *words, "--set", f"data.excluded=['{path}']")
    assert code == 1
    assert "copy the file, or give the new run a name of its own" in " ".join(printed.split())


def test_a_missing_record_is_a_stage_not_done(plan, run_copy):
    RunFolder(run_copy).task(NECK).record("finetune").unlink()
    reasons = plan()
    assert reasons["neck", "finetune"] == "not done yet"
    assert reasons["lapel", "finetune"] == "up to date"


def test_a_new_version_of_a_stage_outdates_it(plan, monkeypatch):
    monkeypatch.setitem(heatcrop.cli.runner._CODE, "crop", 99)
    assert "makes it differently" in plan()["lapel", "crop"]


@pytest.fixture
def data_copy(tiny_home, run_copy, tmp_path, monkeypatch):
    """Copy the data, and make the copied run believe that stage 1 was made from the copy."""
    monkeypatch.chdir(tiny_home)
    data = Path(shutil.copytree(tiny_home / "data", tmp_path / "data"))
    config = read_config(Path("tiny.yaml"), [f"data.roots=[{data}]"])
    dataset = load_dataset(config, ["neck"], None)
    runner = StageRunner(config, RunFolder(run_copy), dataset.groups, dataset.stamps)
    record = RunFolder(run_copy).task(NECK).record("cam")
    files = json.loads(record.read_text())["files"]
    write_record(record, runner.inputs["cam", NECK], list(files), {})
    return data


def test_a_copy_of_the_data_with_its_times_is_the_same(plan, data_copy):
    assert plan("--data", data_copy)["neck", "cam"] == "up to date"


def test_a_changed_image_is_named_as_such(plan, data_copy):
    path = next((data_copy / "base" / "Images" / NECK).glob("*.jpg"))
    write_jpeg(path, read_image(path)[::-1])
    assert plan("--data", data_copy)["neck", "cam"] == "image files changed"


def test_changed_labels_are_named_as_such(plan, data_copy):
    labels = data_copy / "base" / "Annotations" / "label.csv"
    lines = labels.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if NECK in line)
    labels.write_text("\n".join(lines[:first] + lines[first + 1 :]) + "\n")
    assert plan("--data", data_copy)["neck", "cam"] == "other labels, splits or groups"


def test_a_dry_run_renders_no_images(call, tmp_path):
    settings = (
        "--config",
        ROOT / "configs" / "demo.yaml",
        "--set",
        f"data.rendered.folder={tmp_path / 'new'}",
    )
    code, printed = call("run", "--task", "neck", *settings, "--dry-run", "--out", tmp_path / "run")
    assert code == 0
    assert " ".join(printed.split()).count("images must be rendered first") == 3
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_plans_the_tasks_whose_images_are_there(tmp_path):
    sizes, folder = {"per_class": 4, "test_per_class": 1}, str(tmp_path / "data")
    config = Config(data={"rendered": {**sizes, "folder": folder}}, runtime={"threads": 1})
    load_dataset(config, ["neck"], None)
    planned = plan_run(config, RunFolder(tmp_path / "run"), ["neck", "coat"], ("cam",))
    assert planned["neck"]["cam"] != "its images must be rendered first"
    assert planned["coat"]["cam"] == "its images must be rendered first"
