"""An export can be run by hand, as ``heatcrop.json`` describes it."""

import json

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from heatcrop.cli.prediction import read_trained_run
from heatcrop.data.images import read_image
from heatcrop.data.tasks import resolve
from heatcrop.metrics.calibration import softmax
from heatcrop.predict.trained_run import export_run
from heatcrop.runs.folder import RunFolder
from heatcrop.training.views import View, framed, sample
from tests.tiny_run import SIDE_PX, TASKS

NECK = TASKS[0]


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "export"
    export_run(read_trained_run(RunFolder(finished_run)), out)
    return out


@pytest.fixture(scope="module")
def description(exported):
    return json.loads((exported / "heatcrop.json").read_text())


def run_network(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"data": x}), strict=True))


def test_the_description_names_tasks_input_rule_and_fusion(description):
    assert set(description["tasks"]) == set(TASKS)
    assert (description["input"]["fit"], description["input"]["side_px"]) == ("pad", 96)
    task = description["tasks"][NECK]
    assert task["classes"] == list(resolve("neck").classes)
    assert 0 <= task["fusion"]["weight"] <= 1
    assert task["crop_rule"]["threshold"] == 0.8


def test_trunk_network_and_softmax_give_the_runs_predictions(exported, description, tiny_home, finished_run):
    form, task = description["input"], description["tasks"][NECK]
    table = pd.read_csv(finished_run / NECK / "stage1" / "predictions.csv")
    row = table[table["split"] == "test"].iloc[0]
    image = read_image(tiny_home / "data" / "rank" / row["image"])
    base = framed((0, 0, SIDE_PX, SIDE_PX), form["fit"])
    views = [base, View(base.x0, base.y0, base.x1, base.y1, True)]
    x = np.stack(
        [sample(image, view, form["side_px"]) for view in views[: 1 + task["full"]["views"]["flip"]]]
    )
    x = ((x.astype(np.float32) / 255 - form["mean"]) / form["std"]).transpose(0, 3, 1, 2).astype(np.float32)
    features = run_network(exported / description["trunk"], x)["features"]
    full = run_network(exported / task["full"]["network"], features)
    assert list(full) == description["outputs"] == ["logits", "maps"]
    expected = np.array(row["probabilities"].split(";"), float)
    np.testing.assert_allclose(softmax(full["logits"].mean(axis=0)), expected, atol=5e-3)
    assert run_network(exported / task["crop"]["network"], features)["logits"].shape == (len(x), 5)
