"""One network for all tasks: the masked loss, who sees which picture, and a run from end to end."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import heatcrop.cli.estimate
import heatcrop.cli.run
import heatcrop.nets.inference
import heatcrop.predict.images
import heatcrop.predict.predictor
from heatcrop.cli.config_file import read_config
from heatcrop.cli.estimate import _Speed, expected_cost
from heatcrop.cli.loading import open_data
from heatcrop.data.dataset import TaskData
from heatcrop.data.joined import APART, NOT_ASKED, join_tasks, one_side
from heatcrop.data.tasks import Task
from heatcrop.errors import UsageError
from heatcrop.nets.engine import mxnet
from heatcrop.predict.description import read_description
from heatcrop.rendered import write_dataset
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_predictions, split
from heatcrop.training.checkpoint import Checkpoint
from heatcrop.training.fit import validation_figures
from heatcrop.training.loop import TrainingPlan, train
from stage1_cam.stage import fold_rows

ROOT = Path(__file__).parents[2]
NECK, SKIRT = "neck_design_labels", "skirt_length_labels"
CLASSES = {SKIRT: 6, NECK: 5}


# --- the loss


def rows_of_two_tasks(rng, n=12):
    """Soft labels of a task of 3 and one of 2 classes, in turns."""
    soft = np.full((n, 5), NOT_ASKED, np.float32)
    for i in range(n):
        columns = slice(0, 3) if i % 2 else slice(3, 5)
        soft[i, columns] = rng.dirichlet(np.ones(columns.stop - columns.start))
    return soft


def net_of(classes, weight, bias):
    """A classifier of flat inputs, with the names that training knows a head by."""
    mx = mxnet()
    net = mx.gluon.nn.Dense(classes)
    net.initialize()
    net(mx.nd.zeros((1, weight.shape[1])))
    net.weight.set_data(mx.nd.array(weight))
    net.bias.set_data(mx.nd.array(bias))
    return net


def trained(classes, weight, bias, x, soft, checkpoint=None, epochs=1, halt=None):
    """Train on one batch an epoch; the loss of each epoch, weight and bias."""
    net = net_of(classes, weight, bias)

    def batches(epoch):
        if epoch == halt:
            raise KeyboardInterrupt
        yield x, soft

    plan = TrainingPlan(epochs=epochs, optimizer="sgd", learning_rate=0.1, reload_best=False)
    history = train(net, batches, 1, lambda _: (0.0, 0.0, 0.0), plan, 0, checkpoint=checkpoint)
    return [row.train_loss for row in history], net.weight.data().asnumpy(), net.bias.data().asnumpy()


def test_the_masked_loss_is_each_tasks_own_cross_entropy_and_so_is_its_gradient():
    rng = np.random.default_rng(0)
    soft, x = rows_of_two_tasks(rng), rng.normal(size=(12, 4)).astype(np.float32)
    weight, bias = (rng.normal(size=s).astype(np.float32) for s in ((5, 4), (5,)))
    (loss,), new_weight, new_bias = trained(5, weight, bias, x, soft)
    losses, odd = [], np.arange(12) % 2 == 1
    for rows, span in ((odd, slice(0, 3)), (~odd, slice(3, 5))):
        own = trained(span.stop - span.start, weight[span], bias[span], x[rows], soft[rows, span])
        losses += own[0]
        # Half of the rows are this task's, so its mean gradient counts half.
        assert new_weight[span] - weight[span] == pytest.approx((own[1] - weight[span]) / 2, abs=1e-6)
        assert new_bias[span] - bias[span] == pytest.approx((own[2] - bias[span]) / 2, abs=1e-6)
    assert loss == pytest.approx(np.mean(losses), rel=1e-6)


def test_a_class_that_is_never_asked_is_never_moved():
    rng = np.random.default_rng(1)
    soft = rows_of_two_tasks(rng)[1::2]  # the first task's rows alone
    weight, bias = rng.normal(size=(5, 4)).astype(np.float32), np.zeros(5, np.float32)
    _, new_weight, new_bias = trained(5, weight, bias, rng.normal(size=(6, 4)).astype(np.float32), soft)
    assert np.array_equal(new_weight[3:], weight[3:]) and not new_bias[3:].any()
    assert not np.allclose(new_weight[:3], weight[:3])


def test_a_joined_training_that_was_killed_ends_with_the_same_bits(tmp_path):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(12, 4)).astype(np.float32)
    given = (
        5,
        rng.normal(size=(5, 4)).astype(np.float32),
        np.zeros(5, np.float32),
        x,
        rows_of_two_tasks(rng),
    )
    losses, weight, bias = trained(*given, epochs=4)
    with pytest.raises(KeyboardInterrupt):
        trained(*given, Checkpoint(tmp_path / "it", "mark", share=1e9), epochs=4, halt=2)
    again = trained(*given, Checkpoint(tmp_path / "it", "mark"), epochs=4)
    assert again[0] == losses
    assert np.array_equal(again[1], weight) and np.array_equal(again[2], bias)


def test_validation_figures_are_the_means_over_the_tasks():
    rng = np.random.default_rng(3)
    soft, logits = rows_of_two_tasks(rng, 40), rng.normal(size=(40, 5)).astype(np.float32)
    letters = np.where(soft == soft.max(axis=1, keepdims=True), 2, 0).astype(np.int8)
    odd = np.arange(40) % 2 == 1
    each = [
        validation_figures(logits[rows, span], soft[rows, span], letters[rows, span])
        for rows, span in ((odd, slice(0, 3)), (~odd, slice(3, 5)))
    ]
    assert validation_figures(logits, soft, letters) == pytest.approx(np.mean(each, axis=0))


# --- the rows


def task_rows(tmp_path, name, contents, splits, groups=None, classes=("a", "b", "c")):
    """A task's rows, whose pictures are files of the given contents."""
    folder = tmp_path / name
    folder.mkdir()
    n = len(contents)
    for i, content in enumerate(contents):
        (folder / f"{i}.jpg").write_text(content)
    letters = np.zeros((n, len(classes)), np.int8)
    letters[np.arange(n), np.arange(n) % len(classes)] = 2
    return TaskData(
        Task(name, classes),
        tuple(f"{name}/{i}.jpg" for i in range(n)),
        tuple(str(folder / f"{i}.jpg") for i in range(n)),
        np.full((n, 2), 9),
        letters,
        np.array(splits),
        np.array(groups or [""] * n),
    )


