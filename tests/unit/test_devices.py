"""What the driver reports, and what is computed where: with simulated drivers and cards."""

import ctypes
import dataclasses
import types

import pytest

from heatcrop.errors import EngineError
from heatcrop.nets.devices import Card, Devices, Driver, choose_devices, choose_trainer, query_driver
from tests.soak.stub_cuda import build_stub, compiler

GB = 2**30


def card(name, capability, memory=8 * GB, number=0):
    return Card(number, name, capability, memory)


MAXWELL, PASCAL, TURING, AMPERE, ADA, HOPPER, BLACKWELL, KEPLER = (
    card("GTX 970", (5, 2)),
    card("GTX 1080", (6, 1)),
    card("RTX 2080", (7, 5)),
    card("RTX 3080", (8, 6)),
    card("RTX 4090", (8, 9)),
    card("H100", (9, 0)),
    card("RTX 5090", (12, 0)),
    card("Tesla K80", (3, 7)),
)
CU11, CU13 = (11, 8), (13, 0)


class Fake:
    """A driver as ctypes would show it, for machines without a C compiler."""

    def __init__(self, cards, cuda, init):
        def put(at, value):
            at._obj.value = value
            return 0

        def of(device):
            return cards[device.value - 40]

        def put_name(buffer, length, device):
            buffer.value = of(device).name.encode()
            return 0

        self.cuDriverGetVersion = lambda at: put(at, cuda[0] * 1000 + cuda[1] * 10)
        self.cuInit = lambda flags: init
        self.cuDeviceGetCount = lambda at: put(at, len(cards))
        self.cuDeviceGet = lambda at, number: put(at, number + 40)
        self.cuDeviceGetAttribute = lambda at, what, device: put(at, of(device).capability[what - 75])
        self.cuDeviceTotalMem_v2 = lambda at, device: put(at, of(device).memory)
        self.cuDeviceGetName = put_name


@pytest.fixture(params=["fake", "compiled"] if compiler() else ["fake"])
def driver(request, tmp_path):
    """Query a simulated driver."""

    def query(*cards, cuda=CU11, init=0):
        if request.param == "fake":
            return query_driver(lambda name: Fake(cards, cuda, init))
        library = build_stub(tmp_path, cards, cuda, init)
        return query_driver(lambda name: ctypes.CDLL(str(library)))

    return query


def test_the_cards_are_what_the_driver_reports(driver):
    cards = (card("NVIDIA A100-SXM4-80GB", (8, 0), 85_899_345_920), card("Tesla T4", (7, 5), 16 * GB, 1))
    assert driver(*cards, cuda=(12, 4)) == Driver((12, 4), cards)


@pytest.mark.parametrize(
    ("init", "words"),
    [(100, "finds no card"), (803, "restart the machine"), (999, "cuInit: error 999); nvidia-smi")],
)
def test_a_driver_that_does_not_start_is_explained(driver, init, words):
    found = driver(AMPERE, init=init)
    assert found.cards == ()
    assert words in found.fault
    assert found.cuda == CU11


