"""The rendered default: dressed figures drawn by code, from a seed, for all eight tasks.

FashionAI's pictures lie behind a registration; these do not. ``render`` draws one picture,
``write_dataset`` a whole set in FashionAI's layout.
"""

from .dataset import RENDERER_VERSION, write_dataset
from .rendering import Rendering, render

__all__ = ["RENDERER_VERSION", "Rendering", "render", "write_dataset"]
