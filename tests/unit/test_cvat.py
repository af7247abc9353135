"""CVAT for images 1.1: tags, boxes, attributes and subsets."""

import pytest

from heatcrop.data.readers import read_annotations
from heatcrop.data.tasks import Task
from heatcrop.errors import DataError
from tests.unit.builders import reasons_of, regions_of, rows_of, touch

WING = Task("wing", ("plain", "striped"))
BEAK = Task("beak", ("hooked", "long"))


def write(root, *images, head="<annotations><version>1.1</version>", names=("1.jpg", "2.jpg", "3.jpg")):
    touch(root, *names)
    (root / "annotations.xml").write_text("\n".join([head, *images, "</annotations>"]))
    return root


def image(name, *elements, subset=""):
    given = f' subset="{subset}"' if subset else ""
    return f'<image id="0" name="{name}"{given} width="100" height="80">{"".join(elements)}</image>'


def box(label, corners, attributes="", rotation=""):
    names = zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True)
    given = " ".join(f'{name}="{value}"' for name, value in names)
    turned = f' rotation="{rotation}"' if rotation else ""
    return f'<box label="{label}" {given}{turned}>{attributes}</box>'


def attribute(name, value):
    return f'<attribute name="{name}">{value}</attribute>'


def test_attributes_are_tasks_and_a_label_without_them_is_a_class(tmp_path):
    hooked = attribute("beak", "hooked")
    root = write(
        tmp_path / "wing",
        image("1.jpg", f'<tag label="bird">{attribute("beak", "long")}</tag>', subset="Train"),
        image("2.jpg", box("striped", (10, 20, 30.5, 40)), box("bird", (0, 0, 9, 9), hooked)),
        image("3.jpg", '<tag label="plain" source="manual"></tag>', subset="part-3"),
    )
    assert read_annotations([root], None).tasks == (BEAK, WING)
    found = read_annotations([root], None)
    assert rows_of(found) == [
        ("1.jpg", "beak", "ny", "train"),
        ("2.jpg", "beak", "yn", ""),
        ("2.jpg", "wing", "ny", ""),
        ("3.jpg", "wing", "yn", ""),
    ]
    assert regions_of(found) == [("2.jpg", "beak", 0, 0, 9, 9), ("2.jpg", "wing", 10, 20, 30.5, 40)]
    assert found.rejected.empty
    assert any(note.startswith("2 tags or shapes with label 'bird' read by their") for note in found.notes)
    assert any("1 image in a subset that is no split" in note for note in found.notes)


def test_a_turned_box_gets_the_box_around_it(tmp_path):
    # The centre is (50, 40), the sides are 40 and 20; a quarter turn exchanges them.
    text = image("1.jpg", box("plain", (30, 30, 70, 50), rotation="90"))
    (found,) = regions_of(read_annotations([write(tmp_path, text)], [WING]))
    assert found[2:] == pytest.approx((40, 20, 60, 60))


def test_images_may_be_in_a_folder_of_their_subset(tmp_path):
    text = image("1.jpg", '<tag label="plain"/>', subset="train")
    root = write(tmp_path, text, names=["images/train/1.jpg"])
    found = read_annotations([root], [WING])
    assert rows_of(found) == [("1.jpg", "wing", "yn", "train")]
    assert found.rows["path"].tolist() == [f"{tmp_path}/images/train/1.jpg"]


def test_an_image_without_tags_has_no_label(tmp_path):
    texts = [image("1.jpg", '<tag label="plain"/>'), image("2.jpg")]
    found = read_annotations([write(tmp_path, *texts)], [WING])
    assert rows_of(found) == [("1.jpg", "wing", "yn", ""), ("2.jpg", "wing", "", "test")]


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ('<polygon label="plain" points="10.5,20;30,25;20,40"/>', (10.5, 20, 30, 40)),
        ('<polyline label="plain" points="10,20;30,5"/>', (10, 5, 30, 20)),
        ('<polyline label="plain" points="10,20;30,20"/>', None),
        ('<points label="plain" points="10,20"/>', None),
        ('<points label="plain" points="10,20;30,5"/>', (10, 5, 30, 20)),
        ('<mask label="plain" rle="3, 5" left="10" top="20" width="30" height="5"/>', (10, 20, 40, 25)),
        ('<ellipse label="plain" cx="50" cy="40" rx="20" ry="10"/>', (30, 30, 70, 50)),
        ('<ellipse label="plain" cx="50" cy="40" rx="20" ry="10" rotation="90"/>', (40, 20, 60, 60)),
        ('<cuboid label="plain" xtl1="1" ytl1="2" xbl1="1" ybl1="9"/>', None),
        ('<skeleton label="plain"><points label="tip" points="1,2"/></skeleton>', None),
    ],
)
def test_the_box_around_a_shape_is_its_true_region(tmp_path, shape, box):
    found = read_annotations([write(tmp_path, image("1.jpg", shape))], [WING])
    assert rows_of(found) == [("1.jpg", "wing", "yn", "")]
    assert [one[2:] for one in regions_of(found)] == [pytest.approx(one) for one in [box] if one]


