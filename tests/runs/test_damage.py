"""Damaged files of a finished run are reported in one line, and made again."""

import pytest

from heatcrop.runs.folder import RunFolder
from tests.conftest import without_plots
from tests.tiny_run import TASKS, differences

TASK = TASKS[0]


def fix_of(run, name=""):
    """Return the fix for a file of the task, or of all tasks."""
    words = ("--all",) if "trunk" in name else ("--task", TASK)
    return f"delete it, and {RunFolder(run).command('run', *words)} makes it again"


@pytest.fixture
def again(call, run_copy):
    """Give the command that made the run once more."""
    words = ("run", "--all", "--config", "tiny.yaml", "--out", run_copy.name, "--jobs", "1")
    return lambda *more: call(*words, *more)


def cut(n_bytes):
    return lambda path: path.write_bytes(path.read_bytes()[:n_bytes])


def third_line(text):
    def change(path):
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:2], text, *lines[3:]]) + "\n")

    return change


def content(text):
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("command", "name", "damage", "finding"),
    [
        ("report", "stage1/predictions.npz", cut(150), ": is not a complete file of arrays"),
        ("report", "stage3/predictions.npz", cut(0), ": is not a complete file of arrays"),
        ("report", "boxes.npz", content("x"), ": is not a complete file of arrays"),
        ("report", "stage1/heatmaps.npy", cut(10), ": is not a complete array"),
        ("report", "stage1/heatmaps.npy", cut(500), ": is not a complete array"),
        ("report", "rule.json", content("{}"), ": rule: is missing"),
        ("export", "rule.json", content("{}"), ": rule: is missing"),
        ("export", "stage3/fusion.json", content("[1"), ": is not valid JSON"),
        ("export", "stage3/fusion.json", content('{"weight": null}'), ": weight: is None"),
        ("export", "stage3/network.onnx", cut(100), ": cannot be opened as a network"),
        ("export", "../trunk/trunk.onnx", cut(100), ": cannot be opened as a network"),
    ],
)
def test_a_damaged_file_is_reported_with_the_fix(call, run_copy, command, name, damage, finding):
    with without_plots():
        check_report(call, run_copy, command, name, damage, finding)


@pytest.mark.parametrize(
    ("name", "damage", "finding"),
    [
        ("stage1/history.csv", content(""), ": cannot be read as a table"),
        ("stage3/history.csv", third_line("final,two"), ":3: epoch is 'two'"),
    ],
)
def test_a_damaged_history_is_reported_with_the_fix(call, run_copy, name, damage, finding):
    """Only the plots need it."""
    check_report(call, run_copy, "report", name, damage, finding)


def check_report(call, run_copy, command, name, damage, finding):
    """Damage a file of the run, and check what a command that needs it prints."""
    path = (run_copy / TASK / name).resolve()
    damage(path)
    code, printed = call(command, "--run", run_copy)
    assert code == 1
    assert f"error: {path}{finding}" in printed
    assert f"{fix_of(run_copy, name)}\n" in printed
    assert not (run_copy / "export").exists()


@pytest.mark.parametrize(
    ("command", "name", "what"),
    [
        ("report", "stage1/predictions.npz", f": is missing; python pipeline.py run --task {TASK} --config"),
        ("report", "stage3/predictions.npz", f": is missing; python pipeline.py run --task {TASK} --config"),
        ("report", "rule.json", f": is missing; python pipeline.py run --task {TASK} --config"),
        ("report", "boxes.npz", f": is missing; python pipeline.py run --task {TASK} --config"),
        ("convert", "boxes.npz", f": is missing; python pipeline.py run --task {TASK} --config"),
        ("convert", "stage3/predictions.npz", f": is missing; python pipeline.py run --task {TASK} --config"),
        ("export", "stage1/weights.params", f": is missing; python pipeline.py run --task {TASK} --config"),
        ("export", "stage3/network.onnx", f": is missing; python pipeline.py run --task {TASK} --config"),
    ],
)
def test_a_missing_file_of_a_finished_task_is_reported(
    call, run_copy, tmp_path, no_plots, command, name, what
):
    path = run_copy / TASK / name
    path.unlink()
    more = ("--to", "coco", "--out", tmp_path / "coco") if command == "convert" else ()
    code, printed = call(command, "--run", run_copy, *more)
    assert code == 1
    assert f"error: {path}{what}" in printed
    assert not (tmp_path / "coco").exists()


def test_a_report_without_a_finished_task_is_not_written(call, run_copy, no_plots):
    page, boxes = RunFolder(run_copy).report, RunFolder(run_copy).task(TASK).boxes
    before = page.read_bytes()
    boxes.unlink()
    code, printed = call("report", "--run", run_copy)
    assert code == 1
    assert f"error: {boxes}: is missing; {RunFolder(run_copy).command('run', '--task', TASK)}" in printed
    assert page.read_bytes() == before


