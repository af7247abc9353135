"""An export can be run by hand, as ``heatcrop.json`` describes it."""

import contextlib
import hashlib
import json
import shutil

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from heatcrop.cli.prediction import read_trained_run
from heatcrop.data.images import read_image
from heatcrop.data.tasks import resolve
from heatcrop.errors import RunError
from heatcrop.metrics.calibration import softmax
from heatcrop.predict.description import read_description
from heatcrop.predict.trained_run import export_run
from heatcrop.runs.folder import RunFolder
from heatcrop.training.views import View, framed, sample
from tests.tiny_run import SIDE_PX, TASKS

NECK = TASKS[0]


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "export"
    export_run(read_trained_run(RunFolder(finished_run)), out)
    return out


@pytest.fixture(scope="module")
def description(exported):
    return json.loads((exported / "heatcrop.json").read_text())


def run_network(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"data": x}), strict=True))


def test_the_description_names_tasks_input_rule_and_fusion(description):
    assert set(description["tasks"]) == set(TASKS)
    assert (description["input"]["fit"], description["input"]["side_px"]) == ("pad", 96)
    task = description["tasks"][NECK]
    assert task["classes"] == list(resolve("neck").classes)
    assert 0 <= task["fusion"]["weight"] <= 1
    assert task["crop_rule"]["threshold"] == 0.8


def test_trunk_network_and_softmax_give_the_runs_predictions(exported, description, tiny_home, finished_run):
    form, task = description["input"], description["tasks"][NECK]
    table = pd.read_csv(finished_run / NECK / "stage1" / "predictions.csv")
    row = table[table["split"] == "test"].iloc[0]
    image = read_image(tiny_home / "data" / "rank" / row["image"])
    base = framed((0, 0, SIDE_PX, SIDE_PX), form["fit"])
    views = [base, View(base.x0, base.y0, base.x1, base.y1, True)]
    x = np.stack(
        [sample(image, view, form["side_px"]) for view in views[: 1 + task["full"]["views"]["flip"]]]
    )
    x = ((x.astype(np.float32) / 255 - form["mean"]) / form["std"]).transpose(0, 3, 1, 2).astype(np.float32)
    features = run_network(exported / description["trunk"], x)["features"]
    full = run_network(exported / task["full"]["network"], features)
    assert list(full) == description["outputs"] == ["logits", "maps"]
    expected = np.array(row["probabilities"].split(";"), float)
    np.testing.assert_allclose(softmax(full["logits"].mean(axis=0)), expected, atol=5e-3)
    assert run_network(exported / task["crop"]["network"], features)["logits"].shape == (len(x), 5)


@pytest.fixture
def own_export(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "export")


def test_every_file_of_an_export_has_its_hash(exported, description):
    files = {path.name for path in exported.iterdir()}
    assert set(description["sha256"]) == files
    for name in files - {"heatcrop.json"}:
        assert description["sha256"][name] == hashlib.sha256((exported / name).read_bytes()).hexdigest()


FILES = ["trunk.onnx", *(f"{task}.stage{n}.onnx" for task in TASKS for n in (1, 3)), "MODEL_CARD.md"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_file_with_one_other_byte_is_refused(own_export, name, share):
    path = own_export / name
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match=f"{name}: was changed since the export.*export the run again"):
        read_description(own_export / "heatcrop.json")


def test_a_description_with_one_other_byte_is_refused(own_export):
    """At 300 places: of white space, names, numbers, and hashes, and throughout the key of the hashes.

    The last of a number's 17 digits may be another one of the same number, which changes nothing.
    """
    path = own_export / "heatcrop.json"
    content, same = path.read_bytes(), 0
    key = content.index(b'"sha256"')
    for at in [*np.linspace(0, len(content) - 2, 300).astype(int), *range(key, key + 8)]:
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        with contextlib.suppress(ValueError):
            if json.loads(changed) == json.loads(content):
                same += 1
                continue
        with pytest.raises(RunError):
            read_description(path)
    assert same < 5


def test_a_missing_file_of_an_export_is_named(own_export):
    (own_export / "MODEL_CARD.md").unlink()
    with pytest.raises(RunError, match="MODEL_CARD.md: .* it is missing"):
        read_description(own_export / "heatcrop.json")


def test_predict_verifies_an_export_first(call, own_export, tmp_path):
    path = own_export / f"{NECK}.stage3.onnx"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    out = tmp_path / "answers.csv"
    code, printed = call("predict", "data/rank", "--run", own_export, "--out", out, "--no-gallery")
    assert code == 1
    assert "was changed since the export" in " ".join(printed.split())
    assert not out.exists()


def test_the_card_has_the_scores_of_the_run(exported, finished_run):
    card = (exported / "MODEL_CARD.md").read_text(encoding="utf-8")
    metrics = json.loads((finished_run / "metrics.json").read_text())
    for name, found in metrics["tasks"].items():
        assert f"| {name} | {found['n']} | {found['full']['map']:.3f} | {found['crop']['map']:.3f}" in card
        low, high = (found["fused_interval"][end] for end in ("low", "high"))
        assert f" | {found['fused']['map']:.3f} ({low:.3f} to {high:.3f}) | " in card
    assert f"## Scores on {metrics['split']}" in card
    assert card.count(": not stated\n") == 3


def test_the_card_states_the_terms_that_are_given(call, run_copy, tmp_path):
    """They are part of what is hashed: a card that is changed later is refused."""
    terms = (
        "--licence",
        "CC BY 4.0",
        "--data-licence",
        "our own | all rights",
        "--contact",
        "shop@example.org",
    )
    code, printed = call("export", "--run", run_copy, "--out", tmp_path / "e", *terms)
    assert code == 0, printed
    card = (tmp_path / "e" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "- Of the weights: CC BY 4.0\n" in card
    assert "- Of the training images: our own \\| all rights\n" in card
    assert "- Contact: shop@example.org\n" in card
    read_description(tmp_path / "e" / "heatcrop.json")
