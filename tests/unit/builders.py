"""Small data that several test files need: label codes, predictions, tasks and image files."""

import sys

import numpy as np

from heatcrop.data.dataset import TaskData
from heatcrop.data.images import write_jpeg
from heatcrop.data.tasks import Task
from heatcrop.metrics.calibration import softmax
from heatcrop.nets.gluon.updater import MxnetUpdater
from heatcrop.training.loop import train


def letters_of(truth, n_classes, rng=None):
    """Return label codes of true classes; with a generator, some other classes are maybes."""
    letters = np.zeros((len(truth), n_classes), np.int8)
    if rng is not None:
        letters[rng.uniform(size=letters.shape) < 0.15] = 1
    letters[np.arange(len(truth)), truth] = 2
    return letters


def calibrated(rng, n_rows, n_classes, certainty):
    """Draw calibrated probabilities, and true classes from them."""
    p = softmax(rng.normal(size=(n_rows, n_classes)) * certainty)
    return p, draw_classes(rng, p)


def draw_classes(rng, p):
    """Draw a class of each row by its probabilities."""
    return (p.cumsum(axis=1) < rng.uniform(size=(len(p), 1))).sum(axis=1).clip(0, p.shape[1] - 1)


def make_data(splits, classes=("a", "b"), name="t", images=None, paths=None, groups=None):
    """Make the data of a task: image ``i`` is of class ``i % C``."""
    n = len(splits)
    images = tuple(images or (f"{i}.jpg" for i in range(n)))
    letters = letters_of(np.arange(n) % len(classes), len(classes))
    texts = [np.array(values, object) for values in (splits, groups or [""] * n)]
    return TaskData(Task(name, classes), images, paths or images, np.full((n, 2), 9), letters, *texts)


def write_noise(folder, sizes):
    """Write JPEG files of noise, ``0.jpg`` and so on, of some (width, height); return their paths."""
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{i}.jpg") for i in range(len(sizes))]
    for path, (width, height) in zip(paths, sizes, strict=True):
        write_jpeg(path, rng.integers(0, 256, (height, width, 3), np.uint8))
    return paths


def train_net(
    net, batches, n_batches, validate, plan, seed, on_epoch=lambda _: None, checkpoint=None, amp=False
):
    """Train a Gluon classifier on the CPU."""
    updater = MxnetUpdater(net, plan.optimiser, (), amp)
    return train(updater, batches, n_batches, validate, plan, seed, on_epoch, checkpoint)


def touch(root, *names):
    """Write empty files for images, which readers never open."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows_of(annotations):
    """List image, task, label and split of accepted rows, sorted."""
    return sorted(map(tuple, annotations.rows[["image", "task", "label", "split"]].to_numpy().tolist()))


def regions_of(annotations):
    """List image, task and corners of the true regions, sorted."""
    columns = ["image", "task", "x0", "y0", "x1", "y1"]
    return sorted(map(tuple, annotations.regions[columns].to_numpy().tolist()))


def reasons_of(annotations):
    """Return why rows are rejected, by source."""
    return dict(zip(annotations.rejected["source"], annotations.rejected["reason"], strict=True))


def n_calls(function, *arguments):
    """Count the calls of functions that a call makes, which is the same on a busy machine."""
    counts = {"call": 0, "c_call": 0}

    def count(_, event, __):
        if event in counts:
            counts[event] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function(*arguments)
    finally:
        sys.setprofile(before)
    return sum(counts.values())
