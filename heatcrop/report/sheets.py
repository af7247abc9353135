"""Contact sheets: a class on one page, each picture with its heat and square, and the crop beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from heatcrop.data.images import write_jpeg
from heatcrop.data.tasks import class_folders
from heatcrop.report.drawing import (
    AMBER,
    COLOUR_OF,
    FAINT,
    INK,
    MAT,
    PAPER,
    RIGHT,
    SOFT,
    fitted,
    outline,
    pill,
    read_shown,
    sign,
    text,
    text_width,
)
from heatcrop.report.heat import heat_colours, heat_on, overlay, unit_heat
from heatcrop.report.rows import TaskRows

EDGE, GAP, INNER, COLUMNS, CELL, HEAD = 40, 36, 8, 3, 232, 104
QUALITY = 84


@dataclasses.dataclass(frozen=True)
class Sheet:
    """One contact sheet to be drawn: where it goes, below the report's folder, and what it shows."""

    file: str
    split: str
    title: str
    rows: np.ndarray
    of: np.ndarray
    order: str = "the most confident mistakes first"


def plan_sheets(rows: TaskRows, tiles: int, seed: int, worst_first: bool = False) -> list[Sheet]:
    """Plan a sheet a class and split.

    Where a class has more than `tiles` pictures, two thirds of the sheet go to its most confident
    mistakes and the rest to a random sample, so that a sheet shows both what fails and what works.
    Pictures without a label are shown under the predicted class.

    With `worst_first` nothing is left to chance: pictures follow each other by the probability of
    their true class (of the predicted one where none is known), the lowest first.
    """
    data, folders = rows.data, class_folders(rows.data.task)
    last = np.nan_to_num(rows.last)
    verdict, confidence, guess = rows.verdict(rows.last), last.max(axis=1), last.argmax(axis=1)
    truth, labelled = data.letters.argmax(axis=1), data.labelled
    sheets = []
    for split in ("test", "val", "train"):
        for known in (True, False):
            for i, name in enumerate(data.task.classes):
                of = np.flatnonzero(
                    (data.splits == split)
                    & rows.spoken("full")
                    & (labelled == known)
                    & ((truth if known else guess) == i)
                )
                if not len(of):
                    continue
                suffix = "" if known else " (predicted)"
                file = f"sheets/{data.task.name}/{split}/{folders[i]}{suffix}.jpg"
                if worst_first:
                    worst = of[np.argsort(last[of, i], kind="stable")]
                    sheets.append(Sheet(file, split, name + suffix, worst[:tiles], of, "the worst first"))
                    continue
                rng = np.random.default_rng((seed, i))
                wrong = of[np.isin(verdict[of], (0, 1))]
                wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
                rest = rng.permutation(np.setdiff1d(of, wrong))
                first = wrong[: max(tiles * 2 // 3, tiles - len(rest))]
                chosen = np.concatenate([first, rest])[:tiles]
                sheets.append(Sheet(file, split, name + suffix, chosen, of))
    return sheets


def write_sheets(
    root: Path,
    rows: TaskRows,
    sheets: list[Sheet],
    threads: int = 2,
    done: Callable[[int], None] = lambda _: None,
) -> None:
    """Draw the sheets of one task below `root`."""
    for sheet in sheets:
        page = _class_sheet(rows, sheet, threads)
        (root / sheet.file).parent.mkdir(parents=True, exist_ok=True)
        write_jpeg(root / sheet.file, np.asarray(page), QUALITY)
        done(1)


def write_overview(root: Path, rows: TaskRows, split: str, seed: int, threads: int = 2, each: int = 4) -> str:
    """Draw a few random pictures of each class on one sheet and return its path below `root`."""
    data, cell, label = rows.data, 168, 190
    truth, rng = data.letters.argmax(axis=1), np.random.default_rng(seed)
    wanted = (data.splits == split) & data.labelled & rows.spoken("full")
    if not wanted.any():
        wanted = data.labelled & rows.spoken("full")
    own = [np.flatnonzero(wanted & (truth == i)) for i in range(len(data.task.classes))]
    names = [name for name, of in zip(data.task.classes, own, strict=True) if len(of)]
    empty = len(own) - len(names)  # told in the heading rather than shown as bare rows
    own = [of for of in own if len(of)]
    chosen = [rng.permutation(of)[:each] for of in own]
    wide, high = 2 * cell + INNER, cell + 40
    width = 2 * EDGE + label + each * wide + (each - 1) * GAP
    page = Image.new("RGB", (width, HEAD + 24 + len(chosen) * high + EDGE), PAPER)
    draw = ImageDraw.Draw(page)
    shown = data.splits[wanted]
    which = shown[0] if len(set(shown)) == 1 else "labelled pictures"
    told = f"{which}, {each} at random of each class"
    if empty:
        told += f"; {empty} of {len(data.task.classes)} classes have no picture here"
    _heading(page, f"{data.task.short}: every class", told, rows)
    tiles = _tiles(rows, np.concatenate([np.array([], int), *chosen]).astype(int), cell, threads)
    verdict = rows.verdict(rows.last)
    for line, (name, some) in enumerate(zip(names, chosen, strict=True)):
        top = HEAD + 24 + line * high
        draw.line((EDGE, top - 20, width - EDGE, top - 20), fill=FAINT)
        _wrapped(page, (EDGE, top + 18), name, 18, label - 16)
        right = int((verdict[own[line]] == 2).sum())
        text(page, (EDGE, top + cell - 4), f"{right} of {len(own[line])} right", 14, SOFT, label - 16)
        for column, row in enumerate(some):
            left = EDGE + label + column * (wide + GAP)
            picture, crop = next(tiles)
            _lay(page, picture, (left, top), cell)
            _lay(page, crop, (left + cell + INNER, top), cell)
            if rows.fallback[row]:
                why = f"whole: {rows.fallback[row]}" if rows.uncropped[row] else "usual place"
                pill(page, (left + cell + INNER + 6, top + cell - 28), why, 13)
            sign(page, (left + wide - 28, top + 6), int(verdict[row]), 22)
    file = f"sheets/{data.task.name}.jpg"
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    write_jpeg(root / file, np.asarray(page), QUALITY)
    return file


def _class_sheet(rows: TaskRows, sheet: Sheet, threads: int) -> Image.Image:
    columns = min(COLUMNS, max(2, len(sheet.rows)))  # two at least, or the heading would not fit
    lines = -(-len(sheet.rows) // columns)
    wide, high = 2 * CELL + INNER, CELL + 66
    size = (2 * EDGE + columns * wide + (columns - 1) * GAP, HEAD + lines * (high + GAP) - GAP + EDGE)
    page = Image.new("RGB", size, PAPER)
    verdict = rows.verdict(rows.last)
    told = [f"{len(sheet.of)} picture{'s' * (len(sheet.of) != 1)}"]
    if (verdict[sheet.of] >= 0).any():
        for code, word in ((2, "right"), (0, "wrong"), (1, "maybe")):
            count = int((verdict[sheet.of] == code).sum())
            told += [f"{count} {word}"] if count or word != "maybe" else []
    if len(sheet.rows) < len(sheet.of):
        told.append(f"{len(sheet.rows)} shown")
    if len(sheet.rows) < len(sheet.of) or (verdict[sheet.rows] == 0).any():
        told.append(sheet.order)
    _heading(page, f"{rows.data.task.short} / {sheet.split} / {sheet.title}", ", ".join(told), rows)
    for i, (row, panels) in enumerate(zip(sheet.rows, _tiles(rows, sheet.rows, CELL, threads), strict=True)):
        at = (EDGE + i % columns * (wide + GAP), HEAD + i // columns * (high + GAP))
        _tile(page, at, rows, int(row), panels, int(verdict[row]))
    return page


def _heading(page: Image.Image, title: str, below: str, rows: TaskRows) -> None:
    """Write a sheet's title, and explain heat and square on the right."""
    draw = ImageDraw.Draw(page)
    room = page.width - 2 * EDGE - 260
    text(page, (EDGE, 50), title, 28, INK, room)
    text(page, (EDGE, 78), below, 15, SOFT, room)
    ramp = heat_colours(rows.threshold)[None, :, :].repeat(12, axis=0)
    ramp = overlay(np.full((12, 256, 3), 235, np.uint8), np.linspace(0, 1, 256)[None].repeat(12, 0), ramp[0])
    right = page.width - EDGE
    page.paste(Image.fromarray(ramp[:, ::2]), (right - 128, 36))
    text(page, (right - 136, 47), "heat", 14, SOFT, side="right")
    edge = right - 128 + round(128 * rows.threshold)
    draw.line((edge, 33, edge, 50), fill=INK)
    text(page, (right, 70), f"cut from {rows.threshold:.0%} of the hottest", 13, SOFT, side="right")


def _tiles(
    rows: TaskRows, chosen: np.ndarray, cell: int, threads: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read pictures and lay heat and square over them: (picture, crop) fitted into cells, in order."""
    colours = heat_colours(rows.threshold)

    def one(row: int) -> tuple[np.ndarray, np.ndarray]:
        width, height = (int(v) for v in rows.data.sizes[row])
        seen = read_shown(rows.data.paths[row], (width, height), rows.boxes[row], cell)
        picture = fitted(seen.picture, cell)
        shown = (picture.shape[1], picture.shape[0])
        heat = unit_heat(rows.heatmaps[rows.place[row]], rows.percentile)
        heat = heat_on(heat, rows.frame(row), (width, height), shown)
        drawn = overlay(picture, heat, colours)
        if not rows.uncropped[row]:
            scale = np.array([shown[0] / width, shown[1] / height] * 2)
            outline(drawn, tuple(rows.boxes[row] * scale))
        return drawn, fitted(seen.crop, cell)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        yield from pool.map(one, [int(row) for row in chosen])


def _tile(
    page: Image.Image,
    at: tuple[int, int],
    rows: TaskRows,
    row: int,
    panels: tuple[np.ndarray, np.ndarray],
    verdict: int,
) -> None:
    """Draw one picture's tile: picture, crop, verdict, predictions."""
    draw, (left, top), task = ImageDraw.Draw(page), at, rows.data.task
    _lay(page, panels[0], at, CELL)
    _lay(page, panels[1], (left + CELL + INNER, top), CELL)
    if rows.fallback[row]:
        why = f"whole picture: {rows.fallback[row]}" if rows.uncropped[row] else "usual place"
        pill(page, (left + CELL + INNER + 8, top + 8), why, 13)
    wide = 2 * CELL + INNER
    draw.rectangle((left, top + CELL, left + wide - 1, top + CELL + 3), fill=COLOUR_OF[verdict])
    sign(page, (left, top + CELL + 14), verdict, 22)
    said = {b: p[row] for b, p in rows.probabilities.items() if not np.isnan(p[row, 0])}
    final = rows.last[row]
    name = task.classes[int(final.argmax())]
    colour = COLOUR_OF[verdict] if verdict >= 0 else INK
    text(page, (left + 30, top + CELL + 31), f"{name}  {final.max():.0%}", 17, colour, wide * 0.56)
    if rows.data.labelled[row]:
        truth = task.classes[int(rows.data.letters[row].argmax())]
        text(page, (left + wide, top + CELL + 31), f"true: {truth}", 15, INK, wide * 0.36, "right")
    parts = [(b, task.classes[int(p.argmax())], p.max()) for b, p in said.items() if b != "fused"]
    words, colour = ", ".join(f"{b} {told} {share:.0%}" for b, told, share in parts), SOFT
    if rows.mended[row]:
        words, colour = f"{words}: mended", RIGHT
    elif rows.broken[row]:
        words, colour = f"{words}: broken", AMBER
    text(page, (left + 30, top + CELL + 55), words, 14, colour, wide - 30)


def _lay(page: Image.Image, picture: np.ndarray, at: tuple[int, int], cell: int) -> None:
    """Paste a picture into the middle of its cell."""
    ImageDraw.Draw(page).rectangle((*at, at[0] + cell - 1, at[1] + cell - 1), fill=MAT)
    height, width = picture.shape[:2]
    page.paste(Image.fromarray(picture), (at[0] + (cell - width) // 2, at[1] + (cell - height) // 2))


def _wrapped(page: Image.Image, at: tuple[int, int], words: str, size_px: int, width_px: int) -> None:
    """Write words on up to three lines."""
    lines: list[str] = []
    for word in words.split():
        grown = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(grown, size_px) <= width_px:
            lines[-1] = grown
        else:
            lines.append(word)
    for i, line in enumerate(lines[:3]):
        text(page, (at[0], at[1] + i * round(size_px * 1.3)), line, size_px, INK, width_px)
