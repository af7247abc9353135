"""The report: files, counts, hostile names, bounds, and what it does where something is missing."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from heatcrop.data.tasks import Task
from heatcrop.errors import DataError
from heatcrop.files import write_json, write_text
from heatcrop.metrics.fusion import Fusion, fuse
from heatcrop.report.build import ReportPlan, build_report
from heatcrop.report.compare import ComparedRun, build_comparison
from heatcrop.report.drawing import CYAN, heat_colours, heat_on, overlay, read_panels
from heatcrop.report.page import ASSETS, COMPARISON_ASSETS
from heatcrop.report.plots import _STYLE, _search, scores_plot
from heatcrop.report.results import choose_rows, read_results, read_settings
from heatcrop.report.sheets import plan_sheets, write_overview, write_sheet
from heatcrop.report.thumbs import write_gallery
from heatcrop.runs.folder import RunFolder
from heatcrop.runs.metrics import write_results
from heatcrop.runs.predictions import BRANCHES, read_arrays, write_arrays
from heatcrop.runs.records import StageInputs, write_record
from stage2_crop.plan import SearchPlan
from tests.conftest import without_plots
from tests.drawn_run import draw_task

HOSTILE = ("<script>alert(1)</script>", 'a&b "q"', "$x^2$ 中 é\u2028")
ODD = "odd_design_labels"
PLAN = ReportPlan(rows=20, tiles=5)
PAGES = ("base.html.j2", "parts.html.j2", "page.html.j2", "compare.html.j2")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A run of two tasks: one with hostile class names, one without labels on test."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "odd <run>")
    folder.path.mkdir()
    tasks = {
        ODD: draw_task(folder, ODD, HOSTILE, 44, True, 0),
        "plain": draw_task(folder, "plain", ("up", "down"), 12, False, 1),
    }
    write_text(folder.config, "name: odd <run>\nnetwork: {backbone: tiny, input_px: 64, fit: pad}\n")
    metrics = write_results(tasks, folder, None)
    page = build_report(folder, tasks, metrics, plan=PLAN)
    return folder, tasks, metrics, page


@pytest.fixture(scope="module")
def html(built):
    return built[3].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(html):
    return PageParser(html)


@pytest.fixture(scope="module")
def data(parsed):
    return json.loads(parsed.data)


@pytest.fixture(scope="module")
def results(built):
    return read_results(built[1][ODD], built[0], {})


class PageParser(HTMLParser):
    """Collects the page's tags, addresses and data."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.without_alt = 0
        self.data = ""
        self._in_data = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.addresses += [found[key] for key in ("src", "href") if key in found]
        self.without_alt += tag == "img" and not found.get("alt")
        self._in_data = found.get("id") == "data"

    def handle_endtag(self, tag):
        self._in_data = False

    def handle_data(self, data):
        if self._in_data:
            self.data += data


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "odd <run>"])
def test_names_are_escaped(html, name):
    assert name not in html
    assert name.replace("<", "&lt;").replace(">", "&gt;") in html


def test_page_has_its_own_scripts_only(parsed):
    assert parsed.tags.count("script") == 1 + sum(name.endswith(".js") for name in ASSETS)


def test_page_gives_every_reason_for_images_that_are_not_cropped(html):
    """A rule may leave images whole whatever their heatmap is."""
    assert html.count("heatmap gave no usable box") == html.count("rule leaves") == 2


@pytest.mark.parametrize(("split", "warned"), [("test", False), ("val", True)])
def test_page_tells_that_images_that_chose_the_thresholds_are_scored(
    built, monkeypatch, tmp_path, split, warned
):
    folder, tasks, metrics, _ = built
    plot = {"file": "plots/coverage.svg", "kind": "coverage", "alt": ""}
    monkeypatch.setattr("heatcrop.report.plots.task_plots", lambda *_: [plot])
    monkeypatch.setattr("heatcrop.report.plots.scores_plot", lambda *_: None)
    point = dict.fromkeys(("promised", "threshold", "val_coverage", "coverage", "accuracy"), 0.9) | {"n": 0}
    scores = {name: {**found, "sure": [point]} for name, found in metrics["tasks"].items()}
    copy = RunFolder(shutil.copytree(folder.path, tmp_path / "run"))
    page = build_report(copy, tasks, {**metrics, "split": split, "tasks": scores}, plan=PLAN)
    assert ("so what they show here is optimistic" in page.read_text(encoding="utf-8")) == warned


