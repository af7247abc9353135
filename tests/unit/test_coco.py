"""COCO documents: classes, tasks, splits and true regions, and what is rejected."""

import json

import pytest

from heatcrop.data.readers import read_annotations
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError
from tests.unit.builders import reasons_of, regions_of, rows_of, touch

WING = Task("wing", ("plain", "striped"))
BEAK = Task("beak", ("hooked", "long"))

CATEGORIES = [
    {"id": 1, "name": "plain", "supercategory": "wing"},
    {"id": 2, "name": "striped", "supercategory": "wing"},
    {"id": 3, "name": "hooked", "supercategory": "beak"},
    {"id": 4, "name": "long", "supercategory": "beak"},
]


def image(number, name=None, **more):
    return {"id": number, "file_name": name or f"{number}.jpg", "width": 100, "height": 80, **more}


def annotation(image_id, category_id, bbox=None, **more):
    boxes = {} if bbox is None else {"bbox": bbox}
    return {"id": 900 + image_id, "image_id": image_id, "category_id": category_id, **boxes, **more}


def write(root, images, annotations, categories=CATEGORIES, file="annotations.json", **more):
    """Write a document, and an empty file for each image beside it; readers never open images."""
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"images": images, "annotations": annotations, "categories": categories, **more}
    path.write_text(json.dumps(document))
    names = [one.get("file_name") for one in images if isinstance(one, dict)]
    touch(path.parent, *filter(None, names))
    return root


def test_supercategories_are_tasks_and_boxes_are_true_regions(tmp_path):
    images = [image(1), image(2), image(3, split="train")]
    annotations = [
        annotation(1, 2, [10, 20, 30, 40]),
        annotation(1, 3, [90, 0, 30, 8.5]),  # is cut off at the image's right edge
        annotation(2, 1),
        annotation(3, 4, [0, 0, 0, 0]),
    ]
    root = write(tmp_path / "birds", images, annotations)
    assert read_annotations([root], None).tasks == (BEAK, WING)
    found = read_annotations([root], None)
    assert rows_of(found) == [
        ("1.jpg", "beak", "yn", ""),
        ("1.jpg", "wing", "ny", ""),
        ("2.jpg", "wing", "yn", ""),
        ("3.jpg", "beak", "ny", "train"),
    ]
    assert regions_of(found) == [("1.jpg", "beak", 90, 0, 100, 8.5), ("1.jpg", "wing", 10, 20, 40, 60)]
    assert found.rejected.empty
    assert found.problems == []


@pytest.mark.parametrize(
    "supercategories", [("", ""), (None, None), ("bird", "bird"), ("none", "x"), ("a", "b")]
)
def test_a_useless_supercategory_gives_way_to_the_folders_name(tmp_path, supercategories):
    categories = [
        {"id": number, "name": name, "supercategory": one}
        for number, name, one in zip((1, 2), WING.classes, supercategories, strict=True)
    ]
    annotations = [annotation(1, 1), annotation(2, 2)]
    root = write(tmp_path / "wing", [image(1), image(2)], annotations, categories)
    assert read_annotations([root], None).tasks == (WING,)
    assert rows_of(read_annotations([root], [WING])) == [
        ("1.jpg", "wing", "yn", ""),
        ("2.jpg", "wing", "ny", ""),
    ]


def test_one_supercategory_is_a_task_where_the_document_declares_it(tmp_path):
    annotations = [annotation(1, 1), annotation(2, 2)]
    root = write(tmp_path / "x", [image(1), image(2)], annotations, info={"supercategory": "task"})
    assert read_annotations([root], None).tasks == (WING,)


def test_text_in_attributes_is_a_class_and_other_values_are_not(tmp_path):
    annotations = [
        annotation(1, 1, [0, 0, 9, 9], attributes={"tail": "long", "occluded": False, "score": 0.5}),
        annotation(2, 2, attributes={"tail": "short"}),
    ]
    found = read_annotations(
        [write(tmp_path / "wing", [image(1), image(2)], annotations, CATEGORIES[:2])], None
    )
    assert [task.name for task in found.tasks] == ["tail", "wing"]
    assert ("1.jpg", "tail", "yn", "") in rows_of(found)
    assert ("1.jpg", "tail", 0, 0, 9, 9) in regions_of(found)
    assert any(note.startswith("2 attributes not read, since the value is no text") for note in found.notes)


