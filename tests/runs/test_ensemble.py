"""Ensembles: the weights on arrays, and the command on runs that are made up."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from heatcrop.cli import commands
from heatcrop.cli.config_file import dump_config, read_config
from heatcrop.data.images import write_jpeg
from heatcrop.data.labels import soft_labels
from heatcrop.metrics.calibration import softmax, tempered
from heatcrop.metrics.ensemble import (
    Ensemble,
    equal_weights,
    fit_ensemble,
    fuse_members,
    least_loss_weights,
)
from heatcrop.metrics.score import average_precision
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_predictions, write_predictions


def letters_of(truth, n_classes, rng=None):
    letters = np.zeros((len(truth), n_classes), np.int8)
    if rng is not None:
        letters[rng.uniform(size=letters.shape) < 0.15] = 1
    letters[np.arange(len(truth)), truth] = 2
    return letters


def heard(rng, truth, n_classes, noise, loud=1.0):
    """What a member says that hears the truth through some noise."""
    return softmax(loud * (3 * np.eye(n_classes)[truth] + noise * rng.normal(size=(len(truth), n_classes))))


# --- weights


def test_join_against_hand_values():
    a, b, c = np.array([[0.8, 0.2]]), np.array([[16 / 17, 1 / 17]]), np.array([[np.nan, np.nan]])
    found = fuse_members([a, b, c], Ensemble((0.25, 0.75, 0.0), (1.0, 2.0, 1.0)))
    np.testing.assert_allclose(found, [[0.25 * 0.8 + 0.75 * 0.8, 0.2]], atol=1e-7)


def test_a_member_at_temperature_1_is_taken_to_the_last_bit():
    p = np.random.default_rng(0).dirichlet(np.full(5, 0.05), 200)  # many of them below any floor
    assert (fuse_members([p], Ensemble((1.0,), (1.0,))) == p).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 30), st.integers(2, 5))
@settings(deadline=None, max_examples=40)
def test_on_the_fitting_rows_no_member_is_better(seed, n_members, n_rows, n_classes):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n_rows)
    members = [
        heard(rng, truth, n_classes, rng.uniform(0, 6), rng.uniform(0.2, 4)).round(rng.integers(1, 9))
        for _ in range(n_members)
    ]
    letters = letters_of(truth, n_classes, rng)
    how = fit_ensemble(members, letters, soft_labels(letters))
    assert len(how.weights) == n_members and min(how.weights) >= 0
    assert sum(how.weights) == pytest.approx(1)
    fused = average_precision(fuse_members(members, how), letters)
    for p, temperature in zip(members, how.temperatures, strict=True):
        assert fused >= average_precision(p, letters)
        if temperature != 1:
            assert fused >= average_precision(tempered(p, temperature), letters)


def test_likeliest_weights_are_the_known_mixture():
    rng = np.random.default_rng(4)
    told = [rng.dirichlet(np.full(4, 0.3), 30_000) for _ in range(4)]
    known = np.array([0.5, 0.3, 0.2, 0.0])
    mixed = np.tensordot(known, np.stack(told), 1)
    truth = (mixed.cumsum(axis=1) < rng.uniform(size=(len(mixed), 1))).sum(axis=1).clip(0, 3)
    np.testing.assert_allclose(least_loss_weights(told, np.eye(4)[truth]), known, atol=0.02)


def test_noise_gets_no_weight_and_what_it_shouts_is_calibrated():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 4, 2000)
    letters = letters_of(truth, 4)
    good = [heard(rng, truth, 4, 2.0) for _ in range(2)]
    noise = softmax(4 * rng.normal(size=(2000, 4)))
    how = fit_ensemble([good[0], noise, good[1]], letters, soft_labels(letters))
    assert how.weights[1] < 0.02 and min(how.weights[0], how.weights[2]) > 0.35
    assert how.temperatures[1] > 5


def test_members_that_err_in_different_places_are_better_together():
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 5, 1200)
    letters = letters_of(truth, 5)
    members = [heard(rng, truth, 5, 2.5, loud) for loud in (0.5, 1, 3)]
    how = fit_ensemble(members, letters, soft_labels(letters))
    assert np.ptp(how.weights) < 0.1, "equally good, however loud"
    gain = average_precision(fuse_members(members, how), letters)
    assert gain > max(average_precision(p, letters) for p in members) + 0.02


def test_a_copy_changes_nothing():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 300)
    p, letters = heard(rng, truth, 3, 2.0), letters_of(truth, 3)
    how = fit_ensemble([p, p, p], letters, soft_labels(letters))
    np.testing.assert_allclose(
        fuse_members([p] * 3, how), fuse_members([p], Ensemble((1.0,), how.temperatures[:1]))
    )


def test_without_rows_members_count_alike():
    none = np.zeros((0, 3))
    how = fit_ensemble([none, none], np.zeros((0, 3), np.int8), none)
    assert how == equal_weights(2) == Ensemble((0.5, 0.5), (1.0, 1.0))


# --- the command


TASKS = {"wing": ("spotted", "plain", "striped"), "tail": ("long", "short")}
N = {"train": 12, "val": 60, "test": 80}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Labelled pictures, and two runs that saw them through noise of their own."""
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
    """Leave what three stages would, as far as an ensemble looks at it."""
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
        files, images = folder.task(task), [f"{task}/{i:03}.jpg" for i in range(len(splits))]
        p = heard(rng, truth[task], len(classes), noise)
        write_predictions(files.predictions(1), images, splits, p, classes, ["final"] * len(splits))
        late = splits != "train"
        write_predictions(
            files.fused, np.array(images)[late], splits[late], p[late], classes, ["final"] * int(late.sum())
        )
        files.fusion.write_text("{}")
        files.marker("finetune").write_text("{}")


