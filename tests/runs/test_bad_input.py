"""Bad annotations and images are reported and rejected, and do not stop a run."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heatcrop.cli import commands, loading
from heatcrop.cli.config import Config
from heatcrop.cli.config_file import read_config
from heatcrop.cli.loading import load_dataset
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError, HeatCropError, RunError
from heatcrop.runs.folder import RunFolder

TASKS = [
    {"name": "beak", "classes": ["hooked", "straight", "broad"]},
    {"name": "tail", "classes": ["long", "short"], "kind": "length"},
]


def noise(rng, width=48, height=40):
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def draw_good(folder, count=12):
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(noise(rng)).save(folder / f"{i}.jpg")
    classes = ["hooked", "straight", "broad"]
    return [(f"pics/{i}.jpg", "beak", classes[i % 3]) for i in range(count)]


def odd_images(folder):
    """Write images that are unusual but usable; return their upright sizes by file name."""
    rng = np.random.default_rng(1)
    rgb = Image.fromarray(noise(rng))
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("L").save(folder / "grey.jpg")
    Image.fromarray(rng.integers(0, 65536, (40, 48)).astype(np.uint16)).save(folder / "deep.png")
    rgb.convert("RGBA").save(folder / "clear.png")
    Image.fromarray(noise(rng, 20_000, 9)).save(folder / "strip.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    rgb.save(folder / "rotated.jpg", exif=exif)
    rgb.save(folder / "wrong name.txt", "PNG")
    rgb.save(folder / "ümläut | a,b.jpg")
    sizes = dict.fromkeys(["cmyk.jpg", "grey.jpg", "deep.png", "clear.png", "wrong name.txt"], (48, 40))
    return {**sizes, "ümläut | a,b.jpg": (48, 40), "strip.png": (20_000, 9), "rotated.jpg": (40, 48)}


def bad_images(folder):
    """Write files that cannot be used; return a part of the reason by file name."""
    rng = np.random.default_rng(2)
    Image.fromarray(noise(rng, 200, 200)).save(folder / "cut.jpg")
    data = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    Image.fromarray(noise(rng, 200, 200)).save(folder / "cut.png")
    data = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    (folder / "words.jpg").write_text("this is no image")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "folder.jpg").mkdir()
    Image.fromarray(noise(rng, 1, 1)).save(folder / "dot.png")
    return {
        "cut.jpg": "cut off",
        "cut.png": "damaged",
        "words.jpg": "is not an image",
        "dot.png": "1 x 1 px",
        "empty.jpg": "empty",
        "folder.jpg": "is a folder",
        "missing.jpg": "missing",
    }


BAD_ROWS = [
    ("pics/0.jpg,beak,nnn", "has no y"),
    ("pics/0.jpg,beak,yyn", "has two y"),
    ("pics/0.jpg,beak,yn", "2 letters"),
    ("pics/0.jpg,beak,yxn", "neither letters"),
    ("pics/0.jpg,beak,curved", "neither letters"),
    ("pics/0.jpg,wing,yn", "unknown task 'wing'"),
    ("pics/0.jpg,beak,hooked", "duplicate of"),
    ("pics/0.jpg,beak,broad", "duplicate of"),
    ("../secret.jpg,beak,hooked", "leaves the data folder"),
    ("pics/../../secret.jpg,beak,hooked", "leaves the data folder"),
    ("C:\\pics\\0.jpg,beak,hooked", "absolute"),
    ("/etc/passwd,beak,hooked", "absolute"),
    (",beak,hooked", "no image"),
    ("pics/0.jpg", "column"),
    ("pics/0.jpg,beak,hooked,train,,extra", "column"),
]


@pytest.fixture
def dataset(tmp_path):
    """Write good, odd and bad rows in one CSV file with a byte order mark and Windows line ends."""
    (tmp_path / "data" / "pics").mkdir(parents=True)
    pics = tmp_path / "data" / "pics"
    good = [",".join(row) for row in draw_good(pics)]
    odd, bad = odd_images(pics), bad_images(pics)
    odd_rows = [f'"pics\\{name}",BEAK,{"nny" if i % 2 else "ynm"}' for i, name in enumerate(odd)]
    bad_rows = [f"pics/{name},beak,hooked" for name in bad]
    lines = ["image,task,label", *good, *odd_rows, *bad_rows, *(row for row, _ in BAD_ROWS)]
    reasons = [*bad.values(), *(reason for _, reason in BAD_ROWS)]
    text = "\ufeff" + "\r\n".join(lines) + "\r\n"
    (tmp_path / "data" / "annotations.csv").write_bytes(text.encode("utf-8"))
    first = 1 + len(good) + len(odd_rows) + 1
    return tmp_path / "data", len(good), odd, dict(enumerate(reasons, first))


def config_of(root, **data):
    data = {"source": "files", "roots": [str(root)], "tasks": TASKS, "max_rejected_share": 1.0, **data}
    return Config.model_validate({"data": data})


def test_each_bad_row_is_rejected_with_file_row_and_reason(dataset, tmp_path):
    root, n_good, odd, reasons = dataset
    folder = RunFolder(tmp_path / "run")
    loaded = load_dataset(config_of(root), [], folder)
    data = loaded.tasks["beak"]
    assert len(data) == n_good + len(odd)
    table = pd.read_csv(folder.rejected, dtype=str, keep_default_na=False)
    assert list(table.columns) == ["image", "task", "source", "reason"]
    found = dict(zip(table["source"], table["reason"], strict=True))
    assert set(found) == {f"annotations.csv:{row}" for row in reasons}
    absent = {row: part for row, part in reasons.items() if part not in found[f"annotations.csv:{row}"]}
    assert absent == {}
    assert any("rejected.csv" in note and str(len(reasons)) in note for note in loaded.notes)


def test_odd_images_are_used_with_their_upright_size(dataset):
    root, _, odd, _ = dataset
    data = load_dataset(config_of(root), [], None).tasks["beak"]
    sizes = dict(zip(data.images, map(tuple, data.sizes.tolist()), strict=True))
    assert {name: sizes[f"pics/{name}"] for name in odd} == odd


@pytest.fixture
def too_many_rejected(dataset, tmp_path):
    """Open the data with a bound below the share of bad rows."""
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunError) as caught:
        load_dataset(config_of(dataset[0], max_rejected_share=0.02), [], folder)
    return folder, str(caught.value)


def test_too_many_rejected_rows_are_counted_in_the_error(dataset, too_many_rejected):
    _, n_good, odd, reasons = dataset
    n_bad = len(reasons)
    n_rows = n_good + len(odd) + n_bad
    message = too_many_rejected[1]
    assert f"{n_bad} of {n_rows} rows" in message
    assert f"{n_bad / n_rows:.1%}, more than the allowed 2.0%" in message


def test_too_many_rejected_rows_are_listed_in_a_file(too_many_rejected):
    folder, message = too_many_rejected
    assert str(folder.rejected) in message
    assert folder.rejected.is_file()


def test_the_error_for_too_many_rejected_rows_suggests_a_bound_that_works(dataset, too_many_rejected):
    folder, message = too_many_rejected
    _, found, suggested = message.partition("data.max_rejected_share=")
    assert found
    assert load_dataset(config_of(dataset[0], max_rejected_share=float(suggested)), [], folder).tasks


def test_too_many_rejected_rows_are_allowed_in_a_check(dataset):
    assert load_dataset(config_of(dataset[0], max_rejected_share=0.02), [], None, strict=False).tasks


def test_the_rejected_rows_of_one_task_are_found_in_any_spelling(tmp_path):
    root = tmp_path / "data"
    (root / "pics").mkdir(parents=True)
    rows = [",".join(row) for row in draw_good(root / "pics")]
    rows += [f"pics/{i}.jpg,tail_length_labels,{'yn' if i % 2 else 'ny'}" for i in range(8)]
    rows += ["pics/x.jpg,TAIL,yn", "pics/y.jpg,tail_length_labels,yn", "pics/z.jpg,beak,hooked"]
    (root / "a.csv").write_text("\n".join(["image,task,label", *rows]))
    tasks = [TASKS[0], {**TASKS[1], "name": "tail_length_labels"}]
    loaded = load_dataset(config_of(root, tasks=tasks), ["tail"], None)
    assert list(loaded.tasks) == ["tail_length_labels"]
    assert loaded.rejected["image"].tolist() == ["pics/x.jpg", "pics/y.jpg"]


@pytest.fixture
def surveyed(dataset, tmp_path, monkeypatch):
    """Open the data once; return what opens them again, and the images surveyed since."""
    root, *_ = dataset
    folder, names = RunFolder(tmp_path / "run"), []
    first = load_dataset(config_of(root), [], folder)
    original = loading.survey_images

    def survey_images(paths, *rest):
        names.extend(Path(path).name for path in paths)
        return original(paths, *rest)

    monkeypatch.setattr(loading, "survey_images", survey_images)
    return first, lambda: load_dataset(config_of(root), [], folder), names, folder


def test_images_are_surveyed_only_once(surveyed):
    first, open_again, names, _ = surveyed
    again = open_again()
    assert names == []
    assert again.tasks["beak"].images == first.tasks["beak"].images
    pd.testing.assert_frame_equal(
        again.rejected.reset_index(drop=True), first.rejected.reset_index(drop=True)
    )


def test_a_changed_image_is_surveyed_again(dataset, surveyed):
    _, open_again, names, _ = surveyed
    pics = dataset[0] / "pics"
    (pics / "words.jpg").write_bytes((pics / "1.jpg").read_bytes())
    fixed = open_again()
    assert names == ["words.jpg"]
    assert "pics/words.jpg" in fixed.tasks["beak"].images


def test_a_damaged_survey_is_made_again(surveyed):
    first, open_again, names, folder = surveyed
    folder.survey.write_text("path,bytes\ndamaged")
    assert open_again().tasks["beak"].images == first.tasks["beak"].images
    assert names


def labelled(tmp_path, labels):
    (tmp_path / "pics").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    lines = ["image,task,label"]
    for i, label in enumerate(labels):
        Image.fromarray(noise(rng)).save(tmp_path / "pics" / f"{i}.png")
        lines.append(f"pics/{i}.png,beak,{label}")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    return tmp_path


def test_inferred_classes_are_collected_from_all_roots(tmp_path):
    roots = []
    for name, labels in (("one", ["hooked", "straight"] * 6), ("two", ["broad", "hooked"] * 6)):
        (tmp_path / name).mkdir()
        roots.append(str(labelled(tmp_path / name, labels)))
        for image in (tmp_path / name / "pics").iterdir():
            image.rename(image.with_name(f"{name}{image.name}"))
        table = tmp_path / name / "a.csv"
        table.write_text(table.read_text().replace("pics/", f"pics/{name}"))
    config = config_of(tmp_path, tasks="infer", roots=roots)
    data = load_dataset(config, [], None).tasks["beak"]
    assert data.task.classes == ("broad", "hooked", "straight")
    assert np.bincount(data.letters.argmax(axis=1)).tolist() == [6, 12, 6]


def test_a_class_with_one_image_is_kept(tmp_path):
    root = labelled(tmp_path, ["hooked"] * 6 + ["straight"] * 6 + ["broad"])
    data = load_dataset(config_of(root), [], None).tasks["beak"]
    assert sorted(np.bincount(data.letters.argmax(axis=1)).tolist()) == [1, 6, 6]


def test_limit_per_class_ignores_the_m_of_a_label(tmp_path):
    root = labelled(tmp_path, ["ynn", "ymn", "ynm", "ymm", "nyn", "myn", "nym", "nny"])
    data = load_dataset(config_of(root, limit_per_class=2), [], None).tasks["beak"]
    assert np.bincount(data.letters.argmax(axis=1)).tolist() == [2, 2, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["hooked"] * 8, "beak: .* of 1 classes; at least two"),
        (["?"] * 8, "beak: 0 labelled"),
        (["nnn"] * 8, "none of the 8 rows .*a.csv:2: .*has no y"),
        ([], "a.csv: no row with an image"),
    ],
)
def test_data_that_cannot_be_trained_on_are_refused(tmp_path, labels, message):
    with pytest.raises(DataError, match=message):
        load_dataset(config_of(labelled(tmp_path, labels)), [], None)


@pytest.mark.parametrize(
    ("allowed", "error", "message"),
    [(0.5, RunError, r"6 of 6 rows.*100\.0%"), (1.0, DataError, "no task has a usable")],
)
def test_data_without_a_good_image_are_refused(tmp_path, allowed, error, message):
    root = labelled(tmp_path, ["hooked", "straight"] * 3)
    for path in (root / "pics").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(error, match=message):
        load_dataset(config_of(root, max_rejected_share=allowed), [], None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x01\x02" * 50,
        b"image;task;label\n0.jpg;beak;hooked\n",
        b"picture,label\n0.jpg,hooked\n",
        "image,task,label\n0.jpg,beak,hooked\n".encode("utf-16"),
        b"image,task,label\n",
    ],
)
def test_a_file_that_is_no_csv_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_dataset(config_of(tmp_path / "a.csv"), [], None)
    assert "\n" not in str(caught.value)


PARTS = [
    "image",
    "task",
    "label",
    "split",
    "group",
    "pics/0.jpg",
    "pics/1.jpg",
    "..",
    "beak",
    "tail",
    "hooked",
    "yn",
    "ynn",
    "y",
    "?",
    "",
    '"',
    ",",
    "\n",
    "\r\n",
    "\ufeff",
    "\\",
    "/",
    "\x00",
    "é",
    " ",
]


@pytest.fixture(scope="module")
def few_images(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    (root / "pics").mkdir()
    draw_good(root / "pics", 2)
    return root


@given(st.lists(st.sampled_from(PARTS), max_size=40).map("".join), st.booleans())
@settings(deadline=None, max_examples=150)
def test_any_csv_is_read_or_refused_with_a_message(few_images, text, with_header):
    text = ("image,task,label\n" if with_header else "") + text
    (few_images / "a.csv").write_bytes(text.encode("utf-8"))
    try:
        loaded = load_dataset(config_of(few_images / "a.csv"), [], None)
    except HeatCropError as error:
        assert str(error)
    else:
        assert all(len(data) for data in loaded.tasks.values())


def test_a_run_with_odd_and_bad_images(dataset, tmp_path, monkeypatch, capsys):
    """Infer the tasks, train on odd images, reject bad ones, and predict all of them with the run."""
    root, n_good, odd, reasons = dataset
    # Labels must be class names where tasks are inferred.
    text = (root / "annotations.csv").read_text(encoding="utf-8-sig")
    lines = [
        line
        for line in text.splitlines()
        if not line.endswith(tuple(",".join(["beak", t]) for t in ("nnn", "yyn", "yn", "yxn", "curved")))
        and ",wing," not in line
    ]
    lines = [line.replace("BEAK,nny", "beak,broad").replace("BEAK,ynm", "beak,hooked") for line in lines]
    (root / "annotations.csv").write_text("\n".join(lines), encoding="utf-8")
    config = tmp_path / "odd.yaml"
    config.write_text(
        json.dumps(
            {
                "data": {"tasks": "infer", "max_rejected_share": 0.9},
                "network": {
                    "backbone": "mobilenet0.25",
                    "weights": "none",
                    "frozen_blocks": -1,
                    "input_px": 32,
                },
                "crop": {"search": {"pictures": 0}},
                "cam": {"training": {"epochs": 1}, "views": 1, "folds": 2},
                "finetune": {"training": {"epochs": 1}, "views": 1},
            }
        )
    )
    out = tmp_path / "run"

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["pipeline.py", *map(str, words)])
        code = commands.main()
        return code, "".join(capsys.readouterr())

    code, text = call("run", "--all", "--config", config, "--data", root, "--out", out, "--jobs", "1")
    assert code == 0, text
    assert len(pd.read_csv(out / "beak" / "boxes.csv")) == n_good + len(odd)
    assert read_config(out / "config.yaml").known_tasks() == (Task("beak", ("broad", "hooked", "straight")),)
    assert len(pd.read_csv(out / "rejected.csv")) == len(reasons) - 6
    code, text = call("predict", root / "pics", "--run", out, "--out", tmp_path / "p.csv")
    assert code == 0
    assert "words.jpg" in text
    assert "cut.jpg" in text
    assert len(pd.read_csv(tmp_path / "p.csv")) == n_good + len(odd) - 1  # .txt is no image's name
