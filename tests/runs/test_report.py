"""The report: files, counts, hostile names, bounds, and what it does where something is missing."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from heatcrop.files import write_text
from heatcrop.report.build import ReportPlan, build_report
from heatcrop.report.drawing import read_shown
from heatcrop.report.heat import GRID_MAX, heat_colours, heat_on, heat_text, overlay, unit_heat
from heatcrop.report.plots import calibration
from heatcrop.report.rows import choose_rows, gather
from heatcrop.report.sheets import plan_sheets
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.metrics import run_metrics
from tests.drawn_run import draw_task

HOSTILE = ("<script>alert(1)</script>", 'a&b "q"', "$x^2$ 中 é\u2028")
PLAN = ReportPlan(rows=20, tiles=5)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A run of two tasks: one with hostile class names, one whose test pictures have no answers."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "odd <run>")
    folder.path.mkdir()
    tasks = {
        "odd_design_labels": draw_task(folder, "odd_design_labels", HOSTILE, 44, True, 0),
        "plain": draw_task(folder, "plain", ("up", "down"), 12, False, 1),
    }
    write_text(folder.config, "name: odd <run>\nnetwork: {backbone: tiny, input_px: 64, fit: pad}\n")
    metrics = run_metrics(tasks, folder, None)
    page = build_report(folder, tasks, metrics, PLAN)
    return folder, tasks, metrics, page


class _Reader(HTMLParser):
    """Collects the page's tags, addresses and data."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.without_alt = 0
        self.data = ""
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.addresses += [found[key] for key in ("src", "href") if key in found]
        self.without_alt += tag == "img" and not found.get("alt")
        self._inside = found.get("id") == "data"

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.data += data


def test_page_escapes_hostile_names_and_its_data_parses(built):
    html = built[3].read_text(encoding="utf-8")
    assert "<script>alert" not in html and "odd <run>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html and "odd &lt;run&gt;" in html
    read = _Reader(html)
    assert read.tags.count("script") == 3 and read.without_alt == 0
    assert not re.search(r"[<>&\u2028\u2029]", read.data)
    data = json.loads(read.data)
    assert tuple(data["tasks"][0]["classes"]) == HOSTILE
    assert data["split"] == "test" and data["branches"] == ["full", "crop", "fused"]


def test_every_address_leads_to_a_file(built):
    folder, _, _, page = built
    read = _Reader(page.read_text(encoding="utf-8"))
    local = [a for a in read.addresses if not a.startswith(("#", "data:"))]
    data = json.loads(read.data)
    rows = [row for task in data["tasks"] for row in task["rows"]]
    local += [row["thumb"]["file"] for row in rows] + [row["original"] for row in rows]
    assert len(local) > 40
    for address in local:
        assert not re.match(r"[a-z]+:|/", address), f"{address} leaves the run"
        assert (page.parent / unquote(address)).is_file(), address
    left = [p.name for p in folder.path.iterdir()]
    assert ".report.partial" not in left and ".report.old" not in left


def test_counts_agree_with_the_metrics(built):
    _, tasks, metrics, page = built
    data = json.loads(_Reader(page.read_text(encoding="utf-8")).data)
    name = "odd_design_labels"
    counts, figures = data["tasks"][0]["counts"]["test"], metrics["tasks"][name]
    assert counts["n"] == counts["labelled"] == figures["n"] == len(tasks[name].rows("test"))
    assert counts["right"] / counts["n"] == pytest.approx(figures["fused"]["accuracy"])
    gain = figures["fused"]["accuracy"] - figures["full"]["accuracy"]
    assert (counts["mended"] - counts["broken"]) / counts["n"] == pytest.approx(gain)
    assert counts["fallback"] / counts["n"] == pytest.approx(figures["crops"]["fallback_rate"])
    assert f"{figures['fused']['map']:.4f}" in page.read_text(encoding="utf-8")


