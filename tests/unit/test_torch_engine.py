"""PyTorch trains what MXNet trains: the same outputs, losses, files and resumption."""

import dataclasses
import types

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from heatcrop.errors import EngineError, WeightsError
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.nets.classifier import NetworkContext, NetworkPlan
from heatcrop.nets.devices import (
    ON_CPU,
    Card,
    Driver,
    _found,
    _found_for_torch,
    choose_trainer,
    find_devices,
)
from heatcrop.nets.inference import open_network
from heatcrop.nets.maps import MapPlan
from heatcrop.nets.pytorch.blocks import build_modules, named_tensors
from heatcrop.nets.weights.params_file import read_params
from heatcrop.training.checkpoint import Checkpoint
from heatcrop.training.loop import TrainingPlan, train

SIDE = 64
NETWORKS = [
    "efficientnet_lite0",
    "resnet18_v2",
    "resnet50_v2",
    pytest.param("resnet152_v2", marks=pytest.mark.soak),
]


def context(folder, trainer, name="resnet18_v2", frozen=0, weights="none", **options):
    plan = NetworkPlan(name, weights, frozen)
    return NetworkContext(plan, InputForm(SIDE, "pad", backbone(name)), folder, trainer=trainer, **options)


def pair(folder, name="resnet18_v2", n_classes=3, pooling=1.0, **options):
    """Make one classifier of each engine, with the same weights."""
    shape = (3, SIDE, SIDE)
    one = context(folder, "mxnet", name, **options).classifier(shape, n_classes, pooling)
    other = context(folder, "torch", name, **options).classifier(shape, n_classes)
    one.save(folder / "mxnet.params")
    return one, other.load(folder / "mxnet.params")


def images(n=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3, SIDE, SIDE)).astype(np.float32)


def close(found, expected, tolerance=1e-4):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=tolerance * max(1, np.abs(other).max()))


# --- the same network


@pytest.mark.parametrize("name", NETWORKS)
def test_both_engines_compute_the_same_logits_and_maps(tmp_path, name):
    one, other = pair(tmp_path, name)
    assert one.n_blocks == other.n_blocks
    assert one.weight_numbers() == other.weight_numbers()
    x = images()
    close(other.runner(ON_CPU, MapPlan())(x), one.runner(ON_CPU, MapPlan())(x))


def test_both_engines_compute_the_same_features(tmp_path):
    one, other = pair(tmp_path)
    found, expected = (classifier.without_linear().runner(ON_CPU)(images()) for classifier in (other, one))
    assert expected[0].shape == (4, *one.without_linear().output_shape)
    close(found, expected)


@pytest.mark.parametrize("pooling", [0.2, 1.0])
def test_an_exported_file_computes_what_the_network_does(tmp_path, pooling):
    _, other = pair(tmp_path, pooling=pooling)
    other.export(tmp_path / "net.onnx")
    x = images(5)
    close(open_network(tmp_path / "net.onnx")(x), other.runner(ON_CPU, MapPlan())(x))


@pytest.mark.parametrize("pooling", [0.05, 0.5])
def test_both_engines_pool_the_same_positions(tmp_path, pooling):
    one, other = pair(tmp_path, pooling=pooling)
    x = images()
    close(other.runner(ON_CPU, MapPlan())(x), one.runner(ON_CPU, MapPlan())(x))


@pytest.mark.parametrize("plan", [MapPlan("grad_cam", 2), MapPlan("layer_cam", 0)])
def test_both_engines_compute_the_same_maps_by_gradients(tmp_path, plan):
    one, other = pair(tmp_path)
    x = images(2)
    close(other.runner(ON_CPU, plan)(x), one.runner(ON_CPU, plan)(x))


def test_a_cpu_computes_few_images_at_once(tmp_path):
    _, other = pair(tmp_path)
    sizes, x = [], images(10)
    other.net.blocks[0].register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    found = other.runner(ON_CPU, MapPlan())(x)
    assert sizes == [4, 4, 2]
    for i in (0, 9):
        close([part[i : i + 1] for part in found], other.runner(ON_CPU, MapPlan())(x[i : i + 1]))


def test_weights_go_both_ways_without_loss(tmp_path):
    one, other = pair(tmp_path)
    other.save(tmp_path / "torch.params")
    there, back = read_params(tmp_path / "mxnet.params"), read_params(tmp_path / "torch.params")
    assert there.keys() == back.keys()
    for name, array in there.items():
        np.testing.assert_array_equal(array, back[name], err_msg=name)
    one.load(tmp_path / "torch.params")