@pytest.fixture
def fuse(world, monkeypatch, capsys):
    """Run the command; give its exit code and what it said."""

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


def submission(world, path, noise=2.2, seed=7, splits=("val", "test"), tasks=tuple(TASKS), decimals=4):
    """A foreign submission file; without a header, as it is handed in."""
    _, of, truth = world
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        for task in tasks:
            for i, p in enumerate(heard(rng, truth[task], len(TASKS[task]), noise)):
                if of[i] in splits:
                    told = ";".join(f"{v:.{decimals}f}" for v in p)
                    csv.writer(file).writerow([f"{task}/{i:03}.jpg", task, told])
    return path


def stamps(folder):
    return {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def own_ap(world, name, task, split):
    home, splits, truth = world
    table, p = read_predictions(home / name / task / "stage3" / "fused.csv")
    letters = letters_of(truth[task][splits == split], len(TASKS[task]))
    return average_precision(p[(table["split"] == split).to_numpy()], letters)


def test_runs_and_a_foreign_file_are_joined(world, fuse, tmp_path):
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
    told, metrics = (json.loads((out / name).read_text()) for name in ("weights.json", "metrics.json"))
    assert [(m["name"], m["kind"]) for m in told["members"]] == [
        ("a", "run"),
        ("b", "run"),
        ("other.csv", "csv"),
    ]
    assert metrics["split"] == "test" and set(metrics["splits"]) == {"val"}
    rows = list(csv.reader((out / "submission.csv").open()))
    assert len(rows) == N["test"] * len(TASKS)
    for task in TASKS:
        weights = told["tasks"][task]["weights"]
        assert sum(weights.values()) == pytest.approx(1) and min(weights.values()) >= 0
        assert told["tasks"][task]["rows"] == N["val"]
        val = metrics["splits"]["val"]["tasks"][task]
        assert val["fused"]["map"] >= max(of["map"] for of in val["members"].values())
        assert val["members"]["a"]["map"] == pytest.approx(own_ap(world, "a", task, "val"))
        # The file that is handed in holds what is scored.
        p = np.array([row[2].split(";") for row in rows if row[1] == task], float)
        letters = letters_of(truth[task][splits == "test"], len(TASKS[task]))
        assert average_precision(p, letters) == pytest.approx(
            metrics["tasks"][task]["fused"]["map"], abs=1e-3
        )
    means = [of["fused"]["map"] for of in metrics["tasks"].values()]
    assert metrics["mean"]["fused"]["map"] == pytest.approx(np.mean(means))


def test_the_table_tells_what_each_member_adds(world, fuse, tmp_path):
    home = world[0]
    foreign = submission(world, tmp_path / "other.csv")
    both, all_three = tmp_path / "both", tmp_path / "three"
    assert fuse("--run", home / "a", "--run", home / "b", "--out", both)[0] == 0
    code, text = fuse("--run", home / "a", "--run", home / "b", "--csv", foreign, "--out", all_three)
    assert code == 0 and "other.csv" in text and "val adds" in text and "test AP" in text
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
    whole = json.loads((all_three / "metrics.json").read_text())
    weights = json.loads((all_three / "weights.json").read_text())
    for task in TASKS:
        row = table.loc[task, "other.csv"]
        assert row["weight"] == pytest.approx(weights["tasks"][task]["weights"]["other.csv"], abs=1e-5)
        for split in ("test", "val"):
            new, old = (of if split == "test" else of["splits"]["val"] for of in (whole, without))
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


def test_a_file_without_validation_rows_gets_no_weight_and_that_is_told(world, fuse, tmp_path):
    home = world[0]
    tested = submission(world, tmp_path / "tested.csv", noise=0.1, splits=("test",))
    half = submission(world, tmp_path / "half.csv", tasks=("wing",))
    code, text = fuse("--run", home / "a", "--csv", tested, "--csv", half, "--out", tmp_path / "out")
    assert code == 0
    assert f"{tested}: holds no row of a validation image of any task, so it gets no weight" in text
    assert f"{half}: holds no row of a validation image of tail, so" in text
    told = json.loads((tmp_path / "out" / "weights.json").read_text())["tasks"]
    assert told["wing"]["weights"]["tested.csv"] == told["tail"]["weights"]["tested.csv"] == 0
    assert told["wing"]["weights"]["half.csv"] > 0.2 and told["tail"]["weights"] == {
        "a": 1,
        "tested.csv": 0,
        "half.csv": 0,
    }
    assert told["tail"]["temperatures"]["tested.csv"] is None


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
        code, text = fuse("--run", home / "a", "--csv", tmp_path / name, "--out", tmp_path / "out")
        assert code == 1 and text.count("error:") == 1, text
        for word in words:
            assert word in text, text
        assert not (tmp_path / "out").exists()


def changed_run(world, tmp_path, change):
    run = Path(shutil.copytree(world[0] / "b", tmp_path / "changed"))
    change(run)
    return run


def drop_row(run):
    path = run / "wing" / "stage3" / "fused.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "wing/013" not in line))


def another_picture(run):
    path = run / "tail" / "stage3" / "fused.csv"
    path.write_text(path.read_text().replace("tail/100.jpg", "tail/other.jpg"))


def other_classes(run):
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("- plain\n", "- dull\n"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_row, ["wing/stage3/fused.csv: 59 val images", "the same 60", "wing/013.jpg is missing"]),
        (another_picture, ["tail/stage3/fused.csv: 80 test images, 79 of them", "tail/other.jpg is not one"]),
        (other_classes, ["changed/config.yaml: wing has the classes spotted, dull, striped", "plain"]),
        (lambda run: (run / "tail" / ".finetune.json").unlink(), ["tail is not finished there, only wing"]),
        (lambda run: (run / "config.yaml").unlink(), ["is not a run folder"]),
    ],
)
def test_runs_that_do_not_fit_are_refused(world, fuse, tmp_path, change, words):
    run = changed_run(world, tmp_path, change)
    code, text = fuse("--run", world[0] / "a", "--run", run, "--out", tmp_path / "out")
    assert code == 1 and text.count("error:") == 1, text
    for word in words:
        assert word in text, text
    assert not (tmp_path / "out").exists()


