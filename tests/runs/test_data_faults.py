"""Faults that data sets are known for: found by `check`, told and survived by `run`; names that mean harm."""

import json
import os
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

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
    """Three tasks with every known fault."""
    home = tmp_path_factory.mktemp("faults")
    pictures = home / "data" / "pics"
    pictures.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []

    def draw(name, task, label, split=""):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(pictures / name, "JPEG")
        rows.append(("pics/" + name, task, label, split))

    for i in range(8):
        draw(f"beak{i}.jpg", "beak", (EVIL, "straight")[i % 2], "train")
    for i, label in enumerate((EVIL, "straight", "only tested")):
        draw(f"tested{i}.jpg", "beak", label, "test")
        draw(f"chosen{i}.jpg", "beak", ("straight", EVIL)[i % 2], "val")
    shutil.copy(pictures / "beak0.jpg", pictures / "twin.jpg")
    rows.append(("pics/twin.jpg", "beak", "straight", "train"))  # the same picture under two labels
    shutil.copy(pictures / "beak1.jpg", pictures / "leak.jpg")
    rows.append(("pics/leak.jpg", "beak", "straight", "test"))  # and one in train and in test
    for i in range(4):
        draw(f"tail{i}.jpg", "tail", "?")  # a wholly unlabelled task
    for i in range(12):
        draw(f"wing{i}.jpg", "wing", ("striped", "plain")[i % 2])
    # Names that look like more than they are.
    for name in ("‮gpj.exe.jpg", "&amp;<b>.jpg", "é́.jpg", "漢" * 80 + ".jpg", "con.jpg", "...jpg"):
        draw(name, "wing", "plain", "")
    table = pd.DataFrame(rows, columns=["image", "task", "label", "split"])
    lines = table.to_csv(index=False) + "../../etc/passwd,wing,plain,\n/etc/passwd,wing,plain,\n"
    os.symlink("/etc/hostname", pictures / "link.jpg")
    (home / "data" / "annotations.csv").write_text(lines + "pics/link.jpg,wing,plain,\n")
    (home / "faults.yaml").write_text(json.dumps(CONFIG))
    return home


@pytest.fixture
def call(call):
    def command(*words):
        code, text = call(*words, "--config", "faults.yaml", "--data", "data")
        return code, " ".join(text.split())

    return command


EXPECTED = (
    "beak: tested but never trained on: only tested",
    "beak: classes without a training picture: never seen",
    "left out: tail: 0 labelled training pictures of 0 classes",
)


def test_check_finds_every_known_fault(call):
    code, text = call("check")
    assert code == 1
    for words in (
        *EXPECTED,
        "beak: 1 image byte-identical in two splits",
        "beak: 1 picture under two labels",
        "the path leaves the data folder",
        "the path is absolute",
        "leads out of the data folder",
    ):
        assert words in text, (words, text)
    assert "8 problems found" in text


def test_a_task_that_cannot_be_trained_is_refused_when_asked_for_by_name(call, tmp_path):
    code, text = call("run", "--task", "tail", "--out", tmp_path / "run")
    assert code == 1 and "error: tail: 0 labelled training pictures" in text


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


def test_run_survives_them_all_and_keeps_names_where_they_belong(home, call, tmp_path):
    outside = sorted(p for p in home.rglob("*"))
    code, text = call("run", "--all", "--out", tmp_path / "run", "--jobs", "1")
    assert code == 0, text
    assert all(words in text for words in EXPECTED)
    run = tmp_path / "run"
    assert {p.name for p in run.iterdir() if p.is_dir()} == {"beak", "wing", "trunk", "cache", "report"}
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics["tasks"]) == {"beak", "wing"}
    # Every picture has its crop below the crop folder, and nothing lies anywhere else.
    boxes = pd.read_csv(run / "wing" / "boxes.csv", keep_default_na=False)
    assert len(boxes) == 18
    crops = [p for p in (run / "wing" / "crops").rglob("*") if p.is_file()]
    assert len(crops) == 18 and {p.suffix for p in crops} == {".jpg"}
    assert sorted(p for p in home.rglob("*")) == outside
    rejected = pd.read_csv(run / "rejected.csv")["image"].tolist()
    assert set(rejected) == {"../../etc/passwd", "/etc/passwd", "pics/link.jpg"}
    # The page shows the class's name as text.
    page = Page()
    html = (run / "report" / "index.html").read_text()
    page.feed(html)
    assert EVIL not in html.replace("\\u003c", "")
    assert [kind.get("src") or kind.get("type") for kind, _ in page.scripts] == [
        "application/json",
        "assets/pictures.js",
        "assets/report.js",
    ]
    data = json.loads("".join(page.scripts[0][1]))
    assert data["tasks"][0]["classes"][0] == EVIL
    for script in (run / "report" / "assets").glob("*.js"):
        assert "innerHTML" not in script.read_text() and "eval(" not in script.read_text()


def test_long_names_of_crops_fit_a_file_system(tmp_path):
    images = [f"{'漢' * 60}/{'漢' * 83}{i}.png" for i in range(3)] + [
        "a/" + "x" * 250 + ".jpg",
        "b/" + "x" * 250 + ".jpg",
    ]
    names = crop_names(images, ["class"] * 5, ["train"] * 5)
    assert len(set(names)) == 5
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(tmp_path / name, b"picture", durable=True)
    assert len(list((tmp_path / "train" / "class").iterdir())) == 5


@pytest.mark.parametrize("name", ["é" * 127, "a" * 255, "漢" * 85])
def test_a_file_whose_name_is_as_long_as_may_be_is_written_whole(tmp_path, name):
    write_atomic(tmp_path / name, b"x")
    assert os.listdir(tmp_path) == [name]
