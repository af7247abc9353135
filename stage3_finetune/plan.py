"""The settings of stage 3."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from pydantic import Field

from heatcrop.training.augment import Augmentation
from heatcrop.training.loop import TrainingPlan
from heatcrop.training.views import TestViews


@dataclasses.dataclass(frozen=True)
class FinetunePlan:
    """What stage 3 does.

    Attributes
    ----------
    training : TrainingPlan
    augment : Augmentation
    views : int
        Augmented views of each training crop that are cached behind a frozen trunk.
    test : TestViews
    cross_fit : bool
        Fit the fusion on training images too: for each of stage 1's folds a crop network is trained without
        it, so that both branches have predicted every training image without training on it. Costs one more
        training; without it a small validation split decides alone.
    """

    training: TrainingPlan = TrainingPlan()
    augment: Augmentation = Augmentation()
    views: Annotated[int, Field(ge=1, le=1000)] = 4
    test: TestViews = TestViews()
    cross_fit: bool = True
