"""The loss of tasks that share a network: each row counts for the classes of its own task."""

import numpy as np
import pytest

from heatcrop.data.groups import OTHER_TASK
from heatcrop.nets.gluon.engine import mxnet
from heatcrop.training.fit import validation_figures
from heatcrop.training.loop import TrainingPlan

from .builders import train_net

SPANS = (slice(0, 3), slice(3, 5))  # the classes of two tasks


def two_tasks(rng, n=12):
    """Draw soft labels of two tasks, in turns."""
    soft = np.full((n, 5), OTHER_TASK, np.float32)
    for i in range(n):
        span = SPANS[i % 2]
        soft[i, span] = rng.dirichlet(np.ones(span.stop - span.start))
    return soft


def make_net(weight, bias):
    """Make a classifier of flat inputs."""
    mx = mxnet()
    net = mx.gluon.nn.Dense(len(weight))
    net.initialize()
    net(mx.nd.zeros((1, weight.shape[1])))
    net.weight.set_data(mx.nd.array(weight))
    net.bias.set_data(mx.nd.array(bias))
    return net


def trained(weight, bias, x, soft):
    """Train one epoch on one batch; return the loss, weight and bias."""
    net = make_net(weight, bias)
    plan = TrainingPlan(epochs=1, optimizer="sgd", learning_rate=0.1, reload_best=False)
    (epoch,) = train_net(net, lambda _: iter([(x, soft)]), 1, lambda _: (0.0, 0.0, 0.0), plan, 0)
    return epoch.train_loss, net.weight.data().asnumpy(), net.bias.data().asnumpy()


@pytest.fixture
def drawn():
    """Weight, bias, inputs and soft labels of 12 rows."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((5, 4), (5,), (12, 4))]
    return (*arrays, two_tasks(rng))


def test_the_loss_is_the_mean_of_each_tasks_own_cross_entropy(drawn):
    weight, bias, x, soft = drawn
    loss, _, _ = trained(*drawn)
    own = [trained(weight[s], bias[s], x[i::2], soft[i::2, s])[0] for i, s in enumerate(SPANS)]
    assert loss == pytest.approx(np.mean(own), rel=1e-6)


@pytest.mark.parametrize("number", [0, 1])
def test_the_gradient_is_each_tasks_own(drawn, number):
    weight, bias, x, soft = drawn
    span, rows = SPANS[number], slice(number, None, 2)
    _, new_weight, new_bias = trained(*drawn)
    _, own_weight, own_bias = trained(weight[span], bias[span], x[rows], soft[rows, span])
    # Half of the rows are this task's, so its mean gradient counts half.
    assert new_weight[span] - weight[span] == pytest.approx((own_weight - weight[span]) / 2, abs=1e-6)
    assert new_bias[span] - bias[span] == pytest.approx((own_bias - bias[span]) / 2, abs=1e-6)


def test_classes_of_a_task_without_rows_do_not_change(drawn):
    weight, bias, x, soft = drawn
    _, new_weight, new_bias = trained(weight, bias, x[::2], soft[::2])
    assert np.array_equal(new_weight[3:], weight[3:])
    assert np.array_equal(new_bias[3:], bias[3:])
    assert not np.allclose(new_weight[:3], weight[:3])


def test_validation_figures_are_the_means_over_the_tasks():
    rng = np.random.default_rng(3)
    soft, logits = two_tasks(rng, 40), rng.normal(size=(40, 5)).astype(np.float32)
    letters = np.where(soft == soft.max(axis=1, keepdims=True), 2, 0).astype(np.int8)
    each = [
        validation_figures(logits[i::2, span], soft[i::2, span], letters[i::2, span])
        for i, span in enumerate(SPANS)
    ]
    assert validation_figures(logits, soft, letters) == pytest.approx(np.mean(each, axis=0))
