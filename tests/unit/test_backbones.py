"""Backbones: names, last maps, weights, dilation; a step of training and the export of each kind of network.

``tests/soak/backbones.py`` does the same for every family of the model zoo.
"""

from pathlib import Path

import numpy as np
import pytest

from heatcrop.errors import EngineError, WeightsError
from heatcrop.nets.backbones import BACKBONES, ZOO, InputForm, backbone, expand
from heatcrop.nets.classifier import NetworkContext, NetworkPlan
from heatcrop.nets.gluon.blocks import build_blocks
from heatcrop.nets.gluon.dilation import dilate_last_stage
from heatcrop.nets.gluon.engine import chain, gluoncv_net, mxnet
from heatcrop.nets.gluon.feature_blocks import feature_blocks
from heatcrop.nets.gluon.inceptionv4 import inception_v4
from heatcrop.nets.inference import open_network
from heatcrop.nets.weights.params_file import read_params, write_params
from heatcrop.training.loop import TrainingPlan

from .builders import train_net

LITE0, SMALL = "efficientnet_lite0", "mobilenet0.25"
# Name, input side, blocks (1 for a network that is no sequence), last map.
KINDS = [
    ("mobilenetv2_0.25", 64, 23, (1280, 2, 2)),  # residual units
    ("squeezenet1.1", 64, 21, (512, 3, 3)),  # a convolution as head
    ("alexnet", 96, 8, (256, 2, 2)),  # hidden layers in the head
    ("shufflenet_v1", 64, 18, (960, 2, 2)),  # reshapes
]


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)


def outputs(blocks, x):
    return chain(*blocks)(mxnet().nd.array(x)).asnumpy()