def test_every_image_has_an_alt_text(parsed):
    assert parsed.without_alt == 0


def test_data_cannot_end_its_script(parsed):
    assert not re.search(r"[<>&\u2028\u2029]", parsed.data)


def test_data_keep_class_names_and_split(data):
    assert tuple(data["tasks"][0]["classes"]) == HOSTILE
    assert data["split"] == "test"


def test_every_address_is_relative_and_exists(built, parsed, data):
    rows = [row for task in data["tasks"] for row in task["rows"]]
    local = [address for address in parsed.addresses if not address.startswith(("#", "data:"))]
    local += [row["thumb"]["file"] for row in rows] + [row["original"] for row in rows]
    assert len(local) > 40
    assert [address for address in local if re.match(r"[a-z]+:|/", address)] == []
    assert [address for address in local if not (built[3].parent / unquote(address)).is_file()] == []


def test_no_temporary_folder_is_left(built):
    assert [path.name for path in built[0].path.glob(".report*")] == []


def test_counts_agree_with_the_metrics(built, data):
    counts, figures = data["tasks"][0]["counts"]["test"], built[2]["tasks"][ODD]
    n = len(built[1][ODD].rows("test"))
    assert (counts["n"], counts["labelled"], figures["n"]) == (n, n, n)
    assert counts["right"] / n == pytest.approx(figures["fused"]["accuracy"])
    gain = figures["fused"]["accuracy"] - figures["full"]["accuracy"]
    assert (counts["fixed"] - counts["lost"]) / n == pytest.approx(gain)
    assert counts["uncropped"] / n == pytest.approx(figures["crops"]["fallback_rate"])


def test_page_shows_the_score(built, html):
    assert f"{built[2]['tasks'][ODD]['fused']['map']:.4f}" in html


def test_rows_agree_with_the_predictions(built, data):
    folder, tasks, _, page = built
    task, images = data["tasks"][0], tasks[ODD]
    fused = pd.read_csv(folder.task(ODD).fused_csv).set_index("image")
    for row in task["rows"]:
        i = images.images.index(row["name"])
        assert row["letters"] == "".join("nmy"[code] for code in images.letters[i])
        assert row["split"] == images.splits[i]
        assert (row["p"][2] is None) == (row["split"] == "train")
        if row["p"][2]:
            assert task["classes"][row["top"][2]] == fused.loc[row["name"], "class"]
        with Image.open(page.parent / unquote(row["thumb"]["file"])) as image:
            assert list(image.size) == row["thumb"]["size"]
        (heatmap,) = row["maps"]
        stored = np.frombuffer(base64.b64decode(heatmap), "<f4").reshape(7, 7)
        assert (stored == np.load(folder.task(ODD).heatmaps)[i]).all()


def test_number_of_thumbnails_is_bounded(built):
    count = len(list(built[3].parent.glob(f"thumbs/{ODD}/*")))
    assert PLAN.rows + PLAN.rows // 10 <= count <= PLAN.rows + 2 * (PLAN.rows // 10)


def test_every_class_and_split_has_one_sheet_of_bounded_size(built, results):
    sheets, home = plan_sheets(results, PLAN.tiles), built[0].task(ODD).sheets
    assert len(sheets) == 9
    assert max(len(sheet.rows) for sheet in sheets) == PLAN.tiles
    files = sorted(path.relative_to(home).as_posix() for path in home.glob("*/*"))
    assert files == sorted(f"{s.split}/{s.stem}{end}" for s in sheets for end in (".jpg", ".html"))


