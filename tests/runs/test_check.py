"""What ``check`` reports of the data, the machine and the cost of a run."""

import dataclasses
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from heatcrop.cli.check import _report_leakage
from heatcrop.cli.config_file import read_config
from heatcrop.cli.estimate import _at_once, _by_stage, _candidates, _Speed
from heatcrop.cli.loading import load_dataset
from heatcrop.data.listing import RUN_HEADER
from heatcrop.runs.progress import console
from heatcrop.timing import Spent
from stage2_crop.plan import CropPlan, SearchPlan
from tests.tiny_run import PER_CLASS, SIDE_PX, TASKS, TEST_PER_CLASS, file_stamps
from tests.unit.builders import make_data

NECK = TASKS[0]


@pytest.fixture(autouse=True)
def wide_console(monkeypatch):
    monkeypatch.setattr(console, "width", 200)


@pytest.fixture
def check(call):
    return lambda *words: call("check", "--config", "tiny.yaml", *words)


@pytest.fixture
def data_copy(tiny_home, tmp_path):
    return Path(shutil.copytree(tiny_home / "data", tmp_path / "data"))


def test_engines_tasks_and_cost_are_reported_and_nothing_is_written(check, tiny_home):
    before = file_stamps(tiny_home)
    code, printed = check("--set", "runtime.jobs=1")
    assert code == 0, printed
    assert "MXNet 1.9" in printed
    assert "ONNX Runtime" in printed
    assert "neck" in printed
    assert "lapel" in printed
    assert re.search(r"about [\d.]+ (s|min) with 1 task at once, .*; \d+ MB stay", printed)
    for stage in ("cam", "crop", "finetune"):
        assert re.search(rf"{stage} +[\d.]+ (s|min) +[\d.]+ (s|min)", printed)
    assert "free on the disk of runs/tiny" in printed
    assert "no problems found" in printed
    assert file_stamps(tiny_home) == before


def test_only_the_tasks_asked_for_are_reported(check):
    code, printed = check("--task", "neck", "--no-speed")
    assert code == 0
    assert "lapel" not in printed


def test_damaged_and_identical_images_are_problems(check, data_copy):
    first, second = sorted((data_copy / "base" / "Images" / NECK).glob("*.jpg"))[:2]
    first.write_bytes(b"")
    shutil.copy(second, sorted((data_copy / "rank" / "Images" / NECK).glob("*.jpg"))[0])
    code, printed = check("--data", data_copy, "--no-speed")
    assert code == 1
    assert "empty (0 bytes)" in printed
    assert "byte-identical in two splits" in printed
    assert "problems found" in printed


def test_copies_are_compared_with_the_first_of_them_and_unlabelled_ones_by_split_only(tmp_path, monkeypatch):
    paths = [str(tmp_path / str(i)) for i in range(6)]
    for path, content in zip(paths, "ABAABC", strict=True):
        Path(path).write_text(content)
    data = make_data(["train", "train", "train", "val", "test", "val"], classes=("a", "b"), paths=paths)
    data.letters[1] = data.letters[2] = (0, 2)
    data.letters[3], data.letters[4] = (2, 0), (0, 0)
    lines = []
    monkeypatch.setattr("heatcrop.cli.check.log", lines.append)
    assert _report_leakage("beak", data) == 2
    assert lines == [
        "beak: 2 images byte-identical in two splits, for instance 3.jpg (val) and 0.jpg (train)",
        "beak: 1 image under two labels, for instance 2.jpg (ny) and 0.jpg (yn)",
    ]


def test_images_are_counted_by_split_and_class(check, data_copy):
    first, second, third, fourth = sorted((data_copy / "base" / "Images" / NECK).glob("*.jpg"))[:4]
    shutil.copy(first, second)
    for path in (third, fourth):
        path.write_bytes(b"")
    code, printed = check("--data", data_copy, "--task", "neck", "--no-speed")
    assert code == 1
    row = next(line.split() for line in printed.splitlines() if line.startswith(" neck "))
    assert row[-1] == "1", "one copy"
    assert sum(map(int, row[1:4])) == (PER_CLASS + TEST_PER_CLASS) * 5 - 2
    assert f"{SIDE_PX}..{SIDE_PX} px" in printed
    assert "(2 rows, this is the first)" in printed
    bars = [line.split() for line in printed.splitlines() if "━" in line]
    trained = [int(bar[-4]) for bar in bars]
    assert sum(trained) == int(row[1])
    assert [len(bar[-1]) for bar in bars] == [int(np.ceil(16 * n / max(trained))) for n in trained]


