"""Finished runs of which an editor, a copy or a disk has damaged a file: told in one line, and made again."""

import json
import shutil
from pathlib import Path

import pytest

from heatcrop.files import write_json
from heatcrop.runs.fingerprint import is_current, vouched
from tests.tiny_run import TASKS, differences, make_project, make_reference

TASK = TASKS[0]
HELP = "delete it, and python pipeline.py run --all makes it again"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("damaged")
    make_project(home)
    return home


@pytest.fixture(scope="module")
def undisturbed(home):
    return make_reference(home, 2)


@pytest.fixture
def run(home, undisturbed):
    """A copy of the finished run that a test may damage."""
    out = Path(shutil.copytree(home / "reference2", home / "run"))
    yield out
    shutil.rmtree(out)


@pytest.fixture
def again(call, home, run, monkeypatch):
    """Give the command that made the run once more."""
    monkeypatch.chdir(home)
    return lambda *more: call("run", "--all", "--config", "tiny.yaml", "--out", "run", "--jobs", "2", *more)


def cut(n_bytes):
    return lambda path: path.write_bytes(path.read_bytes()[:n_bytes])


def third_line(text):
    def change(path):
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:2], text, *lines[3:]]) + "\n")

    return change


def words(text):
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("command", "name", "damage", "place"),
    [
        ("report", "stage3/fused.csv", cut(150), ":2: probabilities are ''"),
        ("report", "stage3/fused.csv", third_line("x,y"), ":3: probabilities are ''; expected p1;p2;…"),
        ("report", "stage1/predictions.csv", words("image,split\n"), ":1: has no column class"),
        ("report", "stage3/fused.csv", words("image,split,class,probabilities\n"), ": has no row of 10 "),
        ("report", "boxes.csv", words(""), ": cannot be read as a table"),
        ("report", "boxes.csv", third_line("x,train,1,2,,4,0.1,0.1,,0"), ":3: the box is '1,2,,4'"),
        ("report", "boxes.csv", cut(150), ": has 1 rows; expected 25"),
        ("report", "stage1/history.csv", words(""), ": cannot be read as a table"),
        ("report", "stage3/history.csv", third_line("final,two"), ":3: epoch is 'two'"),
        ("report", "stage1/heatmaps.npy", cut(10), ": is not a complete array"),
        ("report", "stage1/heatmaps.npy", cut(500), ": is not a complete array"),
        ("report", "rule.json", words("{}"), ": holds no crop rule"),
        ("export", "rule.json", words("{}"), ": holds no crop rule"),
        ("export", "stage3/fusion.json", words("[1"), ": is not valid JSON"),
        ("export", "stage3/fusion.json", words('{"weight": null}'), ": weight is None"),
        ("export", "stage3/network.onnx", cut(100), ": cannot be opened as a network"),
        ("export", "../trunk/trunk.onnx", cut(100), ": cannot be opened as a network"),
    ],
)
def test_a_damaged_file_is_told_with_what_helps(call, run, command, name, damage, place):
    damage(run / TASK / name)
    code, text = call(command, "--run", run)
    path = run / "trunk" / "trunk.onnx" if "trunk" in name else run / TASK / name
    assert code == 1 and f"error: {path}{place}" in text and f"{HELP}\n" in text
    assert not (run / "export").exists()


@pytest.mark.parametrize("number", [1, 3])
def test_damaged_weights_are_told_with_the_cause(call, home, run, number):
    weights = run / TASK / f"stage{number}" / "weights.params"
    cut(1000)(weights)
    code, text = call("predict", home / "data", "--run", run, "--out", home / "p.csv", "--engine", "mxnet")
    assert code == 1 and f"error: {weights}: weights do not fit this network (Check failed" in text
    assert text.endswith(f"; {HELP}\n")


def test_what_helps_against_a_damaged_network_depends_on_where_it_lies(call, home, run, tmp_path):
    exported = tmp_path / "exported"
    assert call("export", "--run", run, "--out", exported)[0] == 0
    for folder, name, remedy in (
        (run, f"{TASK}/stage1/network.onnx", HELP),
        (exported, f"{TASK}.stage1.onnx", "export the run again"),
    ):
        cut(100)(folder / name)
        code, text = call("predict", home / "data", "--run", folder, "--out", tmp_path / "p.csv")
        assert code == 1 and f"error: {folder / name}: cannot be opened" in text and f"; {remedy}\n" in text


@pytest.mark.parametrize(
    ("lost", "redone"),
    [
        ("stage3/network.onnx", ["finetune"]),
        ("boxes.csv", ["crop", "finetune"]),
        ("stage1/fold0.params", ["cam", "crop", "finetune"]),
        ("../trunk/trunk.onnx", []),
    ],
)
def test_what_was_cut_short_is_made_again(again, run, undisturbed, lost, redone):
    cut(100)(run / TASK / lost)
    code, text = again("--dry-run")
    assert code == 0 and f"{len(redone)} of 6 stages would run" in text
    if redone:
        assert f"{lost} is damaged (100 bytes instead" in " ".join(text.split())
    code, text = again()
    assert code == 0
    assert [stage for stage in ("cam", "crop", "finetune") if f"neck: {stage} in " in text] == redone, text
    assert differences(run, undisturbed) == []


def test_a_damaged_description_is_made_again(again, run, undisturbed):
    (run / "heatcrop.json").write_text('{"tasks": 3}')
    assert again()[0] == 0
    assert differences(run, undisturbed) == []


def test_markers_of_earlier_versions_stay_valid(again, run):
    for marker in run.glob("**/.[cft]*.json"):
        told = json.loads(marker.read_text())
        assert told.pop("bytes")
        marker.write_text(json.dumps(told))
    (run / "trunk" / ".trunk.json").unlink()
    code, text = again("--dry-run")
    assert code == 0 and "0 of 6 stages would run" in text


def test_a_marker_vouches_for_the_bytes_of_files_and_for_folders_by_name(tmp_path):
    (tmp_path / "crops").mkdir()
    (tmp_path / "a.csv").write_text("abc")
    (tmp_path / "link").symlink_to("a.csv")
    told = vouched(tmp_path, ["a.csv", "crops", "link"])
    assert told == {"files": ["a.csv", "crops", "link"], "bytes": {"a.csv": 3, "link": 3}}
    write_json(tmp_path / ".cam.json", {"fingerprint": "it", **told})
    (tmp_path / "crops" / "1.jpg").write_text("more")
    assert is_current(tmp_path / ".cam.json", "it")
    (tmp_path / "a.csv").write_text("")
    assert not is_current(tmp_path / ".cam.json", "it")