def test_sheets_are_beside_the_crop_folders_only(built):
    assert {path.name for path in built[3].parent.glob("sheets/*")} == {f"{ODD}.jpg", "plain.jpg"}


def test_sheets_link_to_originals_and_to_the_images_in_the_page(built, data):
    home, shown = built[0].task(ODD).sheets, {row["name"] for row in data["tasks"][0]["rows"]}
    originals, in_page = 0, 0
    for path in home.glob("*/*.html"):
        sheet = PageParser(path.read_text(encoding="utf-8"))
        assert sheet.without_alt == 0
        for address in sheet.addresses:
            file, _, fragment = address.partition("#")
            if address == "data:,":
                continue
            target = path.parent / unquote(file)
            assert target.is_file(), address
            if fragment:
                assert target.samefile(built[3])
                task, _, name = unquote(fragment).partition("/")
                assert task == ODD
                assert name in shown
                in_page += 1
            originals += "images & more" in target.parts
    assert originals == 9 * 5 - sum(
        max(0, 5 - len(s.rows)) for s in plan_sheets(read_results(built[1][ODD], built[0], {}), 5)
    )
    assert 0 < in_page <= len(shown)


def test_true_regions_are_drawn_dashed(built, results):
    data = results.data
    table = pd.DataFrame(
        [(data.images[i], ODD, 5, 5, 30, 30) for i in range(44)],
        columns=["image", "task", "x0", "y0", "x1", "y1"],
    )
    known, root = dataclasses.replace(results, boxes_true=table), built[0].path.parent / "drawn"
    sheet = plan_sheets(results, PLAN.tiles)[0]
    cyan = []
    for one in (results, known):
        write_sheet(root, one, sheet)
        with Image.open(root / sheet.file) as image:
            cyan.append(int((np.abs(np.asarray(image).astype(int) - CYAN).max(axis=2) < 40).sum()))
    assert cyan[0] * 5 < cyan[1]


def test_task_without_test_labels_is_shown_without_scores(built, html, data):
    home, counts = built[3].parent, data["tasks"][1]["counts"]["test"]
    assert "plain" not in built[2]["tasks"]
    assert "no labels on test" in html
    assert list(built[0].task("plain").sheets.glob("test/* (predicted).jpg"))
    assert (home / "plots/plain/confusion-fused.svg").is_file()
    assert counts["labelled"] == 0 < counts["n"]


def test_report_of_an_unfinished_run_shows_what_there_is(built, tmp_path):
    folder = RunFolder(tmp_path / "young")
    folder.path.mkdir()
    young = draw_task(folder, "young", ("up", "down"), 8, True, 2)
    folder.task("young").predictions(3).unlink()
    none = {branch: {"map": None} for branch in ("full", "crop", "fused")}
    metrics = {"tasks": {}, "mean": none, "split": "val", "splits": {}}
    page = build_report(folder, {"young": young, "plain": built[1]["plain"]}, metrics, plan=PLAN)
    html = page.read_text(encoding="utf-8")
    tasks = json.loads(PageParser(html).data)["tasks"]
    assert [task["name"] for task in tasks] == ["young"]
    assert tasks[0]["rows"][0]["p"][1:] == [None, None]
    assert "nothing to score" in html


