"""The commands from end to end, on a handful of rendered pictures of two tasks."""

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import yaml
from tensorboardX.proto import event_pb2

import heatcrop.cli.walk
from heatcrop.cli.config_file import read_config
from heatcrop.cli.estimate import _seconds, _Speed
from heatcrop.cli.loading import open_data
from heatcrop.data.images import read_image, write_jpeg
from heatcrop.data.tasks import resolve
from heatcrop.errors import RunError
from heatcrop.nets.inference import softmax
from heatcrop.rendered import write_dataset
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import split
from heatcrop.runs.progress import console
from heatcrop.runs.workers import side_by_side
from heatcrop.training.views import View, framed, sample

ROOT = Path(__file__).parents[2]
NECK, SKIRT = "neck_design_labels", "skirt_length_labels"
CLASSES = {NECK: 5, SKIRT: 6}
PER_CLASS, TEST_PER_CLASS = 6, 2


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with rendered pictures and a configuration for them."""
    home = tmp_path_factory.mktemp("program")
    write_dataset(home / "data", PER_CLASS, TEST_PER_CLASS, 0, (NECK, SKIRT), workers=1, side_px=160)
    config = {
        "name": "tiny",
        "data": {"source": "files", "roots": [str(home / "data")]},
        "network": {"frozen_blocks": 17, "input_px": 96},
        "cam": {"training": {"epochs": 2, "learning_rate": 0.003}, "views": 1, "folds": 2},
        "crop": {"rule": {"threshold": 0.8, "margin": 0.0, "least_contrast": 0.0}, "search": {"pictures": 0}},
        "tasks": {"skirt": {"crop": {"search": {"pictures": 36, "thresholds": [0.5], "margins": [0.2]}}}},
        "finetune": {"training": {"epochs": 1}, "views": 1},
    }
    (home / "tiny.yaml").write_text(yaml.safe_dump(config))
    return home


@pytest.fixture(scope="module")
def finished(home):
    """A finished run of both tasks, made as a user makes it, in a process of its own."""
    command = [
        sys.executable,
        str(ROOT / "pipeline.py"),
        "run",
        "--task",
        "neck",
        "--task",
        SKIRT,
        "--config",
        "tiny.yaml",
        "--out",
        "run",
        "--jobs",
        "2",
    ]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return home / "run", done.stderr


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


def stamps(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in sorted(folder.rglob("*")) if p.is_file()}


def columns(path):
    return path.read_text(encoding="utf-8").splitlines()[0]


# --- the run folder


def test_every_file_of_the_contract_is_there(finished):
    run, _ = finished
    for name in ("config.yaml", "metrics.json", "submission.csv", "report/index.html", "rejected.csv"):
        assert (run / name).is_file(), name
    for task in CLASSES:
        for name in (
            "stage1/weights.params",
            "stage1/network.onnx",
            "stage1/heatmaps.npy",
            "stage3/weights.params",
            "stage3/network.onnx",
            "stage3/fusion.json",
        ):
            assert (run / task / name).stat().st_size > 0, name
        assert columns(run / task / "boxes.csv") == "image,split,x0,y0,x1,y1,threshold,margin,fallback,score"
        predictions = "image,split,network,class,confidence,probabilities"
        assert columns(run / task / "stage1" / "predictions.csv") == predictions
        assert columns(run / task / "stage3" / "predictions.csv") == predictions
        assert columns(run / task / "stage3" / "fused.csv") == predictions
        for stage in ("stage1", "stage3"):
            history = "network,epoch,learning_rate,train_loss,val_loss,val_map,val_accuracy,seconds"
            assert columns(run / task / stage / "history.csv") == history
    leftovers = [p for p in run.rglob("*") if re.search(r"\.(partial|tmp|old)$", p.name)]
    assert not leftovers


def test_the_configuration_is_left_whole(home, finished):
    run, _ = finished
    assert read_config(run / "config.yaml") == read_config(home / "tiny.yaml", ["runtime.jobs=2"])


def test_metrics_have_the_form_that_scripts_read(finished):
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    assert metrics["split"] == "test" and set(metrics["tasks"]) == set(CLASSES)
    for task, figures in metrics["tasks"].items():
        for branch in ("full", "crop", "fused"):
            assert 0 <= figures[branch]["map"] <= 1 and 0 <= figures[branch]["accuracy"] <= 1
        assert figures["crops"]["n"] == TEST_PER_CLASS * CLASSES[task]
        assert 0 <= figures["crops"]["fallback_rate"] <= 1
        assert set(figures["seconds"]) == {"train", "cam", "crop", "finetune"}
        assert all(seconds > 0 for seconds in figures["seconds"].values())
        assert figures["localisation"]["n"] > 0
    for branch in ("full", "crop", "fused"):
        mean = np.mean([figures[branch]["map"] for figures in metrics["tasks"].values()])
        assert metrics["mean"][branch]["map"] == pytest.approx(mean)


@pytest.mark.parametrize("task", CLASSES)
def test_training_pictures_get_their_maps_from_networks_that_have_not_seen_them(finished, task):
    table = pd.read_csv(finished[0] / task / "stage1" / "predictions.csv")
    train = table[table["split"] == "train"]
    assert set(train["network"]) == {"fold 0", "fold 1"}
    assert set(table[table["split"] != "train"]["network"]) == {"final"}
    history = pd.read_csv(finished[0] / task / "stage1" / "history.csv")
    assert set(history["network"]) == {"final", "fold 0", "fold 1"}
    # A crop network that speaks for the fusion about a training picture has not seen it either.
    crop = pd.read_csv(finished[0] / task / "stage3" / "predictions.csv").set_index("image")
    known = crop.loc[train["image"], "network"].tolist()
    assert set(known) <= {"fold 0", "fold 1"} and known == train["network"].tolist()


@pytest.mark.parametrize("task", CLASSES)
def test_one_row_one_map_and_one_crop_a_picture(finished, task):
    run = finished[0] / task
    expected = (PER_CLASS + TEST_PER_CLASS) * CLASSES[task]
    predictions, boxes = pd.read_csv(run / "stage1" / "predictions.csv"), pd.read_csv(run / "boxes.csv")
    assert len(predictions) == len(boxes) == expected
    assert predictions["image"].tolist() == boxes["image"].tolist()
    assert boxes["split"].value_counts()["test"] == TEST_PER_CLASS * CLASSES[task]
    heatmaps = np.load(run / "stage1" / "heatmaps.npy")
    assert heatmaps.shape == (expected, 3, 3) and heatmaps.dtype == np.float32
    p = split(predictions["probabilities"].tolist())
    assert p.shape == (expected, CLASSES[task])
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    crops = {p.stem: p for p in (run / "crops").rglob("*.jpg")}
    assert len(crops) == expected
    classes = {c.replace("/", "-") for c in resolve(task).classes}
    for row in boxes.itertuples():
        path = crops[Path(row.image).stem]
        assert path.parent.parent.name == row.split
        assert path.parent.name in classes
    assert (boxes[["x0", "y0"]] >= 0).all(axis=None) and (boxes[["x1", "y1"]] <= 160).all(axis=None)
    cut = boxes[boxes["fallback"].isna()]
    assert len(cut) > 0, "this test wants at least one picture that is really cropped"
    assert ((cut["x1"] - cut["x0"]) == (cut["y1"] - cut["y0"])).all()
    row = cut.iloc[0]
    assert read_image(crops[Path(row["image"]).stem]).shape[:2] == (
        row["y1"] - row["y0"],
        row["x1"] - row["x0"],
    )


def test_the_submission_is_in_the_competitions_form(finished):
    rows = list(csv.reader((finished[0] / "submission.csv").open()))
    assert len(rows) == TEST_PER_CLASS * sum(CLASSES.values())
    for image, task, text in rows:
        assert image.startswith(f"Images/{task}/")
        assert re.fullmatch(r"(\d\.\d{8};)+\d\.\d{8}", text) and len(text.split(";")) == CLASSES[task]


def test_fused_predictions_are_the_submission(finished):
    fused = pd.concat(pd.read_csv(finished[0] / t / "stage3" / "fused.csv") for t in CLASSES)
    fused = fused[fused["split"] == "test"].set_index("image")["probabilities"]
    for image, _, text in csv.reader((finished[0] / "submission.csv").open()):
        assert fused[image] == text


# Started as a program of its own, since that is what is killed.
PARENT = """
import os, sys, time
from heatcrop.runs.workers import side_by_side

