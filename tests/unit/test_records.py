"""Stage records: what a stage was made from, whether it is up to date, and why not."""

import dataclasses
import json
import os
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatcrop.cli.config import Config
from heatcrop.cli.runner import StageRunner
from heatcrop.data.dataset import TaskData
from heatcrop.data.groups import single_group
from heatcrop.data.tasks import Task
from heatcrop.errors import RunError
from heatcrop.runs.folder import STAGES, RunFolder
from heatcrop.runs.records import (
    StageInputs,
    file_fault,
    file_stamps,
    fingerprint,
    flatten,
    is_current,
    read_record,
    refuse_old_records,
    rows_fingerprint,
    why_outdated,
    write_record,
)
from heatcrop.timing import Spent
from heatcrop.training.loop import TrainingPlan
from stage2_crop.plan import CropRule
from tests.unit.builders import make_data

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
    np.array(["a", "bc"], object),
    np.array(["ab", "c"], object),
]


def test_another_content_of_the_weight_file_outdates_all_stages(tmp_path):
    weights = tmp_path / "own.params"
    config = Config.model_validate({"network": {"weights": str(weights)}})
    data, found = make_data(["train"] * 4), []
    for content in ("a", "ab"):
        weights.write_text(content)
        runner = StageRunner(config, RunFolder(tmp_path / "run"), [single_group(data)])
        found.append({stage: inputs.fingerprint for (stage, _), inputs in runner.inputs.items()})
    assert all(found[0][stage] != found[1][stage] for stage in STAGES)


def test_every_kind_of_value_has_a_fingerprint_of_its_own():
    found = [fingerprint("head", part, "tail") for part in PARTS]
    assert len(set(found)) == len(PARTS)
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in found)


@given(st.integers(0, 3), st.lists(st.integers(0, 9), min_size=4, max_size=4), st.integers(10, 99))
def test_one_changed_value_of_several_changes_the_fingerprint(place, parts, other):
    changed = [*parts[:place], other, *parts[place + 1 :]]
    assert fingerprint(*parts) != fingerprint(*changed)


@pytest.mark.parametrize(
    ("one", "other"),
    [(("ab", "c"), ("a", "bc")), (([1], [2]), ([1, 2],)), ((["a", "b"],), (["a"], ["b"])), (("",), ())],
)
def test_neighbouring_values_do_not_run_together(one, other):
    assert fingerprint(*one) != fingerprint(*other)


def test_a_list_a_tuple_and_an_array_of_texts_are_the_same_texts():
    texts = ["ü", "", "\udc80"]
    assert fingerprint(texts) == fingerprint(tuple(texts)) == fingerprint(np.array(texts, object))


def test_the_order_of_keys_does_not_matter():
    assert fingerprint({"a": 1, "b": {"x": 0, "y": 1}}) == fingerprint({"b": {"y": 1, "x": 0}, "a": 1})


def test_a_value_without_a_fixed_form_is_refused():
    with pytest.raises(TypeError):
        fingerprint({1, 2})


# --- what a stage is made from

INPUTS = StageInputs({"cam.views": 1}, rows="r", images="i", code=4, previous="p")


@pytest.mark.parametrize(
    "change",
    [{"settings": {"cam.views": 2}}, {"rows": "s"}, {"images": "j"}, {"code": 5}, {"previous": "q"}],
    ids=lambda change: next(iter(change)),
)
def test_each_part_of_the_inputs_counts(change):
    assert dataclasses.replace(INPUTS, **change).fingerprint != INPUTS.fingerprint


def test_nested_settings_get_dotted_names():
    plan = TrainingPlan(steps=(7, 12))
    flat = flatten({"cam": {"training": plan, "views": 2}})
    assert flat["cam.training.steps"] == [7, 12]
    assert flat["cam.training.epochs"] == plan.epochs
    assert flat["cam.views"] == 2


@pytest.fixture
def data():
    letters = np.array([[2, 0], [0, 2]], np.int8)
    texts = [np.array(values, object) for values in (["train", "val"], ["", "g"])]
    return TaskData(Task("t", ("a", "b")), ("1", "2"), ("/1", "/2"), np.ones((2, 2)), letters, *texts)


