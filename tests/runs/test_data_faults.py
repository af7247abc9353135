"""Common faults of data sets, which `check` finds and `run` survives; names that could do harm."""

import json
import os
import shutil

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
# Names with a bidirectional mark, markup, non-ASCII letters, great length, a device and dots.
ODD_NAMES = ("‮gpj.exe.jpg", "&amp;<b>.jpg", "é́.jpg", "漢" * 80 + ".jpg", "con.jpg", "...jpg", "ü | a,b.jpg")
REJECTED = ("../../etc/passwd", "/etc/passwd", "pics/link.jpg", "pics/cut.jpg")
WINGS = 12 + len(ODD_NAMES) + 6


def noise(rng, width=48, height=40):
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Write three tasks with every known fault, and odd images and names that are none."""
    home = tmp_path_factory.mktemp("faults")
    pics = home / "data" / "pics"
    pics.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []

    def add(name, task, label, split="", image=None, form="JPEG", **options):
        (image or noise(rng)).save(pics / name, form, **options)
        rows.append(("pics/" + name, task, label, split))

    for i in range(8):
        add(f"beak{i}.jpg", "beak", (EVIL, "straight")[i % 2], "train")
    for i, label in enumerate((EVIL, "straight", "only tested")):
        add(f"tested{i}.jpg", "beak", label, "test")
        add(f"chosen{i}.jpg", "beak", ("straight", EVIL)[i % 2], "val")
    shutil.copy(pics / "beak0.jpg", pics / "twin.jpg")
    rows.append(("pics/twin.jpg", "beak", "straight", "train"))  # the same image with two labels
    shutil.copy(pics / "beak1.jpg", pics / "leak.jpg")
    rows.append(("pics/leak.jpg", "beak", "straight", "test"))  # the same image in train and test
    for i in range(4):
        add(f"tail{i}.jpg", "tail", "?")  # a task without labels
    for i in range(12):
        add(f"wing{i}.jpg", "wing", ("striped", "plain")[i % 2])
    for name in ODD_NAMES:
        add(name, "wing", "plain")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    deep = Image.fromarray(rng.integers(0, 65536, (40, 48)).astype(np.uint16))
    add("cmyk.jpg", "wing", "plain", image=noise(rng).convert("CMYK"))
    add("deep.png", "wing", "plain", image=deep, form="PNG")
    add("clear.png", "wing", "plain", image=noise(rng).convert("RGBA"), form="PNG")
    add("strip.png", "wing", "plain", image=noise(rng, 20_000, 9), form="PNG")
    add("rotated.jpg", "wing", "plain", exif=exif)
    add("wrong name.txt", "wing", "plain", form="PNG")
    (pics / "cut.jpg").write_bytes((pics / "beak0.jpg").read_bytes()[:700])
    os.symlink("/etc/hostname", pics / "link.jpg")
    rows += [(image, "wing", "plain", "") for image in REJECTED]
    table = pd.DataFrame(rows, columns=["image", "task", "label", "split"])
    table.to_csv(home / "data" / "annotations.csv", index=False)
    (home / "faults.yaml").write_text(json.dumps(CONFIG))
    return home


@pytest.fixture(scope="module")
def command(call):
    """Give a command with the data; it returns its exit code and output in one line."""

    def command(*words):
        code, printed = call(*words, "--config", "faults.yaml", "--data", "data")
        return code, " ".join(printed.split())

    return command


@pytest.fixture(scope="module")
def checked(command):
    return command("check", "--no-speed")


@pytest.fixture(scope="module")
def finished(home, command, tmp_path_factory, no_plots):
    """Run all tasks; return the run folder, the output, and the files in the data folder before."""
    run, before = tmp_path_factory.mktemp("out") / "run", sorted(home.rglob("*"))
    code, text = command("run", "--all", "--out", run, "--jobs", "1")
    assert code == 0, text
    return run, text, before


FAULTS_OF_TASKS = (
    "beak: tested but never trained on: only tested",
    "beak: classes without a training ",
    "skipped: tail: 0 labelled training",
)


@pytest.mark.parametrize(
    "message",
    [
        *FAULTS_OF_TASKS,
        "1 image byte-identical in two splits, for instance pics/leak.jpg (test) and pics/beak1.jpg (train)",
        "1 image under two labels, for instance pics/twin.jpg (nynn) and pics/beak0.jpg (ynnn)",
        "the path leaves the data folder",
        "the path is absolute",
        "leads out of the data folder",
        "9 problems found",
    ],
)
def test_check_finds_every_known_fault(checked, message):
    assert message in checked[1]


def test_check_of_faulty_data_exits_with_1(checked):
    assert checked[0] == 1


def test_a_task_that_cannot_be_trained_is_refused_by_name(command, tmp_path):
    code, text = command("run", "--task", "tail", "--out", tmp_path / "run")
    assert code == 1
    assert "error: tail: 0 labelled training" in text


@pytest.mark.parametrize("message", FAULTS_OF_TASKS)
def test_run_reports_the_faults_of_tasks(finished, message):
    assert message in finished[1]


def test_run_makes_folders_for_trained_tasks_only(finished):
    folders = {path.name for path in finished[0].iterdir() if path.is_dir()}
    assert folders == {"beak", "wing", "trunk", "cache", "report"}


def test_run_scores_the_trained_tasks(finished):
    assert set(json.loads((finished[0] / "metrics.json").read_text())["tasks"]) == {"beak", "wing"}


def test_every_image_has_a_box(finished):
    boxes = pd.read_csv(finished[0] / "wing" / "boxes.csv", keep_default_na=False)
    assert len(boxes) == WINGS
    upright = boxes[boxes["image"] == "pics/rotated.jpg"]
    assert upright[["x0", "y0", "x1", "y1"]].to_numpy()[0, 2:].max() <= 48


def test_every_image_has_a_crop_in_the_crop_folder(finished):
    crops = [path for path in (finished[0] / "wing" / "crops").rglob("*") if path.is_file()]
    assert [path.suffix for path in crops] == [".jpg"] * WINGS


def test_run_leaves_the_data_folder_alone(home, finished):
    assert sorted(home.rglob("*")) == finished[2]


def test_run_lists_the_rejected_images(finished):
    assert set(pd.read_csv(finished[0] / "rejected.csv")["image"]) == set(REJECTED)


def test_odd_images_are_predicted_and_bad_ones_reported(home, call, finished, tmp_path):
    out = tmp_path / "p.csv"
    code, text = call("predict", "data/pics", "--run", finished[0], "--out", out, "--task", "wing")
    assert code == 0, text
    images = {path.name for path in (home / "data" / "pics").iterdir() if path.suffix in (".jpg", ".png")}
    assert set(pd.read_csv(out)["image"]) == images - {"cut.jpg", "link.jpg", "...jpg"}
    assert "cut.jpg" in text


def test_long_names_of_crops_fit_a_file_system(tmp_path):
    images = [f"{'漢' * 60}/{'漢' * 83}{i}.png" for i in range(3)]
    images += ["a/" + "x" * 250 + ".jpg", "b/" + "x" * 250 + ".jpg"]
    names = crop_names(images, ["class"] * 5, ["train"] * 5)
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(tmp_path / name, b"image", durable=True)
    assert len(list((tmp_path / "train" / "class").iterdir())) == 5


@pytest.mark.parametrize("name", ["é" * 127, "a" * 255, "漢" * 85])
def test_a_file_with_the_longest_possible_name_is_written(tmp_path, name):
    write_atomic(tmp_path / name, b"x")
    assert os.listdir(tmp_path) == [name]
