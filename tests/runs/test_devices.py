"""Which devices are used, what is reported, and how it reaches the engines: with simulated drivers."""

import os

import numpy as np
import onnxruntime
import pytest

import heatcrop.nets.classifier
import heatcrop.nets.devices
from heatcrop.cli.config import Config
from heatcrop.cli.errors import explain
from heatcrop.cli.prediction import config_for
from heatcrop.cli.startup import device_notes
from heatcrop.errors import EngineError
from heatcrop.nets.backbones import InputForm, backbone
from heatcrop.nets.classifier import NetworkContext, NetworkPlan
from heatcrop.nets.devices import ON_CPU, Card, Devices, Driver, find_devices
from heatcrop.nets.gluon.engine import gpu_build, gpu_fault, mixed_precision
from heatcrop.nets.inference import DOUBLING_NETWORK, onnx_cuda, onnx_fault

AMPERE, HOPPER = Card(0, "RTX 3080", (8, 6), 10 * 2**30), Card(1, "H100", (9, 0), 80 * 2**30)


@pytest.fixture
def machine(monkeypatch):
    """Simulate another machine and installation."""
    heatcrop.nets.devices._found.cache_clear()
    monkeypatch.delenv("MXNET_USE_FUSION", raising=False)

    def simulate(*cards, cuda=(11, 8), mxnet=True, onnx=None, fault="", works=""):
        monkeypatch.setattr(heatcrop.nets.devices, "query_driver", lambda: Driver(cuda, cards, fault))
        monkeypatch.setattr(heatcrop.nets.devices, "gpu_build", lambda: mxnet)
        monkeypatch.setattr(heatcrop.nets.devices, "gpu_fault", lambda number: works)
        monkeypatch.setattr(heatcrop.nets.devices, "onnx_cuda", lambda: onnx)
        monkeypatch.setattr(heatcrop.nets.devices, "onnx_fault", lambda card: "")

    yield simulate
    heatcrop.nets.devices._found.cache_clear()


def test_auto_uses_what_works(machine):
    machine(AMPERE, HOPPER, cuda=(13, 0), onnx=(13, 0))
    found = find_devices()
    assert found.training == (AMPERE,)
    assert found.inference == AMPERE
    assert not found.amp
    assert find_devices("gpu", amp=True).amp
    assert find_devices("cpu").training == ()
    assert find_devices("cpu").inference is None


def test_a_required_gpu_that_does_not_work_is_an_error(machine):
    machine(fault="no NVIDIA driver (libcuda.so.1); install it", cuda=None)
    assert find_devices("auto").training == ()
    with pytest.raises(EngineError, match=r"runtime.device is gpu, but no GPU works: no NVIDIA driver"):
        find_devices("gpu")


def test_a_gpu_that_fails_its_trial_is_reported(machine):
    machine(AMPERE, works="does not compute with MXNet (out of memory)")
    with pytest.raises(EngineError, match="RTX 3080 does not compute with MXNet"):
        find_devices("gpu")


def test_a_card_that_only_infers_is_a_gpu_that_works(machine):
    machine(HOPPER, cuda=(13, 0), mxnet=False, onnx=(13, 0))
    found = find_devices("gpu")
    assert found.training == ()
    assert found.inference == HOPPER
    assert device_notes(found)[0].startswith("training on the CPU: H100 is too new for MXNet")


def test_mixed_precision_is_refused_on_the_cpu(machine):
    machine(fault="no NVIDIA driver", cuda=None)
    for device in ("auto", "cpu"):
        with pytest.raises(EngineError, match=r"runtime\.amp .* needs a GPU to train on") as caught:
            find_devices(device, amp=True)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("cuda", "fusion"), [((11, 2), "0"), ((11, 8), None), ((13, 0), None)])
def test_fused_kernels_are_off_for_older_drivers(machine, cuda, fusion):
    machine(AMPERE, cuda=cuda)
    assert find_devices().training == (AMPERE,)
    assert os.environ.get("MXNET_USE_FUSION") == fusion
    os.environ.pop("MXNET_USE_FUSION", None)


def test_a_run_reports_where_it_trains_only_where_that_is_unexpected():
    assert device_notes(Devices((AMPERE, AMPERE), amp=True)) == [
        "training on RTX 3080, RTX 3080, in mixed precision"
    ]
    assert device_notes(ON_CPU) == []
    assert device_notes(Devices(reason="no NVIDIA driver")) == []
    assert device_notes(Devices(reason="too old", driver=True)) == ["training on the CPU: too old"]


def test_prediction_uses_this_machine_and_not_the_one_of_the_run(machine):
    trained = Config.model_validate({"runtime": {"device": "gpu", "amp": True}})
    machine(fault="no NVIDIA driver", cuda=None)
    here = config_for(trained, "auto", "auto").runtime
    assert (here.device, here.amp) == ("auto", False)
    with pytest.raises(EngineError, match="no GPU works"):
        config_for(trained, "auto", "gpu")
    heatcrop.nets.devices._found.cache_clear()
    machine(AMPERE)
    assert config_for(trained, "auto", "auto").runtime.amp
    assert not config_for(Config(), "auto", "auto").runtime.amp
    assert not config_for(trained, "auto", "cpu").runtime.amp


# --- the engines themselves; the builds here are for the CPU


def test_a_build_for_the_cpu_is_recognised():
    assert not gpu_build()
    assert onnx_cuda() is None
    assert gpu_fault(0).startswith("does not compute with MXNet (")
    assert "\n" not in gpu_fault(0)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_onnx_runtime_without_cuda_does_not_start_on_a_card():
    assert "does not start on it" in onnx_fault(HOPPER.number)


def test_the_trial_network_of_onnx_runtime_computes():
    session = onnxruntime.InferenceSession(DOUBLING_NETWORK, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.full((1, 1), 21, np.float32)})[0].tolist() == [[42]]


