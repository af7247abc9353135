"""Train and export one network of every family: ``python -m pytest tests/soak/backbones.py``."""

import pytest

from heatcrop.nets.backbones import ZOO, expand
from heatcrop.nets.gluon.blocks import build_blocks
from tests.unit.test_backbones import KINDS, check_training_and_export

FAMILIES = [
    *KINDS,
    ("efficientnet_lite0", 64, 18, (1280, 2, 2)),
    ("resnet18_v2", 64, 15, (512, 2, 2)),
    ("resnet18_v1b", 64, 12, (512, 2, 2)),
    ("resnet50_v1d", 64, 26, (2048, 2, 2)),
    ("se_resnet18_v1", 64, 12, (512, 2, 2)),
    ("se_resnet18_v2", 64, 15, (512, 2, 2)),
    ("resnext50_32x4d", 64, 20, (2048, 2, 2)),
    ("se_resnext50_32x4d", 64, 20, (2048, 2, 2)),
    ("resnest14", 64, 14, (2048, 2, 2)),
    ("residualattentionnet56", 224, 15, (2048, 7, 7)),
    ("densenet121", 64, 76, (1024, 2, 2)),
    ("mobilenet0.25", 64, 81, (256, 2, 2)),
    ("resnet18_v1", 64, 12, (512, 2, 2)),
    ("mobilenetv3_small", 64, 17, (576, 2, 2)),
    ("shufflenet_v2", 64, 23, (1024, 2, 2)),
    ("vgg11", 64, 21, (512, 2, 2)),
    ("vgg11_bn", 64, 29, (512, 2, 2)),
    ("googlenet", 64, 22, (1024, 2, 2)),
    ("inceptionv3", 139, 28, (2048, 3, 3)),
    ("inceptionv4", 139, 28, (1536, 3, 3)),
    ("xception", 75, 1, (2048, 3, 3)),
    ("darknet53", 64, 41, (1024, 2, 2)),
    ("dla34", 64, 13, (512, 2, 2)),
    ("hrnet_w18_small_v1_c", 64, 1, (2048, 2, 2)),
]


@pytest.mark.parametrize(("name", "side", "n_blocks", "last_map"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_each_family_trains_and_exports(tmp_path, name, side, n_blocks, last_map):
    check_training_and_export(tmp_path, name, side, n_blocks, last_map)


def test_every_classifier_of_the_zoo_is_named():
    """The comment of :data:`ZOO` lists the exceptions; other networks of the zoo need more than an image."""
    build_blocks("mobilenet0.25", "none")  # imports the zoo
    from gluoncv.model_zoo.model_zoo import _models

    named = {name for pattern in ZOO for name in expand(pattern)}
    families = (
        *("resnet", "resnext", "se_res", "senet", "resnest", "residual", "densenet", "mobilenet", "nasnet"),
        *("shufflenet", "squeezenet", "vgg", "alexnet", "googlenet", "inception", "xception", "dla"),
        *("darknet", "hrnet"),
    )
    other = ("cifar", "kinetics", "sthsth", "hmdb51", "ucf101", "custom", "_coco", "_int8", "_gn")
    rest = {
        name
        for name in _models
        if name.startswith(families) and not any(word in name for word in other) and name not in named
    }
    nasnets = {"nasnet_4_1056", "nasnet_5_1538", "nasnet_6_4032", "nasnet_7_1920"}
    assert rest == nasnets | {"hrnet_w18_small_v1_s", "hrnet_w18_small_v2_s", "hrnet_w48_s"}
