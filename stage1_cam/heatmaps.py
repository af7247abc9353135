"""From class maps to one heatmap, in the frame of the image's first view."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from heatcrop.training.views import View

KINDS = ("evidence", "spread", "plain", "contrast", "distance")


def merge_views(maps: np.ndarray, views: list[View]) -> np.ndarray:
    """Average the class maps of test-time views, each moved to its place in the image.

    Parameters
    ----------
    maps : ndarray of float, shape (T, C, h, w)
        Class maps of each view.
    views : list of View
        T of them, on the unit square.

    Returns
    -------
    ndarray of float32, shape (C, h, w)
        The mean over the views that cover a position. Views of the entire square are not interpolated.
    """
    maps = np.asarray(maps, np.float32)
    _, n_classes, height, width = maps.shape
    total = np.zeros((n_classes, height, width), np.float32)
    weight = np.zeros((height, width), np.float32)
    for one, view in zip(maps, views, strict=True):
        upright = one[:, :, ::-1] if view.flip else one
        if view.box == (0, 0, 1, 1):
            total += upright
            weight += 1
            continue
        # Position (i, j) of the result reads this position of the view's map.
        x = ((np.arange(width) + 0.5) / width - view.x0) / view.width * width - 0.5
        y = ((np.arange(height) + 0.5) / height - view.y0) / view.height * height - 0.5
        covered = ((y >= -0.5) & (y <= height - 0.5))[:, None] & ((x >= -0.5) & (x <= width - 0.5))[None, :]
        grid_x, grid_y = (g.astype(np.float32) for g in np.meshgrid(x, y))
        for sums, values in zip(total, np.ascontiguousarray(upright), strict=True):
            moved = cv2.remap(values, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            sums += np.where(covered, moved, 0)
        weight += covered
    return total / np.maximum(weight, 1)


def evidence_heatmap(
    maps: np.ndarray, invisible: int | None = None, trained: Sequence[int] | None = None
) -> np.ndarray:
    """Compute where the attribute shows, whichever of its classes it may be.

    Parameters
    ----------
    maps : ndarray of float, shape (C, h, w)
        Class maps, see :func:`class_heatmap`.
    invisible : int, optional
        The class of images that do not show the attribute.
    trained : sequence of int, optional
        The classes that training images show, by default all. The maps of others are evidence against them
        everywhere, and are left out; `invisible` counts only if it is one of these.

    Returns
    -------
    ndarray of float32, shape (h, w)
        With an invisible class the mean evidence for the other classes against it, negative where it
        prevails; where it prevails everywhere, how much less it does than where it prevails most. Otherwise
        the standard deviation over the classes: how much a position distinguishes them.

    Notes
    -----
    It does not depend on the prediction. A heatmap of the predicted class moves the crop with the prediction,
    and a network that is trained on such crops learns to repeat the prediction instead of reading the image.
    For the same reason an image without any evidence for the attribute has a heatmap: were such images alone
    not cropped, the crop would reveal the prediction.

    Examples
    --------
    >>> maps = np.array([[[4.0, 0.0]], [[3.0, 1.0]], [[2.0, -1.0]]])
    >>> evidence_heatmap(maps, invisible=2).tolist(), evidence_heatmap(maps, invisible=0).tolist()
    ([[1.5, 1.5]], [[0.0, 1.5]])
    >>> evidence_heatmap(maps, invisible=2, trained=(0, 2)).tolist()
    [[2.0, 1.0]]
    >>> evidence_heatmap(np.array([[[4.0, 1.0]], [[2.0, 1.0]]])).tolist()
    [[1.0, 0.0]]
    """
    maps = np.asarray(maps, np.float32)
    known = list(range(len(maps)) if trained is None else trained)
    visible = [number for number in known if number != invisible]
    if len(visible) in (0, len(known)):
        return np.asarray(maps[known].std(axis=0, dtype=np.float32))
    assert invisible is not None
    heat = np.asarray(maps[visible].mean(axis=0, dtype=np.float32) - maps[invisible])
    if heat.max() > 0:
        return heat
    # Where no test view covers a position all maps are 0, which is no evidence and not the least prevalence.
    return np.where(maps.any(axis=0), heat - heat.min(), np.float32(0))


def has_spread(kind: str, invisible: int | None, trained: Sequence[int]) -> bool:
    """Return whether heatmaps of `kind` are ``evidence`` against an invisible class, unlike ``spread``."""
    return kind == "evidence" and invisible in trained and len(trained) > 1


def class_heatmap(maps: np.ndarray, chosen: int, kind: str = "plain") -> np.ndarray:
    """Take one class's heatmap out of the class maps.

    Parameters
    ----------
    maps : ndarray of float, shape (C, h, w)
        Class maps: the classifier's weights applied to the last feature map (Zhou et al. 2016, eq. 2).
    chosen : int
        The class, as a rule the predicted one.
    kind : {'plain', 'contrast', 'distance'}
        ``plain`` is the class's map: evidence for it, including evidence for other classes as well.
        ``contrast`` subtracts the mean map of the other classes. ``distance`` is the root mean square of
        its differences to each of them: evidence that distinguishes it, in its favour or not. It finds the
        deciding region even where the prediction is wrong, since the same region distinguishes the wrong
        class from the right one.

    Returns
    -------
    ndarray of float32, shape (h, w)
        Any range; negative values (of the first two kinds) are evidence against the class.

    Examples
    --------
    >>> maps = np.array([[[4.0, 0.0]], [[3.0, 1.0]], [[3.0, -1.0]]])
    >>> class_heatmap(maps, 0).tolist(), class_heatmap(maps, 0, "contrast").tolist()
    ([[4.0, 0.0]], [[1.0, 0.0]])
    >>> class_heatmap(maps, 0, "distance").tolist()
    [[1.0, 1.0]]
    """
    if kind not in KINDS[2:]:
        raise ValueError(f"heatmap kind is {kind!r}; expected one of {', '.join(KINDS[2:])}")
    plain = np.asarray(maps[chosen], np.float32)
    if kind == "plain" or len(maps) == 1:
        return plain
    differences = plain - np.delete(maps, chosen, axis=0)
    if kind == "contrast":
        return np.asarray(differences.mean(axis=0, dtype=np.float32))
    return np.asarray(np.sqrt(np.square(differences).mean(axis=0, dtype=np.float32)))


def heatmaps_of(
    logits: np.ndarray,
    maps: np.ndarray,
    views: list[View],
    kind: str,
    invisible: int | None,
    trained: Sequence[int] | None = None,
) -> np.ndarray:
    """Compute the heatmaps, (B, h, w) float32, of B images.

    `logits` are (B, C), `maps` the class maps (B, T, C, h, w) of T `views`. `kind` is one of :data:`KINDS`:
    ``evidence``, see :func:`evidence_heatmap`; ``spread``, the same without an invisible class; or the
    kind of the predicted class's heatmap, see :func:`class_heatmap`.
    """
    merged = [merge_views(one, views) for one in maps]
    if kind in ("evidence", "spread"):
        against = invisible if kind == "evidence" else None
        return np.stack([evidence_heatmap(one, against, trained) for one in merged])
    predicted = logits.argmax(axis=1).tolist()
    return np.stack([class_heatmap(one, best, kind) for one, best in zip(merged, predicted, strict=True)])
