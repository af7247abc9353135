"""The search of a crop rule: what it evaluates, what it chooses, and the probe that it uses."""

import dataclasses
import functools

import numpy as np
import pytest

from heatcrop.training.probe import box_features, probe_predictions
from stage2_crop.plan import CropRule, SearchPlan
from stage2_crop.search import Candidate, SearchRows, choose_candidate, search_rule

N, CLASSES = 160, 4


@pytest.fixture
def rows():
    """Rows whose full-image predictions are hardly better than chance."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, CLASSES, N)
    letters = np.zeros((N, CLASSES), np.int8)
    letters[np.arange(N), classes] = 2
    logits = rng.normal(size=(N, CLASSES)) + 0.8 * (letters > 0)
    full = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return SearchRows(letters, (letters > 0).astype(np.float32), full, np.arange(N) % 5, np.full(N, 100))


def boxes_of(rule):
    """Return boxes of images of 100 px; the threshold sets the crop's side, and the usual one is 40 px."""
    side = 100 if not rule.enabled else round(100 * (1 - rule.threshold))
    crop, usual = (0, 0, side, side), (0, 0, 40, 40)
    return [{"heatmap": [crop], "fixed": [usual], "both": [crop, usual]}[rule.place]] * N


class Features:
    """Features that separate the classes the better, the nearer a crop's side is to the best one."""

    def __init__(self, rows, best_side, noise):
        self.rows, self.best_side, self.noise, self.computed = rows, best_side, noise, []

    def __call__(self, boxes):
        out = []
        for i, row in enumerate(boxes):
            self.computed += [(i, box) for box in row]
            found = []
            for box in row:
                rng = np.random.default_rng((i, box[2]))
                clear = max(0.0, 1 - abs(box[2] - self.best_side) / 40)
                signal = clear * (self.rows.letters[i] > 0)
                found.append(np.concatenate([signal, np.zeros(4)]) + self.noise * rng.normal(size=8))
            out.append(np.array(found))
        return out


def test_the_best_threshold_is_found(rows):
    features = Features(rows, best_side=40, noise=0.3)
    start = CropRule(threshold=0.25)
    rule, curve = search_rule(start, [("threshold", (0.25, 0.45, 0.6, 0.75))], rows, boxes_of, features)
    assert rule.threshold == 0.6
    chosen = [one for one in curve if one.chosen]
    assert [one.value for one in chosen] == [0.6]
    assert chosen[0].score == max(one.score for one in curve)
    assert chosen[0].score - curve[0].score == pytest.approx(chosen[0].difference)
    assert chosen[0].difference > 2.5 * chosen[0].error > 0
    assert chosen[0].side == pytest.approx(0.4)
    assert curve[0].value == 0.25
    assert curve[0].difference == curve[0].error == 0


@pytest.mark.parametrize("box", [(0, 0, 50, 80), (0, 0, 80, 50)])
def test_the_side_of_a_crop_that_two_edges_cut_off_is_its_longer_one(rows, box):
    features = Features(rows, 40, 0.3)
    _, curve = search_rule(CropRule(), [("margin", (0.1,))], rows, lambda rule: [[box]] * N, features)
    assert [one.side for one in curve] == pytest.approx([0.8])


def test_the_features_of_a_box_are_computed_once(rows):
    features = Features(rows, 40, 0.3)
    steps = [("threshold", (0.25, 0.6)), ("margin", (0.0, 0.3)), ("enabled", (True, False))]
    search_rule(CropRule(threshold=0.25), steps, rows, boxes_of, features)
    assert len(features.computed) == len(set(features.computed)) == 3 * N  # sides 75, 40 and the full image


@pytest.mark.parametrize(("threshold", "place", "searched"), [(0.6, "heatmap", 1), (0.75, "fixed", 2)])
def test_a_setting_that_comes_again_is_searched_if_the_rule_has_changed(rows, threshold, place, searched):
    """The fixed place has the best side, which a threshold of 0.6 gives too."""
    thresholds, places = ("threshold", (threshold, 0.8)), ("place", ("heatmap", "fixed"))
    start, features = CropRule(threshold=threshold), Features(rows, 40, 0.3)
    rule, curve = search_rule(start, [thresholds, places, thresholds], rows, boxes_of, features)
    assert rule.place == place
    assert [one.setting for one in curve].count("threshold") == 2 * searched


def test_noise_does_not_change_a_rule(rows):
    """Where all crops are equally good, no candidate is clearly better, except by chance."""

    def features(boxes, seed):
        """Return the class and noise, which differs between boxes and seeds."""
        clear = np.concatenate([2.0 * (rows.letters > 0), np.zeros((N, 28))], axis=1)
        return [
            np.array([clear[i] + np.random.default_rng((seed, i, box[2])).normal(size=32) for box in row])
            for i, row in enumerate(boxes)
        ]

    changed, step = 0, ("threshold", (0.25, 0.4))
    for seed in range(10):
        of_seed = functools.partial(features, seed=seed)
        rule, _ = search_rule(CropRule(threshold=0.5), [step], rows, boxes_of, of_seed)
        changed += rule.threshold != 0.5
    assert changed <= 1


