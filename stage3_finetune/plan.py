"""The settings of stage 3."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

from heatcrop.training.augment import Augmentation
from heatcrop.training.loop import TrainingPlan
from heatcrop.training.views import TestViews


@dataclasses.dataclass(frozen=True)
class FinetunePlan:
    """What stage 3 does.

    Attributes
    ----------
    start : {'full_image', 'published'}
        What the training begins with: stage 1's network, or the published weights of the backbone. Stage 1's
        network has learned the classes already, but from the same images: where these are few, it has
        memorised their labels, and learns less from their crops.
    training : TrainingPlan
    augment : Augmentation
    views : int
        Augmented views of each training crop that are cached behind a frozen trunk.
    test : TestViews
    cross_fit : bool
        Fit the fusion on training images too: for each of stage 1's folds a crop network is trained without
        it, so that both branches have predicted every training image without training on it. Costs as much as
        ``cam.folds`` - 1 more trainings; without it a small validation split decides alone.
    """

    start: Literal["full_image", "published"] = "full_image"
    training: TrainingPlan = TrainingPlan()
    augment: Augmentation = Augmentation()
    views: Annotated[int, Field(ge=1, le=1000)] = 4
    test: TestViews = TestViews()
    cross_fit: bool = True