def sleep(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(300)

if __name__ == "__main__":
    list(side_by_side(sleep, [(path,) for path in sys.argv[1:]], 2))
"""


def test_workers_end_with_the_process_that_started_them(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    notes = [tmp_path / name for name in ("a", "b")]
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py", *notes], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        wait_for(lambda: all(note.is_file() and note.read_text() for note in notes))
    finally:
        parent.kill()
    parent.wait()
    pids = [int(note.read_text()) for note in notes]
    wait_for(lambda: not any(runs(pid) for pid in pids))


def wait_for(what, seconds=60):
    for _ in range(10 * seconds):
        if what():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def runs(pid):
    """Whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_error_in_one_worker_starts_nothing_more(tmp_path):
    started = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(fail_or_wait, [(0, tmp_path), *((i, tmp_path) for i in range(1, 6))], 2))
    assert time.monotonic() - started < 60
    time.sleep(1)
    assert len(list(tmp_path.iterdir())) <= 2


def fail_or_wait(number, folder):
    if number == 0:
        time.sleep(2)
        raise ZeroDivisionError
    (folder / str(number)).touch()
    time.sleep(100)


def test_a_worker_that_is_killed_is_told_in_one_line():
    with pytest.raises(RunError, match=r"ended from outside.*--jobs 1"):
        list(side_by_side(os._exit, [(9,), (9,)], 2))


# --- what is done again and what is not


def test_a_second_run_does_nothing_and_says_so(call, run):
    before = stamps(run / NECK) | stamps(run / SKIRT)
    code, text = call("run", "--all", "--config", "tiny.yaml", "--out", run, "--jobs", "1")
    assert code == 0
    for short in ("neck", "skirt"):
        assert re.search(rf"{short}: cam, crop, finetune up to date", text), text
    after = stamps(run / NECK) | stamps(run / SKIRT)
    assert after == before


def test_a_new_threshold_redoes_only_what_follows(call, run):
    options = ("--task", "neck", "--config", "tiny.yaml", "--out", run, "--set", "crop.rule.threshold=0.95")
    stage1, stage3, skirt = stamps(run / NECK / "stage1"), stamps(run / NECK / "stage3"), stamps(run / SKIRT)
    boxes = pd.read_csv(run / NECK / "boxes.csv")
    code, text = call("stage", "crop", *options)
    assert code == 0, text
    changed = pd.read_csv(run / NECK / "boxes.csv")
    assert (changed["threshold"] == 0.95).all() and (boxes["threshold"] == 0.8).all()
    was, now = (t[t["fallback"].isna()] for t in (boxes, changed))
    assert (now["x1"] - now["x0"]).mean() < (was["x1"] - was["x0"]).mean() or len(now) > len(was)
    assert stamps(run / NECK / "stage1") == stage1 and stamps(run / NECK / "stage3") == stage3

    code, text = call("run", *options)
    assert code == 0, text
    assert "neck: cam, crop up to date" in text and "neck: finetune in" in text
    assert stamps(run / NECK / "stage1") == stage1 and stamps(run / NECK / "stage3") != stage3
    assert stamps(run / SKIRT) == skirt


def dry(call, run, *more):
    """What a dry run says would run and why, by task and stage."""
    before = stamps(run)
    code, text = call(
        "run", "--task", "neck", "--task", "skirt", "--config", "tiny.yaml", "--out", run, "--dry-run", *more
    )
    assert code == 0 and "nothing was done or written" in text, text
    assert stamps(run) == before
    task, out = "", {}
    for line in text.splitlines():
        if found := re.match(r" (\w*) +(cam|crop|finetune) +(.+?) *$", line):
            task = found[1] or task
            out[task, found[2]] = found[3]
    assert len(out) == 6, text
    return out


