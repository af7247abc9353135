"""At least one network of each family that can be named: its last map, a step of training, its export."""

import numpy as np
import pytest

from heatcrop.errors import EngineError, WeightsError
from heatcrop.nets.backbones import BACKBONES, ZOO, backbone, build_blocks, expand
from heatcrop.nets.classifier import NetworkPlan, build_trunk, split_blocks
from heatcrop.nets.dilation import dilate_last_stage
from heatcrop.nets.dissection import blocks_to_last_map
from heatcrop.nets.engine import gluoncv_net, mxnet
from heatcrop.nets.inceptionv4 import inception_v4
from heatcrop.nets.inference import block_runner
from heatcrop.training.branch import Workshop, new_classifier, open_classifier
from heatcrop.training.loop import TrainingPlan, train

# Name, input side, blocks (places where freezing may end; 1 for what is no sequence), last map.
FAMILIES = [
    ("efficientnet_lite0", 64, 18, (1280, 2, 2)),
    ("resnet18_v1", 64, 12, (512, 2, 2)),
    ("resnet18_v2", 64, 15, (512, 2, 2)),
    ("resnet18_v1b", 64, 12, (512, 2, 2)),
    ("resnet50_v1d", 64, 26, (2048, 2, 2)),
    ("se_resnet18_v1", 64, 12, (512, 2, 2)),
    ("se_resnet18_v2", 64, 15, (512, 2, 2)),
    ("resnext50_32x4d", 64, 20, (2048, 2, 2)),
    ("se_resnext50_32x4d", 64, 20, (2048, 2, 2)),
    ("resnest14", 64, 14, (2048, 2, 2)),
    ("residualattentionnet56", 224, 15, (2048, 7, 7)),
    ("densenet121", 64, 76, (1024, 2, 2)),
    ("mobilenet0.25", 64, 81, (256, 2, 2)),
    ("mobilenetv2_0.25", 64, 23, (1280, 2, 2)),
    ("mobilenetv3_small", 64, 17, (576, 2, 2)),
    ("shufflenet_v1", 64, 18, (960, 2, 2)),
    ("shufflenet_v2", 64, 23, (1024, 2, 2)),
    ("squeezenet1.1", 64, 21, (512, 3, 3)),
    ("vgg11", 64, 21, (512, 2, 2)),
    ("vgg11_bn", 64, 29, (512, 2, 2)),
    ("alexnet", 96, 8, (256, 2, 2)),
    ("googlenet", 64, 22, (1024, 2, 2)),
    ("inceptionv3", 139, 28, (2048, 3, 3)),
    ("inceptionv4", 139, 28, (1536, 3, 3)),
    ("xception", 75, 1, (2048, 3, 3)),
    ("darknet53", 64, 41, (1024, 2, 2)),
    ("dla34", 64, 13, (512, 2, 2)),
    ("hrnet_w18_small_v1_c", 64, 1, (2048, 2, 2)),
]


class Form:
    """The part of an input's form that a network asks for."""

    def __init__(self, side_px):
        self.side_px = side_px


