"""Label Studio's exports: choices, shapes, annotators who disagree, and paths of images."""

import json

import pytest

from heatcrop.data.readers import read_annotations
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError
from tests.unit.builders import reasons_of, regions_of, rows_of, touch

WING = Task("wing", ("plain", "striped"))
BEAK = Task("beak", ("hooked", "long"))


def choice(task, *classes, **more):
    return {"from_name": task, "to_name": "image", "type": "choices", "value": {"choices": classes}, **more}


def rectangle(control, label, x, y, width, height, rotation=0, **more):
    """Make a rectangle in percent of an image of 200x100 pixels."""
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation}
    value["rectanglelabels"] = [label]
    size = {"original_width": 200, "original_height": 100}
    return {"from_name": control, "type": "rectanglelabels", "value": value, **size, **more}


def task(image, *annotations, **more):
    """Make a task of an image, given the results of each annotator."""
    results = [{"result": list(results), "was_cancelled": False} for results in annotations]
    return {"data": {"image": image, **more}, "annotations": results, "predictions": []}


def write(root, *tasks, images=("1.jpg", "2.jpg", "3.jpg")):
    touch(root, *images)
    (root / "export.json").write_text(json.dumps(tasks))
    return root


def read(root, *tasks):
    return read_annotations([write(root, *tasks)], [WING, BEAK])


def test_choices_are_classes_of_the_control_and_rectangles_are_true_regions(tmp_path):
    found = read(
        tmp_path,
        # A region of its own; labelled with the task; its own class.
        task("1.jpg", [choice("wing", "striped", id="r"), rectangle("part", "left", 10, 20, 25, 30, id="r")]),
        task("2.jpg", [choice("wing", "plain"), rectangle("part", "wing", 0, 0, 50, 50)], split="train"),
        task("3.jpg", [rectangle("beak", "hooked", 90, 90, 20, 20)]),
    )
    assert rows_of(found) == [
        ("1.jpg", "wing", "ny", ""),
        ("2.jpg", "wing", "yn", "train"),
        ("3.jpg", "beak", "yn", ""),
    ]
    assert regions_of(found) == [
        ("1.jpg", "wing", 20, 20, 70, 50),
        ("2.jpg", "wing", 0, 0, 100, 50),
        ("3.jpg", "beak", 180, 90, 200, 100),  # is cut off at the image's edges
    ]
    assert found.rejected.empty


def test_a_turned_rectangle_gets_the_box_around_it(tmp_path):
    # 200x100 pixels: the corner is at (100, 20), the sides are 40 and 20, turned by a quarter clockwise.
    found = read(
        tmp_path, task("1.jpg", [choice("wing", "plain"), rectangle("p", "wing", 50, 20, 20, 20, 90)])
    )
    assert regions_of(found) == [("1.jpg", "wing", 80, 20, 100, 60)]


def test_annotators_who_agree_are_one_and_those_who_differ_are_rejected(tmp_path):
    found = read(
        tmp_path,
        task(
            "1.jpg",
            [choice("wing", "plain"), rectangle("p", "wing", 0, 0, 10, 10)],
            [choice("wing", "plain"), rectangle("p", "wing", 0, 0, 20, 20)],
        ),
        task("2.jpg", [choice("wing", "plain"), choice("beak", "long")], [choice("wing", "striped")]),
        task("3.jpg", [choice("wing", "plain", "striped")]),
    )
    assert rows_of(found) == [("1.jpg", "wing", "yn", ""), ("2.jpg", "beak", "ny", "")]
    assert regions_of(found) == [("1.jpg", "wing", 0, 0, 40, 20)]
    different = "its annotations have different classes of wing: plain, striped; keep one of them"
    assert reasons_of(found) == {"export.json:tasks[1]": different, "export.json:tasks[2]": different}


def test_the_ground_truth_overrides_other_annotations(tmp_path):
    one = task("1.jpg", [choice("wing", "plain")], [choice("wing", "striped")])
    one["annotations"][1]["ground_truth"] = True
    assert rows_of(read(tmp_path, one)) == [("1.jpg", "wing", "ny", "")]


def test_cancelled_annotations_are_skipped_and_counted(tmp_path):
    cancelled = task("2.jpg", [choice("wing", "striped")])
    cancelled["annotations"][0]["was_cancelled"] = True
    found = read(tmp_path, task("1.jpg", [choice("wing", "plain")]), cancelled)
    assert rows_of(found) == [("1.jpg", "wing", "yn", ""), ("2.jpg", "wing", "", "test")]
    assert "1 annotation skipped, since cancelled, for instance export.json:tasks[1]" in found.notes


