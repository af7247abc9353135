"""Pages in a real Chromium: windows, what a page may not do, and what is read from its gallery."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request

SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WINDOWS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1400, "height": 900}},
    "dark": {"viewport": {"width": 1400, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}


def visits(browser: Browser, pages: dict[str, Path]) -> Iterator[Callable[..., Page]]:
    """Open a page; it fails on console messages, errors, and requests to a network."""
    messages: list[str] = []
    requests: list[str] = []
    contexts = []

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # by leaving the page while images load
            messages.append(f"failed: {request.url} ({request.failure})")

    def visit(name: str = "report", window: str = "desktop") -> Page:
        context = browser.new_context(**WINDOWS[window])
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("requestfailed", failed)
        page.on("request", lambda request: requests.append(request.url))
        page.goto(pages[name].as_uri())
        page.locator("#gallery").evaluate("(node) => node.scrollIntoView({ behavior: 'instant' })")
        page.wait_for_selector(".card")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert messages == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def violations(page: Page, view: str) -> list[str]:
    """Return what axe finds serious in the list, with all details open, or in the large view."""
    if view == "list":
        page.locator("details").evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
    else:
        page.locator(".card").first.click()
    context = "#large" if view == "large" else None
    found = Axe().run(page, context=context, options={"preload": False}).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in serious]


def fits_its_window(page: Page) -> bool:
    page.wait_for_load_state("networkidle")
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def data_range(html: str) -> tuple[int, int]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert found
    return found.span(1)


def data_of(html: str) -> Any:
    start, end = data_range(html)
    return json.loads(html[start:end])


def count(page: Page) -> int:
    """The number of images that the filters leave."""
    found = re.match(r"([\d,]+) of ", page.locator("#count").inner_text())
    assert found
    return int(found[1].replace(",", ""))


def values(page: Page, name: str) -> list[str]:
    """The choices of a filter except "all"."""
    found = page.locator(f"[name={name}] option").evaluate_all("(all) => all.map((one) => one.value)")
    return [value for value in found if value]
