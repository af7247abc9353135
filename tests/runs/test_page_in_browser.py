"""The page in a real Chromium: messages, filters, keys, accessibility, and thousands of images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from playwright.sync_api import Page

from heatcrop.files import write_text
from heatcrop.report.build import ReportPlan, build_gallery, build_report
from heatcrop.report.results import read_results
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.metrics import write_results
from tests.browser import count, data_of, data_range, fits_its_window, values, violations
from tests.drawn_run import draw_task

pytestmark = pytest.mark.browser

CLASSES = ("<b>bold</b>", "a & b", "long sleeves")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A report of two tasks, the same of a larger run, with thousands of rows, and of predictions."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "drawn run")
    folder.path.mkdir()
    tasks = {
        "odd_design_labels": draw_task(folder, "odd_design_labels", CLASSES, 36, True, 0),
        "plain": draw_task(folder, "plain", ("up", "down"), 24, False, 1),
    }
    write_text(folder.config, "name: drawn run\nnetwork: {backbone: tiny, input_px: 64, fit: pad}\n")
    report = build_report(
        folder, tasks, write_results(tasks, folder, None), plan=ReportPlan(rows=80, tiles=4)
    )
    html = report.read_text(encoding="utf-8")
    data = data_of(html)
    for task in data["tasks"]:
        for split in ("test", "train"):
            task["counts"][split]["n"] += 1000
    large = with_data(report, "large.html", data)
    for task in data["tasks"]:
        task["rows"] = (task["rows"] * 200)[:2500]
    many = with_data(report, "many.html", data)
    results = read_results(tasks["odd_design_labels"], folder, {})
    assert results is not None
    results.data.letters[:] = 0
    results.data.splits[:] = "new"
    new = build_gallery(folder.path / "answers_gallery" / "index.html", "photos", {}, [results])
    return {"report": report, "large": large, "many": many, "predictions": new}


def with_data(page: Path, name: str, data: Any) -> Path:
    """Write a copy of a page with other data beside it."""
    html = page.read_text(encoding="utf-8")
    start, end = data_range(html)
    text = html[:start] + json.dumps(data).replace("<", "\\u003c") + html[end:]
    page.with_name(name).write_text(text, encoding="utf-8")
    return page.with_name(name)


def wait_for_focus(page: Page, index: int) -> None:
    page.wait_for_function(
        "(index) => [...document.querySelectorAll('.card')].indexOf(document.activeElement) === index",
        arg=index,
    )


def fields_of(row: dict[str, Any], task: int) -> dict[str, Any]:
    """The filter values that match a row, computed from its numbers alone."""
    full, _, fused = row["top"]
    best = full if fused is None else fused
    before, after = (row["letters"][top] if row["letters"] else "" for top in (full, best))
    truth = row["letters"].find("y")
    fusion = set()
    if fused is not None:
        fusion.add("changed" if fused != full else "same")
        fusion |= {"fixed"} if after == "y" != before else set()
        fusion |= {"lost"} if before == "y" != after else set()
    return {
        "task": {str(task)},
        "class": {str(truth if truth >= 0 else best)},
        "split": {row["split"]},
        "verdict": {{"y": "right", "m": "maybe", "n": "wrong", "": "unknown"}[after]},
        "crop": {"cropped" if row["fallback"] in ("", "usual") else "uncropped"},
        "fusion": fusion,
    }


@pytest.fixture(scope="module")
def rows(pages) -> list[dict[str, Any]]:
    tasks = data_of(pages["report"].read_text(encoding="utf-8"))["tasks"]
    return [fields_of(row, at) for at, task in enumerate(tasks) for row in task["rows"]]


def matching(rows: list[dict[str, Any]], wanted: dict[str, str]) -> int:
    return sum(all(value in row[name] for name, value in wanted.items()) for row in rows)


@pytest.mark.parametrize("window", ["desktop", "phone", pytest.param("dark", marks=pytest.mark.soak)])
def test_page_fits_its_window(visit, window):
    assert fits_its_window(visit(window=window))


@pytest.mark.parametrize("kind", ["loss", "ap", "reliability", "sizes", "coverage", "search", "confusion"])
def test_page_has_every_plot_of_both_tasks(pages, kind):
    assert pages["report"].read_text(encoding="utf-8").count(f'<figure class="{kind}">') >= 2


def test_plots_and_images_load(visit):
    page = visit()
    page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    page.locator("img").evaluate_all("(all) => all.forEach((one) => { one.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every((one) => one.complete)")
    assert page.locator("img").evaluate_all("(all) => all.filter((one) => !one.naturalWidth).length") == 0


def test_heat_is_painted(visit):
    page = visit()
    page.wait_for_function("document.querySelector('.card canvas').width === 112")
    opaque = (
        "(c) => c.getContext('2d').getImageData(0, 0, 112, 112).data.some((v, i) => i % 4 === 3 && v > 0)"
    )
    assert page.locator(".card canvas").first.evaluate(opaque)


@pytest.mark.parametrize(
    ("view", "name", "window"),
    [
        ("list", "report", "desktop"),
        ("large", "report", "phone"),
        ("large", "predictions", "desktop"),
        pytest.param("list", "report", "dark", marks=pytest.mark.soak),
        pytest.param("list", "report", "phone", marks=pytest.mark.soak),
        pytest.param("list", "predictions", "desktop", marks=pytest.mark.soak),
        pytest.param("large", "report", "desktop", marks=pytest.mark.soak),
        pytest.param("large", "report", "dark", marks=pytest.mark.soak),
    ],
)
def test_axe_finds_no_serious_violation(visit, name, window, view):
    assert violations(visit(name, window), view) == []


def test_page_starts_with_the_reported_split(visit, rows):
    assert count(visit()) == matching(rows, {"split": "test"})


@pytest.mark.parametrize(
    ("split", "sampled"),
    [
        ("", ["validation and test", "training"]),
        ("test", ["validation and test"]),
        ("val", []),
        ("train", ["training"]),
    ],
)
def test_text_above_the_images_describes_which_the_gallery_has(opened, split, sampled):
    page = opened("large")
    page.select_option("[name=split]", split)
    text = page.locator("#count").inner_text()
    assert re.findall("Of ([a-z ]+) images the gallery has", text) == sampled
    assert ("those that fusion changed most" in text) == ("validation and test" in sampled)
    assert ("the most doubtful labels" in text) == ("training" in sampled)


def test_every_filter_value_shows_the_matching_rows(page, rows):
    page.select_option("[name=split]", "")
    assert count(page) == len(rows)
    partial = 0
    for name in ("task", "split", "verdict", "fusion", "crop"):
        for value in values(page, name):
            page.select_option(f"[name={name}]", value)
            expected = matching(rows, {name: value})
            assert count(page) == expected, (name, value)
            assert page.locator("#empty").is_visible() == (expected == 0), (name, value)
            partial += 0 < expected < len(rows)
        page.select_option(f"[name={name}]", "")
    assert partial >= 11


def test_cards_of_several_tasks_name_theirs(page, pages):
    names = {task["short"] for task in data_of(pages["report"].read_text(encoding="utf-8"))["tasks"]}
    texts = page.locator(".card .truth").all_inner_texts()
    assert {text.partition(" · ")[0] for text in texts} <= names


def test_text_of_the_disabled_class_filter_is_not_cut_off(page):
    field = page.locator("[name=class]").first
    assert field.evaluate(
        """(node) => {
            const width = node.offsetWidth;
            node.style.width = "auto";
            return node.offsetWidth <= width;
        }"""
    )


def test_note_of_an_image_that_is_not_cropped_has_its_reason(page):
    titles = page.locator(".card .pill").evaluate_all("(nodes) => nodes.map((node) => node.title)")
    assert titles
    assert "" not in titles


@pytest.mark.parametrize("task", ["0", "1"])
def test_class_filter_shows_the_matching_rows(page, rows, task):
    page.select_option("[name=split]", "")
    page.select_option("[name=task]", task)
    for value in values(page, "class"):
        page.select_option("[name=class]", value)
        assert count(page) == matching(rows, {"task": task, "class": value}), value


def test_filters_combine_and_reset(page, rows):
    wanted = {"task": "0", "split": "test", "verdict": "right", "fusion": "fixed", "crop": "cropped"}
    for name, value in wanted.items():
        page.select_option(f"[name={name}]", value)
    assert count(page) == matching(rows, wanted) > 0
    assert page.locator(".card .tag.up").count() == count(page)
    page.click("#clear")
    assert count(page) == matching(rows, {"split": "test"})


@pytest.mark.parametrize("order, sign", [("sure", -1), ("unsure", 1)])
def test_order_follows_confidence(page, order, sign):
    page.select_option("[name=task]", "0")
    page.select_option("[name=order]", order)
    shares = page.locator(".card .line:last-of-type .share").all_text_contents()
    numbers = [float(share.rstrip("%")) for share in shares]
    assert len(numbers) > 5
    assert numbers == sorted(numbers, key=lambda value: sign * value)


def test_doubtful_labels_can_be_filtered_and_come_first(page, pages):
    found = data_of(pages["report"].read_text(encoding="utf-8"))["tasks"]
    doubtful = [row for task in found for row in task["rows"] if row["suspect"]]
    page.select_option("[name=split]", "")
    page.select_option("[name=order]", "doubt")
    page.select_option("[name=label]", "suspect")
    assert count(page) == len(doubtful) > 1
    shares = [float(text.split()[-1].rstrip("%")) for text in page.locator(".doubt").all_text_contents()]
    assert shares == sorted(shares)


@pytest.mark.parametrize(("name", "value"), [("label", "suspect"), ("order", "doubt")])
@pytest.mark.parametrize(("before", "after"), [("test", ""), ("val", "val")])
def test_choosing_doubtful_labels_shows_all_splits_instead_of_test(page, rows, name, value, before, after):
    page.select_option("[name=split]", before)
    page.select_option(f"[name={name}]", value)
    assert page.input_value("[name=split]") == after
    if name == "order":
        assert count(page) == matching(rows, {"split": after} if after else {})
        assert page.locator(".card").first.locator(".doubt").count() == 1


@pytest.mark.parametrize("order, tag, sign", [("gain", "up", -1), ("loss", "down", 1)])
def test_order_follows_the_change(page, order, tag, sign):
    page.select_option("[name=task]", "0")
    page.select_option("[name=order]", order)
    tags = page.locator(f".card .tag.{tag}").all_text_contents()
    changes = [int(text.replace("−", "-").split()[1]) for text in tags]
    assert len(changes) > 2
    assert changes == sorted(changes, key=lambda value: sign * value)


def test_keys_move_the_focus(visit):
    page = visit()
    page.locator("h2", has_text="Images").click()
    for key, expected in (("j", 0), ("j", 1), ("ArrowRight", 2), ("k", 1), ("ArrowDown", 4), ("ArrowUp", 1)):
        page.keyboard.press(key)
        wait_for_focus(page, expected)


def test_keys_move_in_the_large_view(visit):
    page = visit()
    title = page.locator("#large-title")
    page.locator(".card").nth(1).press("Enter")
    page.keyboard.press("j")
    assert ", 3 of " in title.inner_text()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert ", 1 of " in title.inner_text(), "it stops at the first"
    page.click("#next")
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()
    wait_for_focus(page, 1)  # the list follows the large view


def test_large_view_shows_every_class_as_text(page):
    page.select_option("[name=task]", "0")
    page.locator(".card").nth(1).click()
    large = page.locator("#large")
    assert large.locator(".shares tbody tr").count() == len(CLASSES)
    assert large.get_by_text("<b>bold</b>").count() > 0
    assert large.locator("b").count() == 0
    page.click("#close")
    assert not large.is_visible()


def test_large_view_shows_and_links_the_original(visit, pages):
    page = visit()
    page.locator(".card").nth(1).click()
    address = page.locator("#large a", has_text="original image").get_attribute("href")
    assert address
    assert (pages["report"].parent / unquote(address)).is_file()
    page.wait_for_function(
        "(end) => document.querySelector('#large img').src.endsWith(end)", arg=address[-20:]
    )


def test_sheet_opens_an_image_in_the_page(visit, pages):
    page = visit()
    sheets = pages["report"].parents[1] / "odd_design_labels" / "sheets"
    page.goto(next(sheets.glob("test/*.html")).as_uri())
    link = page.locator("main a[aria-label$='in the report']").first
    name = (link.get_attribute("aria-label") or "").removesuffix(" in the report")
    link.click()
    page.wait_for_selector("#large[open]")
    assert name in page.locator("#large .name").last.inner_text()


def test_heat_can_be_dimmed_and_reset(page):
    opacity = "(canvas) => getComputedStyle(canvas).opacity"
    page.locator("[name=heat]").fill("20")
    assert page.locator(".card canvas").first.evaluate(opacity) == "0.2"
    page.click("#clear")
    assert page.locator(".card canvas").first.evaluate(opacity) == "1"


def set_slider(page: Page, name: str, value: float) -> None:
    page.locator(f"[name={name}]").fill(str(value))


@pytest.fixture
def trial(page) -> Iterator[Page]:
    """The page with the first task's crop rule open, as the run has it."""
    page.locator("#trial").evaluate("(one) => { one.open = true; }")
    page.select_option("[name=of]", "0")
    page.select_option("[name=split]", "")
    yield page
    page.select_option("[name=of]", "0")
    if page.locator("[name=restore]").is_enabled():
        page.click("[name=restore]")