def test_of_several_boxes_the_largest_counts_and_several_classes_are_rejected(tmp_path):
    annotations = [
        annotation(1, 1, [0, 0, 5, 5]),
        annotation(1, 1, [10, 10, 20, 20]),
        annotation(2, 1, [0, 0, 5, 5]),
        annotation(2, 2, [0, 0, 5, 5]),
        annotation(2, 3),
        annotation(3, 2),
    ]
    found = read_annotations([write(tmp_path, [image(1), image(2), image(3)], annotations)], [WING, BEAK])
    assert rows_of(found) == [
        ("1.jpg", "wing", "yn", ""),
        ("2.jpg", "beak", "yn", ""),
        ("3.jpg", "wing", "ny", ""),
    ]
    assert regions_of(found) == [("1.jpg", "wing", 10, 10, 30, 30)]
    different = "its annotations have different classes of wing: plain, striped; keep one of them"
    assert reasons_of(found) == {"annotations.json:images[1]": different}
    assert any(note.startswith("1 image with several annotations of one class") for note in found.notes)


def test_an_image_without_annotations_has_no_label_and_is_tested(tmp_path):
    annotations = [annotation(1, 1), annotation(2, 2)]
    images = [image(1), image(2), image(3), image(4, split="train")]
    found = read_annotations([write(tmp_path, images, annotations)], [WING, BEAK])
    assert ("3.jpg", "wing", "", "test") in rows_of(found)
    assert len(rows_of(found)) == 3
    assert any("1 image of train or val not used, without an annotation" in note for note in found.notes)


def test_images_alone_are_tested_for_the_tasks_of_the_categories(tmp_path):
    root = write(tmp_path / "several", [image(1)], [])
    assert rows_of(read_annotations([root], [WING, BEAK])) == [
        ("1.jpg", "beak", "", "test"),
        ("1.jpg", "wing", "", "test"),
    ]
    root = write(tmp_path / "one", [image(1)], [], CATEGORIES[:2])
    assert rows_of(read_annotations([root], [WING])) == [("1.jpg", "wing", "", "test")]


def test_a_box_of_the_full_image_is_no_region(tmp_path):
    found = read_annotations([write(tmp_path, [image(1)], [annotation(1, 1, [0, 0, 100, 80])])], [WING])
    assert found.regions.empty
    assert any("1 box around the full image, not used as true regions" in note for note in found.notes)


def test_the_split_is_in_the_files_name_and_the_images_are_beside(tmp_path):
    for number, part in enumerate(("train2017", "val2017"), 1):
        write(tmp_path, [], [annotation(number, number)], file=f"annotations/instances_{part}.json")
        path = tmp_path / f"annotations/instances_{part}.json"
        document = json.loads(path.read_text())
        document["images"] = [image(number, "same.jpg")]
        path.write_text(json.dumps(document))
        (tmp_path / part).mkdir()
        (tmp_path / part / "same.jpg").write_bytes(part.encode())
        (tmp_path / f"annotations/captions_{part}.json").write_text(json.dumps(document))
    found = read_annotations([tmp_path], [WING])
    assert rows_of(found) == [
        ("same.jpg", "wing", "yn", "train"),
        (f"{tmp_path.name}/val2017/same.jpg", "wing", "ny", "val"),
    ]
    assert any(note.startswith("2 files of other annotations beside instances_") for note in found.notes)
    assert set(found.rows["path"]) == {f"{tmp_path}/{part}/same.jpg" for part in ("train2017", "val2017")}
    alone = read_annotations([tmp_path / "annotations/instances_val2017.json"], [WING])
    assert rows_of(alone) == [("same.jpg", "wing", "ny", "val")]


@pytest.mark.parametrize("name", ["annotations_{}.json", "{}_annotations.json", "coco.{}.json"])
def test_the_split_may_be_a_word_of_the_names_of_several_files(tmp_path, name):
    for number, part in enumerate(("train", "test"), 1):
        write(tmp_path, [image(1)], [annotation(1, number)], file=f"annotations/{name.format(part)}")
        touch(tmp_path, f"{part}/1.jpg")
        (tmp_path / part / "1.jpg").write_text(part)
    (tmp_path / "annotations" / "1.jpg").unlink()
    files = [tmp_path / "annotations" / name.format(part) for part in ("train", "test")]
    for found in (read_annotations([tmp_path], [WING]), read_annotations(files, [WING])):
        assert sorted(row[2:] for row in rows_of(found)) == [("ny", "test"), ("yn", "train")]
        for path, split in zip(found.rows["path"], found.rows["split"], strict=True):
            assert path == f"{tmp_path}/{split}/1.jpg"
    assert [row[2:] for row in rows_of(read_annotations(files[1:], [WING]))] == [("ny", "")]


