"""Weights of the model zoo's networks from other libraries' files, into the networks of both engines."""

import hashlib
import importlib.util
import json
import struct
import zipfile

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from heatcrop.errors import WeightsError
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.nets.classifier import NetworkContext, NetworkPlan
from heatcrop.nets.gluon.engine import gluoncv_net, mxnet, zoo_checksums
from heatcrop.nets.gluon.onnx_export import export_onnx
from heatcrop.nets.weights.params_file import read_params
from heatcrop.nets.weights.published import RESNETS
from heatcrop.nets.weights.zoo_files import read_named, read_zoo_weights
from tests.torch_file import Tensor, weight_file

SIDE = 64
TORCH = importlib.util.find_spec("torch") is not None
TRAINERS = ["mxnet", pytest.param("torch", marks=pytest.mark.skipif(not TORCH, reason="needs PyTorch"))]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)


def published_net(name):
    """Make a network of the model zoo whose weights and statistics are all different."""
    mx, rng = mxnet(), np.random.default_rng(7)
    net = gluoncv_net(name)
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, SIDE, SIDE)))
    for key, p in net._collect_params_with_prefix().items():
        if key.endswith(("running_var", "gamma")) and key != "features.0.gamma":
            p.set_data(mx.nd.array(rng.uniform(0.5, 1.5, p.shape)))
        elif key.endswith(("running_mean", "beta")) and key != "features.0.beta":
            p.set_data(mx.nd.array(rng.normal(0, 0.1, p.shape)))
    return net


@pytest.fixture(scope="module", params=["resnet18_v2", pytest.param("resnet50_v2", marks=pytest.mark.soak)])
def published(request, tmp_path_factory):
    """Name, network, and its files: as Gluon writes it, and as ONNX."""
    folder, net = tmp_path_factory.mktemp("published"), published_net(request.param)
    net.save_parameters(str(folder / "net.params"))
    export_onnx(net, (3, SIDE, SIDE), folder / "net.onnx", ("logits",))
    return request.param, net, folder


def features(folder, trainer, name, weights, x):
    """Return the last feature map that a network computes from weights."""
    plan = NetworkPlan(name, str(weights), -1)
    own = NetworkContext(plan, InputForm(SIDE, "pad", backbone(name)), folder, trainer=trainer)
    return own.open_trunk()(x)[0]


def assert_same_logits(net, found, x):
    mx = mxnet()
    logits = net.output(net.features[-2:](mx.nd.array(found))).asnumpy()
    expected = net(mx.nd.array(x)).asnumpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 0.01


