"""One process owns a run folder, and a folder of a user is not taken for a run's."""

import json
import os
import subprocess
import sys

import pytest

from heatcrop.cli.run_folders import owned
from heatcrop.errors import RunError
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.lock import locked, read_note, working_for
from tests.tiny_run import ROOT

HOLD = """
import pathlib, sys, time
from heatcrop.runs.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
LENT = """
import pathlib, sys, time
from heatcrop.runs.lock import working_for
with working_for(pathlib.Path(sys.argv[1]), sys.argv[2]):
    print("works", flush=True)
    time.sleep(240)
"""


def start(code, *words):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE)


@pytest.fixture
def owner(tmp_path):
    """A process that owns the folder."""
    with start(HOLD, tmp_path) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_folder_that_another_process_owns_is_refused_with_its_name(tmp_path, owner):
    with pytest.raises(RunError, match=rf"process {owner.pid} on \S+, since 2"), locked(tmp_path):
        pass


def test_a_killed_process_owns_nothing(tmp_path, owner):
    owner.kill()
    owner.wait()
    assert json.loads((tmp_path / ".holder.json").read_text())["pid"] == owner.pid, "it was left"
    with locked(tmp_path):
        assert json.loads((tmp_path / ".holder.json").read_text())["pid"] == os.getpid()


def test_the_note_of_the_owner_is_removed(tmp_path):
    with locked(tmp_path):
        pass
    assert os.listdir(tmp_path) == [".lock"]
    with locked(tmp_path):  # again
        pass


def test_a_worker_ends_when_the_folder_is_given_up(tmp_path):
    """A machine that lost its connection does not write into the next run's files."""
    with locked(tmp_path):
        process = start(LENT, tmp_path, read_note(tmp_path))
        try:
            assert process.stdout.readline() == b"works\n"
            assert process.poll() is None
        except BaseException:
            process.kill()
            raise
    try:
        assert process.wait(timeout=60) == 1
    finally:
        process.kill()
        process.stdout.close()


def test_a_worker_of_a_run_that_has_ended_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    with locked(tmp_path):
        signed = read_note(tmp_path)
    with pytest.raises(RunError, match="has ended"), working_for(tmp_path, signed):
        pass


def test_a_worker_of_the_owner_is_accepted(tmp_path):
    with locked(tmp_path), working_for(tmp_path, read_note(tmp_path)):
        pass


# --- folders of runs and of users


def test_a_run_killed_before_its_first_file_can_begin_again(tmp_path):
    """Its folder has a lock and an unfinished configuration, which are no user's files."""
    for name in (".lock", ".holder.json", ".config.yaml.1-2.partial"):
        (tmp_path / name).write_text("")
    with owned(RunFolder(tmp_path)):
        assert sorted(os.listdir(tmp_path)) == [".holder.json", ".lock"]


def test_a_folder_with_a_users_file_is_refused(tmp_path):
    (tmp_path / ".lock").write_text("")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not a run's"), owned(RunFolder(tmp_path)):
        pass


def test_a_folder_with_a_users_configuration_is_refused_and_left(tmp_path):
    files = {"config.yaml": "# my comments\nname: mine\n", "metrics.json": "mine", "submission.csv": "mine"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    message = "config.yaml: was not written by this program; give --out"
    with pytest.raises(RunError, match=message), owned(RunFolder(tmp_path)):
        pass
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files
