"""Several processes train one network as one process does, and end together."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")

from heatcrop.errors import EngineError
from heatcrop.nets.pytorch.group import process_count
from heatcrop.nets.weights.params_file import read_params
from tests.tiny_run import ROOT

# The last batch of an epoch has one row, and the first process none of it.
ROWS = 13
PLANS = {
    "sgd": {"epochs": 3, "batch_size": 6, "optimizer": "sgd", "learning_rate": 0.02, "weight_decay": 1e-3},
    "adam": {"epochs": 3, "batch_size": 6, "average": 0.8, "schedule": "step", "steps": [1]},
    "parts": {"epochs": 6, "batch_size": 13, "accumulate": 3, "optimizer": "sgd", "learning_rate": 0.02},
}
SECONDS = 120


def start(folder, plan, rows, processes):
    """Start a training; its processes find each other on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        if processes > 1:
            env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        words = [sys.executable, "-m", "tests.torch_process", folder, json.dumps(plan), rows]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(list(map(str, words)), cwd=ROOT, env=env, **pipes))
    return started


def finish(processes):
    """Wait for all; return their codes, and what they printed."""
    try:
        printed = [one.communicate(timeout=SECONDS) for one in processes]
    finally:
        for one in processes:
            one.kill()
    return [one.returncode for one in processes], printed


@pytest.mark.parametrize("name", PLANS)
def test_a_batch_gives_the_same_weights_in_one_process_and_in_two(tmp_path, name):
    for count in (1, 2):
        codes, printed = finish(start(tmp_path, PLANS[name], ROWS, count))
        assert codes == [0] * count, printed
    assert printed[1][0] == "served\n"
    one, two = (np.array(json.loads((tmp_path / f"{count}.json").read_text())) for count in (1, 2))
    np.testing.assert_allclose(two, one, rtol=1e-4)
    initial, one, two = (read_params(tmp_path / f"{name}.params") for name in ("initial", 1, 2))
    assert one.keys() == two.keys()
    for key, array in one.items():
        change = np.abs(array - initial[key]).max()
        assert change > 1e-4, key
        np.testing.assert_allclose(two[key], array, atol=5e-3 * change, err_msg=key)


@pytest.mark.parametrize(
    "given",
    [
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": ""},
        {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "x"},
    ],
)
def test_an_incomplete_launcher_is_refused(monkeypatch, given):
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert process_count() == 1
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EngineError, match="start the processes with torchrun, which sets WORLD_SIZE, RANK"):
        process_count()


@pytest.mark.parametrize("dead", [0, 1])
def test_where_one_process_dies_the_other_ends_with_a_message(tmp_path, dead):
    processes = start(tmp_path, {"epochs": 1000, "batch_size": 4, "reload_best": False}, 8, 2)
    try:
        assert processes[0].stdout.readline() == "updated\n"
        processes[dead].kill()
        codes, printed = finish(processes)
    finally:
        for one in processes:
            one.kill()
    text = printed[1 - dead][1]
    assert codes[1 - dead] == 1, text
    assert f"error: process {1 - dead} of 2" in text
    assert "another process of the training has ended or does not answer" in text
    assert "the same command continues" in text
    assert "Traceback" not in text
    assert not (tmp_path / "2.params").exists()
