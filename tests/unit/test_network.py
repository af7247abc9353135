import numpy as np
import onnx
import onnxruntime
import pytest

from heatcrop.errors import EngineError, WeightsError
from heatcrop.nets.backbones import ZOO, backbone, build_blocks
from heatcrop.nets.classifier import NetworkPlan, build_classifier, build_trunk, feature_count, split_blocks
from heatcrop.nets.dilation import dilate_last_stage
from heatcrop.nets.engine import gluoncv_net, mxnet
from heatcrop.nets.inference import block_runner, mxnet_runner, onnx_runner, softmax
from heatcrop.nets.onnx_export import export_onnx
from heatcrop.training.branch import load_classifier

SIDE = 64
SHAPE = (3, SIDE, SIDE)
LITE0 = "efficientnet_lite0"


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)


def small_net(seed=0, channels=5, classes=3, with_maps=True):
    """A classifier alone, as it stands behind a trunk that is frozen whole."""
    net = build_classifier([], (channels, 4, 6), classes, 0.0, seed)
    net.with_maps = with_maps
    return net


@pytest.mark.parametrize("engine", ["onnx", "mxnet"])
def test_logits_are_the_mean_of_the_class_maps_plus_bias(tmp_path, engine):
    net = small_net()
    net.bias.set_data(mxnet().nd.array([0.5, -1.0, 2.0]))
    x = np.random.default_rng(1).normal(size=(2, 5, 4, 6)).astype(np.float32)
    logits, maps = block_runner(net, (5, 4, 6), tmp_path / "n.onnx", ("logits", "maps"), engine)(x)
    assert logits.shape == (2, 3) and maps.shape == (2, 3, 4, 6)
    np.testing.assert_allclose(logits, maps.mean(axis=(2, 3)) + [0.5, -1.0, 2.0], atol=1e-5)
    weight = net.weight.data().asnumpy()
    np.testing.assert_allclose(maps, np.einsum("cf,nfhw->nchw", weight, x), atol=1e-5)


def test_with_and_without_maps_the_logits_are_the_same():
    x = np.random.default_rng(1).normal(size=(2, 5, 4, 6)).astype(np.float32)
    net = small_net()
    with_maps = mxnet_runner(net)(x)[0]
    net = small_net(with_maps=False)
    np.testing.assert_allclose(mxnet_runner(net)(x)[0], with_maps, atol=1e-5)


@pytest.mark.parametrize("name", [LITE0, "resnet18_v2", "resnet50_v2", "mobilenet0.25"])
def test_a_dilated_backbone_holds_the_old_map_at_every_second_position(tmp_path, name, x):
    blocks = build_blocks(name, "imagenet" if name == LITE0 else "none", seed=3)
    (old,) = block_runner(build_trunk(blocks), SHAPE, tmp_path / "old.onnx", ("features",), "onnx")(x)
    dilate_last_stage(blocks, name)  # the same weights
    (fine,) = block_runner(build_trunk(blocks), SHAPE, tmp_path / "fine.onnx", ("features",), "onnx")(x)
    assert old.shape[2:] == (2, 2) and fine.shape[2] >= 3
    np.testing.assert_allclose(fine[:, :, ::2, ::2], old, atol=1e-4 * np.abs(old).max())
    assert np.abs(fine[:, :, 1::2]).max() > 0


def test_a_plan_asks_for_dilation(x):
    shapes = []
    for dilated in (False, True):
        blocks, _ = split_blocks(NetworkPlan("resnet18_v2", "none", -1, dilated=dilated), seed=3)
        shapes.append(mxnet_runner(build_trunk(blocks))(x)[0].shape)
    assert shapes == [(3, 512, 2, 2), (3, 512, 4, 4)]


def test_a_backbone_that_pools_its_last_stage_cannot_be_dilated():
    with pytest.raises(EngineError, match=r"densenet121 cannot be dilated.*network\.dilated"):
        split_blocks(NetworkPlan("densenet121", "none", 0, dilated=True), seed=0)


def test_dropout_acts_in_training_only():
    mx = mxnet()
    net = build_classifier([], (500, 2, 2), 2, 0.5, seed=0)
    x = mx.nd.ones((1, 500, 2, 2))
    still = [net(x).asnumpy() for _ in range(2)]
    np.testing.assert_array_equal(*still)
    with mx.autograd.record():
        moved = [net(x).asnumpy() for _ in range(2)]
    assert (moved[0] != moved[1]).any()


@pytest.mark.parametrize("engine", ["onnx", "mxnet"])
def test_wherever_it_is_frozen_the_logits_are_those_of_the_whole_network(tmp_path, x, engine):
    logits, counts = [], []
    for frozen in (0, 9, 16, 17, -1, 99):
        trunk_blocks, rest = split_blocks(NetworkPlan(LITE0, "imagenet", frozen), seed=0)
        counts.append((len(trunk_blocks), len(rest)))
        trunk, features, shape = build_trunk(trunk_blocks), x, SHAPE
        if trunk is not None:
            run = block_runner(trunk, SHAPE, tmp_path / f"t{frozen}.onnx", ("features",), engine)
            (features,) = run(x)
            shape = features.shape[1:]
        net = build_classifier(rest, shape, 4, 0.0, seed=5)
        net.with_maps = True
        run = block_runner(net, shape, tmp_path / f"n{frozen}.onnx", ("logits", "maps"), engine)
        logits.append(run(features)[0])
    assert counts == [(0, 18), (9, 9), (16, 2), (17, 1), (18, 0), (18, 0)]
    for other in logits[1:]:
        np.testing.assert_allclose(other, logits[0], atol=1e-4)


def test_nothing_frozen_is_no_trunk():
    assert build_trunk([]) is None
    assert feature_count([], (320, 2, 2)) == 320