def test_the_published_weights_are_read_by_both(tmp_path):
    form = InputForm(SIDE, "pad", backbone("efficientnet_lite0"))
    plan = NetworkPlan("efficientnet_lite0", "imagenet", -1)
    found = []
    for trainer in ("mxnet", "torch"):
        own = NetworkContext(plan, form, tmp_path / trainer, trainer=trainer)
        assert own.feature_shape() == (1280, 2, 2)
        found.append(own.open_trunk()(images()))
    close(*found)


@pytest.mark.parametrize("frozen", [0, 3, 9, -1])
def test_the_trunk_and_the_trained_part_are_cut_at_the_same_block(tmp_path, frozen):
    shapes = [context(tmp_path, trainer, frozen=frozen).feature_shape() for trainer in ("mxnet", "torch")]
    assert shapes[0] == shapes[1]


def test_weights_of_another_network_are_refused(tmp_path):
    one, _ = pair(tmp_path, "resnet18_v2")
    other = context(tmp_path, "torch", "resnet50_v2").classifier((3, SIDE, SIDE), 3)
    one.save(tmp_path / "w.params")
    with pytest.raises(WeightsError, match=r"w\.params: weights do not fit this network"):
        other.load(tmp_path / "w.params")


# --- the same training


def trained(classifier, plan, n_rows=32, masked=False, seed=5, checkpoint=None, stop=None):
    """Train on noise whose classes depend on the mean; return the history."""
    rng = np.random.default_rng(1)
    x, truth = images(n_rows, 2), rng.integers(0, 3, n_rows)
    x += truth[:, None, None, None] - 1
    y = np.eye(3, dtype=np.float32)[truth]
    if masked:
        y[truth != 2, 2] = -1
    size = plan.batch_size
    n_batches = -(-n_rows // size)

    def batches(epoch):
        order = np.random.default_rng(epoch).permutation(n_rows)
        for start in range(0, n_rows, size):
            yield x[order[start : start + size]], y[order[start : start + size]]

    def on_epoch(row):
        if row.epoch == stop:
            raise KeyboardInterrupt

    def validate(logits_of):
        right = float((logits_of(x).argmax(axis=1) == truth).mean())
        return 0.0, right, right

    updater = classifier.updater(plan.optimiser, ON_CPU)
    return train(updater, batches, n_batches, validate, plan, seed, on_epoch, checkpoint)


@pytest.mark.parametrize(
    ("name", "weights", "rate"),
    [("efficientnet_lite0", "imagenet", 2e-4), ("resnet18_v2", "none", 2e-3)],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_both_engines_have_the_same_losses_over_twenty_steps(tmp_path, name, weights, rate, optimizer):
    rate = rate if optimizer == "sgd" else rate / 20
    plan = TrainingPlan(20, 16, optimizer, rate, head_rate=3.0, weight_decay=1e-3, reload_best=False)
    histories = [trained(one, plan, n_rows=16) for one in pair(tmp_path, name, weights=weights)]
    losses = np.array([[row.train_loss for row in history] for history in histories])
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-3 * losses[0, 0])
    assert losses[0, -1] < 0.9 * losses[0, 0]


def test_both_engines_leave_out_classes_that_do_not_belong_to_a_row(tmp_path):
    plan = TrainingPlan(epochs=2, batch_size=16, optimizer="sgd", learning_rate=0.002)
    histories = [trained(one, plan, masked=True) for one in pair(tmp_path)]
    losses = [[row.train_loss for row in history] for history in histories]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


def test_a_batch_in_parts_is_one_update(tmp_path):
    """Without batch norm: a frozen trunk, and the linear layer alone."""
    found = []
    for parts in (1, 3):
        one = context(tmp_path, "torch", frozen=-1).classifier((8, 3, 3), 3)
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(10, 8, 3, 3)), np.eye(3)[rng.integers(0, 3, 10)]
        updater = one.updater(TrainingPlan(accumulate=parts, optimizer="sgd").optimiser, ON_CPU)
        updater.update(x.astype(np.float32), y.astype(np.float32), 0.1)
        found.append(updater.to_numpy(updater.weights()))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


PLANS = [
    {},
    {"optimizer": "sgd", "weight_decay": 0.01},
    {"average": 0.8, "warmup": 2.0},
    {"schedule": "step", "steps": (1, 2), "head_rate": 3.0},
]


