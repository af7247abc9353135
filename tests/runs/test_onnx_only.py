"""Predict where only requirements/onnx.txt is installed."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import heatcrop.nets.classifier
import heatcrop.nets.gluon.classifier
import heatcrop.predict.predictor
from heatcrop.cli import commands
from heatcrop.cli.config_file import dump_config, read_config
from heatcrop.cli.errors import explain
from heatcrop.cli.prediction import read_trained_run
from heatcrop.data.images import read_image, write_jpeg
from heatcrop.errors import RunError
from heatcrop.files import write_json
from heatcrop.predict.description import read_description
from heatcrop.predict.trained_run import describe_run
from heatcrop.runs.folder import RunFolder
from tests.tiny_run import ROOT, TASKS, file_stamps, parse_probabilities

NECK, LAPEL = TASKS
# What a run may do differently in each task; none of it needs another training.
SETTINGS = (
    "tasks.lapel.cam.heatmap=plain",
    "tasks.lapel.cam.test={scales: [1.0, 1.25], grid: 2}",
    "tasks.neck.finetune.test.flip=false",
)
RULE = {"threshold": 0.85, "invisible": "usual", "usual": [0.5, 0.4, 0.5]}

# Runs a command that finds the named packages only, and prints the modules that were imported.
BARE = """
import importlib.machinery, json, runpy, sys
allowed, *words = json.loads(sys.argv[1])

class Only(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        spec = super().find_spec(name, path, target)
        if spec is None or name.partition(".")[0] in allowed:
            return spec
        places = [spec.origin, *(spec.submodule_search_locations or ())]
        return None if any("site-packages" in str(place) for place in places) else spec

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Only
sys.argv = words
sys.path.insert(0, words[0].rpartition("/")[0])
try:
    runpy.run_path(words[0], run_name="__main__")
finally:
    print("used:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def allowed_imports():
    """Return the import names of the packages in requirements/onnx.txt."""
    locked = (ROOT / "requirements/onnx.txt").read_text()
    names = {name.casefold().replace("_", "-") for name in re.findall(r"^([\w.-]+)==", locked, re.M)}
    assert {"onnxruntime", "numpy", "opencv-python-headless", "scikit-image", "pydantic"} <= names
    assert not names & {"mxnet", "gluoncv", "onnx", "pandas", "scikit-learn", "torch"}
    names.add("opencv-python")  # the same modules, with windows
    return [
        package
        for package, owners in importlib.metadata.packages_distributions().items()
        if {owner.casefold().replace("_", "-") for owner in owners} & names
    ]


def bare(*words, cwd):
    """Run a command as if only requirements/onnx.txt were installed."""
    given = json.dumps([allowed_imports(), str(ROOT / "pipeline.py"), *map(str, words)])
    return subprocess.run(
        [sys.executable, "-c", BARE, given],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["pipeline.py", *map(str, words)])
    return commands.main()


@pytest.fixture(scope="module")
def home(tiny_home, finished_run, tmp_path_factory):
    """A folder with images of several shapes, and a run of two tasks that predict and crop differently."""
    home = tmp_path_factory.mktemp("onnx")
    folder = RunFolder(Path(shutil.copytree(finished_run, home / "run", symlinks=True)))
    folder.config.write_text(dump_config(read_config(folder.config, SETTINGS)))
    for task in (NECK, LAPEL):
        values = json.loads(folder.task(task).rule.read_text())
        write_json(folder.task(task).rule, {**values, "rule": {**values["rule"], **RULE}})
    run = read_trained_run(folder)
    write_json(folder.description, describe_run(run, run.choose(())).as_json(folder.path))
    photos = home / "photos"
    (photos / "sub").mkdir(parents=True)
    tested = sorted((tiny_home / "data" / "rank" / "Images").glob("*/*.jpg"))
    for i, path in enumerate(tested):
        size = ((160, 160), (300, 420), (97, 131), (640, 330))[i % 4]
        write_jpeg(photos / "sub" / f"{i}.jpg", cv2.resize(read_image(path), size))
    cv2.imwrite(str(photos / "grey.png"), cv2.imread(str(tested[0]), cv2.IMREAD_GRAYSCALE))
    (photos / "bad.jpg").write_bytes(b"no image")
    return home


@pytest.fixture(scope="module")
def exported(home):
    """The exported folder, moved away from its run."""
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, "export", "--run", home / "run", "--out", home / "exported first") == 0
    return Path(shutil.move(home / "exported first", home / "exported"))


@pytest.fixture(scope="module")
def by_mxnet(home):
    """Predictions and boxes by MXNet itself, and the number of networks that it ran."""
    runners = []

    def counted(*arguments):
        runners.append(arguments)
        return real(*arguments)

    def refused(path, *_):
        raise AssertionError(f"ONNX Runtime opens {path}")

    before, real = file_stamps(home / "run"), heatcrop.nets.gluon.classifier.mxnet_runner
    out = ("--out", home / "mxnet.csv", "--boxes", home / "mxnet_boxes.csv", "--no-gallery")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heatcrop.nets.gluon.classifier, "mxnet_runner", counted)
        patch.setattr(heatcrop.nets.classifier, "open_network", refused)
        patch.setattr(heatcrop.predict.predictor, "open_network", refused)
        assert call(patch, "predict", home / "photos", "--run", home / "run", "--engine", "mxnet", *out) == 0
    assert file_stamps(home / "run") == before, "predicting writes nothing into a run"
    return read_table(home / "mxnet.csv"), read_table(home / "mxnet_boxes.csv"), len(runners)


