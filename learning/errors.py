"""What a training can come to that is the settings' fault, not the program's."""

from __future__ import annotations


class DivergedError(Exception):
    """A training has run away: what it computes is no finite number any more, and will be none again."""
