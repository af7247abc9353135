"""The parts of the benchmarks: arms and boxes of controls, localisation, timing, memory."""

import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from benchmarks.arms import (
    centre_boxes,
    fixed_boxes,
    jittered,
    moved_to,
    random_boxes,
    sides_of,
    true_squares,
    typical_crops,
)
from benchmarks.contenders import Entry, Ratio, compare
from benchmarks.localisation import (
    THRESHOLDS,
    heat_iou,
    max_box_accuracy,
    point_hits,
    pointing,
    square_iou,
)
from benchmarks.memory import growth
from benchmarks.ours import MAKERS
from benchmarks.quality import ARMS, Unit, main, measure, promised
from benchmarks.speed import markdown, result
from benchmarks.table import AT_TRUTH, EQUAL, FAST, TRAINING, _markdown, summary
from heatcrop.cli.config_file import read_config
from heatcrop.cli.loading import load_dataset
from heatcrop.data.labels import YES
from heatcrop.metrics.localisation import true_boxes
from heatcrop.metrics.score import average_precision
from heatcrop.metrics.selective import OperatingPoint
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_arrays, read_branches
from tests.tiny_run import ROOT, TASKS

SIZES = np.array([[200, 100], [100, 300], [64, 64], [500, 400]])
SIDES = np.array([0.5, 0.3, 0.9, 0.2])


def squares_inside(boxes, sizes):
    """Return whether boxes are squares that lie inside their images."""
    sides = boxes[:, 2:] - boxes[:, :2]
    inside = (boxes >= 0).all() and (boxes[:, 2:] <= sizes).all()
    return inside and (sides[:, 0] == sides[:, 1]).all()


def test_centre_boxes_have_the_given_sides():
    assert sides_of(centre_boxes(SIDES, SIZES), SIZES) == pytest.approx(SIDES, abs=0.02)


def test_centre_boxes_lie_in_the_middle():
    boxes = centre_boxes(SIDES, SIZES)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert np.abs(middle - SIZES / 2).max() <= 0.5


def test_random_boxes_are_squares_inside():
    assert squares_inside(random_boxes(SIDES, SIZES, np.random.default_rng(0)), SIZES)


def test_random_boxes_have_permuted_sides():
    boxes = random_boxes(SIDES, SIZES, np.random.default_rng(0))
    assert sorted(sides_of(boxes, SIZES).round(1)) == [0.2, 0.3, 0.5, 0.9]


def test_random_boxes_differ_from_draw_to_draw():
    rng = np.random.default_rng(0)
    assert len({tuple(random_boxes(SIDES, SIZES, rng)[3]) for _ in range(50)}) > 40


@pytest.mark.parametrize("kind", ["", "usual"])
def test_a_fixed_box_has_the_place_and_size_of_the_crops(kind):
    fallback, splits = np.array([kind, "flat", kind, kind]), np.array(["train", "train", "val", "test"])
    fitted, side = typical_crops(np.array([0.5, 1.0, 0.3, 0.2]), fallback, splits)
    assert fitted.tolist() == [0]
    assert side.tolist() == pytest.approx([0.4] * 4)


def test_without_crops_a_fixed_box_is_as_large_as_the_image():
    fitted, side = typical_crops(np.ones(3), np.full(3, "off"), np.array(["train", "val", "test"]))
    assert (fitted.tolist(), side.tolist()) == ([0], [1, 1, 1])


@pytest.fixture
def varied():
    return jittered(centre_boxes(SIDES, SIZES), SIZES, 0.15, 200, np.random.default_rng(0))


def test_jittered_squares_lie_inside(varied):
    assert all(squares_inside(varied[:, i], SIZES) for i in range(varied.shape[1]))


def test_jittered_squares_keep_their_middle(varied):
    middle = (varied[..., :2] + varied[..., 2:]) / 2
    assert np.abs(middle - SIZES[:, None] / 2).max() <= 1