@pytest.mark.parametrize("settings", PLANS)
def test_an_interrupted_training_ends_with_the_same_weights_to_the_last_bit(tmp_path, settings):
    plan = TrainingPlan(**{"epochs": 3, "batch_size": 16, "learning_rate": 1e-3, **settings})

    def fresh():
        return dataclasses.replace(
            context(tmp_path, "torch"), network=NetworkPlan("resnet18_v2", "none", 9, 0.4)
        )

    def classifier():
        return fresh().classifier(fresh().feature_shape(), 3)

    complete, resumed = classifier(), classifier()
    shape = complete.input_shape
    assert shape == resumed.input_shape
    history = trained_on_features(complete, plan)
    with pytest.raises(KeyboardInterrupt):
        trained_on_features(resumed, plan, Checkpoint(tmp_path / "c", "f", share=1.0), stop=2)
    resumed = classifier()
    again = trained_on_features(resumed, plan, Checkpoint(tmp_path / "c", "f", share=1.0))
    for name, tensor in named_tensors(complete.net).items():
        other = named_tensors(resumed.net)[name].detach().numpy()
        np.testing.assert_array_equal(tensor.detach().numpy(), other, err_msg=name)
    assert [row.train_loss for row in history] == [row.train_loss for row in again]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_network_with_weights_that_are_not_used_continues(tmp_path, optimizer):
    """The head of ConvNeXt has a norm that only its own classifier uses."""
    plan = TrainingPlan(epochs=3, batch_size=16, learning_rate=1e-3, optimizer=optimizer)
    own = context(tmp_path, "torch", "timm/convnext_atto")
    complete, stopped, resumed = (own.classifier((3, SIDE, SIDE), 3) for _ in range(3))
    trained_on_features(complete, plan)
    with pytest.raises(KeyboardInterrupt):
        trained_on_features(stopped, plan, Checkpoint(tmp_path / "c", "f", share=1.0), stop=2)
    trained_on_features(resumed, plan, Checkpoint(tmp_path / "c", "f", share=1.0))
    assert resumed.digest() == complete.digest()


@pytest.mark.parametrize("name", ["resnet18_v2", "efficientnet_lite0"])
def test_a_batch_of_one_row_is_trained_on_where_a_map_has_one_position(tmp_path, name):
    classifier = context(tmp_path, "torch", name).classifier((3, 32, 32), 3)
    updater = classifier.updater(TrainingPlan(optimizer="sgd").optimiser, ON_CPU)
    x, y = images(1)[:, :, :32, :32], np.eye(3, dtype=np.float32)[[0]]
    losses = [updater.update(x, y, 0.01) for _ in range(2)]
    assert np.isfinite(losses).all()
    assert all(np.isfinite(array).all() for array in updater.to_numpy(updater.weights()))


def trained_on_features(classifier, plan, checkpoint=None, stop=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, *classifier.input_shape)).astype(np.float32)
    y = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 40)]
    scores = iter((0.3, 0.9, 0.5))

    def batches(epoch):
        for rows in np.array_split(np.random.default_rng(epoch).permutation(40), 4):
            yield x[rows], y[rows]

    def validate(logits_of):
        logits_of(x)
        return 0.0, next(scores), 0.5

    def on_epoch(row):
        if row.epoch == stop:
            raise KeyboardInterrupt

    return train(
        classifier.updater(plan.optimiser, ON_CPU), batches, 4, validate, plan, 3, on_epoch, checkpoint
    )


def test_the_seed_decides_the_fresh_layer(tmp_path):
    one, same, other = (
        context(tmp_path, "torch", frozen=-1, seed=seed).classifier((8, 3, 3), 3).digest()
        for seed in (1, 1, 2)
    )
    assert one == same != other


# --- which engine


@pytest.mark.parametrize(
    ("trainer", "name", "expected"),
    [
        ("auto", "resnet18_v2", "mxnet"),
        ("auto", "timm/resnet18", "torch"),
        ("torch", "resnet18_v2", "torch"),
        ("mxnet", "resnet18_v2", "mxnet"),
    ],
)
def test_the_engine_is_chosen(trainer, name, expected):
    assert choose_trainer(trainer, name, "cpu") == expected


def test_pytorch_trains_where_mxnet_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mxnet" else object())
    assert choose_trainer("auto", "resnet18_v2", "cpu") == "torch"


def test_a_network_that_pytorch_lacks_is_refused_with_the_setting(tmp_path):
    with pytest.raises(EngineError, match="has no densenet121.*set runtime.trainer to mxnet"):
        context(tmp_path, "torch", "densenet121").feature_shape()


