"""Choose random outfits, and draw a dressed figure from back to front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import accessories
from .bottoms import SHOES, SKIRTS, TROUSERS, Bottom, draw_bottom, draw_shoes
from .canvas import Canvas
from .cloth import PALETTES, Cloth, blend, darker, weave
from .coats import LAPELS, Coat, draw_coat, draw_coat_behind
from .collars import COLLARS, NECKS, draw_collar, draw_collar_behind
from .figure import WAIST, Figure, draw_arm, draw_legs, draw_torso
from .head import Hair, draw_hair_behind, draw_head, draw_locks, random_hair
from .lengths import COATS, SLEEVES
from .lengths import SKIRTS as SKIRT_LENGTHS
from .lengths import TROUSERS as TROUSER_LENGTHS
from .tops import BARE, NECKLINES, Top, draw_bodice, draw_sleeve

_DENIMS = ((70, 92, 130), (52, 56, 70), (120, 146, 180))
_LEATHERS = ((60, 44, 42), (150, 96, 62), (206, 170, 130), (34, 34, 40), (170, 54, 60))
_SHOES = ((40, 36, 40), (240, 236, 230), (160, 104, 70))


@dataclass(frozen=True)
class Outfit:
    """All garments and accessories of a figure.

    Attributes
    ----------
    coat, stockings, cuff, bag, necklace : object or None
        None where there is none; `necklace` is its length in heads, `bag` "shoulder", "across" or "hand".
    tucked : bool
        Whether the top is drawn below the bottom.
    covering_hair : bool
        Whether hair hides the neck and chest.
    scarf : str or None
        "open", or "wrapped", which hides the neck and chest.
    shawl : float or None
        y where a cape over both arms ends, in heads.
    bag_side : int
        0 right, 1 left.
    """

    top: Top
    bottom: Bottom
    hair: Hair
    shoes: str
    shoe_cloth: Cloth
    bag_cloth: Cloth
    scarf_cloth: Cloth
    coat: Coat | None = None
    tucked: bool = True
    stockings: Cloth | None = None
    cuff: Cloth | None = None
    covering_hair: bool = False
    scarf: str | None = None
    shawl: float | None = None
    bag: str | None = None
    bag_side: int = 0
    necklace: float | None = None


def choose_palette(rng: np.random.Generator) -> tuple:
    """Draw one of the palettes."""
    return PALETTES[rng.integers(len(PALETTES))]


def random_coat(rng: np.random.Generator, unit: float, palette) -> Coat:
    """Draw a coat with random properties."""
    cloth = weave(
        rng,
        unit,
        palette[rng.integers(5)],
        palette[rng.integers(5)],
        str(rng.choice(["plain", "plain", "plain", "tweed", "tartan", "pinstripe", "stripe", "gingham"])),
    )
    same = rng.random() < 0.68
    facing = (
        cloth
        if same
        else Cloth(
            darker(cloth.colour, 0.72)
            if sum(cloth.colour) > 330
            else blend(cloth.colour, (255, 250, 240), 0.6)
        )
    )
    lapel = str(rng.choice(LAPELS))
    width = {
        "notched": rng.uniform(0.20, 0.34),
        "collarless": rng.uniform(0.1, 0.3),
        "shawl": rng.uniform(0.14, 0.5),
    }[lapel]
    return Coat(
        lapel,
        width,
        cloth,
        facing,
        rng.uniform(2.15, 3.0),
        float(rng.choice([0, rng.uniform(0.08, 0.5)])),
        COATS.any(rng),
        rng.uniform(-0.01, 0.10),
        bool(rng.random() < 0.25),
        int(rng.integers(3)),
        rng.uniform(1.85, 2.2),
    )


def random_outfit(rng: np.random.Generator, unit: float, palette) -> Outfit:
    """Draw an outfit with random properties; recipes replace those that a task is about."""
    order = rng.permutation(5)
    main, second, third = (palette[k] for k in order[:3])
    cloth = weave(rng, unit, main, third)
    trim = cloth
    if rng.random() < 0.42:
        trim = Cloth((250, 247, 240) if sum(main) < 560 else second)
    neck = str(rng.choice(NECKLINES[:4] + COLLARS + NECKS))
    dress = rng.random() < 0.3
    plain = "plain" if cloth.tile is not None and rng.random() < 0.7 else None
    other = cloth if dress else weave(rng, unit, second, third, plain)
    if dress or rng.random() < 0.5:
        bottom = Bottom("skirt", str(rng.choice(SKIRTS)), SKIRT_LENGTHS.any(rng), other)
    else:
        denim = Cloth(_DENIMS[rng.integers(len(_DENIMS))])
        cut = str(rng.choice(TROUSERS))
        bottom = Bottom("pants", cut, TROUSER_LENGTHS.any(rng), denim if rng.random() < 0.35 else other)
    tucked = bool(dress or rng.random() < 0.6)
    top = Top(
        neck=neck,
        amount=rng.random(),
        cloth=cloth,
        trim=trim,
        sleeve=SLEEVES.any(rng),
        sleeve_style=str(rng.choice(["fitted", "straight", "bell", "puff"])),
        hem=WAIST + 0.1 if tucked else rng.uniform(3.3, 3.9),
        ease=rng.uniform(0.0, 0.09),
        placket=bool(rng.random() < 0.3),
        opened=bool(rng.random() < 0.5),
    )
    leathers, shoes = (*_LEATHERS, palette[2]), (*_SHOES, palette[3])
    return Outfit(
        top=top,
        bottom=bottom,
        hair=random_hair(rng),
        shoes=str(rng.choice(SHOES)),
        shoe_cloth=Cloth(shoes[rng.integers(len(shoes))]),
        bag_cloth=Cloth(leathers[rng.integers(len(leathers))]),
        scarf_cloth=weave(rng, unit, palette[rng.integers(1, 4)], palette[0]),
        tucked=tucked,
        stockings=Cloth((58, 52, 60)) if bottom.kind == "skirt" and rng.random() < 0.14 else None,
        cuff=trim if rng.random() < 0.3 else None,
        bag=str(rng.choice(["shoulder", "across", "hand"])) if rng.random() < 0.3 else None,
        bag_side=int(rng.integers(2)),
        scarf="open" if rng.random() < 0.10 else None,
        necklace=rng.uniform(0.15, 0.6) if rng.random() < 0.25 else None,
    )


def draw_dressed(canvas: Canvas, figure: Figure, outfit: Outfit) -> None:
    """Draw the figure with its outfit from back to front."""
    top, coat, hair = outfit.top, outfit.coat, outfit.hair
    if not figure.from_behind:
        draw_hair_behind(canvas, figure, hair)
        if coat:
            draw_coat_behind(canvas, figure, coat)
        draw_collar_behind(canvas, figure, top)
    for side in (0, 1):
        draw_arm(canvas, figure, side)
    draw_legs(canvas, figure, outfit.stockings)
    if outfit.shoes == "boots" and not (outfit.bottom.kind == "pants" and outfit.bottom.hem > 1.6):
        draw_shoes(canvas, figure, "boots", outfit.shoe_cloth)
    else:
        draw_shoes(canvas, figure, "pumps" if outfit.shoes == "boots" else outfit.shoes, outfit.shoe_cloth)
    draw_torso(canvas, figure)
    if outfit.necklace and top.neck in NECKLINES and not figure.from_behind:
        accessories.draw_necklace(canvas, figure, outfit.necklace, (214, 178, 104))
    if outfit.tucked:
        draw_bodice(canvas, figure, top)
        draw_bottom(canvas, figure, outfit.bottom)
    else:
        draw_bottom(canvas, figure, outfit.bottom)
        draw_bodice(canvas, figure, top)
    if not coat:
        draw_collar(canvas, figure, top)
    _draw_arms(canvas, figure, outfit, before_coat=True)
    if coat:
        draw_coat(canvas, figure, coat)
        if top.neck in COLLARS + NECKS and not figure.from_behind and top.neck not in ("puritan", "draped"):
            draw_collar(canvas, figure, top)
    _draw_arms(canvas, figure, outfit, before_coat=False)
    if outfit.bag in ("shoulder", "across"):
        accessories.draw_shoulder_bag(
            canvas, figure, outfit.bag_cloth, outfit.bag_side, outfit.bag == "across"
        )
    elif outfit.bag == "hand":
        accessories.draw_hand_bag(canvas, figure, outfit.bag_side, outfit.bag_cloth)
    if outfit.shawl:
        accessories.draw_shawl(canvas, figure, outfit.scarf_cloth, outfit.shawl)
    if outfit.scarf == "open" and not figure.from_behind:
        accessories.draw_scarf(canvas, figure, outfit.scarf_cloth, wrapped=False)
    if outfit.scarf == "wrapped":
        accessories.draw_scarf(canvas, figure, outfit.scarf_cloth, wrapped=True)
    draw_head(canvas, figure, hair)
    draw_locks(canvas, figure, hair, covering=outfit.covering_hair)


def _draw_arms(canvas: Canvas, figure: Figure, outfit: Outfit, before_coat: bool) -> None:
    """Draw forearms and sleeves; under a coat only the coat's sleeves."""
    top, coat = outfit.top, outfit.coat
    if before_coat and coat:
        return
    start = 0.28 if top.neck == "off_shoulder" else 0.0
    for side in (0, 1):
        draw_arm(canvas, figure, side, start=0.2 if top.neck in BARE or top.sleeve < 0.5 else 0.45)
        if coat:
            draw_sleeve(canvas, figure, side, coat.cloth, coat.sleeve, "straight", 0.075, cuff=None)
            continue
        bare = (
            top.neck == "strapless"
            or (top.neck == "one_shoulder" and side == 1)
            or (top.neck == "sweetheart" and top.amount >= 0.6)
        )
        if not bare:
            draw_sleeve(
                canvas,
                figure,
                side,
                top.cloth,
                max(top.sleeve, start + 0.1 if start else -1),
                top.sleeve_style,
                0.025 + 0.4 * top.ease,
                start,
                outfit.cuff if top.sleeve > 0.4 else None,
            )