def test_predictions_of_a_damaged_table_are_reported_by_score(call, run_copy, tiny_home):
    (run_copy / TASK / "stage1" / "predictions.csv").write_text("")
    answers = next((tiny_home / "data").rglob("answer.csv"))
    code, printed = call("score", run_copy / "submission.csv", answers, "--run", run_copy)
    assert code == 1
    assert f"error: {run_copy / TASK / 'stage1' / 'predictions.csv'}: cannot be read as a table" in printed


@pytest.mark.parametrize(
    "record", ['{"format": 2, "fingerprint": "x", "seconds": [], "files": {}}', "[" * 10**5]
)
def test_a_record_of_other_values_outdates_its_stage(again, run_copy, record):
    RunFolder(run_copy).task(TASK).record("cam").write_text(record)
    code, printed = again("--dry-run")
    assert code == 0
    assert "3 of 6 stages would run" in printed


@pytest.mark.parametrize(
    ("name", "damage", "finding"),
    [
        ("stage3/fused.csv", cut(0), ": cannot be read as a table"),
        ("stage3/fused.csv", third_line("x,y"), ":3: probabilities are ''; expected p1;p2;…"),
        ("stage3/fused.csv", content("image,split\n"), ":1: has no column class"),
    ],
)
def test_a_damaged_table_is_reported_by_fuse(call, run_copy, finished_run, tmp_path, name, damage, finding):
    damage(run_copy / TASK / name)
    code, printed = call("fuse", "--run", finished_run, "--run", run_copy, "--out", tmp_path / "ensemble")
    assert code == 1
    assert f"error: {run_copy / TASK / name}{finding}" in printed


@pytest.mark.parametrize("number", [1, pytest.param(3, marks=pytest.mark.soak)])
def test_damaged_weights_are_reported_with_the_cause(call, tiny_home, run_copy, tmp_path, number):
    weights = RunFolder(run_copy).task(TASK).weights(number)
    cut(1000)(weights)
    options = ("--run", run_copy, "--out", tmp_path / "p.csv", "--engine", "mxnet")
    code, printed = call("predict", tiny_home / "data", *options)
    assert code == 1
    assert f"error: {weights}: cannot be read as weights (it ends early)" in printed
    assert printed.endswith(f"; {fix_of(run_copy)}\n")


def test_a_damaged_network_of_a_run_is_to_be_made_again(call, tiny_home, run_copy, tmp_path):
    path = RunFolder(run_copy).task(TASK).network(1)
    cut(100)(path)
    code, printed = call("predict", tiny_home / "data", "--run", run_copy, "--out", tmp_path / "p.csv")
    assert code == 1
    assert f"error: {path}: cannot be opened" in printed
    assert printed.endswith(f"; {fix_of(run_copy)}\n")


@pytest.mark.parametrize(
    ("lost", "finding", "tasks"),
    [(".nothing", "; run it again: ", ["--all"]), ("heatcrop.json", ": is missing; ", ["--task", TASK])],
)
def test_a_missing_network_of_a_run_is_to_be_made_again(
    call, tiny_home, run_copy, tmp_path, lost, finding, tasks
):
    RunFolder(run_copy).task(TASK).network(1).unlink()
    (run_copy / lost).unlink(missing_ok=True)
    words = ("--run", run_copy, "--out", tmp_path / "p.csv", "--engine", "onnx")
    code, printed = call("predict", tiny_home / "data", *words)
    assert code == 1
    assert finding + RunFolder(run_copy).command("run", *tasks) in printed


def test_a_damaged_network_of_an_export_is_to_be_exported_again(call, tiny_home, finished_run, tmp_path):
    assert call("export", "--run", finished_run, "--out", tmp_path / "export")[0] == 0
    path = tmp_path / "export" / f"{TASK}.stage1.onnx"
    cut(100)(path)
    words = ("predict", tiny_home / "data", "--run", path.parent, "--out", tmp_path / "p.csv")
    code, printed = call(*words)
    assert code == 1
    assert f"error: {path}: was changed since the export" in printed
    assert printed.endswith("; export the run again\n")


@pytest.mark.parametrize(
    ("lost", "outdated"),
    [("stage3/network.onnx", 1), ("boxes.npz", 2), ("boxes.csv", 2), ("stage1/fold0.params", 3)],
)
def test_a_truncated_file_outdates_its_stage_and_the_later_ones(again, run_copy, lost, outdated):
    cut(100)(run_copy / TASK / lost)
    code, printed = again("--dry-run")
    assert code == 0
    assert f"{outdated} of 6 stages would run" in printed
    assert f"{lost} is damaged (100 bytes instead" in " ".join(printed.split())


@pytest.mark.parametrize(
    ("name", "damage"), [("trunk/trunk.onnx", cut(100)), ("heatcrop.json", content('{"tasks": 3}'))]
)
def test_what_no_stage_records_is_made_again_without_any(again, run_copy, undisturbed, name, damage):
    damage(run_copy / name)
    code, printed = again()
    assert code == 0
    assert printed.count("cam, crop, finetune up to date") == len(TASKS)
    assert differences(run_copy, undisturbed) == []


def test_a_truncated_file_is_made_again_with_the_same_bytes(resume, run_copy):
    cut(100)(run_copy / TASK / "stage3" / "network.onnx")
    assert resume() == []
