"""A trained pipeline outlives MXNet: prediction where only requirements/onnx.txt is installed."""

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
import yaml

import heatcrop.nets.classifier
import heatcrop.predict.predictor
from heatcrop.cli import commands
from heatcrop.cli.errors import explain
from heatcrop.data.images import read_image, write_jpeg
from heatcrop.errors import RunError
from heatcrop.predict.description import read_description
from heatcrop.rendered import write_dataset
from heatcrop.runs.predictions import split

ROOT = Path(__file__).parents[2]
NECK, SKIRT = "neck_design_labels", "skirt_length_labels"

# Runs a command where what is not named cannot be found, as if it were not installed, and says what was used.
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
    """What the packages of requirements/onnx.txt call themselves."""
    locked = (ROOT / "requirements/onnx.txt").read_text()
    names = {name.casefold().replace("_", "-") for name in re.findall(r"^([\w.-]+)==", locked, re.M)}
    assert {"onnxruntime", "numpy", "opencv-python-headless"} <= names
    assert not names & {"mxnet", "gluoncv", "onnx", "pandas", "scipy", "torch"}
    names.add("opencv-python")  # the same modules, with windows
    return [
        package
        for package, owners in importlib.metadata.packages_distributions().items()
        if {owner.casefold().replace("_", "-") for owner in owners} & names
    ]


def bare(*words, cwd):
    """Run a command as if nothing but requirements/onnx.txt were installed."""
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
def home(tmp_path_factory):
    """A finished run of two tasks that crop differently, its export, and pictures of several shapes."""
    home = tmp_path_factory.mktemp("onnx")
    write_dataset(home / "data", 6, 2, 0, (NECK, SKIRT), workers=1, side_px=160)
    config = {
        "name": "tiny",
        "data": {"source": "files", "roots": [str(home / "data")]},
        "network": {"frozen_blocks": 16, "input_px": 96},
        "cam": {"training": {"epochs": 1, "learning_rate": 0.003}, "views": 1, "folds": 1},
        "crop": {
            "rule": {"threshold": 0.85, "margin": 0.0, "least_contrast": 0.0, "invisible": "usual"},
            "search": {"pictures": 0},
        },
        "tasks": {
            "skirt": {"cam": {"heatmap": "plain", "test": {"scales": [1.0, 1.25], "grid": 2}}},
            "neck": {"finetune": {"test": {"flip": False}}},
        },
        "finetune": {"training": {"epochs": 1}, "views": 1},
    }
    (home / "tiny.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "pipeline.py"),
            "run",
            "--task",
            "neck",
            "--task",
            "skirt",
            "--config",
            "tiny.yaml",
            "--out",
            "run",
        ],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    photos = home / "photos"
    (photos / "sub").mkdir(parents=True)
    tested = sorted((home / "data" / "rank" / "Images").glob("*/*.jpg"))
    for i, path in enumerate(tested[::2]):
        size = ((160, 160), (300, 420), (97, 131), (640, 330))[i % 4]
        write_jpeg(photos / "sub" / f"{i}.jpg", cv2.resize(read_image(path), size))
    cv2.imwrite(str(photos / "grey.png"), cv2.imread(str(tested[0]), cv2.IMREAD_GRAYSCALE))
    (photos / "bad.jpg").write_bytes(b"no picture")
    return home


@pytest.fixture(scope="module")
def exported(home):
    """The exported folder, moved away from its run."""
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, "export", "--run", home / "run", "--out", home / "exported first") == 0
    return Path(shutil.move(home / "exported first", home / "exported"))


