"""Compare boxes quickly by how well they serve a classifier: fixed features and a linear probe.

A linear classifier on the features of a fixed network ranks candidate crops in seconds where fine-tuning
would take minutes each (linear probes: Alain and Bengio, 2017). Its figures only compare boxes with each
other; the networks of stages 1 and 3 score higher.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

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
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    out = np.zeros((len(features), n_classes))
    for fold in np.unique(folds):
        inside, outside = folds == fold, folds != fold
        present = np.unique(classes[outside])
        if len(present) < 2:
            out[np.ix_(inside, present)] = 1.0
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=_INVERSE_PENALTY, max_iter=100))
        with warnings.catch_warnings(), threadpool_limits(1):  # several cores take four times the time of one
            warnings.simplefilter("ignore", ConvergenceWarning)  # close enough to compare boxes
            probe.fit(features[outside], classes[outside])
        out[np.ix_(inside, present)] = probe.predict_proba(features[inside])
    return out
