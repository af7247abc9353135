"""The page in a real Chromium: messages, filters, keys, accessibility, and thousands of pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from heatcrop.files import write_text
from heatcrop.report.build import ReportPlan, build_gallery, build_report
from heatcrop.report.rows import gather
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.metrics import run_metrics
from tests.conftest import find_chromium
from tests.drawn_run import draw_task

pytestmark = pytest.mark.browser

SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CLASSES = ("<b>bold</b>", "a & b", "long sleeves")
WINDOWS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1400, "height": 900}},
    "dark": {"viewport": {"width": 1400, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """A report of two tasks, the same with thousands of rows, and a gallery of predictions."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "looked at")
    folder.path.mkdir()
    tasks = {
        "odd_design_labels": draw_task(folder, "odd_design_labels", CLASSES, 72, True, 0),
        "plain": draw_task(folder, "plain", ("up", "down"), 24, False, 1),
    }
    write_text(folder.config, "name: looked at\nnetwork: {backbone: tiny, input_px: 64, fit: pad}\n")
    report = build_report(folder, tasks, run_metrics(tasks, folder, None), ReportPlan(rows=80, tiles=4))
    html = report.read_text(encoding="utf-8")
    data = rows_of(html)
    for task in data["tasks"]:
        task["rows"] = (task["rows"] * 200)[:2500]
    many = report.with_name("many.html")
    start, end = data_range(html)
    many.write_text(html[:start] + json.dumps(data).replace("<", "\\u003c") + html[end:], encoding="utf-8")
    rows = gather(tasks["odd_design_labels"], folder, {})
    assert rows is not None
    rows.data.letters[:] = 0
    rows.data.splits[:] = "new"
    new = build_gallery(folder.path / "answers_gallery" / "index.html", "photos", {}, [rows])
    return {"report": report, "many": many, "predictions": new}


def data_range(html: str) -> tuple[int, int]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert found
    return found.span(1)


