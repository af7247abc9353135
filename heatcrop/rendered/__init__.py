"""Render the default data set: dressed figures for all eight tasks, drawn from a seed.

FashionAI's images need a registration; these do not. :func:`render` draws one image, :func:`write_dataset` a
data set in FashionAI's layout.
"""

from .dataset import RENDERER_VERSION, missing_tasks, write_dataset
from .rendering import Rendering, render

__all__ = ["RENDERER_VERSION", "Rendering", "missing_tasks", "render", "write_dataset"]