def test_a_dry_run_tells_what_would_run_and_why(call, run, monkeypatch, home, tmp_path):
    monkeypatch.setattr(console, "width", 200)
    assert set(dry(call, run).values()) == {"up to date"}
    told = dry(call, run, "--set", "tasks.neck.crop.rule.threshold=0.5")
    assert told["neck", "crop"] == "crop.rule.threshold 0.8 -> 0.5"
    assert told["neck", "finetune"] == "after crop" and told["neck", "cam"] == "up to date"
    assert told["skirt", "crop"] == "up to date"
    told = dry(call, run, "--set", "cam.training.epochs=3", "--set", "finetune.training.epochs=2")
    assert told["skirt", "cam"] == "cam.training.epochs 2 -> 3" and told["skirt", "crop"] == "after cam"
    assert told["skirt", "finetune"] == "finetune.training.epochs 1 -> 2"
    assert "network.input_px 96 -> 128" in dry(call, run, "--set", "network.input_px=128")["neck", "cam"]
    (run / NECK / ".finetune.json").unlink()
    told = dry(call, run)
    assert told["neck", "finetune"] == "not done yet" and told["skirt", "finetune"] == "up to date"
    monkeypatch.setitem(heatcrop.cli.walk._CODE, "crop", 99)
    assert "makes it differently" in dry(call, run)["skirt", "crop"]


def test_a_dry_run_tells_changed_pictures_from_changed_labels(call, home, run, tmp_path, monkeypatch):
    monkeypatch.setattr(console, "width", 200)
    data = Path(shutil.copytree(home / "data", tmp_path / "data"))
    marker = run / NECK / ".cam.json"
    made = json.loads(marker.read_text())
    # As if the run had been made from the copy.
    config = read_config(home / "tiny.yaml", [f"data.roots=[{data}]"])
    walk = heatcrop.cli.walk.Walk(config, RunFolder(run))
    opened = open_data(config, ["neck"], None)
    marks, origins = walk.marks(opened.tasks[NECK]), walk.origins(opened.tasks[NECK])
    made |= {"fingerprint": marks["cam"], "made_from": dataclasses.asdict(origins["cam"])}
    marker.write_text(json.dumps(made))
    assert dry(call, run, "--data", data)["neck", "cam"] == "up to date"
    label = data / "base" / "Annotations" / "label.csv"
    picture = next((data / "base" / "Images" / NECK).glob("*.jpg"))
    write_jpeg(picture, read_image(str(picture))[::-1])
    assert dry(call, run, "--data", data)["neck", "cam"] == "picture files changed"
    lines = label.read_text().splitlines()
    label.write_text("\n".join(line for line in lines if picture.name not in line) + "\n")
    assert dry(call, run, "--data", data)["neck", "cam"] == "other labels, splits or groups"


def test_a_dry_run_draws_no_pictures(call, tmp_path):
    folder = f"data.rendered.folder={tmp_path / 'drawn'}"
    config = ROOT / "configs" / "demo.yaml"
    code, text = call(
        "run", "--task", "neck", "--config", config, "--dry-run", "--set", folder, "--out", tmp_path / "run"
    )
    assert code == 0 and text.count("drawn first") == 3 and not list(tmp_path.iterdir())


def test_the_rule_is_searched_where_asked_and_used_from_then_on(finished):
    run = finished[0]
    assert json.loads((run / NECK / "rule.json").read_text())["curve"] == []
    told = json.loads((run / SKIRT / "rule.json").read_text())
    settings = ["threshold", "margin", "least_side", "greatest_side", "invisible", "enabled"]
    chosen = [(one["setting"], one["value"]) for one in told["curve"] if one["chosen"]]
    assert [setting for setting, _ in chosen] == settings
    assert told["start"]["threshold"] == 0.8 and told["rule"] == told["start"] | dict(chosen)
    assert told["rows"] == 36  # every labelled training and validation picture, and no test picture
    boxes = pd.read_csv(run / SKIRT / "boxes.csv", keep_default_na=False)
    assert (boxes["threshold"] == told["rule"]["threshold"]).all()
    assert (boxes["fallback"] == "off").all() == (not told["rule"]["enabled"])


def test_crops_cut_in_parts_are_the_same(call, run, monkeypatch):
    from stage2_crop.stage import CropWork

    def made():
        return {
            p.relative_to(run): p.read_bytes()
            for name in ("boxes.csv", "training_boxes.npy", "crops")
            for p in (run / NECK / name, *(run / NECK / name).rglob("*"))
            if p.is_file()
        }

    before, parts, cut = made(), [], CropWork.cut
    monkeypatch.setattr("heatcrop.training.inputs.PART", 9)
    monkeypatch.setattr(CropWork, "cut", lambda self, *part: (parts.append(part), cut(self, *part))[1])
    (run / NECK / ".crop.json").unlink()
    code, text = call("stage", "crop", "--task", "neck", "--config", "tiny.yaml", "--out", run, "--jobs", "1")
    assert code == 0, text
    assert made() == before and len(before) > 40
    assert len(parts) > 3 and parts[0] == (0, 9) and parts[-1][1] == len(before) - 2


def test_training_crops_are_cut_around_the_rule(finished):
    for task in (NECK, SKIRT):
        table = pd.read_csv(finished[0] / task / "boxes.csv", keep_default_na=False)
        boxes = table[["x0", "y0", "x1", "y1"]].to_numpy()
        trained = np.load(finished[0] / task / "training_boxes.npy")
        assert trained.shape == (len(table), 4, 4)
        held = table["split"].to_numpy() != "train"
        assert (trained[held] == boxes[held, None]).all()
        cut = ~held & (table["fallback"] == "").to_numpy()
        assert not cut.any() or (trained[cut] != boxes[cut, None]).any()


