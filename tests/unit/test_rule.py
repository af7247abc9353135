"""The crop rule: from a heatmap to a box, for one image, for many, and for training."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatcrop.data.dataset import TaskData
from heatcrop.data.tasks import Task
from heatcrop.training.views import framed
from stage2_crop.boxes import (
    Heatmaps,
    complete_rule,
    deciding_heat,
    find_crops,
    fit_prior,
    jitter_boxes,
    predicted_boxes,
    write_boxes,
)
from stage2_crop.plan import CropRule
from stage2_crop.rule import GRID, Crop, find_crop, is_flat, location_prior


def peak(x, y, side=7, spread=0.8):
    """A smooth hill on a (side, side) map with its top at (x, y), in shares of the map."""
    centres = (np.arange(side) + 0.5) / side
    away = (centres[None, :] - x) ** 2 + (centres[:, None] - y) ** 2
    return np.exp(-away * side**2 / (2 * spread**2))


def frame_of(width, height, fit="pad"):
    view = framed((0, 0, width, height), fit)
    return view.x0, view.y0, view.x1, view.y1


def inside(box, x, y, slack=0.0):
    return box[0] - slack <= x <= box[2] + slack and box[1] - slack <= y <= box[3] + slack


@given(
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(40, 900),
    st.integers(40, 900),
    st.sampled_from(["pad", "stretch"]),
    st.sampled_from([4, 7, 8, 14]),
)
@settings(max_examples=200)
def test_the_crop_contains_the_peak_wherever_it_is(u, v, width, height, fit, side):
    x, y = u * width, v * height
    fx0, fy0, fx1, fy1 = frame = frame_of(width, height, fit)
    heat = peak((x - fx0) / (fx1 - fx0), (y - fy0) / (fy1 - fy0), side)
    crop = find_crop(heat, frame, width, height, CropRule(greatest_side=1.0))
    x0, y0, x1, y1 = crop.box
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    # A map locates a place to half a position.
    slack = 0.5 * max(fx1 - fx0, fy1 - fy0) / side
    assert inside(crop.box, x, y, slack)
    if not crop.fallback:
        assert x1 - x0 == y1 - y0 or x1 - x0 == width or y1 - y0 == height  # or cut off at both edges
        assert 0 < crop.score <= 1


@pytest.mark.parametrize(("width", "height"), [(800, 200), (200, 800), (1000, 100), (150, 600)])
@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_elongated_images_are_cropped_where_it_enlarges_them(width, height, fit):
    """A square as high as a panorama of 4:1 shows a quarter of it, four times as large."""
    fx0, fy0, fx1, fy1 = frame = frame_of(width, height, fit)
    u, v = (0.5 * width - fx0) / (fx1 - fx0), (0.5 * height - fy0) / (fy1 - fy0)
    crop = find_crop(peak(u, v, 14, 0.3), frame, width, height, CropRule(threshold=0.6, least_side=1.0))
    assert crop.fallback == ""
    x0, y0, x1, y1 = crop.box
    assert (x1 - x0) * (y1 - y0) <= 0.95**2 * width * height
    assert inside(crop.box, 0.5 * width, 0.5 * height)


def test_a_crop_of_nearly_all_of_a_panorama_is_refused():
    heat = peak(0.5, 0.5, spread=4)
    assert find_crop(heat, (0, 0, 800, 200), 800, 200, CropRule()).fallback == "huge"


def test_a_hand_worked_crop():
    """One hot position of 4 x 4 on a 400 px image, cut at its half value, with a tenth of margin."""
    heat = np.zeros((4, 4))
    heat[1, 2] = 1
    crop = find_crop(heat, (0, 0, 400, 400), 400, 400, CropRule(threshold=0.5, margin=0.1))
    # Bilinear: the half value lies half a position (50 px) from the centre at (250, 150).
    x0, y0, x1, y1 = crop.box
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((250, 150), abs=3)
    assert x1 - x0 == pytest.approx(1.2 * 100, abs=10)
    assert crop.fallback == ""
    wider = find_crop(heat, (0, 0, 400, 400), 400, 400, CropRule(threshold=0.5, margin=0.35))
    assert wider.box[2] - wider.box[0] == pytest.approx((x1 - x0) * 1.7 / 1.2, abs=2)


def test_score_is_the_share_of_heat_in_the_component():
    heat = np.zeros((8, 8))
    heat[1, 1], heat[6, 6] = 1.0, 0.6
    crop = find_crop(heat, (0, 0, 80, 80), 80, 80, CropRule(threshold=0.05))
    assert crop.score == pytest.approx(1 / 1.6, abs=0.03)
    assert inside(crop.box, 15, 15)
    assert not inside(crop.box, 65, 65)
    both = find_crop(heat, (0, 0, 80, 80), 80, 80, CropRule(threshold=0.05, together=0.3, greatest_side=2))
    assert both.score == pytest.approx(1, abs=0.05)
    assert inside(both.box, 15, 15)
    assert inside(both.box, 65, 65)


SMALL = np.zeros((56, 56))
SMALL[20, 20] = 1


@pytest.mark.parametrize(
    ("heat", "rule", "word"),
    [
        (np.zeros((7, 7)), CropRule(), "flat"),
        (np.ones((7, 7)), CropRule(), "flat"),
        (np.full((7, 7), 5.0) + 0.001 * peak(0.5, 0.5), CropRule(), "flat"),
        (np.full((7, 7), np.nan), CropRule(), "flat"),
        (np.where(peak(0.5, 0.5) > 0.5, np.inf, 0), CropRule(), "flat"),
        (np.full((7, 7), -3.0), CropRule(), "flat"),
        (-5 + 4 * peak(0.5, 0.5), CropRule(), "empty"),
        (SMALL, CropRule(least_area=0.01), "tiny"),
        (peak(0.5, 0.5, spread=4), CropRule(), "huge"),
    ],
)
def test_a_map_without_a_location_gives_the_full_image_and_the_reason(heat, rule, word):
    crop = find_crop(heat, frame_of(300, 200), 300, 200, rule)
    assert crop.fallback == word
    assert crop.box == (0, 0, 300, 200)
    assert crop.score == 0


@given(st.integers(-20, 20), st.integers(0, 10**6))
def test_the_unit_of_heat_does_not_matter(power, seed):
    heat = np.random.default_rng(seed).normal(size=(7, 7)).astype(np.float32)
    frame = frame_of(240, 320)
    for rule in (CropRule(), CropRule(percentile=90, by="area", together=0.5)):
        one = find_crop(heat, frame, 240, 320, rule)
        other = find_crop(heat * np.float32(2.0) ** power, frame, 240, 320, rule)
        assert one.box == other.box
        assert one.fallback == other.fallback
        assert one.score == pytest.approx(other.score, rel=1e-5)


@given(st.floats(0.2, 0.8), st.floats(0.2, 0.8), st.integers(50, 800), st.integers(50, 800))
def test_the_side_stays_within_its_bounds(u, v, width, height):
    rule = CropRule(least_side=0.5, greatest_side=0.7)
    crop = find_crop(peak(u, v, 14, 0.5), frame_of(width, height), width, height, rule)
    if not crop.fallback:
        x0, y0, x1, y1 = crop.box
        assert max(x1 - x0, y1 - y0) >= 0.5 * min(width, height)
        assert (x1 - x0) * (y1 - y0) <= 0.7**2 * width * height


@pytest.mark.parametrize(("width", "height"), [(200, 400), (400, 200)])
def test_padded_frames_map_back_to_the_images_pixels(width, height):
    """In a padded portrait the image fills the middle half of the map: position x of 8 is 50 (x - 2) px."""
    heat = np.zeros((8, 8))
    column, row = (3, 6) if height > width else (6, 3)
    heat[row, column] = 1
    crop = find_crop(heat, frame_of(width, height), width, height, CropRule(least_side=0.1))
    expected = (75, 325) if height > width else (325, 75)
    x0, y0, x1, y1 = crop.box
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx(expected, abs=4)
    stretched = find_crop(heat, frame_of(width, height, "stretch"), width, height, CropRule(least_side=0.1))
    x0, y0, x1, y1 = stretched.box
    assert (x0 + x1) / 2 == pytest.approx((column + 0.5) / 8 * width, abs=4)
    assert (y0 + y1) / 2 == pytest.approx((row + 0.5) / 8 * height, abs=4)


def test_heat_in_the_padding_is_ignored():
    """A portrait's hottest position lies in the grey bar left of it: the peak in the image is chosen."""
    heat = 0.8 * peak(0.5, 0.75, 8)
    heat[:, 0] = 0.9
    crop = find_crop(heat, frame_of(200, 400), 200, 400, CropRule())
    assert crop.fallback == ""
    assert inside(crop.box, 100, 300)
    only_outside = np.zeros((8, 8))
    only_outside[:, 0] = 1
    assert find_crop(only_outside, frame_of(200, 400), 200, 400, CropRule()).fallback == "empty"


