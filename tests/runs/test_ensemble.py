"""The command ``fuse``, on runs that are made up."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from heatcrop.cli import commands
from heatcrop.cli.config_file import dump_config, read_config
from heatcrop.data.dataset import TaskData
from heatcrop.data.images import write_jpeg
from heatcrop.data.tasks import Task
from heatcrop.metrics.score import average_precision
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_table, write_predictions
from tests.unit.test_ensemble import letters_of, noisy

TASKS = {"wing": ("spotted", "plain", "striped"), "tail": ("long", "short")}
N = {"train": 12, "val": 60, "test": 80}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Labelled images, and two runs that see them through different noise."""
    home = tmp_path_factory.mktemp("ensemble")
    rng = np.random.default_rng(0)
    rows, truth = [], {}
    splits = np.repeat(list(N), list(N.values()))
    for task, classes in TASKS.items():
        truth[task] = rng.integers(0, len(classes), len(splits))
        for i, (split, t) in enumerate(zip(splits, truth[task], strict=True)):
            image = f"{task}/{i:03}.jpg"
            (home / "data" / task).mkdir(parents=True, exist_ok=True)
            write_jpeg(home / "data" / image, rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
            rows.append((image, task, classes[t], split))
    table = pd.DataFrame(rows, columns=["image", "task", "label", "split"])
    table.to_csv(home / "data" / "labels.csv", index=False)
    for name, noise, seed in (("a", 2.0, 1), ("b", 2.4, 2)):
        make_run(home, name, splits, truth, noise, seed)
    return home, splits, truth


def make_run(home, name, splits, truth, noise, seed, data="data/labels.csv"):
    """Write the files of a finished run that an ensemble reads."""
    rng, folder = np.random.default_rng(seed), RunFolder(home / name)
    plain = {
        "name": name,
        "data": {
            "source": "files",
            "roots": [str(home / data)],
            "tasks": [{"name": task, "classes": list(classes)} for task, classes in TASKS.items()],
        },
    }
    (home / "plain.yaml").write_text(yaml.safe_dump(plain))
    folder.path.mkdir()
    folder.config.write_text(dump_config(read_config(home / "plain.yaml")))
    for task, classes in TASKS.items():
        files, n = folder.task(task), len(splits)
        images = tuple(f"{task}/{i:03}.jpg" for i in range(n))
        letters = letters_of(truth[task], len(classes))
        sizes, groups = np.full((n, 2), 16), np.full(n, "")
        data = TaskData(Task(task, classes), images, images, sizes, letters, splits, groups)
        p = noisy(rng, truth[task], len(classes), noise)
        write_predictions(files.fused_csv, data, p, np.full(n, "final"), np.flatnonzero(splits != "train"))
        files.fusion.write_text("{}")
        files.record("finetune").write_text("{}")


@pytest.fixture
def fuse(world, monkeypatch, capsys):
    """Run the command; return its exit code and output."""

    def command(*words):
        monkeypatch.chdir(world[0])
        monkeypatch.setattr(sys, "argv", ["pipeline.py", "fuse", *map(str, words)])
        capsys.readouterr()
        code = commands.main()
        printed = capsys.readouterr()
        text = " ".join((printed.out + printed.err).split())
        assert "Traceback" not in text
        return code, text

    return command


def assert_refused(result, code, *words):
    found, text = result
    assert found == code, text
    assert text.count("error:") == 1, text
    for word in words:
        assert word in text


def submission(world, path, noise=2.2, seed=7, splits=("val", "test"), tasks=tuple(TASKS), decimals=4):
    """Write a foreign submission file, without a header."""
    _, of, truth = world
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        for task in tasks:
            for i, p in enumerate(noisy(rng, truth[task], len(TASKS[task]), noise)):
                if of[i] in splits:
                    text = ";".join(f"{v:.{decimals}f}" for v in p)
                    csv.writer(file).writerow([f"{task}/{i:03}.jpg", task, text])
    return path


def stamps(folder):
    return {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def own_ap(world, name, task, split):
    home, splits, truth = world
    table, p = read_table(home / name / task / "stage3" / "fused.csv")
    letters = letters_of(truth[task][splits == split], len(TASKS[task]))
    return average_precision(p[(table["split"] == split).to_numpy()], letters)


def test_runs_and_a_foreign_file_are_fused(world, fuse, tmp_path):
    home, splits, truth = world
    foreign, out = submission(world, tmp_path / "other.csv"), tmp_path / "out"
    before = [stamps(home / name) for name in ("a", "b")]
    code, text = fuse("--run", home / "a", "--run", home / "b", "--csv", foreign, "--out", out)
    assert code == 0, text
    assert [stamps(home / name) for name in ("a", "b")] == before, "members stay as they are"
    assert {p.name for p in out.iterdir()} == {
        "submission.csv",
        "weights.json",
        "members.csv",
        "metrics.json",
    }
    weights_of, metrics = (json.loads((out / name).read_text()) for name in ("weights.json", "metrics.json"))
    assert [(m["name"], m["kind"]) for m in weights_of["members"]] == [
        ("a", "run"),
        ("b", "run"),
        ("other.csv", "csv"),
    ]
    assert metrics["split"] == "test"
    assert set(metrics["splits"]) == {"val"}
    rows = list(csv.reader((out / "submission.csv").open()))
    assert len(rows) == N["test"] * len(TASKS)
    for task in TASKS:
        weights = weights_of["tasks"][task]["weights"]
        assert sum(weights.values()) == pytest.approx(1)
        assert min(weights.values()) >= 0
        assert weights_of["tasks"][task]["rows"] == N["val"]
        val = metrics["splits"]["val"]["tasks"][task]
        assert val["fused"]["map"] >= max(of["map"] for of in val["members"].values())
        assert val["members"]["a"]["map"] == pytest.approx(own_ap(world, "a", task, "val"))
        # The submission holds what is scored.
        p = np.array([row[2].split(";") for row in rows if row[1] == task], float)
        letters = letters_of(truth[task][splits == "test"], len(TASKS[task]))
        assert average_precision(p, letters) == pytest.approx(
            metrics["tasks"][task]["fused"]["map"], abs=1e-3
        )
    means = [of["fused"]["map"] for of in metrics["tasks"].values()]
    assert metrics["mean"]["fused"]["map"] == pytest.approx(np.mean(means))


def test_the_table_shows_what_each_member_adds(world, fuse, tmp_path):
    home = world[0]
    foreign = submission(world, tmp_path / "other.csv")
    both, all_three = tmp_path / "both", tmp_path / "three"
    assert fuse("--run", home / "a", "--run", home / "b", "--out", both)[0] == 0
    code, text = fuse("--run", home / "a", "--run", home / "b", "--csv", foreign, "--out", all_three)
    assert code == 0, text
    for words in ("other.csv", "val adds", "test AP"):
        assert words in text
    table = pd.read_csv(all_three / "members.csv").set_index(["task", "member"])
    assert list(table.columns) == [
        "weight",
        "temperature",
        "val_ap",
        "val_without",
        "val_adds",
        "test_ap",
        "test_without",
        "test_adds",
    ]
    without = json.loads((both / "metrics.json").read_text())
    complete = json.loads((all_three / "metrics.json").read_text())
    weights = json.loads((all_three / "weights.json").read_text())
    for task in TASKS:
        row = table.loc[task, "other.csv"]
        assert row["weight"] == pytest.approx(weights["tasks"][task]["weights"]["other.csv"], abs=1e-5)
        for split in ("test", "val"):
            new, old = (of if split == "test" else of["splits"]["val"] for of in (complete, without))
            ap, less = new["tasks"][task]["fused"]["map"], old["tasks"][task]["fused"]["map"]
            assert row[f"{split}_without"] == pytest.approx(less, abs=1e-5)
            assert row[f"{split}_adds"] == pytest.approx(ap - less, abs=1e-5)
            assert table.loc[task, "fused"][f"{split}_ap"] == pytest.approx(ap, abs=1e-5)
    for member in ("a", "b", "other.csv", "fused"):
        rows = [table.loc[task, member] for task in TASKS]
        assert table.loc["mean", member]["test_ap"] == pytest.approx(
            np.mean([r["test_ap"] for r in rows]), abs=1e-5
        )
    assert table.loc["mean", "fused"]["val_ap"] >= table.loc["mean"]["val_ap"].max()


def test_a_file_without_validation_rows_gets_no_weight(world, fuse, tmp_path):
    home = world[0]
    tested = submission(world, tmp_path / "tested.csv", noise=0.1, splits=("test",))
    half = submission(world, tmp_path / "half.csv", tasks=("wing",))
    code, text = fuse("--run", home / "a", "--csv", tested, "--csv", half, "--out", tmp_path / "out")
    assert code == 0
    assert f"{tested}: holds no row of a validation image of any task, so it gets no weight" in text
    assert f"{half}: holds no row of a validation image of tail, so" in text
    tasks = json.loads((tmp_path / "out" / "weights.json").read_text())["tasks"]
    assert tasks["wing"]["weights"]["tested.csv"] == 0
    assert tasks["wing"]["weights"]["half.csv"] > 0.2
    assert tasks["tail"]["weights"] == {"a": 1, "tested.csv": 0, "half.csv": 0}
    assert tasks["tail"]["temperatures"]["tested.csv"] is None


def test_files_that_do_not_fit_are_refused(world, fuse, tmp_path):
    home = world[0]
    good = submission(world, tmp_path / "good.csv").read_text().splitlines()
    minus, fifth = good[4].replace(";0", ";-0", 1), good[5:]
    beak = good[0].replace(",wing,", ",beak,")
    cases = {
        "some.csv": (
            [line for line in good if "wing/030" not in line],
            ["some.csv: 1 of 60 validation images of wing have no row", "wing/030.jpg", "fused.csv"],
        ),
        "tests.csv": (
            [line for line in good if "tail/1" not in line],
            ["tests.csv: 52 of 80 test images of tail", "tail/100.jpg"],
        ),
        "minus.csv": ([*good[:4], minus, *fifth], ["minus.csv:5", "no probabilities"]),
        "class.csv": ([good[0] + ";0.1", *good[1:]], ["class.csv:1: 4 probabilities; the task has 3"]),
        "task.csv": ([beak, *good[1:]], ["task.csv:1", "'beak'"]),
        "twice.csv": ([*good, good[0]], [f"twice.csv:{len(good) + 1}", "is in row 1 too"]),
    }
    for name, (lines, words) in cases.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        result = fuse("--run", home / "a", "--csv", tmp_path / name, "--out", tmp_path / "out")
        assert_refused(result, 1, *words)
        assert not (tmp_path / "out").exists()


def changed_run(world, tmp_path, change):
    run = Path(shutil.copytree(world[0] / "b", tmp_path / "changed"))
    change(run)
    return run


def drop_row(run):
    path = run / "wing" / "stage3" / "fused.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "wing/013" not in line))


def another_image(run):
    path = run / "tail" / "stage3" / "fused.csv"
    path.write_text(path.read_text().replace("tail/100.jpg", "tail/other.jpg"))


def other_classes(run):
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("- plain\n", "- dull\n"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_row, ["wing/stage3/fused.csv: 59 val images", "the same 60", "wing/013.jpg is missing"]),
        (another_image, ["tail/stage3/fused.csv: 80 test images, 79 of them", "tail/other.jpg is not one"]),
        (other_classes, ["changed/config.yaml: wing has the classes spotted, dull, striped", "plain"]),
        (lambda run: (run / "tail" / ".finetune.json").unlink(), ["tail is not finished there, only wing"]),
        (lambda run: (run / "config.yaml").unlink(), ["is not a run folder"]),
    ],
)
def test_runs_that_do_not_fit_are_refused(world, fuse, tmp_path, change, words):
    run = changed_run(world, tmp_path, change)
    assert_refused(fuse("--run", world[0] / "a", "--run", run, "--out", tmp_path / "out"), 1, *words)
    assert not (tmp_path / "out").exists()


