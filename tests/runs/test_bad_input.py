"""Annotations and pictures as they come: bad ones are named and set aside, none stops a run."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from heatcrop.cli import commands
from heatcrop.cli.config import Config
from heatcrop.cli.config_file import read_config
from heatcrop.cli.loading import open_data
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


def odd_pictures(folder):
    """Pictures that are unusual and fine: file name -> upright size."""
    rng = np.random.default_rng(1)
    rgb = Image.fromarray(noise(rng))
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("L").save(folder / "grey.jpg")
    Image.fromarray(rng.integers(0, 65536, (40, 48)).astype(np.uint16)).save(folder / "deep.png")
    rgb.convert("RGBA").save(folder / "clear.png")
    Image.fromarray(noise(rng, 20_000, 9)).save(folder / "strip.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    rgb.save(folder / "turned.jpg", exif=exif)
    rgb.save(folder / "wrong name.txt", "PNG")
    rgb.save(folder / "ümläut | a,b.jpg")
    sizes = dict.fromkeys(["cmyk.jpg", "grey.jpg", "deep.png", "clear.png", "wrong name.txt"], (48, 40))
    return {**sizes, "ümläut | a,b.jpg": (48, 40), "strip.png": (20_000, 9), "turned.jpg": (40, 48)}


def bad_pictures(folder):
    """Files that cannot be used: name -> a word of the reason."""
    rng = np.random.default_rng(2)
    Image.fromarray(noise(rng, 200, 200)).save(folder / "cut.jpg")
    data = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2])
    Image.fromarray(noise(rng, 200, 200)).save(folder / "cut.png")
    data = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    (folder / "words.jpg").write_text("this is no picture")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "folder.jpg").mkdir()
    Image.fromarray(noise(rng, 1, 1)).save(folder / "dot.png")
    return {
        "cut.jpg": "cut off",
        "cut.png": "damaged",
        "words.jpg": "is not a picture",
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
    (",beak,hooked", "no picture"),
    ("pics/0.jpg", "column"),
    ("pics/0.jpg,beak,hooked,train,,extra", "column"),
]


@pytest.fixture
def dataset(tmp_path):
    """A folder with good, odd and bad rows in one CSV file with a byte order mark and Windows line ends."""
    (tmp_path / "data" / "pics").mkdir(parents=True)
    pics = tmp_path / "data" / "pics"
    good = [",".join(row) for row in draw_good(pics)]
    odd, bad = odd_pictures(pics), bad_pictures(pics)
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


def test_each_bad_row_is_set_aside_with_file_row_and_reason(dataset, tmp_path):
    root, n_good, odd, reasons = dataset
    folder = RunFolder(tmp_path / "run")
    opened = open_data(config_of(root), [], folder)
    data = opened.tasks["beak"]
    assert len(data) == n_good + len(odd)
    table = pd.read_csv(folder.rejected, dtype=str, keep_default_na=False)
    assert list(table.columns) == ["image", "task", "source", "reason"]
    found = dict(zip(table["source"], table["reason"], strict=True))
    assert set(found) == {f"annotations.csv:{row}" for row in reasons}
    for row, words in reasons.items():
        assert words in found[f"annotations.csv:{row}"], (row, found[f"annotations.csv:{row}"])
    assert any("rejected.csv" in note and str(len(reasons)) in note for note in opened.notes)


def test_odd_pictures_are_used_with_their_upright_size(dataset):
    root, _, odd, _ = dataset
    data = open_data(config_of(root), [], None).tasks["beak"]
    sizes = {
        image.removeprefix("pics/"): tuple(size)
        for image, size in zip(data.images, data.sizes.tolist(), strict=True)
    }
    assert {name: sizes[name] for name in odd} == odd


def test_too_many_rejected_rows_stop_before_training(dataset, tmp_path):
    root, n_good, odd, reasons = dataset
    bad, total = len(reasons), n_good + len(odd) + len(reasons)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunError) as caught:
        open_data(config_of(root, max_rejected_share=0.02), [], folder)
    text = str(caught.value)
    assert f"{bad} of {total} rows" in text and f"{bad / total:.1%}" in text and "2.0%" in text
    assert "annotations.csv:" in text and str(folder.rejected) in text and "data.max_rejected_share=" in text
    assert folder.rejected.is_file()  # the list is there to be worked through
    suggested = float(text.rpartition("=")[2])
    assert open_data(config_of(root, max_rejected_share=suggested), [], folder).tasks
    assert open_data(config_of(root, max_rejected_share=0.02), [], None, strict=False).tasks


def test_asking_for_one_task_keeps_its_rejected_rows_however_they_are_spelled(tmp_path):
    root = tmp_path / "data"
    (root / "pics").mkdir(parents=True)
    rows = [",".join(row) for row in draw_good(root / "pics")]
    rows += [f"pics/{i}.jpg,tail_length_labels,{'yn' if i % 2 else 'ny'}" for i in range(8)]
    rows += ["pics/x.jpg,TAIL,yn", "pics/y.jpg,tail_length_labels,yn", "pics/z.jpg,beak,hooked"]
    (root / "a.csv").write_text("\n".join(["image,task,label", *rows]))
    tasks = [TASKS[0], {**TASKS[1], "name": "tail_length_labels"}]
    opened = open_data(config_of(root, tasks=tasks), ["tail"], None)
    assert list(opened.tasks) == ["tail_length_labels"]
    assert opened.rejected["image"].tolist() == ["pics/x.jpg", "pics/y.jpg"]


def test_the_survey_is_kept_and_notices_changes(dataset, tmp_path, monkeypatch):
    root, *_ = dataset
    folder = RunFolder(tmp_path / "run")
    first = open_data(config_of(root), [], folder)
    looked = []
    import heatcrop.cli.loading as module

    original = module.survey_images
    monkeypatch.setattr(
        module, "survey_images", lambda paths, *a: (looked.extend(paths), original(paths, *a))[1]
    )
    again = open_data(config_of(root), [], folder)
    assert looked == [] and again.tasks["beak"].images == first.tasks["beak"].images
    pd.testing.assert_frame_equal(
        again.rejected.reset_index(drop=True), first.rejected.reset_index(drop=True)
    )
    (root / "pics" / "words.jpg").write_bytes((root / "pics" / "1.jpg").read_bytes())
    mended = open_data(config_of(root), [], folder)
    assert [p.rsplit("/", 1)[1] for p in looked] == ["words.jpg"]
    assert "pics/words.jpg" in mended.tasks["beak"].images
    folder.survey.write_text("path,bytes\nrubbish")
    assert open_data(config_of(root), [], folder).tasks["beak"].images == mended.tasks["beak"].images


def labelled(tmp_path, labels):
    (tmp_path / "pics").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    lines = ["image,task,label"]
    for i, label in enumerate(labels):
        Image.fromarray(noise(rng)).save(tmp_path / "pics" / f"{i}.png")
        lines.append(f"pics/{i}.png,beak,{label}")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    return tmp_path


def test_inferred_classes_may_be_spread_over_roots(tmp_path):
    """One folder holds two classes of a task, another folder a third."""
    roots = []
    for name, labels in (("one", ["hooked", "straight"] * 6), ("two", ["broad", "hooked"] * 6)):
        (tmp_path / name).mkdir()
        roots.append(str(labelled(tmp_path / name, labels)))
        for picture in (tmp_path / name / "pics").iterdir():
            picture.rename(picture.with_name(f"{name}{picture.name}"))
        table = tmp_path / name / "a.csv"
        table.write_text(table.read_text().replace("pics/", f"pics/{name}"))
    config = config_of(tmp_path, tasks="infer", roots=roots)
    data = open_data(config, [], None).tasks["beak"]
    assert data.task.classes == ("broad", "hooked", "straight") and len(data) == 24
    assert np.bincount(data.letters.argmax(axis=1)).tolist() == [6, 12, 6]


def test_a_class_with_one_picture_is_kept(tmp_path):
    root = labelled(tmp_path, ["hooked"] * 6 + ["straight"] * 6 + ["broad"])
    data = open_data(config_of(root), [], None).tasks["beak"]
    assert len(data) == 13
    assert sorted(np.bincount(data.letters.argmax(axis=1)).tolist()) == [1, 6, 6]


def test_limit_per_class_counts_the_class_and_not_its_maybes(tmp_path):
    root = labelled(tmp_path, ["ynn", "ymn", "ynm", "ymm", "nyn", "myn", "nym", "nny"])
    data = open_data(config_of(root, limit_per_class=2), [], None).tasks["beak"]
    assert np.bincount(data.letters.argmax(axis=1)).tolist() == [2, 2, 1]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["hooked"] * 8, ["beak", "of 1 classes", "at least two"]),
        (["?"] * 8, ["beak", "0 labelled"]),
        (["nnn"] * 8, ["none of the 8 rows", "a.csv:2", "has no y"]),
        ([], ["a.csv", "no row with a picture"]),
    ],
)
def test_data_that_cannot_be_learned_from_is_told(tmp_path, labels, words):
    with pytest.raises(DataError) as caught:
        open_data(config_of(labelled(tmp_path, labels)), [], None)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_all_pictures_bad_is_told(tmp_path):
    root = labelled(tmp_path, ["hooked", "straight"] * 3)
    for path in (root / "pics").iterdir():
        path.write_bytes(b"x")
    with pytest.raises(RunError, match=r"6 of 6 rows.*100\.0%"):
        open_data(config_of(root, max_rejected_share=0.5), [], None)
    with pytest.raises(DataError, match="no task has a usable picture"):
        open_data(config_of(root), [], None)


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
def test_a_csv_that_is_none_is_told(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_data(config_of(tmp_path / "a.csv"), [], None)
    assert "\n" not in str(caught.value)


PIECES = [
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
def few_pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    (root / "pics").mkdir()
    draw_good(root / "pics", 2)
    return root


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.booleans())
@settings(deadline=None, max_examples=150)
def test_no_csv_raises_anything_but_a_told_error(few_pictures, text, with_header):
    text = ("image,task,label\n" if with_header else "") + text
    (few_pictures / "a.csv").write_bytes(text.encode("utf-8"))
    try:
        opened = open_data(config_of(few_pictures / "a.csv"), [], None)
    except HeatCropError as error:
        assert str(error)
    else:
        assert all(len(data) for data in opened.tasks.values())


def test_a_run_over_all_of_it(dataset, tmp_path, monkeypatch, capsys):
    """Tasks inferred, odd pictures trained on, bad ones set aside, and the run predicts them all again."""
    root, n_good, odd, reasons = dataset
    # Without a list of classes, labels are names: letters could mean anything.
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
                "network": {"frozen_blocks": -1, "input_px": 64},
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
    assert code == 0 and "words.jpg" in text and "cut.jpg" in text
    assert len(pd.read_csv(tmp_path / "p.csv")) == n_good + len(odd) - 1  # .txt is no picture's name
