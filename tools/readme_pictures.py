"""Make the README's pictures from a finished run on the rendered default.

    python -m tools.readme_pictures runs/demo collar

writes ``docs/idea.jpg`` (one picture's way through the method), ``docs/sheet.jpg`` (the task's
contact sheet) and ``docs/page.jpg`` (the report's gallery in a browser; needs a Chromium).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from heatcrop.cli.run import reopen
from heatcrop.data.images import read_image
from heatcrop.data.tasks import resolve
from heatcrop.report.drawing import COLOUR_OF, INK, PAPER, SOFT, fitted, outline, text
from heatcrop.report.heat import heat_colours, heat_on, overlay, unit_heat
from heatcrop.report.rows import TaskRows, gather, read_settings
from heatcrop.runs.folder import RunFolder

CELL, GAP, EDGE, FOOT = 300, 28, 30, 92


def idea_picture(rows: TaskRows, row: int) -> Image.Image:
    """Picture, heatmap, square, crop side by side, each with a line below it."""
    data = rows.data
    picture = read_image(data.paths[row])
    size = (picture.shape[1], picture.shape[0])
    heat = heat_on(unit_heat(rows.heatmaps[rows.place[row]], rows.percentile), rows.frame(row), size, size)
    warm = overlay(picture, heat, heat_colours(rows.threshold))
    squared = fitted(warm, CELL)
    x0, y0, x1, y1 = (int(v) for v in rows.boxes[row])
    scale = squared.shape[1] / size[0]
    outline(squared, (x0 * scale, y0 * scale, x1 * scale, y1 * scale))
    crop = cv2.resize(picture[y0:y1, x0:x1], (CELL, CELL), interpolation=cv2.INTER_CUBIC)
    said = {b: rows.probabilities[b][row] for b in ("full", "crop", "fused")}
    letters = data.letters[row]

    def answer(branch: str) -> tuple[str, int]:
        p = said[branch]
        return f"{data.task.classes[int(p.argmax())]} {p.max():.0%}", int(letters[int(p.argmax())])

    steps = [
        (fitted(picture, CELL), "whole picture", *answer("full")),
        (fitted(warm, CELL), "class activation map", "where the classes part", None),
        (squared, "square around the component", f"{x1 - x0} of {size[0]} px", None),
        (crop, "crop of the original", *answer("crop")),
    ]
    width = 2 * EDGE + len(steps) * CELL + len(steps) * GAP + 210
    sheet = Image.new("RGB", (width, 2 * EDGE + CELL + FOOT), PAPER)
    for i, (image, title, words, verdict) in enumerate(steps):
        x = EDGE + i * (CELL + GAP)
        sheet.paste(Image.fromarray(np.ascontiguousarray(image)), (x, EDGE))
        text(sheet, (x, EDGE + CELL + 34), title, 20, INK)
        text(sheet, (x, EDGE + CELL + 66), words, 18, SOFT if verdict is None else COLOUR_OF[verdict])
    x = EDGE + len(steps) * (CELL + GAP)
    words, verdict = answer("fused")
    text(sheet, (x, EDGE + 110), "fused", 20, INK)
    name, share = words.rsplit(" ", 1)
    text(sheet, (x, EDGE + 146), name, 24, COLOUR_OF[verdict], 210)
    text(sheet, (x, EDGE + 180), share, 24, COLOUR_OF[verdict])
    text(sheet, (x, EDGE + 216), f"true: {data.task.classes[int(data.letters[row].argmax())]}", 16, SOFT, 210)
    return sheet


def page_picture(report: Path, out: Path) -> None:
    """Photograph the gallery: what the crop mended, the largest gain first."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"),
            args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-sync"],
        )
        page = browser.new_page(viewport={"width": 1400, "height": 980})
        page.goto(report.resolve().as_uri())
        page.select_option("[name=fusion]", "mended")
        page.select_option("[name=order]", "gain")
        page.locator("#gallery").evaluate("(node) => node.scrollIntoView({ behavior: 'instant' })")
        page.wait_for_function("document.querySelector('.card canvas')?.width === 128")
        page.wait_for_timeout(1000)
        page.screenshot(path=str(out), type="jpeg", quality=80)
        browser.close()


def main(run: str, task: str) -> int:
    """Write both pictures."""
    folder = RunFolder(Path(run))
    opened = reopen(folder)
    name = resolve(task, opened.known).name
    rows = gather(opened.tasks[name], folder, read_settings(folder))
    assert rows is not None
    # A mended picture whose crop is small and sure shows the idea best.
    side = (rows.boxes[:, 2] - rows.boxes[:, 0]) / rows.data.sizes[:, 0]
    sure = np.nan_to_num(rows.probabilities["fused"]).max(axis=1)
    good = np.where(rows.mended & (rows.data.splits == "test"), sure - side, -np.inf)
    docs = Path("docs")
    docs.mkdir(exist_ok=True)
    idea_picture(rows, int(good.argmax())).save(docs / "idea.jpg", quality=88)
    Image.open(folder.path / "report" / "sheets" / f"{name}.jpg").save(docs / "sheet.jpg", quality=82)
    page_picture(folder.report, docs / "page.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