def test_flatness_is_relative_to_the_maps_range():
    heat = np.full((10, 10), 10.0)
    heat[4, 4] = 10.4
    assert is_flat(heat, 0.05)
    assert not is_flat(heat, 0.03)
    assert not is_flat(heat - 10, 0.05)


def test_many_heatmaps_give_boxes_in_the_size_of_each_image():
    heat = np.stack([peak(0.25, 0.25), peak(0.75, 0.75), np.zeros((7, 7))])
    sizes = np.array([[100, 100], [300, 150], [80, 60]])
    rule = CropRule(threshold=0.4, margin=0.2)
    crops = find_crops(Heatmaps(heat, sizes, "stretch", np.zeros(3, bool)), rule)
    for crop, (width, height), (u, v) in zip(crops[:2], sizes[:2], [(0.25, 0.25), (0.75, 0.75)], strict=True):
        assert inside(crop.box, u * width, v * height)
        assert crop.box[2] <= width
        assert crop.box[3] <= height
    assert crops[2].box == (0, 0, 80, 60)


def test_no_heatmaps_give_no_crops():
    none = Heatmaps(np.zeros((0, 7, 7)), np.zeros((0, 2), int), "pad", np.zeros(0, bool))
    assert find_crops(none, CropRule()) == []


def written(folder, crops, rule):
    """Write the boxes of some images; returns the lines of the table."""
    n = len(crops)
    texts = np.array([f"i{i}" for i in range(n)], object), np.array(["test"] * n, object)
    data = TaskData(
        Task("t", ("a", "b")),
        tuple(texts[0]),
        texts[0],
        np.ones((n, 2)),
        np.zeros((n, 2)),
        texts[1],
        texts[1],
    )
    columns = [
        [crop.box for crop in crops],
        [crop.fallback for crop in crops],
        [crop.score for crop in crops],
    ]
    boxes, fallback, score = map(np.array, columns)
    write_boxes(folder / "boxes.csv", data, rule, boxes.reshape(-1, 4).astype(int), fallback, score)
    return (folder / "boxes.csv").read_text().splitlines()


