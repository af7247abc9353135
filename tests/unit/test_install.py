"""The installation by uv, and by pip where uv is of no use, with programs that note how they are called."""

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