def test_a_task_that_one_run_lacks_can_be_left_out(world, fuse, tmp_path):
    run = changed_run(world, tmp_path, lambda run: (run / "tail" / ".finetune.json").unlink())
    runs = ("--run", world[0] / "a", "--run", run)
    assert fuse(*runs, "--task", "wing", "--out", tmp_path / "out")[0] == 0
    assert list(json.loads((tmp_path / "out" / "metrics.json").read_text())["tasks"]) == ["wing"]
    result = fuse("--run", run, "--run", world[0] / "a", "--task", "tail", "--out", tmp_path / "out")
    assert_refused(result, 1, "tail is not finished; run it first: python pipeline.py run --task tail")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--run", "a"], 2, "one member is no ensemble"),
        (["--run", "a", "--run", "./a"], 2, "is given twice"),
        (["--csv", "x.csv"], 2, "--run"),
        (["--run", "a", "--run", "data"], 1, "data: is not a run folder"),
        (["--run", "data", "--run", "a"], 1, "data: is not a run folder"),
        (["--run", "a", "--csv", "nowhere.csv"], 1, "nowhere.csv: there is no such file"),
        (["--run", "a", "--run", "b", "--out", "data"], 1, "data: has files that are not an ensemble's"),
        (["--run", "a", "--run", "b", "--out", "a"], 1, "a: has files that are not an ensemble's"),
        (["--run", "a", "--run", "b", "--out", "plain.yaml"], 1, "plain.yaml: is a file"),
        (["--run", "a", "--run", "b", "--task", "wign"], 1, "did you mean wing?"),
    ],
)
def test_mistakes_are_reported_and_change_nothing(world, fuse, words, code, message):
    before = stamps(world[0])
    found, text = fuse(*words)
    assert found == code, text
    assert message in text
    assert stamps(world[0]) == before


