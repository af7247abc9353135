"""Contact sheets: one class a sheet, each image with its heat and box, and the crop beside it."""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw

from heatcrop.data.images import write_jpeg
from heatcrop.data.tasks import class_folders
from heatcrop.report import drawing
from heatcrop.report.drawing import INK, PAPER, SOFT, THREADS, text
from heatcrop.report.results import TaskResults
from heatcrop.wording import counted

EDGE, GAP, INNER, COLUMNS, CELL, HEAD = 40, 36, 8, 3, 232, 104
OVERVIEW_CELL, OVERVIEW_COLUMNS, OVERVIEW_LABEL, OVERVIEW_CLASSES = 168, 4, 190, 60
QUALITY = 80
WORDS = {2: "right", 0: "wrong", 1: "maybe"}


Rectangle = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Tile:
    """One image of a drawn sheet, and where it is: x0, y0, x1, y1 in pixels of the sheet."""

    row: int
    name: str
    path: str
    image: Rectangle
    crop: Rectangle
    """With the caption below it."""


@dataclasses.dataclass(frozen=True)
class Sheet:
    """One contact sheet: its file below the report, and which `rows` of `total` it shows."""

    file: str
    split: str
    title: str
    rows: np.ndarray
    total: np.ndarray
    order: str
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels, and what is where, once it is drawn."""
    tiles: tuple[Tile, ...] = ()

    @property
    def stem(self) -> str:
        """Its file's name without the suffix."""
        return PurePosixPath(self.file).name.removesuffix(".jpg")