def test_rows_hold_what_the_stages_said(built):
    folder, tasks, _, page = built
    task = json.loads(_Reader(page.read_text(encoding="utf-8")).data)["tasks"][0]
    data = tasks["odd_design_labels"]
    fused = pd.read_csv(folder.task("odd_design_labels").fused).set_index("image")
    for row in task["rows"]:
        i = data.images.index(row["name"])
        assert row["letters"] == "".join("nmy"[c] for c in data.letters[i]) and row["split"] == data.splits[i]
        assert (row["p"][2] is None) == (row["split"] == "train")
        if row["p"][2]:
            assert task["classes"][row["top"][2]] == fused.loc[row["name"], "class"]
        with Image.open(page.parent / unquote(row["thumb"]["file"])) as image:
            assert list(image.size) == row["thumb"]["size"]
        assert len(row["heat"]["v"]) == 2 * row["heat"]["w"] * row["heat"]["h"]


def test_number_of_files_is_bounded(built):
    page = built[3]
    assert len(list(page.parent.glob("thumbs/odd_design_labels/*"))) == PLAN.rows + PLAN.rows // 10
    gather_rows = gather(built[1]["odd_design_labels"], built[0], {})
    sheets = plan_sheets(gather_rows, PLAN.tiles, 0)
    assert len(sheets) == 9 and max(len(s.rows) for s in sheets) == PLAN.tiles
    assert sorted(s.file for s in sheets) == sorted(
        str(p.relative_to(page.parent)) for p in page.parent.glob("sheets/odd_design_labels/*/*.jpg")
    )


def test_task_without_test_answers_is_told_and_shown(built):
    _, _, metrics, page = built
    html = page.read_text(encoding="utf-8")
    assert "plain" not in metrics["tasks"] and "no answers on test" in html
    assert list(page.parent.glob("sheets/plain/test/* (predicted).jpg"))
    assert (page.parent / "plots/plain/confusion-fused.svg").is_file()
    plain = json.loads(_Reader(html).data)["tasks"][1]
    assert plain["counts"]["test"]["labelled"] == 0 < plain["counts"]["test"]["n"]


def test_only_the_first_two_stages_or_none(built, tmp_path):
    folder = RunFolder(tmp_path / "young")
    folder.path.mkdir()
    data = draw_task(folder, "young", ("up", "down"), 8, True, 2)
    for file in (folder.task("young").fused, folder.task("young").predictions(3)):
        file.unlink()
    none = {b: {"map": None} for b in ("full", "crop", "fused")}
    metrics = {"tasks": {}, "mean": none, "split": "val", "splits": {}}
    page = build_report(folder, {"young": data, "plain": built[1]["plain"]}, metrics, PLAN)
    html = page.read_text(encoding="utf-8")
    tasks = json.loads(_Reader(html).data)["tasks"]
    assert [task["name"] for task in tasks] == ["young"] and tasks[0]["rows"][0]["p"][1:] == [None, None]
    assert "nothing to score" in html


