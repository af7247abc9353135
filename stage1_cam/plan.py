"""The settings of stage 1."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

from heatcrop.training.augment import Augmentation
from heatcrop.training.loop import Pooling, TrainingPlan
from heatcrop.training.views import TestViews


@dataclasses.dataclass(frozen=True)
class CamPlan:
    """What stage 1 does.

    Attributes
    ----------
    training : TrainingPlan
    pooling : float
        A logit is the mean of its class map over this share of the positions, the highest ones; 1 is average
        pooling. A small share finds small objects, whose evidence an average over the image would dilute.
    poolings : tuple of float
        Values tried beside `pooling`: the one whose network scores best on images that it did not train on is
        taken, if it is clearly better. Each costs one training more.
    augment : Augmentation
    views : int
        Augmented views of each training image that are cached behind a frozen trunk.
    folds : int
        Networks that share the training images' heatmaps; 1 takes them from the final network, which has
        trained on them (for comparison only).
    test : TestViews
    heatmap : {'evidence', 'spread', 'plain', 'contrast', 'distance'}
        ``evidence`` and ``spread`` do not depend on the prediction, see
        :func:`stage1_cam.heatmaps.evidence_heatmap`: against ``Invisible``, where the task has that class, or
        over all classes. The others are heatmaps of the predicted class, see
        :func:`stage1_cam.heatmaps.class_heatmap`.
    """

    training: TrainingPlan = TrainingPlan()
    pooling: Pooling = 1.0
    poolings: tuple[Pooling, ...] = ()
    augment: Augmentation = Augmentation()
    views: Annotated[int, Field(ge=1, le=1000)] = 4
    folds: Annotated[int, Field(ge=1, le=1000)] = 3
    test: TestViews = TestViews()
    heatmap: Literal["evidence", "spread", "plain", "contrast", "distance"] = "evidence"
