import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import re
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import heatcrop.runs.progress
from heatcrop.data.settings import SILENT, spoken
from heatcrop.files import atomic_path, write_array, write_json, write_table, write_text
from heatcrop.nets.inference import softmax
from heatcrop.runs.boxes import read_boxes
from heatcrop.runs.changes import origin
from heatcrop.runs.fingerprint import files_stamp, fingerprint, is_current
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import join, read_predictions, split, write_predictions
from heatcrop.training.loop import TrainingPlan
from stage2_crop.rule import CropRule


def test_whole_leaves_the_old_file_when_the_work_fails(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="halfway"), atomic_path(path) as partial:
        partial.write_text("ne")
        raise RuntimeError("halfway")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["figures.json"]


def test_whole_shows_nothing_before_the_work_is_done(tmp_path):
    path = tmp_path / "a" / "b.txt"
    with atomic_path(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["b.txt"]


def test_whole_replaces_a_file(tmp_path):
    path = tmp_path / "b.txt"
    for text in ("one", "two"):
        write_text(path, text)
    assert path.read_text() == "two"


def test_json_has_null_for_what_json_has_no_word_for(tmp_path):
    path = tmp_path / "x.json"
    write_json(
        path,
        {
            "nan": float("nan"),
            "inf": np.float32("inf"),
            3: [np.float64("nan"), np.int64(7)],
            "deep": {"where": tmp_path, "all": (1.5, None, "Länge")},
            "yes": np.bool_(True),
        },
    )
    text = path.read_text(encoding="utf-8")
    assert not re.search("nan|infinity", text.split('"deep"')[0].replace('"nan"', ""), re.IGNORECASE)
    assert json.loads(text) == {
        "nan": None,
        "inf": None,
        "3": [None, 7],
        "deep": {"where": str(tmp_path), "all": [1.5, None, "Länge"]},
        "yes": True,
    }


def test_tables_and_arrays_round_trip(tmp_path):
    write_table(tmp_path / "t.csv", pd.DataFrame({"name": ["a,b", 'c"d'], "n": [1, 2]}))
    assert (tmp_path / "t.csv").read_bytes().startswith(b'name,n\n"a,b",1\n')
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_array(tmp_path / "a.npy", array)
    assert (np.load(tmp_path / "a.npy", mmap_mode="r") == array).all()


# --- fingerprints


PARTS = [
    {"a": 1},
    {"a": 2},
    {"a": "1"},
    {"b": 1},
    [1, 2],
    [2, 1],
    "1",
    1,
    1.5,
    None,
    True,
    np.zeros(3, np.float32),
    np.zeros(3, np.float64),
    np.zeros((3, 1), np.float32),
    np.array([0, 0, 1], np.float32),
    CropRule(),
    CropRule(threshold=0.351),
    TrainingPlan(),
    TrainingPlan(steps=(7, 12)),
    np.array(["a", "b"]),
    np.array(["a", "c"]),
]


def test_every_kind_of_part_changes_the_fingerprint():
    marks = [fingerprint("head", part, "tail") for part in PARTS]
    assert len(set(marks)) == len(marks)
    assert all(re.fullmatch("[0-9a-f]{32}", mark) for mark in marks)


@given(st.integers(0, 3), st.lists(st.integers(0, 9), min_size=4, max_size=4), st.integers(10, 99))
def test_changing_one_part_of_several_changes_the_fingerprint(place, parts, other):
    changed = [*parts[:place], other, *parts[place + 1 :]]
    assert fingerprint(*parts) != fingerprint(*changed)
    assert fingerprint(*parts) == fingerprint(*list(parts))


def test_parts_do_not_run_together():
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint([1], [2]) != fingerprint([1, 2])


@pytest.mark.parametrize("n", [0, 1, 999, 1000, 1001, 2500])
def test_a_long_list_is_hashed_in_pieces_like_its_whole_json(n):
    part = [f"\u00fc{i}" for i in range(n)]
    whole = hashlib.blake2b(json.dumps(part).encode() + b"\0", digest_size=16).hexdigest()
    assert fingerprint(part) == fingerprint(tuple(part)) == whole


def test_the_order_of_keys_does_not_matter():
    assert fingerprint({"a": 1, "b": {"x": 0, "y": 1}}) == fingerprint({"b": {"y": 1, "x": 0}, "a": 1})


def test_two_dataclasses_with_the_same_fields_differ():
    one = dataclasses.make_dataclass("One", [("x", int)])
    other = dataclasses.make_dataclass("Other", [("x", int)])
    assert fingerprint(one(1)) != fingerprint(other(1))


def test_what_has_no_fixed_form_is_refused():
    with pytest.raises(TypeError, match="set"):
        fingerprint({1, 2})


def test_a_changed_picture_changes_the_stamp(tmp_path):
    path = tmp_path / "p.jpg"
    path.write_bytes(b"abc")
    os.utime(path, ns=(1, 10**18))
    before = files_stamp([str(path)])
    assert before.tolist() == [[3, 10**18]]
    os.utime(path, ns=(1, 10**18 + 1))
    assert (files_stamp([str(path)]) != before).any()
    assert files_stamp([]).shape == (0, 2)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"fingerprint": "other"}', '"abc"', "\x00"])