def test_documents_in_folders_of_splits(tmp_path):
    for number, part in enumerate(("train", "valid"), 1):
        write(
            tmp_path / part, [image(1, f"{part}.jpg")], [annotation(1, number)], file="_annotations.coco.json"
        )
    found = read_annotations([tmp_path], [WING])
    assert rows_of(found) == [("train.jpg", "wing", "yn", "train"), ("valid.jpg", "wing", "ny", "val")]


def test_documents_in_folders_of_renamed_splits(tmp_path):
    for number, part in enumerate(("fold1", "fold2"), 1):
        images = [image(1, f"{part}.jpg")]
        write(tmp_path / part, images, [annotation(1, number)], file="_annotations.coco.json")
    found = read_annotations([tmp_path], [WING], splits={"fold1": "train", "fold2": "test"})
    assert rows_of(found) == [("fold1.jpg", "wing", "yn", "train"), ("fold2.jpg", "wing", "ny", "test")]


def test_a_missing_image_is_not_searched_in_the_folder_of_another_split(tmp_path):
    for part in ("train", "test"):
        images = [image(1, f"{part}.jpg"), image(2)]
        write(tmp_path / part, images, [annotation(1, 1), annotation(2, 2)], file="_annotations.coco.json")
    touch(tmp_path, "train/more/3.jpg", "test/3.jpg")
    (tmp_path / "train" / "2.jpg").unlink()
    path = tmp_path / "train" / "_annotations.coco.json"
    path.write_text(path.read_text().replace('"images": [', f'"images": [{json.dumps(image(3))}, '))
    found = read_annotations([tmp_path], [WING])
    assert rows_of(found) == [
        ("2.jpg", "wing", "ny", "test"),
        ("test.jpg", "wing", "yn", "test"),
        ("train.jpg", "wing", "yn", "train"),
    ]
    missing = "the image is missing: there is no train/2.jpg"
    assert reasons_of(found) == {"train/_annotations.coco.json:images[2]": missing}


def test_an_image_is_found_by_the_end_of_its_path_and_by_its_name(tmp_path):
    touch(tmp_path, "photos/1.jpg", "deep/er/2.jpg", "a/3.jpg", "b/3.jpg")
    images = [image(1, "/home/me/photos/1.jpg"), image(2, "2.jpg"), image(3, "3.jpg"), image(4, "../4.jpg")]
    (tmp_path / "annotations.json").write_text(
        json.dumps(
            {
                "images": images,
                "annotations": [annotation(number, 1) for number in (1, 2, 3, 4)],
                "categories": CATEGORIES,
            }
        )
    )
    found = read_annotations([tmp_path], [WING])
    assert [row[0] for row in rows_of(found)] == ["deep/er/2.jpg", "photos/1.jpg"]
    assert reasons_of(found) == {
        "annotations.json:images[2]": "the image could be any of 2: a/3.jpg, b/3.jpg; write its path",
        "annotations.json:images[3]": "the path leaves the data folder; give one below it",
    }


def test_an_image_that_is_renamed_keeps_its_region(tmp_path):
    for number, name in enumerate(("one", "two"), 1):
        root = write(tmp_path / name, [image(1)], [annotation(1, number, [number, 2, 3, 4])])
        (root / "1.jpg").write_text(name)
    found = read_annotations([tmp_path / "one", tmp_path / "two"], [WING])
    assert regions_of(found) == [("1.jpg", "wing", 1, 2, 4, 6), ("two/1.jpg", "wing", 2, 2, 5, 6)]


