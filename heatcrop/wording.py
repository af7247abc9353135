"""Numbers in messages for the user."""

from __future__ import annotations

import re

_FORMS = re.compile(r"\((?:([^()|]*)\|)?([^()|]*)\)")


def counted(number: int, what: str) -> str:
    """Write a number and what it counts, in the singular or the plural.

    ``(singular|plural)`` in `what` becomes one of the two, and ``(s)`` an ending of the plural.

    >>> counted(1, "image(s)"), counted(1234, "cop(y|ies) that (is|are) left out")
    ('1 image', '1,234 copies that are left out')
    """
    form = 1 if number == 1 else 2
    return f"{number:,} {_FORMS.sub(lambda found: found[form] or '', what)}"