def test_dilation_is_refused_with_the_setting(tmp_path):
    plan = NetworkPlan("resnet18_v2", "none", dilated=True)
    own = dataclasses.replace(context(tmp_path, "torch"), network=plan)
    with pytest.raises(EngineError, match=r"network\.dilated is true.*runtime\.trainer to mxnet"):
        own.classifier((3, SIDE, SIDE), 3)


# --- networks of timm


TIMM = ["timm/resnet18", "timm/convnext_atto", "timm/vit_tiny_patch16_224"]


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.parametrize("frozen", [0, -1])
def test_a_network_of_timm_trains_and_exports(tmp_path, name, frozen):
    own = context(tmp_path, "auto", name, frozen)
    shape = own.feature_shape()
    classifier = own.classifier(shape, 3)
    x = images(4)
    if frozen:
        x = own.open_trunk()(x)[0]
        assert x.shape[1:] == shape
    updater = classifier.updater(TrainingPlan(optimizer="sgd").optimiser, ON_CPU)
    before = updater.weights()
    losses = [updater.update(x, np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], 0.05) for _ in range(3)]
    assert losses[2] < losses[0]
    assert sum(bool((a != b).any()) for a, b in zip(before, updater.weights(), strict=True)) > 1
    updater.close()
    logits, maps = classifier.runner(ON_CPU, MapPlan())(x)
    bias = classifier.net.bias.detach().numpy()
    np.testing.assert_allclose(logits, maps.mean(axis=(2, 3)) + bias, atol=1e-4)
    classifier.export(tmp_path / "net.onnx")
    close(open_network(tmp_path / "net.onnx")(x), (logits, maps))


def test_a_vit_gives_a_map_of_its_patches(tmp_path):
    assert context(tmp_path, "auto", "timm/vit_tiny_patch16_224", -1).feature_shape() == (192, 4, 4)


def test_an_unknown_network_of_timm_is_refused():
    with pytest.raises(EngineError, match=r"timm has no model 'resnet1800'; near: timm/resnet"):
        backbone("timm/resnet1800")


def test_unknown_weights_of_timm_are_refused_with_the_known_ones():
    with pytest.raises(EngineError, match=r"timm has no weights 'resnet18\.foo'; known: .*resnet18\.a1_in1k"):
        backbone("timm/resnet18.foo")


@pytest.mark.parametrize("name", ["fastvit_t8", "tiny_vit_5m_224"])
def test_a_network_whose_name_contains_vit_takes_any_side(tmp_path, name):
    assert context(tmp_path, "torch", f"timm/{name}", -1).feature_shape()[1:] == (2, 2)


@pytest.mark.parametrize("name", ["mixer_s32_224", "xcit_nano_12_p16_224"])
def test_a_network_of_timm_without_a_map_is_refused(tmp_path, name):
    words = f"timm/{name} has no feature map with positions for an input of 64 px"
    with pytest.raises(EngineError, match=words):
        context(tmp_path, "torch", f"timm/{name}", -1).feature_shape()


def test_a_side_that_a_network_of_timm_cannot_compute_is_named_with_the_cause(tmp_path):
    words = r"for an input of 160 px \(AssertionError.*network\.input_px"
    own = context(tmp_path, "torch", "timm/halonet26t", -1)
    with pytest.raises(EngineError, match=words):
        dataclasses.replace(own, form=dataclasses.replace(own.form, side_px=160)).feature_shape()


def test_the_backbone_takes_the_full_side_where_it_cannot_compute_a_smaller_one(tmp_path):
    own = context(tmp_path, "torch", "timm/halonet26t", engine="mxnet")
    own = dataclasses.replace(own, form=dataclasses.replace(own.form, side_px=256))
    assert own.probe_form.side_px == 160
    assert own.open_backbone(tmp_path)[1].side_px == 256


@pytest.mark.parametrize(
    ("pretrained_only", "error", "words"),
    [
        (False, EngineError, r"^timm cannot make resnet18 for 64 px \(AssertionError: an odd side\)$"),
        (
            True,
            WeightsError,
            r"^weights of timm/resnet18 could not be fetched \(AssertionError: an odd side\)",
        ),
    ],
)
def test_a_network_that_timm_cannot_make_is_no_failed_download(
    tmp_path, monkeypatch, pretrained_only, error, words
):
    import timm

    make = timm.create_model

    def create_model(name, pretrained, **options):
        if pretrained or not pretrained_only:
            raise AssertionError("an odd side")
        return make(name, pretrained, **options)

    monkeypatch.setattr("timm.create_model", create_model)
    with pytest.raises(error, match=words):
        context(tmp_path, "torch", "timm/resnet18", -1, "imagenet").feature_shape()