@pytest.mark.parametrize(("name", "side", "n_blocks", "last_map"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_each_family_trains_and_exports(tmp_path, name, side, n_blocks, last_map):
    assert not backbone(name).misfit(side)
    shop = Workshop(NetworkPlan(name, "none"), Form(side), tmp_path)
    net = new_classifier(shop, (3, side, side), 3, 0)
    assert len(net.blocks) == n_blocks and net.weight.shape == (3, last_map[0])
    x = np.random.default_rng(0).normal(size=(3, 3, side, side)).astype(np.float32)
    soft = np.eye(3, dtype=np.float32)
    trained = [p for p in net.collect_params().values() if p.grad_req != "null"]
    before = [p.data().asnumpy() for p in trained]
    (epoch,) = train(
        net,
        lambda _: iter([(x, soft)]),
        1,
        lambda _: (0.0, float("nan"), 0.0),
        TrainingPlan(1, 3, "sgd", 1e-3, head_rate=10),
        0,
    )
    assert np.isfinite(epoch.train_loss)
    moved = [(p.data().asnumpy() != old).any() for p, old in zip(trained, before, strict=True)]
    # The head's two and the first layer's: gradients went all the way. (Some residual branches start at zero,
    # and what lies in them learns a step later.)
    assert all(moved[:3])
    by_onnx = open_classifier(shop, net, (3, side, side), tmp_path / "net.onnx")(x)
    logits, maps = net(mxnet().nd.array(x))
    assert maps.shape == (3, 3, *last_map[1:])
    for one, other in zip(by_onnx, (logits.asnumpy(), maps.asnumpy()), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(other).max()))


def test_every_classifier_of_the_zoo_can_be_named():
    """What is left out is named in :data:`ZOO`'s comment; the rest of the zoo looks for more, or at films."""
    build_blocks("mobilenet0.25", "none")  # opens the zoo
    from gluoncv.model_zoo.model_zoo import _models

    named = [name for pattern in ZOO for name in expand(pattern)]
    assert len(named) == len(set(named)) == len(BACKBONES) - 2 and set(named) <= set(_models)
    families = (
        "resnet",
        "resnext",
        "se_res",
        "senet",
        "resnest",
        "residual",
        "densenet",
        "mobilenet",
        "nasnet",
        "shufflenet",
        "squeezenet",
        "vgg",
        "alexnet",
        "googlenet",
        "inception",
        "xception",
        "dla",
        "darknet",
        "hrnet",
    )
    other = ("cifar", "kinetics", "sthsth", "hmdb51", "ucf101", "custom", "_coco", "_int8", "_gn")
    left = {
        name
        for name in _models
        if name.startswith(families) and not any(word in name for word in other) and name not in named
    }
    assert left == {
        "nasnet_4_1056",
        "nasnet_5_1538",
        "nasnet_6_4032",
        "nasnet_7_1920",
        "hrnet_w18_small_v1_s",
        "hrnet_w18_small_v2_s",
        "hrnet_w48_s",
    }


@pytest.mark.parametrize("name", ["resnet18_v1b", "mobilenetv3_small", "dla34"])
def test_the_blocks_are_the_front_of_the_whole_network(name):
    """The map that they give, through the network's own head, is its own answer."""
    mx = mxnet()
    mx.random.seed(3)
    net = gluoncv_net(name)
    net.initialize(mx.init.Xavier())
    x = features = mx.nd.random.normal(shape=(1, 3, 64, 64))
    seen = []
    whole = net(x)
    for block in blocks_to_last_map(net, 224, name):
        features = block(features)
    if name == "resnet18_v1b":
        seen = net.fc(net.flat(net.avgpool(features)))
    elif name == "mobilenetv3_small":
        tail = list(net.features._children.values())[17:]
        for block in tail:
            features = block(features)
        seen = net.output(features)
    else:  # the deepest of the maps that its head joins
        levels = [net.base_layer, net.level0, net.level1, net.level2, net.level3, net.level4, net.level5]
        expected = x
        for level in levels:
            expected = level(expected)
        whole, seen = expected, features
    np.testing.assert_allclose(seen.asnumpy(), whole.asnumpy(), rtol=1e-4, atol=1e-5)


def test_a_network_that_is_no_sequence_keeps_its_weights():
    mx = mxnet()
    net = gluoncv_net("hrnet_w18_small_v1_c")
    net.initialize(mx.init.Xavier())
    x = mx.nd.random.normal(shape=(1, 3, 64, 64))
    whole = net(x)
    (block,) = blocks_to_last_map(net, 224, "hrnet")
    np.testing.assert_allclose(
        net.classifier(net.avg(block(x))).asnumpy(), whole.asnumpy(), rtol=1e-4, atol=1e-5
    )


def test_a_network_without_a_map_is_told():
    nn = mxnet().gluon.nn
    net = nn.HybridSequential()
    net.add(nn.Flatten(), nn.Dense(4), nn.Dense(2))
    with pytest.raises(EngineError, match="mlp has no feature map"):
        blocks_to_last_map(net, 32, "mlp")


def test_inception_v4_is_the_papers():
    """Szegedy et al. 2016: maps of figures 3 to 9 and, with 1000 classes, 42.68 million parameters."""
    mx = mxnet()
    net = inception_v4()
    net.infer_shape(mx.nd.zeros((1, 3, 299, 299)))
    learned = [p for p in net.collect_params().values() if p.grad_req != "null"]
    assert sum(int(np.prod(p.shape)) for p in learned) == 42_679_816
    x, shapes = mx.sym.var("data"), []
    for block in list(net.features._children.values())[:22]:
        x = block(x)
        shapes.append(x.infer_shape(data=(1, 3, 299, 299))[1][0][1:])
    stem = [(32, 149, 149), (32, 147, 147), (64, 147, 147), (160, 73, 73), (192, 71, 71), (384, 35, 35)]
    assert shapes == stem + [(384, 35, 35)] * 4 + [(1024, 17, 17)] * 8 + [(1536, 8, 8)] * 4


def test_inception_v4_has_no_published_weights_and_reads_a_file(tmp_path):
    with pytest.raises(WeightsError, match=r"no ImageNet weights of inceptionv4.*network\.weights=none"):
        build_blocks("inceptionv4", "imagenet")
    mx = mxnet()
    net = inception_v4()
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 75, 75)))
    net.save_parameters(str(tmp_path / "mine.params"))
    first = build_blocks("inceptionv4", str(tmp_path / "mine.params"))[0]
    np.testing.assert_array_equal(first.weight.data().asnumpy(), net.features[0][0].weight.data().asnumpy())


@pytest.mark.parametrize(
    ("name", "px", "words"),
    [
        ("resnet18_v1b", 100, "a multiple of 32, 32 or more"),
        ("inceptionv3", 64, "75 or more"),
        ("residualattentionnet56", 256, "224 and no other"),
        ("alexnet", 32, "a multiple of 32, 64 or more"),
    ],
)
def test_a_side_that_does_not_fit_is_told(name, px, words):
    assert backbone(name).misfit(px) == f"input_px is {px}; {name} needs {words}"
    assert not backbone("inceptionv3").misfit(299) and not backbone("residualattentionnet56").misfit(224)


@pytest.mark.parametrize("name", ["resnet50_v1d", "inceptionv3", "shufflenet_v1", "xception"])
def test_what_halves_its_map_by_more_than_a_convolution_cannot_be_dilated(name):
    with pytest.raises(EngineError, match=f"{name} cannot be dilated"):
        split_blocks(NetworkPlan(name, "none", 0, dilated=True), seed=0)


@pytest.mark.parametrize("name", ["resnet18_v1b", "resnext50_32x4d", "shufflenet_v2"])
def test_other_families_can_be_dilated(tmp_path, name):
    x = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    blocks = build_blocks(name, "none", seed=3)
    (old,) = block_runner(build_trunk(blocks), (3, 64, 64), tmp_path / "old.onnx", ("features",), "onnx")(x)
    dilate_last_stage(blocks, name)
    (fine,) = block_runner(build_trunk(blocks), (3, 64, 64), tmp_path / "fine.onnx", ("features",), "onnx")(x)
    np.testing.assert_allclose(fine[:, :, ::2, ::2], old, atol=1e-4 * np.abs(old).max())