def test_labels_and_columns_of_each_task_lie_side_by_side(tmp_path):
    one = task_rows(tmp_path, "one", ["p", "q"], ["train", "val"])
    two = task_rows(tmp_path, "two", ["r"], ["test"], classes=("x", "y"))
    joined = join_tasks([one, two])
    assert joined.task.classes == ("one a", "one b", "one c", "two x", "two y")
    assert joined.letters.tolist() == [[2, 0, 0, 0, 0], [0, 2, 0, 0, 0], [0, 0, 0, 2, 0]]
    assert joined.soft.tolist() == [[1, 0, 0, -1, -1], [0, 1, 0, -1, -1], [-1, -1, -1, 1, 0]]
    assert (joined.columns(1), joined.rows_of(1)) == (slice(3, 5), slice(2, 3))
    assert joined.splits.tolist() == ["train", "val", "test"]


def test_a_fold_holds_a_picture_out_under_every_task(tmp_path):
    contents = [f"picture {i}" for i in range(30)]
    one = task_rows(tmp_path, "one", contents, ["train"] * 30)
    two = task_rows(tmp_path, "two", contents[::-1], ["train"] * 30)
    three = task_rows(tmp_path, "three", ["other"] + [f"o{i}" for i in range(9)], ["train"] * 10, ["g"] * 10)
    fold_of = fold_rows(join_tasks([one, two, three]), 3, seed=0)
    assert set(fold_of) == {0, 1, 2}
    assert fold_of[:30].tolist() == fold_of[30:60][::-1].tolist()
    assert len(set(fold_of[60:])) == 1, "a group is held together"
    alone = [fold_rows(data, 3, seed=0) for data in (one, two)]
    assert alone[0].tolist() != alone[1][::-1].tolist(), "which the tasks by themselves would not do"


def test_what_one_task_tests_on_no_network_trains_on(tmp_path):
    one = task_rows(tmp_path, "one", ["p", "q", "r", "s"], ["train"] * 4, ["", "", "", "sender"])
    two = task_rows(tmp_path, "two", ["t", "q", "u"], ["train", "test", "val"], ["", "", "sender"])
    joined = join_tasks([one, two])
    assert joined.splits.tolist() == ["train", APART, "train", APART, "train", "test", "val"]
    assert joined.rows("train").tolist() == [0, 2, 4]
    assert (fold_rows(joined, 2, 0)[[1, 3]] == -1).all()


