"""Compare two runs with ``report``: figures, left-out images, the page's files, and refusals."""

import json
import shutil
from urllib.parse import unquote

import numpy as np
import pytest

from heatcrop.cli.run_folders import reload_dataset
from heatcrop.metrics.comparison import SIDES
from heatcrop.report.page import COMPARISON_ASSETS
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_arrays, write_arrays
from tests.browser import data_of
from tests.tiny_run import TASKS, file_stamps

NECK, LAPEL = TASKS


@pytest.fixture(scope="module")
def neck(tiny_home, finished_run):
    """The neck task's data in the finished run, which has five test images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny_home)
        return reload_dataset(RunFolder(finished_run), keep=False).tasks[NECK]


def predict(run, data, right):
    """Make the fused predictions of the test images right or wrong, all with confidence 0.9."""
    path = RunFolder(run).task(data.task.name).predictions(3)
    arrays = read_arrays(path)
    for row, correct in zip(data.rows("test"), right, strict=True):
        truth = int(data.letters[row].argmax())
        arrays["fused"][row] = 0.025
        arrays["fused"][row, truth if correct else (truth + 1) % 5] = 0.9
    write_arrays(path, **arrays)


@pytest.fixture
def runs(finished_run, run_copy, neck):
    """Two copies: the first is right on the test images 0, 1 and 2, the second on 1, 2, 3 and 4."""
    other = finished_run.with_name("other")
    shutil.copytree(finished_run, other, symlinks=True)
    predict(run_copy, neck, [True, True, True, False, False])
    predict(other, neck, [False, True, True, True, True])
    yield run_copy, other
    shutil.rmtree(other)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr("heatcrop.report.compare.RESAMPLES", 25)


@pytest.fixture
def compare(call, runs):
    """Compare the two runs; returns the figures, the page's folder and what was printed."""

    def command(*words, home=runs[0] / "report" / "compare-other"):
        code, printed = call("report", "--run", runs[0].name, "--run", runs[1].name, *words)
        assert code == 0, printed
        return json.loads((home / "comparison.json").read_text()), home, " ".join(printed.split())

    return command


def shown(page):
    """What the page shows of the neck task."""
    tasks = data_of(page.read_text(encoding="utf-8"))["tasks"]
    return next(task for task in tasks if task["runs"][0]["name"] == NECK)


def refused(call, *words):
    code, printed = call("report", *words)
    return code, " ".join(printed.split())


def test_accuracy_and_changed_images_are_those_worked_out_by_hand(compare, neck):
    figures, _, printed = compare()
    found, images = figures["tasks"][NECK], [neck.images[row] for row in neck.rows("test")]
    accuracy = found["fused"]["accuracy"]
    assert [accuracy[key]["value"] for key in ("a", "b", "change")] == pytest.approx([0.6, 0.8, 0.2])
    assert found["wrong_to_right"] == images[3:]
    assert found["right_to_wrong"] == images[:1]
    assert (found["fixed"], found["lost"], found["n"]) == (2, 1, 5)
    # All confidences are equal, so that AP is the accuracy.
    assert "neck_design 0.600 0.800 +0.200" in printed
    assert figures["split"] == "test"
    assert figures["notes"] == []


def test_a_file_of_both_runs_is_not_compared_with_itself(compare, monkeypatch):
    monkeypatch.setattr("filecmp.cmp", lambda *paths, **_: pytest.fail(f"reads {paths}"))
    assert compare()[0]["notes"] == []


def test_other_branches_and_tasks_are_equal(compare):
    figures, *_ = compare()
    nothing = {"value": 0, "low": 0, "high": 0}
    for branch in ("full", "crop"):
        assert figures["tasks"][NECK][branch]["map"]["change"] == nothing
    assert figures["tasks"][LAPEL]["fused"]["map"]["change"] == nothing
    assert figures["tasks"][LAPEL]["fixed"] == figures["tasks"][LAPEL]["lost"] == 0
    assert figures["mean"]["fused"]["accuracy"]["change"]["value"] == pytest.approx(0.1)


def test_the_interval_of_the_change_is_paired(compare):
    """Of five images two are gained and one is lost: no sample can change by more than -1 or +1."""
    change = compare()[0]["tasks"][NECK]["fused"]["accuracy"]["change"]
    assert -1 <= change["low"] < 0.2 < change["high"] <= 1