def test_sides_are_jittered_as_far_as_the_spread(varied):
    shares = (varied[3, :, 2] - varied[3, :, 0]) / (SIDES[3] * SIZES[3].min())
    assert shares.min() == pytest.approx(0.7, abs=0.03)
    assert shares.max() == pytest.approx(1.3, abs=0.03)


def test_a_full_image_is_not_jittered():
    boxes = np.concatenate([np.zeros_like(SIZES), SIZES], axis=1)
    assert (jittered(boxes, SIZES, 0.15, 3, np.random.default_rng(0)) == boxes[:, None]).all()


def test_only_squares_move_to_the_true_places():
    sizes = np.full((4, 2), 100)
    boxes = np.array([[0, 0, 20, 20], [0, 0, 20, 20], [0, 0, 100, 100], [0, 0, 20, 20]])
    truth = np.array([[50.0, 40, 54, 60], [np.nan] * 4, [50, 40, 54, 60], [90, 90, 100, 100]])
    assert moved_to(truth, boxes, sizes).tolist() == [
        [42, 40, 62, 60],
        [0, 0, 20, 20],
        [0, 0, 100, 100],
        [80, 80, 100, 100],
    ]


@pytest.fixture
def mean():
    """Boxes at the place of the first one: a twentieth of the width, a tenth of the height."""
    boxes = np.array([[0, 0, 20, 20], [80, 280, 100, 300], [0, 0, 64, 64], [0, 0, 1, 1]])
    return fixed_boxes(np.mean, boxes, np.array([0]), np.full(4, 0.2), SIZES)


def test_the_mean_box_depends_on_the_fitted_rows_only(mean):
    centre = (mean[3, :2] + mean[3, 2:]) / 2
    assert centre.tolist() == pytest.approx([40, 40], abs=1)  # moved inside from (25, 40)


def test_mean_boxes_are_squares_inside(mean):
    assert squares_inside(mean, SIZES)


@pytest.fixture
def squares_around():
    truth = np.array([[50, 40, 70, 80], [np.nan] * 4, [0, 0, 10, 10], [np.nan] * 4])
    return truth, true_squares(truth, SIZES)


def test_true_squares_contain_their_regions(squares_around):
    truth, squares = (boxes[[0, 2]] for boxes in squares_around)
    assert (np.hstack([squares[:, :2] - truth[:, :2], truth[:, 2:] - squares[:, 2:]]) <= 0).all()


def test_true_squares_have_a_margin_of_a_tenth_on_each_side(squares_around):
    assert squares_around[1][0, 2] - squares_around[1][0, 0] == 48  # around 40 pixels


def test_true_squares_without_a_region_are_the_full_image(squares_around):
    assert squares_around[1][[1, 3]].tolist() == [[0, 0, 100, 300], [0, 0, 500, 400]]


@pytest.fixture
def heat():
    """Two equal maps, the sizes, how they were framed, and true boxes: the hot square, and another place."""
    heat = np.zeros((2, 16, 16), np.float32)
    heat[:, 4:8, 8:12] = 1
    return heat, np.full((2, 2), 160), "pad", np.array([[80.0, 40, 120, 80], [0, 80, 40, 120]])


def test_there_is_an_overlap_for_each_threshold_and_image(heat):
    assert heat_iou(*heat).shape == (len(THRESHOLDS), 2)


def test_a_map_with_the_shape_of_the_box_overlaps_it(heat):
    assert heat_iou(*heat)[:, 0].max() > 0.9


def test_a_map_elsewhere_does_not_overlap_the_box(heat):
    assert heat_iou(*heat)[:, 1].max() == 0


def test_box_accuracy_is_the_share_of_images_whose_box_overlaps(heat):
    assert max_box_accuracy(heat_iou(*heat))["max_box_acc_v2"] == 0.5


def test_pointing_counts_maps_whose_maximum_lies_in_the_box(heat):
    assert pointing(*heat) == 0.5


@pytest.fixture
def centred():
    """Overlaps of centred squares with centred boxes of two sides."""
    truth = np.array([[40.0, 40, 120, 120], [60, 60, 100, 100]])
    return square_iou(np.full((2, 2), 0.5), np.full((2, 2), 160), truth)


