"""Backbones: names, last maps, weights, dilation; a step of training and the export of each kind of network.

``tests/soak/backbones.py`` does the same for every family of the model zoo.
"""

from pathlib import Path

import numpy as np
import pytest

from heatcrop.errors import EngineError, WeightsError
from heatcrop.nets.backbones import BACKBONES, ZOO, InputForm, backbone, build_blocks, expand
from heatcrop.nets.classifier import NetworkContext, NetworkPlan, split_blocks
from heatcrop.nets.dilation import dilate_last_stage
from heatcrop.nets.engine import gluoncv_net, mxnet
from heatcrop.nets.feature_blocks import feature_blocks
from heatcrop.nets.inceptionv4 import inception_v4
from heatcrop.nets.inference import open_network
from heatcrop.training.loop import TrainingPlan, train

LITE0 = "efficientnet_lite0"
# Name, input side, blocks (1 for a network that is no sequence), last map.
KINDS = [
    ("mobilenetv2_0.25", 64, 23, (1280, 2, 2)),  # residual units
    ("squeezenet1.1", 64, 21, (512, 3, 3)),  # a convolution as head
    ("alexnet", 96, 8, (256, 2, 2)),  # hidden layers in the head
    ("shufflenet_v1", 64, 18, (960, 2, 2)),  # reshapes
    ("hrnet_w18_small_v1_c", 64, 1, (2048, 2, 2)),  # branches
]


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)


def chain(blocks, x):
    x = mxnet().nd.array(x)
    for block in blocks:
        x = block(x)
    return x.asnumpy()


def check_training_and_export(folder, name, side, n_blocks, last_map):
    """Train a network for one step, and compare its export with it."""
    form = InputForm(side, "pad", backbone(name))
    classifier = NetworkContext(NetworkPlan(name, "none"), form, folder).classifier((3, side, side), 3)
    net = classifier.net
    assert len(net.blocks) == n_blocks
    assert net.weight.shape == (3, last_map[0])
    x = np.random.default_rng(0).normal(size=(3, 3, side, side)).astype(np.float32)
    trained = [p for p in net.collect_params().values() if p.grad_req != "null"]
    before = [p.data().asnumpy() for p in trained]
    batch, nothing = (x, np.eye(3, dtype=np.float32)), (0.0, float("nan"), 0.0)
    plan = TrainingPlan(1, 3, "sgd", 1e-3, head_rate=10)
    (epoch,) = train(net, lambda _: iter([batch]), 1, lambda _: nothing, plan, 0)
    assert np.isfinite(epoch.train_loss)
    # The head's two parameters and the first layer's: gradients reached the input. (Some residual branches
    # start at zero, and the layers within them change one step later.)
    for p, old in zip(trained[:3], before[:3], strict=True):
        assert (p.data().asnumpy() != old).any(), p.name
    classifier.export(folder / "net.onnx")
    exported = open_network(folder / "net.onnx")(x)
    logits, maps = net(mxnet().nd.array(x))
    assert maps.shape == (3, 3, *last_map[1:])
    for one, other in zip(exported, (logits.asnumpy(), maps.asnumpy()), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(other).max()))


@pytest.mark.parametrize(("name", "side", "n_blocks", "last_map"), KINDS, ids=[kind[0] for kind in KINDS])
def test_each_kind_of_network_trains_and_exports(tmp_path, name, side, n_blocks, last_map):
    check_training_and_export(tmp_path, name, side, n_blocks, last_map)


# --- names and input sides


def test_the_named_networks_exist_in_the_zoo():
    build_blocks("mobilenet0.25", "none")  # imports the zoo
    from gluoncv.model_zoo.model_zoo import _models

    named = [name for pattern in ZOO for name in expand(pattern)]
    assert len(named) == len(set(named)) == len(BACKBONES) - 2
    assert set(named) <= set(_models)


def test_an_unknown_backbone_lists_the_known_ones():
    with pytest.raises(EngineError, match="'resnet19_v2'; near: resnet18_v2") as caught:
        backbone("resnet19_v2")
    assert all(name in str(caught.value) for name in (LITE0, "inceptionv4", *ZOO))


@pytest.mark.parametrize(
    ("name", "px", "words"),
    [
        ("resnet18_v1b", 100, "a multiple of 32, 32 or more"),
        ("inceptionv3", 64, "75 or more"),
        ("residualattentionnet56", 256, "224 and no other"),
        ("alexnet", 32, "a multiple of 32, 64 or more"),
    ],
)
def test_a_side_that_does_not_fit_is_explained(name, px, words):
    assert backbone(name).misfit(px) == f"input_px is {px}; {name} needs {words}"


@pytest.mark.parametrize(("name", "px"), [("inceptionv3", 299), ("residualattentionnet56", 224)])
def test_a_side_that_fits_is_accepted(name, px):
    assert backbone(name).misfit(px) == ""


# --- the last feature map


def test_the_last_map_through_the_original_head_gives_the_original_answer(x):
    net = gluoncv_net("resnet18_v1b")
    net.initialize(mxnet().init.Xavier())
    features = mxnet().nd.array(chain(feature_blocks(net, 224, "resnet18_v1b"), x))
    answer = net.fc(net.flat(net.avgpool(features))).asnumpy()
    np.testing.assert_allclose(answer, net(mxnet().nd.array(x)).asnumpy(), rtol=1e-4, atol=1e-5)