def test_failed_report_leaves_the_old_one(built, monkeypatch):
    folder, tasks, metrics, page = built
    before = page.read_bytes()
    monkeypatch.setattr("heatcrop.report.build.write_page", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_report(folder, {"plain": tasks["plain"]}, metrics, PLAN)
    assert page.read_bytes() == before and not (folder.path / ".report.partial").exists()


def test_a_report_of_the_same_is_not_made_again(built, tmp_path):
    folder = RunFolder(Path(shutil.copytree(built[0].path, tmp_path / "run")))
    tasks, metrics = {"plain": built[1]["plain"]}, built[2]

    def made(metrics=metrics, plan=PLAN):
        before = folder.report.stat().st_mtime_ns if folder.report.exists() else 0
        build_report(folder, tasks, metrics, plan, anew=False)
        return folder.report.stat().st_mtime_ns != before

    assert made() and not made()  # another task's rows went into the copied one
    assert not made({**metrics, "tasks": {n: {**t, "seconds": {}} for n, t in metrics["tasks"].items()}})
    assert made({**metrics, "more": 1}) and made()
    assert made(plan=dataclasses.replace(PLAN, tiles=PLAN.tiles + 1)) and made()
    next(folder.report.parent.rglob("*.jpg")).unlink()
    assert made() and not made()
    shutil.rmtree(folder.task("plain").sheets)
    assert made() and not made()
    write_text(folder.task("plain").marker("finetune"), '{"fingerprint": "another"}')
    assert made() and not made()


def test_gallery_puts_changes_and_mistakes_first(built):
    folder, tasks, *_ = built
    rows = gather(tasks["odd_design_labels"], folder, {})
    few = choose_rows(rows, 10, 0)
    late = few[rows.data.splits[few] != "train"]
    changed = rows.last.argmax(1) != rows.probabilities["full"].argmax(1)
    assert len(late) == 10 and changed[late].sum() >= 5 and len(few) == 11
    assert np.array_equal(few, choose_rows(rows, 10, 0))
    assert len(choose_rows(rows, 1000, 0)) == 44


def test_heat_lies_where_the_network_looked():
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2] = 1
    # A picture twice as wide as high, framed by a square around it: the map's middle rows cover it.
    shown = heat_on(heat, (0, -50, 200, 150), (200, 100), (40, 20))
    assert np.unravel_index(shown.argmax(), shown.shape)[0] in (4, 5) and shown.shape == (20, 40)
    assert shown.argmax() % 40 in (24, 25)
    colours = heat_colours(0.35)
    picture = np.full((20, 40, 3), 90, np.uint8)
    assert np.array_equal(overlay(picture, np.zeros((20, 40)), colours), picture)
    assert (np.diff(colours[:, 3].astype(int)) >= 0).all()
    assert not unit_heat(np.array([[-3.0, np.nan]])).any()
    assert heat_text(np.ones((40, 40), np.float32))["w"] == GRID_MAX


def test_missing_picture_becomes_a_grey_field(tmp_path):
    seen = read_shown(str(tmp_path / "gone.jpg"), (200, 100), np.array([10, 10, 60, 60]), 80)
    assert seen.picture.shape == (40, 80, 3) and seen.crop.size and np.ptp(seen.picture) == 0


def test_calibration_of_a_perfect_and_an_empty_forecast():
    *_, error = calibration(np.array([1.0, 1.0]), np.array([True, True]))
    assert error == 0
    assert calibration(np.zeros(0), np.zeros(0, bool))[3] == 0


def test_nothing_is_fetched_from_elsewhere():
    here = Path(__file__).parents[2] / "heatcrop" / "report"
    for file in ("page.html.j2", "assets/report.css", "assets/pictures.js", "assets/report.js"):
        words = (here / file).read_text(encoding="utf-8")
        assert not re.search(r"https?://|@import|innerHTML|fetch\(|XMLHttp", words), file


def test_both_stages_have_curves_of_their_own(built):
    """Networks of both stages bear the same names, and must not be drawn alike."""
    words = (built[3].parent / "plots/odd_design_labels/loss.svg").read_text(encoding="utf-8")
    for label in ("full", "full folds", "crop", "crop folds"):
        assert words.count(f">{label}<") == 1, label


def test_each_crop_folder_has_a_sheet_beside_it(built):
    folder, tasks, *_ = built
    for name, data in tasks.items():
        page = built[3].parent / "sheets" / name
        sheets = {p.relative_to(folder.task(name).sheets) for p in folder.task(name).sheets.rglob("*.jpg")}
        assert sheets == {p.relative_to(page) for p in page.rglob("*.jpg")}
        assert len(sheets) >= len(set(data.splits))
        assert not list(folder.task(name).sheets.rglob("*.partial"))


def test_the_worst_come_first_on_request(built):
    rows = gather(built[1]["odd_design_labels"], built[0], {})
    for sheet in plan_sheets(rows, PLAN.tiles, 0, worst_first=True):
        of_class = rows.last[:, HOSTILE.index(sheet.title)]
        shown, left = of_class[sheet.rows], of_class[np.setdiff1d(sheet.of, sheet.rows)]
        assert (np.diff(shown) >= 0).all() and (not len(left) or shown[-1] <= left.min())
