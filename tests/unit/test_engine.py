"""The import of MXNet beside a numpy that it was not made for, and the messages where it fails."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFile

from heatcrop.errors import EngineError
from heatcrop.nets.gluon import engine
from heatcrop.nets.gluon.classifier import mxnet_runner
from heatcrop.nets.gluon.engine import explain_import_failure, gluoncv_net, mxnet, open_cuda_libraries
from tools import check_engine

ROOT = Path(__file__).parents[2]

FRESH = """
import numpy as np
before, fallback = set(vars(np)), np.__dict__.get("__getattr__")
from heatcrop.nets.gluon.engine import mxnet
mx = mxnet()
assert mx is mxnet()
left = set(vars(np)) - before - {"int", "float", "object"}
# numpy imports some of its modules on demand (numpy.f2py, ...).
left = {name for name in left if type(getattr(np, name)).__name__ != "module"}
assert not left, left
found = [name for name in ("PINF", "NaN", "float_", "msort", "npv", "cumproduct") if hasattr(np, name)]
assert not found, found
assert np.__dict__.get("__getattr__") is fallback
assert np.ma.array([1, 2], mask=[True, False]).sum() == 2  # Python's `bool` as numpy's would break it
x = mx.nd.array([[1, 2], [3, 4]])
with mx.autograd.record():
    pass
assert (x + 1).sum().asscalar() == 14
print(mx.__version__)
"""


def test_mxnet_runs_and_leaves_numpy_as_it_was():
    """In its own process, since an import happens once."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert done.stdout.strip().startswith("1.9")


@pytest.mark.parametrize(("given", "read"), [(None, "3"), ("1", "1"), ("3", "3")])
def test_mxnet_is_imported_for_so_many_cores_unless_the_user_has_set_them(monkeypatch, given, read):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    seen = []
    monkeypatch.setattr(engine, "mxnet", lambda: seen.append(os.environ["OMP_NUM_THREADS"]))
    engine.import_for_cores(3)
    assert seen == [read]
    assert os.environ.get("OMP_NUM_THREADS") == given


def test_removed_names_have_their_meaning_within_the_block():
    def old(name):  # by name: a linter would replace numpy 1's names by numpy 2's
        return getattr(np, name)

    with pytest.raises(RuntimeError), engine._numpy_one():
        assert [old("PINF"), old("NINF")] == [float("inf"), -float("inf")]
        assert np.isnan(old("NaN"))
        assert old("in1d")([1, 5], [5]).tolist() == [False, True]
        assert old("alltrue")([True, False]) == np.False_
        assert old("product")([2, 3]) == 6
        assert old("trapz")([1, 3]) == 2
        assert old("npv") is None  # a function that MXNet reads and never calls
        with pytest.raises(AttributeError):
            old("no_such_name")
        raise RuntimeError
    assert not hasattr(np, "npv")


# --- failed imports


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("libcuda.so.1: cannot open"), ["NVIDIA driver", "requirements/run.txt"]),
        (OSError("libcudnn.so.8: cannot open"), ["(libcudnn.so.8)", "make install GPU=1"]),
        (OSError("libquadmath.so.0: cannot open"), ["apt install libquadmath0"]),
        (OSError("libgomp.so.1: cannot open"), ["apt install libgomp1"]),
        (ModuleNotFoundError("No module named 'yacs'", name="yacs"), ["'yacs'", "make install"]),
        (OSError("libstrange.so: wrong ELF class"), ["MXNet cannot be imported", "libstrange.so"]),
    ],
)
def test_a_failed_import_is_explained_with_the_fix(error, words):
    text = explain_import_failure(error)
    assert "\n" not in text
    assert all(word in text for word in words)


def test_all_missing_system_libraries_are_named_at_once(monkeypatch):
    monkeypatch.setattr(engine, "_opens", lambda library: False)
    text = explain_import_failure(OSError("libquadmath.so.0: cannot open shared object file"))
    assert "apt install libquadmath0 libgomp1" in text
    assert all(f" {package}" in text for package in engine._SYSTEM_LIBRARIES.values())


@pytest.mark.parametrize("file", ["README.md", "tools/install"])
def test_the_command_for_a_bare_system_names_all_system_packages(file):
    packages = " ".join(("python3 python3-venv", *engine._SYSTEM_LIBRARIES.values()))
    assert packages in (ROOT / file).read_text()


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("No module named 'graphviz'", name="graphviz"), OSError("x")]
)
def test_a_failed_import_becomes_an_engine_error(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(engine.importlib, "import_module", fail)
    with pytest.raises(EngineError):
        mxnet.__wrapped__()


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 14, 0)])
def test_an_unsupported_python_is_reported(monkeypatch, version):
    monkeypatch.setattr(engine.sys, "version_info", version)
    with pytest.raises(EngineError, match=r"3\.10 to 3\.13"):
        mxnet.__wrapped__()