HEADER = "image,split,x0,y0,x1,y1,threshold,margin,fallback,score"


def test_the_table_of_boxes_has_a_row_an_image(tmp_path):
    crops = [Crop((1, 2, 30, 31), "", 0.25), Crop((0, 0, 80, 60), "flat", 0.0)]
    assert written(tmp_path, crops, CropRule(threshold=0.4, margin=0.2)) == [
        HEADER,
        "i0,test,1,2,30,31,0.4,0.2,,0.2500",
        "i1,test,0,0,80,60,0.4,0.2,flat,0.0000",
    ]


def test_the_table_of_no_boxes_has_a_header(tmp_path):
    assert written(tmp_path, [], CropRule()) == [HEADER]


def test_a_rule_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CropRule().threshold = 0.5


def test_an_invisible_attribute_is_cropped_or_not_as_the_rule_says():
    heat, frame = peak(0.5, 0.5), (0, 0, 100, 100)
    uncropped = find_crop(heat, frame, 100, 100, CropRule(invisible="whole"), invisible=True)
    assert uncropped.fallback == "invisible"
    cut = find_crop(heat, frame, 100, 100, CropRule(invisible="crop"), invisible=True)
    assert cut == find_crop(heat, frame, 100, 100, CropRule())
    assert cut.fallback == ""