def test_hidden_cards_are_reported(driver, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES is ''" in driver(init=100).fault
    assert "finds no card" in driver().fault  # none counted


def test_a_missing_driver_is_reported_with_how_to_install_it():
    def missing(name):
        assert name == "libcuda.so.1"
        raise OSError(f"{name}: cannot open shared object file")

    found = query_driver(missing)
    assert found.cuda is None
    assert "apt install nvidia-driver" in found.fault
    assert "--gpus all" in found.fault


def test_a_library_that_is_no_driver_is_reported():
    found = query_driver(lambda name: types.SimpleNamespace())
    assert "does not answer" in found.fault
    assert found.cards == ()


def test_an_error_of_the_driver_is_reported():
    def cuDeviceGetCount(at):
        return 3

    fake = Fake([AMPERE], CU11, 0)
    fake.cuDeviceGetCount = cuDeviceGetCount
    assert "cuDeviceGetCount: error 3" in query_driver(lambda name: fake).fault


# --- what is computed where


@pytest.mark.parametrize("fit", [MAXWELL, PASCAL, TURING, AMPERE, ADA], ids=lambda c: c.name)
def test_maxwell_to_ada_train(fit):
    found = choose_devices(Driver(CU11, (fit,)), True, None)
    notes = (f"GPU 0: {fit} trains",)
    assert found == Devices(training=(fit,), inference=None, notes=notes, reason="", driver=True)


NEWER, OLDER = "GPU=new", "GPU=1"


@pytest.mark.parametrize(
    ("cards", "cuda", "gpu_build", "onnx", "words", "advice"),
    [
        ((HOPPER, BLACKWELL), CU13, True, None, ["too new for MXNet"], [NEWER]),
        ((HOPPER, BLACKWELL), (12, 4), False, CU13, ["too new", "580 or newer"], []),
        ((KEPLER,), CU13, True, None, ["too old for MXNet"], []),
        ((KEPLER,), CU13, True, CU13, ["too old for MXNet"], []),
        ((KEPLER,), CU13, True, (12, 8), ["too old for MXNet"], []),
        ((AMPERE,), CU11, False, None, ["make run GPU=1 trains on it"], [OLDER]),
        ((AMPERE,), (10, 2), True, None, ["450 or newer", "CUDA 10.2"], []),
    ],
)
def test_a_card_that_computes_nothing_is_explained(cards, cuda, gpu_build, onnx, words, advice):
    for one in cards:
        found = choose_devices(Driver(cuda, (one,)), gpu_build, onnx)
        assert (found.training, found.inference, found.driver) == ((), None, True)
        assert [word for word in words if word not in found.reason] == []
        assert [word for word in (NEWER, OLDER) if word in found.notes[0]] == advice


@pytest.mark.parametrize("new", [HOPPER, BLACKWELL], ids=lambda c: c.name)
def test_a_card_too_new_for_mxnet_infers_where_onnx_runtime_can(new):
    found = choose_devices(Driver(CU13, (new,)), False, CU13)
    assert (found.training, found.inference) == ((), new)
    assert "too new" in found.reason
    assert "ONNX Runtime computes all but the training" in found.notes[0]
    assert NEWER not in found.reason


def test_of_several_cards_the_supported_ones_train():
    cards = tuple(dataclasses.replace(c, number=i) for i, c in enumerate((HOPPER, AMPERE, KEPLER, ADA)))
    found = choose_devices(Driver(CU13, cards), True, CU13)
    assert found.training == (cards[1], cards[3])
    assert found.inference == cards[0]
    assert found.reason == ""
    assert [note.split(":")[0] for note in found.notes] == ["GPU 0", "GPU 1", "GPU 2", "GPU 3"]


def test_of_several_cards_too_new_the_first_infers():
    cards = (HOPPER, card("H200", (9, 0), 140 * GB, 1))
    found = choose_devices(Driver(CU13, cards), False, CU13)
    assert found.inference == cards[0]
    assert ["ONNX Runtime computes" in note for note in found.notes] == [True, False]


def test_a_card_that_fails_a_trial_is_excluded():
    cards = (AMPERE, card("RTX 4090", (8, 9), 24 * GB, 1))

    def mxnet_fault(number):
        return "is out of memory" if number == 0 else ""

    found = choose_devices(Driver(CU13, cards), True, CU13, "auto", mxnet_fault, lambda one: "does not start")
    assert (found.training, found.inference) == ((cards[1],), None)
    assert "is out of memory; does not start" in found.notes[0]


def test_unsupported_cards_are_not_tried():
    def never(one):
        raise AssertionError("tried")

    choose_devices(Driver(CU11, (HOPPER, KEPLER)), True, None, "auto", never, never)
    choose_devices(Driver(CU13, (AMPERE,)), True, CU13, "cpu", never, never)


def test_the_cpu_can_be_required():
    found = choose_devices(Driver(CU13, (AMPERE,)), True, CU13, "cpu")
    assert (found.training, found.inference, found.driver) == ((), None, False)
    assert found.notes == ("GPU: not used, runtime.device is cpu",)


def test_a_missing_driver_is_only_a_note():
    found = choose_devices(Driver(None, fault="no NVIDIA driver"), True, CU13)
    assert found == Devices(notes=("GPU: no NVIDIA driver",), reason="no NVIDIA driver", driver=False)
    assert choose_devices(Driver(CU11, fault="finds no card"), False, None).driver


@pytest.mark.parametrize(("trainer", "backbone"), [("torch", "resnet18_v2"), ("auto", "timm/resnet18")])
def test_a_missing_pytorch_is_reported_with_the_command(monkeypatch, trainer, backbone):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(EngineError, match="not installed: make install TRAINER=torch"):
        choose_trainer(trainer, backbone, "cpu")
    assert choose_trainer("auto", "resnet18_v2", "cpu") == "mxnet"
