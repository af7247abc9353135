"""Runs that PyTorch trains, alone, after MXNet, or with several processes."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

from heatcrop.cli.config_file import read_config
from heatcrop.cli.prediction import trained_run
from heatcrop.nets.devices import Card, Devices
from heatcrop.nets.inference import open_network
from heatcrop.predict.predictor import open_pipeline
from heatcrop.predict.trained_run import open_networks
from heatcrop.runs.folder import RunFolder
from tests.conftest import without_plots
from tests.tiny_run import TASKS, TINY, parse_probabilities, tiny_run

NECK = TASKS[0]
TORCH = ("--set", "runtime.trainer=torch")


@pytest.fixture(scope="module")
def torch_run(call, home):
    with without_plots():
        code, printed = call("run", "--all", *TINY, "--out", "torch", "--jobs", "1", *TORCH)
    assert code == 0, printed
    return home / "torch"


def test_a_run_has_the_files_of_mxnets(torch_run, finished_run):
    found, expected = (
        {
            path.relative_to(run).as_posix()
            for path in run.rglob("*")
            if path.is_file() and path.suffix != ".jpg"
        }
        for run in (torch_run, finished_run)
    )
    assert found == expected


def test_a_run_learns(torch_run):
    history = pd.read_csv(RunFolder(torch_run).task(NECK).history(3))
    final = history[history["network"] == "final"]
    assert final["train_loss"].iloc[-1] < final["train_loss"].iloc[0]


def test_the_exported_networks_predict_what_the_run_has_predicted(torch_run, call, home):
    images = home / "data" / "rank" / "Images" / NECK
    code, printed = call("predict", images, "--run", "torch", "--task", "neck", "--out", "torch.csv")
    assert code == 0, printed
    found = pd.read_csv(home / "torch.csv").set_index("image")
    fused = pd.read_csv(RunFolder(torch_run).task(NECK).fused_csv).set_index("image")
    names = {name.rpartition("/")[2]: name for name in fused.index}
    known = fused.loc[[names[image.rpartition("/")[2]] for image in found.index], "probabilities"]
    probabilities = parse_probabilities(found["probabilities"])
    np.testing.assert_allclose(probabilities, parse_probabilities(known), atol=2e-4)


def test_a_card_predicts_with_pytorch_where_mxnet_is_not_installed(torch_run, call, home, monkeypatch):
    """PyTorch's CPU stands in for the card."""
    real, card = importlib.util.find_spec, Card(0, "H200", (9, 0), 2**37)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: name != "mxnet" and real(name, *rest))
    monkeypatch.setattr("heatcrop.nets.devices._found", lambda device: Devices(driver=True))
    monkeypatch.setattr(
        "heatcrop.nets.devices._found_for_torch", lambda device: Devices((card,), driver=True)
    )
    images = home / "data" / "rank" / "Images" / NECK
    words = ("predict", images, "--run", "torch", "--task", "neck", "--no-gallery")
    found = []
    for engine, name in (("auto", "PyTorch"), ("onnx", "ONNX Runtime")):
        code, printed = call(*words, "--engine", engine, "--out", f"{engine}.csv")
        assert code == 0, printed
        assert f"a second with {name}" in printed
        found.append(parse_probabilities(pd.read_csv(home / f"{engine}.csv")["probabilities"]))
    np.testing.assert_allclose(*found, atol=2e-4)


@pytest.mark.parametrize(("engine", "device"), [("auto", "auto"), ("auto", "cpu"), ("mxnet", "auto")])
def test_a_run_without_its_description_is_read_where_only_pytorch_is_installed(
    tmp_path, monkeypatch, engine, device
):
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: name != "mxnet" and real(name, *rest))
    monkeypatch.setattr("heatcrop.predict.predictor.find_devices", lambda *options: Devices())
    (tmp_path / "config.yaml").touch()

    def read_run():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pipeline(RunFolder(tmp_path), [], engine, device, read_run)


def test_gradient_maps_are_predicted_without_a_card_where_mxnet_is_not_installed(
    torch_run, call, home, monkeypatch
):
    run = shutil.copytree(torch_run, home / "by_gradient")
    (run / "heatcrop.json").unlink()
    config = RunFolder(run).config
    config.write_text(config.read_text().replace("method: cam\n", "method: grad_cam\n"))
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: name != "mxnet" and real(name, *rest))
    images = home / "data" / "rank" / "Images" / NECK
    code, printed = call("predict", images, "--run", run, "--task", "neck", "--out", "g.csv", "--no-gallery")
    assert code == 0, printed
    assert "a second with PyTorch" in printed


@pytest.mark.parametrize("trainer", ["mxnet", "torch"])
def test_each_engine_opens_the_weights_of_the_other(torch_run, finished_run, trainer):
    """ONNX files of one run against the networks that the other engine builds from its weights."""
    folder = RunFolder(finished_run if trainer == "torch" else torch_run)
    config = read_config(folder.config, [f"runtime.trainer={trainer}"])
    run = trained_run(config, folder)
    _, branches = open_networks(run)
    (task,) = [task for task in run.tasks if task.name == NECK]
    x = np.random.default_rng(0).normal(size=(3, *run.context.feature_shape())).astype(np.float32)
    for network, number in zip(branches(task), (1, 3), strict=True):
        exported = open_network(folder.task(NECK).network(number))
        for one, other in zip(network(x), exported(x), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(other).max()))


def test_pytorch_continues_what_mxnet_has_begun(call, run_copy, home):
    folder = RunFolder(run_copy).task(NECK)
    before = folder.weights(1).read_bytes()
    folder.record("finetune").unlink()
    with without_plots():
        code, printed = call("run", "--task", "neck", *TINY, "--out", run_copy, "--jobs", "1", *TORCH)
    assert code == 0, printed
    assert "neck: cam, crop up to date" in printed
    assert "neck: finetune in" in printed
    assert folder.weights(1).read_bytes() == before
    assert json.loads(RunFolder(run_copy).metrics.read_text())["tasks"][NECK]["fused"]["map"] > 0


def test_several_processes_make_a_run_with_the_same_files(torch_run, home):
    """Started as a launcher does; the second one works in a folder without the data."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "tiny.yaml").write_text((home / "tiny.yaml").read_text())
    words, pipes = tiny_run("two", 2, "runtime.trainer=torch"), {"stdout": subprocess.PIPE, "text": True}
    processes = []
    for rank, folder in enumerate((home, home / "elsewhere")):
        env = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(subprocess.Popen(words, cwd=folder, env=env, stderr=subprocess.STDOUT, **pipes))
    try:
        printed = [one.communicate(timeout=600)[0] for one in processes]
    finally:
        for one in processes:
            one.kill()
    assert [one.returncode for one in processes] == [0, 0], printed
    assert "2 tasks, 1 at once" in printed[0], "the processes train one network together, one after the other"
    assert printed[1] == ""
    assert [path.name for path in (home / "elsewhere").iterdir()] == ["tiny.yaml"]
    names = [
        {
            path.relative_to(run).as_posix()
            for path in run.rglob("*")
            if path.suffix in (".csv", ".params", ".onnx")
        }
        for run in (torch_run, home / "two")
    ]
    assert names[0] == names[1]
    one, two = (pd.read_csv(RunFolder(run).task(NECK).history(1)) for run in (torch_run, home / "two"))
    np.testing.assert_allclose(two["train_loss"], one["train_loss"], rtol=0.2)  # dropout differs
