"""Event files for TensorBoard."""

import sys

import pandas as pd
import pytest
from tensorboardX.proto import event_pb2

from tests.tiny_run import TASKS, file_stamps

SET = ("--set", "runtime.tensorboard=true")


@pytest.fixture
def run(call, run_copy):
    return lambda *words: call("run", *words, "--config", "tiny.yaml", "--out", run_copy, "--jobs", "1", *SET)


def test_event_files_hold_the_history_of_each_network(run, run_copy):
    code, printed = run("--all")
    assert code == 0
    assert "tensorboard --logdir" in printed
    for folder in (run_copy / task / stage for task in TASKS for stage in ("stage1", "stage3")):
        for network, rows in pd.read_csv(folder / "history.csv").groupby("network"):
            (file,) = (folder / "events" / network.replace(" ", "")).iterdir()
            events = [event_pb2.Event.FromString(record) for record in records(file)]
            found = {(v.tag, event.step): v.simple_value for event in events for v in event.summary.value}
            assert found["val_map", 1] == pytest.approx(rows["val_map"].iloc[0])
            assert len(found) == 5 * len(rows)


def records(file):
    """Yield the records of a file: length (8 bytes), its checksum (4), the record, its checksum (4)."""
    data, at = file.read_bytes(), 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        yield data[at + 12 : at + 12 + length]
        at += 16 + length


def test_a_missing_event_writer_is_reported_before_the_work(run, run_copy, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    before = file_stamps(run_copy)
    code, printed = run("--task", "neck")
    assert code == 1
    assert "requirements/tensorboard.txt" in printed
    assert file_stamps(run_copy) == before
