"""The classifier: logits and class maps, freezing, weights on disk, export."""

import dataclasses
import errno
from pathlib import Path

import numpy as np
import onnx
import pytest

from heatcrop.errors import RunError, WeightsError
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.nets.classifier import NetworkContext, NetworkPlan
from heatcrop.nets.devices import ON_CPU
from heatcrop.nets.gluon.classifier import (
    MxnetClassifier,
    build_classifier,
    build_part,
    mxnet_runner,
)
from heatcrop.nets.gluon.engine import mxnet
from heatcrop.nets.inference import open_network
from heatcrop.nets.maps import MapPlan
from heatcrop.nets.weights.params_file import read_params, write_params

BACKBONE = "mobilenet0.25"
SHAPE = (5, 4, 6)
both_engines = pytest.mark.parametrize("engine", ["onnx", "mxnet"])


def context(folder, frozen=-1, engine="onnx"):
    form = InputForm(64, "pad", backbone(BACKBONE))
    return NetworkContext(NetworkPlan(BACKBONE, "none", frozen), form, folder, engine)


@pytest.fixture
def small(tmp_path):
    """Make a linear layer alone, as it is behind a trunk that is frozen completely."""

    def make(seed=0, classes=3, pooling=1.0):
        return MxnetClassifier(build_classifier([], SHAPE, classes, 0.0, seed, pooling), SHAPE)

    return make


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)


def run(classifier, path, x, engine="onnx"):
    """Compute logits and maps by one of the engines; export to a path."""
    if engine == "mxnet":
        return classifier.runner(ON_CPU, MapPlan())(x)
    classifier.export(path)
    return open_network(path)(x)


@both_engines
@pytest.mark.parametrize(("share", "k"), [(0.05, 1), (0.25, 6)])
def test_with_top_k_pooling_logits_are_the_means_of_the_highest_positions(tmp_path, x, engine, share, k):
    classifier = MxnetClassifier(build_classifier([], SHAPE, 3, 0.0, 0, share), SHAPE)
    logits, maps = run(classifier, tmp_path / "n.onnx", x, engine)
    flat = np.sort(maps.reshape(len(x), 3, -1), axis=2)
    np.testing.assert_allclose(logits, flat[:, :, -k:].mean(axis=2), atol=1e-5)
    weight = classifier.net.weight.data().asnumpy()
    np.testing.assert_allclose(maps, np.einsum("cf,nfhw->nchw", weight, x), atol=1e-5)


@both_engines
def test_logits_are_the_means_of_the_class_maps_plus_bias(tmp_path, small, x, engine):
    one = small()
    one.net.bias.set_data(mxnet().nd.array([0.5, -1.0, 2.0]))
    logits, maps = run(one, tmp_path / "n.onnx", x, engine)
    np.testing.assert_allclose(logits, maps.mean(axis=(2, 3)) + [0.5, -1.0, 2.0], atol=1e-5)
    weight = one.net.weight.data().asnumpy()
    np.testing.assert_allclose(maps, np.einsum("cf,nfhw->nchw", weight, x), atol=1e-5)


def test_the_logits_are_the_same_without_maps(small, x):
    np.testing.assert_allclose(
        mxnet_runner(small().net)(x)[0], small().runner(ON_CPU, MapPlan())(x)[0], atol=1e-5
    )


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


@pytest.mark.parametrize(("frozen", "sizes"), [(0, (0, 18)), (9, (9, 9)), (-1, (18, 0)), (99, (18, 0))])
def test_a_plan_cuts_the_blocks(monkeypatch, frozen, sizes):
    monkeypatch.setattr(
        "heatcrop.nets.gluon.classifier.build_blocks", lambda *words: list(range(18))[words[-1]]
    )
    plan = NetworkPlan(BACKBONE, "none", frozen)
    trunk, rest = (build_part(plan, 0, part) for part in plan.parts)
    assert (len(trunk), len(rest)) == sizes
    assert trunk + rest == list(range(18))


