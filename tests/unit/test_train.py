import itertools
import math

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from heatcrop.errors import DivergedError
from heatcrop.metrics.calibration import cross_entropy, softmax
from heatcrop.nets.gluon.classifier import MxnetClassifier, build_classifier
from heatcrop.nets.gluon.engine import mxnet
from heatcrop.training.checkpoint import Checkpoint
from heatcrop.training.fit import fit, validation_figures
from heatcrop.training.loop import TrainingPlan, rate_at

from .builders import train_net

SHAPE, CLASSES = (6, 2, 2), 3
NAN = float("nan")


def toy(n_rows=96, seed=0):
    """Features whose first channels show the class: separable by one linear layer."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, n_rows)
    x = rng.normal(size=(n_rows, *SHAPE)).astype(np.float32) * 0.5
    x[np.arange(n_rows), truth] += 2
    return x, np.eye(CLASSES, dtype=np.float32)[truth], truth


class Toy:
    """A classifier on the toy problem, and everything that training needs."""

    def __init__(self, seed=0, dropout=0.0, scores=None):
        self.x, self.y, self.truth = toy()
        self.net = build_classifier([], SHAPE, CLASSES, dropout, seed)
        self.scores, self.seen, self.weights, self.logits = scores, 0, [], []

    def batches(self, epoch):
        for rows in np.array_split(np.random.default_rng(epoch).permutation(len(self.x)), 6):
            yield self.x[rows], self.y[rows]

    def validate(self, logits_of):
        logits = logits_of(self.x)
        self.weights.append(self.net.weight.data().asnumpy())
        self.logits.append(logits)
        score = float((logits.argmax(axis=1) == self.truth).mean())
        if self.scores is not None:
            score = self.scores[self.seen]
        self.seen += 1
        return float(cross_entropy(softmax(logits), self.y).mean()), score, score

    def train(self, seed=0, **settings):
        settings = {"epochs": 3, "learning_rate": 0.02, **settings}
        self.history = train_net(self.net, self.batches, 6, self.validate, TrainingPlan(**settings), seed)
        return self

    @property
    def weight(self):
        return self.net.weight.data().asnumpy()


@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd", "learning_rate": 0.2}, {"average": 0.5}])
def test_a_separable_problem_is_learned(settings):
    done = Toy().train(epochs=8, **settings)
    logits = done.net(mxnet().nd.array(done.x)).asnumpy()
    assert (logits.argmax(axis=1) == done.truth).mean() > 0.98
    losses = [row.train_loss for row in done.history]
    assert losses[-1] < 0.5 * losses[0]
    assert losses[0] < 1.5 * math.log(CLASSES)  # a mean over rows, not a sum
    assert [row.epoch for row in done.history] == list(range(1, 9))
    assert done.history[-1].val_accuracy > 0.98


def test_the_same_seed_gives_the_same_weights_to_the_last_bit():
    one, same, other = (Toy(dropout=0.5).train(seed=s) for s in (4, 4, 5))
    np.testing.assert_array_equal(one.weight, same.weight)
    assert [r.train_loss for r in one.history] == [r.train_loss for r in same.history]
    assert (one.weight != other.weight).any()  # dropout draws from the seed


def test_an_epoch_draws_from_its_own_seed():
    """A later epoch depends on its own seed, not on how many numbers earlier ones drew."""
    one, other = Toy(dropout=0.5), Toy(dropout=0.5)
    original = other.validate
    other.validate = lambda logits_of: (
        mxnet().nd.random.uniform(shape=(99,)).asnumpy(),
        original(logits_of),
    )[1]
    np.testing.assert_array_equal(one.train(seed=1).weight, other.train(seed=1).weight)


# --- learning rates


def test_steps_against_hand_values():
    """The competition entry: a tenth after epochs 7 and 12 of 15."""
    plan = TrainingPlan(epochs=15, learning_rate=1e-4, schedule="step", steps=(7, 12), factor=0.1)
    rates = [rate_at(plan, e + 0.5) for e in range(15)]
    np.testing.assert_allclose(rates, [1e-4] * 7 + [1e-5] * 5 + [1e-6] * 3)


def test_the_cosine_falls_from_the_full_rate_to_zero():
    plan = TrainingPlan(epochs=10, learning_rate=2.0)
    assert [rate_at(plan, p) for p in (0, 5, 10, 12)] == pytest.approx([2, 1, 0, 0], abs=1e-12)
    rates = [rate_at(plan, p) for p in np.linspace(0, 10, 50)]
    assert all(a >= b for a, b in zip(rates, rates[1:], strict=False))


def test_warmup_rises_from_zero_and_ends():
    plan = TrainingPlan(epochs=10, learning_rate=1.0, schedule="step", warmup=2.0)
    assert rate_at(plan, 0) < 0.01
    assert rate_at(plan, 1) == pytest.approx(0.5, abs=0.01)
    assert [rate_at(plan, p) for p in (2, 3, 9)] == [1, 1, 1]


@pytest.mark.parametrize(
    "settings",
    [{"schedule": "linear"}, {"optimizer": "lamb"}, {"epochs": 0}, {"average": 1}, {"steps": [3, -1]}],
)
def test_a_setting_beyond_its_bounds_is_refused(settings):
    with pytest.raises(ValidationError):
        TypeAdapter(TrainingPlan).validate_python(settings)


def test_the_rate_reaches_the_weights():
    frozen, slow, fast = (
        Toy().train(epochs=1, learning_rate=r, reload_best=False) for r in (1e-12, 1e-3, 1e-1)
    )
    start = Toy().weight
    moved = [np.abs(done.weight - start).max() for done in (frozen, slow, fast)]
    assert moved[0] < 1e-9 < moved[1] < moved[2]
    assert fast.history[0].learning_rate == pytest.approx(
        rate_at(TrainingPlan(epochs=1, learning_rate=0.1), 5 / 6)
    )


def test_the_heads_rate_is_a_multiple():
    start = Toy().weight
    plain, head = (Toy().train(epochs=1, learning_rate=1e-4, head_rate=h) for h in (1.0, 10.0))
    ratio = np.abs(head.weight - start).mean() / np.abs(plain.weight - start).mean()
    assert ratio == pytest.approx(10, rel=0.2)


def test_weight_decay_shrinks():
    plain, decayed = (Toy().train(epochs=6, weight_decay=w) for w in (0.0, 0.5))
    assert np.abs(decayed.weight).sum() < 0.8 * np.abs(plain.weight).sum()


# --- which epoch is kept


def test_the_best_epochs_weights_are_kept():
    done = Toy(scores=[0.3, 0.9, 0.5, 0.4]).train(epochs=4)
    np.testing.assert_array_equal(done.weight, done.weights[1])
    assert (done.weights[1] != done.weights[3]).any()


def test_of_equally_good_epochs_the_last_is_kept():
    done = Toy(scores=[0.9, 0.5, 0.9, 0.4]).train(epochs=4)
    np.testing.assert_array_equal(done.weight, done.weights[2])


def test_without_reload_best_the_last_epoch_is_kept():
    done = Toy(scores=[0.9, 0.5, 0.1]).train(reload_best=False)
    np.testing.assert_array_equal(done.weight, done.weights[2])


def test_at_each_step_training_continues_from_the_best_epoch():
    """With a rate of next to nothing after the step, epoch 3 ends where epoch 1 did."""
    settings = {"epochs": 3, "schedule": "step", "steps": (2,), "factor": 1e-6}
    done = Toy(scores=[0.9, 0.5, 0.1]).train(**settings)
    np.testing.assert_allclose(done.weights[2], done.weights[0], atol=1e-5)
    onward = Toy(scores=[0.9, 0.5, 0.1]).train(reload_best=False, **settings)
    np.testing.assert_allclose(onward.weights[2], onward.weights[1], atol=1e-5)
    assert np.abs(onward.weights[1] - onward.weights[0]).max() > 1e-3


def test_at_each_step_the_average_continues_from_the_best_epoch():
    done = Toy(scores=[0.9, 0.5, 0.1]).train(
        epochs=3, schedule="step", steps=(2,), factor=1e-6, average=0.99, learning_rate=0.1
    )
    np.testing.assert_allclose(done.weights[2], done.weights[0], atol=1e-5)
    assert np.abs(done.weights[1] - done.weights[0]).max() > 1e-3


def test_without_validation_the_last_epoch_is_kept():
    done = Toy(scores=[NAN] * 3).train()
    np.testing.assert_array_equal(done.weight, done.weights[2])
    assert math.isnan(done.history[0].val_map)


def test_an_epoch_without_score_does_not_hide_a_good_one():
    done = Toy(scores=[NAN, 0.7, NAN]).train()
    np.testing.assert_array_equal(done.weight, done.weights[1])


# --- averaged weights


def test_the_average_is_what_is_validated_and_kept():
    done = Toy(scores=[0.1, 0.2, 0.3]).train(average=0.9)
    np.testing.assert_array_equal(done.weight, done.weights[2])
    logits = done.net(mxnet().nd.array(done.x)).asnumpy()
    np.testing.assert_allclose(logits, done.logits[2], atol=1e-6)
    plain = Toy(scores=[0.1, 0.2, 0.3]).train()
    assert np.abs(plain.weight - done.weight).max() > 1e-4


def test_averaging_does_not_disturb_the_training_itself():
    plain, averaged = Toy(scores=[0.1] * 3).train(), Toy(scores=[0.1] * 3).train(average=0.9)
    assert [r.train_loss for r in averaged.history] == [r.train_loss for r in plain.history]


def test_an_average_of_constant_weights_is_that_constant():
    start = Toy().weight
    done = Toy().train(average=0.99, learning_rate=1e-12)
    np.testing.assert_allclose(done.weight, start, atol=1e-6)


# --- the loss


def test_the_reported_training_loss_is_the_cross_entropy():
    done = Toy().train(epochs=1, learning_rate=1e-12)
    assert done.history[0].train_loss == pytest.approx(done.history[0].val_loss, rel=1e-5)


# --- fit: training on rows


class ToyInputs:
    """Inputs with two test views; training shows the item itself."""

    shape, n_views = SHAPE, 2

    def __init__(self, x):
        self.x, self.trained, self.tested = x, [], []

    def training(self, epoch, order, size):
        self.trained.append(order.tolist())
        for start in range(0, len(order), size):
            index = order[start : start + size]
            yield self.x[index], index

    def testing(self, index, size, plain=False):
        self.tested.append(index.tolist())
        yield (
            np.stack([self.x[index], self.x[index][:, :, :, ::-1]], axis=1)[:, : 1 if plain else None],
            index,
        )


def fitted(train_rows, val_rows, **settings):
    x, y, truth = toy()
    inputs, letters = ToyInputs(x), (2 * y).astype(np.int8)
    net = build_classifier([], SHAPE, CLASSES, 0.0, 0)
    plan = TrainingPlan(**{"epochs": 4, "batch_size": 10, "learning_rate": 0.05, **settings})
    rows = np.array(train_rows), np.array(val_rows, int)
    history = fit(MxnetClassifier(net, SHAPE), inputs, y, letters, *rows, plan, 0, "fold 3")
    p = softmax(net(mxnet().nd.array(x)).asnumpy())
    return inputs, history, (p.argmax(axis=1) == truth).mean()


def test_only_the_given_rows_are_trained_on_and_validated():
    inputs, history, accuracy = fitted(range(5, 70), range(70, 90))
    assert all(sorted(order) == list(range(5, 70)) for order in inputs.trained)
    assert inputs.trained[0] != inputs.trained[1]  # each epoch has its own order
    assert inputs.tested == [list(range(70, 90))] * 4
    assert accuracy > 0.95
    assert [row["network"] for row in history] == ["fold 3"] * 4
    assert list(history[0]) == [
        "network",
        "epoch",
        "learning_rate",
        "train_loss",
        "val_loss",
        "val_map",
        "val_accuracy",
        "seconds",
    ]
    assert history[-1]["val_map"] > 0.95
    assert history[-1]["val_accuracy"] > 0.95


def test_without_validation_rows_the_figures_are_nan():
    inputs, history, accuracy = fitted(range(90), [])
    assert inputs.tested == []
    assert accuracy > 0.95
    assert all(math.isnan(row["val_map"]) and math.isnan(row["val_loss"]) for row in history)


@pytest.mark.parametrize("n_rows", [1, 2, 11])
def test_a_last_batch_of_one_is_trained_on_too(n_rows):
    inputs, history, _ = fitted(range(n_rows), [90, 91], epochs=2)
    assert all(math.isfinite(row["train_loss"]) for row in history)


# --- divergence


@pytest.mark.parametrize(
    ("batches", "rate", "message"),
    [
        (6, 1e38, r"^diverged in epoch 1 \(its loss is not finite\)$"),
        (1, 1e38, r"^diverged in epoch 1 \(its validation logits are not finite\)$"),
    ],
)
def test_divergence_is_reported_before_a_checkpoint_holds_it(tmp_path, batches, rate, message):
    done, file = Toy(), Checkpoint(tmp_path / "c", "fingerprint")
    plan = TrainingPlan(epochs=3, optimizer="sgd", learning_rate=rate)
    validated = validation_of(done)
    for _ in range(2):  # the same command again
        with pytest.raises(DivergedError, match=message):
            train_net(
                done.net,
                lambda epoch: itertools.islice(done.batches(epoch), batches),
                batches,
                validated,
                plan,
                0,
                checkpoint=file,
            )
        done.net = Toy().net
    assert not list(tmp_path.iterdir())


def validation_of(toy):
    x = toy.x * 100
    return lambda logits_of: validation_figures(logits_of(x), toy.y, (2 * toy.y).astype(np.int8))


def test_in_mixed_precision_steps_may_overflow(monkeypatch):
    """A CPU has no float16, so the network stays in float32 here."""
    monkeypatch.setattr("heatcrop.nets.gluon.updater.mixed_block", lambda net: net)
    done, plan = Toy(), TrainingPlan(epochs=1)
    validate = validation_of(done)
    done.x[0] = np.inf
    with pytest.raises(DivergedError, match="its loss"):
        train_net(done.net, done.batches, 6, validate, plan, 0)
    done.net = Toy().net
    (epoch,) = train_net(done.net, done.batches, 6, validate, plan, 0, amp=True)
    assert not math.isfinite(epoch.train_loss)
    done.x = done.x * np.inf
    with pytest.raises(DivergedError, match="epoch 1 .its validation logits"):
        train_net(done.net, done.batches, 6, validation_of(done), plan, 0, amp=True)