def stamps(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def by_mxnet(home):
    """What MXNet itself says: answers, boxes; and how many networks it ran, ONNX Runtime none."""
    runners = []

    def counted(*arguments):
        runners.append(arguments)
        return real(*arguments)

    def refused(path):
        raise AssertionError(f"ONNX Runtime was asked to open {path}")

    before, real = stamps(home / "run"), heatcrop.nets.classifier.mxnet_runner
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heatcrop.nets.classifier, "mxnet_runner", counted)
        patch.setattr(heatcrop.nets.classifier, "open_network", refused)
        patch.setattr(heatcrop.predict.predictor, "open_network", refused)
        code = call(
            patch,
            "predict",
            home / "photos",
            "--run",
            home / "run",
            "--out",
            home / "mxnet.csv",
            "--engine",
            "mxnet",
            "--boxes",
            home / "mxnet_boxes.csv",
            "--no-gallery",
        )
    assert code == 0
    assert stamps(home / "run") == before, "predicting writes nothing into a run"
    return answers(home / "mxnet.csv"), answers(home / "mxnet_boxes.csv"), runners


def answers(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def agree(home, by_mxnet, name):
    """Fused probabilities within 1e-4 of MXNet's own, boxes the same."""
    expected, boxes, _ = by_mxnet
    found = answers(home / f"{name}.csv")
    assert found[["image", "task"]].equals(expected[["image", "task"]])
    for task in (NECK, SKIRT):
        ours, theirs = (split(t[t["task"] == task]["probabilities"].tolist()) for t in (found, expected))
        assert len(ours) > 10
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)
    pd.testing.assert_frame_equal(answers(home / f"{name}_boxes.csv"), boxes)


def test_engine_mxnet_is_mxnet(by_mxnet):
    _, boxes, runners = by_mxnet
    assert len(runners) == 1 + 2 * 2, "a trunk, and two networks a task"
    cut = (boxes["fallback"] == "").mean()
    assert cut > 0.3, f"this test wants pictures that are really cropped, not {cut:.0%}"
    sides = boxes[["x1", "y1"]].astype(int).to_numpy() - boxes[["x0", "y0"]].astype(int).to_numpy()
    assert (sides[boxes["fallback"] == ""][:, 0] == sides[boxes["fallback"] == ""][:, 1]).all()


