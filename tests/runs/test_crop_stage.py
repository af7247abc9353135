"""Stage 2 in a run: the searched rule, and crops that several jobs cut."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import stage2_crop.stage
from heatcrop.cli.run_folders import reload_dataset
from heatcrop.data.images import read_image
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.reading import read_json
from stage2_crop.boxes import Heatmaps, find_crops, surroundings
from stage2_crop.plan import SearchedRule, SearchPlan
from stage2_crop.stage import CropStage
from tests.tiny_run import PER_CLASS, TASKS

NECK = TASKS[0]


@pytest.fixture
def folder(run_copy):
    return RunFolder(run_copy).task(NECK)


def crop(call, folder, *words):
    """Run stage 2 of one task again."""
    folder.record("crop").unlink()
    options = ("--config", "tiny.yaml", "--out", folder.path.parent, "--jobs", "1", *words)
    code, printed = call("stage", "crop", "--task", "neck", *options)
    assert code == 0, printed
    return printed


def test_images_are_zoomed_with_the_weights_that_stage_1_has_now(call, folder):
    """A crop stage that was interrupted before stage 1 ran again has left networks of other weights."""
    left = RunFolder(folder.path.parent).cache / NECK / "crop" / "fold 0.onnx"
    left.parent.mkdir(parents=True)
    shutil.copyfile(folder.network(1), left)
    zoomed = np.load(folder.zoomed)
    crop(call, folder)
    assert np.array_equal(np.load(folder.zoomed), zoomed)


def test_a_sheet_of_the_crops_is_there_before_stage_3_runs(call, folder):
    final = read_image(folder.overview)
    printed = crop(call, folder)
    assert "neck: a sheet of its crops:" in printed
    assert re.sub(r"\s", "", str(folder.overview)) in re.sub(r"\s", "", printed)
    first = read_image(folder.overview)
    assert first.shape == final.shape
    left = slice(0, first.shape[1] // 4)  # titles and how many are right, which stage 3 changes
    assert np.array_equal(first[:60, left], final[:60, left])


def test_without_a_search_the_configured_rule_is_used(finished_run):
    record = json.loads(RunFolder(finished_run).task(NECK).rule.read_text())
    assert record["curve"] == []
    completed = {key: record["rule"][key] for key in ("prior", "usual")}
    assert record["rule"] == record["start"] | completed | {"zoom": 2.0}
    assert None not in completed.values()


@pytest.mark.parametrize("pictures", [29, 30])
def test_a_setting_that_is_too_small_for_a_search_is_named(call, folder, pictures):
    printed = " ".join(crop(call, folder, "--set", f"crop.search.pictures={pictures}").split())
    assert "that takes 30 images of two classes" in printed
    assert ("raise crop.search.pictures, which is 29" in printed) == (pictures == 29)


def test_the_spread_over_all_classes_gives_crops_and_is_zoomed(call, home, folder, monkeypatch):
    monkeypatch.chdir(home)
    data, usual = reload_dataset(RunFolder(folder.path.parent)).tasks[NECK], np.load(folder.zoomed)
    crop(call, folder, "--set", "crop.rule.spread=true")
    rule = read_json(folder.rule, SearchedRule)
    zoomed, regions = np.load(folder.zoomed), np.load(folder.regions)
    heatmaps = Heatmaps(np.load(folder.spread), data.sizes, "pad", np.zeros(len(data), bool), zoomed, regions)
    first = [one.box for one in find_crops(heatmaps, rule.first)]
    assert np.array_equal(surroundings(first, data.sizes, 2.0), regions)
    boxes = [one.box for one in find_crops(heatmaps, rule.rule)]
    assert np.array_equal(np.load(folder.boxes)["boxes"], boxes)
    assert zoomed.min() >= 0  # a standard deviation; evidence may be negative
    assert usual.min() < 0


def test_only_one_kind_of_heatmap_is_searched_without_an_invisible_class(call, folder, monkeypatch):
    folder.spread.unlink()
    monkeypatch.setattr(stage2_crop.stage, "_MIN_SEARCH_ROWS", 10)
    few = {"pictures": 99, "thresholds": [0.5], "prior_weights": [], "least_sides": []}
    crop(call, folder, *(w for key, value in few.items() for w in ("--set", f"crop.search.{key}={value}")))
    assert "spread" not in {one["setting"] for one in json.loads(folder.rule.read_text())["curve"]}


@pytest.mark.parametrize("setting", ["place=fixed", "enabled=false"])
def test_a_rule_that_no_heatmap_decides_does_not_zoom(call, folder, setting):
    crop(call, folder, "--set", f"crop.rule.{setting}")
    record = json.loads(folder.rule.read_text())
    assert (record["rule"]["zoom"], record["first"]) == (0.0, None)
    assert not folder.zoomed.exists()


def test_a_fixed_place_is_that_of_zoomed_crops(call, folder):
    crop(call, folder)
    usual = json.loads(folder.rule.read_text())["rule"]["usual"]
    crop(call, folder, "--set", "crop.rule.place=fixed")
    assert json.loads(folder.rule.read_text())["rule"]["usual"] == usual


@pytest.fixture
def searched(call, folder, monkeypatch):
    """The record of a search on all labelled training and validation images."""
    monkeypatch.setattr(stage2_crop.stage, "_MIN_SEARCH_ROWS", 10)
    search = {
        "pictures": 99,
        "prior_weights": [0.5],
        "thresholds": [0.5],
        "margins": [0.2],
        "least_sides": [0.2],
        "greatest_sides": [0.9],
    }
    crop(call, folder, *(w for key, value in search.items() for w in ("--set", f"crop.search.{key}={value}")))
    return json.loads(folder.rule.read_text())


def test_the_rule_is_searched_on_images_that_no_network_trained_on(searched, folder):
    assert searched["rows"] == 5 * PER_CLASS  # all but the test images
    settings = [one["setting"] for one in searched["curve"] if one["chosen"]]
    assert settings[:4] == ["spread", "prior_weight", "threshold", "zoom"]
    chosen = {one["setting"]: one["value"] for one in searched["curve"] if one["chosen"]}
    completed = {key: searched["rule"][key] for key in ("prior", "usual")}
    if searched["rule"]["place"] == "fixed" or not searched["rule"]["enabled"]:
        chosen["zoom"] = 0.0
    assert searched["rule"] == searched["start"] | chosen | completed
    boxes = pd.read_csv(folder.boxes_csv, keep_default_na=False)
    assert set(boxes["threshold"]) == {searched["rule"]["threshold"]}
    assert (boxes["fallback"] == "off").all() != searched["rule"]["enabled"]


def test_heatmaps_are_the_same_whichever_images_are_zoomed_first(call, folder, monkeypatch):
    """Those that evaluate the rule are; here no other value of any setting is tried."""
    monkeypatch.setattr(stage2_crop.stage, "_MIN_SEARCH_ROWS", 2)
    for steps in ("first_steps", "last_steps"):
        monkeypatch.setattr(SearchPlan, steps, lambda *_: [])
    found = []
    for pictures in (0, 7):
        settings = (f"crop.search.pictures={pictures}", "crop.rule.prior_weight=0")
        crop(call, folder, *(word for one in settings for word in ("--set", one)))
        found.append((np.load(folder.zoomed), np.load(folder.regions)))
    (maps, regions), (other_maps, other_regions) = found
    assert (regions == other_regions).all()
    np.testing.assert_allclose(other_maps, maps, atol=1e-4 * np.ptp(maps))


def test_a_share_of_the_training_crops_is_at_the_usual_place(call, folder):
    crop(call, folder, "--set", "crop.fixed_share=0.5")
    boxes, table = np.load(folder.training_boxes), pd.read_csv(folder.boxes_csv, keep_default_na=False)
    boxes = boxes[(table["split"] == "train") & (table["fallback"] == "")]
    spread = ((boxes[:, :, :2] + boxes[:, :, 2:]) / 2).std(axis=0).max(axis=1)  # of each of the four crops
    assert spread[[1, 3]].max() <= 2
    assert spread[[0, 2]].min() > 5


def test_crops_that_several_jobs_cut_are_the_same(call, folder, monkeypatch):
    parts, cut = [], CropStage.crop

    def counted(stage, first, end):
        parts.append((first, end))
        cut(stage, first, end)

    def files():
        found = [folder.boxes_csv, folder.training_boxes, folder.boxes, *folder.crops.rglob("*.jpg")]
        return {path.relative_to(folder.path): path.read_bytes() for path in found}

    before = files()
    monkeypatch.setattr("heatcrop.training.inputs.PART", 9)
    monkeypatch.setattr(CropStage, "crop", counted)
    crop(call, folder)
    assert parts == [(0, 9), (9, 18), (18, 25)]
    assert files() == before
