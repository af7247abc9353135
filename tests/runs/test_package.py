"""HeatCrop as a Python package: what the wheel contains, and its command outside the source folder."""

import os
import shutil
import subprocess
import sys
import zipfile

import pandas as pd
import pytest

from heatcrop.runs.folder import RunFolder
from tests.tiny_run import ROOT, TASKS

SOURCES = ("heatcrop", "stage1_cam", "stage2_crop", "stage3_finetune")
NECK = TASKS[0]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the sources, without an index: setuptools is installed."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    for name in (*SOURCES, "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "pipeline.py"):
        shutil.copy(ROOT / name, source / name)
    pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", folder, source)
    (found,) = folder.glob("*.whl")
    return found


def pip(*words, python=sys.executable):
    subprocess.run([python, "-m", "pip", *map(str, words), "--quiet"], check=True, timeout=1800)


@pytest.fixture(scope="module")
def exported(call, home, finished_run):
    code, printed = call("export", "--run", finished_run, "--out", "exported")
    assert code == 0, printed
    return home / "exported"


def test_the_wheel_contains_every_file_of_the_packages(wheel):
    expected = {"pipeline.py", *(f"heatcrop/configs/{path.name}" for path in ROOT.glob("configs/*.yaml"))}
    for name in SOURCES:
        files = (path for path in (ROOT / name).rglob("*") if path.is_file() and path.suffix != ".pyc")
        expected |= {path.relative_to(ROOT).as_posix() for path in files}
    with zipfile.ZipFile(wheel) as files:
        found = {name for name in files.namelist() if ".dist-info/" not in name}
    assert found == expected
    assert {"heatcrop/report/page.html.j2", "heatcrop/report/assets/report.js"} <= found


def check_command(command, home, exported, folder, env):
    """Print help, score and predict with an installed command, in a folder without the source."""

    def run(*words):
        done = subprocess.run(
            [*command, *map(str, words)], cwd=folder, capture_output=True, text=True, timeout=600, env=env
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert "heatcrop predict photos/" in run("--help")
    score = run("score", home / "run" / "submission.csv", home / "data/rank/Tests/answer.csv")
    assert "neck" in score
    images, chosen = home / f"data/rank/Images/{NECK}", ("--task", "neck")
    run("predict", images, "--run", exported, *chosen, "--out", "p.csv")
    answers = pd.read_csv(RunFolder(home / "run").task(NECK).fused_csv).set_index("image")["probabilities"]
    predicted = pd.read_csv(folder / "p.csv").set_index("image")["probabilities"]
    known = {name.rpartition("/")[2]: value for name, value in answers.items()}
    for name, text in predicted.items():
        expected = map(float, known[name.rpartition("/")[2]].split(";"))
        assert list(map(float, text.split(";"))) == pytest.approx(list(expected), abs=2e-4)
    assert "<script" in (folder / "p_gallery" / "index.html").read_text()


def test_the_installed_command_works_outside_the_source_folder(wheel, home, exported, tmp_path):
    pip("install", "--no-deps", "--no-index", "--target", tmp_path / "site", wheel)
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, tmp_path / "site" / "bin" / "heatcrop"]
    check_command(command, home, exported, tmp_path, env)
    done = subprocess.run(
        [*command, "run", "--all", "--dry-run"], cwd=tmp_path, capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr
    assert "configs/demo.yaml" in done.stderr
    assert str(tmp_path / "site" / "heatcrop" / "configs" / "demo.yaml") in done.stderr.replace("\n", "")


@pytest.mark.soak
def test_a_plain_installation_predicts_scores_and_reports_without_a_trainer(wheel, home, exported, tmp_path):
    """In a new environment, with what the metadata asks for; needs a package index."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip("install", wheel, python=python)
    installed = {path.name for path in (tmp_path / "venv").glob("lib/*/site-packages/*")}
    assert not installed & {"mxnet", "gluoncv", "torch", "timm"}
    command = python.with_name("heatcrop")
    check_command([command], home, exported, tmp_path, dict(os.environ))
    (tmp_path / "data").symlink_to(home / "data")
    shutil.copytree(home / "run", tmp_path / "run", symlinks=True)
    (tmp_path / "run" / "report" / "index.html").unlink()
    subprocess.run([command, "report", "--run", "run"], cwd=tmp_path, check=True)
    assert "<script" in (tmp_path / "run" / "report" / "index.html").read_text()
    done = subprocess.run([command, "run", "--all"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install '.[torch]'" in done.stderr
    assert "Traceback" not in done.stderr