@pytest.mark.parametrize(
    "change",
    [
        {"task": Task("t", ("a", "c"))},
        {"images": ("1", "3")},
        {"letters": np.array([[2, 0], [1, 2]], np.int8)},
        {"splits": np.array(["train", "test"], object)},
        {"groups": np.array(["", ""], object)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_labels_splits_and_groups_change_the_fingerprint_of_the_rows(data, change):
    assert rows_fingerprint(dataclasses.replace(data, **change)) != rows_fingerprint(data)


def test_images_that_were_moved_have_the_same_rows(data):
    moved = dataclasses.replace(data, paths=("/new/1", "/new/2"))
    assert rows_fingerprint(moved) == rows_fingerprint(data)


def test_stamps_are_sizes_and_times(tmp_path):
    path = tmp_path / "p.jpg"
    path.write_bytes(b"abc")
    os.utime(path, ns=(1, 10**18))
    assert file_stamps([str(path)]).tolist() == [[3, 10**18]]
    assert file_stamps([]).shape == (0, 2)


# --- records


@pytest.fixture
def record(tmp_path):
    """A record of a stage that has left a file and a folder."""
    folder = tmp_path / "neck"
    (folder / "crops").mkdir(parents=True)
    (folder / "a.csv").write_text("abc")
    write_record(folder / ".cam.json", INPUTS, ["a.csv", "crops"], {"train": Spent(1.5, 2.5)})
    return folder / ".cam.json"


def test_a_record_is_read_back(record):
    found = read_record(record)
    assert found["fingerprint"] == INPUTS.fingerprint
    assert found["inputs"] == dataclasses.asdict(INPUTS)
    assert found["files"] == {"a.csv": 3, "crops": None}
    assert found["seconds"] == {"train": 1.5}
    assert found["cpu_seconds"] == {"train": 2.5}


def test_a_stage_is_up_to_date_under_its_own_fingerprint_only(record):
    assert is_current(record, INPUTS.fingerprint)
    assert not is_current(record, "another")


def test_a_stage_without_a_record_is_not_up_to_date(tmp_path):
    assert not is_current(tmp_path / ".cam.json", INPUTS.fingerprint)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"format": 2}', '"abc"', "\x00", "3"])
def test_a_damaged_record_is_none(record, text):
    record.write_text(text)
    assert read_record(record) is None
    assert not is_current(record, INPUTS.fingerprint)


def test_a_record_of_an_earlier_version_is_none(record):
    values = json.loads(record.read_text())
    del values["format"]
    record.write_text(json.dumps(values))
    assert read_record(record) is None


def test_another_file_in_a_recorded_folder_does_not_matter(record):
    (record.parent / "crops" / "notes.txt").write_text("mine")
    assert is_current(record, INPUTS.fingerprint)
    assert file_fault(record) == ""


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda folder: (folder / "a.csv").unlink(), "a.csv is missing"),
        (lambda folder: (folder / "crops").rmdir(), "crops is missing"),
        (lambda folder: (folder / "a.csv").write_text(""), "a.csv is damaged (0 bytes instead of 3)"),
    ],
)
def test_a_missing_or_shorter_file_outdates_the_stage(record, change, fault):
    change(record.parent)
    assert not is_current(record, INPUTS.fingerprint)
    assert file_fault(record) == fault
    assert why_outdated(record, INPUTS) == fault


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"settings": {"cam.views": 2}}, "cam.views 1 -> 2"),
        ({"settings": {}}, "cam.views 1 -> none"),
        ({"settings": {"cam.views": 1, "heatmap.method": "grad_cam"}}, "heatmap.method none -> grad_cam"),
        ({"rows": "s"}, "other labels, splits or groups"),
        ({"images": "j"}, "image files changed"),
        ({"rows": "s", "images": "j"}, "other labels, splits or groups"),
        ({"code": 5}, "this version of the program makes it differently"),
        ({"previous": "q"}, ""),
        ({}, ""),
    ],
)
def test_the_reason_names_what_has_changed(record, change, reason):
    assert why_outdated(record, dataclasses.replace(INPUTS, **change)) == reason


def test_the_reason_lists_all_kinds_of_changes(record):
    now = dataclasses.replace(INPUTS, settings={"cam.views": 2}, rows="s", code=5)
    assert why_outdated(record, now).split("; ") == [
        "cam.views 1 -> 2",
        "other labels, splits or groups",
        "this version of the program makes it differently",
    ]


def test_many_changed_settings_are_counted(record):
    now = dataclasses.replace(INPUTS, settings={f"cam.{name}": 0 for name in "abcde"})
    assert why_outdated(record, now).endswith("; 3 more settings")


def test_settings_that_json_writes_alike_have_not_changed(record):
    inputs = dataclasses.replace(INPUTS, settings={"steps": (1, 2), "usual": None})
    write_record(record, inputs, [], {})
    assert why_outdated(record, dataclasses.replace(inputs, settings={"steps": [1, 2], "usual": None})) == ""


def test_a_stage_that_never_ran_has_that_reason(tmp_path):
    assert why_outdated(tmp_path / ".cam.json", INPUTS) == "not done yet"


# --- run folders of earlier versions

OLD = {"fingerprint": "abc", "seconds": {}, "files": ["boxes.csv"], "made_from": {}}


@pytest.fixture
def old_run(tmp_path):
    (tmp_path / "neck").mkdir()
    (tmp_path / "neck" / ".crop.json").write_text(json.dumps(OLD))
    return RunFolder(tmp_path)


def test_a_run_folder_of_an_earlier_version_is_refused(old_run):
    with pytest.raises(RunError, match=r"neck was made by an earlier version.*--out.*predict and fuse"):
        refuse_old_records(old_run)


def test_a_run_folder_of_this_version_is_accepted(record):
    refuse_old_records(RunFolder(record.parent.parent))
    assert read_record(record) is not None


@pytest.mark.parametrize("text", ["", "{", "\x00", "[]", '"abc"', "3", "{}"])
def test_a_damaged_record_does_not_pass_for_an_earlier_version(old_run, text):
    (old_run.path / "neck" / ".crop.json").write_text(text)
    refuse_old_records(old_run)


def test_other_hidden_files_do_not_pass_for_an_earlier_version(old_run):
    (old_run.path / "neck" / ".crop.json").rename(old_run.path / "neck" / ".mine.json")
    refuse_old_records(old_run)