def test_the_page_has_both_crops_of_the_changed_images(compare, neck):
    _, home, _ = compare()
    task = shown(home / "index.html")
    images = [neck.images[row] for row in neck.rows("test")]
    assert task["changes"] == ["lost", "fixed", "fixed"]
    for side, run in zip(SIDES, task["runs"], strict=True):
        assert [row["name"] for row in run["rows"]] == [images[0], *images[3:]]
        files = [unquote(row["thumb"]["file"]) for row in run["rows"]]
        assert all(file.startswith(f"thumbs/{side}/") and (home / file).is_file() for file in files)
    assert {path.name for path in (home / "assets").iterdir()} == set(COMPARISON_ASSETS)


def test_neither_run_changes_but_for_the_page(compare, runs):
    before = [file_stamps(run) for run in runs]
    _, home, _ = compare()
    assert file_stamps(runs[1]) == before[1]
    found = file_stamps(runs[0])
    assert {path: found[path] for path in before[0]} == before[0]
    assert all(path.is_relative_to(home) for path in found.keys() - before[0].keys())


def test_another_folder_can_be_given(compare, tmp_path):
    figures, home, printed = compare("--out", tmp_path / "page", home=tmp_path / "page")
    assert figures["tasks"][NECK]["fixed"] == 2
    assert str(home / "index.html") in printed


@pytest.mark.parametrize("out", [".", ".."])
def test_the_current_folder_is_not_replaced(call, runs, tmp_path, monkeypatch, out):
    first, second = (run.resolve() for run in runs)
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    code, printed = refused(call, "--run", first, "--run", second, "--out", out)
    assert code == 1
    assert f"{out}: would be replaced, and is or holds the current folder" in printed


def test_a_new_report_keeps_the_comparison(call, compare, runs, no_plots):
    _, home, _ = compare()
    before = (home / "index.html").read_bytes()
    assert call("report", "--run", runs[0].name)[0] == 0
    assert (home / "index.html").read_bytes() == before


def test_a_repeated_comparison_keeps_a_users_files(compare):
    _, home, _ = compare()
    (home / "notes.txt").write_text("mine")
    (home / "index.html").write_text("old")
    compare()
    assert (home / "notes.txt").read_text() == "mine"
    assert "HeatCrop comparison" in (home / "index.html").read_text(encoding="utf-8")


def test_what_a_killed_comparison_left_is_removed(compare, runs):
    """The next command that owns the run removes a half-built page, and puts an old one back."""
    report = runs[0] / "report"
    (report / ".compare-x.partial").mkdir()
    (report / ".compare-y.old").mkdir()
    (report / ".compare-y.old" / "index.html").write_text("old")
    compare()
    assert not (report / ".compare-x.partial").exists()
    assert (report / "compare-y" / "index.html").read_text() == "old"