def test_a_cut_puts_a_picture_on_one_side_for_all_tasks(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_text(str(i))
    rows = pd.DataFrame(
        [
            ("0.jpg", "b", ""),
            ("0.jpg", "a", ""),
            ("1.jpg", "a", ""),
            ("1.jpg", "b", "test"),
            ("2.jpg", "b", ""),
        ],
        columns=["image", "task", "split"],
    ).assign(group="")
    rows["path"] = [str(tmp_path / image) for image in rows["image"]]
    cut = pd.Series(["train", "val", "train", "test", "val"])
    assert one_side(rows, cut, rows["path"]).tolist() == ["val", "val", "test", "test", "val"]


# --- the settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "length: {cam: {training: {epochs: 3}}}",
            ["cam.training", "skirt", "collar", "network.shared_trunk"],
        ),
        ("tasks: {neck: {finetune: {views: 9}}}", ["finetune.views", "neck", "the same"]),
        ("design: {cam: {test: {flip: false}}}\ndata: {tasks: infer}", ["cam.test", "design", "length"]),
        ("heatmap: {method: grad_cam}", ["heatmap.method", "grad_cam", "shared_trunk"]),
    ],
)
def test_what_cannot_be_shared_is_refused_at_once(tmp_path, text, words):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    read_config(path)
    with pytest.raises(UsageError) as error:
        read_config(path, ["network.shared_trunk=true"])
    assert len(str(error.value).splitlines()) == 1
    assert all(word in str(error.value) for word in words), error.value