@pytest.mark.parametrize(("folder", "engine"), [("exported", "onnx"), ("exported", "auto"), ("run", "onnx")])
def test_the_whole_method_runs_without_mxnet(home, exported, by_mxnet, folder, engine):
    name = f"bare {folder} {engine}"
    done = bare(
        "predict",
        "photos",
        "--run",
        folder,
        "--out",
        f"{name}.csv",
        "--boxes",
        f"{name}_boxes.csv",
        "--engine",
        engine,
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    used = done.stdout.partition("used:")[2].split()
    assert "onnxruntime" in used and "cv2" in used
    assert not set(used) & {"mxnet", "gluoncv", "onnx", "pandas", "scipy", "sklearn", "skimage", "matplotlib"}
    assert "bad.jpg" in done.stderr and "no gallery" in done.stderr and "Traceback" not in done.stderr
    agree(home, by_mxnet, name)


def test_onnx_and_mxnet_installed_side_by_side_agree_too(home, exported, by_mxnet, monkeypatch):
    for folder in ("run", "exported"):
        name = f"beside {folder}"
        out = ("--out", home / f"{name}.csv", "--boxes", home / f"{name}_boxes.csv")
        assert call(monkeypatch, "predict", home / "photos", "--run", home / folder, *out) == 0
        assert (home / f"{name}_gallery" / "index.html").is_file()
        agree(home, by_mxnet, name)


def test_a_run_without_its_description_is_described_by_its_configuration(
    home, by_mxnet, tmp_path, monkeypatch
):
    run = Path(shutil.copytree(home / "run", tmp_path / "run"))
    (run / "heatcrop.json").unlink()
    name = "undescribed"
    out = ("--out", home / f"{name}.csv", "--boxes", home / f"{name}_boxes.csv", "--no-gallery")
    assert call(monkeypatch, "predict", home / "photos", "--run", run, "--engine", "onnx", *out) == 0
    agree(home, by_mxnet, name)


def test_what_needs_more_than_onnx_runtime_is_told(home, exported):
    (home / "undescribed").mkdir(exist_ok=True)
    shutil.copy(home / "run" / "config.yaml", home / "undescribed" / "config.yaml")
    for words, expected in (
        (("predict", "photos", "--run", "run", "--out", "x.csv", "--engine", "mxnet"), "make install"),
        (("predict", "photos", "--run", "undescribed", "--out", "x.csv"), "export it there"),
        (("run", "--all"), "make install"),
        (("check",), "make install"),
    ):
        done = bare(*words, cwd=home)
        assert done.returncode == 1 and expected in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and len(done.stderr.split("error:")) == 2
    assert not (home / "x.csv").exists()


def test_an_import_of_our_own_that_fails_is_a_fault_of_the_program():
    assert explain(ModuleNotFoundError("No module named 'heatcrop.nothing'", name="heatcrop.nothing")) is None


@pytest.mark.parametrize("engine", ["mxnet"])
def test_an_exported_folder_holds_nothing_for_mxnet(home, exported, monkeypatch, capsys, engine):
    code = call(
        monkeypatch,
        "predict",
        home / "photos",
        "--run",
        exported,
        "--out",
        home / "y.csv",
        "--engine",
        engine,
    )
    assert code == 1 and "only ONNX Runtime" in " ".join(capsys.readouterr().err.split())


def test_an_export_that_was_broken_off_is_told_and_done_again(home, exported, tmp_path, monkeypatch, capsys):
    out, real = tmp_path / "out", shutil.copyfile
    words = ("export", "--run", home / "run", "--out", out)

    def full(source, to):
        if "stage3" in str(to):
            Path(to).write_bytes(b"half")
            raise OSError(28, "No space left on device", str(to))
        return real(source, to)

    for _ in range(2):  # into a new folder, and over a whole export
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shutil, "copyfile", full)
            assert call(monkeypatch, *words) == 1
        assert "make room" in " ".join(capsys.readouterr().err.split())
        with pytest.raises(RunError, match="export was broken off"):
            read_description(out / "heatcrop.json")
        (out / ".trunk.onnx.1-1.partial").write_bytes(b"half")  # as a killed process leaves one
        assert call(monkeypatch, *words) == 0
        (out / ".trunk.onnx.1-1.partial").unlink()
        assert {p.name: p.read_bytes() for p in out.iterdir()} == {
            p.name: p.read_bytes() for p in exported.iterdir()
        }


# --- the description


def test_the_description_says_what_the_run_did(home, exported):
    told = json.loads((exported / "heatcrop.json").read_text())
    assert told["input"]["side_px"] == 96 and told["trunk"] == "trunk.onnx"
    neck, skirt = (told["tasks"][name] for name in (NECK, SKIRT))
    assert neck["invisible"] == 0 and neck["crop_rule"]["invisible"] == "usual"
    assert neck["crop"]["views"]["flip"] is False and skirt["full"]["views"]["scales"] == [1.0, 1.25]
    assert skirt["heatmap"] == "plain"
    rule = json.loads((home / "run" / NECK / "rule.json").read_text())["rule"]
    assert neck["crop_rule"] == rule and rule["usual"] is not None
    by_name = {one.task.name: one for one in read_description(home / "run" / "heatcrop.json")}
    for one in read_description(exported / "heatcrop.json"):
        own = by_name[one.task.name]
        for part in ("task", "form", "full_views", "heatmap", "rule", "crop_views", "fusion"):
            assert getattr(one, part) == getattr(own, part), part
        assert one.full.read_bytes() == own.full.read_bytes() and own.full.name == "network.onnx"
    assert {p.name for p in exported.iterdir()} == {
        "heatcrop.json",
        "trunk.onnx",
        *(f"{t}.stage{n}.onnx" for t in (NECK, SKIRT) for n in (1, 3)),
    }