def test_other_pictures_than_stage_1_saw_are_refused(call, run):
    """Another split of the same pictures: what stage 1 trained on may be test pictures now."""
    options = ("--task", "neck", "--config", "tiny.yaml", "--out", run, "--set", "seed=5")
    code, text = call("stage", "crop", *options)
    assert code == 1 and "another split" in text and "run --task neck" in text, text


def test_a_run_of_one_task_keeps_the_others_figures(call, run):
    code, text = call("run", "--task", "neck", "--config", "tiny.yaml", "--out", run)
    assert code == 0, text
    assert set(json.loads((run / "metrics.json").read_text())["tasks"]) == {NECK, SKIRT}
    assert SKIRT in (run / "submission.csv").read_text()


def test_crops_cut_from_outdated_heatmaps_are_cut_again(call, run):
    """Stage crop takes what stage cam left, even if the settings have moved on since; a run may not."""
    changed = ("--task", "neck", "--config", "tiny.yaml", "--out", run, "--set", "cam.training.epochs=1")
    assert call("stage", "crop", *changed)[0] == 0
    code, text = call("run", *changed)
    assert code == 0
    assert [f"neck: {stage} in" in text for stage in ("cam", "crop", "finetune")] == [True] * 3, text


def test_a_changed_picture_is_noticed(home, tmp_path, finished):
    from heatcrop.cli.loading import open_data
    from heatcrop.cli.walk import Walk
    from heatcrop.runs.folder import RunFolder

    data = Path(shutil.copytree(home / "data", tmp_path / "data"))
    config = read_config(home / "tiny.yaml", [f"data.roots=[{data}]"])
    walk = Walk(config, RunFolder(tmp_path / "run"))
    before = walk.marks(open_data(config, ["neck"], None).tasks[NECK])
    path = next((data / "base").rglob("neck*/*.jpg"))
    write_jpeg(path, read_image(path)[:, ::-1])
    after = walk.marks(open_data(config, ["neck"], None).tasks[NECK])
    assert all(before[stage] != after[stage] for stage in before)


def test_a_training_that_diverges_is_told_and_a_lower_rate_works(call, run):
    words = ["run", "--task", "neck", "--config", "tiny.yaml", "--out", run, "--jobs", 1]
    wild = {"learning_rate": 10, "head_rate": 1e6, "optimizer": "sgd", "weight_decay": 10, "epochs": 8}
    wild = [word for key, value in wild.items() for word in ("--set", f"finetune.training.{key}={value}")]
    for _ in range(2):
        code, text = call(*words, *wild)
        assert code == 1
        told(
            text,
            code,
            "neck: the training of stage 3 (final)",
            "diverged",
            "lower finetune.training.learning_rate (it is 10) or finetune.training.head_rate",
        )
    assert call(*words)[0] == 0


def test_a_stage_without_its_predecessor_is_refused(call, tmp_path):
    options = ("--task", "neck", "--config", "tiny.yaml", "--out", tmp_path / "new")
    for stage, before in (("crop", "cam"), ("finetune", "crop")):
        code, text = call("stage", stage, *options)
        assert code == 1 and f"python pipeline.py stage {before} --task {NECK}" in text


def test_nothing_frozen_nothing_held_out(call, home, tmp_path):
    """Every block is trained, pictures are read live, and there is no validation and no test picture."""
    out = tmp_path / "live"
    code, text = call(
        "run",
        "--task",
        "neck",
        "--config",
        "tiny.yaml",
        "--out",
        out,
        "--set",
        "network.frozen_blocks=0",
        "--set",
        "network.input_px=32",
        "--set",
        "data.limit_per_class=2",
        "--set",
        "data.val_share=0",
        "--set",
        "data.splits={test: train}",
        "--set",
        "cam.training.epochs=1",
    )
    assert code == 0, text
    assert not (out / "trunk").exists()
    splits = pd.read_csv(out / NECK / "boxes.csv")["split"]
    assert (splits == "train").all() and len(splits) == 2 * 2 * 5  # two a class, train and test
    assert json.loads((out / "metrics.json").read_text())["tasks"] == {}
    assert (out / "submission.csv").read_text() == ""
    code, text = call(
        "predict", next((home / "data" / "rank").rglob("*.jpg")), "--run", out, "--out", tmp_path / "p"
    )
    assert code == 0 and len(pd.read_csv(tmp_path / "p")) == 1


def test_heatmaps_by_a_backward_pass(call, run, home, tmp_path):
    """On the last map Grad-CAM's are CAM's; prediction makes them too, and what cannot says so in a line."""
    neck = RunFolder(run).task(NECK)
    marker, heat = json.loads(neck.marker("cam").read_text()), np.load(neck.heatmaps)
    assert not any("heatmap" in name and name != "cam.heatmap" for name in marker["made_from"]["settings"])
    options = ("--task", "neck", "--config", "tiny.yaml", "--out", run, "--set", "heatmap.method=grad_cam")
    code, text = call("run", *options, "--dry-run")
    assert code == 0 and "heatmap.method none -> grad_cam" in " ".join(text.split())
    code, text = call("run", *options)
    assert code == 0, text
    np.testing.assert_allclose(np.load(neck.heatmaps), heat, atol=0.02 * heat.max())
    assert neck.network(1).is_file()
    picture = next((home / "data" / "rank" / "Images" / NECK).glob("*.jpg"))
    asked = ("predict", picture, "--task", "neck", "--run", run, "--no-gallery", "--out")
    code, text = call(*asked, tmp_path / "auto.csv")
    assert code == 0, text
    fused = pd.read_csv(neck.fused).set_index("image").filter(like=picture.name, axis=0).iloc[0]
    mine = pd.read_csv(tmp_path / "auto.csv")["probabilities"][0]
    np.testing.assert_allclose(split([mine]), split([fused["probabilities"]]), atol=1e-4)
    for words in ((*asked, tmp_path / "onnx.csv", "--engine", "onnx"), ("export", "--run", run)):
        code, text = call(*words)
        assert code == 1 and "grad_cam" in text and "backward pass" in text and text.count("error") == 1
    assert not (tmp_path / "onnx.csv").exists() and not (run / "export").exists()


