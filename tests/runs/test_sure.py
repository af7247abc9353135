"""Which predictions are sure: thresholds of a run, and the column that ``predict`` adds."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from heatcrop.cli.run_folders import reload_dataset
from heatcrop.files import write_json
from heatcrop.metrics.fusion import cross_fused
from heatcrop.metrics.selective import ACCURACIES, OperatingPoint, choose_threshold
from heatcrop.predict.description import read_description
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.metrics import sure_figures
from heatcrop.runs.predictions import confidences, read_branches
from heatcrop.runs.thresholds import read_points, update_thresholds
from tests.tiny_run import TASKS, TINY, file_stamps

NECK, LAPEL = TASKS
COLUMNS = ["image", "task", "class", "confidence", "probabilities"]


@pytest.fixture(scope="module")
def images(tiny_home, tmp_path_factory):
    """A folder with the test images of a task."""
    folder = tmp_path_factory.mktemp("images")
    for path in sorted((tiny_home / "data" / "rank" / "Images" / NECK).glob("*.jpg")):
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def predict(call, images, tmp_path):
    """Predict with a run or an export; returns the table and what was printed."""

    def command(run, *words, code=0):
        out = tmp_path / "predictions.csv"
        found, printed = call("predict", images, "--run", run, "--out", out, "--no-gallery", *words)
        assert found == code, printed
        table = pd.read_csv(out, dtype=str, keep_default_na=False) if code == 0 else None
        return table, " ".join(printed.split())

    return command


@pytest.fixture(scope="module")
def exported(call, finished_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "export"
    assert call("export", "--run", finished_run, "--out", out)[0] == 0
    return out


def test_copies_of_an_image_count_once(run_copy, tiny_home, monkeypatch):
    monkeypatch.chdir(tiny_home)
    folder, data = RunFolder(run_copy).task(NECK), reload_dataset(RunFolder(run_copy), [NECK]).tasks[NECK]
    folder.thresholds.unlink()
    update_thresholds(folder, dataclasses.replace(data, paths=[data.paths[0]] * len(data)))
    assert json.loads(folder.thresholds.read_text())["rows"] == 1


def middle_of(table):
    """A confidence between those of the table, to four decimals so that engines agree."""
    values = np.sort(table["confidence"].astype(float))
    widest = int(np.diff(values).argmax())
    return round(float(values[widest] + values[widest + 1]) / 2, 4)


@pytest.mark.parametrize("engine", ["onnx", "mxnet"])
def test_the_column_compares_the_confidence_with_the_least_one(predict, finished_run, engine):
    plain, _ = predict(finished_run, "--engine", engine)
    least = middle_of(plain)
    table, _ = predict(finished_run, "--engine", engine, "--min-confidence", least)
    assert list(table.columns) == [*COLUMNS, "sure"]
    expected = [str(float(value) >= least).lower() for value in plain["confidence"]]
    assert table["sure"].tolist() == expected
    assert set(expected) == {"true", "false"}
    pd.testing.assert_frame_equal(table[COLUMNS], plain)


def test_an_export_has_the_same_column(predict, finished_run, exported):
    plain, _ = predict(exported)
    least = middle_of(plain)
    assert list(plain.columns) == COLUMNS
    from_run, _ = predict(finished_run, "--engine", "onnx", "--min-confidence", least)
    from_export, _ = predict(exported, "--min-confidence", least)
    assert from_export["sure"].tolist() == from_run["sure"].tolist()


def test_a_confidence_that_is_reached_exactly_is_sure(predict, finished_run):
    plain, _ = predict(finished_run, "--task", "neck")
    least = plain["confidence"][0]
    table, _ = predict(finished_run, "--task", "neck", "--min-confidence", least)
    assert table["sure"][0] == "true"


def test_a_table_with_the_column_may_be_replaced(predict, finished_run):
    predict(finished_run, "--task", "neck", "--min-confidence", 0.5)
    assert list(predict(finished_run, "--task", "neck")[0].columns) == COLUMNS


@pytest.mark.parametrize("task", TASKS)
def test_thresholds_are_chosen_on_rows_that_no_network_trained_on(tiny_home, finished_run, task):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny_home)
        data = reload_dataset(RunFolder(finished_run), keep=False).tasks[task]
    folder = RunFolder(finished_run).task(task)
    branches = read_branches(folder, data)
    networks = pd.read_csv(folder.predictions_csv(3), dtype=str).set_index("image")["network"]
    rows = [i for i, name in enumerate(data.images) if data.splits[i] != "test" and name in networks.index]
    assert all(data.splits[i] == "val" or networks[data.images[i]].startswith("fold") for i in rows)
    full, crop = branches["full"][rows], branches["crop"][rows]
    fused = cross_fused(full, crop, data.letters[rows], data.soft[rows])
    right = data.letters[rows, fused.argmax(axis=1)] == 2
    expected = [choose_threshold(confidences(fused), right, accuracy) for accuracy in ACCURACIES]
    assert list(read_points(folder)) == expected
    assert json.loads(folder.thresholds.read_text())["rows"] == len(rows) > 0


def test_run_and_export_describe_the_thresholds(finished_run, exported):
    for path in (finished_run, exported):
        found = read_description(path / "heatcrop.json").tasks
        for task in TASKS:
            points = read_points(RunFolder(finished_run).task(task))
            assert found[task].thresholds == points
            assert [point.accuracy for point in points] == list(ACCURACIES)


def test_metrics_have_a_row_for_each_accuracy(finished_run):
    found = json.loads((finished_run / "metrics.json").read_text())["tasks"][NECK]["sure"]
    assert [row["promised"] for row in found] == list(ACCURACIES)


def test_figures_count_the_rows_that_reach_the_threshold():
    """Confidences 0.9 (right), 0.8 (wrong), 0.8 (right) and 0.6 (right)."""
    fused = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.6, 0.4]])
    letters = np.array([[2, 0], [0, 2], [0, 2], [2, 0]], np.int8)
    points = (OperatingPoint(0.5, 0.8, 0.7), OperatingPoint(0.9, 0.95, 0.1), OperatingPoint(0.99, None, None))
    some, empty, never = sure_figures(points, fused, letters)
    assert (some["n"], some["right"], some["coverage"]) == (3, 2, 0.75)
    assert some["accuracy"] == pytest.approx(2 / 3)
    # The ends solve 3 a^2 (1-a) + a^3 = 0.025 and 1 - a^3 = 0.025.
    assert (some["low"], some["high"]) == (pytest.approx(0.0943, abs=1e-4), pytest.approx(0.975 ** (1 / 3)))
    assert (empty["n"], empty["coverage"], empty["accuracy"]) == (0, 0, None)
    assert (never["n"], never["accuracy"]) == (None, None)
    assert sure_figures(None, fused, letters) is None


def with_points(run, **points):
    """Give the tasks of a run a table of accuracies and thresholds, as if validation had chosen it."""
    path = run / "heatcrop.json"
    values = json.loads(path.read_text())
    for task, table in points.items():
        values["tasks"][task]["thresholds"] = table and [
            {"accuracy": accuracy, "threshold": threshold, "coverage": threshold and 0.5}
            for accuracy, threshold in table
        ]
    write_json(path, values)


def test_an_accuracy_takes_each_tasks_own_threshold(predict, run_copy):
    """0.85 is not in the tables: 0.9 is, or, where it has no threshold, 0.95."""
    plain, _ = predict(run_copy, "--engine", "onnx")
    own = {task: middle_of(plain[plain["task"] == task]) for task in TASKS}
    with_points(
        run_copy,
        **{
            NECK: [(0.8, 0.0), (0.9, own[NECK]), (0.95, None)],
            LAPEL: [(0.8, 0.0), (0.9, None), (0.95, own[LAPEL])],
        },
    )
    table, printed = predict(run_copy, "--engine", "onnx", "--min-accuracy", 0.85)
    expected = [
        str(float(value) >= own[task]).lower()
        for task, value in zip(plain["task"], plain["confidence"], strict=True)
    ]
    assert table["sure"].tolist() == expected
    assert f"neck: sure from a confidence of {own[NECK]:.3f}, for an accuracy of 90%" in printed
    assert f"lapel: sure from a confidence of {own[LAPEL]:.3f}, for an accuracy of 95%" in printed


def test_an_accuracy_that_validation_never_reaches_is_an_error(predict, run_copy, tmp_path):
    with_points(run_copy, **{NECK: [(0.8, 0.4), (0.9, None)], LAPEL: [(0.8, None), (0.9, None)]})
    _, printed = predict(run_copy, "--engine", "onnx", "--min-accuracy", 0.9, code=1)
    assert "no confidence promises it on the validation rows of" in printed
    assert "neck (only 0.8)" in printed
    assert "lapel (no other either)" in printed
    assert "Ask for less" in printed
    assert not (tmp_path / "predictions.csv").exists()
    table, _ = predict(run_copy, "--engine", "onnx", "--task", "neck", "--min-accuracy", 0.8)
    assert "sure" in table


def test_a_run_of_an_earlier_version_has_no_table_until_it_is_reported(predict, call, run_copy, no_plots):
    with_points(run_copy, **dict.fromkeys(TASKS))
    for task in TASKS:
        RunFolder(run_copy).task(task).thresholds.unlink()
    for engine in ("onnx", "mxnet"):
        _, printed = predict(run_copy, "--engine", engine, "--min-accuracy", 0.5, code=1)
        assert "has no thresholds" in printed
        assert "report --run" in printed
    assert call("report", "--run", run_copy.name)[0] == 0
    for task in TASKS:
        points = read_points(RunFolder(run_copy).task(task))
        assert points
        assert read_description(run_copy / "heatcrop.json").tasks[task].thresholds == points


def test_thresholds_of_other_predictions_are_not_used(run_copy):
    folder = RunFolder(run_copy).task(NECK)
    values = json.loads(folder.thresholds.read_text())
    write_json(folder.thresholds, values | {"made_from": "another training"})
    assert read_points(folder) is None


def test_damaged_thresholds_are_made_again(resume, run_copy):
    RunFolder(run_copy).task(NECK).thresholds.write_text("{")
    assert resume() == []


def test_thresholds_that_are_up_to_date_are_not_written_again(call, run_copy, no_plots):
    before = file_stamps(run_copy)
    assert call("run", "--all", *TINY, "--out", run_copy.name, "--jobs", "1")[0] == 0
    after = file_stamps(run_copy)
    for path in (RunFolder(run_copy).task(NECK).thresholds, run_copy / "heatcrop.json"):
        assert after[path] == before[path]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--min-confidence", "0.9", "--min-accuracy", "0.9"), "give one of them"),
        (("--fast", "--min-accuracy", "0.9"), "give one of them"),
        (("--min-confidence", "1.5"), "less than or equal to 1"),
        (("--min-accuracy", "-1"), "greater than or equal to 0"),
        (("--min-confidence", "nan"), "less than or equal to 1"),
    ],
)
def test_a_wrong_use_is_reported(predict, finished_run, words, message):
    _, printed = predict(finished_run, *words, code=2)
    assert message in printed