def test_a_run_that_works_has_no_description(home, tmp_path, monkeypatch):
    """What is killed in between must not leave a description of networks that are gone."""
    run = Path(shutil.copytree(home / "run", tmp_path / "run"))
    options = ("--task", "neck", "--config", home / "tiny.yaml", "--out", run)
    before = (run / "heatcrop.json").stat().st_mtime_ns
    assert call(monkeypatch, "run", *options) == 0
    assert (run / "heatcrop.json").stat().st_mtime_ns == before, "nothing was to be done"
    seen = []

    def broken_off(*_):
        seen.append((run / "heatcrop.json").exists())
        raise KeyboardInterrupt

    monkeypatch.setattr("heatcrop.cli.run.in_turn", broken_off)
    changed = (*options, "--set", "crop.rule.threshold=0.5", "--jobs", "1")
    assert call(monkeypatch, "stage", "crop", *changed) == 130
    assert seen == [False] and not (run / "heatcrop.json").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: told["input"].update(side_px="large"), "input.side_px: is 'large'; expected int"),
        (lambda told: told["input"].update(side_px=0), "input.side_px: is 0; expected 1 to 8192"),
        (lambda told: told["input"].update(mean=[1, 2]), "input.mean: is [1, 2]; expected 3 numbers"),
        (lambda told: told["input"].update(std=[1, 0, 1]), "is [1, 0, 1]; expected 3 numbers above 0"),
        (lambda told: told["input"].pop("fit"), "input.fit: is missing; expected str"),
        (lambda told: told.update(tasks={}), "tasks is empty"),
        (lambda told: told.update(format=99), "format is 99; this program reads 1"),
        (lambda told: told["tasks"][NECK].update(heatmap="hot"), f"tasks.{NECK}.heatmap: is 'hot'"),
        (lambda told: told["tasks"][NECK].update(classes=["one"]), "at least two"),
        (lambda told: told["tasks"][NECK]["crop_rule"].update(treshold=1), "holds 'treshold'"),
        (lambda told: told["tasks"][NECK]["fusion"].update(weight="much"), "fusion.weight: is 'much'"),
        (lambda told: told["tasks"][NECK]["fusion"].update(weight=float("nan")), "fusion.weight: is nan"),
        (lambda told: told["tasks"][NECK]["crop_rule"].update(usual=["x"]), "crop_rule.usual: is ['x']"),
        (lambda told: told["tasks"][NECK]["crop_rule"].update(enabled=1), "enabled: is 1; expected bool"),
        (lambda told: told["tasks"][NECK]["full"]["views"].update(scales=[]), "full.views.scales: is []"),
        (lambda told: told["tasks"][NECK].update(full=3), f"tasks.{NECK}.full: is 3; expected a section"),
        (lambda told: told["tasks"][NECK]["full"].update(network="../a.onnx"), "a file beside this one"),
        (lambda told: told["tasks"][NECK]["full"].update(network="gone.onnx"), "gone.onnx: the network"),
    ],
)
def test_a_damaged_description_is_told(exported, tmp_path, change, words):
    folder = Path(shutil.copytree(exported, tmp_path / "exported"))
    told = json.loads((folder / "heatcrop.json").read_text())
    change(told)
    (folder / "heatcrop.json").write_text(json.dumps(told))
    with pytest.raises(RunError, match=re.escape(words)) as error:
        read_description(folder / "heatcrop.json")
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_damaged_network_is_told(home, exported, tmp_path, monkeypatch, capsys):
    folder = Path(shutil.copytree(exported, tmp_path / "exported"))
    network = folder / f"{SKIRT}.stage3.onnx"
    network.write_bytes(network.read_bytes()[:1000])
    code = call(monkeypatch, "predict", home / "photos", "--run", folder, "--out", tmp_path / "x.csv")
    text = " ".join(capsys.readouterr().err.split())
    assert code == 1 and f"{network}: cannot be opened as a network" in text and "Traceback" not in text
    assert not (tmp_path / "x.csv").exists()


def test_a_description_that_is_no_json_is_told(tmp_path):
    (tmp_path / "heatcrop.json").write_text("{")
    with pytest.raises(RunError, match=r"heatcrop\.json: is not valid JSON"):
        read_description(tmp_path / "heatcrop.json")
    (tmp_path / "heatcrop.json").write_text("[]")
    with pytest.raises(RunError, match="expected a section"):
        read_description(tmp_path / "heatcrop.json")