# --- predict


@pytest.fixture(scope="module")
def strangers(home):
    """Pictures nobody has labelled: two good ones, a large portrait, and a bad file."""
    folder = home / "strangers"
    (folder / "sub").mkdir(parents=True)
    tested = sorted((home / "data" / "rank" / "Images" / NECK).glob("*.jpg"))
    shutil.copy(tested[0], folder / "a.jpg")
    shutil.copy(tested[1], folder / "sub" / "b.jpg")
    write_jpeg(folder / "tall.jpg", cv2.resize(read_image(tested[2]), (300, 700)))
    (folder / "bad.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    return folder


def answers(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def test_predict_a_folder_with_one_bad_file(call, finished, strangers, tmp_path):
    out = tmp_path / "answers.csv"
    code, text = call("predict", strangers, "--run", finished[0], "--out", out)
    assert code == 0
    assert "bad.jpg" in text and "1 pictures could not be read" in text and "notes" not in text
    table = answers(out)
    assert list(table.columns) == ["image", "task", "class", "confidence", "probabilities"]
    assert sorted(zip(table["image"], table["task"], strict=True)) == sorted(
        (image, task) for image in ("a.jpg", "sub/b.jpg", "tall.jpg") for task in CLASSES
    )
    for row in table.itertuples():
        p = split([row.probabilities])[0]
        assert len(p) == CLASSES[row.task] and p.sum() == pytest.approx(1, abs=1e-6)
        assert row.confidence == f"{p.max():.8f}"
        assert row[3] == resolve(row.task).classes[int(p.argmax())]


def test_predict_a_csv_a_picture_and_one_task_only(call, finished, strangers, tmp_path):
    listed, out = strangers / "list.csv", tmp_path / "answers.csv"
    listed.write_text("\ufeffnote,image\r\nx,sub\\b.jpg\r\ny,a.jpg\r\nz,a.jpg\r\nw,missing.jpg\r\n")
    code, text = call("predict", listed, "--run", finished[0], "--out", out, "--task", "neck")
    assert code == 0 and "missing.jpg: there is no such file" in text
    assert answers(out)["image"].tolist() == ["sub/b.jpg", "a.jpg"]
    alone = tmp_path / "alone.csv"
    assert (
        call("predict", strangers / "a.jpg", "--run", finished[0], "--out", alone, "--task", "neck")[0] == 0
    )
    np.testing.assert_allclose(
        split(answers(alone)["probabilities"]), split(answers(out)["probabilities"])[1:], atol=1e-5
    )


def test_predict_leaves_a_gallery_beside_its_answers(call, finished, strangers, tmp_path):
    out = tmp_path / "answers.csv"
    code, text = call("predict", strangers, "--run", finished[0], "--out", out)
    page = tmp_path / "answers_gallery" / "index.html"
    assert code == 0 and page.is_file() and page.name in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.S)[1])
    told = answers(out)
    for task in data["tasks"]:
        assert [row["name"] for row in task["rows"]] == list(told[told["task"] == task["name"]]["image"])
        for row, (_, said) in zip(task["rows"], told[told["task"] == task["name"]].iterrows(), strict=True):
            assert task["classes"][row["top"][2]] == said["class"]
            assert (page.parent / row["thumb"]["file"]).is_file() and not row["letters"]
    mine = page.rename(page.parent / "mine.html").read_bytes()
    assert call("predict", strangers, "--run", finished[0], "--out", out)[0] == 0
    assert (page.parent / "mine.html").read_bytes() == mine and page.is_file()
    code, _ = call("predict", strangers, "--run", finished[0], "--out", tmp_path / "b.csv", "--no-gallery")
    assert code == 0 and not (tmp_path / "b_gallery").exists()


def test_both_engines_predict_alike(call, finished, strangers, tmp_path):
    found = []
    for engine in ("onnx", "mxnet"):
        code, text = call(
            "predict", strangers, "--run", finished[0], "--out", tmp_path / engine, "--engine", engine
        )
        assert code == 0, text
        found.append(answers(tmp_path / engine))
    for task in CLASSES:
        one, other = (split(table[table["task"] == task]["probabilities"].tolist()) for table in found)
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_predict_says_of_test_pictures_what_the_run_said(call, home, finished, tmp_path):
    folder = home / "data" / "rank" / "Images" / NECK
    code, text = call("predict", folder, "--run", finished[0], "--out", tmp_path / "p", "--task", "neck")
    assert code == 0, text
    fused = pd.read_csv(finished[0] / NECK / "stage3" / "fused.csv")
    said = dict(zip(fused["image"].map(lambda i: Path(i).name), fused["probabilities"], strict=True))
    now = answers(tmp_path / "p")
    assert len(now) == TEST_PER_CLASS * 5
    away = np.abs(split([said[i] for i in now["image"]]) - split(now["probabilities"].tolist())).max(axis=1)
    assert np.median(away) < 2e-3  # cached features have half precision


# --- score, report, export, check


def test_score_of_the_submission_is_the_runs_own(call, home, finished):
    answer = home / "data" / "rank" / "Tests" / "answer.csv"
    code, text = call("score", finished[0] / "submission.csv", answer, "--json")
    assert code == 0
    figures, metrics = json.loads(text), json.loads((finished[0] / "metrics.json").read_text())
    assert set(figures) == {"map", "basic_precision", "tasks"}
    assert figures["map"] == pytest.approx(metrics["mean"]["fused"]["map"])
    for task, of_task in figures["tasks"].items():
        assert of_task["ap"] == pytest.approx(metrics["tasks"][task]["fused"]["map"])
        assert of_task["basic_precision"] == pytest.approx(metrics["tasks"][task]["fused"]["basic_precision"])
        assert of_task["n"] == TEST_PER_CLASS * CLASSES[task]
    code, text = call("score", finished[0] / "submission.csv", answer)
    assert code == 0 and f"{figures['map']:.4f}" in text and NECK in text