def test_a_skeleton_has_its_own_attributes(tmp_path):
    inside = '<points label="tip" points="1,2"><attribute name="beak">long</attribute></points>'
    shape = f'<skeleton label="bird">{inside}{attribute("beak", "hooked")}</skeleton>'
    found = read_annotations([write(tmp_path, image("1.jpg", shape))], [BEAK])
    assert rows_of(found) == [("1.jpg", "beak", "yn", "")]


META = """<annotations><version>1.1</version><meta><task><id>7</id><name>birds</name><labels><label>
<name>duck</name><attributes><attribute><name>wet</name><mutable>False</mutable><input_type>checkbox</input_type>
<default_value>false</default_value><values>false</values></attribute><attribute><name>age</name>
<mutable>False</mutable><input_type>number</input_type><default_value>1</default_value><values>1
9
1</values></attribute></attributes></label></labels></task></meta>"""


def test_labels_that_differ_between_images_are_classes_beside_their_attributes(tmp_path):
    wet, dry = (attribute("wet", value) + attribute("age", "3") for value in ("true", "false"))
    texts = [
        image("1.jpg", f'<tag label="duck" source="manual">{wet}</tag>'),
        image("2.jpg", box("crow", (10, 20, 30, 40), dry)),
        image("3.jpg", '<tag label="crow"></tag>'),
    ]
    found = read_annotations([write(tmp_path / "birds", *texts, head=META)], None)
    assert found.tasks == (Task("birds", ("crow", "duck")), Task("wet", ("false", "true")))
    assert rows_of(found) == [
        ("1.jpg", "birds", "ny", ""),
        ("1.jpg", "wet", "ny", ""),
        ("2.jpg", "birds", "yn", ""),
        ("2.jpg", "wet", "yn", ""),
        ("3.jpg", "birds", "yn", ""),
    ]
    assert [one[:2] for one in regions_of(found)] == [("2.jpg", "birds"), ("2.jpg", "wet")]
    number = "2 attributes age not read, since declared as number"
    assert any(note.startswith(number) for note in found.notes)


def test_an_attribute_of_numbers_is_a_task_where_the_run_has_it(tmp_path):
    texts = [image("1.jpg", f'<tag label="duck">{attribute("age", "3")}</tag>')]
    found = read_annotations([write(tmp_path, *texts, head=META)], [Task("age", ("1", "3"))])
    assert rows_of(found) == [("1.jpg", "age", "ny", "")]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (image("2.jpg", box("plain", (1, 2, "x", 4))), "the box 1, 2, x, 4 (rotation 0) is not in numbers"),
        (image("2.jpg", box("plain", (1, 2, 1, 4))), "has no area inside the image"),
        (image("2.jpg", box("plain", (1, 2, "1e999", "nan"))), "holds a number that is no pixel"),
        (image("2.jpg", '<tag label=""/>'), "the tag has no label; give it one"),
        (image("", '<tag label="plain"/>'), "the image has no name; give it its path"),
        (image("9.jpg", '<tag label="plain"/>'), "the image is missing: there is no 9.jpg"),
        (image("2.jpg", '<tag label="plain"/><tag label="striped"/>'), "have different classes of wing"),
    ],
)
def test_an_image_that_cannot_be_used_is_rejected_alone(tmp_path, bad, reason):
    found = read_annotations([write(tmp_path, image("1.jpg", '<tag label="striped"/>'), bad)], [WING])
    assert rows_of(found) == [("1.jpg", "wing", "ny", "")]
    assert reason in reasons_of(found)["annotations.xml:3"]


ENTITY = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations><image", "annotations.xml:1: is not valid XML (unclosed token); export it as"),
        (
            f"{ENTITY}<annotations>&b;</annotations>",
            "annotations.xml:1: declares an entity, which is not read",
        ),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations/>', "declares an entity"),
        ("<annotations>\n<track/></annotations>", "annotations.xml:2: holds tracks of a video"),
        ("<boxes/>", "annotations.xml:1: the first element is <boxes>, not <annotations>"),
        ('<?xml version="1.0" encoding="no-such"?><annotations/>', "is not valid XML"),
        ("<annotations>" + "<a>" * 10**5, "is not valid XML (no element found)"),
        ("<annotations/>", "no row with an image"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_in_one_line(tmp_path, text, message):
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(DataError) as error:
        read_annotations([tmp_path / "annotations.xml"], [WING])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