def test_a_folder_of_other_files_is_refused(call, runs, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for out in (tmp_path, runs[0] / "report"):
        before = file_stamps(out)
        code, printed = refused(call, "--run", runs[0].name, "--run", runs[1].name, "--out", out)
        assert code == 1
        assert "holds files that are not a comparison's; give another --out" in printed
        assert file_stamps(out) == before


def test_a_file_is_no_folder_for_a_page(call, runs, tmp_path):
    (tmp_path / "page").write_text("mine")
    code, printed = refused(call, "--run", runs[0].name, "--run", runs[1].name, "--out", tmp_path / "page")
    assert (code, (tmp_path / "page").read_text()) == (1, "mine")
    assert "it is no folder" in printed


def test_another_run_of_the_same_name_does_not_replace_a_comparison(call, compare, runs):
    _, home, _ = compare()
    below = runs[0].parent / "below"
    shutil.copytree(runs[1], below / "other", symlinks=True)
    code, printed = refused(call, "--run", runs[0].name, "--run", below / "other")
    shutil.rmtree(below)
    assert code == 1
    assert "holds the comparison with" in printed
    assert "give --out a folder for this one" in printed


def test_a_task_of_one_run_only_is_left_out_and_reported(compare, runs):
    shutil.rmtree(runs[1] / LAPEL)
    figures, home, printed = compare()
    assert list(figures["tasks"]) == [NECK]
    assert figures["notes"] == [f"{LAPEL}: left out, is not finished in B"]
    assert figures["notes"][0] in printed
    assert figures["notes"][0] in (home / "index.html").read_text(encoding="utf-8")
    assert figures["mean"]["fused"]["accuracy"]["change"]["value"] == pytest.approx(0.2)


def test_images_that_only_one_run_tests_are_left_out_and_reported(compare, runs, tiny_home, neck):
    """The second run's data has no answer to image 3, which it had fixed, and another file as image 1."""
    data = tiny_home / "less"
    shutil.copytree(tiny_home / "data", data)
    images, answers = [neck.images[row] for row in neck.rows("test")], data / "rank" / "Tests" / "answer.csv"
    lines = answers.read_text().splitlines(keepends=True)
    answers.write_text("".join(line for line in lines if images[3] not in line))
    shutil.copyfile(data / "rank" / images[0], data / "rank" / images[1])
    config = runs[1] / "config.yaml"
    config.write_text(config.read_text().replace("- data\n", "- less\n"))
    for task in TASKS:
        record = json.loads((runs[1] / task / ".cam.json").read_text())
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tiny_home)
            record["inputs"]["rows"] = rows_now(runs[1], task)
        (runs[1] / task / ".cam.json").write_text(json.dumps(record))
    figures, _, printed = compare()
    shutil.rmtree(data)
    found = figures["tasks"][NECK]
    assert (found["n"], found["fixed"], found["lost"]) == (4, 1, 1)
    assert figures["notes"] == [
        f"{NECK}: 1 test image of A left out, without a label in B",
        f"{NECK}: 1 image of equal name is another file in B, and compared all the same",
    ]
    assert "1 test image of A left out" in printed


def rows_now(run, task):
    from heatcrop.cli.loading import config_of_run, load_dataset
    from heatcrop.runs.records import rows_fingerprint

    dataset = load_dataset(config_of_run(RunFolder(run)), [task], None)
    return rows_fingerprint(dataset.tasks[task])


def test_nothing_in_common_is_an_error_that_names_the_fix(call, runs):
    for task, run in zip(TASKS, runs, strict=True):
        shutil.rmtree(run / task)
    code, printed = refused(call, "--run", runs[0].name, "--run", runs[1].name)
    assert code == 1
    assert "have no labelled image in common that both test or validate on" in printed
    assert f"{NECK}: left out, is not finished in A" in printed
    assert "run one of them again on the images, tasks and splits of the other" in printed
    assert not (runs[0] / "report" / "compare-other").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--run", "a", "--run", "b", "--run", "c"), "3 runs are given; two can be compared, more in pairs"),
        (("--run", "run", "--run", "./run"), "is given twice; give two different runs"),
        (("--run", "run", "--run", "b", "--worst-first"), "orders the sheets of one run"),
        (("--run", "run", "--out", "x"), "the report of one run is in its folder"),
    ],
)
def test_a_wrong_use_is_reported(call, finished_run, words, message):
    code, printed = refused(call, *words)
    assert code == 2
    assert message in printed


def test_a_folder_that_is_no_run_is_reported_before_data_are_loaded(
    call, finished_run, tmp_path, monkeypatch
):
    monkeypatch.setattr("heatcrop.cli.run_folders.load_dataset", lambda *_, **__: pytest.fail("loaded"))
    code, printed = refused(call, "--run", finished_run.name, "--run", tmp_path)
    assert code == 1
    assert "is not a run folder" in printed


def test_the_images_of_the_page_are_bounded_and_those_that_changed_most(runs, neck, tiny_home, tmp_path):
    from heatcrop.cli.run_folders import compared_runs
    from heatcrop.report.compare import build_comparison, comparison_page

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny_home)
        first, second = compared_runs(runs)
        path = RunFolder(runs[1]).task(NECK).predictions(3)
        arrays, row = read_arrays(path), neck.rows("test")[4]
        arrays["fused"][row] = np.where(neck.letters[row] == 2, 0.96, 0.01)  # by more than the others
        write_arrays(path, **arrays)
        page = comparison_page(first.folder, second.folder, tmp_path / "page")
        figures = build_comparison(page, (first, second), limit=1)
    task = shown(page)
    assert [row["name"] for row in task["runs"][0]["rows"]] == [neck.images[row]]
    assert (task["fixed"], task["lost"]) == (2, 1)
    assert len(figures["tasks"][NECK]["wrong_to_right"]) == 2