def test_a_table_of_true_regions_is_read_in_every_root_and_layout(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "wing" / "plain").mkdir(parents=True)
        (tmp_path / name / "wing" / "plain" / "1.jpg").write_text(name)
    rows = ["wing/plain/1.jpg,wing,1,2,3,4", "wing/plain/2.jpg,wing,1,2,x,4", "3.jpg,wing,,,,"]
    rows += ["4.jpg,wing,1,2,3,4", "1.jpg,toe,1,2,3,4"]
    table = "\n".join(["image,task,x0,y0,x1,y1", *rows])
    (tmp_path / "two" / "boxes_true.csv").write_text(table)
    found = read_annotations([tmp_path / "one", tmp_path / "two"], [WING])
    assert regions_of(found) == [("two/wing/plain/1.jpg", "wing", 1, 2, 3, 4)]
    assert any("1 true region of images that are not used, for" in note for note in found.notes)
    assert any("1 true region of tasks that the run does not" in note for note in found.notes)
    (reason,) = found.rejected["reason"]
    assert reason == "the box 1, 2, x, 4 is not four numbers; expected x0, y0, x1, y1 in pixels"


MANY = "1" + "0" * 400


@pytest.mark.parametrize(
    ("images", "annotations", "source", "reason"),
    [
        ([image(1), {"id": 2}], [], "images[1]", "file_name: is missing"),
        ([image(1), 7], [], "images[1]", "is 7; expected a valid dictionary"),
        ([image(1), image(1, "2.jpg")], [], "images[1]", "has the id of annotations.json:images[0]"),
        ([image(1)], [annotation(5, 1)], "annotations[1]", "image_id 5 is not in images; add it there"),
        ([image(1)], [annotation(1, 9)], "annotations[1]", "category_id 9 is not in categories; add it"),
        ([image(1)], [annotation(1, 3, [1, 2, 3])], "annotations[1]", "bbox has 3 numbers; expected x, y"),
        ([image(1)], [annotation(1, 3, [1, 2, "a", 3])], "annotations[1]", "holds no numbers"),
        (
            [image(1)],
            [annotation(1, 3, [1, 2, float("nan"), 3])],
            "annotations[1]",
            "number that is no pixel",
        ),
        ([image(1)], [annotation(1, 3, [1, 2, int(MANY), 3])], "annotations[1]", "holds no numbers"),
        ([image(1)], [annotation(1, 3, [500, 2, 5, 3])], "annotations[1]", "no area inside the image"),
        ([image(1), image(2, width=int(MANY))], [], "images[1]", "width: is"),
    ],
)
def test_an_entry_that_cannot_be_used_is_rejected_alone(tmp_path, images, annotations, source, reason):
    root = write(tmp_path, images, [annotation(1, 1), *annotations])
    found = read_annotations([root], [WING, BEAK])
    assert ("1.jpg", "wing", "yn", "") in rows_of(found)
    (found_reason,) = [
        text for place, text in reasons_of(found).items() if place == f"annotations.json:{source}"
    ]
    assert reason in found_reason


def test_of_categories_with_one_id_the_first_counts(tmp_path):
    categories = [*CATEGORIES[:2], {**CATEGORIES[0], "name": "spotted"}, CATEGORIES[1]]
    root = write(tmp_path, [image(1), image(2)], [annotation(1, 1), annotation(2, 2)], categories)
    found = read_annotations([root], None)
    assert [task.classes for task in found.tasks] == [WING.classes]
    reason = "category 'spotted' has the id of 'plain', 1; give it its own"
    assert reasons_of(found) == {"annotations.json:categories[2]": reason}


