"""Two workers, a server and a scheduler on loopback train what one process trains with the joint batch."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from learning.branch import fit
from learning.checkpoint import Checkpoint
from learning.engine import EngineError, mxnet
from learning.network import build_classifier
from learning.team import role, team
from learning.train import TrainingPlan
from program import commands
from program.cluster import host_commands
from program.errors import UsageError
from runfolder.predictions import read_predictions
from soak.killing import make_home

ROOT, SECONDS = Path(__file__).parent.parent, 300
SHAPE, CLASSES, ROWS = (3, 6, 6), 3, 21
# 21 rows in batches of 10: the last one has a single row, and the second worker has none of it.
PLANS = {
    "sgd": {"optimizer": "sgd", "learning_rate": 0.05, "weight_decay": 0.01},
    "average": {"learning_rate": 0.01, "average": 0.8, "warmup": 1.0},
    "step": {"learning_rate": 0.01, "schedule": "step", "steps": (1, 2), "head_rate": 2.0},
    "norm": {
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "epochs": 1,
        "batch_size": ROWS + 1,
        "reload_best": False,
    },
}


def network(normed, n_classes=CLASSES):
    mx = mxnet()
    mx.random.seed(7)
    block = mx.gluon.nn.HybridSequential()
    block.add(mx.gluon.nn.Conv2D(5, 3, in_channels=3, activation="relu"))
    if normed:
        block.add(mx.gluon.nn.BatchNorm(in_channels=5))
    block.initialize(mx.init.Xavier())
    return build_classifier([block], SHAPE, n_classes, 0.0, 0)


class Rows:
    """Inputs that remember which rows they were asked for."""

    shape, n_views = SHAPE, 1

    def __init__(self):
        self.x = np.random.default_rng(0).normal(size=(ROWS + 9, *SHAPE)).astype(np.float32)
        self.read = []

    def training(self, epoch, order, size):
        for start in range(0, len(order), size):
            index = order[start : start + size]
            self.read.append(index.tolist())
            yield self.x[index], index

    def testing(self, index, size, plain=False):
        yield self.x[index][:, None], index


def trained(name, together=None, checkpoint=None):
    """Train by one of the plans; weights by place, history without seconds, and the rows that were read."""
    net, rows = network(name == "norm"), Rows()
    truth = np.random.default_rng(1).integers(0, CLASSES, len(rows.x))
    soft = np.eye(CLASSES, dtype=np.float32)[truth]
    if together is not None and together.rank:  # what the first worker has is what counts
        for p in net.collect_params().values():
            p.set_data(p.data() + 1)
    plan = TrainingPlan(**{"epochs": 3, "batch_size": 10, **PLANS[name]})
    history = fit(
        net, rows, soft, (2 * soft).astype(np.int8), np.arange(ROWS), np.arange(ROWS, ROWS + 9), plan, 0,
        name, checkpoint=checkpoint, team=together,
    )  # fmt: skip
    weights = [p.data().asnumpy() for p in net.collect_params().values()]
    figures = [[row[k] for k in ("learning_rate", "train_loss", "val_loss", "val_map")] for row in history]
    return weights, np.array(figures), rows.read


@contextlib.contextmanager
def programs(commands, cwd=ROOT, **environment):
    """Start a scheduler, a server and two workers on a free port of loopback; ended in any case."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"DMLC_PS_ROOT_URI": "127.0.0.1", "DMLC_PS_ROOT_PORT": str(port), "DMLC_NUM_SERVER": "1",
             "DMLC_NUM_WORKER": "2", "DMLC_INTERFACE": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
             "PS_HEARTBEAT_TIMEOUT": "4", **environment}  # fmt: skip
    started = []
    try:
        for kind in ("scheduler", "server", "worker", "worker"):
            started.append(
                subprocess.Popen(commands, env={**os.environ, **place, "DMLC_ROLE": kind}, text=True, cwd=cwd,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
            )  # fmt: skip
        yield started
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()


def member(folder):
    """What a worker of the test's team does."""
    together = team()
    for name in PLANS:
        weights, figures, read = trained(name, together)
        told = [len(read), *(np.array(rows, int) for rows in read)]
        np.savez(folder / f"{name}{together.rank}", figures, *told, *weights)
    together.same(4, "legs")
    together.tell({"a": ["é", 1]}) if together.rank == 0 else print("heard", together.hear())
    if together.rank == 0:  # a training that is done is taken from the checkpoint, by all
        trained("sgd", None, Checkpoint(folder / "done", "mark"))
    together.sum([0.0])
    again, _, read = trained("sgd", together, Checkpoint(folder / "done", "mark"))
    np.savez(folder / f"again{together.rank}", *again)
    assert read == []
    together.part()


def load(path):
    with np.load(path) as file:
        figures, count, *arrays = file.values()
    return figures, [rows.tolist() for rows in arrays[: int(count)]], arrays[int(count) :]


def test_two_workers_end_with_the_weights_of_one_process(tmp_path):
    with programs([sys.executable, __file__, str(tmp_path)]) as (scheduler, server, *workers):
        said = [worker.communicate(timeout=SECONDS)[0] for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], said
        assert sum("heard {'a': ['é', 1]}" in text for text in said) == 1
        assert [process.wait(timeout=SECONDS) for process in (scheduler, server)] == [0, 0]
    for name in PLANS:
        (figures, read, weights), (other_figures, other_read, other) = (
            load(tmp_path / f"{name}{rank}.npz") for rank in (0, 1)
        )
        for a, b in zip(weights, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)
        np.testing.assert_array_equal(figures, other_figures)
        if name == "norm":
            continue
        expected, alone, joint = trained(name)
        np.testing.assert_allclose(figures, alone, rtol=1e-4, err_msg=name)
        moved = max(np.abs(a - b.data().asnumpy()).max() for a, b in
                    zip(expected, network(False).collect_params().values(), strict=True))  # fmt: skip
        for a, b in zip(weights, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=name)
        assert moved > 1e-2
        # Each row is read once an epoch, by one of them, in the batch that one process has it in.
        assert len(joint) == 9 and len(read) == 9 and len(other_read) == 6
        other_read = [rows for e in range(3) for rows in (*other_read[2 * e : 2 * e + 2], [])]
        for whole, mine, yours in zip(joint, read, other_read, strict=True):
            assert sorted(mine + yours) == sorted(whole) and abs(len(mine) - len(yours)) <= 1
    batch_norm_is_each_workers_own(tmp_path)
    expected = trained("sgd")[0]
    for rank in (0, 1):
        with np.load(tmp_path / f"again{rank}.npz") as file:
            for a, b in zip(file.values(), expected, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-6)


def batch_norm_is_each_workers_own(folder):
    """One step by hand: each share is normalised by itself, gradients add up, running figures are a mean."""
    mx = mxnet()
    _, mine, weights = load(folder / "norm0.npz")
    _, yours, _ = load(folder / "norm1.npz")
    x = Rows().x
    y = np.eye(CLASSES)[np.random.default_rng(1).integers(0, CLASSES, len(x))]
    nets = [network(True) for _ in range(2)]
    for net, (rows,) in zip(nets, (mine, yours), strict=True):
        with mx.autograd.record():
            loss = mx.gluon.loss.SoftmaxCELoss(sparse_label=False)(
                net(mx.nd.array(x[rows])), mx.nd.array(y[rows])
            )
        loss.backward()
    first, second = (list(net.collect_params().values()) for net in nets)
    running = 0
    for a, b, found in zip(first, second, weights, strict=True):
        if a.grad_req == "null":
            assert np.abs(a.data().asnumpy() - b.data().asnumpy()).max() > 1e-4
            expected, running = (a.data() + b.data()).asnumpy() / 2, running + 1
        else:  # Nesterov's first step is of gradient and momentum; the rate is the cosine's first
            expected = a.data().asnumpy() - 0.05 * 1.9 * (a.grad() + b.grad()).asnumpy() / ROWS
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert running == 2


def test_when_a_worker_dies_the_others_end_and_say_so(tmp_path):
    with programs([sys.executable, __file__, str(tmp_path), "die"]) as (scheduler, server, *workers):
        said = [process.communicate(timeout=SECONDS)[0] for process in (*workers, scheduler)]
        server.wait(timeout=SECONDS)
        codes = sorted(worker.returncode for worker in workers)
    assert codes == [-signal.SIGKILL, 1], said
    assert sum("a process of the team is gone; the same commands" in text for text in said) == 2, said
    assert scheduler.returncode == 1


def test_a_run_of_two_workers_is_that_of_one(tmp_path):
    """From pictures to fused predictions, with a linear layer behind a frozen trunk: nothing but rounding."""
    make_home(tmp_path)
    words = [sys.executable, str(ROOT / "pipeline.py"), "run", "--task", "neck", "--config", "tiny.yaml",
             "--jobs", "1", "--set", "network.frozen_blocks=-1", "--set", "network.dropout=0",
             "--set", "cam.training.batch_size=7", "--out"]  # fmt: skip
    alone = subprocess.run([*words, "alone"], cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS,
                           env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    with programs([*words, "run"], tmp_path) as (scheduler, server, *workers):
        said = [worker.communicate(timeout=SECONDS)[0] for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], said
        assert [process.wait(timeout=SECONDS) for process in (scheduler, server)] == [0, 0]
    assert sum("2 processes train together; run folder run" in text for text in said) == 1, said
    assert sum("worker 2 of 2" in text for text in said) == 1, said
    files = [{p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob("*") if p.name != ".lock"}
             for name in ("alone", "run")]  # fmt: skip
    assert files[0] == files[1] and len(files[0]) > 60
    for place in ("stage1/predictions.csv", "stage3/predictions.csv", "stage3/fused.csv"):
        (table, alone), (other, together) = (
            read_predictions(tmp_path / name / "neck_design_labels" / place) for name in ("alone", "run")
        )
        assert table["image"].tolist() == other["image"].tolist()
        spread = np.ptp(alone)
        np.testing.assert_allclose(together, alone, rtol=0, atol=0.01 * spread, err_msg=place)
        assert spread > 1e-3


# --- the commands


def test_a_command_for_each_host_is_printed(monkeypatch, capsys):
    words = ["cluster", "--hosts", "a,b.lan,10.0.0.3", "--port", "9999", "--servers", "2",
             "run", "--all", "--data", "my pictures", "--set", "cam.training.epochs=3"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["pipeline.py", *words])
    assert commands.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::2] == ["# on a", "# on b.lan", "# on 10.0.0.3"]
    place = "DMLC_PS_ROOT_URI=a DMLC_PS_ROOT_PORT=9999 DMLC_NUM_SERVER=2 DMLC_NUM_WORKER=3"
    command = "python pipeline.py run --all --data 'my pictures' --set cam.training.epochs=3"
    assert lines[3] == lines[5] == f"(export {place}; DMLC_ROLE=worker {command})"
    for kind, count in (("scheduler", 1), ("server", 2), ("worker", 1)):
        assert lines[1].count(f"DMLC_ROLE={kind} {command}") == count
    subprocess.run(["sh", "-n", "-c", "\n".join(lines)], check=True)  # a shell can read it


@pytest.mark.parametrize(
    ("hosts", "words", "told"),
    [("a", ["run"], "two or more"), ("a,,b", ["run"], "'' is no host"), ("a,$(x)", ["run"], "no host"),
     ("a,b", [], "run --all"), ("a,b", ["check"], "run --all"), ("a,b,a", ["run", "--all"], "a stands twice"),
     ("a,b", ["run"], "say which tasks"), ("a,b", ["stage", "cam", "--jobs", "2"], "say which tasks"),
     ("a,b", ["run", "--all", "--task=neck"], "say which tasks")],
)  # fmt: skip
def test_a_mistaken_cluster_is_told(hosts, words, told):
    with pytest.raises(UsageError, match=told.replace("(", r"\(").replace("$", r"\$")):
        host_commands(hosts, 9091, 1, words)


def test_half_a_team_is_told():
    whole = {
        "DMLC_PS_ROOT_URI": "a",
        "DMLC_PS_ROOT_PORT": "1",
        "DMLC_NUM_SERVER": "1",
        "DMLC_NUM_WORKER": "2",
    }
    assert role({}) is None and role(whole) is None
    assert role({**whole, "DMLC_ROLE": "worker"}) == "worker"
    with pytest.raises(EngineError, match="DMLC_NUM_WORKER not"):
        role({**whole, "DMLC_ROLE": "worker", "DMLC_NUM_WORKER": ""})
    with pytest.raises(EngineError, match="'boss'; expected scheduler, server, worker"):
        role({**whole, "DMLC_ROLE": "boss"})


if __name__ == "__main__":
    from learning.team import leave, serve

    if role() != "worker":
        serve()
    if sys.argv[2:]:
        for step in range(10_000):
            team().sum([1.0])
            if step == 20 and team().rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
    member(Path(sys.argv[1]))
    leave(0)