def test_an_invisible_attribute_is_cropped_at_the_usual_place():
    heat, frame = peak(0.2, 0.2), (0, 0, 300, 100)
    rule = CropRule(greatest_side=3, invisible="usual", usual=(0.5, 0.3, 0.4))
    assert find_crop(heat, frame, 300, 100, rule, invisible=True) == Crop((130, 10, 170, 50), "usual", 0.0)
    assert find_crop(heat, frame, 300, 100, rule, invisible=False).fallback == ""
    at_the_edge = CropRule(invisible="usual", usual=(0.99, 0.0, 0.4))
    assert find_crop(heat, frame, 300, 100, at_the_edge, invisible=True).box == (260, 0, 300, 40)
    unknown = find_crop(heat, frame, 300, 100, CropRule(invisible="usual"), invisible=True)
    assert unknown == Crop((0, 0, 300, 100), "invisible", 0.0)


def test_the_usual_place_is_the_median_of_the_heatmap_crops():
    heat = np.stack([peak(u, v) for u, v in [(0.3, 0.3), (0.5, 0.3), (0.6, 0.4), (0.9, 0.9), (0.1, 0.9)]])
    sizes = np.array([[100, 100], [200, 200], [400, 400], [100, 100], [100, 100]])
    gone = np.array([False, False, False, True, False])
    heat[4] = 1.0  # flat
    rule = CropRule(threshold=0.5, invisible="usual", prior_weight=0)
    crops = find_crops(Heatmaps(heat, sizes, "stretch", gone), rule)
    assert [crop.fallback for crop in crops] == ["", "", "", "invisible", "flat"]
    x, y, side = complete_rule(rule, Heatmaps(heat, sizes, "stretch", gone)).usual
    assert (x, y) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.3, abs=0.01))
    assert side == np.median(
        [(c.box[2] - c.box[0]) / width for c, (width, _) in zip(crops[:3], sizes[:3], strict=True)]
    )


ONE = Heatmaps(peak(0.3, 0.3)[None], np.array([[100, 100]]), "pad", np.zeros(1, bool))


def test_a_rule_that_is_complete_stays_as_it_is():
    rule = CropRule(prior=(0.5, 0.5, 0.1, 0.1), usual=(0.1, 0.2, 0.3))
    assert complete_rule(rule, ONE) is rule


def test_a_usual_place_stays_unknown_where_no_heatmap_gives_a_crop():
    gone = dataclasses.replace(ONE, invisible=np.ones(1, bool))
    assert complete_rule(CropRule(invisible="usual"), gone).usual is None


def test_no_images_give_neither_prior_nor_usual_place():
    completed = complete_rule(CropRule(), ONE[:0])
    assert (completed.prior, completed.usual) == (None, None)


# --- location prior, fixed place


TWO_HILLS = peak(0.25, 0.25, 12) + 0.9 * peak(0.75, 0.75, 12)
SQUARE = (0, 0, 200, 200)


