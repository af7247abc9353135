"""``heatcrop.json``: what is written is read back, and damage is reported with file, key and finding."""

import json
import re
from pathlib import Path

import pytest

from heatcrop.data.listing import UNFINISHED, is_description
from heatcrop.errors import RunError
from heatcrop.metrics.fusion import Fusion
from heatcrop.nets.backbones import Backbone
from heatcrop.predict.card import _rule
from heatcrop.predict.description import (
    Branch,
    Description,
    InputDescription,
    TaskDescription,
    read_description,
)
from heatcrop.training.inputs import TestViews
from stage2_crop.plan import CropRule

BEAK = "beak"


@pytest.fixture
def description(tmp_path):
    """A description whose networks are empty files in tmp_path."""
    for name in ("full.onnx", "crop.onnx", "trunk.onnx"):
        (tmp_path / name).touch()
    task = TaskDescription(
        classes=("hooked", "straight", "broad"),
        full=Branch(network=tmp_path / "full.onnx", views=TestViews((1.0, 1.25), 2, False)),
        heatmap="plain",
        crop_rule=CropRule(usual=(0.5, 0.25, 1.0), invisible="usual"),
        crop=Branch(network=tmp_path / "crop.onnx", views=TestViews()),
        fusion=Fusion(0.7, 1.5, 2.0),
    )
    backbone = Backbone("any")
    given = InputDescription(
        side_px=96, fit="pad", mean=backbone.mean, std=backbone.std, backbone=backbone.name
    )
    return Description(input=given, trunk=tmp_path / "trunk.onnx", tasks={BEAK: task})


@pytest.fixture
def values(description, tmp_path):
    return json.loads(json.dumps(description.as_json(tmp_path)))


@pytest.fixture
def read(tmp_path):
    def write_and_read(values):
        path = tmp_path / "heatcrop.json"
        path.write_text(values if isinstance(values, str) else json.dumps(values))
        return read_description(path)

    return write_and_read


def test_a_written_description_is_read_back(description, values, read):
    assert read(values) == description


def test_networks_are_named_relative_to_the_file(values):
    assert values["trunk"] == "trunk.onnx"
    assert values["tasks"][BEAK]["full"]["network"] == "full.onnx"


def test_networks_are_listed_once(description, tmp_path):
    assert description.networks() == [tmp_path / f"{name}.onnx" for name in ("trunk", "full", "crop")]


def test_fast_prediction_takes_one_view_without_zoom(description):
    first, last = CropRule(threshold=0.4, margin=0.3), CropRule(threshold=0.7, margin=0.1, zoom=2.0)
    task = description.tasks[BEAK].model_copy(update={"first_rule": first, "crop_rule": last})
    fast = task.fast()
    assert [len(one.views.unit()) for one in (fast.full, fast.crop)] == [1, 1]
    assert fast.first_rule is None
    assert fast.crop_rule == CropRule(threshold=0.4, margin=0.1)
    assert fast.fusion == task.fusion


def test_fast_prediction_keeps_a_rule_without_zoom(description):
    task = description.tasks[BEAK]
    assert task.fast().crop_rule == task.crop_rule


def test_fast_prediction_takes_one_of_two_crops(description):
    rule = CropRule(place="both")
    task = description.tasks[BEAK].model_copy(update={"crop_rule": rule})
    assert task.fast().crop_rule.place == "heatmap"


def test_outputs_are_written_only_for_shared_networks(values):
    assert "outputs" not in values["tasks"][BEAK]


def test_the_first_format_without_its_key_is_read(values, read):
    del values["format"], values["tasks"][BEAK]["kind"], values["tasks"][BEAK]["crop_rule"]["usual"]
    assert read(values).tasks[BEAK].crop_rule.usual is None


def test_a_span_of_outputs_is_read(values, read):
    values["tasks"][BEAK]["outputs"] = [4, 7]
    assert read(values).tasks[BEAK].outputs == [4, 7]


def test_unknown_keys_beside_the_plans_are_ignored(values, read):
    values["comment"] = values["tasks"][BEAK]["comment"] = "mine"
    assert list(read(values).tasks) == [BEAK]


