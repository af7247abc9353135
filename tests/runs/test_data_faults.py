"""Common faults of data sets, which `check` finds and `run` survives; names that could do harm."""

import contextlib
import io
import json
import os
import re
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from heatcrop.cli import commands
from heatcrop.files import write_atomic
from stage2_crop.crops import crop_names

EVIL = "<script>alert(1)</script>"
TASKS = [
    {"name": "beak", "classes": [EVIL, "straight", "never seen", "only tested"]},
    {"name": "tail", "classes": ["long", "short"], "kind": "length"},
    {"name": "wing", "classes": ["striped", "plain"]},
]
CONFIG = {
    "data": {"source": "files", "tasks": TASKS, "max_rejected_share": 0.9},
    "network": {"backbone": "mobilenet0.25", "weights": "none", "frozen_blocks": -1, "input_px": 32},
    "cam": {"training": {"epochs": 1}, "views": 1, "folds": 2},
    "crop": {"search": {"pictures": 0}},
    "finetune": {"training": {"epochs": 1}, "views": 1},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Write three tasks with every known fault."""
    home = tmp_path_factory.mktemp("faults")
    pics = home / "data" / "pics"
    pics.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []

    def draw(name, task, label, split=""):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(pics / name, "JPEG")
        rows.append(("pics/" + name, task, label, split))

    for i in range(8):
        draw(f"beak{i}.jpg", "beak", (EVIL, "straight")[i % 2], "train")
    for i, label in enumerate((EVIL, "straight", "only tested")):
        draw(f"tested{i}.jpg", "beak", label, "test")
        draw(f"chosen{i}.jpg", "beak", ("straight", EVIL)[i % 2], "val")
    shutil.copy(pics / "beak0.jpg", pics / "twin.jpg")
    rows.append(("pics/twin.jpg", "beak", "straight", "train"))  # the same image with two labels
    shutil.copy(pics / "beak1.jpg", pics / "leak.jpg")
    rows.append(("pics/leak.jpg", "beak", "straight", "test"))  # the same image in train and test
    for i in range(4):
        draw(f"tail{i}.jpg", "tail", "?")  # a task without labels
    for i in range(12):
        draw(f"wing{i}.jpg", "wing", ("striped", "plain")[i % 2])
    # Names with a bidirectional mark, markup, non-ASCII letters, great length, a device and dots.
    for name in ("‮gpj.exe.jpg", "&amp;<b>.jpg", "é́.jpg", "漢" * 80 + ".jpg", "con.jpg", "...jpg"):
        draw(name, "wing", "plain", "")
    table = pd.DataFrame(rows, columns=["image", "task", "label", "split"])
    lines = table.to_csv(index=False) + "../../etc/passwd,wing,plain,\n/etc/passwd,wing,plain,\n"
    os.symlink("/etc/hostname", pics / "link.jpg")
    (home / "data" / "annotations.csv").write_text(lines + "pics/link.jpg,wing,plain,\n")
    (home / "faults.yaml").write_text(json.dumps(CONFIG))
    return home


def run_command(home, *words):
    """Run a command on the data; return its exit code and output."""
    output = io.StringIO()
    words = ["pipeline.py", *map(str, words), "--config", "faults.yaml", "--data", "data"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.chdir(home)
        patch.setattr(sys, "argv", words)
        patch.setattr(sys, "stderr", output)
        code = commands.main()
    return code, " ".join(output.getvalue().split())


@pytest.fixture(scope="module")
def checked(home):
    return run_command(home, "check", "--no-speed")


@pytest.fixture(scope="module")
def finished(home, tmp_path_factory):
    """Run all tasks; return the run folder, the output, and the files in the data folder before."""
    run, before = tmp_path_factory.mktemp("out") / "run", sorted(home.rglob("*"))
    code, text = run_command(home, "run", "--all", "--out", run, "--jobs", "1")
    assert code == 0, text
    return run, text, before


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.scripts, self.text, self.inside = [], [], False

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append((dict(attrs), []))

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "script"

    def handle_data(self, data):
        (self.scripts[-1][1] if self.inside else self.text).append(data)


@pytest.fixture(scope="module")
def page(finished):
    page = Page()
    page.html = (finished[0] / "report" / "index.html").read_text()
    page.feed(page.html)
    return page


FAULTS_OF_TASKS = (
    "beak: tested but never trained on: only tested",
    "beak: classes without a training ",
    "skipped: tail: 0 labelled training",
)


@pytest.mark.parametrize(
    "message",
    [
        *FAULTS_OF_TASKS,
        "byte-identical in two splits, for instance pics/leak.jpg",
        "under two labels, for instance pics/twin.jpg",
        "the path leaves the data folder",
        "the path is absolute",
        "leads out of the data folder",
        "8 problems found",
    ],
)
def test_check_finds_every_known_fault(checked, message):
    assert message in checked[1]


def test_check_of_faulty_data_exits_with_1(checked):
    assert checked[0] == 1


def test_a_task_that_cannot_be_trained_is_refused_by_name(home, tmp_path):
    code, text = run_command(home, "run", "--task", "tail", "--out", tmp_path / "run")
    assert code == 1
    assert "error: tail: 0 labelled training" in text


@pytest.mark.parametrize("message", FAULTS_OF_TASKS)
def test_run_reports_the_faults_of_tasks(finished, message):
    assert message in finished[1]


def test_run_makes_folders_for_trained_tasks_only(finished):
    folders = {path.name for path in finished[0].iterdir() if path.is_dir()}
    assert folders == {"beak", "wing", "trunk", "cache", "report"}


def test_run_scores_the_trained_tasks(finished):
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    assert set(metrics["tasks"]) == {"beak", "wing"}


def test_every_image_has_a_box(finished):
    assert len(pd.read_csv(finished[0] / "wing" / "boxes.csv", keep_default_na=False)) == 18


def test_every_image_has_a_crop_in_the_crop_folder(finished):
    crops = [path for path in (finished[0] / "wing" / "crops").rglob("*") if path.is_file()]
    assert [path.suffix for path in crops] == [".jpg"] * 18


def test_run_leaves_the_data_folder_alone(home, finished):
    assert sorted(home.rglob("*")) == finished[2]


def test_run_lists_the_rejected_images(finished):
    rejected = pd.read_csv(finished[0] / "rejected.csv")["image"]
    assert set(rejected) == {"../../etc/passwd", "/etc/passwd", "pics/link.jpg"}


def test_the_page_contains_no_markup_from_class_names(page):
    assert EVIL not in page.html.replace("\\u003c", "")


def test_the_page_has_only_its_own_scripts(page):
    scripts = [kind.get("src") or kind.get("type") for kind, _ in page.scripts]
    assert scripts[0] == "application/json"
    assert all(re.fullmatch(r"assets/\w+\.js", script) for script in scripts[1:])


def test_the_page_shows_class_names_as_text(page):
    assert json.loads("".join(page.scripts[0][1]))["tasks"][0]["classes"][0] == EVIL


def test_the_scripts_of_the_page_write_no_markup(finished):
    scripts = "".join(path.read_text() for path in (finished[0] / "report" / "assets").glob("*.js"))
    assert scripts
    assert "innerHTML" not in scripts
    assert "eval(" not in scripts


def test_long_names_of_crops_fit_a_file_system(tmp_path):
    images = [f"{'漢' * 60}/{'漢' * 83}{i}.png" for i in range(3)] + [
        "a/" + "x" * 250 + ".jpg",
        "b/" + "x" * 250 + ".jpg",
    ]
    names = crop_names(images, ["class"] * 5, ["train"] * 5)
    assert len(set(names)) == 5
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(tmp_path / name, b"image", durable=True)
    assert len(list((tmp_path / "train" / "class").iterdir())) == 5


@pytest.mark.parametrize("name", ["é" * 127, "a" * 255, "漢" * 85])
def test_a_file_with_the_longest_possible_name_is_written(tmp_path, name):
    write_atomic(tmp_path / name, b"x")
    assert os.listdir(tmp_path) == [name]
