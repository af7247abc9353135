"""A batch in parts and on several devices, and mixed precision: on several CPU contexts."""

import re

import numpy as np
import pytest

import heatcrop.nets.gluon.updater
from heatcrop.nets.gluon.classifier import build_classifier
from heatcrop.nets.gluon.engine import loss_scaler, mixed_block, mixed_precision, mxnet
from heatcrop.nets.gluon.updater import MxnetUpdater
from heatcrop.training.checkpoint import Checkpoint
from heatcrop.training.loop import TrainingPlan, train

SHAPE, CLASSES = (3, 6, 6), 3


def network(norm=False, dropout=0.0):
    mx = mxnet()
    nn = mx.gluon.nn
    mx.random.seed(7)
    block = nn.HybridSequential()
    block.add(nn.Conv2D(5, 3, in_channels=3), nn.Activation("relu"))
    if norm:
        block.add(nn.BatchNorm(in_channels=5))
    block.initialize(mx.init.Xavier())
    return build_classifier([block], SHAPE, CLASSES, dropout, 0)


def values(net):
    return {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}


class Trained:
    """A small training and its results."""

    def __init__(
        self,
        n_rows=40,
        batch=10,
        devices=1,
        norm=False,
        amp=False,
        checkpoint=None,
        stop=None,
        x=None,
        **settings,
    ):
        rng = np.random.default_rng(0)
        truth = rng.integers(0, CLASSES, n_rows)
        self.x = rng.normal(size=(n_rows, *SHAPE)).astype(np.float32) if x is None else x
        self.x[np.arange(n_rows), truth] += 1
        y = np.eye(CLASSES, dtype=np.float32)[truth]
        self.net, self.apart = network(norm), []
        contexts = [mxnet().cpu(i) for i in range(devices)]

        def batches(epoch):
            order = np.random.default_rng(epoch).permutation(n_rows)
            for start in range(0, n_rows, batch):
                rows = order[start : start + batch]
                yield self.x[rows], y[rows]

        def validate(logits_of):
            for parameter in self.net.collect_params().values():
                one, *others = (value.asnumpy() for value in parameter.list_data())
                self.apart += [np.abs(one - other).max() for other in others]
            logits = logits_of(self.x)
            right = float((logits.argmax(axis=1) == truth).mean())
            return float(np.square(logits).mean()), right, right

        def on_epoch(row):
            if row.epoch == stop:
                raise KeyboardInterrupt

        plan = TrainingPlan(**{"epochs": 3, "learning_rate": 0.1, "optimizer": "sgd", **settings})
        contexts = contexts if devices > 1 else ()
        self.history = train(
            MxnetUpdater(self.net, plan.optimiser, contexts, amp),
            batches,
            -(-n_rows // batch),
            validate,
            plan,
            3,
            on_epoch,
            checkpoint,
        )
        self.values = values(self.net)


def close(one, other, tolerance=1e-5):
    for name, value in one.values.items():
        np.testing.assert_allclose(value, other.values[name], rtol=1e-4, atol=tolerance, err_msg=name)
    for a, b in zip(one.history, other.history, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-4)
        assert a.val_loss == pytest.approx(b.val_loss, rel=1e-4)


# --- several devices


@pytest.mark.parametrize(
    ("devices", "n_rows", "settings"),
    [
        (2, 40, {}),
        (3, 40, {"weight_decay": 0.01}),
        (2, 41, {}),  # a last batch of one row: the second device gets none
        (3, 42, {"average": 0.9}),
        (2, 40, {"optimizer": "adam", "learning_rate": 0.01}),
    ],
)
def test_a_batch_split_among_devices_gives_the_weights_of_one(devices, n_rows, settings):
    one = Trained(n_rows, **settings)
    several = Trained(n_rows, devices=devices, **settings)
    close(one, several, 1e-4 if settings.get("optimizer") == "adam" else 1e-5)
    start = values(network())
    assert all(np.abs(one.values[name] - start[name]).max() > 0.01 for name in start)  # it learned


def test_all_devices_end_an_epoch_with_the_same_values():
    done = Trained(41, devices=3, norm=True, average=0.5)
    assert done.apart
    assert max(done.apart) == 0
    assert [c.device_type for c in done.net.weight.list_ctx()] == ["cpu"]
    assert len(done.net.weight.list_ctx()) == 1


def test_running_statistics_are_the_mean_over_devices():
    """Of one update with equal shares, the mean of the shares' means is the batch's; the variance is
    that within the shares."""
    one, two = (Trained(40, 40, devices=d, norm=True, epochs=1, learning_rate=1e-9) for d in (1, 2))
    mean = next(name for name in one.values if name.endswith("running_mean"))
    variance = next(name for name in one.values if name.endswith("running_var"))
    np.testing.assert_allclose(two.values[mean], one.values[mean], rtol=1e-4, atol=1e-6)
    assert np.abs(one.values[mean]).max() > 1e-3
    assert (two.values[variance] < one.values[variance] + 1e-6).all()
    np.testing.assert_allclose(two.values[variance], one.values[variance], rtol=0.05)


# --- a batch in parts


@pytest.mark.parametrize(
    ("parts", "devices", "n_rows"),
    [(2, 1, 40), (5, 1, 40), (3, 1, 41), (99, 1, 40), (2, 2, 40), (5, 2, 41), (10, 3, 40)],
)
def test_accumulated_parts_give_the_update_of_the_batch(parts, devices, n_rows):
    close(Trained(n_rows), Trained(n_rows, devices=devices, accumulate=parts))


def test_each_part_is_as_small_as_configured(monkeypatch):
    seen = []
    original = heatcrop.nets.gluon.updater.mxnet().nd.array

    def array(values, *arguments, **options):
        if np.ndim(values) == 4:
            seen.append(len(values))
        return original(values, *arguments, **options)

    monkeypatch.setattr(heatcrop.nets.gluon.updater.mxnet().nd, "array", array)
    Trained(40, epochs=1, accumulate=4)
    assert sorted(set(seen)) == [2, 3, 40]  # 10 rows in 4 parts; 40 are the validation's
    assert sum(seen) == 80


def test_no_gradient_remains():
    done = Trained(accumulate=4)
    assert {p.grad_req for p in done.net.collect_params().values()} == {"write"}
    assert max(np.abs(p.grad().asnumpy()).max() for p in done.net.collect_params().values()) == 0


@pytest.mark.parametrize("settings", [{"accumulate": 3}, {"devices": 2, "norm": True, "average": 0.5}])
def test_an_interrupted_training_ends_the_same_to_the_last_bit(tmp_path, settings):
    complete = Trained(**settings)
    with pytest.raises(KeyboardInterrupt):
        Trained(checkpoint=Checkpoint(tmp_path / "c", "fingerprint", share=1e9), stop=2, **settings)
    resumed = Trained(checkpoint=Checkpoint(tmp_path / "c", "fingerprint"), **settings)
    for name, value in complete.values.items():
        np.testing.assert_array_equal(value, resumed.values[name], err_msg=name)


# --- mixed precision


def casts(block):
    names = block(mxnet().sym.var("data")).get_internals().list_outputs()
    return [name for name in names if "amp_cast_float16" in name]


def test_convolutions_and_products_are_in_float16_and_weights_in_float32():
    net = network(norm=True)
    mixed = mixed_block(net)
    found = " ".join(casts(mixed))
    for part in ("data_amp", r"conv\d+_weight_amp", "classifier0_weight_amp"):
        assert re.search(part, found)
    assert "gamma" not in found
    assert "running" not in found
    shared = net.collect_params()
    assert all(p is shared[name] for name, p in mixed.collect_params().items())
    symbol = mixed(mxnet().sym.var("data"))
    arguments, outputs, _ = symbol.infer_type(data="float32")
    assert set(arguments) == {np.float32}
    assert outputs == [np.float32]
    assert not casts(net)  # what is exported stays as it was


def test_both_outputs_are_converted():
    net = network()
    net.with_maps = True
    mixed = mixed_block(net)
    assert [s.infer_type(data="float32")[1] for s in mixed(mxnet().sym.var("data"))] == [[np.float32]] * 2


@pytest.fixture
def half_flatten(monkeypatch):
    """Use float16 for the one operator that has it on a CPU, so that training in it can be tested."""
    amp = mixed_precision()
    convert = amp.convert_symbol
    rest = [name for name in (*amp.list_lp16_ops("float16"), "Pooling") if name != "Flatten"]
    lists = {"target_dtype_ops": ["Flatten"], "fp32_ops": [*amp.list_fp32_ops("float16"), *rest]}
    monkeypatch.setattr(amp, "convert_symbol", lambda *given, **named: convert(*given, **named, **lists))
    scalers = []

    def scaler():
        scalers.append(loss_scaler())
        return scalers[-1]

    monkeypatch.setattr(heatcrop.nets.gluon.updater, "loss_scaler", scaler)
    return scalers


def test_a_scaled_loss_leaves_the_updates_as_they_are(half_flatten):
    full, half = Trained(accumulate=2), Trained(accumulate=2, amp=True)
    assert half_flatten[0].loss_scale >= 2
    for name, value in full.values.items():
        np.testing.assert_allclose(half.values[name], value, rtol=0.01, atol=0.005, err_msg=name)
    assert (half.values["weight"] != full.values["weight"]).any()  # rounded to float16 on the way
    for a, b in zip(full.history, half.history, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=0.01)


def test_an_update_that_overflows_is_skipped(half_flatten):
    x = np.full((40, *SHAPE), 1e7, np.float32)  # more than float16 holds
    start = values(network())
    done = Trained(x=x, epochs=1, amp=True, reload_best=False)
    for name, value in start.items():
        np.testing.assert_array_equal(done.values[name], value, err_msg=name)
    assert half_flatten[0].loss_scale < 2**16


def test_the_process_stays_in_float32():
    """``amp.init`` would have changed every operator for good."""
    mixed_block(network())
    assert not mixed_precision().amp._amp_initialized