def test_a_second_crop_is_chosen_where_each_sees_what_the_other_does_not(rows):
    features = Features(rows, best_side=45, noise=1.0)
    start, places = CropRule(threshold=0.5), ("heatmap", "fixed", "both")
    rule, curve = search_rule(start, [("place", places)], rows, boxes_of, features)
    assert rule.place == "both"
    assert [one.side for one in curve] == pytest.approx([0.5, 0.4, 0.5])
    assert len(features.computed) == 2 * N


@pytest.mark.parametrize(
    ("setting", "scores", "expected"),
    [
        # Of the configured value and two others, each with an error of 0.02.
        ("place", (0.50, 0.51, 0.549), 1),  # the best is not clearly better: the fixed place
        ("place", (0.50, 0.49, 0.519), 0),
        ("place", (0.50, 0.49, 0.521), 2),  # both by one error where the fixed place is not better
        ("place", (0.50, 0.51, 0.551), 2),
        ("zoom", (0.50, 0.51, 0.49), 1),
        ("zoom", (0.50, 0.49, 0.549), 0),
        ("zoom", (0.50, 0.49, 0.551), 2),
        ("margin", (0.50, 0.549, 0.49), 0),
        ("margin", (0.50, 0.551, 0.49), 1),
    ],
)
def test_some_values_need_to_be_better_and_others_clearly(setting, scores, expected):
    values = {
        "place": ("heatmap", "fixed", "both"),
        "zoom": (2.0, 0.0, 3.0),
        "margin": (0.1, 0.0, 0.2),
    }[setting]
    found = zip(values, scores, (0.0, 0.02, 0.02), strict=True)
    tried = [Candidate(setting, value, 0, 0, 0, score, 0, error, 0) for value, score, error in found]
    assert choose_candidate(tried) == expected


def test_a_second_crop_of_the_same_place_is_not_chosen(rows):
    """It costs a forward pass."""
    start, places = CropRule(threshold=0.6), ("heatmap", "both")
    rule, _ = search_rule(start, [("place", places)], rows, boxes_of, Features(rows, 40, 0.3))
    assert rule.place == "heatmap"


def test_a_task_that_crops_do_not_help_is_not_cropped(rows):
    rule, curve = search_rule(
        CropRule(threshold=0.6), [("enabled", (True, False))], rows, boxes_of, Features(rows, 100, 0.3)
    )
    assert not rule.enabled
    assert curve[-1].chosen
    assert curve[-1].side == 1


def test_the_search_tries_every_setting_that_shapes_a_crop():
    plan = SearchPlan(margins=(0.1,), greatest_sides=(0.9,))
    names = [name for name, _ in [*plan.first_steps(), *plan.last_steps(2.0)]]
    first, sides = ["spread", "prior_weight"], ["margin", "least_side", "greatest_side"]
    assert names == [*first, "threshold", "zoom", "threshold", *sides, "place", "enabled"]
    fields = {f.name for f in dataclasses.fields(CropRule)}
    assert set(names) <= fields


def test_settings_without_other_values_are_not_searched():
    plan = SearchPlan(thresholds=(), spreads=())
    names = [name for name, _ in [*plan.first_steps(), *plan.last_steps(0.0)]]
    assert names == ["prior_weight", "least_side", "place", "enabled"]


def test_a_probe_does_not_train_on_what_it_predicts():
    """Features identify the row, not the class: a probe that trained on the row would know it."""
    rng = np.random.default_rng(3)
    classes = rng.integers(0, 2, 60)
    out = probe_predictions(np.eye(60), classes, 2, np.arange(60) % 5)
    assert out.sum(axis=1) == pytest.approx(np.ones(60))
    assert (out.argmax(axis=1) == classes).mean() < 0.7
    known = probe_predictions(np.tile(np.eye(2)[classes], 200), classes, 2, np.arange(60) % 5)
    assert (known.argmax(axis=1) == classes).all()


def test_a_probe_gives_nothing_to_a_class_that_it_did_not_train_on():
    classes = np.array([0, 0, 1, 1, 2])
    out = probe_predictions(np.eye(5), classes, 4, np.array([0, 1, 0, 1, 0]))
    assert (out[:, 3] == 0).all()
    assert out[[0, 2, 4], 2].max() == 0  # the other fold has no 2
    only = probe_predictions(np.eye(3), np.array([1, 1, 1]), 2, np.array([0, 1, 1]))
    assert only.tolist() == [[0, 1]] * 3


def test_box_features_are_those_of_each_box(tmp_path):
    from heatcrop.data.images import write_jpeg
    from heatcrop.nets.backbones import BACKBONES, InputForm

    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32], image[32:, 32:] = (250, 10, 10), (10, 10, 250)
    paths = [str(tmp_path / f"{i}.jpg") for i in range(12)]
    for path in paths:
        write_jpeg(tmp_path / path, image, 98)
    form = InputForm(32, "pad", BACKBONES["efficientnet_lite0"], 2)
    done, first, second = [], (0, 0, 32, 32), (32, 32, 64, 64)
    found = box_features(lambda x: (x,), form, paths, [[first, second], [], [second]] * 4, done.append)
    assert [len(rows) for rows in found] == [2, 0, 1] * 4
    for (red, blue), only in zip(found[::3], found[2::3], strict=True):
        assert red[0] > 0.5 > red[2]
        assert blue[2] > 0.5 > blue[0]
        assert only[0] == pytest.approx(blue, abs=1e-5)
    assert sum(done) == 12