# --- CUDA libraries from Python packages


@pytest.fixture
def nvidia_packages(tmp_path, monkeypatch):
    """An empty namespace package `nvidia` that hides any real one."""
    (tmp_path / "nvidia").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    engine.importlib.invalidate_caches()
    return tmp_path / "nvidia"


def test_a_damaged_cuda_library_is_named_and_ignored(nvidia_packages):
    for package, file in (("cudnn", "libcudnn.so.8"), ("cublas", "libcublas.so.11"), ("cublas", "notes.txt")):
        (nvidia_packages / package / "lib").mkdir(parents=True, exist_ok=True)
        (nvidia_packages / package / "lib" / file).write_bytes(b"\x7fELF this is no library")
    assert sorted(open_cuda_libraries()) == ["libcublas.so.11", "libcudnn.so.8"]


def test_libraries_that_need_each_other_are_opened_in_any_order(nvidia_packages, monkeypatch):
    needs = {"liba.so": "libb.so", "libb.so": "libc.so", "libc.so": None, "libd.so": "libmissing.so"}
    (nvidia_packages / "all" / "lib").mkdir(parents=True)
    for name in needs:
        (nvidia_packages / "all" / "lib" / name).touch()
    opened = []

    def simulate(path, mode):
        name = Path(path).name
        if needs[name] not in (None, *opened):
            raise OSError(f"{needs[name]}: cannot open shared object file")
        opened.append(name)

    monkeypatch.setattr(engine.ctypes, "CDLL", simulate)
    assert open_cuda_libraries() == ["libd.so"]
    assert opened == ["libc.so", "libb.so", "liba.so"]


def test_without_cuda_packages_there_is_nothing_to_open(nvidia_packages):
    assert open_cuda_libraries() == []
    nvidia_packages.rmdir()
    engine.importlib.invalidate_caches()
    assert open_cuda_libraries() == []


@pytest.mark.parametrize("build", [True, False])
def test_cuda_libraries_are_opened_for_the_build_that_needs_them(monkeypatch, build):
    """They are gigabytes of address space."""
    opened = []
    monkeypatch.setattr(engine, "gpu_build", lambda: build)
    monkeypatch.setattr(engine, "open_cuda_libraries", lambda: opened.append(True))
    mxnet.__wrapped__()
    assert bool(opened) == build


# --- GluonCV


def test_an_unknown_gluoncv_network_is_reported():
    with pytest.raises(EngineError, match="'resnet19_v9'"):
        gluoncv_net("resnet19_v9")


def test_pillow_still_refuses_truncated_images():
    gluoncv_net("resnet18_v2")
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_the_check_on_the_command_line(capsys, monkeypatch):
    assert check_engine.main() == 0
    assert "ready" in capsys.readouterr().out

    def fail():
        raise EngineError("no engine today")

    monkeypatch.setattr(check_engine, "mxnet", fail)
    assert check_engine.main() == 1
    assert capsys.readouterr().err == "error: no engine today\n"


# Prints by how many MB a process grows while threads that live for one call each use a network.
CALLS = """
import threading
from pathlib import Path
import numpy as np
from heatcrop.nets.gluon.engine import chain, mxnet
from heatcrop.nets.gluon.classifier import mxnet_runner

convolution = mxnet().gluon.nn.Conv2D
net = chain(convolution(32, 3, 2, in_channels=3), convolution(32, 3, in_channels=32))
net.initialize()
run, x = mxnet_runner(net), np.zeros((4, 3, 256, 256), np.float32)

def call(times):
    for _ in range(times):
        thread = threading.Thread(target=run, args=(x,))
        thread.start()
        thread.join()

def megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

call(4)
before = megabytes()
call(24)
print(megabytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_threads_that_end_leave_no_memory_of_the_engine():
    """MXNet itself keeps 11 MB for each of them, 268 MB in all."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert float(done.stdout) < 60


def test_one_thread_calls_the_engine():
    called_from = engine.in_one_thread(threading.get_ident)
    with ThreadPoolExecutor(4) as pool:
        found = {future.result() for future in [pool.submit(called_from) for _ in range(8)]}
    assert len(found | {called_from()}) == 1
    assert threading.get_ident() not in found


def test_a_cpu_computes_few_images_at_once():
    """The activations of 32 images take three gigabytes instead of one."""
    block, sizes = mxnet().gluon.nn.Dense(2, in_units=3), []
    block.initialize()
    block.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[0]))
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    weight = block.weight.data().asnumpy()
    (found,) = mxnet_runner(block)(x)
    assert sizes == [4, 4, 2]
    np.testing.assert_allclose(found, x @ weight.T, atol=1e-6)


def test_an_error_in_the_engines_thread_arrives_where_it_was_called():
    with pytest.raises(ZeroDivisionError):
        engine.in_one_thread(lambda: 1 // 0)()