@pytest.mark.parametrize(("weight", "place"), [(0.0, 50), (0.5, 150)])
def test_a_location_prior_decides_between_two_regions(weight, place):
    rule = CropRule(threshold=0.5, prior_weight=weight, prior=(0.7, 0.7, 0.2, 0.2))
    x0, y0, x1, y1 = find_crop(TWO_HILLS, SQUARE, 200, 200, rule).box
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((place, place), abs=5)


def test_a_location_prior_narrows_the_region():
    """Of even heat, the region ends where the prior is half its maximum, 1.177 deviations away."""
    rule = CropRule(threshold=0.5, margin=0.0, least_side=0.0, least_contrast=0.0)
    rule = dataclasses.replace(rule, prior_weight=1.0, prior=(0.5, 0.5, 0.1, 0.1))
    found = find_crop(np.ones((14, 14), np.float32), SQUARE, 200, 200, rule)
    assert found.box == pytest.approx((76, 76, 124, 124), abs=2)


def test_a_prior_far_away_leaves_the_only_region():
    rule = CropRule(threshold=0.5, prior_weight=1.0, prior=(5.0, 5.0, 0.01, 0.01))
    own = find_crop(peak(0.25, 0.25), SQUARE, 200, 200, dataclasses.replace(rule, prior_weight=0.0))
    assert find_crop(peak(0.25, 0.25), SQUARE, 200, 200, rule).box == pytest.approx(own.box, abs=3)


@given(st.integers(30, 400), st.integers(30, 400))
def test_a_prior_is_relative_to_the_image_not_to_the_frame(width, height):
    """A padded frame reaches beyond the image; the prior's mean is a share of the image itself."""
    heat = location_prior((0.25, 0.75, 0.1, 0.1), frame_of(width, height), width, height)
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    x0, y0, x1, y1 = frame_of(width, height)
    x, y = x0 + (column + 0.5) / GRID * (x1 - x0), y0 + (row + 0.5) / GRID * (y1 - y0)
    step = (x1 - x0) / GRID
    assert abs(x - 0.25 * width) <= step
    assert abs(y - 0.75 * height) <= step


def test_a_fitted_prior_finds_the_common_place_in_spite_of_stray_peaks():
    rng = np.random.default_rng(0)
    common = [peak(*rng.normal((0.3, 0.6), 0.03), 14) for _ in range(40)]
    stray = [peak(0.9, 0.1, 14) + 0.9 * peak(*rng.normal((0.3, 0.6), 0.03), 14) for _ in range(12)]
    maps = np.stack(common + stray)
    heatmaps = Heatmaps(maps, np.full((52, 2), 100), "stretch", np.zeros(52, bool))
    x, y, dx, dy = fit_prior(heatmaps)
    assert (x, y) == pytest.approx((0.3, 0.6), abs=0.04)
    assert 0.05 <= min(dx, dy) <= max(dx, dy) < 0.12


WITHOUT_A_PLACE = [-1 - peak(0.5, 0.5, 14), np.ones((14, 14)), np.zeros((14, 14)), np.full((14, 14), np.nan)]
"""No heat (an invisible attribute prevails), flat, empty, damaged."""


def test_maps_without_a_place_do_not_move_the_prior():
    """More than half of the images do not show the attribute."""
    rng = np.random.default_rng(0)
    maps = np.stack([peak(*rng.normal((0.5, 0.6), 0.03), 14) for _ in range(20)] + 6 * WITHOUT_A_PLACE)
    heatmaps = Heatmaps(maps, np.full((44, 2), (100, 200)), "pad", np.zeros(44, bool))
    assert fit_prior(heatmaps) == fit_prior(heatmaps[:20])


@pytest.mark.parametrize("heat", WITHOUT_A_PLACE)
def test_a_prior_stays_unknown_where_no_heatmap_has_a_place(heat):
    heatmaps = Heatmaps(heat[None], np.array([[100, 200]]), "pad", np.zeros(1, bool))
    assert complete_rule(CropRule(), heatmaps) == CropRule()


