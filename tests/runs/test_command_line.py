"""Mistakes on the command line, errors on the way, help and completion."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import pipeline
from heatcrop.errors import RunError
from heatcrop.predict.images import find_images
from tests.tiny_run import ROOT, TASKS, file_stamps

COMMANDS = ("run", "stage", "check", "predict", "score", "report", "export", "fuse")
NECK = TASKS[0]


def check_error(printed, *words):
    """Check that an error is one line without a traceback, and has some words."""
    assert "Traceback" not in printed
    errors = [line for line in printed.splitlines() if "error" in line.casefold()]
    assert len(errors) == 1, printed
    text = " ".join(printed.split())
    assert [word for word in words if word not in text] == [], printed


TINY = ["--config", "tiny.yaml"]


@pytest.mark.parametrize(
    ("words", "expected", "reported"),
    [
        (["run", *TINY], 2, ["--all", "--task"]),
        (["run", "--all", "--task", "neck", *TINY], 2, ["--all", "--task"]),
        (["stage", "crop", *TINY], 2, ["--all", "--task"]),
        (["run", "--task", "nekc", *TINY], 1, ["'nekc'", "did you mean neck?"]),
        (["run", "--task", "coat", *TINY], 1, ["coat_length_labels has no usable "]),
        (["run", "--all", "--config", "missing.yaml"], 2, ["missing.yaml", "--config"]),
        (["run", "--all", *TINY, "--data", "nowhere"], 1, ["nowhere", "--data"]),
        (["run", "--all", *TINY, "--set", "crop.rule.thresh=1"], 2, ["crop.rule.thresh"]),
        (["run", "--all", *TINY, "--set", "nonsense"], 2, ["--set nonsense", "key=value"]),
        (["run", "--all", *TINY, "--out", "data"], 1, ["data", "--out"]),
        (["run", "--all", *TINY, "--out", "tiny.yaml"], 1, ["tiny.yaml", "--out"]),
        (["run", "--task", "neck", *TINY, "--jobs", "0"], 2, ["--jobs"]),
        (["run", "--unknown"], 2, ["--unknown"]),
        (["stage", "cut", "--all"], 2, ["cut"]),
        (["unknown"], 2, ["unknown"]),
        (["check", *TINY, "--data", "nowhere"], 1, ["nowhere"]),
        (["report", "--run", "data"], 1, ["data", "not a run folder"]),
        (["export", "--run", "nowhere"], 1, ["nowhere", "not a run folder"]),
        (["predict", "data", "--run", "data", "--out", "p.csv"], 1, ["not a run folder"]),
        (["predict", "data"], 2, ["--run"]),
        (["score", "tiny.yaml", "nowhere.csv"], 1, ["tiny.yaml:1"]),
        (["score", "data/rank/Tests/question.csv", "data/rank/Tests/answer.csv"], 1, ["question.csv:1"]),
    ],
)
def test_a_mistake_is_reported_in_one_line_and_writes_nothing(call, tiny_home, words, expected, reported):
    before = file_stamps(tiny_home)
    code, printed = call(*words)
    assert code == expected, printed
    check_error(printed, *reported)
    shutil.rmtree(tiny_home / "runs", ignore_errors=True)  # of a run whose data was read first
    assert file_stamps(tiny_home) == before


@pytest.mark.parametrize(
    ("source", "reported"),
    [
        ("nowhere", ["nowhere", "no such "]),
        ("empty", ["empty", "holds no "]),
        ("bad", ["no readable ", "0.jpg"]),
        ("noimage.csv", ["noimage.csv:1", "lacks image", "photo"]),
        ("nothing.csv", ["nothing.csv"]),
    ],
)
def test_a_source_without_images_is_reported(call, finished_run, tmp_path, source, reported):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.jpg").write_bytes(b"x")
    (tmp_path / "noimage.csv").write_text("photo,task\na.jpg,neck\n")
    (tmp_path / "nothing.csv").write_text("")
    code, printed = call("predict", tmp_path / source, "--run", finished_run, "--out", tmp_path / "p.csv")
    assert code == 1
    check_error(printed, *reported)
    assert not (tmp_path / "p.csv").exists()


def test_a_missing_file_of_a_run_is_reported_with_the_stage_that_makes_it(
    call, run_copy, tiny_home, tmp_path
):
    (run_copy / NECK / "stage3" / "weights.params").unlink()
    (run_copy / NECK / "stage3" / "network.onnx").unlink()
    code, printed = call("predict", tiny_home / "data", "--run", run_copy, "--out", tmp_path / "p.csv")
    assert code == 1
    check_error(printed, NECK, "stage3", "run --task neck")


@pytest.mark.parametrize("words", [["report"], ["export"], ["predict", "data", "--out", "p.csv"]])
def test_a_damaged_configuration_of_a_run_is_reported(call, run_copy, words):
    (run_copy / "config.yaml").write_text("nmae: x")
    code, printed = call(*words, "--run", run_copy)
    assert code == 2
    check_error(printed, "config.yaml", "nmae")


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (KeyboardInterrupt(), 130, "interrupted; the same command continues"),
        (RunError("no luck"), 1, "error: no luck"),
        (OSError(28, "No space left on device", "/runs/x"), 1, "error: /runs/x: No space left on device"),
        (
            FileNotFoundError(2, "No such file or directory", "p.jpg"),
            1,
            "p.jpg: No such file or directory; if",
        ),
    ],
)
def test_an_error_on_the_way_ends_in_one_line_and_a_code(call, tmp_path, monkeypatch, error, code, expected):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(pipeline, "run", fail)
    found, printed = call("run", "--all", *TINY, "--out", tmp_path / "run")
    assert found == code
    assert expected in printed
    assert "Traceback" not in printed


def test_a_fault_of_the_program_is_not_hidden(call, tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "run", fail)
    with pytest.raises(ZeroDivisionError):
        call("run", "--all", *TINY, "--out", tmp_path / "run")


@pytest.mark.parametrize(
    ("out", "reported"),
    [
        ("dangling", ["dangling: ", "remove it", "--out"]),
        ("loop/x", ["loop/x: ", "remove it", "--out"]),
        ("file/x", ["file/x: ", "a file is where a folder should be", "--out"]),
    ],
)
def test_a_path_that_can_be_no_folder_is_reported_with_the_fix(call, tmp_path, out, reported):
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("mine")
    code, printed = call("run", "--all", *TINY, "--out", tmp_path / out)
    assert code == 1
    check_error(printed, *reported)
    assert sorted(os.listdir(tmp_path)) == ["dangling", "file", "loop"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("root", "finding"),
    [
        (
            "images",
            "which is not in {home}; start the command in the folder where the run was made, or correct",
        ),
        ("/nowhere/x", "not there"),
    ],
)
@pytest.mark.parametrize("command", ["report", "fuse"])
def test_a_run_whose_data_was_moved_is_reported(
    call, tiny_home, finished_run, run_copy, command, root, finding
):
    config = yaml.safe_load((run_copy / "config.yaml").read_text())
    config["data"]["roots"] = [root]
    (run_copy / "config.yaml").write_text(yaml.safe_dump(config))
    more = ["--run", finished_run, "--out", "e"] if command == "fuse" else []
    code, printed = call(command, "--run", run_copy, *more)
    assert code == 1
    check_error(printed, f"data.roots has {root!r}, ", finding.format(home=tiny_home), "config.yaml")
    assert "--data" not in printed


@pytest.mark.parametrize("command", [("report",), ("predict", "images", "--out", "new.csv"), ("export",)])
def test_an_unfinished_run_is_continued_by_the_reported_command(call, run_copy, command):
    records = list(run_copy.glob("*/.finetune.json"))
    for record in records:
        record.unlink()
    code, printed = call(*command, "--run", run_copy)
    assert code == 1
    reported = printed.partition("run it first: python pipeline.py ")[2].splitlines()[0]
    code, printed = call(*shlex.split(reported), "--dry-run")
    assert code == 0
    assert f"{len(records)} of {3 * len(records)} stages would run in {run_copy}" in printed


def test_a_stage_without_the_one_before_it_names_the_runs_own_configuration(call, run_copy):
    next(run_copy.glob("*/boxes.npz")).unlink()
    own = ["--config", str(run_copy / "config.yaml"), "--out", str(run_copy)]
    code, printed = call("stage", "finetune", "--all", *own, "--set", "finetune.views=9")
    assert code == 1
    reported = printed.partition("run the stage before it first: python pipeline.py ")[2].splitlines()[0]
    assert shlex.split(reported)[:2] == ["stage", "crop"]
    assert shlex.split(reported)[4:] == own


# --- help and completion

COMPLETION = """
    eval "$(./pipeline.py --show-completion bash)"
    COMP_WORDS=(./pipeline.py run --task co) COMP_CWORD=3
    _pipelinepy_completion ./pipeline.py; echo "${COMPREPLY[@]}"
    COMP_WORDS=(./pipeline.py pre) COMP_CWORD=1
    _pipelinepy_completion ./pipeline.py; echo "${COMPREPLY[@]}"
