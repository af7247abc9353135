"""PyTorch on an NVIDIA GPU: the same outputs, losses and files as on a CPU. Skipped without one."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

import torch

from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.nets.classifier import NetworkContext, NetworkPlan
from heatcrop.nets.devices import ON_CPU
from heatcrop.nets.inference import open_network
from heatcrop.nets.maps import MapPlan
from heatcrop.training.checkpoint import Checkpoint
from heatcrop.training.loop import TrainingPlan, train
from tests.tiny_run import TINY, parse_probabilities

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
SIDE, N_CLASSES = 96, 3
NETWORKS = ["efficientnet_lite0", "resnet18_v2", "resnet50_v2", "timm/vit_tiny_patch16_224"]


def context(folder, name="efficientnet_lite0", amp=False):
    weights = "imagenet" if name == "efficientnet_lite0" else "none"
    form = InputForm(SIDE, "pad", backbone(name))
    plan = NetworkPlan(name, weights)
    return NetworkContext(plan, form, folder, trainer="torch", device="gpu", amp=amp)


def classifier(own):
    return own.classifier(own.image_shape, N_CLASSES)


def images(n):
    """Draw noise whose mean depends on the class."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, N_CLASSES, n)
    x = rng.normal(size=(n, 3, SIDE, SIDE)).astype(np.float32) + truth[:, None, None, None] - 1
    return x.astype(np.float32), np.eye(N_CLASSES, dtype=np.float32)[truth]


@pytest.fixture
def exact():
    """Compute convolutions in float32 on the card, not in TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def trained(one, devices, plan=None, checkpoint=None, stop=None):
    plan = plan or TrainingPlan(epochs=3, batch_size=16, learning_rate=1e-4, reload_best=False)
    x, y = images(64)

    def batches(epoch):
        order = np.random.default_rng(epoch).permutation(len(x))
        for rows in np.array_split(order, len(x) // plan.batch_size):
            yield x[rows], y[rows]

    def validate(logits_of):
        right = float((logits_of(x).argmax(axis=1) == y.argmax(axis=1)).mean())
        return 0.0, right, right

    def on_epoch(row):
        if row.epoch == stop:
            raise KeyboardInterrupt

    updater = one.updater(plan.optimiser, devices)
    history = train(updater, batches, len(x) // plan.batch_size, validate, plan, 3, on_epoch, checkpoint)
    return [row.train_loss for row in history]


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_and_maps_are_those_of_the_cpu(tmp_path, exact, name):
    own = context(tmp_path, name)
    x, _ = images(8)
    one = classifier(own)
    expected = one.runner(ON_CPU, MapPlan())(x)
    found = one.runner(own.devices, MapPlan())(x)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3 * np.abs(b).max())


@pytest.mark.parametrize("plan", [MapPlan("grad_cam", 0), MapPlan("layer_cam", 0)])
def test_maps_by_gradients_are_those_of_the_cpu(tmp_path, exact, plan):
    own = context(tmp_path)
    one, (x, _) = classifier(own), images(4)
    expected = one.runner(ON_CPU, plan)(x)
    for a, b in zip(one.runner(own.devices, plan)(x), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3 * np.abs(b).max())


def test_mixed_precision_infers_nearly_the_same(tmp_path):
    x, _ = images(8)
    one = classifier(context(tmp_path))
    expected = one.runner(ON_CPU, MapPlan())(x)
    for a, b in zip(one.runner(context(tmp_path, amp=True).devices, MapPlan())(x), expected, strict=True):
        assert a.dtype == np.float32
        assert np.linalg.norm(a - b) < 0.02 * np.linalg.norm(b)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_losses_are_those_of_the_cpu(tmp_path, exact, optimizer):
    # With five times this rate of SGD, inputs that differ by 1e-6 move the loss by 2 %.
    rate = 1e-4 if optimizer == "adam" else 2e-3
    plan = TrainingPlan(3, 16, optimizer, rate, head_rate=3.0, weight_decay=1e-3, reload_best=False)
    own = context(tmp_path)
    found, expected = trained(classifier(own), own.devices, plan), trained(classifier(own), ON_CPU, plan)
    np.testing.assert_allclose(found, expected, atol=5e-3 * expected[0])
    assert found[-1] < 0.9 * found[0]


def test_mixed_precision_learns(tmp_path):
    own = context(tmp_path, amp=True)
    found, expected = trained(classifier(own), own.devices), trained(classifier(own), ON_CPU)
    np.testing.assert_allclose(found, expected, atol=0.1 * expected[0])


def test_a_batch_in_parts_needs_less_memory(tmp_path):
    own, peaks = context(tmp_path), []
    for parts in (1, 4):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        plan = TrainingPlan(1, 64, learning_rate=1e-4, accumulate=parts, reload_best=False)
        trained(classifier(own), own.devices, plan)
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] < 0.6 * peaks[0]


def test_an_interrupted_training_continues(tmp_path):
    own, plan = context(tmp_path), TrainingPlan(4, 16, learning_rate=1e-4, average=0.8)
    complete, resumed = classifier(own), classifier(own)
    losses = trained(complete, own.devices, plan)
    with pytest.raises(KeyboardInterrupt):
        trained(resumed, own.devices, plan, Checkpoint(tmp_path / "c", "f", share=1.0), stop=2)
    resumed = classifier(own)
    again = trained(resumed, own.devices, plan, Checkpoint(tmp_path / "c", "f", share=1.0))
    np.testing.assert_allclose(again, losses, rtol=0.05)


def test_a_network_trained_on_the_card_is_exported(tmp_path):
    own = context(tmp_path)
    one, (x, _) = classifier(own), images(8)
    trained(one, own.devices)
    one.save(tmp_path / "w.params")
    one.export(tmp_path / "net.onnx")
    loaded = classifier(own).load(tmp_path / "w.params").runner(ON_CPU, MapPlan())
    for a, b in zip(open_network(tmp_path / "net.onnx")(x), loaded(x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("settings", [(), ("runtime.amp=true",)])
def test_a_run_on_the_card_passes_all_stages(call, home, settings):
    given = [f"--set={one}" for one in ("runtime.trainer=torch", "runtime.device=gpu", *settings)]
    run, images = f"gpu{len(settings)}", home / "data" / "rank" / "Images" / "neck_design_labels"
    code, printed = call("run", "--all", *TINY, "--out", run, "--jobs", "1", *given)
    assert code == 0, printed
    assert "trains with PyTorch" in call("check", *TINY, *given)[1]
    code, printed = call("predict", images, "--run", run, "--task", "neck", "--out", f"{run}.csv")
    assert code == 0, printed
    probabilities = parse_probabilities(pd.read_csv(home / f"{run}.csv")["probabilities"])
    assert np.isfinite(probabilities).all()


def test_threads_compute_what_one_computes(tmp_path, exact):
    own = context(tmp_path)
    run, (x, _) = classifier(own).runner(own.devices, MapPlan()), images(64)
    parts = np.array_split(x, 16)
    expected = [run(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, parts * 4))
    for i, outputs in enumerate(found):
        for a, b in zip(outputs, expected[i % 16], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