def cells(page: Page) -> list[str]:
    return page.locator("#trial tbody tr").first.locator("td").all_inner_texts()


def test_tried_rule_changes_the_shown_crops_and_undo_brings_them_back(trial):
    styles = "(all) => all.map((one) => one.getAttribute('style'))"
    before = trial.locator(".card .box").evaluate_all(styles)
    set_slider(trial, "margin", 0.8)
    assert trial.locator("[name=margin_value]").inner_text() == "80%"
    trial.wait_for_function(
        "(before) => [...document.querySelectorAll('.card .box')].slice(0, 4)"
        ".every((one, i) => one.getAttribute('style') !== before[i])",
        arg=before,
    )
    trial.click("[name=restore]")
    trial.wait_for_function(
        "(before) => [...document.querySelectorAll('.card .box')].every((one, i) => "
        "one.getAttribute('style') === before[i])",
        arg=before,
    )
    assert not trial.locator("[name=command]").is_visible()


def test_table_counts_what_the_tried_rule_changes(trial, pages):
    rows = data_of(pages["report"].read_text(encoding="utf-8"))["tasks"][0]["rows"]
    uncropped = sum(row["fallback"] == "flat" for row in rows)
    assert "images in the gallery" in trial.locator("#trial caption").inner_text()
    assert cells(trial) == ["–", f"{round(100 * uncropped / len(rows))}%", "–"]
    set_slider(trial, "threshold", 1.0)
    set_slider(trial, "prior_weight", 0)
    trial.wait_for_function("document.querySelector('#trial td').textContent !== '–'")
    moved = int(cells(trial)[0].split(" of ")[0])
    assert cells(trial)[0] == f"{moved} of {len(rows)}"
    assert 0 < moved <= len(rows) - uncropped
    trial.select_option("[name=crop]", "moved")
    assert count(trial) == moved
    trial.click("[name=restore]")
    trial.wait_for_function("document.querySelector('#trial td').textContent === '–'")
    assert count(trial) == 0