def test_a_task_that_one_run_lacks_can_be_left_out(world, fuse, tmp_path):
    run = changed_run(world, tmp_path, lambda run: (run / "tail" / ".finetune.json").unlink())
    runs = ("--run", world[0] / "a", "--run", run)
    assert fuse(*runs, "--task", "wing", "--out", tmp_path / "out")[0] == 0
    assert list(json.loads((tmp_path / "out" / "metrics.json").read_text())["tasks"]) == ["wing"]
    code, text = fuse("--run", run, "--run", world[0] / "a", "--task", "tail", "--out", tmp_path / "out")
    assert code == 1 and "tail is not finished; run it first: python pipeline.py run --task tail" in text


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--run", "a"], 2, "one member is no ensemble"),
        (["--run", "a", "--run", "./a"], 2, "is given twice"),
        (["--csv", "x.csv"], 2, "--run"),
        (["--run", "a", "--run", "data"], 1, "data: is not a run folder"),
        (["--run", "data", "--run", "a"], 1, "data: is not a run folder"),
        (["--run", "a", "--csv", "nowhere.csv"], 1, "nowhere.csv: there is no such file"),
        (["--run", "a", "--run", "b", "--out", "data"], 1, "data: holds files that are not an ensemble's"),
        (["--run", "a", "--run", "b", "--out", "a"], 1, "a: holds files that are not an ensemble's"),
        (["--run", "a", "--run", "b", "--out", "plain.yaml"], 1, "plain.yaml: is a file"),
        (["--run", "a", "--run", "b", "--task", "wign"], 1, "did you mean wing?"),
    ],
)
def test_mistakes_are_told_in_one_line(world, fuse, words, code, told):
    before = stamps(world[0])
    found, text = fuse(*words)
    assert found == code and told in text, text
    assert stamps(world[0]) == before