def test_predict_can_be_scored(call, home, finished, tmp_path):
    folder, out = home / "data" / "rank", tmp_path / "p.csv"
    assert call("predict", folder, "--run", finished[0], "--out", out)[0] == 0
    rows = answers(out)
    rows = rows[[Path(i).parts[1] == t for i, t in zip(rows["image"], rows["task"], strict=True)]]
    rows.to_csv(out, index=False)
    code, text = call("score", out, home / "data" / "rank" / "Tests" / "answer.csv", "--json")
    assert code == 0 and set(json.loads(text)["tasks"]) == set(CLASSES)


def test_the_report_is_written_again(call, run):
    (run / "report" / "index.html").unlink()
    (run / "metrics.json").unlink()
    code, text = call("report", "--run", run)
    assert code == 0, text
    page = (run / "report" / "index.html").read_text()
    assert "neck" in page and "skirt" in page
    assert not re.search(r"(src|href)=[\"'](https?:)?//", page)  # opens from disk, without a network
    assert (run / "metrics.json").is_file()


def test_the_export_runs_without_this_program(call, home, finished, tmp_path):
    """Follow heatcrop.json by hand: picture, trunk, network, softmax; against stage 1's own predictions."""
    out = tmp_path / "export"
    code, text = call("export", "--run", finished[0], "--out", out)
    assert code == 0, text
    how = json.loads((out / "heatcrop.json").read_text())
    assert set(how["tasks"]) == set(CLASSES)
    form, task = how["input"], how["tasks"][NECK]
    assert form["fit"] == "pad" and form["side_px"] == 96

    def network(name):
        session = onnxruntime.InferenceSession(str(out / name), providers=["CPUExecutionProvider"])
        return lambda x: dict(
            zip([o.name for o in session.get_outputs()], session.run(None, {"data": x}), strict=True)
        )

    trunk, full, crop = (network(n) for n in (how["trunk"], task["full"]["network"], task["crop"]["network"]))
    table = pd.read_csv(finished[0] / NECK / "stage1" / "predictions.csv")
    row = table[table["split"] == "test"].iloc[0]
    picture = read_image(home / "data" / "rank" / row["image"])
    base = framed((0, 0, 160, 160), form["fit"])
    views = (
        [base, View(base.x0, base.y0, base.x1, base.y1, True)] if task["full"]["views"]["flip"] else [base]
    )
    x = np.stack([sample(picture, v, form["side_px"]) for v in views]).astype(np.float32)
    x = ((x / 255 - form["mean"]) / form["std"]).transpose(0, 3, 1, 2).astype(np.float32)
    found = full(trunk(x)["features"])
    assert list(found) == how["outputs"] == ["logits", "maps"]
    np.testing.assert_allclose(
        softmax(found["logits"].mean(axis=0)), split([row["probabilities"]])[0], atol=5e-3
    )
    assert crop(trunk(x)["features"])["logits"].shape == (2, 5)
    assert task["classes"] == list(resolve("neck").classes)
    assert 0 <= task["fusion"]["weight"] <= 1 and task["crop_rule"]["threshold"] == 0.8