@pytest.mark.parametrize("first", ["images", "annotations"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_document_whose_first_list_is_long_is_recognised(tmp_path, first, indent):
    root = write(
        tmp_path, [image(n) for n in (1, 2)], [annotation(1, 1), annotation(2, 2)], file="birds.json"
    )
    document = json.loads((root / "birds.json").read_text())
    long = {first: [{**document[first][0], "url": "x" * 300_000}, *document[first][1:]]}
    (root / "birds.json").write_text(json.dumps(long | {**document, **long}, indent=indent))
    assert len(rows_of(read_annotations([root], [WING]))) == 2


@pytest.mark.parametrize("n_images", [2, 9000])
def test_a_list_of_other_images_is_no_document(tmp_path, n_images):
    touch(tmp_path, "wing/plain/1.jpg", "wing/striped/2.jpg")
    files = [{"file" if n_images > 2 else "file_name": f"{number:030}.jpg"} for number in range(n_images)]
    (tmp_path / "birds.json").write_text(json.dumps({"images": files}))
    assert len(rows_of(read_annotations([tmp_path], [WING]))) == 2


def test_null_and_empty_values_are_none(tmp_path):
    images = [image(1, split=None), image(2), image(3)]
    annotations = [
        annotation(1, 1, split=None, attributes=[]),
        annotation(2, 2, attributes=None, segmentation=[], bbox=[]),
        annotation(3, 1, attributes=["dirty"]),
    ]
    found = read_annotations([write(tmp_path, images, annotations)], [WING])
    assert rows_of(found) == [
        ("1.jpg", "wing", "yn", ""),
        ("2.jpg", "wing", "ny", ""),
        ("3.jpg", "wing", "yn", ""),
    ]
    assert found.notes == [
        "1 list of attributes not read; expected names with their values, for instance "
        "annotations.json:annotations[2]"
    ]


@pytest.mark.parametrize(
    "fault", [{"category_id": None}, {"category_id": 9}, {"bbox": "0 0 5 5"}, {"bbox": [1, 2, 3]}]
)
def test_an_image_whose_annotation_is_rejected_does_not_count_as_one_without(tmp_path, fault):
    root = write(tmp_path, [image(1), image(2)], [annotation(1, 1), {**annotation(2, 2), **fault}])
    found = read_annotations([root], [WING])
    assert rows_of(found) == [("1.jpg", "wing", "yn", "")]
    assert found.rejected["source"].tolist() == ["annotations.json:annotations[1]"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON (EOF while parsing an object at line 1 column 1)"),
        ('{"images": ' + "[" * 10**5, "is not valid JSON (recursion limit exceeded at line 1"),
        ('{"images": [' + "9" * 10**4 + "]}", "is not valid JSON (number out of range at line 1"),
        ("[]", "is a JSON list; expected a COCO document"),
        ('{"images": []}', "has no 'categories'; expected a COCO document"),
        ('{"images": [], "categories": [], "annotations": 3}', "'annotations' is no list; expected"),
        ('{"images": [], "categories": []}', "no row with an image"),
    ],
)
def test_a_file_that_is_no_document_is_an_error_in_one_line(tmp_path, text, message):
    (tmp_path / "instances.json").write_text(text)
    with pytest.raises(DataError) as error:
        read_annotations([tmp_path / "instances.json"], [WING], "coco")
    assert f"instances.json: {message}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_document_beside_a_table_of_annotations_is_a_problem(tmp_path):
    root = write(tmp_path, [image(1)], [annotation(1, 1)])
    (root / "a.csv").write_text("image,task,label\n1.jpg,wing,striped\n")
    found = read_annotations([root], [WING])
    assert rows_of(found) == [("1.jpg", "wing", "ny", "")]
    (problem,) = found.problems
    assert problem.startswith("annotations.json: holds a COCO file")
    assert problem.endswith("to use it, set data.layout=coco, or give it as --data")
    assert rows_of(read_annotations([root], [WING], "coco")) == [("1.jpg", "wing", "yn", "")]


def test_of_several_true_regions_in_a_table_the_largest_counts(tmp_path):
    root = write(tmp_path, [image(1)], [annotation(1, 1)])
    rows = ("1.jpg,wing,0,0,5,5", "1.jpg,wing,10,20,40,60", "1.jpg,wing,1,1,5,5")
    (root / "boxes_true.csv").write_text("\n".join(["image,task,x0,y0,x1,y1", *rows]) + "\n")
    found = read_annotations([root], [WING])
    assert regions_of(found) == [("1.jpg", "wing", 10, 20, 40, 60)]
    assert found.notes == [
        "2 true regions of an image and task that have others; the largest counts, for instance "
        "boxes_true.csv:3"
    ]


@pytest.mark.parametrize("text", ["image,task,x0,y0\n", "", "image;x\n"])
def test_a_table_of_true_regions_that_cannot_be_read_is_a_problem(tmp_path, text):
    root = write(tmp_path, [image(1)], [annotation(1, 1)])
    (root / "boxes_true.csv").write_text(text)
    found = read_annotations([root], [WING])
    assert rows_of(found) == [("1.jpg", "wing", "yn", "")]
    assert any(problem.endswith("the true regions of this file are left out") for problem in found.problems)


POLYGON = [10, 20, 40, 20.5, 25, 60]


@pytest.mark.parametrize(
    ("segmentation", "box"),
    [
        ([POLYGON], (10, 20, 40, 60)),
        ([POLYGON, [1, 2, 3, 4, 5, 70]], (1, 2, 40, 70)),
        (POLYGON, None),  # one level too few
        # 4 columns of 3 pixels: the pixels 4 and 5 are the lower two of column 1.
        ({"counts": [4, 2, 6], "size": [3, 4]}, (1, 1, 2, 3)),
        ({"counts": [2, 2, 8], "size": [3, 4]}, (0, 0, 2, 3)),  # goes on in the next column
        ({"counts": [0, 1, 10, 1], "size": [3, 4]}, (0, 0, 4, 3)),
        ({"counts": "ZZ0`1", "size": [3, 4]}, None),  # compressed
        ({"counts": [12], "size": [3, 4]}, None),
        ({"counts": [1, 2], "size": [3, 4]}, None),
        ({"counts": [1, 11], "size": [-3, -4]}, None),
        ([], None),
    ],
)
def test_the_box_around_a_segmentation_is_the_true_region(tmp_path, segmentation, box):
    first = annotation(1, 1, segmentation=segmentation, iscrowd=0, area=12.5)
    root = write(tmp_path, [image(1), image(2)], [first, annotation(2, 2, [1, 2, 3, 4])])
    found = read_annotations([root], [WING])
    if segmentation == POLYGON:
        assert "is neither polygons nor a mask" in reasons_of(found)["annotations.json:annotations[0]"]
        return
    assert rows_of(found) == [("1.jpg", "wing", "yn", ""), ("2.jpg", "wing", "ny", "")]
    assert [one[2:] for one in regions_of(found) if one[0] == "1.jpg"] == [box] * (box is not None)
    unread = "1 mask not read, since compressed or empty; the class is, for instance annotations.json:annotat"
    assert any(note.startswith(unread) for note in found.notes) == (
        isinstance(segmentation, dict) and not box
    )


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[1, 2, 3, 4]], "is no polygon; expected three points or more"),
        ([[1, 2, 3, 4, 5, 6, 7]], "is no polygon; expected three points or more"),
        ([["a"] * 6], "is neither polygons nor a mask; correct it"),
        ("x", "is neither polygons nor a mask; correct it"),
        ([[1, 2, 1, 4, 1, 6]], "has no area inside the image"),
    ],
)
def test_a_segmentation_that_is_none_is_rejected(tmp_path, segmentation, reason):
    root = write(
        tmp_path, [image(1), image(2)], [annotation(1, 1, segmentation=segmentation), annotation(2, 2)]
    )
    assert reason in reasons_of(read_annotations([root], [WING]))["annotations.json:annotations[0]"]


