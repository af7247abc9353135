"""The settings of stage 2."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

from pydantic import Field

Threshold = Annotated[float, Field(ge=1e-6, le=1)]
Margin = Annotated[float, Field(ge=0, le=10)]
Share = Annotated[float, Field(ge=0, le=1)]
GreatestSide = Annotated[float, Field(ge=1e-6, le=1000)]
PriorWeight = Annotated[float, Field(ge=0, le=100)]
Zoom = Annotated[float, Field(ge=0, le=100)]
Spread = Annotated[float, Field(ge=1e-6, le=1000)]
UpTo1000 = Annotated[float, Field(ge=0, le=1000)]
Place = Literal["heatmap", "fixed", "both"]


@dataclasses.dataclass(frozen=True)
class CropRule:
    """How a heatmap becomes a box.

    Attributes
    ----------
    threshold : float
        Share of the greatest heat, after the location prior, that a position must reach, (0, 1].
    margin : float
        Added on each side, as a share of the square's side.
    percentile : float
        Of the map's values, what counts as 1; 100 is the maximum. A lower one keeps a single hot position
        from deciding alone.
    by : {'area', 'mass'}
        Whether the component with the largest area or with the most heat is chosen.
    together : float
        Above 0, components with at least this share of the chosen one's area or heat are cropped with it, for
        attributes in two places such as two sleeves.
    least_side : float
        A square whose side is below this share of the image's shorter side is widened to it.
    greatest_side : float
        Bound of the crop's side as a share of the image's side; of an elongated image, or a crop cut off at
        its edges, the side of the square of equal area counts. Above it the crop would enlarge nothing: the
        image is not cropped.
    least_area : float
        A component below this share of the map is noise: the image is not cropped.
    least_contrast : float
        A map whose peak is not above its median by this share of its greatest absolute value has no location:
        the image is not cropped.
    prior_weight : float
        Power of the location prior that the heat is multiplied by. 0 is the heatmap alone; with a large one
        the crop is nearly the usual place.
    prior : tuple of float (x, y, dx, dy), or None
        The location prior: mean and standard deviation of where the heat is highest, as shares of the
        image's width and height. None until it is known, see :func:`stage2_crop.boxes.complete_rule`.
    zoom : float
        Set by ``crop.zoom``. Above 0 the heatmap is computed once more, inside the surroundings of a first
        crop, whose side is this multiple of that crop's, see :func:`stage2_crop.boxes.surroundings`.
    spread : bool
        True: for a task with an invisible class, use the standard deviation over all classes instead of the
        evidence against that class. It also finds the place where images of the invisible class show
        something of their own. Without such a class both are the same.
    place : {'heatmap', 'fixed', 'both'}
        Crop where the heatmap points, or the same place of all images: the usual one. With ``both`` the crop
        is the heatmap's, and stage 3 averages its logits of that and of the usual place, which costs as many
        more forward passes as there are test views.
    invisible : {'whole', 'usual', 'crop'}
        What to crop where the attribute is predicted to be invisible: nothing, the place where the
        attribute usually is, or what the heatmap gives all the same. The first two reveal the full image's
        prediction to the crop network.
    usual : tuple of float (x, y, side), or None
        The usual place: the square's centre as a share of the image's width and height, and its side as
        a share of the shorter side. None until it is known, see :func:`stage2_crop.boxes.complete_rule`.
    enabled : bool
        False: no image is cropped, for tasks that crops do not help.
    """

    threshold: Threshold = 0.45
    margin: Margin = 0.1
    percentile: Annotated[float, Field(ge=0, le=100)] = 100.0
    by: Literal["area", "mass"] = "mass"
    together: Share = 0.0
    least_side: Share = 0.3
    greatest_side: GreatestSide = 0.95
    least_area: Share = 0.002
    least_contrast: UpTo1000 = 0.05
    prior_weight: PriorWeight = 1.0
    prior: tuple[float, float, Spread, Spread] | None = None
    zoom: Zoom = 0.0
    spread: bool = False
    place: Place = "heatmap"
    invisible: Literal["whole", "usual", "crop"] = "crop"
    usual: tuple[UpTo1000, UpTo1000, UpTo1000] | None = None
    enabled: bool = True


Steps = list[tuple[str, tuple[Any, ...]]]


@dataclasses.dataclass(frozen=True)
class SearchPlan:
    """Which rules are tried.

    Attributes
    ----------
    pictures : int
        How many images evaluate a candidate; 0 keeps the configured rule, and so do fewer than 30 images, or
        images of one class, that a network did not train on.
    spreads : tuple of bool
        Values tried beside the configured one where they make a difference, see :class:`CropRule`.
    thresholds : tuple of float
        Values tried beside the configured one; none: the configured one is kept. Higher ones than 0.75 would
        cut into the region itself.
    prior_weights, margins, least_sides, greatest_sides : tuple of float
        Values tried beside the configured one; none: the configured one is kept.
    places : tuple of {'heatmap', 'fixed', 'both'}
        The same for the place. Fixed only has to be better than the heatmap's; both must be so by one
        standard error, any other value by two and a half.
    """

    pictures: Annotated[int, Field(ge=0, le=1_000_000_000)] = 400
    spreads: tuple[bool, ...] = (False, True)
    prior_weights: tuple[PriorWeight, ...] = (0.0, 0.5, 1.0, 2.0)
    thresholds: tuple[Threshold, ...] = (0.3, 0.45, 0.6, 0.75)
    margins: tuple[Margin, ...] = ()
    least_sides: tuple[Share, ...] = (0.2, 0.3, 0.45)
    greatest_sides: tuple[GreatestSide, ...] = ()
    places: tuple[Place, ...] = ("heatmap", "fixed", "both")

    def first_steps(self) -> Steps:
        """Return the settings that are searched for the first crop, in order, each with its values."""
        steps: Steps = [("spread", self.spreads), ("prior_weight", self.prior_weights)]
        return [step for step in steps if step[1]]

    def last_steps(self, zoom: float) -> Steps:
        """Return the settings that are searched for the crop itself, with heatmaps zoomed by `zoom`.

        Whether to zoom is decided with the threshold that suits zoomed heatmaps, which lie closer around the
        region; those that are not zoomed may need another one.
        """
        zoomed: Steps = [("threshold", self.thresholds), ("zoom", (zoom, 0.0))]
        steps: Steps = [
            *(zoomed if zoom else []),
            ("threshold", self.thresholds),
            ("margin", self.margins),
            ("least_side", self.least_sides),
            ("greatest_side", self.greatest_sides),
            ("place", self.places),
            ("enabled", (True, False)),
        ]
        return [step for step in steps if step[1]]


@dataclasses.dataclass(frozen=True)
class CropPlan:
    """What stage 2 does.

    Attributes
    ----------
    rule : CropRule
        Where the search starts, or the rule itself without one.
    search : SearchPlan
    zoom : float
        Compute heatmaps once more, inside surroundings of the first crop that are so many times as wide,
        unless the search finds crops without it better; 0 for not at all. Costs one forward pass an
        image.
    first : CropRule, or None
        The rule of the first crop; None for `rule`. The search starts with it. Its `spread` is that of both.
    jitter : float
        How far the crops that stage 3 trains on vary around the rule, see
        :func:`stage2_crop.boxes.jitter_boxes`; 0 for not at all.
    jitters : int
        Such crops of each training image. With frozen blocks the first ``finetune.views`` of them are used,
        in turn with the test views of the crop itself (as a rule it and its mirror).
    fixed_share : float
        Share of them that are at the attribute's usual place instead of where the heatmap points; none where
        `jitter` is 0. The crop network then also knows crops that are not centred on the region, as a new
        image's may not be. For attributes that are nearly always in the same place; elsewhere such crops show
        nothing of them.
    quality : int
        JPEG quality of the crop folder, 1..100.
    """

    rule: CropRule = CropRule()
    search: SearchPlan = SearchPlan()
    zoom: Zoom = 2.0
    first: CropRule | None = None
    jitter: Annotated[float, Field(ge=0, le=0.9)] = 0.15
    jitters: Annotated[int, Field(ge=1, le=100)] = 4
    fixed_share: Share = 0.0
    quality: Annotated[int, Field(ge=1, le=100)] = 95

    def __post_init__(self) -> None:
        for name, rule in (("rule", self.rule), ("first", self.first)):
            if rule is not None and rule.zoom:
                raise ValueError(f"{name}.zoom is {rule.zoom:g}; set crop.zoom instead")
        if 0 < self.zoom < 1:
            raise ValueError(
                f"zoom is {self.zoom:g}, so that the surroundings of a crop would be smaller than the crop; "
                "expected 0, or 1 and more"
            )


@dataclasses.dataclass(frozen=True)
class SearchedRule:
    """What is read again of ``rule.json``: the rule that was used, and the candidates of its search."""

    rule: CropRule
    curve: list[dict[str, Any]]
    first: CropRule | None = None
    """The rule of the first crops, where the other one zooms."""