def branching_net(*_, **__):
    """Build a classifier that adds two branches, so that it is no sequence of blocks."""
    nn = mxnet().gluon.nn

    class Branches(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Conv2D(4, 3, 2, 1), nn.Conv2D(4, 1, 2)
            self.pool, self.output = nn.GlobalAvgPool2D(), nn.Dense(5)

        def hybrid_forward(self, F, x):
            return self.output(self.pool(F.relu(self.one(x)) + self.other(x)))

    return Branches()


@pytest.fixture
def published(tmp_path):
    """Make a published network with random weights, saved to a file."""

    def make(name):
        net = gluoncv_net(name)
        net.initialize(mxnet().init.Xavier())
        net(mxnet().nd.zeros((1, 3, 64, 64)))
        net.save_parameters(str(tmp_path / "net.params"))
        return net, str(tmp_path / "net.params")

    return make


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
    (epoch,) = train_net(net, lambda _: iter([batch]), 1, lambda _: nothing, plan, 0)
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


def test_a_network_that_is_no_sequence_trains_and_exports(tmp_path, monkeypatch):
    monkeypatch.setattr("heatcrop.nets.gluon.blocks.gluoncv_net", branching_net)
    check_training_and_export(tmp_path, SMALL, 64, 1, (4, 32, 32))


# --- names and input sides


def test_the_named_networks_exist_in_the_zoo():
    gluoncv_net(SMALL)  # imports the zoo
    from gluoncv.model_zoo.model_zoo import _models

    named = [name for pattern in ZOO for name in expand(pattern)]
    assert len(named) == len(set(named)) == len(BACKBONES) - 2
    assert set(named) <= set(_models)


def test_an_unknown_backbone_lists_the_known_ones():
    with pytest.raises(EngineError, match="'resnet19_v2'; near: resnet18_v2") as caught:
        backbone("resnet19_v2")
    assert all(name in str(caught.value) for name in (LITE0, "inceptionv4", *ZOO))


@pytest.mark.parametrize(
    ("name", "px", "need"),
    [
        ("resnet18_v1b", 100, "a multiple of 32, 32 or more"),
        ("inceptionv3", 64, "75 or more"),
        ("residualattentionnet56", 256, "224 and no other"),
        ("alexnet", 32, "a multiple of 32, 64 or more"),
        ("inceptionv3", 299, ""),
        ("residualattentionnet56", 224, ""),
    ],
)
def test_a_side_that_does_not_fit_is_explained(name, px, need):
    assert backbone(name).misfit(px) == (f"input_px is {px}; {name} needs {need}" if need else "")


# --- the last feature map


def test_the_last_map_through_the_original_head_gives_the_original_answer(x, published):
    net, _ = published("resnet18_v1b")
    features = mxnet().nd.array(outputs(feature_blocks(net, 224, "resnet18_v1b"), x))
    answer = net.fc(net.flat(net.avgpool(features))).asnumpy()
    np.testing.assert_allclose(answer, outputs([net], x), rtol=1e-4, atol=1e-5)


def test_a_network_that_is_no_sequence_keeps_its_weights(x):
    net = branching_net()
    net.initialize()
    (block,) = feature_blocks(net, 224, "branches")
    np.testing.assert_allclose(outputs([block, net.pool, net.output], x), outputs([net], x), atol=1e-5)


def test_a_network_without_a_map_is_refused():
    nn = mxnet().gluon.nn
    with pytest.raises(EngineError, match="mlp has no feature map"):
        feature_blocks(chain(nn.Flatten(), nn.Dense(4), nn.Dense(2)), 32, "mlp")


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
    one, same, other = (outputs(build_blocks("squeezenet1.1", "none", seed)[:3], x) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_file_of_the_original_network_is_read(x, published):
    net, path = published(SMALL)
    expected = outputs(net.features[:-2], x)  # all but pooling and flattening
    np.testing.assert_allclose(outputs(build_blocks(SMALL, path), x), expected, atol=1e-4)


def test_weights_of_another_network_are_reported(published):
    words = r"net\.params: weights do not fit this network \(features\.0\.bias is missing\)"
    with pytest.raises(WeightsError, match=words):
        build_blocks("squeezenet1.1", published(SMALL)[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: {name: array for name, array in arrays.items() if not name.startswith("output")},
        lambda arrays: (
            arrays | {"output.weight": np.zeros((10, 256), "f4"), "output.bias": np.zeros(10, "f4")}
        ),
        lambda arrays: {f"arg:{name}": array for name, array in arrays.items()},
    ],
    ids=["no head", "another head", "prefixes"],
)
def test_a_file_with_another_head_or_with_prefixes_is_read(tmp_path, x, published, change):
    net, path = published(SMALL)
    write_params(tmp_path / "own.params", change(read_params(Path(path))))
    found = outputs(build_blocks(SMALL, str(tmp_path / "own.params")), x)
    np.testing.assert_array_equal(found, outputs(build_blocks(SMALL, path), x))


def test_a_file_in_float16_is_read(tmp_path, x, published):
    net, path = published(SMALL)
    half = {name: array.astype(np.float16) for name, array in read_params(Path(path)).items()}
    write_params(tmp_path / "half.params", half)
    blocks = build_blocks(SMALL, str(tmp_path / "half.params"))
    np.testing.assert_array_equal(blocks[0].weight.data().asnumpy(), half["features.0.weight"])


def test_old_names_are_read_where_the_order_does_not_tell(tmp_path, x, published):
    """The head of MobileNetV2 is a convolution."""
    net, path = published("mobilenetv2_0.25")
    net.collect_params().save(str(tmp_path / "old.params"), net.prefix)
    found = outputs(build_blocks("mobilenetv2_0.25", str(tmp_path / "old.params")), x)
    np.testing.assert_array_equal(found, outputs(build_blocks("mobilenetv2_0.25", path), x))


def test_arrays_without_names_are_refused(tmp_path):
    mxnet().nd.save(str(tmp_path / "own.params"), [mxnet().nd.zeros(3)])
    with pytest.raises(WeightsError, match=r"own\.params: .*it holds 1 array and 0 names"):
        build_blocks(SMALL, str(tmp_path / "own.params"))


@pytest.mark.parametrize("content", [None, b"", b"damaged" * 100])
@pytest.mark.parametrize("name", [LITE0, SMALL])
def test_a_missing_or_damaged_weight_file_is_reported_in_one_line(tmp_path, name, content):
    path = tmp_path / "mine.params"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        build_blocks(name, str(path))
    words = "" if content is not None else "no such weight file; give imagenet, none or an existing file"
    assert str(caught.value).startswith(f"{path}: {words}")
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("name", ["xception71", "shufflenet_v1", "resnext101e_64x4d"])
def test_weights_that_gluoncv_has_not_published_are_reported(name):
    with pytest.raises(EngineError, match=f"no published weights of '{name}'; give a file"):
        build_blocks(name, "imagenet")


@pytest.mark.parametrize(
    ("name", "file"),
    [(SMALL, SMALL), ("resnet50_v1e", "resnet50_v1d"), ("resnest50", "resnest50"), ("vgg11", "vgg11")],
)
def test_weights_that_cannot_be_fetched_are_reported_with_the_fix(monkeypatch, tmp_path, name, file):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.setenv("MXNET_GLUON_REPO", (tmp_path / "absent").as_uri())
    with pytest.raises(
        WeightsError, match=rf"weights of {file} could not be fetched.*network\.weights=none$"
    ):
        build_blocks(name, "imagenet")


# --- dilation


@pytest.mark.parametrize("name", [LITE0, "resnet18_v2", SMALL, "shufflenet_v2"])
def test_a_dilated_backbone_has_the_old_map_at_every_second_position(x, name):
    blocks = build_blocks(name, "imagenet" if name == LITE0 else "none", seed=3)
    old = outputs(blocks, x)
    dilate_last_stage(blocks, name)  # the same weights
    fine = outputs(blocks, x)
    np.testing.assert_allclose(fine[:, :, ::2, ::2], old, atol=1e-4 * np.abs(old).max())
    assert np.abs(fine[:, :, 1::2]).max() > 0


@pytest.mark.parametrize(("dilated", "side"), [(False, 2), (True, 4)])
def test_a_plan_asks_for_dilation(dilated, side):
    plan = NetworkPlan(SMALL, "none", -1, dilated=dilated)
    context = NetworkContext(plan, InputForm(64, "pad", backbone(SMALL)), Path())
    assert context.feature_shape() == (256, side, side)


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("squeezenet1.1", None),  # pools behind its last strided convolution
        ("resnet50_v1d", None),  # beside it
        ("shufflenet_v1", None),  # in a call
        ("unstrided", []),
    ],
)
def test_a_backbone_that_pools_its_last_map_cannot_be_dilated(name, blocks):
    with pytest.raises(EngineError, match=rf"{name} cannot be dilated.*network\.dilated"):
        dilate_last_stage(build_blocks(name, "none") if blocks is None else blocks, name)