@pytest.mark.parametrize(
    ("cuda_version", "providers", "expected"),
    [
        ("13.0", ["CUDAExecutionProvider"], (13, 0)),
        ("12.8.1", ["CUDAExecutionProvider"], (12, 8)),
        ("", ["CUDAExecutionProvider"], (0, 0)),
        ("13.0", ["CPUExecutionProvider"], None),
    ],
)
def test_the_cuda_of_onnx_runtime(monkeypatch, cuda_version, providers, expected):
    monkeypatch.setattr(onnxruntime, "cuda_version", cuda_version, raising=False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    assert onnx_cuda() == expected


@pytest.mark.parametrize(
    ("engine", "devices", "expected"),
    [
        ("auto", ON_CPU, ("onnx", None)),
        ("auto", Devices((AMPERE,), amp=True), ("mxnet", 0, True)),
        ("auto", Devices(inference=HOPPER), ("onnx", 1)),
        ("onnx", Devices((AMPERE,), HOPPER), ("onnx", 1)),
        ("mxnet", ON_CPU, ("mxnet", None, False)),
    ],
)
def test_the_engine_that_a_device_gets(tmp_path, monkeypatch, engine, devices, expected):
    module = heatcrop.nets.classifier
    monkeypatch.setattr(module, "open_network", lambda path, gpu: ("onnx", gpu))
    mxnet = "heatcrop.nets.gluon.classifier.mxnet_runner"
    monkeypatch.setattr(mxnet, lambda block, gpu, amp: ("mxnet", gpu, amp))
    monkeypatch.setattr(module, "find_devices", lambda device, amp, trainer: devices)
    form = InputForm(32, "pad", backbone("mobilenet0.25"))
    context = NetworkContext(NetworkPlan("mobilenet0.25", "none", 3), form, tmp_path, engine)
    assert context.open_trunk() == expected
    assert devices.infer_by_trainer(engine) == (expected[0] == "mxnet")


def test_a_session_on_a_card_names_its_number(tmp_path, monkeypatch):
    given = {}

    class Session:
        def __init__(self, network, options, providers):
            given["providers"] = providers

        def get_providers(self):
            return [name if isinstance(name, str) else name[0] for name in given["providers"]]

        def get_inputs(self):
            return [type("Value", (), {"name": "x"})]

        def run(self, names, feed):
            return [feed["x"]]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert onnx_fault(HOPPER.number) == ""
    (name, options), cpu = given["providers"]
    assert (name, options["device_id"], options["use_tf32"], cpu) == (
        "CUDAExecutionProvider",
        "1",
        "0",
        "CPUExecutionProvider",
    )


def test_loading_mixed_precision_leaves_numpy_as_it_was():
    mixed_precision()
    assert "PINF" not in dir(np)
    assert not hasattr(np, "PINF")


def test_a_gpu_out_of_memory_is_reported_with_the_setting():
    error = RuntimeError("Check failed: e == cudaSuccess: CUDA: out of memory")
    assert "cam.training.accumulate" in explain(error)
    assert "--jobs 1" in explain(RuntimeError("std::bad_alloc"))


# --- the commands


@pytest.fixture
def call(call):
    """Run a command on the tiny data, with a network that is trained from its first layer on."""
    given = ["backbone=mobilenet0.25", "weights=none", "frozen_blocks=0", "input_px=64"]
    settings = [word for setting in given for word in ("--set", f"network.{setting}")]
    return lambda *words: call(*words, "--config", "tiny.yaml", *settings)


def test_check_reports_the_cards_and_whether_a_batch_fits(call, machine):
    machine(AMPERE, HOPPER, cuda=(13, 0))
    code, printed = call("check", "--no-speed")
    assert code == 0
    assert "MXNet 1.9.1, 1 GPU\n" in printed
    assert "GPU 0: RTX 3080 (10 GB, compute capability 8.6) trains" in printed
    assert "GPU 1: H100 (80 GB, compute capability 9.0) is too new for MXNet" in printed
    assert "cam: 32 rows at once on a GPU take about" in printed


def test_check_counts_a_batch_that_does_not_fit(call, machine):
    machine(Card(0, "GT 1030", (6, 1), 2**30))
    code, printed = call("check", "--no-speed", "--set", "cam.training.batch_size=4096")
    assert code == 1
    assert "too much for GT 1030" in printed
    assert "2 problems found" in printed


def test_check_reports_a_missing_driver_and_continues(call, machine):
    machine(fault="no NVIDIA driver (libcuda.so.1); install it", cuda=None)
    code, printed = call("check", "--no-speed")
    assert code == 0
    assert "no GPU: training on the CPU" in printed
    assert "GPU: no NVIDIA driver (libcuda.so.1); install it" in printed
    assert "rows at once" not in printed


@pytest.mark.parametrize("settings", [("runtime.device=gpu",), ("runtime.amp=true",)])
def test_a_required_device_that_is_missing_ends_in_one_line(call, machine, tmp_path, settings):
    machine(fault="no NVIDIA driver", cuda=None)
    words = [word for setting in settings for word in ("--set", setting)]
    code, printed = call("run", "--all", "--out", tmp_path / "run", *words)
    assert code == 1
    assert printed.startswith("error: runtime.")
    assert printed.count("\n") == 1
    assert not (tmp_path / "run" / "config.yaml").exists()
    code, printed = call("check", "--no-speed", *words)
    assert code == 1
    assert "GPU: runtime." in printed
    assert "1 problem found" in printed


def test_other_devices_are_refused(call):
    code, printed = call("check", "--set", "runtime.device=tpu")
    assert code == 2
    assert "runtime.device" in printed
    assert "'tpu'" in printed