def test_failed_report_leaves_the_old_one(built, monkeypatch):
    folder, tasks, metrics, page = built
    before = page.read_bytes()
    monkeypatch.setattr("heatcrop.report.build.write_page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_report(folder, {"plain": tasks["plain"]}, metrics, plan=PLAN)
    assert page.read_bytes() == before
    assert not (folder.path / ".report.partial").exists()


def test_report_is_rebuilt_only_when_something_changed(built, tmp_path, monkeypatch):
    monkeypatch.setattr("heatcrop.report.plots.task_plots", lambda *_: [])  # they take most of the time
    monkeypatch.setattr("heatcrop.report.plots.scores_plot", lambda *_: None)
    folder = RunFolder(Path(shutil.copytree(built[0].path, tmp_path / "run")))
    tasks, metrics = {"plain": built[1]["plain"]}, built[2]
    times = {"seconds": {"crop": 9.0}, "cpu_seconds": {"crop": 9.0}}
    slower = {name: {**task, **times} for name, task in metrics["tasks"].items()}

    def rebuilt(metrics=metrics, plan=PLAN):
        before = folder.report.stat().st_mtime_ns
        build_report(folder, tasks, metrics, plan=plan, anew=False)
        return folder.report.stat().st_mtime_ns != before

    assert rebuilt(), "other tasks"
    assert not rebuilt(), "nothing"
    assert not rebuilt({**metrics, "tasks": slower}), "run times"
    assert rebuilt({**metrics, "more": 1}), "metrics"
    assert rebuilt(plan=dataclasses.replace(PLAN, tiles=PLAN.tiles + 1)), "plan"
    next(folder.report.parent.rglob("*.jpg")).unlink()
    assert rebuilt(), "an image is missing"
    folder.task("plain").suspects.unlink()
    assert rebuilt(), "the list of suspects is missing"
    shutil.rmtree(folder.task("plain").sheets)
    assert rebuilt(), "the sheets are missing"
    write_record(folder.task("plain").record("finetune"), StageInputs({"epochs": 9}), [], {})
    assert rebuilt(), "a stage"


def test_a_new_report_removes_the_sheets_of_the_old_one_and_keeps_other_files(built, tmp_path, no_plots):
    folder = RunFolder(Path(shutil.copytree(built[0].path, tmp_path / "run")))
    tasks, home = {"plain": built[1]["plain"]}, folder.task("plain").sheets
    build_report(folder, tasks, built[2], plan=PLAN)
    own = sorted(path for path in home.glob("test/*"))
    mine = [home / "mine" / "photo.jpg", home / "test" / "notes.html", home / "test" / "notes.jpg"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    splits = np.where(tasks["plain"].splits == "test", "val", tasks["plain"].splits)
    moved = {"plain": dataclasses.replace(tasks["plain"], splits=splits)}
    build_report(folder, moved, built[2], plan=PLAN)
    assert len(own) == 4
    assert [path for path in own if path.exists()] == []
    assert [path.read_text() for path in mine] == ["mine"] * 3


def test_the_page_counts_an_image_of_two_tasks_once(built, tmp_path, no_plots):
    folder = RunFolder(Path(shutil.copytree(built[0].path, tmp_path / "run")))
    data = built[1]["plain"]
    shutil.copytree(folder.task("plain").path, folder.task("again").path)
    again = dataclasses.replace(data, task=dataclasses.replace(data.task, name="again"))
    page = build_report(folder, {"plain": data, "again": again}, built[2], plan=PLAN)
    facts = page.read_text(encoding="utf-8").partition('<p class="facts">')[2].partition("</p>")[0]
    assert f"<span>2 tasks</span> <span>{len(data)} images</span>" in facts


def test_gallery_prefers_changes_and_mistakes(results):
    few = choose_rows(results, 10)
    evaluated = few[results.data.splits[few] != "train"]
    changed = results.last.argmax(1) != results.probabilities["full"].argmax(1)
    assert len(evaluated) == 10
    assert len(few) in (11, 12), "one training image at random, one with the most doubtful label"
    assert changed[evaluated].sum() >= 5
    assert np.array_equal(few, choose_rows(results, 10))


def test_gallery_prefers_the_largest_changes_from_the_calibrated_full_image(results):
    results = dataclasses.replace(results, full_temperature=8.0)
    changed = np.flatnonzero(results.last.argmax(1) != results.probabilities["full"].argmax(1))
    largest = changed[np.argsort(-np.abs(results.change[changed]).max(axis=1))]
    assert set(largest[:4]) <= set(choose_rows(results, 8))


def test_suspects_list_labels_that_networks_did_not_train_on(built, results):
    folder, tasks, *_ = built
    table = pd.read_csv(folder.task(ODD).suspects, keep_default_na=False)
    data, p = tasks[ODD], results.probabilities
    assert len(data) == 44
    expected = [i for i in range(44) if data.splits[i] == "val" or (data.splits[i] == "train" and i % 8 == 0)]
    assert sorted(table["image"]) == sorted(data.images[i] for i in expected)
    assert table["label_probability"].is_monotonic_increasing
    assert 0 < table["suspect"].sum() < len(table)
    for row in table.itertuples():
        i = data.images.index(row.image)
        truth = data.letters[i].argmax()
        unseen = p["full" if row.split == "train" else "fused"][i]  # no crop network predicts training images
        assert row.label == HOSTILE[truth]
        assert row.label_probability == pytest.approx(unseen[truth], abs=1e-4)
        assert row.suggested == HOSTILE[unseen.argmax()]
        assert not (row.suspect and row.suggested == row.label)


def test_a_class_that_the_label_allows_is_not_doubtful(built):
    results = read_results(built[1][ODD], built[0], {})
    assert results.suspect.any()
    top = np.nan_to_num(results.unseen).argmax(axis=1)
    letters = results.data.letters.copy()
    letters[np.arange(44), top] = np.maximum(letters[np.arange(44), top], 1)
    maybe = dataclasses.replace(results, data=dataclasses.replace(results.data, letters=letters))
    assert not maybe.suspect.any()


def test_gallery_has_the_most_doubtful_training_image(results):
    doubtful = np.flatnonzero(results.suspect & (results.data.splits == "train"))
    assert len(doubtful)
    worst = doubtful[results.label_probability[doubtful].argmin()]
    assert worst in choose_rows(results, 10)


def test_gallery_shows_everything_where_there_is_room(results):
    assert len(choose_rows(results, 1000)) == 44


def test_heat_is_drawn_at_its_position():
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2] = 1
    # An image twice as wide as high, padded to a square: the map's middle rows cover it.
    shown = heat_on(heat, (0, -50, 200, 150), np.array([200, 100]), (20, 40))
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert shown.shape == (20, 40)
    assert row in (4, 5)
    assert column in (24, 25)


def test_there_is_no_heat_beyond_a_map_of_a_part_of_the_image():
    shown = heat_on(np.ones((4, 4), np.float32), (50, 0, 100, 100), np.array([200, 100]), (20, 40))
    assert shown[:, 10:20].min() == 1
    assert shown[:, :10].max() == 0
    assert shown[:, 20:].max() == 0


def test_overlay_without_heat_changes_nothing():
    image = np.full((20, 40, 3), 90, np.uint8)
    assert np.array_equal(overlay(image, np.zeros((20, 40)), 0.35), image)


def test_opacity_rises_with_heat():
    assert (np.diff(heat_colours(0.35)[:, 3].astype(int)) >= 0).all()


def test_missing_image_becomes_a_grey_field(tmp_path):
    image, crop = read_panels(
        str(tmp_path / "gone.jpg"), np.array([200, 100]), np.array([10, 10, 60, 60]), 80, 60
    )
    assert image.shape == (40, 80, 3)
    assert crop.shape == (60, 60, 3)
    assert np.ptp(image) == 0


@pytest.mark.parametrize(
    "file",
    sorted({*PAGES, *(f"assets/{name}" for name in (*ASSETS, *COMPARISON_ASSETS))}),
)
def test_page_neither_loads_from_a_network_nor_parses_html(file):
    source = (Path(__file__).parents[2] / "heatcrop" / "report" / file).read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|innerHTML|fetch\(|XMLHttp", source)


@pytest.mark.parametrize("label", ["full", "full folds", "crop", "crop folds"])
def test_learning_curves_distinguish_stages_and_folds(built, label):
    svg = (built[3].parent / f"plots/{ODD}/loss.svg").read_text(encoding="utf-8")
    assert svg.count(f">{label}<") == 1


def test_a_setting_that_is_searched_twice_is_drawn_twice(built, html):
    """The threshold of the first crop and that of the zoomed one are compared on different heatmaps."""
    svg = (built[3].parent / f"plots/{ODD}/search.svg").read_text(encoding="utf-8")
    assert svg.count(">threshold<") == 2
    assert "threshold 0.3, zoom 0, threshold 0.45, invisible whole, enabled no" in html


def test_a_training_image_that_no_network_trained_on_is_shown_as_such(tmp_path):
    """Of tasks that share a network, one may train on an image that another one tests on."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    data = draw_task(folder, "plain", ("up", "down"), 12, True, 1)
    arrays = read_arrays(folder.task("plain").predictions(3))
    before = read_results(data, folder, {})
    row = np.flatnonzero(before.trained)[0]
    arrays["crop"][row], arrays["fused"][row] = (0.25, 0.75), (0.375, 0.625)
    write_arrays(folder.task("plain").predictions(3), **arrays)
    after = read_results(data, folder, {})
    assert np.flatnonzero(before.trained != after.trained).tolist() == [row]
    assert after.label_probability[row] == (0.375, 0.625)[data.letters[row].argmax()]


def test_a_gain_does_not_contain_the_calibration_of_the_full_image(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    data = draw_task(folder, "plain", ("up", "down"), 24, True, 1)
    data.letters[-1] = 0
    probabilities, fusion = read_results(data, folder, {}).probabilities, Fusion(0.0, full_temperature=3.0)
    fused = fuse(probabilities["full"], probabilities["crop"], fusion)
    fused[data.splits == "train"] = np.nan
    path = folder.task("plain").predictions(3)
    write_arrays(path, **{**read_arrays(path), "fused": fused})
    write_json(folder.task("plain").fusion, dataclasses.asdict(fusion))
    results = read_results(data, folder, {})
    gallery = write_gallery(tmp_path / "page", results, np.arange(24), tmp_path, lambda _: None)
    gains = [row["gain"] for row in gallery["rows"]]
    assert gains == [None if split == "train" else 0 for split in data.splits[:-1]] + [None]


def test_a_gain_is_that_of_the_label(results):
    rows = np.flatnonzero(results.predicted("fused"))
    truth = results.data.letters[rows].argmax(axis=1)
    full, fused = (results.probabilities[branch][rows, truth] for branch in ("full", "fused"))
    assert results.gain[rows] == pytest.approx(fused - full)


def test_doubtful_labels_are_those_of_networks_and_probes(built):
    folder, tasks, *_ = built
    before = read_results(tasks[ODD], folder, {})
    listed = ~np.isnan(before.label_probability)
    probe = np.full(before.last.shape, np.nan)
    probe[listed] = np.random.default_rng(0).dirichlet(np.ones(probe.shape[1]), listed.sum())
    after = dataclasses.replace(before, probe=probe)
    assert after.unseen[listed] == pytest.approx((before.unseen[listed] + probe[listed]) / 2)
    assert np.isnan(after.label_probability[~listed]).all()


def test_predictions_of_probes_are_read_with_the_results(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    data = draw_task(folder, "plain", ("up", "down"), 12, True, 1)
    assert read_results(data, folder, {}).probe is None
    path = folder.task("plain").predictions(3)
    arrays, probe = read_arrays(path), np.full((12, 2), 0.5)
    write_arrays(path, **arrays, probe=probe)
    assert np.array_equal(read_results(data, folder, {}).probe, probe)
    write_arrays(path, **arrays, probe=probe[:, :1])
    with pytest.raises(DataError, match="probe has shape"):
        read_results(data, folder, {})


def test_the_values_that_a_search_tries_do_not_overlap():
    plan = SearchPlan(thresholds=(0.3, 0.45, 0.55, 0.6, 0.75), margins=(0.05, 0.1, 0.15, 0.2))
    steps = [*plan.first_steps(), *plan.last_steps(2.0)]
    figures = {"score": 0.5, "error": 0.01, "fused_ap": 0.5}
    curve = [
        {"setting": setting, "value": value, "chosen": not i} | figures
        for setting, values in steps
        for i, value in enumerate(values)
    ]
    with mpl.rc_context(_STYLE):
        axes = _search(curve)[1]
        axes.figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    lines = [[(box.x0, box.x1) for box in boxes if (box.y0 < boxes[0].y0 - 5) == low] for low in (0, 1)]
    for line in lines:
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(line))


def test_worst_images_come_first_on_request(results):
    for sheet in plan_sheets(results, PLAN.tiles, worst_first=True):
        probability = results.last[:, HOSTILE.index(sheet.title)]
        assert sheet.rows.tolist() == sorted(sheet.total, key=lambda row: probability[row])[: PLAN.tiles]


@pytest.mark.parametrize(
    "names",
    [
        ("arm_design_labels", "arm_length_labels"),
        ("neckline_of_a_garment_from_behind", "neckline_of_a_garment_from_the_front"),
    ],
    ids=["one short name", "one beginning, to which the plot shortens both"],
)
def test_tasks_of_similar_names_have_bars_of_their_own(tmp_path, names):
    tasks = [Task(name, ("a", "b")) for name in names]
    aps = dict(zip(names, (0.25, 0.75), strict=True))
    scores = {name: {branch: {"map": ap} for branch in BRANCHES} for name, ap in aps.items()}
    (tmp_path / "plots").mkdir()
    plot = scores_plot(tmp_path, {"tasks": scores, "split": "test"}, tasks)
    svg = (tmp_path / plot["file"]).read_text(encoding="utf-8")
    for name, ap in aps.items():
        assert f"{name}: full {ap:.3f}" in plot["alt"]
        assert svg.count(f">{ap:.3f}<") == len(BRANCHES)


def test_tasks_that_share_a_short_name_have_different_titles_on_the_pages(tmp_path):
    names = {"arm_design_labels", "arm_length_labels"}
    folders = [RunFolder(tmp_path / name) for name in "ab"]
    for folder in folders:
        folder.path.mkdir()
        tasks = {name: draw_task(folder, name, ("up", "down"), 12, True, 1) for name in names}
    with without_plots():
        page = build_report(folders[0], tasks, write_results(tasks, folders[0], None), plan=PLAN)
    runs = [
        ComparedRun(folder, tuple(data.task for data in tasks.values()), tasks, None) for folder in folders
    ]
    compared = tmp_path / "compared" / "index.html"
    build_comparison(compared, runs)
    for path in (page, compared):
        html = path.read_text(encoding="utf-8")
        tasks_of = json.loads(PageParser(html).data)["tasks"]
        assert {task.get("short") or task["runs"][0]["short"] for task in tasks_of} == names
        assert all(f">{name}</th>" in html for name in names)
        assert ">arm<" not in html


@pytest.mark.parametrize("stage3", [True, False])
def test_an_overview_before_stage_3_names_the_full_image(built, tmp_path, monkeypatch, stage3):
    folder, tasks, *_ = built
    results = read_results(tasks[ODD], folder, read_settings(folder))
    if not stage3:
        nothing = np.full_like(results.probabilities["fused"], np.nan)
        results = dataclasses.replace(results, probabilities={**results.probabilities, "fused": nothing})
    written = []
    monkeypatch.setattr(
        "heatcrop.report.sheets._heading", lambda page, title, summary, _: written.append(summary)
    )
    write_overview(tmp_path / "overview.jpg", results, "test")
    assert ("before stage 3" in written[0]) is not stage3


def test_an_overview_of_many_classes_shows_the_first(built, tmp_path, monkeypatch):
    """A JPEG file of all of them could be too high."""
    folder, tasks, *_ = built
    results, written = read_results(tasks[ODD], folder, read_settings(folder)), []
    monkeypatch.setattr("heatcrop.report.sheets.OVERVIEW_CLASSES", 1)
    monkeypatch.setattr(
        "heatcrop.report.sheets._heading", lambda page, title, summary, _: written.append(summary)
    )
    write_overview(tmp_path / "overview.jpg", results, "test")
    assert "; the first 1 class of " in written[0]