def test_a_damaged_or_foreign_marker_is_not_current(tmp_path, text):
    marker = tmp_path / ".cam.json"
    marker.write_text(text)
    assert not is_current(marker, "abc")


def test_a_marker_is_current_with_its_own_fingerprint_only(tmp_path):
    marker = tmp_path / ".cam.json"
    assert not is_current(marker, "abc")
    write_json(marker, {"fingerprint": "abc", "seconds": {}})
    assert is_current(marker, "abc") and not is_current(marker, "abd")


# --- predictions and boxes


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(2, 10))
@settings(deadline=None)
def test_probabilities_round_trip_at_eight_decimals(seed, n_rows, n_classes):
    p = softmax(np.random.default_rng(seed).normal(size=(n_rows, n_classes)) * 8)
    np.testing.assert_allclose(split(join(p)), p, atol=0.5e-8 + 1e-15)


def test_prediction_tables_round_trip(tmp_path):
    images, splits = ["a/1.jpg", "NA", "nan,2.jpg"], ["train", "val", "test"]
    p = np.array([[0.123456784, 0.876543216], [0.5, 0.5], [1.0, 0.0]])
    path = tmp_path / "predictions.csv"
    write_predictions(path, images, splits, p, ["Short", "3/4, long"], ["fold 0", "final", "final"])
    assert path.read_text().splitlines()[0] == "image,split,network,class,confidence,probabilities"
    table, back = read_predictions(path)
    assert table["image"].tolist() == images and table["split"].tolist() == splits
    assert table["network"].tolist() == ["fold 0", "final", "final"]
    assert table["class"].tolist() == ["3/4, long", "Short", "Short"]
    written = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert written["confidence"].tolist() == ["0.87654322", "0.50000000", "1.00000000"]
    np.testing.assert_allclose(back, p, atol=0.5e-8 + 1e-15)


def test_a_prediction_table_without_rows_can_be_read_back(tmp_path):
    path = tmp_path / "predictions.csv"
    write_predictions(path, [], [], np.zeros((0, 3)), ["a", "b", "c"])
    table, back = read_predictions(path)
    assert len(table) == 0 and len(back) == 0 and back.ndim == 2


def test_boxes_are_read_as_whole_numbers_and_words_stay_words(tmp_path):
    (tmp_path / "boxes.csv").write_text(
        "image,split,x0,y0,x1,y1,threshold,margin,fallback,score\n"
        "1,train,0,1,20,30,0.35,0.1,,0.5000\nNA,test,4,5,6,7,0.35,0.1,flat,0.0000\n"
    )
    table, boxes = read_boxes(tmp_path / "boxes.csv")
    assert table["image"].tolist() == ["1", "NA"] and table["fallback"].tolist() == ["", "flat"]
    assert boxes.dtype == np.int64 and boxes.tolist() == [[0, 1, 20, 30], [4, 5, 6, 7]]