def test_export_does_not_write_among_other_files(call, finished, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    code, text = call("export", "--run", finished[0], "--out", tmp_path)
    assert code == 1 and "not an export's" in text
    assert os.listdir(tmp_path) == ["thesis.txt"]
    theirs = tmp_path / "heatcrop.json"
    theirs.write_text('{"tasks": "a list of things to do"}')
    code, text = call("export", "--run", finished[0], "--out", tmp_path)
    assert code == 1 and "was not written by this program" in " ".join(text.split())
    assert theirs.read_text() == '{"tasks": "a list of things to do"}' and len(os.listdir(tmp_path)) == 2


def test_check_tells_the_data_and_the_machine(call):
    code, text = call("check", "--config", "tiny.yaml")
    assert code == 0, text
    assert "MXNet 1.9" in text and "ONNX Runtime" in text and "neck" in text and "skirt" in text
    assert call("check", "--config", "tiny.yaml", "--task", "neck")[1].count("skirt") == 0


def test_check_finds_problems(call, home, tmp_path):
    data = Path(shutil.copytree(home / "data", tmp_path / "data"))
    pictures = sorted((data / "base" / "Images" / NECK).glob("*.jpg"))
    pictures[0].write_bytes(b"")
    shutil.copy(pictures[1], sorted((data / "rank" / "Images" / NECK).glob("*.jpg"))[0])
    code, text = call("check", "--config", "tiny.yaml", "--data", data)
    assert code == 1
    assert "empty (0 bytes)" in text and "byte-identical in two splits" in text and "problems found" in text


def test_check_counts_what_was_there(call, home, tmp_path, monkeypatch):
    monkeypatch.setattr(console, "width", 200)
    data = Path(shutil.copytree(home / "data", tmp_path / "data"))
    base = data / "base" / "Images" / NECK
    first, second, third, fourth = sorted(base.glob("*.jpg"))[:4]
    shutil.copy(first, second)
    for path in (third, fourth):
        path.write_bytes(b"")
    code, text = call("check", "--config", "tiny.yaml", "--data", data, "--task", "neck", "--no-speed")
    row = next(line.split() for line in text.splitlines() if line.startswith(" neck "))
    assert code == 1 and row[-1] == "1", text
    assert sum(map(int, row[1:4])) == (PER_CLASS + TEST_PER_CLASS) * CLASSES[NECK] - 2
    assert "160..160 px" in text and "(2 rows, this is the first)" in text and "expected" not in text
    classes = [line.split() for line in text.splitlines() if "━" in line]
    trained = [int(c[-4]) for c in classes]
    assert len(classes) == CLASSES[NECK] and sum(trained) == int(row[1])
    assert [len(c[-1]) for c in classes] == [int(np.ceil(16 * n / max(trained))) for n in trained]


def test_check_tells_what_a_run_costs(call, monkeypatch, home):
    monkeypatch.setattr(console, "width", 200)
    code, text = call("check", "--config", "tiny.yaml", "--set", "runtime.jobs=1")
    assert code == 0 and re.search(r"about \d+ (s|min) with 1 task at once; \d+ MB stay", text), text
    assert "free on the disk of runs/tiny" in text and "no problems found" in text
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    code, text = call("check", "--config", "tiny.yaml", "--task", "neck")
    assert code == 1 and "the disk is too small" in text and "1 problem found" in text
    code, text = call("check", "--config", "tiny.yaml", "--set", "network.weights=nowhere.params")
    assert code == 1 and "nowhere.params" in text and "Traceback" not in text


def test_expected_work_grows_with_what_is_asked(home):
    """The sum is checked against speeds that are given, not measured."""
    speed = _Speed(read=0.0, cached=1.0, train=0.0, probe=0.0, weights_bytes=0.0, cached_bytes=0.0)
    config = read_config(home / "tiny.yaml")
    data = open_data(config, ["neck"], None).tasks[NECK]
    train, val = len(data.rows("train")), len(data.rows("val"))
    # Both stages cache the two test views (plain and mirrored) of all, and one more of each to learn from.
    assert _seconds(config, data, speed) == 2 * (2 * len(data) + train)
    training = dataclasses.replace(speed, cached=0.0, train=3.0)
    # Two epochs of a final and two fold networks, one epoch of the same three; a third forward.
    expected = 3 * (2 * (2 * train) + 2 * train) + (2 * 3 * val + 3 * val) + 2 * 2 * len(data)
    assert _seconds(config, data, training) == pytest.approx(expected)
    probing = dataclasses.replace(speed, cached=0.0, probe=1.0)
    assert _seconds(config, data, probing) == 0, "no search for this task"


def test_check_leaves_nothing_behind(call, home):
    before = stamps(home)
    call("check", "--config", "tiny.yaml")
    assert stamps(home) == before


# --- TensorBoard


def test_event_files_hold_the_history_when_asked_for(call, run):
    code, text = call(
        "run",
        "--task",
        "neck",
        "--task",
        "skirt",
        "--config",
        "tiny.yaml",
        "--out",
        run,
        "--set",
        "runtime.tensorboard=true",
    )
    assert code == 0 and "tensorboard --logdir" in text
    for stage in ("stage1", "stage3"):
        table = pd.read_csv(run / NECK / stage / "history.csv")
        for network, rows in table.groupby("network"):
            (file,) = (run / NECK / stage / "events" / network.replace(" ", "")).iterdir()
            told = {}
            for record in records(file):
                event = event_pb2.Event.FromString(record)
                told |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
            assert told["val_map", 1] == pytest.approx(rows["val_map"].iloc[0])
            assert len(told) == 5 * len(rows)


def records(file):
    """The records of an event file: length (8 bytes), its checksum (4), the record, its checksum (4)."""
    data, at = file.read_bytes(), 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        yield data[at + 12 : at + 12 + length]
        at += 16 + length


def test_a_missing_event_writer_is_told_before_the_work(call, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    before = stamps(run)
    code, text = call(
        "run", "--task", "neck", "--config", "tiny.yaml", "--out", run, "--set", "runtime.tensorboard=true"
    )
    assert code == 1 and "requirements/tensorboard.txt" in text and stamps(run) == before


# --- mistakes


def told(text, code, *words):
    assert "Traceback" not in text, text
    lines = [line for line in text.splitlines() if "error" in line.casefold()]
    assert len(lines) == 1, text
    for word in words:
        assert word in " ".join(text.split()), text


@pytest.mark.parametrize(
    ("words", "expected", "told_words"),
    [
        (["run", "--config", "tiny.yaml"], 2, ["--all", "--task"]),
        (["run", "--all", "--task", "neck", "--config", "tiny.yaml"], 2, ["--all", "--task"]),
        (["stage", "crop", "--config", "tiny.yaml"], 2, ["--all", "--task"]),
        (["run", "--task", "nekc", "--config", "tiny.yaml"], 1, ["'nekc'", "did you mean neck?"]),
        (["run", "--task", "coat", "--config", "tiny.yaml"], 1, ["coat_length_labels has no usable picture"]),
        (["run", "--all", "--config", "missing.yaml"], 2, ["missing.yaml", "--config"]),
        (["run", "--all", "--config", "tiny.yaml", "--data", "nowhere"], 1, ["nowhere", "--data"]),
        (["run", "--all", "--config", "tiny.yaml", "--set", "crop.rule.thresh=1"], 2, ["crop.rule.thresh"]),
        (["run", "--all", "--config", "tiny.yaml", "--set", "nonsense"], 2, ["--set nonsense", "key=value"]),
        (["run", "--all", "--config", "tiny.yaml", "--out", "data"], 1, ["data", "--out"]),
        (["run", "--all", "--config", "tiny.yaml", "--out", "tiny.yaml"], 1, ["tiny.yaml", "--out"]),
        (["run", "--task", "neck", "--config", "tiny.yaml", "--jobs", "0"], 2, ["--jobs"]),
        (["run", "--frobnicate"], 2, ["--frobnicate"]),
        (["stage", "cut", "--all"], 2, ["cut"]),
        (["frobnicate"], 2, ["frobnicate"]),
        (["check", "--config", "tiny.yaml", "--data", "nowhere"], 1, ["nowhere"]),
        (["report", "--run", "data"], 1, ["data", "not a run folder"]),
        (["export", "--run", "nowhere"], 1, ["nowhere", "not a run folder"]),
        (["predict", "data", "--run", "data", "--out", "p.csv"], 1, ["not a run folder"]),
        (["predict", "data"], 2, ["--run"]),
        (["score", "tiny.yaml", "nowhere.csv"], 1, ["tiny.yaml:1"]),
        (["score", "data/rank/Tests/question.csv", "data/rank/Tests/answer.csv"], 1, ["question.csv:1"]),
    ],
)
def test_a_mistake_is_told_in_one_line(call, home, words, expected, told_words):
    before = stamps(home)
    code, text = call(*words)
    assert code == expected, text
    told(text, code, *told_words)
    leftovers = set(stamps(home)) - set(before)
    assert not {p for p in leftovers if "runs" not in p.parts}
    shutil.rmtree(home / "runs", ignore_errors=True)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere", ["nowhere", "no such picture, folder or CSV"]),
        ("empty", ["empty", "holds no picture"]),
        ("bad", ["no readable picture", "0.jpg"]),
        ("noimage.csv", ["noimage.csv:1", "no column 'image'", "picture"]),
        ("nothing.csv", ["nothing.csv"]),
    ],
)
def test_a_mistaken_source_of_pictures_is_told(call, finished, tmp_path, source, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.jpg").write_bytes(b"x")
    (tmp_path / "noimage.csv").write_text("picture,task\na.jpg,neck\n")
    (tmp_path / "nothing.csv").write_text("")
    code, text = call("predict", tmp_path / source, "--run", finished[0], "--out", tmp_path / "p.csv")
    assert code == 1
    told(text, code, *words)
    assert not (tmp_path / "p.csv").exists()


def test_damaged_runs_are_told(call, run, strangers, tmp_path):
    (run / NECK / "stage3" / "weights.params").unlink()
    code, text = call("predict", strangers, "--run", run, "--out", tmp_path / "p.csv")
    assert code == 1
    told(text, code, "weights.params", "run --task neck")
    (run / "config.yaml").write_text("nmae: x")
    for words in (["report"], ["export"], ["predict", strangers, "--out", tmp_path / "p.csv"]):
        code, text = call(*words, "--run", run)
        assert code == 2
        told(text, code, "config.yaml", "nmae")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on"),
        (RunError("no luck"), 1, "error: no luck"),
        (OSError(28, "No space left on device", "/runs/x"), 1, "error: /runs/x: No space left on device"),
        (
            FileNotFoundError(2, "No such file or directory", "p.jpg"),
            1,
            "p.jpg: No such file or directory; if",
        ),
    ],
)
def test_what_happens_on_the_way_ends_in_one_line_and_a_code(call, monkeypatch, error, code, words):
    def fail(*_args):
        raise error

    monkeypatch.setattr("heatcrop.cli.run.run_stages", fail)
    found, text = call("run", "--all", "--config", "tiny.yaml")
    assert found == code and words in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("dangling", ["dangling: ", "a broken link", "remove it", "--out"]),
        ("loop/x", ["loop/x: ", "a link to itself", "remove it", "--out"]),
        ("file/x", ["file/x: ", "a file is where a folder should be", "--out"]),
    ],
)
def test_a_place_that_can_be_no_folder_is_told_with_what_to_do(call, tmp_path, out, words):
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("mine")
    code, text = call("run", "--all", "--config", "tiny.yaml", "--out", tmp_path / out)
    assert code == 1
    told(text, code, *words)
    assert len(list(tmp_path.iterdir())) == 3 and (tmp_path / "file").read_text() == "mine"