def test_tasks_are_inferred_and_other_results_are_counted(tmp_path):
    rating = {"from_name": "p", "type": "rating", "value": {"rating": 4}}
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    tasks = [
        task("1.jpg", [choice("wing", "plain"), rating, relation]),
        task("2.jpg", [choice("wing", "striped")]),
        {"data": {"image": "3.jpg"}, "predictions": [{"result": []}]},
    ]
    assert read_annotations([write(tmp_path, *tasks)], None).tasks == (WING,)
    found = read(tmp_path, *tasks)
    assert found.notes[:3] == [
        "1 result of type rating not read, for instance export.json:tasks[0]",
        "1 result of type relation not read, for instance export.json:tasks[0]",
        "1 task with predictions alone, which are no labels, for instance export.json:tasks[2]",
    ]


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("/data/upload/1/0a1b2c3d-bird.jpg", "photos/bird.jpg"),
        ("/data/upload/1/0a1b2c3d-other.jpg", "0a1b2c3d-other.jpg"),
        ("/data/local-files/?d=home%2Fme%2Fphotos%2Fbird.jpg", "photos/bird.jpg"),
        ("/data/local-files/?d=deep/a%20b.jpg", "deep/a b.jpg"),
        ("photos/bird.jpg", "photos/bird.jpg"),
        ("https://example.org/x/deep/a%20b.jpg?token=1", "deep/a b.jpg"),
        ("s3://bucket/bird.jpg", "photos/bird.jpg"),
        ("gs://bucket/photos/bird.jpg", "photos/bird.jpg"),
        ("/tasks/3/resolve/?fileuri=czM6Ly9idWNrZXQvcGhvdG9zL2JpcmQuanBn", "photos/bird.jpg"),
        ("/data/upload/0a1b2c3d-my_bird_1.jpg", "my bird (1).jpg"),
    ],
)
def test_an_image_is_found_below_the_root(tmp_path, text, image):
    names = ("photos/bird.jpg", "0a1b2c3d-other.jpg", "deep/a b.jpg", "my bird (1).jpg")
    touch(tmp_path, *names)
    assert [row[0] for row in rows_of(read(tmp_path, task(text, [choice("wing", "plain")])))] == [image]


def test_the_choice_of_a_region_of_another_shape_has_no_box(tmp_path):
    ellipse = {"x": 1, "y": 2, "radiusX": 3, "radiusY": 4, "rotation": 0}
    labels = {"from_name": "part", "id": "e", "type": "ellipselabels"}
    chosen = choice("wing", "plain", id="e")
    results = [{**labels, "value": {**ellipse, "ellipselabels": ["left"]}}, chosen]
    chosen["value"] |= ellipse
    found = read(tmp_path, task("1.jpg", results))
    assert rows_of(found) == [("1.jpg", "wing", "yn", "")]
    assert found.regions.empty


def test_boxes_without_the_images_size_are_counted(tmp_path):
    box = rectangle("p", "wing", 0, 0, 10, 10, original_width=None)
    found = read(tmp_path, task("1.jpg", [choice("wing", "plain"), box]))
    assert found.regions.empty
    assert any("1 box not used, without original_width and original_height" in note for note in found.notes)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"data": {"text": "no image"}}, "its data names no image"),
        ({"annotations": []}, "data: is missing"),
        ("x", "is 'x'; expected a valid dictionary"),
        (task("2.jpg", [{"from_name": "wing", "type": "choices"}]), "choices: is missing"),
        (task("2.jpg", [{"type": "choices"}]), "a result of type choices has no from_name; expected"),
        (task("2.jpg", [{"value": {}}]), "annotations.0.result.0.type: is missing"),
        (task("2.jpg", [choice("wing", 7)]), "choices.0: is 7; expected a valid string"),
        (task("2.jpg", [rectangle("p", "wing", "a", 0, 1, 1)]), "x: is 'a'; expected a valid number"),
        (task("2.jpg", [rectangle("p", "wing", 1e300, 0, 1, 1)]), "x: is 1e+300; expected at most 10,000"),
        (task("2.jpg", [rectangle("p", "wing", float("nan"), 0, 1, 1)]), "x: is nan; expected"),
        (task("2.jpg", [rectangle("p", "wing", 0, 0, 0, 1)]), "has no area inside the image"),
        (task("nowhere.jpg", [choice("wing", "plain")]), "the image is missing: there is no nowhere.jpg"),
        pytest.param(task("a/" * 300_000, [choice("wing", "plain")]), "more than 100 folders", id="deep"),
    ],
)
def test_a_task_that_cannot_be_used_is_rejected_alone(tmp_path, bad, reason):
    found = read(tmp_path, task("1.jpg", [choice("wing", "plain")]), bad)
    assert rows_of(found) == [("1.jpg", "wing", "yn", "")]
    assert reason in reasons_of(found)["export.json:tasks[1]"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"data": ', "is not valid JSON (EOF while parsing"),
        ("{}", "is no list; expected Label Studio's export"),
        ('[{"data": ' + "[" * 10**5, "is not valid JSON (recursion limit"),
    ],
)
def test_a_file_that_is_no_export_is_an_error_in_one_line(tmp_path, text, message):
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(DataError) as error:
        read_annotations([tmp_path / "export.json"], [WING], "labelstudio")
    assert f"export.json: {message}" in str(error.value)