@both_engines
def test_the_logits_do_not_depend_on_the_number_of_frozen_blocks(tmp_path, image, engine):
    logits = []
    for number in (0, 8, -1):
        here = context(tmp_path / str(number), number, engine)
        trunk, shape = here.open_trunk(), here.feature_shape()
        features = image if trunk is None else trunk(image)[0]
        assert features.shape[1:] == shape
        logits.append(run(here.classifier(shape, 4), tmp_path / "n.onnx", features, engine)[0])
    for other in logits[1:]:
        np.testing.assert_allclose(other, logits[0], atol=1e-4 * max(1, np.abs(other).max()))


@pytest.mark.parametrize(
    ("engine", "export", "written"),
    [("mxnet", True, True), ("mxnet", False, False), ("onnx", True, True), ("onnx", False, True)],
)
def test_a_trunk_is_exported_where_that_is_asked_for_or_needed(tmp_path, engine, export, written):
    here = context(tmp_path, 3, engine)
    assert here.open_trunk(export) is not None
    assert (tmp_path / "trunk.onnx").is_file() == written


def test_without_frozen_blocks_there_is_no_trunk(tmp_path):
    assert context(tmp_path, frozen=0).open_trunk() is None


def test_the_backbone_is_complete_whatever_is_frozen_and_smaller(tmp_path):
    here = context(tmp_path, frozen=3)
    form = dataclasses.replace(here.form, side_px=192)
    runner, form = dataclasses.replace(here, form=form).open_backbone(tmp_path)
    assert form.side_px == 128
    assert runner(np.zeros((3, 3, 128, 128), np.float32))[0].shape == (3, 256, 4, 4)


@both_engines
@pytest.mark.parametrize("frozen", [3, -1])
def test_features_weighed_by_the_linear_layer_are_the_logits(tmp_path, image, engine, frozen):
    here = context(tmp_path, frozen, engine)
    features = here.open_trunk()(image)[0]
    classifier, weights = here.classifier(features.shape[1:], 4), tmp_path / "w.params"
    classifier.save(weights)
    runner = here.open_features(weights, tmp_path / "features.onnx", features.shape[1:], 4)
    weight, bias = (classifier.net.collect_params()[f"classifier0_{name}"] for name in ("weight", "bias"))
    pooled = runner(features)[0].mean(axis=(2, 3))
    logits = pooled @ weight.data().asnumpy().T + bias.data().asnumpy()
    np.testing.assert_allclose(logits, run(classifier, tmp_path / "n.onnx", features)[0], atol=1e-5)


@pytest.mark.parametrize(("side", "probed"), [(288, 192), (64, 32), (32, 32), (448, 288)])
def test_probes_take_an_input_that_fits_the_backbone(tmp_path, side, probed):
    here = context(tmp_path)
    form = dataclasses.replace(here.form, side_px=side)
    assert dataclasses.replace(here, form=form).probe_form.side_px == probed


@both_engines
@pytest.mark.parametrize("name", ["open_classifier", "open_features"])
def test_a_trained_network_is_opened_without_the_published_weights(tmp_path, monkeypatch, engine, name):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.setenv("MXNET_GLUON_REPO", (tmp_path / "absent").as_uri())
    here, weights = context(tmp_path, 3, engine), tmp_path / "w.params"
    shape = here.feature_shape()
    classifier = here.classifier(shape, 4)
    classifier.save(weights)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    expected = getattr(here, name)(weights, tmp_path / "a.onnx", shape, 4)(x)[0]
    published = dataclasses.replace(here, network=NetworkPlan(BACKBONE, "imagenet", 3))
    found = getattr(published, name)(weights, tmp_path / "b.onnx", shape, 4)(x)[0]
    np.testing.assert_array_equal(found, expected)


# --- weights


