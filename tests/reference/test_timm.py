"""The same weights give the same logits in timm."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from pocketvision.measure.count import count
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.mobilenet_v1 import mobilenet_v1
from pocketvision.models.mobilenet_v2 import mobilenet_v2
from pocketvision.models.mobilenet_v3 import (
    mobilenet_v3_large,
    mobilenet_v3_small,
)
from pocketvision.nn.conv import BatchNormSpec

pytestmark = pytest.mark.reference

Build = Callable[[ArchSpec], Network]
Twins = Callable[[nn.Module, nn.Module], None]

TF_NORM = BatchNormSpec(eps=1e-3, momentum=0.01)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("mobilenetv1_100", mobilenet_v1(act="relu6")),
        ("mobilenetv2_100", mobilenet_v2()),
        ("mobilenetv2_050", mobilenet_v2(width=0.5)),
        ("mobilenetv2_140", mobilenet_v2(width=1.4)),
        ("mobilenetv3_large_100", mobilenet_v3_large(width_rule="timm")),
        ("mobilenetv3_large_075", mobilenet_v3_large(width=0.75, width_rule="timm")),
        ("mobilenetv3_small_100", mobilenet_v3_small(width_rule="timm")),
        ("mobilenetv3_small_075", mobilenet_v3_small(width=0.75, width_rule="timm")),
        ("mobilenetv3_small_050", mobilenet_v3_small(width=0.5, width_rule="timm")),
    ],
)
def test_network_gives_timm_s_logits(
    timm: Any, name: str, spec: ArchSpec, build: Build, assert_twins: Twins
) -> None:
    theirs = timm.create_model(name, pretrained=False)
    network = build(spec)
    assert_twins(network, theirs)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("tf_mobilenetv3_large_minimal_100", mobilenet_v3_large(minimalistic=True, norm=TF_NORM)),
        ("tf_mobilenetv3_small_minimal_100", mobilenet_v3_small(minimalistic=True, norm=TF_NORM)),
    ],
)
def test_minimalistic_network_gives_timm_s_logits(
    timm: Any, name: str, spec: ArchSpec, build: Build, assert_twins: Twins
) -> None:
    theirs = timm.create_model(name, pretrained=False, pad_type="")  # "same" pads at one side only
    assert count(spec).parameters == sum(p.numel() for p in theirs.parameters())
    network = build(spec)
    assert_twins(network, theirs)
