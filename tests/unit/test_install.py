"""The installation by uv, and by pip where uv is of no use, with programs that note how they are called."""

import os
import subprocess

import pytest

from tests.tiny_run import ROOT

PYTHON = """#!/bin/sh
echo "python $*" >> "{log}"
case "$*" in
  "-m pip config list") echo "{config}" ;;
  *requirements/uv.txt) exit {no_uv} ;;
  *check_engine) echo ready ;;
esac
"""
UV = """#!/bin/sh
echo "uv $*" >> "{log}"
exit {fault}
"""
NO_DRIVER = (
    "error: mxnet-cu112 is installed but the NVIDIA driver (libcuda.so.1) is not; install the driver "
    "(Debian: apt install nvidia-driver; Ubuntu: ubuntu-drivers install; a container: --gpus all)"
)
NO_LIBRARY = (
    "error: system libraries are missing (libgomp.so.1); on Debian or Ubuntu: apt install libgomp1 libgl1"
)


@pytest.fixture
def installed_by(tmp_path):
    """Install some packages in an environment of stubs; return which programs installed them, in order."""

    def install(config="", no_uv=0, fault=0):
        log, programs = tmp_path / "log", tmp_path / "venv" / "bin"
        programs.mkdir(parents=True)
        for name, text in (("python", PYTHON), ("uv", UV)):
            (programs / name).write_text(text.format(log=log, config=config, no_uv=no_uv, fault=fault))
            (programs / name).chmod(0o755)
        words = ["sh", "tools/install", str(programs.parent), "packages.txt", "python3"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.endswith("ready\n")
        calls = [line for line in log.read_text().splitlines() if line.endswith("-r packages.txt")]
        assert all("--no-deps --require-hashes" in call for call in calls)
        return [call.split()[0] for call in calls]

    return install


def test_uv_installs(installed_by):
    assert installed_by() == ["uv"]


def test_pip_installs_where_uv_fails(installed_by):
    assert installed_by(fault=2) == ["uv", "python"]


def test_pip_installs_where_uv_is_not_to_be_had(installed_by):
    assert installed_by(no_uv=1) == ["python"]


@pytest.mark.parametrize("config", ["global.index-url='https://127.0.0.1/'", ":env:.no-index='1'"])
def test_pip_installs_where_its_configuration_chooses_the_index(installed_by, config):
    assert installed_by(config=config) == ["python"]


def test_uv_installs_beside_an_additional_index(installed_by):
    assert installed_by(config="global.extra-index-url='file:///packages'") == ["uv"]


@pytest.fixture
def checked(tmp_path):
    """Install where the final check prints a message; return what is printed, and apt-get's arguments."""

    def install(message):
        log = tmp_path / "log"
        log.touch()
        scripts = {
            "python": f'case "$*" in *check_engine*) echo "{message}" >&2; exit 1 ;; esac',
            "uv": "exit 0",
            "id": "echo 0",
            "apt-get": f'echo "$*" >> {log}',
        }
        for name, text in scripts.items():
            (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
            (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / "bin" / name).chmod(0o755)
        words = ["sh", "tools/install", str(tmp_path), "packages.txt", "python3"]
        path = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run(words, cwd=ROOT, env=path, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        return done.stderr, log.read_text()

    return install


def test_a_missing_driver_is_reported_and_nothing_is_installed(checked):
    assert checked(NO_DRIVER) == (f"{NO_DRIVER}\n", "")


def test_missing_system_libraries_are_installed(checked):
    assert checked(NO_LIBRARY)[1].endswith("--no-install-recommends libgomp1 libgl1\n")