def test_saved_weights_are_loaded_also_where_they_are_not_finite(tmp_path, small):
    saved = small(seed=1)
    saved.net.bias.set_data(mxnet().nd.array([1, float("nan"), 2]))
    saved.save(tmp_path / "w.params")
    loaded = small(seed=2).load(tmp_path / "w.params")
    for one, other in ((saved.net.weight, loaded.net.weight), (saved.net.bias, loaded.net.bias)):
        np.testing.assert_array_equal(one.data().asnumpy(), other.data().asnumpy())


@pytest.mark.parametrize(
    ("name", "cause"),
    [("w.params", r".*has shape \(3, 5\), the network expects"), ("missing.params", ".*No such file")],
)
def test_weights_that_are_missing_or_of_another_network_are_reported(tmp_path, small, name, cause):
    small().save(tmp_path / "w.params")
    with pytest.raises(WeightsError, match=f"{name}: {cause}.*run --all makes it again"):
        small(classes=7).load(tmp_path / name)


def test_weights_keep_their_pooling(tmp_path, small, x):
    one = small(pooling=0.25)
    one.save(tmp_path / "w.params")
    loaded = small().load(tmp_path / "w.params")
    assert loaded.pooling == 0.25
    np.testing.assert_array_equal(run(one, tmp_path / "a.onnx", x)[0], run(loaded, tmp_path / "b.onnx", x)[0])


@pytest.mark.parametrize("pooling", [np.zeros(1), np.full(1, 1.5), np.ones(2)])
def test_an_impossible_pooling_is_reported(tmp_path, small, pooling):
    one = small()
    one.save(tmp_path / "w.params")
    write_params(tmp_path / "w.params", {**read_params(tmp_path / "w.params"), "pooling": pooling})
    with pytest.raises(WeightsError, match=r"w.params: its pooling is .*expected one share"):
        one.load(tmp_path / "w.params")


def test_weights_that_the_disk_cut_short_are_reported_and_leave_no_file(tmp_path, monkeypatch, small):
    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:60])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        small().save(tmp_path / "w.params")
    assert not list(tmp_path.iterdir())


# --- the exported file


def test_names_and_shapes_of_the_exported_file(tmp_path, small):
    small().export(tmp_path / "net.onnx")
    graph = onnx.load(str(tmp_path / "net.onnx")).graph
    assert [i.name for i in graph.input] == ["data"]  # and no weights
    assert [o.name for o in graph.output] == ["logits", "maps"]
    for rows in (1, 4):
        logits, maps = open_network(tmp_path / "net.onnx")(np.zeros((rows, *SHAPE), np.float32))
        assert logits.shape == (rows, 3)
        assert maps.shape == (rows, 3, 4, 6)


def test_an_exported_file_is_a_snapshot(tmp_path, small, x):
    one, path = small(), tmp_path / "net.onnx"
    before = run(one, path, x)[0]
    one.net.bias.set_data(mxnet().nd.array([10, 10, 10]))
    np.testing.assert_array_equal(open_network(path)(x)[0], before)
    np.testing.assert_allclose(run(one, path, x)[0], before + 10, atol=1e-5)


@pytest.mark.parametrize("content", [None, b"", b"damaged"])
def test_a_damaged_file_is_reported_with_the_fix(tmp_path, content):
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"net\.onnx: cannot be opened as a network \(.*\); export again"):
        open_network(path, fix="export again")


@both_engines
def test_a_trained_classifier_is_opened_from_its_files(tmp_path, engine):
    here, shape = context(tmp_path, engine=engine), (256, 2, 2)
    one = here.classifier(shape, 3)
    one.save(tmp_path / "w.params")
    features = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    opened = here.open_classifier(tmp_path / "w.params", tmp_path / "n.onnx", shape, 3)
    np.testing.assert_allclose(opened(features)[0], one.runner(ON_CPU, MapPlan())(features)[0], atol=1e-4)
    assert (tmp_path / "n.onnx").exists() == (engine == "onnx")