def test_the_box_of_a_crowd_is_no_region_but_its_class_counts(tmp_path):
    crowd = annotation(1, 2, [0, 0, 90, 70], iscrowd=1, segmentation={"counts": [1, 2], "size": [1, 3]})
    root = write(tmp_path, [image(1), image(2)], [crowd, annotation(1, 2, [5, 6, 7, 8]), annotation(2, 1)])
    found = read_annotations([root], [WING])
    assert rows_of(found) == [("1.jpg", "wing", "ny", ""), ("2.jpg", "wing", "yn", "")]
    assert regions_of(found) == [("1.jpg", "wing", 5, 6, 12, 14)]
    crowds = "1 box of a crowd not used as true regions, for instance annotations.json:annotations[0]"
    assert crowds in found.notes


def test_numbers_of_categories_may_have_gaps_and_be_unused(tmp_path):
    categories = [{"id": 0, "name": "birds", "supercategory": "none"}]
    categories += [
        {"id": n, "name": name, "supercategory": "birds"} for n, name in ((7, "long"), (90, "hooked"))
    ]
    root = write(
        tmp_path / "beak", [image(139), image(285)], [annotation(139, 90), annotation(285, 7)], categories
    )
    found = read_annotations([root], None)
    assert found.tasks == (BEAK,)
    assert rows_of(found) == [("139.jpg", "beak", "yn", ""), ("285.jpg", "beak", "ny", "")]


def test_a_document_of_another_kind_is_an_error_that_names_the_entry(tmp_path):
    panoptic = {"image_id": 1, "file_name": "1.png", "segments_info": [{"id": 1, "category_id": 1}]}
    root = write(tmp_path, [image(1)], [panoptic])
    with pytest.raises(DataError, match=r"annotations.json:annotations\[0\]: category_id: is missing"):
        read_annotations([root], None)
