"""From class maps of test-time views to one heatmap."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heatcrop.training.views import TestViews, View
from stage1_cam.heatmaps import class_heatmap, evidence_heatmap, has_spread, heatmaps_of, merge_views

MAPS = hnp.arrays(np.float32, (2, 3, 4, 4), elements=st.integers(-5, 5).map(float))
UNIT, MIRROR = View(0, 0, 1, 1), View(0, 0, 1, 1, True)


@given(MAPS)
def test_a_view_and_its_mirror_are_averaged_upright(maps):
    expected = (maps[0] + maps[1][:, :, ::-1]) / 2
    np.testing.assert_allclose(merge_views(maps, [UNIT, MIRROR]), expected)
    np.testing.assert_allclose(merge_views(maps[:1], [UNIT]), maps[0])
    np.testing.assert_allclose(merge_views(maps[1:], [MIRROR]), maps[1][:, :, ::-1])


def test_the_map_of_a_quarter_is_placed_in_that_quarter():
    """A view of the lower right quarter: its 4 x 4 positions become 2 x 2, the rest has no value."""
    maps = np.array([[[[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]]], float)
    merged = merge_views(maps, [View(0.5, 0.5, 1, 1)])[0]
    assert merged[2:, 2:].tolist() == [[1, 2], [3, 4]]
    assert merged[:2].tolist() == [[0] * 4] * 2
    assert merged[2:, :2].tolist() == [[0] * 2] * 2
    mirrored = merge_views(maps, [View(0.5, 0.5, 1, 1, True)])[0]
    assert mirrored[2:, 2:].tolist() == [[2, 1], [4, 3]]
    left = merge_views(maps, [View(0, 0.5, 0.5, 1)])[0]
    assert left[2:, :2].tolist() == [[1, 2], [3, 4]]
    assert left[:, 2:].max() == 0


def test_a_position_is_averaged_over_the_views_that_cover_it():
    full, quarter = np.full((1, 4, 4), 6.0), np.full((1, 4, 4), 2.0)
    merged = merge_views(np.stack([full, quarter]), [UNIT, View(0, 0, 0.5, 0.5)])[0]
    assert merged[:2, :2].tolist() == [[4, 4], [4, 4]]
    assert merged[2:].min() == merged[:, 2:].min() == 6


def test_positions_that_no_view_covers_have_no_heat():
    """An image where the invisible class prevails everywhere, least in the middle."""
    maps, views = np.zeros((1, 1, 2, 7, 7)), TestViews((1.25,), grid=1, flip=False).unit()
    maps[:, :, 0] = 5
    maps[:, :, 0, 3, 3] = 1
    heatmap = heatmaps_of(np.zeros((1, 2)), maps, views, "evidence", invisible=0)[0]
    assert heatmap[0].max() == heatmap[:, -1].max() == 0
    assert np.unravel_index(heatmap.argmax(), heatmap.shape) == (3, 3)


@given(
    st.integers(-9, 9),
    st.sampled_from([TestViews(), TestViews((1.0, 1.2), 3, True), TestViews((2.0,), 2, True)]),
)
def test_a_constant_stays_constant_under_any_views_that_cover(value, test):
    views = test.unit()
    maps = np.full((len(views), 2, 7, 7), value, np.float32)
    np.testing.assert_allclose(merge_views(maps, views), np.full((2, 7, 7), value), rtol=1e-6)


def test_merging_windows_of_a_slope_gives_the_slope():
    """Each window's map is the part of the slope that it covers."""
    views = TestViews((1.5,), 3, True).unit()
    side = 14
    maps = []
    for view in views:
        seen = np.tile(view.x0 + (np.arange(side) + 0.5) / side * view.width, (side, 1))
        maps.append([seen[:, ::-1] if view.flip else seen])
    merged = merge_views(np.array(maps), views)[0]
    expected = np.tile((np.arange(side) + 0.5) / side, (side, 1))
    # Half a position at a window's border is continued, not known.
    np.testing.assert_allclose(merged, expected, atol=0.5 * 0.67 / side)


def test_one_map_for_each_view_is_needed():
    with pytest.raises(ValueError):
        merge_views(np.zeros((2, 1, 4, 4)), [UNIT])


