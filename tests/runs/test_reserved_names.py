"""Tasks with names that the run folder itself or another task uses, from a run to every later command."""

import json
import shutil

import pandas as pd
import pytest
import yaml

from tests.conftest import run_command
from tests.tiny_run import CONFIG, draw_pairs

FOLDERS = {"trunk": "trunk_task", "Cache": "Cache_task", "shared_trunk": "shared_trunk", "red]x": "red]x"}
FOLDERS |= {"Wing": "Wing", "wing": "wing (2)"}
CLASSES = ("[red]up", ":cat:")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Images that are bright above or below, labelled for every task."""
    home = tmp_path_factory.mktemp("reserved")
    rows, across = ["image,task,label,split"], slice(None)
    for split, kinds in draw_pairs(home, 40, [(slice(20), across), (slice(20, 40), across)]).items():
        for i, kind in enumerate(kinds):
            rows += [f"{split}{i}.jpg,{task},{CLASSES[kind]},{split}" for task in FOLDERS]
    (home / "annotations.csv").write_text("\n".join(rows) + "\n")
    (home / "answers.csv").write_text("\n".join([rows[0], *(r for r in rows if r.endswith(",test"))]) + "\n")
    # Many tasks with as few networks as a run may have.
    few = {
        "data": {"source": "files", "roots": ["annotations.csv"], "tasks": "infer"},
        "cam": CONFIG["cam"] | {"folds": 1, "training": {"epochs": 1}},
        "finetune": CONFIG["finetune"] | {"cross_fit": False, "training": {"epochs": 1}},
    }
    (home / "config.yaml").write_text(yaml.safe_dump(CONFIG | few))
    return home


@pytest.fixture(scope="module", params=["shared", pytest.param("single", marks=pytest.mark.soak)])
def run(home, request, no_plots):
    """The name of a finished run."""
    shared = f"network.shared_trunk={str(request.param == 'shared').lower()}"
    words = (
        "run",
        "--all",
        "--config",
        "config.yaml",
        "--out",
        request.param,
        "--jobs",
        "1",
        "--set",
        shared,
    )
    code, printed = run_command(home, *words)
    assert code == 0, printed
    return request.param


def test_each_task_has_a_folder_of_its_own(home, run):
    for folder in FOLDERS.values():
        assert (home / run / folder / "boxes.csv").is_file()
        assert sorted(path.name for path in (home / run / folder / "crops").iterdir()) == [
            "test",
            "train",
            "val",
        ]
    assert (home / run / "trunk" / "trunk.onnx").is_file()
    assert not (home / run / "trunk" / "crops").exists()
    pages = [path.name for path in (home / run / "report" / "thumbs").iterdir()]
    assert sorted(pages) == sorted(FOLDERS.values())
    assert set(json.loads((home / run / "metrics.json").read_text())["tasks"]) == set(FOLDERS)


def test_every_command_finds_the_tasks(home, run, call):
    config = (
        "--config",
        "config.yaml",
        "--out",
        run,
        "--set",
        f"network.shared_trunk={run == 'shared'}".lower(),
    )
    outs = {"report": (), "export": ("--out", f"{run}-export")}
    for command, words in outs.items():
        code, printed = call(command, "--run", run, *words)
        assert code == 0, printed
    code, printed = call("run", "--all", *config, "--jobs", "1", "--dry-run")
    assert "0 of 18 stages" in printed
    code, printed = call("stage", "crop", "--task", "trunk", *config, "--jobs", "1")
    assert code == 0, printed
    for folder in (run, f"{run}-export"):
        code, printed = call("predict", "test0.jpg", "--run", folder, "--out", "one.csv", "--no-gallery")
        assert code == 0, printed
        assert set(pd.read_csv(home / "one.csv")["task"]) == set(FOLDERS)
    shutil.copytree(home / run, home / f"{run}-copy")
    code, printed = call("fuse", "--run", run, "--run", f"{run}-copy", "--out", f"{run}-fused")
    assert code == 0, printed


def test_names_are_printed_as_they_are(run, call):
    code, printed = call("check", "--config", "config.yaml", "--no-speed")
    assert code == 0, printed
    assert "[red]up" in printed
    assert ":cat:" in printed


def test_a_submission_of_own_tasks_is_scored_with_class_names(home, run, call):
    table = [f"{run}/submission.csv", "answers.csv", "--json"]
    figures = []
    for words in (("--run", run), ("--config", f"{run}/config.yaml"), ()):
        code, printed = call("score", *table, *words)
        assert code == 0, printed
        figures.append(json.loads(printed))
    assert figures[0] == figures[1] == figures[2]
    metrics = json.loads((home / run / "metrics.json").read_text())
    assert figures[0]["map"] == pytest.approx(metrics["mean"]["fused"]["map"])
    assert set(figures[0]["tasks"]) == set(FOLDERS)


def test_a_submission_elsewhere_needs_the_tasks(home, run, call):
    shutil.copy(home / run / "submission.csv", home / "copy.csv")
    code, printed = call("score", "copy.csv", "answers.csv")
    assert code == 1
    assert "For tasks other than FashionAI's, give --run or --config" in printed


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("--run", "single", "--config", "config.yaml"), 2, "give one of them"),
        (("--config", "config.yaml"), 2, "data.tasks is infer.*--run"),
        (("--run", "absent"), 1, "is not a run folder"),
    ],
)
def test_tasks_to_score_that_are_not_known(call, run, words, code, expected):
    found, printed = call("score", f"{run}/submission.csv", "answers.csv", *words)
    assert found == code
    assert pd.Series([" ".join(printed.split())]).str.contains(expected).all(), printed


def test_predicting_a_folder_again_skips_the_gallery(home, run, call):
    for _ in range(2):
        code, printed = call("predict", home, "--run", run, "--task", "trunk", "--out", home / "a.csv")
        assert code == 0, printed
    assert len(pd.read_csv(home / "a.csv")) == 16
    assert "folders that this program wrote" in printed