def test_visible_crops_follow_a_slider_within_50_ms(trial):
    """Under 20 ms on two idle cores; the least of many, since other tests run beside this one."""
    seconds = trial.evaluate("""async () => {
        const slider = document.querySelector("[name=threshold]"), times = [];
        for (let i = 0; i < 30; i++) {
            const start = performance.now();
            slider.value = 0.3 + 0.02 * ((7 * i) % 30);
            slider.dispatchEvent(new Event("input", { bubbles: true }));
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            times.push((performance.now() - start) / 1000);
        }
        return times;
    }""")
    assert min(seconds) < 0.05


def test_another_task_has_its_own_rule(trial):
    set_slider(trial, "threshold", 0.9)
    trial.select_option("[name=task]", "1")
    assert trial.input_value("[name=of]") == "1"
    assert trial.input_value("[name=threshold]") == "0.45"
    trial.select_option("[name=of]", "0")
    assert trial.input_value("[name=task]") == "0"
    assert trial.input_value("[name=threshold]") == "0.9"


@pytest.fixture(params=["desktop", pytest.param("phone", marks=pytest.mark.soak)])
def many(opened, request) -> Page:
    page = opened("many", request.param)
    page.click("#clear")
    page.select_option("[name=split]", "")
    assert count(page) == 5000
    return page


