"""Which class maps a trained network gives: exact ones from the forward pass, or by a backward pass."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

from heatcrop.errors import EngineError


@dataclasses.dataclass(frozen=True)
class MapPlan:
    """How class maps are made.

    Attributes
    ----------
    method : {'cam', 'grad_cam', 'layer_cam'}
        ``cam`` comes with the logits in one forward pass. ``grad_cam`` weighs each channel by its mean
        gradient (Selvaraju et al., "Grad-CAM", ICCV 2017, eq. 1 and 2), ``layer_cam`` each position of each
        channel by its positive gradient (Jiang et al., "LayerCAM", IEEE TIP 2021, eq. 5 and 6).
    layer : int
        Which map is used, counted in blocks before the last one; 0 is the last map, as for CAM.
    """

    method: Literal["cam", "grad_cam", "layer_cam"] = "cam"
    layer: Annotated[int, Field(ge=0, le=10_000)] = 0

    @property
    def by_gradient(self) -> bool:
        """Whether a backward pass is needed, which ONNX Runtime lacks."""
        return self.method != "cam"

    def images_at_once(self, n_classes: int) -> int:
        """Bound the images of one backward pass, which computes each once for each class."""
        return max(1, 64 // n_classes)

    def check(self, trained_blocks: int) -> None:
        """Raise EngineError for a layer that the trained part of a network does not have."""
        if self.layer > trained_blocks:
            raise EngineError(
                f"heatmap.layer is {self.layer}, but only the last {trained_blocks} blocks are trained; "
                f"lower it, or lower network.frozen_blocks"
            )
