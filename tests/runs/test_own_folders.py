"""Folders of one's own images on the command line: what is left out is a problem, the rest is trained."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

CONFIG = {
    "data": {"source": "files", "tasks": "infer", "roots": ["$IMAGES/birds"]},
    "network": {"backbone": "mobilenet0.25", "weights": "none", "frozen_blocks": -1, "input_px": 32},
    "cam": {"training": {"epochs": 1}, "views": 1, "folds": 2},
    "crop": {"search": {"pictures": 0}},
    "finetune": {"training": {"epochs": 1}, "views": 1},
}
PER_CLASS = 8


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Write a task of two classes, one of a single class, two empty folders, and a folder of classes."""
    home = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for folder in ("birds/beak/hooked", "birds/beak/long", "birds/wing/plain", "cats/long", "cats/short"):
        (home / folder).mkdir(parents=True)
        for i in range(PER_CLASS):
            Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(home / folder / f"{i}.jpg")
    (home / "birds/__MACOSX").mkdir()
    (home / "birds/beak/none").mkdir()
    (home / "own.yaml").write_text(json.dumps(CONFIG))
    return home


@pytest.fixture
def images(home, monkeypatch):
    monkeypatch.setenv("IMAGES", str(home))


@pytest.fixture(scope="module")
def finished(home, call, tmp_path_factory, no_plots):
    """Run all tasks of the birds; return the run folder and the output."""
    run = tmp_path_factory.mktemp("out") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGES", str(home))
        code, printed = call("run", "--all", "--config", "own.yaml", "--out", run, "--jobs", "1")
    assert code == 0, printed
    return run, " ".join(printed.split())


def test_check_counts_what_is_left_out(call, images):
    code, printed = call("check", "--config", "own.yaml", "--no-speed")
    printed = " ".join(printed.split())
    assert code == 1
    assert "1 folder without an image left out, for instance beak/none/" in printed
    assert "1 skipped, for instance __MACOSX" in printed
    assert "task 'wing' left out (8 images): task 'wing' has 1 class" in printed
    assert "2 problems found" in printed


def test_the_other_task_is_trained(finished):
    assert set(json.loads((finished[0] / "metrics.json").read_text())["tasks"]) == {"beak"}


def test_a_run_reports_what_is_left_out(finished):
    assert "task 'wing' left out (8 images)" in finished[1]


def test_no_row_of_the_left_out_task_is_rejected(finished):
    assert len(pd.read_csv(finished[0] / "rejected.csv")) == 0


def test_the_report_of_such_a_run_is_written_again(call, images, finished):
    code, printed = call("report", "--run", finished[0])
    assert code == 0, printed


def test_a_folder_of_classes_is_checked_without_problems(call, home):
    code, printed = call("check", "--config", "own.yaml", "--data", home / "cats", "--no-speed")
    assert code == 0, printed
    assert "the classes of one task, cats" in " ".join(printed.split())


def test_a_home_folder_is_found(call, home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    code, printed = call("check", "--config", "own.yaml", "--data", "~/cats", "--no-speed")
    assert code == 0, printed


def test_a_variable_that_is_not_set_is_reported(call, monkeypatch):
    monkeypatch.delenv("IMAGES", raising=False)
    code, printed = call("check", "--config", "own.yaml", "--no-speed")
    assert code == 1
    assert "$IMAGES/birds: there is no such data folder; a variable in it is not set" in " ".join(
        printed.split()
    )


def test_the_shortest_task_is_first_and_the_longest_next(call, tmp_path):
    """The first contact sheet shows soon whether crops are good."""
    rng = np.random.default_rng(0)
    for task, classes in {"few": 2, "most": 4, "more": 3}.items():
        for name in "abcd"[:classes]:
            (tmp_path / "data" / task / name).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / task / name / f"{i}.jpg")
    options = ("--config", "own.yaml", "--data", tmp_path / "data", "--out", tmp_path / "run", "--jobs", "1")
    code, printed = call("stage", "cam", "--all", *options)
    assert code == 0, printed
    assert re.findall(r"^(\w+): cam in", printed, re.MULTILINE) == ["few", "most", "more"]