def test_the_same_command_again_writes_the_same(world, fuse, tmp_path):
    words = ("--run", world[0] / "a", "--run", world[0] / "b", "--out", tmp_path / "out")
    assert fuse(*words)[0] == 0
    first = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert fuse(*words)[0] == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == first


def test_weights_of_somebody_else_are_left_alone(world, fuse, tmp_path):
    theirs = tmp_path / "weights.json"
    theirs.write_text("[80.5, 81.2]")
    code, text = fuse("--run", world[0] / "a", "--run", world[0] / "b", "--out", tmp_path)
    assert code == 1 and "was not written by this program" in " ".join(text.split())
    assert theirs.read_text() == "[80.5, 81.2]" and len(list(tmp_path.iterdir())) == 1


def relabelled(world, tmp_path, change):
    """Two runs on the same pictures with another table of labels."""
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
    assert code == 0 and "val AP" in text and "test AP" not in text, text
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["split"] == "val" and not metrics["splits"]
    assert len((tmp_path / "out" / "submission.csv").read_text().splitlines()) == N["test"] * len(TASKS)


def test_without_validation_members_count_alike_and_that_is_told(world, fuse, tmp_path):
    runs = relabelled(world, tmp_path, lambda t: t.assign(split=t["split"].replace("val", "test")))
    for name in ("a", "b"):
        config = yaml.safe_load((tmp_path / name / "config.yaml").read_text())
        config["data"]["val_share"] = 0
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(config))
    code, text = fuse(*runs)
    assert code == 0 and "wing: there is no validation image; all members get the same weight" in text, text
    told = json.loads((tmp_path / "out" / "weights.json").read_text())["tasks"]["wing"]
    assert told["weights"] == {"a": 0.5, "b": 0.5} and told["rows"] == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["split"] == "test" and metrics["tasks"]["wing"]["n"] == N["test"] + N["val"]