def test_filtering_thousands_of_images_is_fast(many):
    """Under 0.1 s on two idle cores; building all cards at once takes above 1 s."""
    seconds = many.evaluate("""async () => {
        const select = document.querySelector("[name=order]"), times = [];
        for (const value of ["sure", "unsure", "gain", "loss", "file"]) {
            const start = performance.now();
            select.value = value;
            select.dispatchEvent(new Event("change", { bubbles: true }));
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            times.push((performance.now() - start) / 1000);
        }
        return times;
    }""")
    assert min(seconds) < 0.5


def test_scrolling_thousands_of_images_fills_only_what_comes_near(many):
    heights = []
    for share in (0.2, 0.5, 0.9, 1.0, 0.3):
        many.evaluate("(s) => scrollTo({ top: s * document.body.scrollHeight, behavior: 'instant' })", share)
        many.wait_for_function("""() => [...document.querySelectorAll(".card")].some((card) => {
            const { top, bottom } = card.getBoundingClientRect();
            return bottom > 0 && top < innerHeight;
        })""")
        heights.append(many.evaluate("document.body.scrollHeight"))
    assert many.locator(".card").count() < 500
    assert max(heights) < 1.1 * min(heights), "the scroll bar is stable"


def test_last_of_thousands_opens(many):
    many.evaluate("scrollTo({ top: document.body.scrollHeight, behavior: 'instant' })")
    last = many.locator("#images > :last-child > :last-child > .card")
    last.click()
    assert "5,000 of 5,000" in many.locator("#large-title").inner_text()
    many.keyboard.press("ArrowLeft")
    many.keyboard.press("Escape")
    before_last = "document.querySelector('#images > :last-child > :nth-last-child(2)')"
    many.wait_for_function(f"document.activeElement.parentNode === {before_last}")


