"""An interrupted training continues, and ends like an uninterrupted one."""

import dataclasses
import json
import pickle
import zipfile

import numpy as np
import pytest

from heatcrop.nets.gluon.classifier import build_classifier
from heatcrop.nets.gluon.engine import mxnet
from heatcrop.training.checkpoint import Checkpoint
from heatcrop.training.loop import TrainingPlan

from .builders import train_net

SHAPE, CLASSES, EPOCHS = (3, 6, 6), 3, 4


class Interrupted(Exception):
    pass


def network(extra=0):
    """A convolution with batch norm, whose running statistics are state, and a head with dropout."""
    mx = mxnet()
    mx.random.seed(7)
    for _ in range(extra):  # names, and the trainer's order, depend on what a process made before
        mx.gluon.nn.Conv2D(2, 1)
    block = mx.gluon.nn.HybridSequential()
    block.add(mx.gluon.nn.Conv2D(5, 3, in_channels=3), mx.gluon.nn.BatchNorm(in_channels=5))
    block.initialize(mx.init.Xavier())
    return build_classifier([block], SHAPE, CLASSES, 0.4, 0)


def fitted(checkpoint, settings, stop=None, scores=(0.3, 0.9, 0.5, 0.4), seed=3, extra=0):
    """Train, or interrupt it after `stop` epochs; weights, history and the epochs of the drawn batches."""
    rng = np.random.default_rng(0)
    x, truth = rng.normal(size=(40, *SHAPE)).astype(np.float32), rng.integers(0, CLASSES, 40)
    y, drawn, seen = np.eye(CLASSES, dtype=np.float32)[truth], [], []

    def batches(epoch):
        drawn.append(epoch)
        for rows in np.array_split(np.random.default_rng(epoch).permutation(len(x)), 4):
            yield x[rows], y[rows]

    def validate(logits_of):
        epoch = drawn[-1]
        return float(np.square(logits_of(x)).mean()), scores[epoch], 0.5

    def on_epoch(row):
        seen.append(row.epoch)
        if stop is not None and row.epoch == stop:
            raise Interrupted

    net = network(extra)
    plan = TrainingPlan(**{"epochs": EPOCHS, "learning_rate": 0.02, **settings})
    history = train_net(net, batches, 4, validate, plan, seed, on_epoch, checkpoint)
    assert seen == list(range(1, plan.epochs + 1))
    weights = [p.data().asnumpy() for p in net.collect_params().values()]
    return weights, [dataclasses.replace(row, seconds=0.0) for row in history], drawn


def same(one, other):
    assert len(one[0]) == len(other[0])
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert list(map(str, one[1])) == list(map(str, other[1]))  # as text, where nan is nan


PLANS = [
    {},
    {"optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.01},
    {"average": 0.8, "warmup": 2.0},
    {"average": 0.8, "schedule": "step", "steps": (2,)},
    {"schedule": "step", "steps": (1, 3), "head_rate": 3.0},
    {"reload_best": False},
]


@pytest.mark.parametrize("settings", PLANS)
def test_an_interrupted_training_ends_with_the_same_weights_to_the_last_bit(tmp_path, settings):
    complete = fitted(None, settings)
    for stop in range(1, EPOCHS):
        checkpoint = Checkpoint(tmp_path / f"{stop}", "fingerprint", share=1e9)
        with pytest.raises(Interrupted):
            fitted(checkpoint, settings, stop)
        resumed = fitted(Checkpoint(checkpoint.path, "fingerprint"), settings, extra=11)
        same(complete, resumed)
        assert resumed[2] == list(range(stop, EPOCHS))


def test_it_may_be_interrupted_after_every_epoch(tmp_path):
    for stop in range(1, EPOCHS):
        with pytest.raises(Interrupted):
            fitted(Checkpoint(tmp_path / "c", "fingerprint", share=1e9), {"average": 0.8}, stop)
    same(fitted(None, {"average": 0.8}), fitted(Checkpoint(tmp_path / "c", "fingerprint"), {"average": 0.8}))


def test_it_continues_without_validation(tmp_path):
    nothing = (float("nan"),) * EPOCHS
    with pytest.raises(Interrupted):
        fitted(Checkpoint(tmp_path / "c", "m", share=1e9), {}, 2, nothing)
    same(fitted(None, {}, scores=nothing), fitted(Checkpoint(tmp_path / "c", "m"), {}, scores=nothing))


def test_a_finished_training_is_not_repeated(tmp_path):
    first = fitted(Checkpoint(tmp_path / "c", "fingerprint"), {})
    before = (tmp_path / "c").stat()
    again = fitted(Checkpoint(tmp_path / "c", "fingerprint"), {})
    same(first, again)
    after = (tmp_path / "c").stat()
    assert again[2] == []
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_checkpoint_of_another_training_is_ignored(tmp_path):
    with pytest.raises(Interrupted):
        fitted(Checkpoint(tmp_path / "c", "fingerprint", share=1e9), {}, 2)
    other = fitted(Checkpoint(tmp_path / "c", "another fingerprint"), {})
    assert other[2] == list(range(EPOCHS))
    same(fitted(None, {}), other)


DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "noise": lambda data: b"noise" * 100,
    "a byte changed": lambda data: (
        data[: len(data) // 3] + bytes([data[len(data) // 3] ^ 255]) + data[len(data) // 3 + 1 :]
    ),
    "a pickle": lambda data: pickle.dumps([1, 2]),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_ignored(tmp_path, kind):
    path = tmp_path / "c"
    with pytest.raises(Interrupted):
        fitted(Checkpoint(path, "fingerprint", share=1e9), {}, 2)
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    same(fitted(None, {}), fitted(Checkpoint(path, "fingerprint"), {}))


def test_a_checkpoint_runs_no_code(tmp_path):
    """An array of objects is a pickle; reading it would run what it names."""
    marker = tmp_path / "it_ran"

    class Bomb:
        def __reduce__(self):
            return marker.touch, ()

    np.savez(tmp_path / "c.npz", description=np.array([Bomb()], dtype=object))
    assert Checkpoint(tmp_path / "c.npz", "fingerprint").read() is None
    assert not marker.exists()
    np.load(tmp_path / "c.npz", allow_pickle=True)["description"]  # the bomb is live
    assert marker.exists()


def test_it_holds_arrays_and_json_only(tmp_path):
    with pytest.raises(Interrupted):
        fitted(Checkpoint(tmp_path / "c", "fingerprint", share=1e9), {"average": 0.5}, 2)
    with np.load(tmp_path / "c", allow_pickle=False) as file:
        description = json.loads(str(file["description"]))
    assert description["fingerprint"] == "fingerprint"
    assert len(description["history"]) == 2
    assert set(description["groups"]) == {"weights", "best", "average", "optimiser"}
    assert zipfile.ZipFile(tmp_path / "c").testzip() is None


def test_short_epochs_share_a_file(tmp_path):
    """Writing takes no more than its share of the time; the file at the end is always written."""
    writes = []

    class Counting(Checkpoint):
        def write(self, history, groups):
            super().write(history, groups)
            writes.append(len(history))
            self._cost = 1e6

    fitted(Counting(tmp_path / "c", "fingerprint"), {})
    assert writes == [1, EPOCHS]
