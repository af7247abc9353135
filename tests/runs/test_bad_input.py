"""Bad annotations and images are reported and rejected when the data is loaded."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from heatcrop.cli import loading
from heatcrop.cli.config import Config
from heatcrop.cli.loading import load_dataset
from heatcrop.errors import DataError, RunError, UsageError
from heatcrop.runs.folder import RunFolder

CLASSES = ["hooked", "straight", "broad"]
TASKS = [
    {"name": "beak", "classes": CLASSES},
    {"name": "tail", "classes": ["long", "short"], "kind": "length"},
]
GOOD = 12
BAD_ROWS = [
    ("pics/0.jpg,beak,nnn", "has no y"),
    ("pics/0.jpg,wing,yn", "unknown task 'wing'"),
    ("pics/0.jpg,beak,broad", "duplicate of"),
    ("../secret.jpg,beak,hooked", "leaves the data folder"),
    ("pics/cut.jpg,beak,hooked", "cut off"),
    ("pics/words.jpg,beak,hooked", "is not an image"),
    ("pics/missing.jpg,beak,hooked", "missing"),
]
N_ROWS = GOOD + len(BAD_ROWS)


def draw(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(folder / name)


@pytest.fixture
def root(tmp_path):
    """Write good and bad rows in one CSV file with a byte order mark and Windows line ends."""
    pics = tmp_path / "data" / "pics"
    draw(pics, [f"{i}.jpg" for i in range(GOOD)])
    (pics / "cut.jpg").write_bytes((pics / "0.jpg").read_bytes()[:700])
    (pics / "words.jpg").write_text("this is no image")
    good = [f"pics/{i}.jpg,beak,{CLASSES[i % 3]}" for i in range(GOOD)]
    text = "\r\n".join(["image,task,label", *good, *(row for row, _ in BAD_ROWS)])
    (tmp_path / "data" / "annotations.csv").write_bytes(f"\ufeff{text}\r\n".encode())
    return tmp_path / "data"


def config_of(root, **data):
    data = {"source": "files", "roots": [str(root)], "tasks": TASKS, "max_rejected_share": 1.0, **data}
    return Config.model_validate({"data": data})


def test_each_bad_row_is_rejected_with_file_row_and_reason(root, tmp_path):
    folder = RunFolder(tmp_path / "run")
    loaded = load_dataset(config_of(root), [], folder)
    assert len(loaded.tasks["beak"]) == GOOD
    table = pd.read_csv(folder.rejected, dtype=str, keep_default_na=False)
    assert list(table.columns) == ["image", "task", "source", "reason"]
    found = dict(zip(table["source"], table["reason"], strict=True))
    expected = {f"annotations.csv:{GOOD + 2 + i}": reason for i, (_, reason) in enumerate(BAD_ROWS)}
    assert set(found) == set(expected)
    assert {row: found[row] for row, part in expected.items() if part not in found[row]} == {}
    assert loaded.notes == [f"{len(BAD_ROWS)} rows rejected, see rejected.csv"]
    assert load_dataset(config_of(root), [], None).notes == []  # without a run folder there is no such file


@pytest.fixture
def too_many_rejected(root, tmp_path):
    """Load the data with a bound below the share of bad rows; return the folder and the error."""
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunError) as caught:
        load_dataset(config_of(root, max_rejected_share=0.02), [], folder)
    return folder, str(caught.value)


def test_too_many_rejected_rows_are_counted_in_the_error(too_many_rejected):
    share = len(BAD_ROWS) / N_ROWS
    assert f"{len(BAD_ROWS)} of {N_ROWS} rows" in too_many_rejected[1]
    assert f"{share:.1%}, more than the allowed 2.0%" in too_many_rejected[1]


def test_too_many_rejected_rows_are_listed_in_a_file(too_many_rejected):
    folder, message = too_many_rejected
    assert str(folder.rejected) in message
    assert folder.rejected.is_file()


def test_a_file_that_is_not_written_is_not_named(root, tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunError, match="check lists the reasons; fix them") as caught:
        load_dataset(config_of(root, max_rejected_share=0.02), [], folder, keep=False)
    assert str(folder.path) not in str(caught.value)
    assert load_dataset(config_of(root), [], folder, keep=False).notes == []


def test_the_error_for_too_many_rejected_rows_suggests_a_bound_that_works(root, too_many_rejected):
    folder, message = too_many_rejected
    _, found, suggested = message.partition("data.max_rejected_share=")
    assert found
    assert load_dataset(config_of(root, max_rejected_share=float(suggested)), [], folder).tasks


def test_too_many_rejected_rows_are_allowed_in_a_check(root):
    assert load_dataset(config_of(root, max_rejected_share=0.02), [], None, strict=False).tasks


def test_the_rejected_rows_of_one_task_are_found_in_any_spelling(root):
    rows = [f"pics/{i}.jpg,tail_length_labels,{'yn' if i % 2 else 'ny'}" for i in range(8)]
    rows += ["pics/x.jpg,TAIL,yn", "pics/y.jpg,tail_length_labels,yn", "pics/z.jpg,beak,hooked"]
    (root / "annotations.csv").write_text("\n".join(["image,task,label", *rows]))
    tasks = [TASKS[0], {**TASKS[1], "name": "tail_length_labels"}]
    loaded = load_dataset(config_of(root, tasks=tasks), ["tail"], None)
    assert list(loaded.tasks) == ["tail_length_labels"]
    assert loaded.rejected["image"].tolist() == ["pics/x.jpg", "pics/y.jpg"]


# --- images are surveyed once


@pytest.fixture
def surveyed(root, tmp_path, monkeypatch):
    """Load the data once; return what loads them again, the images surveyed since, and the survey."""
    folder, names, original = RunFolder(tmp_path / "run"), [], loading.survey_images
    first = load_dataset(config_of(root), [], folder)

    def survey_images(paths, *rest):
        names.extend(Path(path).name for path in paths)
        return original(paths, *rest)

    monkeypatch.setattr(loading, "survey_images", survey_images)
    return first, lambda: load_dataset(config_of(root), [], folder), names, folder.survey


def test_images_are_surveyed_only_once(surveyed):
    first, load_again, names, _ = surveyed
    again = load_again()
    assert names == []
    assert again.tasks["beak"].images == first.tasks["beak"].images
    assert again.rejected.to_csv(index=False) == first.rejected.to_csv(index=False)


def test_a_changed_image_is_surveyed_again(root, surveyed):
    _, load_again, names, _ = surveyed
    (root / "pics" / "words.jpg").write_bytes((root / "pics" / "1.jpg").read_bytes())
    fixed = load_again()
    assert names == ["words.jpg"]
    assert "pics/words.jpg" in fixed.tasks["beak"].images


def test_a_damaged_survey_is_made_again(surveyed):
    first, load_again, names, survey = surveyed
    survey.write_text("path,bytes\ndamaged")
    assert load_again().tasks["beak"].images == first.tasks["beak"].images
    assert names


# --- classes, and data that cannot be used


def labelled(root, labels, start=0):
    """Write an image and a row for each label."""
    names = [f"{start + i}.png" for i in range(len(labels))]
    draw(root / "pics", names)
    rows = [f"pics/{name},beak,{label}" for name, label in zip(names, labels, strict=True)]
    (root / "a.csv").write_text("\n".join(["image,task,label", *rows]))
    return root


def class_counts(data):
    return np.bincount(data.letters.argmax(axis=1)).tolist()


def test_inferred_classes_are_collected_from_all_roots(tmp_path):
    one = labelled(tmp_path / "one", ["hooked", "straight"] * 6)
    two = labelled(tmp_path / "two", ["broad", "hooked"] * 6, start=12)
    config = config_of(tmp_path, tasks="infer", roots=[str(one), str(two)])
    data = load_dataset(config, [], None).tasks["beak"]
    assert data.task.classes == ("broad", "hooked", "straight")
    assert class_counts(data) == [6, 12, 6]


def test_a_class_with_one_image_is_kept(tmp_path):
    root = labelled(tmp_path, ["hooked"] * 6 + ["straight"] * 6 + ["broad"])
    assert class_counts(load_dataset(config_of(root), [], None).tasks["beak"]) == [6, 6, 1]


def test_limit_per_class_ignores_the_m_of_a_label(tmp_path):
    root = labelled(tmp_path, ["ynn", "ymn", "ynm", "ymm", "nyn", "myn", "nym", "nny"])
    loaded = load_dataset(config_of(root, limit_per_class=2), [], None)
    assert class_counts(loaded.tasks["beak"]) == [2, 2, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["hooked"] * 8, "beak: .* of 1 class; at least two"),
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


def test_a_list_that_excludes_a_class_of_two_is_named(tmp_path):
    draw(tmp_path / "data", [f"{i}.jpg" for i in range(8)])
    rows = [f"{i}.jpg,tail,{('long', 'short')[i % 2]},train" for i in range(8)]
    (tmp_path / "data/annotations.csv").write_text("\n".join(["image,task,label,split", *rows]) + "\n")
    (tmp_path / "bad.csv").write_text("image\n1.jpg\n3.jpg\n5.jpg\n7.jpg\n")
    config = config_of(tmp_path / "data", excluded=[str(tmp_path / "bad.csv")], val_share=0)
    with pytest.raises(
        DataError, match=r"4 labelled training images of 1 class.*; 4 rows left out .* by data\.excluded"
    ):
        load_dataset(config, ["tail"], None)


@pytest.mark.parametrize("wanted", [[], ["beak"]])
def test_a_class_too_few_is_the_error_whatever_else_is_wrong(tmp_path, wanted):
    root = labelled(tmp_path, ["hooked"] * 8)
    (tmp_path / "bad.csv").write_text("image\ngone.jpg\n")
    config = config_of(root, excluded=[str(tmp_path / "bad.csv")])
    with pytest.raises(DataError, match=r"^beak: .* of 1 class; at least two"):
        load_dataset(config, wanted, None, strict=False)


@pytest.fixture
def opposite(tmp_path):
    """Two tasks: the first tests on the images that the second trains on, and the other way round."""
    draw(tmp_path, [f"{i}.jpg" for i in range(8)])
    splits = ["train"] * 4 + ["test"] * 4
    rows = ["image,task,label,split"]
    for task, of_task in (("beak", splits), ("tail", splits[::-1])):
        rows += [f"{i}.jpg,{task},{'yn' if i % 2 else 'ny'},{split}" for i, split in enumerate(of_task)]
    (tmp_path / "annotations.csv").write_text("\n".join(rows) + "\n")
    tasks = [{"name": "beak", "classes": ["hooked", "straight"]}, TASKS[1]]
    return lambda **options: load_dataset(
        config_of(tmp_path, tasks=tasks).changed("network", **options), [], None
    )


def test_tasks_that_hold_out_all_images_of_each_other_share_no_network(opposite):
    with pytest.raises(DataError, match=r"^beak: .* of 0 classes are left for the shared network"):
        opposite(shared_trunk=True)


def test_tasks_that_hold_out_all_images_of_each_other_have_networks_of_their_own(opposite):
    assert list(opposite(shared_trunk=False).tasks) == ["beak", "tail"]


def test_changes_for_a_task_that_is_not_inferred_are_refused_before_training(tmp_path):
    draw(tmp_path / "data", ["0.jpg", "1.jpg"])
    text = "image,task,label\n0.jpg,tail,long\n1.jpg,tail,short\n"
    (tmp_path / "data/annotations.csv").write_text(text)
    data = {"source": "files", "roots": [str(tmp_path / "data")], "tasks": "infer"}
    config = Config.model_validate({"data": data, "tasks": {"tial": {"cam": {"views": 2}}}})
    with pytest.raises(UsageError, match="tasks.tial: no task is named 'tial'; there are: tail"):
        load_dataset(config, [], None, strict=False)


def test_every_image_of_a_misspelt_class_folder_counts_as_rejected(tmp_path):
    for i in range(30):
        draw(tmp_path / "beak" / ("hooked", "straight", "braod")[i % 3], [f"{i}.jpg"])
    config = config_of(tmp_path / "beak", max_rejected_share=0.05)
    with pytest.raises(RunError, match=r"10 of 30 rows .* its folder 'braod' is no class of beak: hooked"):
        load_dataset(config, ["beak"], None)