@pytest.fixture
def predictions(opened) -> Page:
    return opened("predictions")


def test_predictions_have_a_gallery_only(predictions):
    assert predictions.title() == "photos: HeatCrop predictions"
    assert predictions.locator("#scores, #tasks, .top nav").count() == 0


@pytest.mark.parametrize("name", ["split", "verdict", "label"])
def test_predictions_hide_filters_without_choice(predictions, name):
    assert not predictions.locator(f"[name={name}]").is_visible()


def test_predictions_do_not_explain_gain_and_loss(predictions):
    assert "Gain" not in predictions.locator(".hint").inner_text()


def test_predictions_hide_orders_that_need_labels(predictions):
    shown = predictions.locator("[name=order] option:not([hidden])").evaluate_all(
        "nodes => nodes.map(n => n.value)"
    )
    assert shown == ["file", "sure", "unsure"]


def test_cards_of_one_task_do_not_name_it(predictions):
    assert {text.strip() for text in predictions.locator(".card .truth").all_inner_texts()} == {"no label"}


def test_unlabelled_images_are_found_by_their_predicted_class(predictions):
    total, by_class = count(predictions), 0
    for value in values(predictions, "class"):
        predictions.select_option("[name=class]", value)
        by_class += count(predictions)
    assert by_class == total > 0