def test_a_network_that_is_no_sequence_keeps_its_weights(x):
    net = gluoncv_net("hrnet_w18_small_v1_c")
    net.initialize(mxnet().init.Xavier())
    (block,) = feature_blocks(net, 224, "hrnet")
    x = mxnet().nd.array(x)
    answer = net.classifier(net.avg(block(x))).asnumpy()
    np.testing.assert_allclose(answer, net(x).asnumpy(), rtol=1e-4, atol=1e-5)


def test_a_network_without_a_map_is_refused():
    nn = mxnet().gluon.nn
    net = nn.HybridSequential()
    net.add(nn.Flatten(), nn.Dense(4), nn.Dense(2))
    with pytest.raises(EngineError, match="mlp has no feature map"):
        feature_blocks(net, 32, "mlp")


# --- inception v4


def test_inception_v4_has_the_papers_parameters():
    net = inception_v4()
    net.infer_shape(mxnet().nd.zeros((1, 3, 299, 299)))
    learned = [p for p in net.collect_params().values() if p.grad_req != "null"]
    assert sum(int(np.prod(p.shape)) for p in learned) == 42_679_816  # 42.68 million


def test_inception_v4_has_the_papers_maps():
    """Szegedy et al. 2016, figures 3 to 9."""
    x, shapes = mxnet().sym.var("data"), []
    for block in list(inception_v4().features._children.values())[:22]:
        x = block(x)
        shapes.append(x.infer_shape(data=(1, 3, 299, 299))[1][0][1:])
    stem = [(32, 149, 149), (32, 147, 147), (64, 147, 147), (160, 73, 73), (192, 71, 71), (384, 35, 35)]
    assert shapes == stem + [(384, 35, 35)] * 4 + [(1024, 17, 17)] * 8 + [(1536, 8, 8)] * 4


def test_inception_v4_has_no_published_weights():
    with pytest.raises(WeightsError, match=r"no ImageNet weights of inceptionv4.*network\.weights=none"):
        build_blocks("inceptionv4", "imagenet")


# --- weights


def test_random_weights_come_from_the_seed(x):
    one, same, other = (chain(build_blocks("resnet18_v2", "none", seed)[:3], x) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_file_of_the_original_network_is_read(tmp_path, x):
    net = gluoncv_net("resnet18_v2")
    net.initialize(mxnet().init.Xavier())
    net(mxnet().nd.array(x))
    net.save_parameters(str(tmp_path / "mine.params"))
    blocks = build_blocks("resnet18_v2", str(tmp_path / "mine.params"))
    expected = chain(net.features[:-2], x)  # all but pooling and flattening
    np.testing.assert_allclose(chain(blocks, x), expected, atol=1e-4)


@pytest.mark.parametrize("name", [LITE0, "resnet18_v2"])
def test_a_missing_weight_file_is_reported(name):
    with pytest.raises(WeightsError, match="no such weight file; give imagenet, none or an existing file"):
        build_blocks(name, "missing.params")


@pytest.mark.parametrize("content", [b"", b"damaged" * 100])
@pytest.mark.parametrize("name", [LITE0, "resnet18_v2"])
def test_a_damaged_weight_file_is_reported_in_one_line(tmp_path, name, content):
    path = tmp_path / "mine.params"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        build_blocks(name, str(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_reported(tmp_path):
    other = gluoncv_net("squeezenet1.1")
    other.initialize()
    other(mxnet().nd.zeros((1, 3, 224, 224)))
    other.save_parameters(str(tmp_path / "other.params"))
    with pytest.raises(WeightsError, match=r"other\.params: does not fit resnet18_v2"):
        build_blocks("resnet18_v2", str(tmp_path / "other.params"))


def test_published_weights_that_cannot_be_fetched_are_reported_with_the_fix(monkeypatch):
    def offline(name, **options):
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr("heatcrop.nets.backbones.gluoncv_net", offline)
    with pytest.raises(WeightsError, match=r"no route to host.*network\.weights=none$"):
        build_blocks("resnet18_v2", "imagenet")


# --- dilation


@pytest.mark.parametrize("name", [LITE0, "resnet18_v2", "mobilenet0.25", "shufflenet_v2"])
def test_a_dilated_backbone_has_the_old_map_at_every_second_position(x, name):
    blocks = build_blocks(name, "imagenet" if name == LITE0 else "none", seed=3)
    old = chain(blocks, x)
    dilate_last_stage(blocks, name)  # the same weights
    fine = chain(blocks, x)
    np.testing.assert_allclose(fine[:, :, ::2, ::2], old, atol=1e-4 * np.abs(old).max())
    assert np.abs(fine[:, :, 1::2]).max() > 0


@pytest.mark.parametrize(("dilated", "side"), [(False, 2), (True, 4)])
def test_a_plan_asks_for_dilation(dilated, side):
    plan = NetworkPlan("resnet18_v2", "none", -1, dilated=dilated)
    context = NetworkContext(plan, InputForm(64, "pad", backbone("resnet18_v2")), Path())
    assert context.feature_shape() == (512, side, side)


@pytest.mark.parametrize("name", ["resnet50_v1d", "inceptionv3", "shufflenet_v1", "xception", "densenet121"])
def test_a_backbone_that_pools_its_last_map_cannot_be_dilated(name):
    with pytest.raises(EngineError, match=rf"{name} cannot be dilated.*network\.dilated"):
        split_blocks(NetworkPlan(name, "none", 0, dilated=True), seed=0)
