"""Grad-CAM and LayerCAM, against CAM, finite differences and the papers."""

import numpy as np
import pytest

from heatcrop.errors import EngineError
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.nets.classifier import NetworkContext, NetworkPlan
from heatcrop.nets.gluon.blocks import build_blocks
from heatcrop.nets.gluon.classifier import build_classifier, mxnet_runner
from heatcrop.nets.gluon.engine import mxnet
from heatcrop.nets.gluon.gradients import gradient_runner
from heatcrop.nets.maps import MapPlan
from stage1_cam.heatmaps import class_heatmap
from stage2_crop.component import scale_heat

SHAPE = (3, 64, 64)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)


def bent_net(n_classes=3):
    """A convolution, ReLU, a strided convolution, ReLU and batch norm, then pooling and a linear layer."""
    mx = mxnet()
    mx.random.seed(5)
    blocks = []
    for stride in (1, 2):
        block = mx.gluon.nn.HybridSequential()
        block.add(mx.gluon.nn.Conv2D(4, 3, stride, 1, activation="relu", in_channels=3 if stride == 1 else 4))
        if stride == 2:
            block.add(mx.gluon.nn.BatchNorm(in_channels=4))
        block.initialize(mx.init.Xavier())
        blocks.append(block)
    norm = blocks[1][1]  # with statistics unlike those of a batch
    norm.running_mean.set_data(mx.nd.array([0.5, -0.2, 0.1, 1.0]))
    norm.running_var.set_data(mx.nd.array([2.0, 0.5, 1.5, 3.0]))
    net = build_classifier(blocks, (3, 8, 8), n_classes, 0.3, 0)
    net.weight.set_data(mx.nd.array(np.random.default_rng(2).normal(size=(n_classes, 4))))
    net.bias.set_data(mx.nd.array(np.arange(n_classes)))
    return net


@pytest.mark.parametrize(("name", "weights"), [("efficientnet_lite0", "imagenet"), ("squeezenet1.1", "none")])
def test_grad_cam_on_the_last_map_is_the_class_activation_map(tmp_path, x, name, weights):
    """Selvaraju et al. 2017, section 3.1: with pooling and one linear layer they are the same."""
    form = InputForm(64, "pad", backbone(name), 1)
    plan = NetworkPlan(name, weights, dropout=0.2)
    context = NetworkContext(plan, form, tmp_path, maps=MapPlan("grad_cam"))
    context.classifier(SHAPE, 4).save(tmp_path / "w.params")
    (logits, maps), (other_logits, other) = (
        context.open_classifier(tmp_path / "w.params", tmp_path / "net.onnx", SHAPE, 4, by_plan)(x)
        for by_plan in (False, True)
    )
    np.testing.assert_allclose(other_logits, logits, atol=1e-4 * max(1, np.abs(logits).max()))
    np.testing.assert_allclose(other, maps, atol=1e-4 * max(1, np.abs(maps).max()))
    for kind in ("plain", "contrast", "distance"):
        pair = [scale_heat(class_heatmap(some[0], 2, kind)) for some in (other, maps)]
        np.testing.assert_allclose(*pair, atol=2e-3)


def test_the_maps_are_the_papers(x):
    """Against gradients by finite differences of the logits, at the map before the last block."""
    mx, net = mxnet(), bent_net()
    x = x[:2, :, :8, :8]
    found = {method: gradient_runner(net, MapPlan(method, 1))(x) for method in ("grad_cam", "layer_cam")}
    net.cast("float64")
    first, second = net.blocks
    features = first(mx.nd.array(x, dtype="float64")).asnumpy()
    weight, bias = net.weight.data().asnumpy(), net.bias.data().asnumpy()

    def logits_of(maps):
        return second(mx.nd.array(maps, dtype="float64")).asnumpy().mean(axis=(2, 3)) @ weight.T + bias

    step, gradient = 1e-6, np.zeros((2, 3, *features.shape[1:]))
    for position in np.ndindex(features.shape[1:]):
        more, less = features.copy(), features.copy()
        more[(slice(None), *position)] += step
        less[(slice(None), *position)] -= step
        gradient[(slice(None), slice(None), *position)] = (logits_of(more) - logits_of(less)) / (2 * step)
    mean = gradient.mean(axis=(3, 4), keepdims=True)  # alpha of Selvaraju et al., eq. 1
    expected = {
        "grad_cam": (mean * features[:, None]).sum(axis=2),
        "layer_cam": (np.maximum(gradient, 0) * features[:, None]).sum(axis=2),
    }
    for method, maps in expected.items():
        logits, made = found[method]
        np.testing.assert_allclose(logits, logits_of(features), atol=1e-4)
        # Times the number of positions: the constant that makes Grad-CAM CAM.
        np.testing.assert_allclose(made / 64, maps, atol=1e-4 * np.abs(maps).max())
    assert np.abs(expected["grad_cam"] - expected["layer_cam"]).max() > 0.01


def test_layer_cam_on_the_last_map_keeps_the_positive_weights_of_a_class(x):
    net = bent_net()
    x = x[:, :, :8, :8]
    features = x
    for block in net.blocks:
        features = mxnet_runner(block)(features)[0]
    _, maps = gradient_runner(net, MapPlan("layer_cam"))(x)
    weight = np.maximum(net.weight.data().asnumpy(), 0)
    np.testing.assert_allclose(maps, np.einsum("cf,nfhw->nchw", weight, features), atol=1e-4)


def test_one_backward_pass_serves_all_classes_and_changes_no_weight(monkeypatch, x):
    mx = mxnet()
    net = build_classifier(build_blocks("mobilenetv2_0.25", "none"), SHAPE, 5, 0.5, 0)
    before = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    passes, original = [], mx.nd.NDArray.backward
    monkeypatch.setattr(
        mx.nd.NDArray, "backward", lambda self, *a, **k: passes.append(original(self, *a, **k))
    )
    net.hybridize(static_alloc=True)
    run = gradient_runner(net, MapPlan("layer_cam", 2))
    one, two = run(x), run(x)
    assert len(passes) == 2
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)  # no dropout
    for name, parameter in net.collect_params().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), before[name])


def test_many_images_go_in_parts_and_an_earlier_layer_is_finer(x):
    net = bent_net(n_classes=40)
    x = np.random.default_rng(3).normal(size=(5, 3, 8, 8)).astype(np.float32)
    together = gradient_runner(net, MapPlan("grad_cam", 1))(x)
    assert together[0].shape == (5, 40)
    assert together[1].shape == (5, 40, 8, 8)
    alone = [gradient_runner(net, MapPlan("grad_cam", 1))(x[i : i + 1]) for i in range(5)]
    for some, parts in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(some, np.concatenate(parts), atol=1e-5)
    assert gradient_runner(net, MapPlan("grad_cam"))(x)[1].shape == (5, 40, 4, 4)


def test_a_layer_that_is_not_trained_is_refused():
    net = bent_net()
    MapPlan("grad_cam", 2).check(2)
    with pytest.raises(EngineError, match=r"heatmap\.layer is 3, but only the last 2 blocks") as caught:
        gradient_runner(net, MapPlan("grad_cam", 3))
    assert "\n" not in str(caught.value)