def test_some_side_of_a_centred_square_fits_each_box(centred):
    assert centred.max(axis=0) == pytest.approx([1, 1])


def test_a_centred_box_is_scored_with_one_best_side_for_all_images(centred):
    assert max_box_accuracy(centred)["iou_0.7"] == 0.5


@pytest.mark.parametrize(("second_size", "share"), [([160, 160], 0.5), ([100, 160], 1)])
def test_a_point_counts_where_it_lies_in_the_box(second_size, share):
    truth = np.array([[80.0, 40, 120, 80], [0, 80, 40, 120]])
    points = np.array([[0.6, 0.3], [0.3, 0.6]])
    assert point_hits(points, np.array([[160, 160], second_size]), truth) == share


SLEEPERS = """
import time
from benchmarks.contenders import serve

def sleep(ms):
    print("output of a library")
    def work():
        time.sleep(ms / 1000)
        return 10
    return work

serve({"sleep": sleep})
"""


@pytest.fixture(scope="module")
def sleeper(tmp_path_factory):
    """An entry that sleeps for some milliseconds instead of working."""
    folder = tmp_path_factory.mktemp("sleepers")
    (folder / "sleepers.py").write_text(SLEEPERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
        yield lambda ms: Entry(sys.executable, "sleepers", "sleep", {"ms": ms})


@pytest.fixture(scope="module")
def ratio(sleeper):
    return compare(sleeper(40), [sleeper(300), sleeper(120)], rounds=3)


def test_a_ratio_is_taken_to_the_fastest_of_the_others(ratio):
    assert ratio.theirs == pytest.approx(10 / 0.12, rel=0.3)


def test_a_ratio_is_the_median_of_the_rounds(ratio):
    assert ratio.low <= ratio.value <= ratio.high


def test_a_ratio_compares_ours_with_theirs(ratio):
    assert 2 < ratio.value < 3.5


def test_a_contender_that_cannot_start_is_reported(sleeper):
    with pytest.raises(RuntimeError, match="sleep ended with code 1"):
        compare(sleeper("never"), [], rounds=3)


NET = {"net": "mobilenet0.25", "px": 32, "threads": 1}
WORKLOADS = {
    "forward": {**NET, "images": 3},
    "mxnet_forward": {**NET, "images": 3},
    "heatmaps": {**NET, "flip": True},
    "training": {**NET, "batch": 2},
    "training_step": {**NET, "batch": 2},
    "crops": {"threads": 1},
    "opencv_crops": {"threads": 1},
    "predict": {},
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_workload_can_be_repeated(name, request, tiny_home):
    options = dict(WORKLOADS[name])
    if "images" not in options:
        options["files"] = sorted(map(str, tiny_home.glob("data/**/*.jpg")))[:3]
    if name == "predict":
        options["run"] = str(request.getfixturevalue("finished_run"))
    work = MAKERS[name](**options)
    assert [work(), work()] == [3, 3]


@pytest.fixture(scope="module")
def unmeasured(tiny_home, finished_run):
    """One seed and one task of the finished tiny run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny_home)
        config, folder = read_config(Path("tiny.yaml")), RunFolder(tiny_home / "measured")
        shutil.copytree(finished_run, folder.path, symlinks=True)
        dataset = load_dataset(config, [], folder)
        data = dataset.tasks[TASKS[0]]
        truth = true_boxes(data, dataset.boxes_true)
        yield Unit(config, folder, data, dataset.stamps[TASKS[0]], truth)
    shutil.rmtree(folder.path)


@pytest.fixture(scope="module")
def first_measured(unmeasured):
    """Measure one control by itself; return what is found."""
    one = dataclasses.replace(unmeasured, arms=("mean box",))
    assert not one.is_current()
    measure(one)
    assert one.is_current()
    assert not unmeasured.is_current()
    return read_arrays(one.path)


@pytest.fixture(scope="module")
def unit(unmeasured, first_measured):
    """The same with all controls."""
    measure(unmeasured)
    assert unmeasured.is_current()
    return unmeasured


def test_controls_are_added_to_those_that_are_measured(first_measured, unit):
    found = read_arrays(unit.path)
    assert first_measured["arms"].tolist() == ["mean box"]
    assert found["arms"].tolist() == list(ARMS)
    assert [name for name in first_measured if name.startswith("crop/")] == ["crop/ours", "crop/mean box"]
    numbers = [name for name, array in first_measured.items() if array.dtype.kind == "f"]
    same = {name: np.array_equal(found[name], first_measured[name], equal_nan=True) for name in numbers}
    assert [name for name, unchanged in same.items() if not unchanged] == []


def test_a_control_of_another_name_is_refused():
    with pytest.raises(typer.BadParameter, match="'mean boxes' is no control"):
        main(arm=["mean boxes"])


def test_every_arm_predicts_all_test_images(unit):
    test_rows = unit.data.rows("test")
    measured = read_arrays(unit.path)
    found = {arm: p[test_rows] for arm, p in measured.items() if arm.startswith("fused/")}
    complete = {arm for arm, p in found.items() if len(p) and np.isfinite(p).all()}
    arms = (
        "ours",
        EQUAL,
        FAST,
        "centre crop",
        "mean box",
        "median box",
        "random crop",
        "seed's rule",
        "previous method's rule",
        "true boxes",
        AT_TRUTH,
    )
    assert complete == {f"fused/{arm}" for arm in arms}


def test_crops_in_training_only_predict_all_images_once(unit):
    predicted = read_arrays(unit.path)[f"alone/{TRAINING}"][unit.data.rows("test")]
    np.testing.assert_allclose(predicted.sum(axis=1), 1, atol=1e-5)


@pytest.fixture(scope="module")
def arrays(unit):
    return read_arrays(unit.path) | {"promised": promised(unit)}


def test_the_summary_has_every_arm_and_its_cost(unit, arrays):
    results = summary("tiny", {unit.name: unit.data}, {unit.name: [arrays, arrays]}, 20)
    assert set(results["passes"]) == set(results["arms"])
    assert results["passes"]["ours"] == 2.5  # the image, its surroundings without mirror, and the crop
    assert results["passes"][TRAINING] == 1
    assert results["passes"][FAST] == 1  # the image and the crop, neither with its mirror


def test_what_fast_prediction_loses_is_reported(unit, arrays):
    data, rows = unit.data, unit.data.rows("test", labelled=True)
    results = summary("tiny", {unit.name: data}, {unit.name: [arrays, arrays]}, 20)
    ours, fast = (
        average_precision(arrays[f"fused/{arm}"][rows], data.letters[rows]) for arm in ("ours", FAST)
    )
    assert results["lost_by_fast"][unit.name]["value"] == pytest.approx(ours - fast)
    assert any(line.startswith("Fast prediction costs 0.40 of ours") for line in results["verdict"])


def test_expected_and_measured_gains_are_those_of_fused_over_full(unit, arrays):
    data = unit.data
    gains = summary("tiny", {unit.name: data}, {unit.name: [arrays, arrays]}, 20)["expected"][unit.name]
    for name, split in (("expected", "train"), ("test", "test")):
        rows = data.rows(split, labelled=True)
        fused, full = (
            average_precision(arrays[key][rows], data.letters[rows]) for key in ("fused/ours", "full")
        )
        assert gains[name] == pytest.approx(fused - full)


def test_without_cross_fitting_no_gain_is_expected(unit, arrays):
    fused = arrays["fused/ours"].copy()
    fused[unit.data.rows("train")] = np.nan
    measured = [arrays | {"fused/ours": fused}] * 2
    results = summary("tiny", {unit.name: unit.data}, {unit.name: measured}, 20)
    assert list(results["expected"][unit.name]) == ["test"]
    assert any("nan" in line for line in _markdown(results))


def test_an_arm_of_some_tasks_only_is_left_out(unit, arrays):
    other = {name: array for name, array in arrays.items() if name != "fused/true boxes"}
    tasks, measured = {"a": unit.data, "b": unit.data}, {"a": [arrays] * 2, "b": [other] * 2}
    arms = summary("tiny", tasks, measured, 20)["arms"]
    assert "true boxes + full" not in arms
    assert "mean box + full" in arms


def test_heat_in_the_padding_takes_no_part_in_localisation():
    heatmap = np.zeros((1, 8, 8), np.float32)
    heatmap[0, 2:4, 2:4] = 1  # of an image of 100 by 200 pixels the columns 2 to 5 are its own
    truth = np.array([[0.0, 50.0, 50.0, 100.0]])
    alone = heat_iou(heatmap, np.array([[100, 200]]), "pad", truth)
    heatmap[0, :, 0] = 10
    np.testing.assert_array_equal(heat_iou(heatmap, np.array([[100, 200]]), "pad", truth), alone)
    assert alone.max() > 0.8


def test_promised_accuracies_are_compared_with_the_test_images(unit, monkeypatch):
    points = [OperatingPoint(0.5, 0.0, 1.0), OperatingPoint(0.9, None, None), OperatingPoint(0.99, 1.1, 0.0)]
    monkeypatch.setattr("benchmarks.quality.read_points", lambda _: points)
    rows = unit.data.rows("test", labelled=True)
    fused = read_branches(unit.task_folder, unit.data)["fused"][rows]
    right = (unit.data.letters[rows, fused.argmax(axis=1)] == YES).sum()
    assert promised(unit).tolist() == [[0.5, len(rows), len(rows), right], [0.99, len(rows), 0, 0]]


def test_promises_are_pooled_by_accuracy(unit, arrays):
    seeds = [[(0.5, 100, 80, 60), (0.9, 100, 50, 20)], [(0.9, 100, 30, 30)]]
    measured = [arrays | {"promised": np.array(rows, float)} for rows in seeds]
    found = summary("tiny", {unit.name: unit.data}, {unit.name: measured}, 20)["promises"]
    assert found == [
        {"accuracy": 0.5, "thresholds": 1, "coverage": 0.8, "kept": 0.75, "broken": 0},
        {"accuracy": 0.9, "thresholds": 2, "coverage": 0.4, "kept": 0.625, "broken": 1},
    ]


def test_a_measured_unit_is_current(unit):
    assert unit.is_current()


def test_the_crop_rule_of_the_run_gives_the_measured_boxes(unit):
    measured = read_arrays(unit.path)
    assert (measured["boxes/ours"] == read_arrays(unit.task_folder.boxes)["boxes"]).all()


@pytest.mark.parametrize(
    ("ratio", "of_bare", "limit", "shown"),
    [
        (2.7, 0.99, 0.99, "at the limit: 0.99 of the bare work"),
        (2.7, 0.8, None, "NO"),
        (2.7, 0.0, None, "NO"),
        (3.1, 0.99, None, "yes"),
    ],
    ids=["as fast as the bare work", "slower than it", "it is not known", "met"],
)
def test_a_missed_target_at_the_limit_states_the_limit(ratio, of_bare, limit, shown):
    one = result("heatmaps", 3.0, Ratio(ratio, ratio, ratio, ratio, 1.0), of_bare=of_bare)
    assert one["limit"] == limit
    assert f"| {shown} |" in markdown([one], 5, 2)


@pytest.mark.parametrize(
    ("less_mb", "more_mb", "rows", "met"),
    [(200, 240, 11_000, True), (200, 310, 101_000, False), (400, 480, 11_000, False)],
    ids=["within both", "more than 1.5 times", "more than 4 kB a row"],
)
def test_memory_has_a_target_for_the_ratio_and_for_a_row(less_mb, more_mb, rows, met):
    assert growth("step", {1_000: (less_mb, 1.0), rows: (more_mb, 2.0)})["met"] == met
