"""What a training takes of a card's memory: our count against MXNet's own plan, and what check says."""

import re

import pytest

from heatcrop.cli.config import Config
from heatcrop.cli.machine import memory_lines
from heatcrop.nets.cards import Card, Devices
from heatcrop.nets.classifier import NetworkPlan, build_classifier, build_trunk, split_blocks
from heatcrop.nets.engine import mxnet
from heatcrop.nets.memory import activation_numbers, output_shape, training_need
from heatcrop.training.loop import TrainingPlan

ROWS, SIDE = 16, 64


@pytest.mark.parametrize("backbone", ["resnet18_v2", "efficientnet_lite0", "mobilenet0.25"])
def test_the_count_is_near_what_mxnet_plans(backbone):
    """Its executor tells how much it allocates for a way forward and back; plans of a GPU are the same."""
    mx = mxnet()
    _, blocks = split_blocks(NetworkPlan(backbone, "none", 0, 0.0, False), 0)
    net = build_classifier(blocks, (3, SIDE, SIDE), 5, 0.0, 0)
    symbol = net(mx.sym.var("data"))
    required = {name: "null" if name == "data" else "write" for name in symbol.list_arguments()}
    executor = symbol.simple_bind(ctx=mx.cpu(), grad_req=required, data=(ROWS, 3, SIDE, SIDE))
    planned = int(re.findall(r"Total (\d+) MB allocated", executor.debug_str())[0])
    counted = ROWS * 4 * activation_numbers(net, (3, SIDE, SIDE)) / 2**20
    assert 0.8 * planned < counted < 1.15 * planned


def test_what_is_counted_beside_the_activations():
    net = build_classifier([], (1000, 2, 2), 1000, 0.0, 0)
    weights = 4 * (1000 * 1000 + 1000)

    def fixed(amp=False, **settings):
        return training_need(net, (1000, 2, 2), TrainingPlan(**settings), amp).fixed

    plain = fixed(optimizer="sgd", reload_best=False)
    assert plain == 3 * weights + 2**30  # weights, gradients, momentum
    assert fixed(optimizer="adam", reload_best=False) == plain + weights
    assert fixed(optimizer="sgd", reload_best=True) == plain + weights
    assert fixed(optimizer="sgd", reload_best=False, average=0.9) == plain + 3 * weights
    assert fixed(True, optimizer="sgd", reload_best=False) == plain + weights // 2
    full, half = (training_need(net, (1000, 2, 2), TrainingPlan(), amp).row for amp in (False, True))
    assert full == 2 * half and full > 4 * 4000


def test_a_frozen_trunk_takes_only_its_output():
    blocks, _ = split_blocks(NetworkPlan("resnet18_v2", "none", 6, 0.0, False), 0)
    assert output_shape(build_trunk(blocks), (3, 64, 64)) == (64, 16, 16)


class Data:
    def __init__(self, task):
        self.task = task


@pytest.fixture
def lines():
    """What is said of a training on made-up cards."""

    def log(*gigabytes, amp=False, **settings):
        config = Config.model_validate(
            {
                "network": {
                    "backbone": "mobilenet0.25",
                    "weights": "none",
                    "frozen_blocks": 0,
                    "input_px": 224,
                },
                "cam": {"training": {"batch_size": 256, **settings}},
                "finetune": {"training": {"batch_size": 8}},
            }
        )
        cards = tuple(Card(i, f"card {i}", (8, 6), int(gb * 2**30)) for i, gb in enumerate(gigabytes))
        tasks = {task.name: Data(task) for task in config.known_tasks()[:2]}
        return memory_lines(config, tasks, Devices(cards, amp=amp))

    return log


def test_a_batch_that_fits_is_told(lines):
    told, problems = lines(24)
    assert problems == 0 and told[0].startswith("cam: 256 rows at once on a GPU take about ")
    assert told[0].endswith("of 24.0 GB") and told[1].startswith("finetune: 8 rows at once")


def test_a_batch_that_does_not_fit_is_told_with_what_to_set(lines):
    told, problems = lines(2)
    assert problems == 1 and "too much for card 0: set cam.training.accumulate=" in told[0]
    parts = int(told[0].rsplit("=", 1)[1])
    assert lines(2, accumulate=parts)[1] == 0  # what it says is enough
    assert lines(2, accumulate=parts - 1)[1] == 1  # and no more than enough
    assert lines(2, 2, accumulate=-(-parts // 2))[1] == 0  # two cards share it
    assert lines(24, 2)[1] == 0 or "card 1" in lines(24, 2)[0][0]  # the smallest counts


def test_a_card_too_small_for_one_row_is_told(lines):
    told, problems = lines(0.5)
    assert problems == 2 and "take a smaller network or input" in told[0]


def test_mixed_precision_takes_less(lines):
    full, half = (
        float(re.search(r"about ([\d.]+) GB", lines(24, amp=amp)[0][0])[1]) for amp in (False, True)
    )
    assert half < full


def test_nothing_is_said_of_the_cpu(lines):
    assert lines() == ([], 0)