def test_paths_of_the_contract(tmp_path):
    run = RunFolder(tmp_path)
    task = run.task("neck_design_labels")
    paths = [
        run.config,
        run.metrics,
        run.submission,
        run.report,
        task.boxes,
        task.crops,
        task.heatmaps,
        task.weights(1),
        task.history(1),
        task.predictions(1),
        task.weights(3),
        task.history(3),
        task.predictions(3),
        task.fused,
        task.fusion,
    ]
    assert [p.relative_to(tmp_path).as_posix().replace("neck_design_labels", "T") for p in paths] == [
        "config.yaml",
        "metrics.json",
        "submission.csv",
        "report/index.html",
        "T/boxes.csv",
        "T/crops",
        "T/stage1/heatmaps.npy",
        "T/stage1/weights.params",
        "T/stage1/history.csv",
        "T/stage1/predictions.csv",
        "T/stage3/weights.params",
        "T/stage3/history.csv",
        "T/stage3/predictions.csv",
        "T/stage3/fused.csv",
        "T/stage3/fusion.json",
    ]


# --- progress


def printed(monkeypatch, **how):
    out = io.StringIO()
    monkeypatch.setattr(heatcrop.runs.progress, "console", Console(file=out, width=100, **how))
    return out


def test_progress_is_plain_lines_where_there_is_no_terminal(monkeypatch):
    out = printed(monkeypatch)
    monkeypatch.setattr(heatcrop.runs.progress, "_LINE_SECONDS", 0)
    with heatcrop.runs.progress.progress("work", 4) as bar:
        bar(1)
        bar(2)
    lines = out.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["work: 1/4", "work: 3/4"]
    assert lines[1].endswith("0 s left") and "/s" in lines[1] and "\x1b" not in out.getvalue()


def test_progress_is_a_bar_with_rate_and_time_left_on_a_terminal(monkeypatch):
    out = printed(monkeypatch, force_terminal=True)
    with heatcrop.runs.progress.progress("work", 4) as bar:
        for _ in range(3):
            bar(1)
            time.sleep(0.3)  # the bar is drawn ten times a second
    assert re.search(r"work .*3/4.*/s.*\d:\d\d:\d\d", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()))


def test_no_color_is_obeyed(monkeypatch):
    coloured = re.compile(r"\x1b\[[0-9;]*(3[1-7]|9[1-7])m")
    for no_color, expected in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", no_color)
        out = printed(monkeypatch, force_terminal=True, color_system="standard")
        with heatcrop.runs.progress.progress("work", 4) as bar:
            bar(3)
        assert bool(coloured.search(out.getvalue())) == expected


def work_elsewhere(queue, name):
    heatcrop.runs.progress.forward_to(queue)
    with heatcrop.runs.progress.progress(name, 2) as bar:
        bar(1)
        heatcrop.runs.progress.log(f"{name} logs")
        bar(1)


def test_the_parent_process_shows_the_messages_of_workers(monkeypatch):
    out = printed(monkeypatch)
    monkeypatch.setattr(heatcrop.runs.progress, "_LINE_SECONDS", 0)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    with heatcrop.runs.progress.show_forwarded(queue):
        workers = [context.Process(target=work_elsewhere, args=(queue, name)) for name in ("one", "two")]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
    lines = out.getvalue().splitlines()
    for name in ("one", "two"):
        mine = [line.split(",")[0] for line in lines if line.startswith(name)]
        assert mine == [f"{name}: 1/2", f"{name} logs", f"{name}: 2/2"]


def test_a_setting_that_came_later_leaves_older_fingerprints_alone():
    """At its default it is not told, so that what was made before it came is still up to date."""
    before = dataclasses.make_dataclass("Plan", [("epochs", int, 3)], frozen=True)
    later = dataclasses.field(default=1, metadata=SILENT)
    after = dataclasses.make_dataclass("Plan", [("epochs", int, 3), ("accumulate", int, later)], frozen=True)
    assert fingerprint({"training": before()}) == fingerprint({"training": after()})
    assert fingerprint(after()) != fingerprint(after(accumulate=2))
    assert origin({"t": before()}, 1).settings == origin({"t": after()}, 1).settings == {"t.epochs": 3}
    assert origin({"t": after(accumulate=2)}, 1).settings["t.accumulate"] == 2
    assert fingerprint(TrainingPlan()) != fingerprint(TrainingPlan(accumulate=2))
    assert "accumulate" not in spoken(TrainingPlan())