def read_table(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def assert_agree(home, by_mxnet, name):
    """Fused probabilities are within 1e-4 of MXNet's own, boxes are the same."""
    expected, boxes, _ = by_mxnet
    found = read_table(home / f"{name}.csv")
    assert found[["image", "task"]].equals(expected[["image", "task"]])
    for task in (NECK, LAPEL):
        ours, theirs = (parse_probabilities(t[t["task"] == task]["probabilities"]) for t in (found, expected))
        assert len(ours) > 10
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)
    pd.testing.assert_frame_equal(read_table(home / f"{name}_boxes.csv"), boxes)


def test_engine_mxnet_runs_a_trunk_and_two_networks_per_task(by_mxnet):
    assert by_mxnet[2] == 1 + 2 * 2


def test_the_test_images_are_really_cropped(by_mxnet):
    boxes = by_mxnet[1]
    cropped = boxes[boxes["fallback"] == ""]
    assert len(cropped) > 0.3 * len(boxes)
    sides = cropped[["x1", "y1"]].astype(int).to_numpy() - cropped[["x0", "y0"]].astype(int).to_numpy()
    assert (sides[:, 0] == sides[:, 1]).all()


@pytest.mark.parametrize(("folder", "engine"), [("exported", "auto"), ("run", "onnx")])
def test_prediction_works_without_mxnet(home, exported, by_mxnet, folder, engine):
    name = f"bare {folder} {engine}"
    out = ("--out", f"{name}.csv", "--boxes", f"{name}_boxes.csv", "--format", "coco")
    done = bare("predict", "photos", "--run", folder, "--engine", engine, *out, cwd=home)
    assert done.returncode == 0, done.stderr
    used = set(done.stdout.partition("used:")[2].split())
    assert used >= {"onnxruntime", "cv2", "pydantic"}
    assert not used & {"mxnet", "gluoncv", "onnx", "pandas", "sklearn", "matplotlib"}
    assert "skipped bad.jpg" in done.stderr
    assert "no gallery" in done.stderr
    assert "Traceback" not in done.stderr
    assert_agree(home, by_mxnet, name)


@pytest.mark.parametrize("folder", ["run", "exported"])
def test_onnx_and_mxnet_installed_side_by_side_agree(home, exported, by_mxnet, monkeypatch, folder):
    name = f"beside {folder}"
    out = ("--out", home / f"{name}.csv", "--boxes", home / f"{name}_boxes.csv")
    assert call(monkeypatch, "predict", home / "photos", "--run", home / folder, *out) == 0
    assert (home / f"{name}_gallery" / "index.html").is_file()
    assert_agree(home, by_mxnet, name)


def test_a_run_without_its_description_is_described_by_its_configuration(
    home, by_mxnet, tmp_path, monkeypatch
):
    run = Path(shutil.copytree(home / "run", tmp_path / "run"))
    (run / "heatcrop.json").unlink()
    name = "undescribed"
    out = ("--out", home / f"{name}.csv", "--boxes", home / f"{name}_boxes.csv", "--no-gallery")
    assert call(monkeypatch, "predict", home / "photos", "--run", run, "--engine", "onnx", *out) == 0
    assert_agree(home, by_mxnet, name)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("predict", "photos", "--run", "run", "--out", "x.csv", "--engine", "mxnet"), "make install"),
        (("predict", "photos", "--run", "undescribed", "--out", "x.csv"), "export it there"),
        (("run", "--all"), "make install"),
        (("check",), "make install"),
    ],
)
def test_what_needs_more_packages_is_refused_in_one_line(home, exported, words, expected):
    (home / "undescribed").mkdir(exist_ok=True)
    shutil.copy(home / "run" / "config.yaml", home / "undescribed" / "config.yaml")
    done = bare(*words, cwd=home)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1
    assert not (home / "x.csv").exists()


