"""The classifier: logits and class maps, freezing, weights on disk, export."""

import numpy as np
import onnx
import onnxruntime
import pytest

from heatcrop.errors import RunError, WeightsError
from heatcrop.metrics.calibration import softmax
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.nets.classifier import Classifier, NetworkContext, NetworkPlan, build_classifier, split_blocks
from heatcrop.nets.engine import mxnet
from heatcrop.nets.inference import mxnet_runner, open_network

LITE0 = "efficientnet_lite0"
SHAPE = (5, 4, 6)


def context(folder, name=LITE0, weights="none", frozen=-1, engine="onnx"):
    form = InputForm(64, "pad", backbone(name))
    return NetworkContext(NetworkPlan(name, weights, frozen), form, folder, engine)


@pytest.fixture
def small(tmp_path):
    """Make a linear layer alone, as it is behind a trunk that is frozen completely."""

    def make(seed=0, classes=3):
        return Classifier(build_classifier([], SHAPE, classes, 0.0, seed), SHAPE, context(tmp_path))

    return make


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)


def exported(classifier, path):
    classifier.export(path)
    return open_network(path)


@pytest.mark.parametrize("engine", ["onnx", "mxnet"])
def test_logits_are_the_means_of_the_class_maps_plus_bias(tmp_path, small, x, engine):
    one = small()
    one.net.bias.set_data(mxnet().nd.array([0.5, -1.0, 2.0]))
    run = one.runner() if engine == "mxnet" else exported(one, tmp_path / "n.onnx")
    logits, maps = run(x)
    np.testing.assert_allclose(logits, maps.mean(axis=(2, 3)) + [0.5, -1.0, 2.0], atol=1e-5)
    weight = one.net.weight.data().asnumpy()
    np.testing.assert_allclose(maps, np.einsum("cf,nfhw->nchw", weight, x), atol=1e-5)


def test_the_logits_are_the_same_without_maps(small, x):
    np.testing.assert_allclose(mxnet_runner(small().net)(x)[0], small().runner()(x)[0], atol=1e-5)


def test_dropout_acts_in_training_only():
    mx = mxnet()
    net = build_classifier([], (500, 2, 2), 2, 0.5, seed=0)
    x = mx.nd.ones((1, 500, 2, 2))
    np.testing.assert_array_equal(net(x).asnumpy(), net(x).asnumpy())
    with mx.autograd.record():
        one, other = net(x).asnumpy(), net(x).asnumpy()
    assert (one != other).any()