def rows_of(html: str) -> Any:
    start, end = data_range(html)
    return json.loads(html[start:end])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    assert path, "no Chromium was found: apt-get install -y chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, pages) -> Iterator[Callable[..., Page]]:
    """Open a page; whatever a test does there, nothing may be complained of or asked of a network."""
    told: list[str] = []
    asked: list[str] = []
    contexts = []

    def visit(name: str = "report", window: str = "desktop") -> Page:
        context = browser.new_context(**WINDOWS[window])
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: told.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("requestfailed", lambda request: told.append(f"failed: {request.url}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(pages[name].as_uri())
        page.locator("#gallery").evaluate("(node) => node.scrollIntoView({ behavior: 'instant' })")
        page.wait_for_selector(".card")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not told
    assert asked and not [url for url in asked if not url.startswith(("file:", "data:"))]


def count(page: Page) -> int:
    found = re.match(r"([\d,]+) of ", page.locator("#count").inner_text())
    assert found
    return int(found[1].replace(",", ""))


def focused(page: Page) -> int:
    """Index of the picture that has the focus, -1 for none."""
    return int(page.evaluate("+(document.activeElement.closest('.card')?.dataset.index ?? -1)"))


def wait_for_focus(page: Page, index: int) -> None:
    """The browser tells of a closed dialog a little later than it closes."""
    page.wait_for_function(f"document.activeElement.dataset.index === '{index}'")


def facts(pages: dict[str, Path]) -> list[dict[str, Any]]:
    """What a reader would say of each row of the report, from the numbers alone."""
    out = []
    for at, task in enumerate(rows_of(pages["report"].read_text(encoding="utf-8"))["tasks"]):
        for row in task["rows"]:
            fused = row["p"][2]
            before, _, after = row["top"]
            best = before if after is None else after
            letter = row["letters"][best] if row["letters"] else ""
            was = row["letters"][before] if row["letters"] else ""
            truth = row["letters"].find("y")
            out.append(
                {
                    "task": str(at),
                    "class": str(truth if truth >= 0 else best),
                    "split": row["split"],
                    "verdict": {"y": "right", "m": "maybe", "n": "wrong", "": "unknown"}[letter],
                    "square": "cut" if row["fallback"] in ("", "usual") else "whole",
                    "changed": bool(fused) and best != before,
                    "same": bool(fused) and best == before,
                    "mended": bool(fused) and letter == "y" and was != "y" and truth >= 0,
                    "broken": bool(fused) and was == "y" and letter != "y",
                }
            )
    return out


def matching(row: dict[str, Any], asked: dict[str, str]) -> bool:
    return all(row[value] if name == "fusion" else row[name] == value for name, value in asked.items())


@pytest.mark.parametrize("window", WINDOWS)
def test_it_fits_its_window_and_shows_what_it_promises(visit, window):
    page = visit(window=window)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for kind in ("loss", "ap", "reliability", "sizes", "search", "confusion"):
        assert page.locator(f"figure.{kind}").count() >= 2, kind
    broken = (
        "[...document.images].filter((i) => i.complete && !i.naturalWidth && i.loading !== 'lazy').length"
    )
    assert page.evaluate(broken) == 0
    page.wait_for_function("document.querySelector('.card canvas').width === 128")
    painted = (
        "(c) => c.getContext('2d').getImageData(0, 0, 128, 128).data.some((v, i) => i % 4 === 3 && v > 0)"
    )
    assert page.locator(".card canvas").first.evaluate(painted)
    page.wait_for_function("document.querySelector('.card .pane img').naturalWidth > 0")


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", ["report", "predictions"])
def test_axe_finds_nothing_serious(visit, name, window):
    page = visit(name, window)
    page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    for step in ("list", "large"):
        if step == "large":
            page.locator(".card").first.click()
        found = Axe().run(page, options={"preload": False}).response["violations"]
        bad = [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")]
        assert not bad, (step, bad)


def test_every_filter_changes_the_count_rightly(visit, pages):
    page, rows = visit(), facts(pages)
    assert count(page) == sum(row["split"] == "test" for row in rows), "the reported split comes first"
    page.select_option("[name=split]", "")
    assert count(page) == len(rows)
    tried = 0
    for name in ("task", "split", "verdict", "fusion", "square"):
        for value in page.locator(f"[name={name}] option").evaluate_all("(all) => all.map((o) => o.value)"):
            if not value:
                continue
            page.select_option(f"[name={name}]", value)
            expected = sum(matching(row, {name: value}) for row in rows)
            assert count(page) == expected, (name, value)
            assert page.locator("#empty").is_visible() == (expected == 0)
            tried += 0 < expected < len(rows)
        page.select_option(f"[name={name}]", "")
    assert tried >= 11
    for task in ("0", "1"):
        page.select_option("[name=task]", task)
        for value in page.locator("[name=class] option").evaluate_all("(all) => all.map((o) => o.value)"):
            page.select_option("[name=class]", value)
            asked = {"task": task, **({"class": value} if value else {})}
            assert count(page) == sum(matching(row, asked) for row in rows), asked


def test_filters_narrow_each_other_and_reset_together(visit, pages):
    page, rows = visit(), facts(pages)
    asked = {"task": "0", "split": "test", "verdict": "right", "fusion": "mended", "square": "cut"}
    for name, value in asked.items():
        page.select_option(f"[name={name}]", value)
    assert count(page) == sum(matching(row, asked) for row in rows) > 0
    assert page.locator(".card .tag.up").count() == count(page)
    page.click("#clear")
    assert count(page) == sum(row["split"] == "test" for row in rows)


def test_order_follows_confidence_and_change(visit):
    page = visit()
    page.select_option("[name=task]", "0")
    shares = ".card .line:last-of-type .share"
    for order, sign in (("sure", -1), ("unsure", 1)):
        page.select_option("[name=order]", order)
        told = [float(t.rstrip("%")) for t in page.locator(shares).all_inner_texts()]
        assert len(told) > 5 and told == sorted(told, key=lambda v: sign * v)
    page.select_option("[name=order]", "gain")
    gains = [int(re.sub("−", "-", t).split()[1]) for t in page.locator(".card .tag.up").all_inner_texts()]
    assert len(gains) > 2 and gains == sorted(gains, reverse=True)
    page.select_option("[name=order]", "loss")
    losses = [int(re.sub("−", "-", t).split()[1]) for t in page.locator(".card .tag.down").all_inner_texts()]
    assert len(losses) > 2 and losses == sorted(losses)


def test_keys_move_open_and_close(visit):
    page = visit()
    page.locator("h2", has_text="Pictures").click()
    for key, expected in (("j", 0), ("j", 1), ("ArrowRight", 2), ("k", 1), ("ArrowDown", 4), ("ArrowUp", 1)):
        page.keyboard.press(key)
        assert focused(page) == expected, key
    page.keyboard.press("Enter")
    assert page.locator("#large").is_visible()
    page.keyboard.press("j")
    assert ", 3 of " in page.locator("#large-title").inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert ", 1 of " in page.locator("#large-title").inner_text(), "it stops at the first"
    page.click("#next")
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()
    wait_for_focus(page, 1)  # the list is where the large view was


def test_a_picture_opens_large_with_all_that_was_said(visit, pages):
    page = visit()
    page.select_option("[name=task]", "0")
    page.locator(".card").nth(1).click()
    large = page.locator("#large")
    assert large.locator(".shares tbody tr").count() == len(CLASSES)
    assert large.get_by_text("<b>bold</b>").count() > 0, "names are text, whatever they look like"
    assert large.locator("b").count() == 0
    source = large.locator("a", has_text="original picture").get_attribute("href")
    assert source and (pages["report"].parent / Path(source)).parent.name
    page.wait_for_function("document.querySelector('#large img').src.includes('pictures%20')")
    page.click("#close")
    assert not large.is_visible()


def test_heat_can_be_turned_down(visit):
    page = visit()
    page.locator("[name=heat]").fill("20")
    assert page.locator(".card canvas").first.evaluate("(c) => getComputedStyle(c).opacity") == "0.2"
    page.click("#clear")
    assert page.locator(".card canvas").first.evaluate("(c) => getComputedStyle(c).opacity") == "1"


@pytest.mark.parametrize("window", ["desktop", "phone"])
def test_thousands_of_pictures_stay_few_in_the_document(visit, window):
    page = visit("many", window)
    page.select_option("[name=split]", "")
    total = count(page)
    assert total == 5000
    most, heights = 0, []
    for share in (0, 0.2, 0.5, 0.9, 1.0, 0.3):
        page.evaluate("(s) => scrollTo({ top: s * document.body.scrollHeight, behavior: 'instant' })", share)
        page.wait_for_timeout(150)
        seen = "[...document.querySelectorAll('.card')].filter((c) => { const r = c.getBoundingClientRect();"
        seen += " return r.bottom > 0 && r.top < innerHeight; }).length"
        page.wait_for_function(f"({seen}) > 0" if share else "true")
        most = max(most, page.locator(".card").count())
        heights.append(page.evaluate("document.body.scrollHeight"))
    assert most <= 240
    assert max(heights) < 1.1 * min(heights), "the scroll bar tells the truth"
    page.evaluate("scrollTo({ top: document.body.scrollHeight, behavior: 'instant' })")
    page.wait_for_function(f"!!document.querySelector('[data-index=\"{total - 1}\"]')")
    page.locator(f'[data-index="{total - 1}"]').click()
    assert f"{total:,} of {total:,}" in page.locator("#large-title").inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    wait_for_focus(page, total - 2)


def test_predictions_ask_only_what_can_be_answered(visit, pages):
    page = visit("predictions")
    assert page.title() == "photos: HeatCrop predictions"
    hidden = {n for n in ("split", "verdict") if not page.locator(f"[name={n}]").is_visible()}
    assert hidden == {"split", "verdict"}
    total = count(page)
    by_class = []
    for value in range(len(CLASSES)):
        page.select_option("[name=class]", str(value))
        by_class.append(count(page))
    assert sum(by_class) == total > 0, "unlabelled pictures are found by their predicted class"
    assert page.locator("#scores, #tasks, .top nav").count() == 0
