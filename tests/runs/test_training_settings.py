"""Settings that change how a run trains: nothing frozen, nothing held out, gradients, divergence."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

import stage1_cam.stage
from heatcrop.nets.weights.params_file import read_params
from heatcrop.runs.folder import RunFolder
from stage1_cam.pooling import choose_pooling
from tests.tiny_run import TASKS, parse_probabilities

NECK = TASKS[0]


def settings(**values):
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def test_all_blocks_are_trained_on_images_that_are_read_live(call, tiny_home, tmp_path, no_plots):
    """Also without validation and test images, where nothing can be scored."""
    out = tmp_path / "live"
    words = ("run", "--task", "neck", "--config", "tiny.yaml", "--out", out, "--jobs", "1")
    small = {"network.frozen_blocks": 0, "network.input_px": 32, "data.limit_per_class": 2, "cam.folds": 1}
    small |= {"data.val_share": 0, "data.splits": "{test: train}", "cam.training.epochs": 1}
    small |= {"finetune.training.epochs": 1, "cam.poolings": "[0.25]", "crop.search.pictures": 99}
    code, printed = call(*words, *settings(**small))
    assert code == 0, printed
    for what in (
        "to compare poolings takes 30 images that a network did not train on, and there are 0",
        "the crop rule is not searched",
        "equal weights",
    ):
        assert printed.count(what) == 1
    assert not (out / "trunk").exists()
    assert pd.read_csv(out / NECK / "boxes.csv")["split"].tolist() == ["train"] * 15  # 2 + 1 a class
    assert json.loads((out / "metrics.json").read_text())["tasks"] == {}
    assert (out / "submission.csv").read_text() == ""
    image = next((tiny_home / "data" / "rank").rglob("*.jpg"))
    code, printed = call("predict", image, "--run", out, "--out", tmp_path / "p.csv", "--no-gallery")
    assert code == 0, printed
    assert len(pd.read_csv(tmp_path / "p.csv")) == 1


@pytest.fixture
def neck(run_copy):
    return RunFolder(run_copy).task(NECK)


def test_a_pooling_that_is_clearly_better_is_taken_by_all_networks(
    call, tiny_home, tmp_path, no_plots, monkeypatch
):
    """The compared network is not trained twice, and both engines of prediction pool in the same way."""

    def second(logits, soft, letters, seed):
        assert {len(one) for one in logits.values()} == {len(letters)}
        tried = choose_pooling(logits, soft, letters, seed)
        return [dataclasses.replace(one, chosen=number == 1) for number, one in enumerate(tried)]

    monkeypatch.setattr(stage1_cam.stage, "choose_pooling", second)
    monkeypatch.setattr(stage1_cam.stage, "_MIN_COMPARED_ROWS", 1)
    out = tmp_path / "pooled"
    words = ("run", "--task", "neck", "--config", "tiny.yaml", "--out", out, "--jobs", "1")
    small = {"cam.poolings": "[0.25]", "runtime.keep_cache": "true"}
    code, printed = call(*words, *settings(**small))
    assert code == 0, printed
    assert "0.25 is taken" in printed
    files = RunFolder(out).task(NECK)
    figures = json.loads(files.pooling.read_text())
    train = (pd.read_csv(files.boxes_csv)["split"] != "test").sum()
    assert figures["rows"] < train
    assert [(one["pooling"], one["chosen"]) for one in figures["tried"]] == [(1.0, False), (0.25, True)]
    cache = out / "cache" / NECK / "cam"
    assert files.weights(1, "fold 0").read_bytes() == (cache / "pooling 0.25.params").read_bytes()
    weights = [files.weights(1), files.weights(1, "fold 1"), files.weights(3)]
    assert [read_params(path)["pooling"].tolist() for path in weights] == [[0.25]] * 3
    history = pd.read_csv(files.history(1))
    assert history["network"].value_counts().to_dict() == {"final": 2, "fold 0": 2, "fold 1": 2}
    image, found = next((tiny_home / "data" / "rank").rglob("*.jpg")), {}
    for engine in ("onnx", "mxnet"):
        options = ("--run", out, "--engine", engine, "--no-gallery", "--out", tmp_path / f"{engine}.csv")
        code, printed = call("predict", image, *options)
        assert code == 0, printed
        found[engine] = parse_probabilities(pd.read_csv(tmp_path / f"{engine}.csv")["probabilities"])
    np.testing.assert_allclose(found["onnx"], found["mxnet"], atol=1e-4)
    code, printed = call(*words, *settings(**small))
    assert "up to date" in printed


@pytest.mark.soak
def test_grad_cam_on_the_last_map_gives_cams_heatmaps(call, run_copy, neck, tiny_home, tmp_path):
    """Prediction makes them too; what has no backward pass refuses in one line."""
    heatmaps = np.load(neck.heatmaps)
    options = ("--task", "neck", "--config", "tiny.yaml", "--out", run_copy, "--jobs", "1")
    code, printed = call("run", *options, "--set", "heatmap.method=grad_cam")
    assert code == 0, printed
    np.testing.assert_allclose(np.load(neck.heatmaps), heatmaps, atol=0.02 * heatmaps.max())
    assert neck.network(1).is_file()
    image = next((tiny_home / "data" / "rank" / "Images" / NECK).glob("*.jpg"))
    words = ("predict", image, "--task", "neck", "--run", run_copy, "--no-gallery", "--out")
    code, printed = call(*words, tmp_path / "auto.csv")
    assert code == 0, printed
    fused = pd.read_csv(neck.fused_csv).set_index("image").filter(like=image.name, axis=0)["probabilities"]
    found = pd.read_csv(tmp_path / "auto.csv")["probabilities"]
    np.testing.assert_allclose(
        *(np.array(one.iloc[0].split(";"), float) for one in (found, fused)), atol=1e-4
    )
    for refused in ((*words, tmp_path / "onnx.csv", "--engine", "onnx"), ("export", "--run", run_copy)):
        code, printed = call(*refused)
        assert code == 1
        assert "grad_cam" in printed
        assert printed.count("error") == 1
    assert not (tmp_path / "onnx.csv").exists()
    assert not (run_copy / "export").exists()


def test_a_training_that_diverges_names_the_settings_and_a_lower_rate_works(call, run_copy):
    words = ["stage", "finetune", "--task", "neck", "--config", "tiny.yaml", "--out", run_copy, "--jobs", 1]
    wild = {"learning_rate": 10, "head_rate": 1e6, "optimizer": "sgd", "weight_decay": 10, "epochs": 8}
    code, printed = call(*words, *settings(**{f"finetune.training.{key}": v for key, v in wild.items()}))
    assert code == 1
    assert "Traceback" not in printed
    error = next(line for line in printed.splitlines() if line.startswith("error: "))
    assert error.startswith("error: neck: the training of stage 3 (final)")
    assert "diverged" in error
    assert "lower finetune.training.learning_rate (it is 10) or finetune.training.head_rate" in error
    assert call(*words)[0] == 0


@pytest.mark.parametrize(("start", "same"), [("full_image", True), ("published", False)])
def test_a_crop_network_starts_from_the_full_image_network_s_or_the_published_weights(
    call, run_copy, neck, start, same, no_plots
):
    """A learning rate that changes nothing shows what the training began with."""
    still = {"finetune.training.learning_rate": 1e-9, "finetune.training.epochs": 1, "finetune.start": start}
    words = ("stage", "finetune", "--task", "neck", "--config", "tiny.yaml", "--out", run_copy)
    code, printed = call(*words, "--jobs", "1", *settings(**still))
    assert code == 0, printed
    full, crop = read_params(neck.weights(1)), read_params(neck.weights(3))
    trained = [name for name in full if name.endswith("weight")]
    assert len(trained) > 1
    assert [np.allclose(full[name], crop[name], atol=1e-5) for name in trained] == [same] * len(trained)
