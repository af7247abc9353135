"""Predict unlabelled images from a finished run, and score and export it."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from heatcrop.data.images import read_image, write_jpeg
from heatcrop.data.tasks import resolve
from heatcrop.nets.inference import open_network
from tests.tiny_run import TASKS, TEST_PER_CLASS, parse_probabilities

NECK = TASKS[0]
COLUMNS = ["image", "task", "class", "confidence", "probabilities"]


@pytest.fixture(scope="module")
def unlabelled(tiny_home, tmp_path_factory):
    """A folder with two good images, a large portrait, and files that are none."""
    folder = tmp_path_factory.mktemp("unlabelled")
    (folder / "sub").mkdir()
    tested = sorted((tiny_home / "data" / "rank" / "Images" / NECK).glob("*.jpg"))
    shutil.copy(tested[0], folder / "a.jpg")
    shutil.copy(tested[1], folder / "sub" / "b.jpg")
    write_jpeg(folder / "tall.jpg", cv2.resize(read_image(tested[2]), (300, 700)))
    (folder / "bad.jpg").write_bytes(b"not an image")
    (folder / "notes.txt").write_text("not an image either")
    return folder


@pytest.fixture
def predict(call, finished_run, tmp_path):
    """Give a prediction with the finished run; it returns the table and what was printed."""

    def command(source, *words):
        out = tmp_path / "predictions.csv"
        code, printed = call("predict", source, "--run", finished_run, "--out", out, *words)
        assert code == 0, printed
        return pd.read_csv(out, dtype=str, keep_default_na=False), printed

    return command


def values(table):
    return parse_probabilities(table["probabilities"])


def test_each_image_of_a_folder_is_predicted_for_each_task(predict, unlabelled):
    table, _ = predict(unlabelled, "--no-gallery")
    assert list(table.columns) == COLUMNS
    found = sorted(zip(table["image"], table["task"], strict=True))
    assert found == sorted((image, task) for image in ("a.jpg", "sub/b.jpg", "tall.jpg") for task in TASKS)


def test_class_and_confidence_are_those_of_the_largest_probability(predict, unlabelled):
    table, _ = predict(unlabelled, "--no-gallery")
    p = values(table)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    assert table["confidence"].tolist() == [f"{row.max():.8f}" for row in p]
    classes = [resolve(task).classes for task in table["task"]]
    assert table["class"].tolist() == [names[row.argmax()] for names, row in zip(classes, p, strict=True)]


@pytest.mark.parametrize(("engine", "name"), [("onnx", "ONNX Runtime"), ("mxnet", "MXNet")])
def test_the_speed_is_reported(predict, unlabelled, engine, name):
    _, printed = predict(unlabelled, "--engine", engine, "--no-gallery")
    found = re.search(r"3 images for 2 tasks in .*: ([\d.]+) images a second with (.*)", printed)
    assert found, printed
    assert float(found[1]) > 0
    assert re.fullmatch(rf"{name} \d+\.\d+\.\d+", found[2])


def test_an_unreadable_image_is_reported_and_other_files_are_not(predict, unlabelled):
    _, printed = predict(unlabelled, "--no-gallery")
    assert "bad.jpg" in printed
    assert "could not be read" in printed
    assert "notes.txt" not in printed


def test_images_that_a_csv_names_are_predicted_once(predict, unlabelled):
    listed = unlabelled / "list.csv"
    listed.write_text("\ufeffnote,image\r\nx,sub\\b.jpg\r\ny,a.jpg\r\nz,a.jpg\r\nw,missing.jpg\r\n")
    table, printed = predict(listed, "--task", "neck", "--no-gallery")
    listed.unlink()
    assert table["image"].tolist() == ["sub/b.jpg", "a.jpg"]
    assert "missing.jpg: " in printed


def test_an_image_is_predicted_alone_as_among_others(predict, unlabelled):
    together, _ = predict(unlabelled, "--task", "neck", "--no-gallery")
    alone, _ = predict(unlabelled / "a.jpg", "--task", "neck", "--no-gallery")
    np.testing.assert_allclose(values(alone), values(together[together["image"] == "a.jpg"]), atol=1e-5)


def test_a_gallery_is_written_beside_the_predictions(predict, unlabelled, tmp_path):
    table, printed = predict(unlabelled)
    page = tmp_path / "predictions_gallery" / "index.html"
    assert page.name in printed
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.S)[1])
    for task in data["tasks"]:
        own = table[table["task"] == task["name"]]
        assert [row["name"] for row in task["rows"]] == own["image"].tolist()
        assert [task["classes"][row["top"][2]] for row in task["rows"]] == own["class"].tolist()
        assert all((page.parent / row["thumb"]["file"]).is_file() for row in task["rows"])


def test_files_of_a_user_in_the_gallery_stay(predict, unlabelled, tmp_path):
    predict(unlabelled)
    page = tmp_path / "predictions_gallery" / "index.html"
    content = page.rename(page.parent / "mine.html").read_bytes()
    predict(unlabelled)
    assert (page.parent / "mine.html").read_bytes() == content
    assert page.is_file()


def test_without_a_gallery_none_is_written(predict, unlabelled, tmp_path):
    predict(unlabelled, "--no-gallery")
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


def test_both_engines_predict_the_same(predict, unlabelled):
    onnx, mxnet = (values(predict(unlabelled, "--engine", e, "--no-gallery")[0]) for e in ("onnx", "mxnet"))
    np.testing.assert_allclose(onnx, mxnet, atol=1e-4)


def test_fast_prediction_passes_each_network_once(predict, unlabelled, monkeypatch):
    passes = []

    def open_counting(*arguments):
        run = open_network(*arguments)
        # A pass of zeros asks for the shape of the features.
        return lambda x: passes.append(len(x) * bool(x.any())) or run(x)

    monkeypatch.setattr("heatcrop.predict.predictor.open_network", open_counting)
    # Of three images: the frozen part for the full image and for the crop, and each branch's own part.
    table, _ = predict(unlabelled, "--engine", "onnx", "--task", "neck", "--no-gallery", "--fast")
    assert sum(passes) == 4 * 3
    assert sorted(table["image"]) == ["a.jpg", "sub/b.jpg", "tall.jpg"]


def test_fast_prediction_is_close_to_the_other(predict, unlabelled):
    fast, both = (predict(unlabelled, "--no-gallery", *words)[0] for words in (["--fast"], []))
    assert np.abs(values(fast) - values(both)).mean() < 0.1
    assert not np.array_equal(values(fast), values(both))


def test_test_images_are_predicted_as_in_the_run(predict, tiny_home, finished_run):
    table, _ = predict(tiny_home / "data" / "rank" / "Images" / NECK, "--task", "neck", "--no-gallery")
    fused = pd.read_csv(finished_run / NECK / "stage3" / "fused.csv")
    fused = fused.assign(image=fused["image"].map(lambda image: Path(image).name)).set_index("image")
    assert len(table) == TEST_PER_CLASS * 5
    # The run's cached features have half precision; each prediction is as close as that allows.
    np.testing.assert_allclose(values(table), values(fused.loc[table["image"]]), atol=4e-3)


def test_a_prediction_can_be_scored(predict, call, tiny_home, tmp_path):
    table, _ = predict(tiny_home / "data" / "rank", "--no-gallery")
    own = [Path(image).parts[1] == task for image, task in zip(table["image"], table["task"], strict=True)]
    table[own].to_csv(tmp_path / "own.csv", index=False)
    answers = tiny_home / "data" / "rank" / "Tests" / "answer.csv"
    code, printed = call("score", tmp_path / "own.csv", answers, "--json")
    assert code == 0, printed
    assert set(json.loads(printed)["tasks"]) == set(TASKS)


# --- score


@pytest.fixture
def figures(call, tiny_home, finished_run):
    answers = tiny_home / "data" / "rank" / "Tests" / "answer.csv"
    code, printed = call("score", finished_run / "submission.csv", answers, "--json")
    assert code == 0, printed
    return json.loads(printed)


def test_the_score_of_the_submission_is_that_of_the_run(figures, finished_run):
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert set(figures) == {"map", "basic_precision", "tasks"}
    assert figures["map"] == pytest.approx(metrics["mean"]["fused"]["map"])
    for task, found in figures["tasks"].items():
        fused = metrics["tasks"][task]["fused"]
        assert found["ap"] == pytest.approx(fused["map"])
        assert found["basic_precision"] == pytest.approx(fused["basic_precision"])
        assert found["n"] == TEST_PER_CLASS * 5


def test_the_score_is_printed_for_people(call, figures, tiny_home, finished_run):
    answers = tiny_home / "data" / "rank" / "Tests" / "answer.csv"
    code, printed = call("score", finished_run / "submission.csv", answers)
    assert code == 0
    assert f"{figures['map']:.4f}" in printed
    assert NECK in printed


def test_scored_images_that_the_run_was_trained_with_are_counted(call, tiny_home, finished_run, tmp_path):
    labels = (tiny_home / "data/base/Annotations/label.csv").read_text().splitlines()
    rows = [line.split(",") for line in labels if NECK in line][:2]
    tested = (tiny_home / "data/rank/Tests/answer.csv").read_text().splitlines()
    rows += [line.split(",") for line in tested if NECK in line][:1]
    (tmp_path / "answers.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    (tmp_path / "own.csv").write_text("".join(f"{image},{task},1;0;0;0;0\n" for image, task, _ in rows))
    words = ("score", tmp_path / "own.csv", tmp_path / "answers.csv")
    code, printed = call(*words, "--run", finished_run)
    assert code == 0, printed
    assert "2 of the 3 answered images were used to train" in " ".join(printed.split())
    assert "used to train" not in call(*words)[1]


# --- report


def test_the_report_is_written_again(call, run_copy):
    page = run_copy / "report" / "index.html"
    page.unlink()
    (run_copy / "metrics.json").unlink()
    code, printed = call("report", "--run", run_copy)
    assert code == 0, printed
    assert (run_copy / "metrics.json").is_file()
    text = page.read_text()
    assert "neck" in text
    assert "lapel" in text
    assert not re.search(r"(src|href)=[\"'](https?:)?//", text), "it must open without a network"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"thesis.txt": "mine"}, "not an export's"),
        ({"heatcrop.json": '{"tasks": "a list of things to do"}'}, "was not written by this program"),
    ],
)
def test_an_export_does_not_write_among_other_files(call, finished_run, tmp_path, content, expected):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    code, printed = call("export", "--run", finished_run, "--out", tmp_path)
    assert code == 1
    assert expected in " ".join(printed.split())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == content
