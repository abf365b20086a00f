"""The same weights give the same logits: ShuffleNetV2 in torchvision, MnasNet-A1 in timm."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, Network

pytestmark = pytest.mark.reference

Build = Callable[[ArchSpec], Network]
Twins = Callable[[nn.Module, nn.Module], None]


@pytest.mark.parametrize("name", registry.list_models("shufflenet_v2_*"))
def test_shufflenet_v2_gives_torchvision_s_logits(
    torchvision: Any, name: str, build: Build, assert_twins: Twins
) -> None:
    theirs = getattr(torchvision.models, name)()
    assert_twins(build(registry.spec(name)), theirs)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("shufflenet_v2_x0_5", "ShuffleNet_V2_X0_5_Weights"),
        ("shufflenet_v2_x1_0", "ShuffleNet_V2_X1_0_Weights"),
        ("shufflenet_v2_x1_5", "ShuffleNet_V2_X1_5_Weights"),
        ("shufflenet_v2_x2_0", "ShuffleNet_V2_X2_0_Weights"),
    ],
)
def test_parameters_are_those_torchvision_publishes(
    torchvision: Any, name: str, entry: str
) -> None:
    weights = getattr(torchvision.models, entry).IMAGENET1K_V1
    assert count(registry.spec(name)).parameters == weights.meta["num_params"]


@pytest.mark.parametrize(
    "name", ["semnasnet_050", "semnasnet_075", "semnasnet_100", "semnasnet_140"]
)
def test_mnasnet_a1_gives_timm_s_logits(
    timm: Any, name: str, build: Build, assert_twins: Twins
) -> None:
    theirs = timm.create_model(name, pretrained=False)
    assert_twins(build(registry.spec(name)), theirs)
