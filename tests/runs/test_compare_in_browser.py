"""The page of a comparison in a real Chromium."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from heatcrop.files import write_text
from heatcrop.report.compare import ComparedRun, build_comparison, comparison_page
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.predictions import read_arrays, write_arrays
from tests.browser import count, fits_its_window, violations
from tests.drawn_run import draw_task

pytestmark = pytest.mark.browser

CLASSES = ("<b>bold</b>", "a & b", "long sleeves")


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """The figures of a comparison of two drawn runs, whose second one turns its crops' classes around."""
    home = tmp_path_factory.mktemp("runs")
    folder = RunFolder(home / "drawn <run>")
    folder.path.mkdir()
    write_text(folder.config, "name: drawn run\nnetwork: {backbone: tiny, input_px: 64, fit: pad}\n")
    tasks = {
        name: draw_task(folder, name, classes, n, True, seed)
        for seed, (name, classes, n) in enumerate(
            [("odd_design_labels", CLASSES, 60), ("plain", ("up", "down"), 24)]
        )
    }
    other = RunFolder(Path(shutil.copytree(folder.path, home / "other & run")))
    for name in tasks:
        arrays = read_arrays(other.task(name).predictions(3))
        full = read_arrays(other.task(name).predictions(1))["full"]
        arrays["crop"] = np.roll(arrays["crop"], 1, axis=1)
        arrays["fused"] = (full + arrays["crop"]) / 2
        write_arrays(other.task(name).predictions(3), **arrays)
    known = tuple(data.task for data in tasks.values())
    runs = [ComparedRun(one, known, tasks, None) for one in (folder, other)]
    page = comparison_page(folder, other, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heatcrop.report.compare.RESAMPLES", 25)
        return page, build_comparison(page, runs)


@pytest.fixture(scope="module")
def pages(figures) -> dict[str, Path]:
    return {"report": figures[0]}


@pytest.mark.parametrize("window", ["desktop", "phone", pytest.param("dark", marks=pytest.mark.soak)])
def test_page_fits_its_window(visit, window):
    assert fits_its_window(visit(window=window))


@pytest.mark.parametrize(
    ("view", "window"),
    [
        ("list", "dark"),
        ("large", "phone"),
        *(pytest.param("list", window, marks=pytest.mark.soak) for window in ("desktop", "phone")),
        *(pytest.param("large", window, marks=pytest.mark.soak) for window in ("desktop", "dark")),
    ],
)
def test_axe_finds_no_serious_violation(visit, window, view):
    assert violations(visit(window=window), view) == []


def test_filters_by_task_and_change_show_the_matching_images(page, figures):
    tasks = list(figures[1]["tasks"].values())
    kinds = {"fixed": [one["fixed"] for one in tasks], "lost": [one["lost"] for one in tasks]}
    assert min(kinds["fixed"][0], kinds["lost"][0]) > 2
    assert count(page) == sum(kinds["fixed"]) + sum(kinds["lost"])
    for kind, counts in kinds.items():
        page.select_option("[name=change]", kind)
        assert count(page) == sum(counts)
        for at, expected in enumerate(counts):
            page.select_option("[name=task]", str(at))
            assert count(page) == expected
            assert page.locator("#empty").is_visible() == (expected == 0)
        page.select_option("[name=task]", "")
    page.click("#clear")
    assert count(page) == sum(kinds["fixed"]) + sum(kinds["lost"])


def test_cards_show_both_predictions_with_their_verdicts(page):
    page.select_option("[name=change]", "fixed")
    for card in page.locator(".card").all():
        assert card.locator(".line .sign").all_text_contents()[1] == "✓"
        assert card.locator(".line .sign").all_text_contents()[0] in "✗≈"
        assert card.locator(".pane").count() == 2
        assert card.locator(".tag.up").inner_text().startswith("now right")


def test_the_largest_change_comes_first(page):
    page.select_option("[name=order]", "size")
    tags = page.locator(".card .tag").all_text_contents()
    changes = [abs(int(text.replace("−", "-").split()[2])) for text in tags]
    assert len(changes) > 5
    assert changes == sorted(changes, reverse=True)


def test_large_view_shows_both_runs_with_heatmap_and_crop(visit):
    page = visit()
    page.locator(".card").nth(1).click()
    assert page.locator("#large h3").all_text_contents() == ["A: drawn <run>", "B: other & run"]
    assert page.locator("#large .pane").count() == 4
    assert page.locator("#large .shares").count() == 2
    page.wait_for_function(
        "[...document.querySelectorAll('#large canvas')].every((one) => one.width === 112)"
    )
    page.keyboard.press("ArrowRight")
    assert ", 3 of " in page.locator("#large-title").inner_text()


def test_all_images_load(visit):
    page = visit()
    page.locator("img").evaluate_all("(all) => all.forEach((one) => { one.loading = 'eager'; })")
    page.wait_for_function("[...document.images].every((one) => one.complete)")
    assert page.locator("img").evaluate_all("(all) => all.filter((one) => !one.naturalWidth).length") == 0
