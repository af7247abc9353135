"""Choose how a task's class maps are pooled, on images that the compared networks did not train on."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from heatcrop.metrics.choice import clearly_best
from heatcrop.training.fit import validation_figures

_RESAMPLES = 200


@dataclasses.dataclass(frozen=True)
class TriedPooling:
    """The figures of one pooling; an entry of ``stage1/pooling.json``."""

    pooling: float
    ap: float
    """Official AP on the compared rows; of a shared network, the mean over its tasks."""
    difference: float
    error: float
    """Mean and standard error (bootstrap over rows) of its AP less the configured pooling's."""
    chosen: bool = False


@dataclasses.dataclass(frozen=True)
class PoolingFigures:
    """Content of ``stage1/pooling.json``."""

    rows: int
    """How many images the poolings were compared on."""
    tried: tuple[TriedPooling, ...]


def choose_pooling(
    logits: Mapping[float, np.ndarray], soft: np.ndarray, letters: np.ndarray, seed: int = 0
) -> list[TriedPooling]:
    """Compare poolings, the configured one first.

    The best one is chosen if it is clearly better, see :func:`heatcrop.metrics.choice.clearly_best`.

    Parameters
    ----------
    logits : mapping of float to ndarray of float, shape (N, C)
        By pooling, of the same rows.
    soft : ndarray of float32, shape (N, C)
        Soft labels, below 0 at classes that do not belong to a row.
    letters : ndarray of int8, shape (N, C)
        Label codes.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of TriedPooling
        In the given order; one is chosen.
    """
    n_rows, rng = len(letters), np.random.default_rng(seed)
    drawn = (rng.integers(0, n_rows, n_rows) for _ in range(_RESAMPLES))  # all at once could fill the memory
    aps = np.array(
        [
            [validation_figures(one[rows], soft[rows], letters[rows])[1] for one in logits.values()]
            for rows in itertools.chain([np.arange(n_rows)], drawn)
        ]
    ).T
    gains = [ap[1:] - aps[0][1:] for ap in aps]
    chosen = clearly_best([ap[0] for ap in aps], [gain.std() for gain in gains])
    return [
        TriedPooling(pooling, float(ap[0]), float(gain.mean()), float(gain.std()), place == chosen)
        for place, (pooling, ap, gain) in enumerate(zip(logits, aps, gains, strict=True))
    ]
