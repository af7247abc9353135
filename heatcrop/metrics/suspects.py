"""Which labels are doubtful: confident learning.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of
Artificial Intelligence Research 70, 2021: the confident joint of section 3.1, and pruning by class of section
3.2. Predictions must come from networks that did not train on the images.
"""

from __future__ import annotations

import numpy as np


def confident_joint(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Count images by given class and by the class that they confidently belong to.

    An image confidently belongs to a class whose probability is at least the mean probability of that class
    among the images labelled with it; of several such classes, to the most probable. Others do not count.

    Parameters
    ----------
    labels : ndarray of int, shape (N,)
    probabilities : ndarray of float, shape (N, C)

    Returns
    -------
    ndarray of int, shape (C, C)
        Given classes in rows.

    Examples
    --------
    Of three images of class 0 the last one is confidently class 1:

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8]])
    >>> confident_joint(np.array([0, 0, 0, 1]), p).tolist()
    [[2, 1], [0, 1]]
    """
    n_classes = probabilities.shape[1]
    own = [probabilities[labels == i, i] for i in range(n_classes)]
    # Less what rounding may add: the mean of equal probabilities can exceed them.
    thresholds = np.array([one.mean() - 1e-9 if len(one) else np.inf for one in own])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted = confident.max(axis=1) >= 0
    joint = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(joint, (labels[counted], confident[counted].argmax(axis=1)), 1)
    return joint


def find_suspects(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Find doubtful labels by class: as many as the confident joint estimates, the least probable ones.

    Parameters
    ----------
    labels : ndarray of int, shape (N,)
    probabilities : ndarray of float, shape (N, C)

    Returns
    -------
    ndarray of bool, shape (N,)

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8]])
    >>> find_suspects(np.array([0, 0, 0, 1]), p).tolist()
    [False, False, True, False]
    """
    joint, suspect = confident_joint(labels, probabilities), np.zeros(len(labels), bool)
    for i, counts in enumerate(joint):
        rows = np.flatnonzero(labels == i)
        if not counts.sum():
            continue
        # The calibrated joint: rows are scaled to the number of images that have the label.
        wrong = round(len(rows) * (1 - counts[i] / counts.sum()))
        suspect[rows[np.argsort(probabilities[rows, i], kind="stable")[:wrong]]] = True
    return suspect