def test_a_fitted_prior_is_as_wide_as_the_region():
    """Of even heat over half the width; the least deviation is 0.05."""
    bar = np.zeros((112, 112), np.float32)
    bar[50:62, 28:84] = 1
    bar[56, 56] = 1.01
    _, _, dx, dy = fit_prior(Heatmaps(bar[None], np.array([[100, 100]]), "stretch", np.zeros(1, bool)))
    assert dx == pytest.approx(0.5 / math.sqrt(12), abs=0.01)
    assert dy == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("changes", "usual"), [({}, [[10, 30, 30, 50]]), ({"place": "heatmap"}, []), ({"enabled": False}, [])]
)
def test_both_places_are_predicted_where_the_rule_says_so(changes, usual):
    rule = dataclasses.replace(CropRule(place="both", usual=(0.2, 0.4, 0.2)), **changes)
    found = predicted_boxes(np.array([[5, 6, 45, 46]]), np.array([[100, 100]]), rule)
    assert found.tolist() == [[[5, 6, 45, 46], *usual]]


def test_with_both_places_the_crop_is_the_heatmaps():
    rule = CropRule(threshold=0.5, usual=(0.9, 0.9, 0.1))
    (one, other) = (
        find_crop(TWO_HILLS, SQUARE, 200, 200, dataclasses.replace(rule, place=place))
        for place in ("heatmap", "both")
    )
    assert one == other


def test_a_fixed_place_does_not_depend_on_the_heatmap():
    rule = CropRule(place="fixed", usual=(0.5, 0.3, 0.4))
    boxes = {find_crop(peak(u, u), SQUARE, 200, 200, rule).box for u in (0.1, 0.5, 0.9)}
    assert boxes == {(60, 20, 140, 100)}


# --- zoom


SIZES = np.full((1, 2), 400)


def zoomed(heat, region, rule):
    heatmaps = Heatmaps(
        peak(0.5, 0.5)[None],
        np.full((1, 2), 400),
        "stretch",
        np.zeros(1, bool),
        heat[None],
        np.array([region]),
    )
    return find_crops(heatmaps, rule)[0]


ZOOM_RULE = CropRule(threshold=0.5, least_side=0.0, zoom=2.0, prior_weight=0)


def test_a_zoomed_heatmap_gives_the_crop_in_the_pixels_of_the_image():
    region = (100, 200, 300, 400)
    x0, y0, x1, y1 = zoomed(peak(0.25, 0.75, 9), region, ZOOM_RULE).box
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((150, 350), abs=3)
    assert x1 - x0 == pytest.approx(200 / 9 * 2 * 1.2, rel=0.3)


def test_a_flat_zoomed_heatmap_leaves_the_first_crop():
    first = zoomed(np.ones((9, 9)), (0, 0, 100, 100), dataclasses.replace(ZOOM_RULE, zoom=0.0))
    assert zoomed(np.ones((9, 9)), (0, 0, 100, 100), ZOOM_RULE) == first
    assert first.fallback == ""


@pytest.mark.parametrize("zoomed_heat", [peak(0.25, 0.75, 9), np.ones((9, 9))], ids=["zoomed", "first"])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_deciding_heat_reaches_the_threshold_in_the_crop_alone(zoomed_heat, weight):
    maps, sizes = peak(0.5, 0.5)[None], np.full((1, 2), 400)
    region = np.array([(100, 200, 300, 400)])
    heatmaps = Heatmaps(maps, sizes, "stretch", np.zeros(1, bool), zoomed_heat[None], region)
    rule = dataclasses.replace(ZOOM_RULE, margin=0.0, prior=(0.4, 0.7, 0.2, 0.2), prior_weight=weight)
    heat, (x0, y0, x1, y1) = deciding_heat(heatmaps, 0, rule)
    assert heat.shape == (GRID, GRID)
    assert heat.max() == 1
    rows, columns = np.nonzero(heat >= rule.threshold)
    hot = (
        x0 + columns.min() / GRID * (x1 - x0),
        y0 + rows.min() / GRID * (y1 - y0),
        x0 + (columns.max() + 1) / GRID * (x1 - x0),
        y0 + (rows.max() + 1) / GRID * (y1 - y0),
    )
    box = find_crops(heatmaps, rule)[0].box
    middle = ((hot[0] + hot[2]) / 2, (hot[1] + hot[3]) / 2)
    assert ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) == pytest.approx(middle, abs=1.5)
    assert box[2] - box[0] == pytest.approx(max(hot[2] - hot[0], hot[3] - hot[1]), abs=2)