def test_augmentation_and_heatmaps_may_differ(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("design: {cam: {heatmap: plain, augment: {flip: 0}}}\nnetwork: {shared_trunk: true}")
    assert read_config(path).network.shared_trunk
    assert read_config(ROOT / "configs" / "demo.yaml", ["network.shared_trunk=true"]).network.shared_trunk


# --- a run


def begin(home, *words):
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "pipeline.py"), *words, "--config", "tiny.yaml"],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A finished run of two tasks, made by one process with one computing thread."""
    home = tmp_path_factory.mktemp("shared")
    write_dataset(home / "data", 6, 2, 0, (NECK, SKIRT), workers=1, side_px=160)
    config = {
        "name": "tiny",
        "data": {"source": "files", "roots": [str(home / "data")]},
        "network": {"frozen_blocks": 17, "input_px": 96, "shared_trunk": True},
        "cam": {"training": {"epochs": 2, "learning_rate": 0.003}, "views": 1, "folds": 2},
        "crop": {
            "rule": {"threshold": 0.85, "margin": 0.0, "least_contrast": 0.0},
            "search": {"pictures": 0},
        },
        "tasks": {"skirt": {"cam": {"heatmap": "plain", "augment": {"shift": 0.05}}, "crop": {"jitters": 3}}},
        "finetune": {"training": {"epochs": 1}, "views": 1},
    }
    (home / "tiny.yaml").write_text(yaml.safe_dump(config))
    begin(home, "run", "--all", "--out", "run", "--jobs", "1")
    return home


def test_each_task_has_its_files_and_the_networks_lie_there_once(home):
    run = RunFolder(home / "run")
    assert json.loads(run.outputs.read_text()) == {SKIRT: [0, 6], NECK: [6, 11]}
    for task, classes in CLASSES.items():
        files = run.task(task)
        for path in (files.heatmaps, files.history(1), files.history(3), files.boxes, files.fusion):
            assert path.is_file() and not path.is_symlink()
        for number in (1, 3):
            for name in ("weights.params", "network.onnx"):
                link = files.stage(number) / name
                assert link.is_symlink() and link.resolve() == (run.joined.stage(number) / name).resolve()
        table, probabilities = read_predictions(files.predictions(1))
        assert probabilities.shape == (len(table), classes) and np.allclose(probabilities.sum(axis=1), 1)
        held_out = table["network"].to_numpy(str)[table["split"].to_numpy(str) == "train"]
        assert set(held_out) == {"fold 0", "fold 1"}
        fused, _ = read_predictions(files.fused)
        assert len(fused) == len(table)
        seconds = json.loads(files.marker("cam").read_text())["seconds"]
        assert seconds["train"] > 0 and seconds["cam"] > 0
    assert not list(home.glob("run/**/.*.partial"))


def test_worker_processes_train_the_same_networks(home):
    begin(home, "stage", "cam", "--all", "--out", "spread", "--jobs", "2")
    one, other = (RunFolder(home / name) for name in ("run", "spread"))
    for name in ("weights.params", "fold0.params", "fold1.params"):
        assert (one.joined.stage(1) / name).read_bytes() == (other.joined.stage(1) / name).read_bytes(), name
    for task in CLASSES:
        assert one.task(task).heatmaps.read_bytes() == other.task(task).heatmaps.read_bytes()
        assert one.task(task).predictions(1).read_bytes() == other.task(task).predictions(1).read_bytes()


def predicted(call, home, name, *options):
    given = ("--run", home / "run", "--out", f"{name}.csv", "--boxes", f"{name}-boxes.csv", "--no-gallery")
    code, printed = call("predict", home / "data" / "rank" / "Images", *given, *options)
    assert code == 0, printed
    table = pd.read_csv(home / f"{name}.csv")
    return table, pd.read_csv(home / f"{name}-boxes.csv")


def test_both_engines_and_an_export_agree_and_the_whole_picture_is_looked_at_once(home, call, monkeypatch):
    passes = []
    opened = heatcrop.nets.inference.open_network

    def counted(path, card, fix):
        runner = opened(path, card, fix)

        def run(x):
            passes.append((Path(path).parent.name, len(x)))
            return runner(x)

        return run

    monkeypatch.setattr(heatcrop.predict.predictor, "open_network", counted)
    monkeypatch.setattr(heatcrop.predict.images, "_CHUNK", 7)  # several chunks, so that tasks take turns
    table, boxes = predicted(call, home, "onnx", "--engine", "onnx")
    n = table["image"].nunique()
    views = 2  # as it is, and mirrored
    once = {
        name: sum(rows for stage, rows in passes if stage == name) for name in ("trunk", "stage1", "stage3")
    }
    assert once["stage1"] == n * views
    assert once["stage3"] == n * views * len(CLASSES)
    chunks = -(-n // 7)  # in each a blank picture tells the shape of what the trunk gives
    assert once["trunk"] == (n * views + chunks) * (1 + len(CLASSES))
    assert table["task"].tolist() == [SKIRT] * n + [NECK] * n
    other, other_boxes = predicted(call, home, "mxnet", "--engine", "mxnet")
    assert call("export", "--run", home / "run", "--out", home / "export")[0] == 0
    assert sorted(p.name for p in (home / "export").glob("*.onnx")) == [
        "stage1.onnx",
        "stage3.onnx",
        "trunk.onnx",
    ]
    shutil.rmtree(home / "export")
    assert boxes.equals(other_boxes)
    for one, two in zip(table["probabilities"], other["probabilities"], strict=True):
        assert split([one])[0] == pytest.approx(split([two])[0], abs=1e-4)
    alone, _ = predicted(call, home, "alone", "--engine", "onnx", "--task", "neck")
    assert alone.equals(table[table["task"] == NECK].reset_index(drop=True))


def test_predictions_of_new_pictures_are_those_of_the_run(home, call):
    table, boxes = predicted(call, home, "again", "--engine", "onnx")
    for task in CLASSES:
        files = RunFolder(home / "run").task(task)
        fused, probabilities = read_predictions(files.fused)
        told = dict(zip(fused["image"], probabilities, strict=True))
        mine = table[table["task"] == task]
        ours = dict(zip(mine["image"], mine["probabilities"], strict=True))
        found = [name for name in told if name.removeprefix("Images/") in ours]
        assert found
        for name in found:
            assert split([ours[name.removeprefix("Images/")]])[0] == pytest.approx(told[name], abs=1e-4)


def test_a_description_that_an_older_program_would_misread_has_a_higher_number(home, tmp_path):
    path = home / "run" / "heatcrop.json"
    told = json.loads(path.read_text())
    assert told["format"] == 2
    assert {name: one.outputs for name, one in read_description(path).tasks.items()} == {
        SKIRT: [0, 6],
        NECK: [6, 11],
    }


def test_one_task_alone_is_refused_but_its_crops_are_its_own(home, call):
    given = ("--config", "tiny.yaml", "--out", "run")
    for words in (("run",), ("stage", "cam"), ("stage", "finetune"), ("run", "--dry-run")):
        code, printed = call(*words, "--task", "neck", *given)
        assert code == 2 and len(printed.splitlines()) <= 4, printed
        assert "--all" in printed and "network.shared_trunk" in printed
    code, printed = call("run", "--all", "--dry-run", *given)
    assert code == 0 and "0 of 6 stages" in printed
    changed = (*given, "--set", "tasks.neck.crop.rule.margin=0.2")
    code, printed = call("run", "--all", "--dry-run", *changed)
    assert "3 of 6 stages" in printed and "it shares a network with a task that changed" in " ".join(
        printed.split()
    )
    code, printed = call("stage", "crop", "--task", "neck", "--dry-run", *changed)
    assert code == 0 and "1 of 1 stages" in printed and "0.0 -> 0.2" in printed


def test_check_counts_the_shared_networks_once(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setattr(heatcrop.cli.estimate, "_measure", lambda *_: _Speed(0.0, 0.0, 1.0, 0.0, 1e9, 0.0))
    settings = ["runtime.jobs=2", "data.tasks=fashionai"]
    cost = {}
    for shared in (True, False):
        config = read_config(home / "tiny.yaml", [*settings, f"network.shared_trunk={str(shared).lower()}"])
        cost[shared] = expected_cost(config, open_data(config, (), None).tasks)
    networks = 4 + 2  # weights of both stages, once more as ONNX, and those of two folds
    assert round(cost[True].kept_bytes / 1e9) == networks
    assert round(cost[False].kept_bytes / 1e9) == networks * len(CLASSES)
    assert (cost[True].unit, cost[False].unit) == ("network", "task")