def test_another_kind_of_file_is_refused_for_timm_with_the_kinds_it_reads(tmp_path):
    (tmp_path / "w.params").write_bytes(b"x")
    own = context(tmp_path, "torch", "timm/resnet18", -1, str(tmp_path / "w.params"))
    with pytest.raises(WeightsError, match=r"'\.params'; expected \.safetensors or \.pth$"):
        own.feature_shape()


@pytest.fixture
def listed_card(monkeypatch):
    """A card that PyTorch lists; computations for it are made by the given function."""
    card = Card(0, "NVIDIA GeForce GTX 1080", (6, 1), 8 * 2**30)
    monkeypatch.setattr("heatcrop.nets.devices.query_driver", lambda: Driver((13, 0), (card,)))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    properties = types.SimpleNamespace(name=card.name, major=6, minor=1, total_memory=card.memory)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: properties)
    ones = torch.ones

    def compute_with(compute):
        monkeypatch.setattr("torch.ones", lambda *shape, device: compute(ones(*shape)))

    for function in (_found, _found_for_torch):
        function.cache_clear()
    yield compute_with
    for function in (_found, _found_for_torch):
        function.cache_clear()


def test_a_card_that_computes_trains(listed_card):
    listed_card(lambda tensor: tensor)
    assert find_devices(trainer="torch").torch_device == "cuda:0"


def test_a_card_without_code_in_pytorch_does_not_train(listed_card):
    def fail(tensor):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nMore.")

    listed_card(fail)
    found = find_devices(trainer="torch")
    assert (found.training, found.torch_device) == ((), "cpu")
    assert "GTX 1080 does not compute (CUDA error: no kernel image" in found.reason
    assert "More" not in found.reason


def test_a_card_that_computes_wrong_sums_does_not_train(listed_card):
    listed_card(lambda tensor: 2 * tensor)
    with pytest.raises(EngineError, match="no GPU works: NVIDIA GeForce GTX 1080 computes wrong sums with"):
        find_devices("gpu", trainer="torch")


def test_pytorch_without_cuda_is_named_where_there_is_a_card(monkeypatch):
    card = Card(0, "NVIDIA H100", (9, 0), 80 * 2**30)
    monkeypatch.setattr("heatcrop.nets.devices.query_driver", lambda: Driver((12, 4), (card,)))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    _found.cache_clear()
    _found_for_torch.cache_clear()
    try:
        with pytest.raises(EngineError, match=r"no GPU works: PyTorch .* finds no card: it is built"):
            find_devices("gpu", trainer="torch")
    finally:
        _found.cache_clear()
        _found_for_torch.cache_clear()


def test_weights_come_from_a_file_of_safetensors(tmp_path):
    from safetensors.torch import save_file
    from timm import create_model

    torch.manual_seed(3)
    save_file(create_model("resnet18").state_dict(), tmp_path / "w.safetensors")
    plan = NetworkPlan("timm/resnet18", str(tmp_path / "w.safetensors"), -1)
    form = InputForm(SIDE, "pad", backbone("timm/resnet18"))
    found = [NetworkContext(plan, form, tmp_path, seed=seed).open_trunk()(images())[0] for seed in (0, 1)]
    np.testing.assert_array_equal(*found)
    random = context(tmp_path, "auto", "timm/resnet18", -1).open_trunk()(images())[0]
    assert np.abs(random - found[0]).max() > 0.01


def test_weights_from_a_file_are_fitted_to_the_input_as_published_ones(tmp_path):
    from safetensors.torch import save_file
    from timm import create_model

    torch.manual_seed(3)
    name = "vit_tiny_patch16_224"
    state = create_model(name, img_size=96).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    options = {"num_classes": 0, "global_pool": "", "img_size": SIDE}
    expected = create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": state}, **options)
    (found,) = build_modules(f"timm/{name}", str(tmp_path / "w.safetensors"), 0, SIDE)
    for key, tensor in expected.state_dict().items():
        np.testing.assert_array_equal(found.net.state_dict()[key], tensor, err_msg=key)


def test_weights_of_another_network_of_timm_are_refused(tmp_path):
    from safetensors.torch import save_file
    from timm import create_model

    save_file(create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"w\.safetensors: does not fit the network: "):
        build_modules("timm/vit_small_patch16_224", str(tmp_path / "w.safetensors"), 0, SIDE)
