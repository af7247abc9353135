"""From a heatmap to its component: scale, upsample, threshold, choose."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stage2_crop.component import Component, choose, components, scale_heat, upsample

GRIDS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.sampled_from([0, 0, 0.25, 0.7, 1, 1.5, 3, -2]),
)


def by_opencv(heat, threshold):
    """Find components by OpenCV; in reading order of their first positions."""
    mask = (heat >= threshold).astype(np.uint8)
    n, labels, rectangles, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    order = sorted(range(1, n), key=lambda number: np.flatnonzero(labels == number)[0])
    corners = rectangles[order, :4] + np.pad(rectangles[order, :2], ((0, 0), (2, 0)))
    shares = [
        (np.mean(labels == number), heat[labels == number].sum() / heat.clip(0).sum()) for number in order
    ]
    return [Component(tuple(box), *pair) for box, pair in zip(corners.tolist(), shares, strict=True)]


@given(GRIDS, st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.5]))
def test_components_are_those_of_opencv(heat, threshold):
    found, expected = components(heat, threshold), by_opencv(heat, threshold)
    assert [c.box for c in found] == [c.box for c in expected]
    assert [c.area for c in found] == pytest.approx([c.area for c in expected])
    assert [c.mass for c in found] == pytest.approx([c.mass for c in expected], rel=1e-5)


def test_diagonal_neighbours_are_one_component():
    assert [c.box for c in components(np.eye(3), 0.5)] == [(0, 0, 3, 3)]


def test_components_at_the_border_are_complete_and_are_not_joined_across_it():
    heat = np.zeros((4, 5))
    heat[0, :2] = heat[0, 4] = heat[2:, 0] = heat[3, 4] = 1
    assert [c.box for c in components(heat, 0.5)] == [(0, 0, 2, 1), (4, 0, 5, 1), (0, 2, 1, 4), (4, 3, 5, 4)]
    assert components(np.ones((4, 5)), 0.5) == [Component((0, 0, 5, 4), 1.0, 1.0)]


@pytest.mark.parametrize("by", ["area", "mass"])
def test_equal_components_are_in_reading_order_and_the_first_is_chosen(by):
    heat = np.zeros((4, 10))
    heat[1, 0] = heat[0, 5] = heat[0, 8] = 1  # the leftmost one starts a row lower
    found = components(heat, 0.5)
    assert [c.box for c in found] == [(5, 0, 6, 1), (8, 0, 9, 1), (0, 1, 1, 2)]
    assert choose(found, by) is found[0]


def test_mass_is_a_share_of_all_positive_heat():
    (only,) = components(np.array([[6.0, 0.0, 2.0], [-50.0, 0.0, 0.0]]), 5)
    assert only == Component((0, 0, 1, 1), pytest.approx(1 / 6), pytest.approx(6 / 8))


def test_a_position_at_the_threshold_counts():
    assert len(components(np.array([[0.5, 0.0]]), 0.5)) == 1
    assert components(np.array([[0.5, 0.0]]), 0.5001) == []


@pytest.mark.parametrize("threshold", [0.0, -0.1, float("nan")])
def test_a_threshold_that_is_not_above_zero_is_refused(threshold):
    with pytest.raises(ValueError, match="must be above 0"):
        components(np.ones((2, 2)), threshold)


BLOCK = Component((0, 0, 4, 4), area=0.16, mass=0.30)
SPOT = Component((8, 8, 10, 10), area=0.04, mass=0.60)
CRUMB = Component((20, 0, 21, 1), area=0.01, mass=0.05)


def test_choose_by_area_and_by_mass_differ():
    assert choose([BLOCK, SPOT, CRUMB], "area") == BLOCK
    assert choose([BLOCK, SPOT, CRUMB], "mass") == SPOT


def test_choose_joins_components_of_enough_share():
    joined = choose([BLOCK, SPOT, CRUMB], "mass", together=0.5)
    assert joined.box == (0, 0, 10, 10)
    assert joined.area == pytest.approx(0.20)
    assert joined.mass == pytest.approx(0.90)
    assert choose([BLOCK, SPOT, CRUMB], "mass", together=0.51) == SPOT
    assert choose([BLOCK, SPOT, CRUMB], "area", together=0.25).box == (0, 0, 10, 10)
    assert choose([BLOCK, SPOT, CRUMB], "area", together=0.01).box == (0, 0, 21, 10)


@pytest.mark.parametrize("together", [0.0, 0.5])
def test_there_is_no_choice_without_components(together):
    assert choose([], "mass", together) is None


def test_choose_refuses_an_unknown_measure():
    with pytest.raises(ValueError, match="'size'.*'area' or 'mass'"):
        choose([BLOCK], "size")


@given(GRIDS, st.sampled_from(["area", "mass"]), st.floats(0.01, 1))
def test_joining_keeps_the_chosen_component(heat, by, together):
    found = components(heat, 1.0)
    alone, joined = choose(found, by), choose(found, by, together)
    assert (joined is None) == (alone is None)
    if alone is not None:
        union = np.minimum(joined.box[:2], alone.box[:2]), np.maximum(joined.box[2:], alone.box[2:])
        assert np.concatenate(union).tolist() == list(joined.box)
        assert getattr(alone, by) <= getattr(joined, by) <= 1 + 1e-6


VALUES = st.floats(-1e6, 1e6, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])


@given(hnp.arrays(np.float32, (3, 4), elements=VALUES), st.sampled_from([50.0, 90.0, 100.0]))
def test_scaled_heat_is_finite_within_0_and_1_and_reaches_1(heatmap, percentile):
    heat = scale_heat(heatmap, percentile)
    assert (heat.shape, heat.dtype) == (heatmap.shape, np.float32)
    assert np.isfinite(heat).all()
    assert heat.min() >= 0
    warm = np.isfinite(heatmap) & (heatmap > 0)
    assert heat.max() == (pytest.approx(1) if warm.any() else 0)
    assert heat.max() <= 1


def test_nan_and_infinity_count_as_zero():
    assert scale_heat(np.array([[np.nan, np.inf], [-np.inf, 2.0]])).tolist() == [[0, 0], [0, 1]]


def test_a_lower_percentile_keeps_one_hot_position_from_deciding_alone():
    heatmap = np.array([[100.0] + [1.0] * 9])
    assert scale_heat(heatmap)[0, 1] == pytest.approx(0.01)
    assert scale_heat(heatmap, 80)[0].tolist() == [1.0] * 10


def test_a_percentile_that_is_zero_falls_back_to_the_maximum():
    heatmap = np.zeros((10, 10))
    heatmap[3, 3], heatmap[3, 4] = 4, 2
    assert scale_heat(heatmap, 50)[3, 3:5].tolist() == [1.0, 0.5]


def test_upsampling_keeps_a_positions_place():
    heat = np.zeros((4, 4))
    heat[1, 2] = 1
    large = upsample(heat, 40)
    assert (large.shape, large.dtype) == ((40, 40), np.float32)
    assert np.argwhere(large == large.max()).tolist() == [[14, 24], [14, 25], [15, 24], [15, 25]]
    assert large[[*range(5), *range(35, 40)]].max() == 0


def test_upsampling_continues_the_border_beyond_the_outermost_centres():
    heat = np.zeros((4, 4))
    heat[0, 0] = 1
    assert upsample(heat, 40)[:5, :5].min() == 1
