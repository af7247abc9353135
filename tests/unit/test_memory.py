"""The memory that a training needs on a card: our count against MXNet's plan, and the lines of check."""

import dataclasses
import re

import pytest

from heatcrop.cli.config import Config
from heatcrop.cli.machine import memory_lines, training_need
from heatcrop.nets.devices import Card, Devices
from heatcrop.nets.gluon.blocks import build_blocks
from heatcrop.nets.gluon.classifier import MxnetClassifier, build_classifier
from heatcrop.nets.gluon.engine import mxnet
from heatcrop.training.loop import TrainingPlan

ROWS, SIDE = 16, 64


@pytest.mark.parametrize("backbone", ["resnet18_v2", "efficientnet_lite0", "mobilenet0.25"])
def test_the_count_is_near_what_mxnet_plans(backbone):
    """Its executor reports its allocation for both passes; plans for a GPU are the same."""
    mx = mxnet()
    net = build_classifier(build_blocks(backbone, "none"), (3, SIDE, SIDE), 5, 0.0, 0)
    symbol = net(mx.sym.var("data"))
    required = {name: "null" if name == "data" else "write" for name in symbol.list_arguments()}
    executor = symbol.simple_bind(ctx=mx.cpu(), grad_req=required, data=(ROWS, 3, SIDE, SIDE))
    planned = int(re.findall(r"Total (\d+) MB allocated", executor.debug_str())[0])
    counted = ROWS * 4 * MxnetClassifier(net, (3, SIDE, SIDE)).activation_numbers() / 2**20
    assert 0.8 * planned < counted < 1.15 * planned


@pytest.fixture(scope="module")
def need():
    shape = (1000, 2, 2)
    classifier = MxnetClassifier(build_classifier([], shape, 1000, 0.0, 0), shape)

    def of(amp=False, **settings):
        plan = TrainingPlan(**{"optimizer": "sgd", "reload_best": False, **settings})
        return training_need(classifier, plan, amp)

    return of


@pytest.mark.parametrize(
    ("settings", "copies"),
    [
        ({}, 3),  # weights, gradients, momentum
        ({"optimizer": "adam"}, 4),
        ({"reload_best": True}, 4),
        ({"average": 0.9}, 6),
        ({"amp": True}, 3.5),
    ],
)
def test_the_copies_of_the_weights_are_counted(need, settings, copies):
    assert need(**settings)(0) == 2**30 + copies * 4 * (1000 * 1000 + 1000)


def test_float16_halves_the_activations(need):
    full, half = (need(amp=amp)(1) - need(amp=amp)(0) for amp in (False, True))
    assert full == 2 * half > 4 * 4000


@dataclasses.dataclass
class Data:
    task: object


@pytest.fixture
def lines():
    """The lines about a training on pretended cards of so many GB."""

    def of(*gigabytes, amp=False, **settings):
        network = {"backbone": "mobilenet0.25", "weights": "none", "frozen_blocks": 0, "input_px": 224}
        training = {"batch_size": 256, **settings}
        config = Config.model_validate(
            {
                "network": network,
                "cam": {"training": training},
                "finetune": {"training": {"batch_size": 8}},
            }
        )
        cards = tuple(Card(i, f"card {i}", (8, 6), int(gb * 2**30)) for i, gb in enumerate(gigabytes))
        tasks = {task.name: Data(task) for task in config.known_tasks()[:2]}
        return memory_lines(config, tasks, Devices(cards, amp=amp))

    return of


def test_a_batch_that_fits_is_reported(lines):
    (cam, finetune), problems = lines(24)
    assert problems == 0
    assert re.fullmatch(r"cam: 256 rows at once on a GPU take about [\d.]+ GB of 24\.0 GB", cam)
    assert finetune.startswith("finetune: 8 rows at once")


def test_a_batch_that_does_not_fit_is_reported_with_the_setting_that_fits(lines):
    (cam, _), problems = lines(2)
    assert problems == 1
    parts = int(re.search(r"too much for card 0: set cam\.training\.accumulate=(\d+)$", cam)[1])
    assert lines(2, accumulate=parts)[1] == 0
    assert lines(2, accumulate=parts - 1)[1] == 1


def test_cards_share_a_batch(lines):
    assert lines(24, 24)[0][0].startswith("cam: 128 rows at once")


@pytest.mark.parametrize("cards", [(24, 2), (2, 24)])
def test_the_smallest_card_counts(lines, cards):
    (cam, _), problems = lines(*cards)
    assert problems == 1
    assert f"of 2.0 GB, too much for card {cards.index(2)}" in cam


def test_a_card_too_small_for_one_row_is_reported(lines):
    (cam, _), problems = lines(0.5)
    assert problems == 2
    assert "take a smaller network or input" in cam


def test_mixed_precision_needs_less(lines):
    full, half = (
        float(re.search(r"about ([\d.]+) GB", lines(24, amp=amp)[0][0])[1]) for amp in (False, True)
    )
    assert half < full


def test_training_on_the_cpu_gives_no_lines(lines):
    assert lines() == ([], 0)
