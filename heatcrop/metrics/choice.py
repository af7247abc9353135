"""Choose among settings by scores that are uncertain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def clearly_best(scores: Sequence[float], errors: Sequence[float], by: float = 1.0) -> int:
    """Return the place of the best score if it is clearly better than the first, else 0.

    Clearly is by more than `by` standard errors of the difference: the best of several uncertain scores is an
    optimistic choice (Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3).

    Parameters
    ----------
    scores : sequence of float
        At least one, that of the configured setting first.
    errors : sequence of float
        Standard error of each score's difference to the first.
    by : float
        One by default; more where many scores are compared.

    Examples
    --------
    >>> clearly_best([0.70, 0.72, 0.74], [0, 0.01, 0.03])
    2
    >>> clearly_best([0.70, 0.72, 0.74], [0, 0.01, 0.05])
    0
    """
    best = int(np.argmax(scores))
    return best if scores[best] - scores[0] > by * errors[best] else 0