def plan_sheets(results: TaskResults, tiles: int, worst_first: bool = False) -> list[Sheet]:
    """Plan one sheet for each class and split; images without a label are under the predicted class.

    Where a class has more than `tiles` images, two thirds of the sheet show its most confident mistakes and
    the rest a random sample. With `worst_first`, images are ordered by the probability of their class, the
    lowest first, without a random sample.
    """
    data, folders = results.data, class_folders(results.data.task)
    last, verdict = np.nan_to_num(results.last), results.verdict
    class_of = np.where(data.labelled, data.letters.argmax(axis=1), last.argmax(axis=1))
    predicted, confidence = results.predicted("full"), last.max(axis=1)
    sheets = []
    for split, labelled, i in itertools.product(("test", "val", "train"), (True, False), range(len(folders))):
        kind = (data.splits == split) & predicted & (data.labelled == labelled)
        total = np.flatnonzero(kind & (class_of == i))
        if not len(total):
            continue
        if worst_first:
            rows, order = total[np.argsort(last[total, i], kind="stable")], "the worst first"
        else:
            wrong = total[np.isin(verdict[total], (0, 1))]
            wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
            rest = np.random.default_rng((0, i)).permutation(np.setdiff1d(total, wrong))
            first = wrong[: max(tiles * 2 // 3, tiles - len(rest))]
            rows, order = np.concatenate([first, rest]), "the most confident mistakes first"
        suffix = "" if labelled else " (predicted)"
        file = f"sheets/{results.folder}/{split}/{folders[i]}{suffix}.jpg"
        sheets.append(Sheet(file, split, data.task.classes[i] + suffix, rows[:tiles], total, order))
    return sheets


def write_overview(file: Path, results: TaskResults, split: str) -> None:
    """Draw a few random images of each class on one sheet."""
    data, cell, columns = results.data, OVERVIEW_CELL, OVERVIEW_COLUMNS
    rng = np.random.default_rng(0)
    wanted = data.labelled & (data.splits == split)
    if not wanted.any():
        wanted = data.labelled & results.predicted("full")
    truth = data.letters.argmax(axis=1)
    by_class = {name: np.flatnonzero(wanted & (truth == i)) for i, name in enumerate(data.task.classes)}
    classes = [(name, rows, rng.permutation(rows)[:columns]) for name, rows in by_class.items() if len(rows)]
    n_filled, classes = len(classes), classes[:OVERVIEW_CLASSES]
    wide, high = 2 * cell + INNER, cell + 40
    width = 2 * EDGE + OVERVIEW_LABEL + columns * wide + (columns - 1) * GAP
    page = Image.new("RGB", (width, HEAD + 24 + len(classes) * high + EDGE), PAPER)
    splits = set(data.splits[wanted].tolist())
    shown = splits.pop() if len(splits) == 1 else "labelled images"
    summary = f"{shown}, {columns} at random of each class"
    if len(classes) < n_filled:
        summary += f"; the first {counted(len(classes), 'class(es)')} of {n_filled}"
    if n_filled < len(by_class):
        empty = len(by_class) - n_filled
        summary += f"; {counted(empty, f'of {len(by_class)} classes (has|have)')} no image here"
    if not results.predicted("fused")[wanted].any():
        summary += "; right or wrong: the full image alone, before stage 3"
    _heading(page, f"{data.task.short}: every class", summary, results)
    places: dict[int, tuple[int, int]] = {}  # by row
    for line, (name, rows, some) in enumerate(classes):
        top = HEAD + 24 + line * high
        ImageDraw.Draw(page).line((EDGE, top - 20, width - EDGE, top - 20), fill=drawing.FAINT)
        for i, words in enumerate(textwrap.wrap(name, 18)[:3]):
            text(page, (EDGE, top + 18 + i * 23), words, 18, INK, OVERVIEW_LABEL - 16)
        right = f"{int((results.verdict[rows] == 2).sum())} of {len(rows)} right"
        text(page, (EDGE, top + cell - 4), right, 14, SOFT, OVERVIEW_LABEL - 16)
        for column, row in enumerate(some.tolist()):
            places[row] = EDGE + OVERVIEW_LABEL + column * (wide + GAP), top
    _draw_panels(page, cell, results, places)
    for row, (left, top) in places.items():
        drawing.sign(page, (left + wide - 28, top + 6), int(results.verdict[row]), 22)
    write_jpeg(file, np.asarray(page), QUALITY)


def write_sheet(root: Path, results: TaskResults, sheet: Sheet) -> Sheet:
    """Draw a sheet below `root`; return it with its size and tiles."""
    columns = min(COLUMNS, max(2, len(sheet.rows)))  # the heading needs two
    lines = -(-len(sheet.rows) // columns)
    wide, high = 2 * CELL + INNER, CELL + 66
    size = (2 * EDGE + columns * wide + (columns - 1) * GAP, HEAD + lines * (high + GAP) - GAP + EDGE)
    page = Image.new("RGB", size, PAPER)
    n, verdict = len(sheet.total), results.verdict
    summary = [counted(n, "image(s)")]
    if (verdict[sheet.total] >= 0).any():
        counts = {word: int((verdict[sheet.total] == code).sum()) for code, word in WORDS.items()}
        summary += [f"{count} {word}" for word, count in counts.items() if count or word != "maybe"]
    if len(sheet.rows) < n:
        summary.append(f"{len(sheet.rows)} shown")
    if len(sheet.rows) < n or (verdict[sheet.rows] == 0).any():
        summary.append(sheet.order)
    title = f"{results.data.task.short} / {sheet.split} / {sheet.title}"
    _heading(page, title, ", ".join(summary), results)
    places = {
        row: (EDGE + i % columns * (wide + GAP), HEAD + i // columns * (high + GAP))
        for i, row in enumerate(sheet.rows.tolist())
    }
    _draw_panels(page, CELL, results, places)
    for row, (left, top) in places.items():
        _caption(page, (left, top + CELL), results, row)
    write_jpeg(root / sheet.file, np.asarray(page), QUALITY)
    tiles = tuple(
        Tile(
            row,
            results.data.images[row],
            results.data.paths[row],
            (left, top, left + CELL, top + CELL),
            (left + CELL + INNER, top, left + wide, top + high),
        )
        for row, (left, top) in places.items()
    )
    return dataclasses.replace(sheet, size=size, tiles=tiles)


def _heading(page: Image.Image, title: str, summary: str, results: TaskResults) -> None:
    """Write a sheet's title, and a legend of the heat on the right."""
    right, threshold = page.width - EDGE, results.rule.threshold
    text(page, (EDGE, 50), title, 28, INK, right - EDGE - 260)
    text(page, (EDGE, 78), summary, 15, SOFT, right - EDGE - 260)
    ramp = np.linspace(0, 1, 128)[None].repeat(12, axis=0)
    ramp = drawing.overlay(np.full((12, 128, 3), 235, np.uint8), ramp, threshold)
    page.paste(Image.fromarray(ramp), (right - 128, 36))
    text(page, (right - 136, 47), "heat", 14, SOFT, side="right")
    edge = right - 128 + round(128 * threshold)
    ImageDraw.Draw(page).line((edge, 33, edge, 50), fill=INK)
    crop = "crop: one place" if results.rule.place == "fixed" else f"crop threshold: {threshold:.0%}"
    legend = crop + ("; dashed: true region" if results.has_regions else "")
    text(page, (right, 70), legend, 13, SOFT, side="right")


def _draw_panels(
    page: Image.Image, cell: int, results: TaskResults, places: dict[int, tuple[int, int]]
) -> None:
    """Draw rows at their places: the image with heat and box, its crop, and why that is no heatmap crop."""
    data = results.data

    def panels(row: int) -> tuple[np.ndarray, np.ndarray]:
        size = data.sizes[row]
        image, crop = drawing.read_panels(data.paths[row], size, results.boxes[row], cell, cell)
        heat = drawing.heat_on(*results.heat(row), size, image.shape[:2])
        image = drawing.overlay(image, heat, results.rule.threshold)
        scale = (image.shape[1::-1] / size)[[0, 1, 0, 1]]
        if not np.isnan(results.regions[row, 0]):
            drawing.dashed(image, results.regions[row] * scale)
        if not results.uncropped[row]:
            drawing.outline(image, results.boxes[row] * scale)
        return image, crop

    with ThreadPoolExecutor(THREADS) as pool:
        for (row, (left, top)), (image, crop) in zip(places.items(), pool.map(panels, places), strict=True):
            drawing.paste(page, image, (left, top), cell)
            drawing.paste(page, crop, (left + cell + INNER, top), cell)
            if results.note(row):
                drawing.pill(page, (left + cell + INNER + 6, top + cell - 28), results.note(row), 13)


def _caption(page: Image.Image, at: tuple[int, int], results: TaskResults, row: int) -> None:
    """Write verdict and predictions below a tile."""
    (left, top), classes, width = at, results.data.task.classes, 2 * CELL + INNER
    verdict, final = int(results.verdict[row]), results.last[row]
    ImageDraw.Draw(page).rectangle((left, top, left + width - 1, top + 3), fill=drawing.COLOUR_OF[verdict])
    drawing.sign(page, (left, top + 14), verdict, 22)
    colour = drawing.COLOUR_OF[verdict] if verdict >= 0 else INK
    words = f"{classes[int(final.argmax())]}  {final.max():.0%}"
    text(page, (left + 30, top + 31), words, 17, colour, width * 0.56)
    if results.data.labelled[row]:
        truth = classes[int(results.data.letters[row].argmax())]
        text(page, (left + width, top + 31), f"true: {truth}", 15, INK, width * 0.36, "right")
    predictions = {b: results.probabilities[b][row] for b in ("full", "crop") if results.predicted(b)[row]}
    words = ", ".join(f"{b} {classes[int(p.argmax())]} {p.max():.0%}" for b, p in predictions.items())
    colour = SOFT
    if results.fixed[row]:
        words, colour = f"{words}: fixed", drawing.GREEN
    elif results.lost[row]:
        words, colour = f"{words}: lost", drawing.AMBER
    text(page, (left + 30, top + 55), words, 14, colour, width - 30)