@given(hnp.arrays(np.float32, (4, 3, 5), elements=st.integers(-50, 50).map(float)), st.integers(0, 3))
def test_heatmap_kinds(maps, chosen):
    assert (class_heatmap(maps, chosen) == maps[chosen]).all()
    others = [maps[c] for c in range(4) if c != chosen]
    contrast = class_heatmap(maps, chosen, "contrast")
    np.testing.assert_allclose(contrast, maps[chosen] - sum(others) / 3, atol=1e-4)
    assert contrast.dtype == np.float32
    assert contrast.shape == (3, 5)
    distance = class_heatmap(maps, chosen, "distance")
    np.testing.assert_allclose(distance**2, sum((maps[chosen] - o) ** 2 for o in others) / 3, rtol=1e-4)
    assert distance.dtype == np.float32
    assert (distance >= np.abs(contrast) - 1e-3).all()
    # Evidence for all classes alike is in neither.
    np.testing.assert_allclose(class_heatmap(maps + 7, chosen, "distance"), distance, atol=1e-3)
    np.testing.assert_allclose(class_heatmap(maps + 7, chosen, "contrast"), contrast, atol=1e-4)


@given(hnp.arrays(np.float32, (4, 3, 5), elements=st.integers(-50, 50).map(float)))
def test_evidence_is_for_all_visible_classes_against_the_invisible_one(maps):
    maps[0, 0, 0] = 1000  # there is evidence somewhere
    expected = maps[[0, 1, 3]].mean(axis=0) - maps[2]
    np.testing.assert_allclose(evidence_heatmap(maps, 2), expected, atol=1e-4)
    np.testing.assert_allclose(evidence_heatmap(maps), maps.std(axis=0), atol=1e-4)


@given(hnp.arrays(np.float32, (2, 3, 5), elements=st.integers(-50, 0).map(float)))
def test_an_image_without_evidence_has_heat_where_least_speaks_against_it(maps):
    maps[1] = 1
    heat = evidence_heatmap(maps, 1)
    assert heat.min() == 0
    np.testing.assert_array_equal(heat, maps[0] - maps[0].min())


@given(hnp.arrays(np.float32, (5, 3, 5), elements=st.integers(-50, 50).map(float)))
def test_classes_without_training_images_do_not_count(maps):
    """Their maps are evidence against them in every image."""
    for i in (0, 3):
        maps[i] = -1000
    np.testing.assert_array_equal(evidence_heatmap(maps, 2, (1, 2, 4)), evidence_heatmap(maps[[1, 2, 4]], 1))
    np.testing.assert_array_equal(evidence_heatmap(maps, None, (1, 2, 4)), evidence_heatmap(maps[[1, 2, 4]]))
    np.testing.assert_array_equal(evidence_heatmap(maps, 3, (1, 2, 4)), evidence_heatmap(maps[[1, 2, 4]]))


@pytest.mark.parametrize("invisible", [None, 1])
def test_evidence_does_not_depend_on_the_prediction(invisible):
    maps = np.random.default_rng(0).normal(size=(1, 2, 3, 4, 4)).astype(np.float32)
    views = [UNIT, dataclasses.replace(UNIT, flip=True)]
    found = [heatmaps_of(logits[None], maps, views, "evidence", invisible) for logits in np.eye(3)]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    others = [heatmaps_of(logits[None], maps, views, "distance", invisible) for logits in np.eye(3)]
    assert not np.array_equal(others[0], others[1])


@pytest.mark.parametrize(
    ("kind", "invisible", "trained", "expected"),
    [
        ("evidence", 0, (0, 1, 2), True),
        ("evidence", None, (0, 1, 2), False),
        ("evidence", 0, (1, 2), False),
        ("evidence", 0, (0,), False),
        ("spread", 0, (0, 1, 2), False),
        ("plain", 0, (0, 1, 2), False),
    ],
)
def test_which_tasks_have_a_spread_besides_their_evidence(kind, invisible, trained, expected):
    assert has_spread(kind, invisible, trained) == expected
    maps, logits = np.random.default_rng(0).normal(size=(1, 1, 3, 4, 4)), np.zeros((1, 3))
    found = [heatmaps_of(logits, maps, [UNIT], one, invisible, trained) for one in (kind, "spread")]
    assert np.array_equal(*found) != (expected or kind == "plain")


def test_a_single_class_has_its_own_map():
    maps = np.array([[[1.0, 2.0]]])
    assert class_heatmap(maps, 0, "contrast").tolist() == [[1, 2]]


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'gradcam'.*plain, contrast"):
        class_heatmap(np.zeros((2, 3, 3)), 0, "gradcam")