@pytest.mark.parametrize(
    ("rare", "n", "reported"),
    [("circel", 1, True), ("Circle ring", 1, False), ("circel", 2, False), ("disc", 1, False)],
)
def test_a_rare_class_with_nearly_the_name_of_another_is_reported(check, tmp_path, rare, n, reported):
    rng = np.random.default_rng(0)
    for name, images in {"circle": 10, "square": 10, rare: n}.items():
        (tmp_path / "shape" / name).mkdir(parents=True)
        for i in range(images):
            cv2.imwrite(
                str(tmp_path / "shape" / name / f"{i}.png"), rng.integers(0, 255, (40, 40, 3), np.uint8)
            )
    code, printed = check("--data", tmp_path / "shape", "--set", "data.tasks=infer", "--no-speed")
    assert code == 0, printed
    assert ("misspelling" in printed) == reported
    if reported:
        assert (
            f"shape: class '{rare}' has 1 image and 'circle' 10; if it is a misspelling, correct" in printed
        )


def test_a_rare_class_that_the_configuration_lists_is_not_taken_for_a_misspelling(check, tmp_path):
    rng = np.random.default_rng(0)
    for name, images in {"collar": 10, "collars": 1}.items():
        (tmp_path / "shape" / name).mkdir(parents=True)
        for i in range(images):
            path = tmp_path / "shape" / name / f"{i}.png"
            cv2.imwrite(str(path), rng.integers(0, 255, (40, 40, 3), np.uint8))
    listed = "data.tasks=[{name: shape, classes: [collar, collars]}]"
    code, printed = check("--data", tmp_path / "shape", "--set", listed, "--no-speed")
    assert code == 0, printed
    assert "misspelling" not in printed


@pytest.mark.parametrize(
    ("classes", "reported"),
    [
        (["hat", "no hat"], "no hat"),
        (["None", "hat"], "None"),
        (["hat", "not_visible"], "not_visible"),
        (["none", "Invisible"], ""),
        (["notch", "nose"], ""),
    ],
)
def test_a_class_of_images_without_the_attribute_is_to_be_called_invisible(
    check, tmp_path, classes, reported
):
    rng = np.random.default_rng(0)
    for name in classes:
        (tmp_path / "shape" / name).mkdir(parents=True)
        for i in range(3):
            path = tmp_path / "shape" / name / f"{i}.png"
            cv2.imwrite(str(path), rng.integers(0, 255, (40, 40, 3), np.uint8))
    code, printed = check("--data", tmp_path / "shape", "--set", "data.tasks=infer", "--no-speed")
    assert code == 0, printed
    printed = " ".join(printed.split())
    assert (f"if class '{reported}' is that of images that do not show" in printed) == bool(reported)
    assert ("call it Invisible" in printed) == bool(reported)


def test_a_disk_that_is_too_small_is_a_problem(check, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    code, printed = check("--task", "neck")
    assert code == 1
    assert "the disk is too small" in printed
    assert "1 problem found" in printed


@pytest.mark.parametrize("words", [(), ("--no-speed",)])
def test_weights_that_are_missing_are_a_problem(check, words):
    code, printed = check("--task", "neck", "--set", "network.weights=nowhere.params", *words)
    assert code == 1
    assert "nowhere.params" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("words", "expected", "reason"),
    [
        (("--out", "data"), 1, "data: has files that are not a run's"),
        (("--out", "new", "--set", "data.excluded=[new/own.csv]"), 1, "this run writes the file again"),
        (("--task", "neck", "--set", "network.shared_trunk=true"), 2, "give --all instead"),
    ],
)
def test_what_a_run_refuses_is_refused(check, words, expected, reason):
    code, printed = check("--no-speed", *words)
    assert code == expected
    assert reason in " ".join(printed.split())


def test_a_run_folder_of_an_earlier_version_is_refused(check, tmp_path):
    (tmp_path / "config.yaml").write_text(RUN_HEADER)
    (tmp_path / "neck").mkdir()
    (tmp_path / "neck" / ".crop.json").write_text('{"fingerprint": ""}')
    code, printed = check("--no-speed", "--out", tmp_path)
    assert code == 1
    assert "neck was made by an earlier version" in " ".join(printed.split())


@pytest.fixture
def counted(tiny_home, monkeypatch):
    """Count the time of each stage of a run of one task, given that of single steps."""
    monkeypatch.chdir(tiny_home)
    config = read_config(Path("tiny.yaml"))
    data = load_dataset(config, ["neck"], None).tasks[NECK]
    nothing = _Speed(Spent(), Spent(), Spent(), Spent(), weights_bytes=0.0, cached_bytes=0.0)
    return data, lambda **speed: _by_stage(config, data, dataclasses.replace(nothing, **speed))