def test_an_import_of_our_own_that_fails_is_a_fault_of_the_program():
    assert explain(ModuleNotFoundError("No module named 'heatcrop.nothing'", name="heatcrop.nothing")) is None


def test_mxnet_is_refused_for_an_exported_folder(home, exported, monkeypatch, capsys):
    given = ("--run", exported, "--out", home / "y.csv", "--engine", "mxnet")
    assert call(monkeypatch, "predict", home / "photos", *given) == 1
    assert "only ONNX Runtime" in " ".join(capsys.readouterr().err.split())


def test_an_interrupted_export_is_reported_and_can_be_repeated(home, exported, tmp_path, monkeypatch, capsys):
    out, real = tmp_path / "out", shutil.copyfile
    words = ("export", "--run", home / "run", "--out", out)

    def full(source, to):
        if "stage3" in str(to):
            Path(to).write_bytes(b"half")
            raise OSError(28, "No space left on device", str(to))
        return real(source, to)

    for _ in range(2):  # into a new folder, and over a complete export
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shutil, "copyfile", full)
            assert call(monkeypatch, *words) == 1
        assert "make room" in " ".join(capsys.readouterr().err.split())
        with pytest.raises(RunError, match="export was interrupted"):
            read_description(out / "heatcrop.json")
        (out / ".trunk.onnx.1-1.partial").write_bytes(b"half")  # as a killed process leaves one
        assert call(monkeypatch, *words) == 0
        (out / ".trunk.onnx.1-1.partial").unlink()
        assert {p.name: p.read_bytes() for p in out.iterdir()} == {
            p.name: p.read_bytes() for p in exported.iterdir()
        }


# --- the description


def test_an_export_describes_what_the_run_did(home, exported):
    values = json.loads((exported / "heatcrop.json").read_text())
    neck, lapel = (values["tasks"][name] for name in (NECK, LAPEL))
    rule = json.loads((home / "run" / NECK / "rule.json").read_text())["rule"]
    assert values["input"]["side_px"] == 96
    assert values["trunk"] == "trunk.onnx"
    assert neck["invisible"] == 0
    assert neck["crop_rule"] == rule
    assert RULE.items() <= rule.items()
    assert neck["crop"]["views"]["flip"] is False
    assert lapel["full"]["views"]["scales"] == [1.0, 1.25]
    assert lapel["heatmap"] == "plain"


def test_an_export_differs_from_its_run_in_the_paths_of_networks_only(home, exported):
    run, export = (read_description(home / folder / "heatcrop.json") for folder in ("run", "exported"))
    assert export.input == run.input
    for own, copied in zip(run.networks(), export.networks(), strict=True):
        assert own.read_bytes() == copied.read_bytes()
    for name, one in run.tasks.items():
        named = {"full": one.full, "crop": one.crop}
        assert export.tasks[name].model_copy(update=named) == one
        assert export.tasks[name].full.views == one.full.views
    assert {p.name for p in exported.iterdir()} == {
        "heatcrop.json",
        "MODEL_CARD.md",
        "trunk.onnx",
        *(f"{t}.stage{n}.onnx" for t in (NECK, LAPEL) for n in (1, 3)),
    }


def test_a_run_has_no_description_while_it_works(tiny_home, run_copy, monkeypatch):
    """A killed run must not leave a description of networks that are gone."""
    monkeypatch.chdir(tiny_home)
    description = run_copy / "heatcrop.json"
    words = ("stage", "crop", "--task", "neck", "--config", "tiny.yaml", "--out", run_copy, "--jobs", "1")
    before = description.stat().st_mtime_ns
    assert call(monkeypatch, *words) == 0
    assert description.stat().st_mtime_ns == before, "nothing was to be done"
    seen = []

    def interrupted(*_):
        seen.append(description.exists())
        raise KeyboardInterrupt

    monkeypatch.setattr("heatcrop.cli.runner.StageRunner.perform", interrupted)
    assert call(monkeypatch, *words, "--set", "crop.rule.threshold=0.5") == 130
    assert seen == [False]
    assert not description.exists()


def test_a_damaged_network_is_reported(home, exported, tmp_path, monkeypatch, capsys):
    folder = Path(shutil.copytree(exported, tmp_path / "exported"))
    network = folder / f"{LAPEL}.stage3.onnx"
    network.write_bytes(network.read_bytes()[:1000])
    code = call(monkeypatch, "predict", home / "photos", "--run", folder, "--out", tmp_path / "x.csv")
    text = " ".join(capsys.readouterr().err.split())
    assert code == 1
    assert f"{network}: was changed since the export" in text
    assert "Traceback" not in text
    assert not (tmp_path / "x.csv").exists()