def test_the_same_command_again_writes_the_same(world, fuse, tmp_path):
    words = ("--run", world[0] / "a", "--run", world[0] / "b", "--out", tmp_path / "out")
    assert fuse(*words)[0] == 0
    first = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert fuse(*words)[0] == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == first


def test_weights_of_another_program_are_not_replaced(world, fuse, tmp_path):
    theirs = tmp_path / "weights.json"
    theirs.write_text("[80.5, 81.2]")
    result = fuse("--run", world[0] / "a", "--run", world[0] / "b", "--out", tmp_path)
    assert_refused(result, 1, "was not written by this program")
    assert theirs.read_text() == "[80.5, 81.2]"
    assert list(tmp_path.iterdir()) == [theirs]


def relabelled(world, tmp_path, change):
    """Two runs on the same images with another table of labels."""
    home, _, truth = world
    shutil.copytree(home / "data", tmp_path / "data")
    table = change(pd.read_csv(home / "data" / "labels.csv"))
    table.to_csv(tmp_path / "data" / "labels.csv", index=False)
    splits = table["split"][table["task"] == "wing"].to_numpy(str)
    for name, seed in (("a", 1), ("b", 2)):
        make_run(tmp_path, name, splits, truth, 2.0, seed)
    return ("--run", tmp_path / "a", "--run", tmp_path / "b", "--out", tmp_path / "out")