def test_a_disabled_rule_crops_no_image():
    crop = find_crop(peak(0.5, 0.5), (0, 0, 90, 60), 90, 60, CropRule(enabled=False))
    assert crop.box == (0, 0, 90, 60)
    assert crop.fallback == "off"


JITTER_RULE = CropRule(threshold=0.5, margin=0.1)
HILLS = np.stack([peak(0.5, 0.5, 9, 1.0), peak(0.3, 0.6, 9, 1.5), np.ones((9, 9))])  # the last one is flat
SIDE = 400


def jittered(rule=JITTER_RULE, invisible=False, rows=(0, 1, 2), seed=7):
    heatmaps = Heatmaps(HILLS, np.full((3, 2), SIDE), "pad", np.full(3, invisible))
    return jitter_boxes(heatmaps, rule, np.array(rows), 40, 0.2, seed)


def side_of(heat, rule):
    box = find_crop(heat, frame_of(SIDE, SIDE), SIDE, SIDE, rule).box
    return box[2] - box[0]


@pytest.mark.parametrize("row", [0, 1])
def test_jittered_boxes_are_smaller_and_larger_than_the_rules_own(row):
    boxes = jittered()
    assert boxes.shape == (3, 40, 4)
    sides, own = boxes[row, :, 2] - boxes[row, :, 0], side_of(HILLS[row], JITTER_RULE)
    assert sides.min() < 0.95 * own
    assert sides.max() > 1.05 * own
    # The widest: a threshold lower by a fifth, and 0.2 more margin on both sides.
    assert sides.max() <= side_of(HILLS[row], CropRule(threshold=0.4, margin=0.3))


def test_an_image_that_is_not_cropped_is_not_jittered():
    assert jittered()[2].tolist() == [[0, 0, SIDE, SIDE]] * 40


def test_the_usual_place_is_jittered_in_size_around_its_centre():
    boxes = jittered(
        dataclasses.replace(JITTER_RULE, invisible="usual", usual=(0.5, 0.3, 0.4)), invisible=True
    )
    sides = boxes[:, :, 2] - boxes[:, :, 0]
    assert 96 <= sides.min() < 110  # 160 px less 0.2 of it on each side
    assert 210 < sides.max() <= 224
    assert np.abs(boxes[:, :, 0] + sides / 2 - 200).max() <= 1


def test_the_usual_place_keeps_a_tenth_of_its_side_however_much_it_is_jittered():
    rule = CropRule(place="fixed", usual=(0.5, 0.5, 0.5))
    heatmaps = Heatmaps(np.ones((1, 7, 7)), np.array([[400, 400]]), "pad", np.zeros(1, bool))
    boxes = jitter_boxes(heatmaps, rule, np.array([0]), 100, 0.9, 0)
    assert (boxes[:, :, 2:] - boxes[:, :, :2]).min() == 20  # of 200 px


def test_jittered_boxes_of_an_image_do_not_depend_on_other_images():
    assert np.array_equal(jittered(rows=[1])[0], jittered()[1])


def test_another_seed_jitters_differently():
    assert not np.array_equal(jittered(seed=8)[1], jittered()[1])
