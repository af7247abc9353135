"""Settings that change how a run trains: nothing frozen, nothing held out, gradients, divergence."""

import json

import numpy as np
import pandas as pd
import pytest

from heatcrop.runs.folder import RunFolder
from tests.tiny_run import TASKS

NECK = TASKS[0]


def settings(**values):
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def test_all_blocks_are_trained_on_images_that_are_read_live(call, tiny_home, tmp_path, no_plots):
    """Also without validation and test images, where nothing can be scored."""
    out = tmp_path / "live"
    words = ("run", "--task", "neck", "--config", "tiny.yaml", "--out", out, "--jobs", "1")
    small = {"network.frozen_blocks": 0, "network.input_px": 32, "data.limit_per_class": 2, "cam.folds": 1}
    small |= {"data.val_share": 0, "data.splits": "{test: train}", "cam.training.epochs": 1}
    small["finetune.training.epochs"] = 1
    code, printed = call(*words, *settings(**small))
    assert code == 0, printed
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


def test_a_training_that_diverges_names_the_settings_and_a_lower_rate_works(call, run_copy, no_plots):
    words = ["run", "--task", "neck", "--config", "tiny.yaml", "--out", run_copy, "--jobs", 1]
    wild = {"learning_rate": 10, "head_rate": 1e6, "optimizer": "sgd", "weight_decay": 10, "epochs": 8}
    code, printed = call(*words, *settings(**{f"finetune.training.{key}": v for key, v in wild.items()}))
    assert code == 1
    assert "Traceback" not in printed
    error = next(line for line in printed.splitlines() if line.startswith("error: "))
    assert error.startswith("error: neck: the training of stage 3 (final)")
    assert "diverged" in error
    assert "lower finetune.training.learning_rate (it is 10) or finetune.training.head_rate" in error
    assert call(*words)[0] == 0