def write_stripped(path, to, reverse=False):
    """Copy an ONNX file without its names; `reverse` orders its nodes in another valid way."""
    model = onnx.load(path)
    graph, names = model.graph, {"data": "data"}
    if reverse:
        depth, maker = {}, {name for node in graph.node for name in node.output}
        for node in graph.node:
            below = [depth[name] for name in node.input if name in maker]
            depth |= dict.fromkeys(node.output, 1 + max(below, default=0))
        nodes = sorted(graph.node, key=lambda node: -depth[node.output[0]])[::-1]
        assert [n.output[0] for n in nodes] != [n.output[0] for n in graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
    for node in graph.node:
        node.name = ""
        for field in (node.input, node.output):
            field[:] = [names.setdefault(one, str(len(names))) for one in field]
    for one in (*graph.initializer, *graph.input, *graph.output):
        one.name = names.setdefault(one.name, str(len(names)))
    arrays = sorted(graph.initializer, key=lambda one: hashlib.md5(one.name.encode()).digest())
    del graph.initializer[:]
    graph.initializer.extend(arrays)
    onnx.checker.check_model(model)
    onnx.save(model, to)


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("reverse", [pytest.param(False, marks=pytest.mark.soak), True])
def test_an_onnx_file_without_names_gives_the_same_logits(tmp_path, images, published, trainer, reverse):
    name, net, folder = published
    write_stripped(folder / "net.onnx", tmp_path / "own.onnx", reverse)
    assert_same_logits(net, features(tmp_path, trainer, name, tmp_path / "own.onnx", images), images)


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("kind", [".params", "old names", ".safetensors", ".pth"])
def test_files_with_names_give_the_same_logits(tmp_path, images, published, trainer, kind):
    name, net, folder = published
    path, arrays = folder / "net.params", read_params(folder / "net.params")
    if kind == "old names":
        path = tmp_path / "old.params"
        net.collect_params().save(str(path), net.prefix)
        assert "stage1_conv0_weight" in read_params(path)
    elif kind == ".safetensors":
        save_file = pytest.importorskip("safetensors.numpy").save_file
        save_file(arrays, path := tmp_path / "own.safetensors")
    elif kind == ".pth":
        tensors, values = {}, {}
        for key, array in arrays.items():
            strides = tuple(step // array.itemsize for step in array.strides)
            tensors[key] = Tensor(key, 0, array.shape, strides, array.size)
            values[key] = array.ravel()
        path = tmp_path / "own.pth"
        path.write_bytes(weight_file(tensors, values))
    assert_same_logits(net, features(tmp_path, trainer, name, path, images), images)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_published_weights_are_downloaded_by_both_engines(tmp_path, images, monkeypatch, trainer):
    """From an address of the file system, as from a server; the real file cannot be fetched here."""
    net = published_net("resnet18_v2")
    net.save_parameters(str(tmp_path / "net.params"))
    content = (tmp_path / "net.params").read_bytes()
    sha1 = hashlib.sha1(content).hexdigest()
    (tmp_path / "gluon" / "models").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "gluon" / "models" / f"resnet18_v2-{sha1[:8]}.zip", "w") as files:
        files.writestr(f"resnet18_v2-{sha1[:8]}.params", content)
    monkeypatch.setitem(RESNETS, "resnet18_v2", sha1)
    monkeypatch.setitem(zoo_checksums(), "resnet18_v2", sha1)
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MXNET_GLUON_REPO", tmp_path.as_uri())
    found = features(tmp_path, trainer, "resnet18_v2", "imagenet", images)
    assert_same_logits(net, found, images)
    assert (tmp_path / "home" / "models" / f"resnet18_v2-{sha1[:8]}.params").read_bytes() == content


def write_safetensors(path, dtype, shape, data):
    header = json.dumps({"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_bfloat16_is_read_from_safetensors_as_float32(tmp_path):
    pytest.importorskip("safetensors")
    bits = np.array([0x3F80, 0xC020, 0x4049, 0x0000], "<u2")
    array = read_named(write_safetensors(tmp_path / "w.safetensors", "BF16", [2, 2], bits.tobytes()))["w"]
    assert array.dtype == np.float32
    assert array.tolist() == [[1.0, -2.5], [3.140625, 0.0]]


def test_an_unknown_type_of_safetensors_is_named(tmp_path):
    pytest.importorskip("safetensors")
    path = write_safetensors(tmp_path / "w.safetensors", "F8_E4M3", [4], b"0000")
    with pytest.raises(WeightsError, match=r"w\.safetensors: .*its numbers are F8_E4M3; save it as F32"):
        read_named(path)


# --- files that do not fit


SHAPES = {"features.0.gamma": (3,), "features.0.beta": (3,), "features.1.weight": (4, 3, 1, 1)}


def onnx_file(path, nodes, arrays):
    helper = onnx.helper
    value = helper.make_tensor_value_info("data", 1, (1, 3, 8, 8))
    out = helper.make_tensor_value_info("out", 1, (1, 4, 8, 8))
    tensors = [numpy_helper.from_array(np.asarray(a, np.float32), name) for name, a in arrays.items()]
    graph = helper.make_graph([helper.make_node(*one) for one in nodes], "g", [value], [out], tensors)
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.mark.parametrize(
    ("nodes", "arrays", "words"),
    [
        ([("Conv", ["data", "w"], ["out"])], {"w": np.ones((4, 3, 1, 1))}, "holds 1 arrays.*network has 3"),
        (
            [("Conv", ["data", "w", "b"], ["x"]), ("Conv", ["x", "w"], ["out"])],
            {"w": np.ones((4, 3, 1, 1)), "b": np.ones(4)},
            r"at the place of features\.0\.gamma, \(3,\), is a weight of shape \(4, 3, 1, 1\)",
        ),
        ([("Conv", ["data", "absent"], ["out"])], {}, "cannot be read as a network"),
        ([("Relu", ["later"], ["out"]), ("Relu", ["data"], ["later"])], {}, "cannot be read as a network"),
        ([("Relu", ["out"], ["out"])], {}, "cannot be read as a network"),
        ([("Relu", ["data"], ["out"]), ("Relu", ["out"], ["out"])], {}, "outputs have the same name"),
    ],
)
def test_another_network_in_onnx_is_refused(tmp_path, nodes, arrays, words):
    path = onnx_file(tmp_path / "own.onnx", nodes, arrays)
    with pytest.raises(WeightsError, match=words) as caught:
        read_zoo_weights(path, "resnet18_v2", SHAPES)
    assert str(caught.value).startswith(f"{path}: ")


def test_weights_outside_the_onnx_file_are_not_opened(tmp_path):
    arrays = {"w": np.ones((4, 3, 1, 1))}
    path = onnx_file(tmp_path / "own.onnx", [("Conv", ["data", "w"], ["out"])], arrays)
    model = onnx.load(path)
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="its weights are in other files, which are not opened"):
        read_zoo_weights(path, "resnet18_v2", {"features.1.weight": (4, 3, 1, 1)})


@pytest.mark.parametrize(
    ("file", "network", "words"),
    [
        ("own.onnx", "vgg11", r"\.onnx files are read for resnet18_v2, .*not for vgg11"),
        ("own.onnx", "resnet18_v2", "cannot be read as a network in ONNX format"),
        ("own.params", "resnet18_v2", "cannot be read as weights"),
        ("own.pth", "resnet18_v2", "not a weight file of PyTorch"),
        ("own.h5", "resnet18_v2", r"unknown kind of weight file '\.h5'; expected \.params, \.safetensors"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, file, network, words):
    (tmp_path / file).write_bytes(b"no weights at all, of any kind")
    with pytest.raises(WeightsError, match=words):
        read_zoo_weights(tmp_path / file, network, SHAPES)


def test_shapes_of_another_network_are_refused(tmp_path, published):
    name, net, folder = published
    shapes = {key: p.shape for key, p in net._collect_params_with_prefix().items()}
    for file in ("net.params", "net.onnx"):
        other = {key: shape for key, shape in shapes.items() if key.startswith("features")}
        other["features.1.weight"] = (64, 3, 5, 5)
        with pytest.raises(WeightsError, match=r"features\.1\.weight.*\(64, 3, 7, 7\)"):
            read_zoo_weights(folder / file, name, other)


# --- old files of MXNet


@pytest.mark.parametrize("version", [0, 1])
def test_arrays_of_old_versions_are_read_as_mxnet_does(tmp_path, version):
    """Before 0.11, axes and their lengths were 32 bits; then 64; storage types came after that."""
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    head = struct.pack("<III", 2, 2, 3) if version == 0 else struct.pack("<Iiqq", 0xF993FAC8, 2, 2, 3)
    array = head + struct.pack("<iii", 1, 0, 0) + values.tobytes()
    name = struct.pack("<QQ", 1, 1) + b"w"
    path = tmp_path / "old.params"
    path.write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + array + name)
    np.testing.assert_array_equal(mxnet().nd.load(str(path))["w"].asnumpy(), values)
    np.testing.assert_array_equal(read_params(path)["w"], values)
