"""Compare boxes quickly by how well they serve a classifier: fixed features and a linear probe.

A linear classifier on the features of a fixed network ranks candidate crops in seconds where fine-tuning
would take minutes each (linear probes: Alain and Bengio, 2017). Its figures only compare boxes with each
other; the networks of stages 1 and 3 score higher.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from heatcrop.data.images import read_image
from heatcrop.nets.backbones import InputForm
from heatcrop.nets.inference import Runner
from heatcrop.training.batches import batched, normalise, read_ahead
from heatcrop.training.views import framed, sample

Box = tuple[int, int, int, int]

_INVERSE_PENALTY = 0.003
"""Of the probe's logistic regression: a thousand standardised features and a few hundred rows need a strong
penalty; the branch's temperature corrects the remaining over-confidence."""
_FITTED_ROWS = 2000
"""Rows that a probe of labels is fitted on: more take minutes."""
_IMAGES_AT_ONCE = 8
"""Images whose boxes pass the network together: a GPU would wait between smaller batches."""


def box_features(
    runner: Runner,
    form: InputForm,
    paths: Sequence[str],
    boxes: Sequence[Sequence[Box]],
    done: Callable[[int], None] = lambda _: None,
) -> list[np.ndarray]:
    """Compute the pooled features, (K, F) float32, of each image's K boxes; (0, 0) where it has none.

    `runner` maps (B, 3, S, S) to (B, F, h, w), the last feature map of a fixed network. Each image is read
    once; `done` gets the number of boxes done since the last call.
    """

    def features_of(chunk: np.ndarray) -> np.ndarray:
        samples = []
        for i in chunk:
            image = read_image(paths[i])
            samples += [sample(image, framed(box, form.fit), form.side_px) for box in boxes[i]]
        return runner(normalise(np.stack(samples), form.backbone))[0].mean(axis=(2, 3))

    wanted = np.flatnonzero([len(of_image) for of_image in boxes])
    chunks = list(batched(wanted, _IMAGES_AT_ONCE))
    found = [np.zeros((0, 0), np.float32)] * len(paths)
    for chunk, features in zip(chunks, read_ahead(features_of, chunks, form.threads), strict=True):
        ends = np.cumsum([len(boxes[i]) for i in chunk])
        for i, of_image in zip(chunk, np.split(features, ends[:-1]), strict=True):
            found[i] = of_image
        done(len(features))
    return found


def probe_predictions(
    features: np.ndarray, classes: np.ndarray, n_classes: int, folds: np.ndarray
) -> np.ndarray:
    """Predict each row by a linear probe that is fitted on the other folds.

    From (N, F) features, (N,) classes and (N,) folds to (N, n_classes) probabilities, 0 for classes that the
    other folds lack.
    """
    out = np.zeros((len(features), n_classes))
    for fold in np.unique(folds):
        inside, outside = folds == fold, folds != fold
        out[inside] = _fit(features[outside], classes[outside], n_classes)(features[inside])
    return out


def probe_labels(
    features_of: Callable[[np.ndarray], Iterable[np.ndarray]],
    classes: np.ndarray,
    n_classes: int,
    folds: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Predict each row by a linear probe that is fitted on other folds, also of many rows.

    A network that has trained on other images knows nothing of the labels of these; a probe on its features
    does, of all but the row's own fold.

    Parameters
    ----------
    features_of : callable
        Maps some rows, (B,) int, to their features in order, part by part, each (b, F).
    classes : ndarray of int, shape (N,)
    n_classes : int
    folds : ndarray of int, shape (N,)
    seed : int
        Of the sample of up to 2,000 rows that probes are fitted on.

    Returns
    -------
    ndarray of float, shape (N, n_classes)
        Probabilities; NaN where a row's label is no other fold's: no probe could confirm it.
    """
    n_rows, out = len(classes), np.full((len(classes), n_classes), np.nan)
    sampled = np.arange(n_rows)
    if n_rows > _FITTED_ROWS:
        sampled = np.sort(np.random.default_rng(seed).choice(n_rows, _FITTED_ROWS, replace=False))
    features, probes = np.concatenate([*features_of(sampled)]), {}
    for fold in np.unique(folds).tolist():
        outside = folds[sampled] != fold
        known = classes[sampled][outside]
        probes[fold] = _fit(features[outside], known, n_classes), np.unique(known)
    first = 0
    for part in [features] if len(sampled) == n_rows else features_of(np.arange(n_rows)):
        rows = np.arange(first, first + len(part))
        first += len(part)
        for fold, (predict, known) in probes.items():
            mine = (folds[rows] == fold) & np.isin(classes[rows], known)
            if mine.any():
                out[rows[mine]] = predict(part[mine])
    return out


def _fit(features: np.ndarray, classes: np.ndarray, n_classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """Fit a probe: a function from (M, F) features to (M, n_classes) probabilities, 0 for absent classes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    present = np.unique(classes)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=_INVERSE_PENALTY, max_iter=100))
    if len(present) > 1:
        with warnings.catch_warnings(), threadpool_limits(1):  # several cores take four times the time of one
            warnings.simplefilter("ignore", ConvergenceWarning)  # close enough to compare boxes
            warnings.filterwarnings("ignore", "The number of unique classes")  # of a few images each
            probe.fit(features, classes)

    def predict(x: np.ndarray) -> np.ndarray:
        out = np.zeros((len(x), n_classes))
        out[:, present] = probe.predict_proba(x) if len(present) > 1 else 1.0
        return out

    return predict