def test_without_answers_only_validation_is_scored(world, fuse, tmp_path):
    def hidden(table):
        return table.assign(label=table["label"].where(table["split"] != "test", ""))

    code, text = fuse(*relabelled(world, tmp_path, hidden))
    assert code == 0, text
    assert "val AP" in text
    assert "test AP" not in text
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["split"] == "val"
    assert not metrics["splits"]
    assert len((tmp_path / "out" / "submission.csv").read_text().splitlines()) == N["test"] * len(TASKS)


def test_without_validation_members_get_equal_weights(world, fuse, tmp_path):
    runs = relabelled(world, tmp_path, lambda t: t.assign(split=t["split"].replace("val", "test")))
    for name in ("a", "b"):
        config = yaml.safe_load((tmp_path / name / "config.yaml").read_text())
        config["data"]["val_share"] = 0
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(config))
    foreign = submission(world, tmp_path / "other.csv", tasks=("wing",))
    code, text = fuse(*runs, "--csv", foreign)
    assert code == 0, text
    assert "wing: there is no validation image; all that predict it get the same weight" in text
    assert f"{foreign}: holds no row of an image of tail, so it gets no weight" in text
    tasks = json.loads((tmp_path / "out" / "weights.json").read_text())["tasks"]
    assert tasks["wing"]["weights"] == pytest.approx({"a": 1 / 3, "b": 1 / 3, "other.csv": 1 / 3})
    assert tasks["tail"]["weights"] == {"a": 0.5, "b": 0.5, "other.csv": 0}
    assert tasks["wing"]["rows"] == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert metrics["tasks"]["wing"]["n"] == N["test"] + N["val"]
