"""The crop rule in the page's JavaScript gives the boxes of the Python that stage 2 runs."""

from __future__ import annotations

import base64
import dataclasses
import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page

import heatcrop.report
from heatcrop.report.drawing import heat_colours, palette
from heatcrop.runs.folder import RunFolder
from stage2_crop.boxes import Heatmaps, deciding_heat, find_crops
from stage2_crop.plan import CropRule
from tests.conftest import Call
from tests.tiny_run import PER_CLASS, TASKS, TEST_PER_CLASS

pytestmark = pytest.mark.browser

ASSETS = Path(heatcrop.report.__file__).parent / "assets"
CALL = """([text, rule, fit, withHeat]) => {
    const open = (map) => map && { values: decodeMap(map[0]), w: map[1], h: map[2] };
    return JSON.stringify(JSON.parse(text).map(({ size, invisible, full, zoomed, region }) => {
        const heatmaps = { size, fit, invisible, region, full: open(full), zoomed: open(zoomed) };
        const { box, fallback, map, frame } = decide(heatmaps, rule);
        const heat = withHeat ? Array.from(weighHeat(map, frame, ...size, rule)) : [];
        return { box, fallback, frame, heat };
    }));
}"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    page = browser.new_page()
    for name in ("crop.js", "images.js"):
        page.add_script_tag(content=(ASSETS / name).read_text(encoding="utf-8"))
    return page


def plain_map(heatmap: np.ndarray) -> list[Any]:
    data = heatmap.astype("<f4").tobytes()
    return [base64.b64encode(data).decode(), heatmap.shape[1], heatmap.shape[0]]


def call_page(page: Page, heatmaps: Heatmaps, rule: CropRule, heat: bool = False) -> list[Any]:
    zoomed, regions = heatmaps.zoomed, heatmaps.regions
    images = [
        {
            "size": size.tolist(),
            "invisible": bool(heatmaps.invisible[i]),
            "full": plain_map(heatmaps.maps[i]),
            "zoomed": None if zoomed is None else plain_map(zoomed[i]),
            "region": None if regions is None else regions[i].tolist(),
        }
        for i, size in enumerate(heatmaps.sizes)
    ]
    arguments = [json.dumps(images), dataclasses.asdict(rule), heatmaps.fit, heat]
    return list(json.loads(page.evaluate(CALL, arguments)))  # as text: playwright converts numbers one by one


def make_heatmaps(n: int, shape: tuple[int, int], fit: str, seed: int, zoomed: bool) -> Heatmaps:
    """Hills on noise, of which some are flat, all negative, or not finite."""
    rng = np.random.default_rng(seed)
    y, x = (np.arange(shape[0]) + 0.5) / shape[0], (np.arange(shape[1]) + 0.5) / shape[1]

    def draw() -> np.ndarray:
        maps = rng.normal(0, 0.25, (n, *shape))
        for one in maps:
            for _ in range(rng.integers(1, 3)):
                centre_x, centre_y, spread = *rng.random(2), rng.uniform(0.03, 0.5)
                away = (y[:, None] - centre_y) ** 2 + (x - centre_x) ** 2
                one += rng.uniform(0.5, 3) * np.exp(-away / (2 * spread**2))
        maps[::11] = rng.normal(size=(len(maps[::11]), 1, 1))
        maps[3::13] = -np.abs(maps[3::13]) - 0.1
        maps[5, 0, 0], maps[7, -1, -1] = np.nan, -np.inf
        return maps.astype(np.float32)

    sizes = rng.integers(30, 900, (n, 2))
    corners = rng.uniform(0, 0.6, (n, 2)) * sizes
    regions = np.concatenate([corners, corners + rng.uniform(0.2, 0.4, (n, 1)) * sizes], axis=1).astype(int)
    invisible = rng.random(n) < 0.2
    return Heatmaps(draw(), sizes, fit, invisible, *((draw(), regions) if zoomed else (None, None)))


PRIOR, USUAL = (0.45, 0.3, 0.12, 0.2), (0.51, 0.32, 0.4)
RULES = {
    "default": CropRule(prior=PRIOR, usual=USUAL),
    "area": CropRule(threshold=0.2, by="area", prior_weight=0.0),
    "half of the prior": CropRule(threshold=0.5, margin=0.0, prior=PRIOR, prior_weight=0.5),
    "strong prior": CropRule(prior=PRIOR, prior_weight=3.7, least_side=0.0),
    "square of the prior": CropRule(prior=PRIOR, prior_weight=2.0, greatest_side=0.6),
    "joined": CropRule(threshold=0.6, together=0.3, percentile=90.0, prior=PRIOR),
    "percentile": CropRule(threshold=1.0, percentile=77.7, least_area=0.05),
    "tiny and huge": CropRule(threshold=0.1, least_area=0.3, greatest_side=0.5, prior=PRIOR),
    "invisible is not cropped": CropRule(invisible="whole", usual=USUAL, prior=PRIOR),
    "invisible at the usual place": CropRule(invisible="usual", usual=USUAL, prior=PRIOR),
    "no usual place": CropRule(invisible="usual", prior=PRIOR),
    "fixed": CropRule(place="fixed", usual=USUAL),
    "both": CropRule(place="both", usual=USUAL, least_contrast=0.6),
    "off": CropRule(enabled=False),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("fit", "shape", "zoom"), [("pad", (9, 9), 2.0), ("stretch", (7, 11), 0.0)])
def test_boxes_and_fallbacks_are_those_of_stage_2(page, name, fit, shape, zoom):
    heatmaps = make_heatmaps(80, shape, fit, sorted(RULES).index(name), bool(zoom))
    rule = dataclasses.replace(RULES[name], zoom=zoom)
    found = call_page(page, heatmaps, rule)
    crops = find_crops(heatmaps, rule)
    assert [(tuple(one["box"]), one["fallback"]) for one in found] == [(c.box, c.fallback) for c in crops]


MIDDLE = (0.5, 0.5, 0.4)
CROPPED, WHOLE = "Crop of 40 px, 40% of the shorter side of 200 × 100; ", "Not cropped: "
FLAT, BOTH = "the heatmap is almost uniform", "the crop prediction is averaged with that of the usual place"
INVISIBLE = "the full image is classified as not showing it; this is its usual place"


@pytest.mark.parametrize(
    ("rule", "start", "reason"),
    [
        (CropRule(place="fixed", usual=MIDDLE), CROPPED, "at the usual place, as in every image"),
        (CropRule(invisible="usual", usual=MIDDLE, place="both"), CROPPED, INVISIBLE),
        (CropRule(), WHOLE, FLAT),
        (CropRule(place="both", usual=MIDDLE), WHOLE, f"{FLAT}; {BOTH}"),
        (CropRule(least_contrast=0.0, greatest_side=0.01), WHOLE, "the crop would be as large as the image"),
    ],
)
def test_note_and_pill_give_the_same_reason(page, rule, start, reason):
    assert describe_crop(page, rule) == [f"{start}{reason}.", reason]


def test_note_of_a_crop_by_its_heatmap_names_the_usual_place_that_is_averaged(page):
    rule = CropRule(least_contrast=0.0, greatest_side=1.0, place="both", usual=MIDDLE)
    note, title = describe_crop(page, rule)
    assert note.endswith(f"; {BOTH}.")
    assert title is None


def describe_crop(page: Page, rule: CropRule) -> Any:
    """The note of the large view, and the tooltip of the card, of an image whose heatmap has one position."""
    call = """(rule) => {
        const task = { rule, fit: "pad", map: [1, 1], version: 0 }, box = [0, 0, 200, 100];
        const thumb = { file: "data:,", size: [1, 1], panels: [[0, 0, 1, 1], [0, 0, 1, 1]] };
        const maps = ["AACAPw=="], zoomed = null, fallback = "";
        const row = { task, size: [200, 100], maps, zoomed, invisible: true, box, fallback, thumb };
        return [cropNote(row).textContent, cropPane(row).querySelector(".pill")?.title];
    }"""
    return page.evaluate(call, dataclasses.asdict(rule))


def test_rules_above_reach_every_fallback():
    found: Counter[str] = Counter()
    for name in RULES:
        heatmaps = make_heatmaps(80, (7, 11), "stretch", sorted(RULES).index(name), False)
        found.update(crop.fallback for crop in find_crops(heatmaps, RULES[name]))
    assert set(found) == {"", "flat", "empty", "tiny", "huge", "invisible", "usual", "off"}


@pytest.mark.parametrize("zoom", [0.0, 2.0])
def test_heat_is_that_of_stage_2(page, zoom):
    heatmaps, rule = make_heatmaps(40, (9, 9), "pad", 3, bool(zoom)), CropRule(prior=PRIOR, zoom=zoom)
    for row, one in enumerate(call_page(page, heatmaps, rule, heat=True)):
        heat, frame = deciding_heat(heatmaps, row, rule)
        assert one["frame"] == list(frame)
        values = np.array(one["heat"], np.float32).reshape(heat.shape)
        np.testing.assert_allclose(values / max(values.max(), 1e-12), heat, atol=1e-6)


@pytest.mark.parametrize("threshold", [0.02, 0.35, 1.0])
def test_colours_of_heat_are_those_of_the_sheets(page, threshold):
    code = "([colours, threshold]) => Array.from(heatColours(new Uint8Array(colours), threshold))"
    found = page.evaluate(code, [palette().ravel().tolist(), threshold])
    expected = heat_colours(threshold).astype(int)
    colours = np.array(found, np.uint32).view(np.uint8).reshape(256, 4).astype(int)
    assert np.abs(colours - expected).max() <= 1


BOXES = """() => {
    const { tasks } = JSON.parse(document.getElementById("data").textContent);
    return tasks.flatMap((task) => task.rows.map((row) => {
        const { box, fallback } = decide(openMaps(Object.assign(row, { task })), task.rule);
        return [task.name, row.name, ...box, fallback];
    }));
}"""


def read_boxes(run: Path, task: str) -> set[tuple[Any, ...]]:
    table = pd.read_csv(RunFolder(run).task(task).boxes_csv, keep_default_na=False)
    columns = ["image", "x0", "y0", "x1", "y1", "fallback"]
    return {(task, *row) for row in table[columns].itertuples(index=False)}


def test_page_of_a_run_finds_the_box_of_every_image(browser, finished_run):
    page = browser.new_page()
    page.goto((finished_run / "report" / "index.html").as_uri())
    found = {tuple(row) for row in page.evaluate(BOXES)}
    expected = set().union(*(read_boxes(finished_run, task) for task in TASKS))
    # All but those of the training images that the gallery leaves out: there is none of so few.
    assert found == expected
    assert len(found) == len(TASKS) * 5 * (PER_CLASS + TEST_PER_CLASS)


def test_copied_command_makes_the_crops_that_the_page_shows(browser, run_copy, call: Call, no_plots):
    code, printed = call("report", "--run", run_copy.name)
    assert code == 0, printed
    page = browser.new_page()
    page.goto((run_copy / "report" / "index.html").as_uri())
    page.click("#trial summary")
    page.select_option("[name=of]", label="neck")
    for name, value in (("threshold", "0.5"), ("margin", "0.3"), ("prior_weight", "0.4")):
        page.fill(f"[name={name}]", value)
    page.select_option("[name=by]", "area")
    command = shlex.split(page.input_value("[name=command]"))
    assert command[:2] == ["python", "pipeline.py"]
    tried = page.evaluate(
        BOXES.replace("task.rule", "({ ...task.rule, ...tried })").replace("() =>", "(tried) =>"),
        {"threshold": 0.5, "margin": 0.3, "prior_weight": 0.4, "by": "area"},
    )
    expected = {tuple(row) for row in tried if row[0] == TASKS[0]}
    assert len(expected - read_boxes(run_copy, TASKS[0])) > 5, "the rule changes crops"
    code, printed = call(*command[2:], "--jobs", "1")
    assert code == 0, printed
    assert read_boxes(run_copy, TASKS[0]) == expected
