"""Make the README's images from a finished run on the rendered default.

    python -m tools.readme_images runs/demo collar

writes ``docs/idea.jpg`` (one image's way through the method), ``docs/sheet.jpg`` (the task's contact
sheet) and ``docs/page.jpg`` (the report's gallery in a browser; needs a Chromium).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from heatcrop.cli.run_folders import reload_dataset
from heatcrop.data.images import read_image
from heatcrop.data.tasks import resolve
from heatcrop.metrics.localisation import true_boxes
from heatcrop.report.drawing import COLOUR_OF, INK, PAPER, SOFT, fitted, heat_on, outline, overlay, text
from heatcrop.report.results import TaskResults, read_results, read_settings
from heatcrop.runs.folder import RunFolder

CELL, GAP, EDGE, FOOT = 300, 28, 30, 92


def draw_idea(results: TaskResults, row: int) -> Image.Image:
    """Draw image, heatmap, box and crop side by side, each with a line below it."""
    data, box = results.data, results.boxes[row]
    image = read_image(data.paths[row])
    size = np.array(image.shape[1::-1])
    heat = heat_on(*results.heat(row), size, image.shape[:2])
    warm = fitted(overlay(image, heat, results.rule.threshold), CELL)
    outlined = warm.copy()
    outline(outlined, box * (warm.shape[1] / size[0]))
    x0, y0, x1, y1 = box.tolist()
    crop = cv2.resize(image[y0:y1, x0:x1], (CELL, CELL), interpolation=cv2.INTER_CUBIC)

    def prediction(branch: str) -> tuple[str, str, tuple[int, int, int]]:
        p = results.probabilities[branch][row]
        top = int(p.argmax())
        return data.task.classes[top], f"{p.max():.0%}", COLOUR_OF[int(data.letters[row, top])]

    (full, full_share, full_colour), (cut, cut_share, cut_colour) = prediction("full"), prediction("crop")
    steps = [
        (fitted(image, CELL), "full image", f"{full} {full_share}", full_colour),
        (warm, "class activation map", "what distinguishes the classes", SOFT),
        (outlined, "square around the component", f"{x1 - x0} of {size[0]} px", SOFT),
        (crop, "crop of the original", f"{cut} {cut_share}", cut_colour),
    ]
    width = 2 * EDGE + len(steps) * (CELL + GAP) + 210
    sheet = Image.new("RGB", (width, 2 * EDGE + CELL + FOOT), PAPER)
    for i, (panel, title, words, colour) in enumerate(steps):
        x = EDGE + i * (CELL + GAP)
        sheet.paste(Image.fromarray(np.ascontiguousarray(panel)), (x, EDGE))
        text(sheet, (x, EDGE + CELL + 34), title, 20, INK)
        text(sheet, (x, EDGE + CELL + 66), words, 18, colour)
    x = EDGE + len(steps) * (CELL + GAP)
    name, share, colour = prediction("fused")
    text(sheet, (x, EDGE + 110), "fused", 20, INK)
    text(sheet, (x, EDGE + 146), name, 24, colour, 210)
    text(sheet, (x, EDGE + 180), share, 24, colour)
    text(sheet, (x, EDGE + 216), f"true: {data.task.classes[int(data.letters[row].argmax())]}", 16, SOFT, 210)
    return sheet


def photograph_page(report: Path, out: Path) -> None:
    """Photograph the gallery: what the crop fixed, the largest gain first."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"),
            args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-sync"],
        )
        page = browser.new_page(viewport={"width": 1400, "height": 980})
        page.goto(report.resolve().as_uri())
        page.select_option("[name=fusion]", "fixed")
        page.select_option("[name=order]", "gain")
        page.locator("#gallery").evaluate("(node) => node.scrollIntoView({ behavior: 'instant' })")
        page.wait_for_function("document.querySelector('.card canvas')?.width === 112")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=str(out), type="jpeg", quality=80)
        browser.close()


def main(run: str, task: str) -> int:
    """Write the images."""
    folder = RunFolder(Path(run))
    dataset = reload_dataset(folder)
    name = resolve(task, dataset.known).name
    results = read_results(dataset.tasks[name], folder, read_settings(folder))
    assert results is not None
    # A fixed image whose crop is around the region and whose prediction is confident shows the idea best.
    assert dataset.boxes_true is not None
    truth = true_boxes(results.data, dataset.boxes_true)
    side = results.boxes[:, 2] - results.boxes[:, 0]
    away = np.abs(results.boxes[:, :2] + results.boxes[:, 2:] - truth[:, :2] - truth[:, 2:]).max(axis=1) / 2
    confidence = np.nan_to_num(results.probabilities["fused"]).max(axis=1)
    score = np.where(results.fixed & (results.data.splits == "test"), confidence - 3 * away / side, np.nan)
    docs = Path("docs")
    docs.mkdir(exist_ok=True)
    draw_idea(results, int(np.nanargmax(score))).save(docs / "idea.jpg", quality=88)
    Image.open(folder.path / "report" / "sheets" / f"{name}.jpg").save(docs / "sheet.jpg", quality=82)
    photograph_page(folder.report, docs / "page.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