def change(path, value):
    """Return a function that sets a dotted key of the values, or deletes it for None."""

    def apply(values):
        *parents, last = path.split(".")
        for key in parents:
            values = values[key]
        values[last] = value
        if value is None:
            del values[last]

    return apply


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("input.side_px", "large", "input.side_px: is 'large'; expected a valid integer"),
        ("input.side_px", 0, "input.side_px: is 0; expected at least 1"),
        ("input.side_px", True, "input.side_px: is True; expected a valid integer"),
        ("input.mean", [1, 2], "input.mean.2: is missing"),
        ("input.std", [1, 0, 1], "input.std.1: is 0; expected at least 1e-06"),
        ("input.fit", None, "input.fit: is missing"),
        ("input.fit", "crop", "input.fit: is 'crop'; expected 'stretch' or 'pad'"),
        ("tasks", {}, "tasks: "),
        ("tasks", None, "tasks: is missing"),
        ("format", 99, "format is 99; expected 1 or 2"),
        ("tasks.beak.heatmap", "hot", "tasks.beak.heatmap: is 'hot'; expected 'evidence', "),
        ("tasks.beak.classes", ["one"], "tasks.beak: task 'beak' has 1 class; at least two"),
        ("tasks.beak.kind", "other", "tasks.beak: task 'beak' is of kind 'other'"),
        ("tasks.beak.crop_rule.treshold", 1, "tasks.beak.crop_rule.treshold: no such setting"),
        ("tasks.beak.crop_rule.threshold", 2, "crop_rule.threshold: is 2; expected at most 1"),
        ("tasks.beak.crop_rule.usual", ["x"], "tasks.beak.crop_rule.usual.0: is 'x'; expected a valid"),
        ("tasks.beak.crop_rule.enabled", 1, "crop_rule.enabled: is 1; expected a valid boolean"),
        ("tasks.beak.fusion.weight", "much", "fusion.weight: is 'much'; expected a valid number"),
        ("tasks.beak.fusion.weight", float("nan"), "fusion.weight: is nan; expected a finite number"),
        ("tasks.beak.fusion.weight", float("inf"), "fusion.weight: is inf; expected a finite number"),
        ("tasks.beak.full.views.scales", [], "tasks.beak.full.views.scales: "),
        ("tasks.beak.full", 3, "tasks.beak.full: is 3; expected an object"),
        ("tasks.beak.full.network", "../full.onnx", "full.network: is not a file beside this one"),
        ("tasks.beak.full.network", "/full.onnx", "full.network: is not a file beside this one"),
        ("tasks.beak.full.network", "gone.onnx", "gone.onnx is missing"),
        ("trunk", "gone.onnx", "trunk: the network "),
        ("tasks.beak.outputs", [0, 2], "tasks.beak.outputs: expected [first, end] around 3 classes"),
        ("tasks.beak.outputs", [-1, 2], "tasks.beak.outputs: expected [first, end] around 3 classes"),
        ("tasks.beak.outputs", [3], "tasks.beak.outputs: expected [first, end] around 3 classes"),
        ("tasks.beak.outputs", ["0", "3"], "tasks.beak.outputs.0: is '0'"),
        ("tasks.beak.outputs", 3, "tasks.beak.outputs: is 3"),
    ],
)
def test_damage_is_reported_with_file_key_and_finding(values, read, tmp_path, key, value, words):
    change(key, value)(values)
    with pytest.raises(RunError, match=re.escape(words)) as caught:
        read(values)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'heatcrop.json'}: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not valid JSON (EOF"),
        ("[" * 3000, "is not valid JSON (recursion"),
        ('{"input": "\\ud800"}', "is not valid JSON (unexpected end of hex"),
        ("[]", "is []; expected an object"),
        (json.dumps(UNFINISHED), "its export was interrupted"),
    ],
)
def test_a_file_that_is_no_description_is_reported(read, text, words):
    with pytest.raises(RunError, match=re.escape(words)):
        read(text)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(RunError, match=r"heatcrop\.json: cannot be read"):
        read_description(tmp_path / "heatcrop.json")


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"input": {}}'])
def test_other_files_are_not_taken_for_a_description(text):
    assert not is_description(text)


def test_a_description_is_recognised(values):
    assert is_description(json.dumps(values))
    assert is_description(json.dumps(UNFINISHED))


def test_descriptions_of_finished_runs_of_earlier_versions_are_read(read, values, tmp_path):
    """A file as version 1 wrote it, with integers where numbers are whole."""
    values["tasks"][BEAK]["fusion"] = {"weight": 1, "full_temperature": 1, "crop_temperature": 2}
    assert read(values).tasks[BEAK].fusion == Fusion(1.0, 1.0, 2.0)
    assert all(isinstance(path, Path) for path in read(values).networks())


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (CropRule(), "threshold 0.45, margin 0.1, zoom 0"),
        (CropRule(place="both"), "threshold 0.45, margin 0.1, zoom 0, and the same place in every image"),
        (CropRule(place="fixed"), "the same place in every image"),
        (CropRule(enabled=False), "off: images are not cropped"),
    ],
)
def test_the_model_card_describes_the_crop_rule(rule, words):
    assert _rule(rule) == words