"""


def test_the_shell_completes_commands_and_tasks():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    how = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run(["bash", "-c", COMPLETION], env={**os.environ, "PATH": path}, **how)
    assert done.stdout.split("\n")[:2] == ["coat collar", "predict"], done.stderr


@pytest.mark.parametrize("command", ["run", "stage", "check", "predict", "score", "convert", "fuse"])
def test_help_fits_a_screen_and_has_examples(call, command):
    code, printed = call(command, "--help")
    assert code == 0
    assert len(printed.splitlines()) < 50
    assert f"python pipeline.py {command} " in printed.partition("Examples:")[2]


def test_help_lists_the_commands_without_loading_an_engine():
    code = "import sys; from heatcrop.cli.commands import main; sys.argv = ['x', '--help']; r = main(); "
    code += "raise SystemExit(r or 'mxnet' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [command for command in COMMANDS if command not in done.stdout] == []


def test_the_default_configuration_is_found_in_another_folder(call, monkeypatch):
    monkeypatch.setattr("heatcrop.cli.check.check", lambda config, *_: config.name != "demo")
    code, printed = call("check")
    assert code == 0, printed
    assert "configs/demo.yaml: is not in " in printed


def test_images_of_a_folder_are_listed_folder_by_folder(tmp_path):
    names = ["b.jpg", "a/x.JPG", "a.jpg", "a-b/y.png", "a/c/z.jpg", "notes.txt", "trap.jpg/in.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    listed = [(image.name, image.path) for image in find_images(tmp_path)]
    expected = ["a/c/z.jpg", "a/x.JPG", "a-b/y.png", "a.jpg", "b.jpg", "trap.jpg/in.png"]
    assert listed == [(image, str(tmp_path / image)) for image in expected]
