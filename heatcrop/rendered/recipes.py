"""Choose an outfit that shows one class of one task.

A recipe turns (task, class) into a :class:`Plan`. Everything else in the image (other garments, hair, bags,
background) is random and independent of the class.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .bottoms import SKIRTS as SKIRT_STYLES
from .bottoms import TROUSERS as TROUSER_STYLES
from .cloth import Cloth, colour_distance
from .lengths import COATS, FLAT_COLLAR, SHAWL, SKIRTS, SLEEVES, TROUSERS, TURTLE, V_DEPTH
from .tops import BARE
from .wardrobe import Outfit, random_coat, random_outfit

_NECKLINES = (
    None,
    "strapless",
    "v",
    "straight",
    "v",
    "square",
    "off_shoulder",
    "round",
    "sweetheart",
    "one_shoulder",
)
_COLLARS = (None, "shirt", "peter_pan", "puritan", "rib")
_NECKS = (None, "turtle", "ruffle", "low_turtle", "draped")
_LAPELS = (None, "notched", "collarless", "shawl", "shawl")


@dataclass(frozen=True)
class Plan:
    """An outfit and how it is labelled and framed.

    Attributes
    ----------
    outfit : Outfit
    near : tuple of int
        Classes labelled ``m``.
    hide : str or None
        How the attribute is hidden, for class "Invisible".
    hem : float or None
        y (heads) of the hem that a length task is about.
    """

    outfit: Outfit
    near: tuple[int, ...] = ()
    hide: str | None = None
    hem: float | None = None


def choose_hiding(rng: np.random.Generator, task: str) -> str:
    """Draw how an "Invisible" image of `task` hides the attribute."""
    odds = _HIDING.get(task, _HIDING["hem" if task.endswith("length_labels") else "design"])
    return str(rng.choice(list(odds), p=np.array(list(odds.values()))))


_HIDING = {
    "design": {"frame": 0.26, "hair": 0.18, "scarf": 0.18, "held": 0.2, "behind": 0.12, "sticker": 0.06},
    "lapel_design_labels": {"frame": 0.3, "hair": 0.22, "held": 0.26, "behind": 0.14, "sticker": 0.08},
    "sleeve_length_labels": {"frame": 0.22, "portrait": 0.28, "shawl": 0.38, "sticker": 0.12},
    "hem": {"frame": 0.5, "plant": 0.22, "suitcase": 0.16, "sticker": 0.12},
}


def make_plan(
    rng: np.random.Generator, task: str, class_index: int, hide: str | None, unit: float, palette
) -> Plan:
    """Draw an outfit for one class of one task.

    Parameters
    ----------
    rng : numpy.random.Generator
    task : str
    class_index : int
    hide : str or None
        From :func:`choose_hiding` for class 0, else None.
    unit : float
        One head height in canvas pixels.
    palette : tuple of Colour

    Returns
    -------
    Plan
    """
    dress, choices = _DRESS[task]
    shown = class_index or int(rng.integers(1, choices))
    visible = dress(rng, shown, random_outfit(rng, unit, palette), unit, palette)
    if hide is None:
        return visible
    outfit = visible.outfit
    if hide in ("hair", "scarf", "behind") and outfit.top.neck in (*BARE, "puritan"):
        outfit = replace(
            outfit, top=replace(outfit.top, neck="round")
        )  # bare shoulders would reveal the class
    if hide == "hair":
        long = replace(outfit.hair, style=str(rng.choice(["long", "wavy"])))
        outfit = replace(outfit, covering_hair=True, hair=long)
    elif hide == "scarf":
        outfit = replace(outfit, scarf="wrapped")
    elif hide == "shawl":
        outfit = replace(outfit, shawl=rng.uniform(4.5, 5.0), scarf=None)
    elif hide != "frame" and outfit.bottom.kind == "skirt" and task == "skirt_length_labels":
        narrow = str(rng.choice(["pencil", "straight", "aline"]))  # a wide hem would show on both sides
        outfit = replace(outfit, bottom=replace(outfit.bottom, style=narrow))
    return replace(visible, outfit=outfit, near=(), hide=hide)


def _collar(rng, wanted, outfit, unit, palette):
    """Choose a shirt, blouse or dress with the wanted collar, sometimes under an open jacket."""
    kind, near, amount = _COLLARS[wanted], (), rng.random()
    if kind in ("peter_pan", "puritan"):
        amount, near = FLAT_COLLAR.draw(rng, wanted)
    top = replace(
        outfit.top,
        neck=kind,
        amount=amount,
        placket=kind == "shirt" or (kind != "rib" and rng.random() < 0.4),
    )
    if top.trim is top.cloth and top.cloth.tile is not None and rng.random() < 0.7:
        top = replace(top, trim=Cloth(palette[0] if sum(top.cloth.colour) < 480 else palette[3]))
    outfit = replace(outfit, top=top, necklace=None)
    return Plan(_sometimes_coat(rng, outfit, unit, palette, kind != "puritan"), near)


def _neck(rng, wanted, outfit, unit, palette):
    """Choose a knit or blouse with the wanted neck, sometimes under an open jacket."""
    kind, near, amount = _NECKS[wanted], (), rng.random()
    if kind in ("turtle", "low_turtle"):
        amount, near = TURTLE.draw(rng, wanted)
    folded = kind == "turtle" and amount > 0.62 and rng.random() < 0.85
    top = replace(
        outfit.top,
        neck=kind,
        amount=amount,
        opened=folded,
        placket=bool(kind == "ruffle" and rng.random() < 0.4),
    )
    if rng.random() < 0.75:
        top = replace(top, trim=top.cloth)
    outfit = replace(outfit, top=top, necklace=None)
    return Plan(_sometimes_coat(rng, outfit, unit, palette, kind != "draped"), near)


def _neckline(rng, wanted, outfit, unit, palette):
    """Choose a top or dress with the wanted neckline."""
    kind, near, amount = _NECKLINES[wanted], (), rng.random()
    if kind == "v":
        amount, near = V_DEPTH.draw(rng, wanted)
    top = replace(
        outfit.top,
        neck=kind,
        amount=amount,
        placket=bool(kind in ("round", "v", "square") and rng.random() < 0.2),
    )
    if outfit.scarf:
        outfit = replace(outfit, scarf=None, bag="across" if rng.random() < 0.5 else outfit.bag)
    return Plan(replace(outfit, top=top), near)


def _lapel(rng, wanted, outfit, unit, palette):
    """Choose a coat or jacket with the wanted lapel over a random top."""
    kind, near = _LAPELS[wanted], ()
    coat = replace(random_coat(rng, unit, palette), lapel=kind)
    width = {"notched": rng.uniform(0.20, 0.34), "collarless": rng.choice([0.12, 0.3]), "shawl": 0.0}[kind]
    if kind == "shawl":
        width, near = SHAWL.draw(rng, wanted)
    coat = replace(
        coat, width=float(width), close=max(coat.close, 2.45) if kind != "collarless" else coat.close
    )
    under = str(rng.choice(["round", "v", "shirt", "turtle", "low_turtle", "square", "closed"]))
    top = replace(outfit.top, neck=under, amount=0.7 * rng.random(), trim=outfit.top.cloth)
    coat = _contrasting(coat, outfit.top.cloth, palette)
    return Plan(replace(outfit, coat=coat, top=top, necklace=None, scarf=None), near)


def _contrasting(coat, cloth, palette):
    """Give the coat another colour where it resembles `cloth`, which is worn below."""
    if colour_distance(coat.cloth.colour, cloth.colour) > 60:
        return coat
    other = max(palette, key=lambda colour: colour_distance(colour, cloth.colour))
    plain = replace(coat.cloth, colour=other, tile=None)
    return replace(coat, cloth=plain, facing=plain if coat.facing is coat.cloth else coat.facing)


def _sometimes_coat(rng, outfit, unit, palette, allowed):
    if not allowed or rng.random() > 0.2:
        return outfit
    coat = replace(
        random_coat(rng, unit, palette),
        lapel="collarless",
        width=0.3,
        gap=rng.uniform(0.3, 0.55),
        buttons=0,
        belt=False,
    )
    coat = replace(coat, close=2.9, hem=max(coat.hem, 3.2))
    return replace(outfit, coat=_contrasting(coat, outfit.top.cloth, palette), scarf=None)


def _sleeve(rng, wanted, outfit, unit, palette):
    """Choose sleeves of a top or a coat with the length of the class."""
    value, near = SLEEVES.draw(rng, wanted)
    top = replace(outfit.top, sleeve=value)
    if top.neck in ("straight", "draped", "puritan"):
        top = replace(top, neck="round")
    if rng.random() < 0.12:  # a coat's sleeve, labelled in the same way
        coat = replace(random_coat(rng, unit, palette), sleeve=value, belt=False)
        if value > 0.4:
            outfit = replace(outfit, coat=coat)
    shawl = rng.uniform(2.0, 2.4) if value > 1.2 and rng.random() < 0.15 else None
    outfit = replace(outfit, top=top, shawl=shawl, bag="across" if outfit.bag else None)
    return Plan(replace(outfit, scarf=None) if shawl else outfit, near)


def _pant(rng, wanted, outfit, unit, palette):
    """Choose trousers with the length of the class."""
    value, near = TROUSERS.draw(rng, wanted)
    bottom = outfit.bottom
    if bottom.kind == "skirt":
        bottom = replace(bottom, kind="pants", style=str(rng.choice(TROUSER_STYLES)))
    y = float(np.interp(value, [0, 1, 2, 3], [4.05, 5.85, 7.65, 8.1]))
    outfit = replace(
        outfit,
        bottom=replace(bottom, hem=value),
        stockings=None,
        shoes="flats" if outfit.shoes == "boots" else outfit.shoes,
    )
    return Plan(outfit, near, hem=y)


def _skirt(rng, wanted, outfit, unit, palette):
    """Choose a skirt, or a dress's skirt, with the length of the class."""
    value, near = SKIRTS.draw(rng, wanted)
    bottom = outfit.bottom
    if bottom.kind == "pants":
        bottom = replace(bottom, kind="skirt", style=str(rng.choice(SKIRT_STYLES)))
    if bottom.style == "flared" and value > 6.5:
        bottom = replace(bottom, style="aline")
    return Plan(replace(outfit, bottom=replace(bottom, hem=value)), near, hem=value)


def _coat(rng, wanted, outfit, unit, palette):
    """Choose a coat with the length of the class."""
    value, near = COATS.draw(rng, wanted)
    coat = replace(random_coat(rng, unit, palette), hem=value)
    if value < 3.4:
        coat = replace(coat, close=min(coat.close, value - 0.25), belt=False)
    bottom = outfit.bottom
    if bottom.kind == "skirt" and abs(bottom.hem - value) < 0.35:  # keep two hems apart
        bottom = replace(bottom, hem=value - 0.6 if value > 5.2 else value + 0.8)
    outfit = replace(outfit, coat=_contrasting(coat, bottom.cloth, palette), bottom=bottom, scarf=None)
    return Plan(outfit, near, hem=value)


_DRESS = {  # recipe and number of classes
    "collar_design_labels": (_collar, 5),
    "neck_design_labels": (_neck, 5),
    "neckline_design_labels": (_neckline, 10),
    "lapel_design_labels": (_lapel, 5),
    "sleeve_length_labels": (_sleeve, 9),
    "pant_length_labels": (_pant, 6),
    "skirt_length_labels": (_skirt, 6),
    "coat_length_labels": (_coat, 8),
}
