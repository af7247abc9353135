"""The model card beside an export: data, recipe, scores with intervals, limits, licence fields."""

from __future__ import annotations

import json
from typing import Any

from heatcrop.errors import PROGRAM, RunError
from heatcrop.metrics.selective import accuracy_interval
from heatcrop.predict.description import Description
from heatcrop.runs.folder import RunFolder, TaskFolder
from heatcrop.runs.records import stage_times
from heatcrop.wording import counted
from stage2_crop.plan import CropRule

_TEMPLATE = """# Model card: {name}

Predicts {tasks} from images, by HeatCrop: a network on the full image, a crop where its class activation map
points (or at one place in all images, see the crop rule), a second network on the crop, and a weighted mean
of both. `heatcrop.json` describes how, and holds the SHA-256 of every file; `predict` refuses files that
differ.

## Data
{data}

## Recipe
Backbone `{backbone}` at {side_px} px, images fitted by `{fit}`, trained with seed {seed}.

| task | classes | crop rule | weight of the crop |
|---|---|---|---|
{recipe}

## Scores on {split}{chosen_on}
AP is the official score of the FashionAI competition. Intervals are 95 %, of AP by bootstrap and of accuracy
by Clopper and Pearson, over images only: they do not contain the variation between trainings, nor between
data sets.

| task | images | AP, full image | AP, crop | AP, fused | accuracy, fused |
|---|---|---|---|---|---|
{scores}

## Limits
- The scores are those of images like the ones above. Measure on images of your own before you rely on it.
- Every image gets one of the listed classes, also one that shows none of them.
- Confidences are calibrated on images that no network trained on, for one task at a time.

## Licence
- Of the weights: {licence}
- Of the training images: {data_licence}
- Contact: {contact}
"""


def model_card(
    folder: RunFolder,
    settings: dict[str, Any],
    description: Description,
    licence: str = "",
    data_licence: str = "",
    contact: str = "",
) -> str:
    """Write the card of a run's export as Markdown.

    `settings` are the run's configuration as plain values; only the person who exports knows the licences of
    the weights and of the training images, and the contact. RunError where ``metrics.json`` is damaged.
    """
    try:
        metrics = json.loads(folder.metrics.read_text(encoding="utf-8"))
        figures, split = dict(metrics["tasks"]), str(metrics["split"])
        scores = [_scores(name, figures.get(name), folder.task(name)) for name in description.tasks]
    except FileNotFoundError:
        scores, split = ["| not scored yet | | | | | |"], "test"
    except (ValueError, KeyError, TypeError):
        fix = f"write it again: {PROGRAM} report --run {folder.path}"
        raise RunError(f"{folder.metrics}: is not a run's figures; {fix}") from None
    tasks, form = description.tasks, description.input
    recipe = [
        f"| {_cell(name)} | {_cell(', '.join(one.classes))} | {_rule(one.crop_rule)} | "
        f"{one.fusion.weight:g} |"
        for name, one in tasks.items()
    ]
    data = settings["data"]
    source = "HeatCrop's rendered data set" if data["source"] == "rendered" else ", ".join(data["roots"])
    shares = f"{data['val_share']:.0%} of the images for validation and {data['test_share']:.0%} for test"
    return _TEMPLATE.format(
        name=_cell(str(settings["name"])),
        tasks=counted(len(tasks), "attribute(s)"),
        data=f"Trained on {source}. Where the data names no splits: {shares}, stratified, in whole groups.",
        backbone=form.backbone,
        side_px=form.side_px,
        fit=form.fit,
        seed=settings["seed"],
        recipe="\n".join(recipe),
        split=split,
        chosen_on="" if split == "test" else ", which also chose the crop rule and the fusion",
        scores="\n".join(scores),
        licence=_cell(licence) or "not stated",
        data_licence=_cell(data_licence) or "not stated",
        contact=_cell(contact) or "not stated",
    )


def _scores(name: str, found: dict[str, Any] | None, folder: TaskFolder) -> str:
    if not found:
        return f"| {_cell(name)} | no labels | | | | |"
    times = stage_times(folder)["seconds"]  # a training never takes the same twice
    if times and times != found.get("seconds"):
        return f"| {_cell(name)} | not scored since its networks were trained | | | | |"
    n, accuracy = int(found["n"]), float(found["fused"]["accuracy"])
    low, high = accuracy_interval(round(accuracy * n), n)
    ap = " | ".join(f"{found[branch]['map']:.3f}" for branch in ("full", "crop", "fused"))
    if of_ap := found.get("fused_interval"):  # not of earlier versions, nor of very many images
        ap += f" ({of_ap['low']:.3f} to {of_ap['high']:.3f})"
    return f"| {_cell(name)} | {n} | {ap} | {accuracy:.0%} ({low:.0%} to {high:.0%}) |"


def _rule(rule: CropRule) -> str:
    if not rule.enabled:
        return "off: images are not cropped"
    if rule.place == "fixed":
        return "the same place in every image"
    beside = ", and the same place in every image" if rule.place == "both" else ""
    return f"threshold {rule.threshold:g}, margin {rule.margin:g}, zoom {rule.zoom:g}{beside}"


def _cell(text: str) -> str:
    """Escape what ends a cell of a table, and line ends."""
    return " ".join(text.split()).replace("|", "\\|")