def test_the_seed_decides_the_fresh_classifier(small):
    one, same, other = (small(seed).net.weight.data().asnumpy() for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


# --- freezing


@pytest.mark.parametrize(
    ("frozen", "sizes"),
    [(0, (0, 18)), (9, (9, 9)), (16, (16, 2)), (17, (17, 1)), (-1, (18, 0)), (99, (18, 0))],
)
def test_a_plan_cuts_the_blocks(frozen, sizes):
    assert tuple(map(len, split_blocks(NetworkPlan(LITE0, "none", frozen), seed=0))) == sizes


@pytest.mark.parametrize(("name", "frozen"), [(LITE0, (0, 17)), ("mobilenet0.25", (0, 8, -1))])
@pytest.mark.parametrize("engine", ["onnx", "mxnet"])
def test_the_logits_do_not_depend_on_the_number_of_frozen_blocks(tmp_path, image, name, frozen, engine):
    logits = []
    for number in frozen:
        here = context(tmp_path / str(number), name, "none", number, engine)
        trunk, features = here.open_trunk(), image
        if trunk is not None:
            (features,) = trunk(image)
        shape = here.feature_shape()
        assert features.shape[1:] == shape
        one = here.classifier(shape, 4)
        run = one.runner() if engine == "mxnet" else exported(one, tmp_path / "n.onnx")
        logits.append(run(features)[0])
    for other in logits[1:]:
        np.testing.assert_allclose(other, logits[0], atol=1e-4 * max(1, np.abs(other).max()))


def test_without_frozen_blocks_there_is_no_trunk(tmp_path):
    assert context(tmp_path, frozen=0).open_trunk() is None


def test_the_backbone_is_complete_whatever_is_frozen(tmp_path, image):
    assert context(tmp_path, frozen=3).open_backbone(tmp_path)(image)[0].shape == (3, 1280, 2, 2)


# --- weights


def test_saved_weights_are_loaded(tmp_path, small):
    small(seed=1).save(tmp_path / "w.params")
    loaded = small(seed=2).load(tmp_path / "w.params").net.weight.data().asnumpy()
    np.testing.assert_array_equal(loaded, small(seed=1).net.weight.data().asnumpy())


def test_weights_of_another_network_are_reported(tmp_path, small):
    small().save(tmp_path / "w.params")
    with pytest.raises(WeightsError, match="w.params: .*shape incompatible.*run --all makes it again"):
        small(classes=7).load(tmp_path / "w.params")


def test_missing_weights_are_reported(tmp_path, small):
    with pytest.raises(WeightsError, match="missing.params.*run --all makes it again"):
        small().load(tmp_path / "missing.params")


def test_weights_that_are_not_finite_can_be_saved(tmp_path, small):
    one = small()
    one.net.bias.set_data(mxnet().nd.array([1, float("nan"), 2]))
    one.save(tmp_path / "w.params")
    assert np.isnan(small().load(tmp_path / "w.params").net.bias.data().asnumpy()).tolist() == [0, 1, 0]


def test_weights_that_the_disk_cut_short_are_reported_and_leave_no_file(tmp_path, monkeypatch, small):
    one = small()
    original = type(one.net).save_parameters

    def cut(self, path):
        original(self, path)
        with open(path, "rb+") as file:
            file.truncate(60)

    monkeypatch.setattr(type(one.net), "save_parameters", cut)
    with pytest.raises(OSError, match="could not be written completely"):
        one.save(tmp_path / "w.params")
    assert not list(tmp_path.iterdir())


# --- the exported file


def test_names_and_shapes_of_the_exported_file(tmp_path, small):
    small().export(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["data"]
    assert [o.name for o in session.get_outputs()] == ["logits", "maps"]
    for rows in (1, 4):
        logits, maps = session.run(None, {"data": np.zeros((rows, *SHAPE), np.float32)})
        assert logits.shape == (rows, 3)
        assert maps.shape == (rows, 3, 4, 6)


def test_weights_are_no_inputs_of_the_exported_file(tmp_path, small):
    small().export(tmp_path / "net.onnx")
    graph = onnx.load(str(tmp_path / "net.onnx")).graph
    assert not {t.name for t in graph.initializer} & {i.name for i in graph.input}


def test_an_exported_file_is_a_snapshot(tmp_path, small, x):
    one, path = small(), tmp_path / "net.onnx"
    before = exported(one, path)(x)[0]
    one.net.bias.set_data(mxnet().nd.array([10, 10, 10]))
    np.testing.assert_array_equal(open_network(path)(x)[0], before)
    np.testing.assert_allclose(exported(one, path)(x)[0], before + 10, atol=1e-5)


@pytest.mark.parametrize("content", [None, b"", b"damaged"])
def test_a_damaged_file_is_reported_with_the_fix(tmp_path, content):
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"net\.onnx: cannot be opened as a network \(.*\); export again"):
        open_network(path, fix="export again")


@pytest.mark.parametrize("engine", ["onnx", "mxnet"])
def test_a_trained_classifier_is_opened_from_its_files(tmp_path, x, engine):
    here = context(tmp_path, engine=engine)
    one = here.classifier((1280, 2, 2), 3)
    one.save(tmp_path / "w.params")
    features = np.random.default_rng(0).normal(size=(2, 1280, 2, 2)).astype(np.float32)
    run = here.open_classifier(tmp_path / "w.params", tmp_path / "n.onnx", (1280, 2, 2), 3)
    np.testing.assert_allclose(run(features)[0], one.runner()(features)[0], atol=1e-4)
    assert (tmp_path / "n.onnx").exists() == (engine == "onnx")


def test_softmax_is_safe_for_large_logits():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]])), [[1, 0], [0.5, 0.5]])