def test_of_several_exports_one_must_be_chosen(tmp_path):
    root = write(tmp_path, task("1.jpg", [choice("wing", "plain")]))
    (root / "older.json").write_text((root / "export.json").read_text())
    with pytest.raises(DataError, match=r"several files could .* \(export.json, older.json\)"):
        read_annotations([root], [WING])
    assert len(rows_of(read_annotations([root / "older.json"], [WING]))) == 1


@pytest.mark.parametrize(
    ("kind", "value", "box"),
    [
        ("polygonlabels", {"points": [[10, 20], [30, 25], [20, 90.4]], "closed": True}, (20, 20, 60, 90)),
        ("ellipselabels", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 30}, (80, 20, 120, 80)),
        # Radii of 20 and 30 pixels, turned by a quarter.
        (
            "ellipselabels",
            {"x": 50, "y": 50, "radiusX": 10, "radiusY": 30, "rotation": 90},
            (70, 30, 130, 70),
        ),
        ("brushlabels", {"format": "rle", "rle": [0, 1]}, None),
        ("keypointlabels", {"x": 5, "y": 5, "width": 0.5}, None),
        ("polygonlabels", {"points": []}, None),
    ],
)
@pytest.mark.parametrize("form", ["JSON", "JSON-MIN"])
def test_the_box_around_another_shape_is_a_true_region(tmp_path, kind, value, box, form):
    value = {**value, kind: ["hooked"]}
    size = {"original_width": 200, "original_height": 100}
    one = task("1.jpg", [{"from_name": "beak", "type": kind, "value": value, **size}])
    if form == "JSON-MIN":
        one = short("1.jpg", 1, beak=[{**value, **size}])
    found = read(tmp_path, one)
    assert rows_of(found) == [("1.jpg", "beak", "yn", "")]
    assert [region[2:] for region in regions_of(found)] == [box] * (box is not None)


# --- JSON-MIN


def short(image, number, **results):
    """Make a task of JSON-MIN, as the program writes its keys."""
    after = {"annotator": 1, "annotation_id": 10 + number, "created_at": "2024-01-01", "lead_time": 2.5}
    return {"image": image, "photographer": f"person {number}", "id": number, **results, **after}


def test_the_short_export_has_the_same_labels_and_regions_as_the_long_one(tmp_path):
    box = {"x": 10, "y": 20, "width": 25, "height": 30, "rotation": 0, "rectanglelabels": ["wing"]}
    box |= {"original_width": 200, "original_height": 100}
    found = read(
        tmp_path,
        short("/data/upload/1/0a1b2c3d-1.jpg", 1, wing="striped", part=[box]),
        short("/data/local-files/?d=birds/2.jpg", 2, wing="plain", beak="hooked"),
        short("3.jpg", 3, wing={"choices": ["plain", "striped"]}, beak=["long"]),
    )
    assert rows_of(found) == [
        ("1.jpg", "wing", "ny", ""),
        ("2.jpg", "beak", "yn", ""),
        ("2.jpg", "wing", "yn", ""),
        ("3.jpg", "beak", "ny", ""),
    ]
    assert regions_of(found) == [("1.jpg", "wing", 20, 20, 70, 50)]
    different = "its annotations have different classes of wing: plain, striped; keep one of them"
    assert reasons_of(found) == {"export.json:tasks[2]": different}


def test_tasks_of_the_short_export_are_inferred_from_its_results_alone(tmp_path):
    tasks = [short("1.jpg", 1, wing="plain", note="a very long remark"), short("2.jpg", 2, wing="striped")]
    tasks += [short("3.jpg", 3, wing="plain", note="and yet another one")]
    found = read_annotations([write(tmp_path, *tasks)], None)
    assert found.tasks == (WING,)
    (note,) = (note for note in found.notes if "left out" in note)
    assert note.startswith("export.json: the results of 'note' are left out, since they hold another value")


def test_several_annotations_of_the_short_export_are_of_one_image(tmp_path):
    found = read(
        tmp_path,
        short("1.jpg", 1, wing="plain"),
        short("1.jpg", 1, wing="plain"),
        short("2.jpg", 2, wing="plain"),
        short("2.jpg", 2, wing="striped"),
    )
    assert rows_of(found) == [("1.jpg", "wing", "yn", "")]
    assert list(reasons_of(found).values()) == [
        "its annotations have different classes of wing: plain, striped; keep one of them"
    ]


def test_an_entry_of_the_short_export_has_its_number_in_the_file(tmp_path):
    found = read(
        tmp_path,
        short("1.jpg", 1, wing="plain"),
        short("1.jpg", 1, wing="plain"),
        short("9.jpg", 9, wing="plain"),
    )
    assert reasons_of(found) == {"export.json:tasks[2]": "the image is missing: there is no 9.jpg"}