def test_a_run_whose_data_lie_elsewhere_is_told_where_they_were_looked_for(call, home, run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    for root, words in (
        ("pictures", f"which is not in {home}; start the command in the folder where"),
        ("/nowhere/pictures", "which is not there; bring it back"),
    ):
        config["data"]["roots"] = [root]
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        for command in (
            ["report", "--run", run],
            ["fuse", "--run", run, "--run", home / "run", "--out", "e"],
        ):
            code, text = call(*command)
            assert code == 1
            told(text, code, f"data.roots has {root!r}, {words}")
            assert "config.yaml" in text and "--data" not in text


def test_a_fault_of_the_program_is_not_hidden(call, monkeypatch):
    def fail(*_args):
        raise ZeroDivisionError

    monkeypatch.setattr("heatcrop.cli.run.run_stages", fail)
    with pytest.raises(ZeroDivisionError):
        call("run", "--all", "--config", "tiny.yaml")


def test_the_shell_completes_commands_and_tasks():
    script = """
        eval "$(./pipeline.py --show-completion bash)"
        COMP_WORDS=(./pipeline.py run --task co) COMP_CWORD=3
        _pipelinepy_completion ./pipeline.py; echo "${COMPREPLY[@]}"
        COMP_WORDS=(./pipeline.py pre) COMP_CWORD=1
        _pipelinepy_completion ./pipeline.py; echo "${COMPREPLY[@]}"
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PATH": path},
    )
    assert done.stdout.split("\n")[:2] == ["coat collar", "predict"], done.stderr


@pytest.mark.parametrize("command", ["run", "stage", "check", "predict", "score", "fuse"])
def test_help_fits_a_screen_and_shows_how_it_is_called(call, command):
    code, text = call(command, "--help")
    assert code == 0 and len(text.splitlines()) < 50
    assert f"python pipeline.py {command} " in text.partition("Examples:")[2], text


def test_help_answers_without_loading_an_engine():
    code = "import sys; from heatcrop.cli.commands import main; sys.argv = ['x', '--help']; r = main(); "
    code += "raise SystemExit(r or 'mxnet' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in ("run", "stage", "check", "predict", "score", "report", "export", "fuse"):
        assert command in done.stdout


def test_pictures_of_a_folder_are_listed_folder_by_folder(tmp_path):
    names = ["b.jpg", "a/x.JPG", "a.jpg", "a-b/y.png", "a/c/z.jpg", "notes.txt", "trap.jpg/in.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    from heatcrop.predict.images import find_images

    listed = find_images(tmp_path)
    expected = ["a/c/z.jpg", "a/x.JPG", "a-b/y.png", "a.jpg", "b.jpg", "trap.jpg/in.png"]
    assert [image.name for image in listed] == expected
    assert [image.path for image in listed] == [str(tmp_path / image) for image in expected]