def test_the_seed_decides_the_fresh_classifier():
    one, same, other = (small_net(seed).weight.data().asnumpy() for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).any()
    assert (small_net().bias.data().asnumpy() == 0).all()


# --- the exported file


def test_names_and_shapes_of_the_exported_file(tmp_path):
    path = tmp_path / "net.onnx"
    export_onnx(small_net(), (5, 4, 6), path, ("logits", "maps"))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["data"]
    assert [o.name for o in session.get_outputs()] == ["logits", "maps"]
    for rows in (1, 4):
        logits, maps = session.run(None, {"data": np.zeros((rows, 5, 4, 6), np.float32)})
        assert logits.shape == (rows, 3) and maps.shape == (rows, 3, 4, 6)
    graph = onnx.load(str(path)).graph
    assert not {t.name for t in graph.initializer} & {i.name for i in graph.input}
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


def test_an_exported_file_is_a_snapshot(tmp_path):
    """Training on changes the net and not the file; exporting again replaces it."""
    net, path = small_net(), tmp_path / "net.onnx"
    x = np.ones((1, 5, 4, 6), np.float32)
    before = block_runner(net, (5, 4, 6), path, ("logits", "maps"), "onnx")(x)[0]
    net.bias.set_data(mxnet().nd.array([10, 10, 10]))
    np.testing.assert_array_equal(onnx_runner(path)(x)[0], before)
    after = block_runner(net, (5, 4, 6), path, ("logits", "maps"), "onnx")(x)[0]
    np.testing.assert_allclose(after, before + 10, atol=1e-5)


def test_softmax_is_safe_for_large_logits():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]])), [[1, 0], [0.5, 0.5]])


# --- backbones


@pytest.fixture(scope="module")
def resnet():
    return build_blocks("resnet18_v2", "none", seed=3)


def test_a_gluoncv_network_builds_splits_and_exports(tmp_path, x, resnet):
    assert len(resnet) > 10  # each residual unit is a place where freezing may end
    outputs = {}
    for engine in ("onnx", "mxnet"):
        trunk_blocks, rest = split_blocks(NetworkPlan("resnet18_v2", "none", 8), seed=3)
        assert len(trunk_blocks) == 8 and len(rest) == len(resnet) - 8
        trunk = block_runner(build_trunk(trunk_blocks), SHAPE, tmp_path / "t.onnx", ("features",), engine)
        (features,) = trunk(x)
        net = build_classifier(rest, features.shape[1:], 4, 0.0, seed=0)
        net.with_maps = True
        outputs[engine] = block_runner(
            net, features.shape[1:], tmp_path / "n.onnx", ("logits", "maps"), engine
        )(features)
    assert outputs["onnx"][0].shape == (3, 4) and outputs["onnx"][1].shape == (3, 4, 2, 2)
    for one, other in zip(outputs["onnx"], outputs["mxnet"], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(other).max()))


def test_random_weights_come_from_the_seed(x, resnet):
    def features(blocks):
        return mxnet_runner(build_trunk(blocks[:3]))(x)[0]

    first = features(resnet)
    np.testing.assert_array_equal(features(build_blocks("resnet18_v2", "none", seed=3)), first)
    assert (features(build_blocks("resnet18_v2", "none", seed=4)) != first).any()


def test_a_params_file_of_the_whole_network_is_read(tmp_path, x):
    mx = mxnet()
    mx.random.seed(9)
    net = gluoncv_net("resnet18_v2")
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 64, 64)))
    path = tmp_path / "mine.params"
    net.save_parameters(str(path))
    expected = got = mx.nd.array(x)
    for block in build_blocks("resnet18_v2", str(path)):
        got = block(got)
    for block in net.features[:-2]:  # all but pooling and flattening
        expected = block(expected)
    np.testing.assert_allclose(got.asnumpy(), expected.asnumpy(), atol=1e-4)


def test_an_unknown_backbone_lists_the_known_ones():
    with pytest.raises(EngineError, match="'resnet19_v2'") as caught:
        backbone("resnet19_v2")
    assert all(name in str(caught.value) for name in (LITE0, "inceptionv4", *ZOO))
    assert "near: resnet18_v2" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [LITE0, "resnet18_v2"])
def test_weight_file_errors_are_told(tmp_path, name):
    with pytest.raises(WeightsError, match="no such weight file; give imagenet, none or an existing file"):
        build_blocks(name, str(tmp_path / "none.params"))
    for content in (b"", b"rubbish" * 100):
        path = tmp_path / "mine.params"
        path.write_bytes(content)
        with pytest.raises(WeightsError) as caught:
            build_blocks(name, str(path))
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_weights_of_another_network_are_told(tmp_path):
    path = tmp_path / "other.params"
    small_net().save_parameters(str(path))
    with pytest.raises(WeightsError, match=r"other\.params: does not fit resnet18_v2"):
        build_blocks("resnet18_v2", str(path))
    with pytest.raises(WeightsError, match="shape incompatible.*run --all makes it again"):
        load_classifier(small_net(classes=7), path)
    with pytest.raises(WeightsError, match="missing.params.*run --all makes it again"):
        load_classifier(small_net(), tmp_path / "missing.params")
    loaded = load_classifier(small_net(seed=8), path)
    np.testing.assert_array_equal(loaded.weight.data().asnumpy(), small_net().weight.data().asnumpy())


def test_published_weights_that_cannot_be_fetched_say_how_to_go_on(monkeypatch):
    def offline(name, **options):
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr("heatcrop.nets.backbones.gluoncv_net", offline)
    with pytest.raises(WeightsError, match="could not be fetched") as caught:
        build_blocks("resnet18_v2", "imagenet")
    text = str(caught.value)
    assert "no route to host" in text and "network.weights=none" in text and "\n" not in text
