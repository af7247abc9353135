"""Label Studio: tasks with annotations and pre-annotations, and the labelling configuration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from heatcrop.data.writers.records import Box, Record, by_image, split_of, tasks_of

_LOCAL = "/data/local-files/?d="


def dataset(records: Sequence[Record]) -> dict[str, Any]:
    """Make ``tasks.json``, and ``labelling_config.xml`` for the project's settings."""
    return {"tasks.json": tasks(records), "labelling_config.xml": labelling_config(tasks_of(records))}


def tasks(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Make one task of each image.

    Labels and true regions are an annotation, predictions and crops a pre-annotation. A class is a choice of
    the control that is called like the task; a rectangle is labelled with the task's name.
    """
    controls = _control_names(tasks_of(records))
    found = []
    for number, (name, same) in enumerate(by_image(records).items(), 1):
        task: dict[str, Any] = {
            "id": number,
            "data": {"image": _LOCAL + quote(name.lstrip("/")), "split": split_of(same)},
            "annotations": [],
            "predictions": [],
        }
        if known := [one for one in same if one.label]:
            results = [part for one in known for part in _truth(one, controls)]
            task["annotations"].append({"result": results})
        if predicted := [one for one in same if one.probabilities]:
            results = [part for one in predicted for part in _prediction(one, controls)]
            least = min(one.score for one in predicted)
            task["predictions"].append({"model_version": "HeatCrop", "score": least, "result": results})
        found.append(task)
    return found


def labelling_config(classes: dict[str, tuple[str, ...]]) -> str:
    """Write the interface of a project: choices for each task, and rectangles labelled with the tasks.

    >>> print(labelling_config({"wing": ("plain", "a<b")}))
    <View>
      <Image name="image" value="$image"/>
      <RectangleLabels name="region" toName="image">
        <Label value="wing"/>
      </RectangleLabels>
      <Header value="wing"/>
      <Choices name="wing" toName="image" choice="single">
        <Choice value="plain"/>
        <Choice value="a&lt;b"/>
      </Choices>
    </View>
    <BLANKLINE>
    """
    image, region = map(quoteattr, _control_names(classes))
    lines = ["<View>", f'  <Image name={image} value="$image"/>']
    lines += [f"  <RectangleLabels name={region} toName={image}>"]
    lines += [f"    <Label value={quoteattr(task)}/>" for task in classes]
    lines += ["  </RectangleLabels>"]
    for task, names in classes.items():
        lines += [f"  <Header value={quoteattr(task)}/>"]
        lines += [f'  <Choices name={quoteattr(task)} toName={image} choice="single">']
        lines += [f"    <Choice value={quoteattr(name)}/>" for name in names]
        lines += ["  </Choices>"]
    return "\n".join([*lines, "</View>", ""])


def _control_names(tasks: Iterable[str]) -> tuple[str, str]:
    """Return the names of the image and of the rectangles, which no task has."""
    image, region = "image", "region"
    while {image, region} & set(tasks):
        image, region = f"{image}_", f"{region}_"
    return image, region


def _truth(record: Record, controls: tuple[str, str]) -> list[dict[str, Any]]:
    more = {"meta": {"maybe": list(record.maybe)}} if record.maybe else {}
    return _results(record, record.label, record.region, controls, more)


def _prediction(record: Record, controls: tuple[str, str]) -> list[dict[str, Any]]:
    return _results(record, record.predicted, record.crop, controls, {"score": record.score})


def _results(
    record: Record, label: str, box: Box | None, controls: tuple[str, str], more: dict[str, Any]
) -> list[dict[str, Any]]:
    """Make the choice of a class and, with a box, its rectangle in percent of the image's sides."""
    image, region = controls
    width, height = record.size
    shared = {"to_name": image, "original_width": width, "original_height": height, "image_rotation": 0}
    shared |= more
    choice = {"id": f"{record.task}-class", "from_name": record.task, "type": "choices"}
    found: list[dict[str, Any]] = [{**choice, "value": {"choices": [label]}, **shared}]
    if box is not None:
        x0, y0, x1, y1 = box
        value = {
            "x": 100 * x0 / width,
            "y": 100 * y0 / height,
            "width": 100 * (x1 - x0) / width,
            "height": 100 * (y1 - y0) / height,
            "rotation": 0,
            "rectanglelabels": [record.task],
        }
        rectangle = {"id": f"{record.task}-box", "from_name": region, "type": "rectanglelabels"}
        found.append({**rectangle, "value": value, **shared})
    return found
