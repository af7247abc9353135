"""A task with a class that no training image shows, from its heatmaps to predictions and the export."""

import json

import numpy as np
import pytest
import yaml

from heatcrop.cli.run_folders import reload_dataset
from heatcrop.predict.predictor import open_pipeline
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_branches
from tests.conftest import run_command
from tests.tiny_run import CONFIG, draw_pairs

TASK = {"name": "wing", "classes": ["Invisible", "striped", "spotted", "plain"], "kind": "design"}
SHOWN = (0, 1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Images that show a wing, bright above, or none."""
    home = tmp_path_factory.mktemp("absent")
    rows, nowhere = ["image,task,label,split"], (slice(0), slice(0))
    for split, kinds in draw_pairs(home, 60, [nowhere, (slice(20), slice(20, 40))]).items():
        rows += [
            f"{split}{i}.jpg,wing,{TASK['classes'][SHOWN[kind]]},{split}" for i, kind in enumerate(kinds)
        ]
    (home / "annotations.csv").write_text("\n".join(rows) + "\n")
    data = {"source": "files", "roots": ["annotations.csv"], "tasks": [TASK]}
    crop = {"rule": {"threshold": 0.5, "margin": 0.1}, "zoom": 2.0, "search": {"pictures": 0}}
    (home / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"data": data, "crop": crop}))
    return home


@pytest.fixture(scope="module")
def run(home, no_plots):
    code, printed = run_command(
        home, "run", "--all", "--config", "config.yaml", "--out", "run", "--jobs", "1"
    )
    assert code == 0, printed
    assert run_command(home, "export", "--run", "run", "--out", "export")[0] == 0
    return RunFolder(home / "run")


def test_the_classes_that_training_images_show_are_written(run):
    files = run.task("wing")
    assert json.loads(files.trained_classes.read_text()) == list(SHOWN)
    for folder in (run.path, run.path.with_name("export")):
        assert json.loads((folder / "heatcrop.json").read_text())["tasks"]["wing"]["trained"] == list(SHOWN)
    assert "stage1/trained_classes.json" in files.artefacts("cam")


def test_every_image_has_heat_inside(run):
    heatmaps = np.load(run.task("wing").heatmaps)
    assert (heatmaps.max(axis=(1, 2)) > 0).all()


@pytest.mark.parametrize("folder", ["run", "export"])
def test_prediction_makes_the_same_heatmaps(run, folder, monkeypatch):
    monkeypatch.chdir(run.path.parent)
    pipeline = open_pipeline(RunFolder(run.path.with_name(folder)), (), "onnx")
    data = reload_dataset(run).tasks["wing"]
    rows, files = data.rows("test"), run.task("wing")
    (found,) = pipeline.predict(pipeline.tasks, [data.paths[i] for i in rows], data.sizes[rows])
    for made, stored in ((found.heatmaps.maps, files.heatmaps), (found.heatmaps.zoomed, files.zoomed)):
        known = np.load(stored)[rows]
        np.testing.assert_allclose(made, known, atol=1e-3 * known.max())
    np.testing.assert_allclose(found.fused, read_branches(files, data)["fused"][rows], atol=1e-4)