def test_features_of_all_test_views_and_one_training_view_are_counted(counted):
    data, spent = counted
    n, train = len(data), len(data.rows("train"))
    found = spent(cached=Spent(1.0, 2.0))
    # Two test views, plain and mirrored, of all images, and one more of each training image.
    assert found["cam"] == found["finetune"] == Spent(2 * n + train, 2 * (2 * n + train))
    assert found["crop"] == Spent(n, 2 * n)  # zoom: one view of all images


def test_epochs_of_all_networks_are_counted(counted):
    data, spent = counted
    train, val = len(data.rows("train")), len(data.rows("val"))
    # Two epochs of a final network and of two folds', which share the images; a third for a forward pass.
    found = spent(train=Spent(3.0, 3.0))
    expected = 2 * 3 * 2 * train + 2 * 3 * val + 2 * len(data)
    # Probes check the labels of training images: one more forward pass of two views.
    for stage, checked in (("cam", 0), ("finetune", 2 * train)):
        assert found[stage].wall == pytest.approx(expected + checked)
        assert found[stage].cpu == pytest.approx(expected + checked)
    assert found["crop"].wall == pytest.approx(len(data))


def test_a_task_without_a_search_needs_no_probe(counted):
    assert counted[1](probe=Spent(1.0, 1.0))["crop"] == Spent()


def test_the_candidates_of_a_search_are_counted_once():
    search = SearchPlan(
        spreads=(False, True),
        prior_weights=(0, 1, 2),
        thresholds=(0.3, 0.45),
        least_sides=(),
        places=("heatmap",),
    )
    # The start, another spread, two prior weights; the zoomed start, another threshold, no zoom.
    assert _candidates(CropPlan(search=search, zoom=2.0)) == 4 + 3
    # The start, another spread, two prior weights, another threshold.
    assert _candidates(CropPlan(search=search, zoom=0.0)) == 5


def test_reading_and_writing_crops_is_counted(counted):
    data, spent = counted
    assert spent(read=Spent(0.5, 1.0)) == {
        "cam": Spent(),
        "crop": Spent(0.5 * len(data), len(data)),
        "finetune": Spent(),
    }


def test_tasks_at_once_take_as_long_as_the_longest_at_least():
    long = {"cam": Spent(60, 60), "crop": Spent(20, 30), "finetune": Spent(20, 20)}
    short = {"cam": Spent(10, 10), "crop": Spent(10, 10), "finetune": Spent(0, 0)}
    stages = ("cam", "crop", "finetune")
    # One after another: 70, 30 and 20 s, in all 120. Two at once: 60 s, but the longest task takes 100.
    alone, two, bound = (_at_once([long, short], *how) for how in ((1,), (2,), (2, 100.0)))
    assert [alone[stage] for stage in stages] == [Spent(70, 70), Spent(30, 40), Spent(20, 20)]
    assert [two[stage] for stage in stages] == [Spent(35, 70), Spent(15, 40), Spent(10, 20)]
    assert [bound[stage].wall for stage in stages] == pytest.approx([70 / 1.2, 25, 20 / 1.2])
    assert sum(one.cpu for one in bound.values()) == 130


def labelled(folder, rows):
    """Write an image for each ``label,split`` of a task, and their table; return it."""
    (folder / "pics").mkdir()
    lines = ["image,task,label,split"]
    for i, row in enumerate(rows):
        image = np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8)
        cv2.imwrite(str(folder / "pics" / f"{i}.png"), image)
        lines.append(f"pics/{i}.png,wing,{row}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


@pytest.mark.parametrize(("label", "split", "noted"), [("", "", True), ("a", "", False), ("", "test", True)])
def test_an_image_without_a_label_that_becomes_the_test_set_is_noted(call, tmp_path, label, split, noted):
    table = labelled(tmp_path, [f"{label},{split}", *(f"{'ab'[i % 2]}," for i in range(1, 20))])
    code, printed = call("check", "--data", table, "--set", "data.tasks=infer", "--no-speed")
    assert code == 0, printed
    assert ("wing: 1 image without a label is taken as its test set" in printed) == noted


def test_a_class_of_one_image_that_its_network_has_not_seen_is_noted(call, tmp_path):
    table = labelled(tmp_path, [f"{name},train" for name in "ababababababc"])
    words = ("--data", table, "--set", "data.tasks=infer", "--set", "data.val_share=0")
    code, printed = call("check", *words, "--no-speed")
    assert code == 0, printed
    assert "wing: the network that predicts the training images of c has trained on no such image" in printed
