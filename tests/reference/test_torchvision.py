"""The same weights give the same logits in torchvision."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pocketvision.measure.count import count
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.mobilenet_v2 import mobilenet_v2
from pocketvision.models.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from pocketvision.nn.conv import BatchNormSpec

pytestmark = pytest.mark.reference

Build = Callable[[ArchSpec], Network]
Twins = Callable[[nn.Module, nn.Module], None]

AUTHORS_NORM = BatchNormSpec(eps=1e-3, momentum=0.01)
BUILDERS = {"mobilenet_v3_large": mobilenet_v3_large, "mobilenet_v3_small": mobilenet_v3_small}


@pytest.mark.parametrize("width", [0.35, 0.5, 1.0, 1.4])
def test_mobilenet_v2_gives_torchvision_s_logits(
    torchvision: Any, width: float, build: Build, assert_twins: Twins
) -> None:
    network = build(mobilenet_v2(width=width))
    theirs = torchvision.models.mobilenet_v2(width_mult=width)
    assert_twins(network, theirs)


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize(
    ("width", "dilated", "reduced_tail"),
    [
        (1.0, False, False),
        (0.35, False, False),
        (0.5, False, False),
        (1.25, False, False),
        (1.0, True, False),
        (1.0, False, True),
        (0.5, True, True),
    ],
)
def test_mobilenet_v3_gives_torchvision_s_logits(
    torchvision: Any,
    name: str,
    width: float,
    dilated: bool,
    reduced_tail: bool,
    build: Build,
    assert_twins: Twins,
) -> None:
    spec = BUILDERS[name](
        width=width,
        width_rule="torchvision",
        norm=AUTHORS_NORM,
        dilated=dilated,
        reduced_tail=reduced_tail,
    )
    network = build(spec)
    module = importlib.import_module("torchvision.models.mobilenetv3")
    rows, last = module._mobilenet_v3_conf(
        name, width_mult=width, dilated=dilated, reduced_tail=reduced_tail
    )
    theirs = module.MobileNetV3(rows, last)
    assert_twins(network, theirs)


@pytest.mark.parametrize(
    ("entry", "spec"),
    [
        ("MobileNet_V2_Weights", mobilenet_v2()),
        ("MobileNet_V3_Large_Weights", mobilenet_v3_large()),
        ("MobileNet_V3_Small_Weights", mobilenet_v3_small()),
    ],
)
def test_parameters_are_those_torchvision_publishes(
    torchvision: Any, entry: str, spec: Any
) -> None:
    weights = getattr(torchvision.models, entry).IMAGENET1K_V1
    assert count(spec).parameters == weights.meta["num_params"]


def test_official_mobilenet_v2_weights_give_torchvision_s_logits(
    torchvision: Any, assert_twins: Twins
) -> None:
    folder = os.environ.get("POCKETVISION_TEST_DATA")
    if folder is None:
        pytest.skip("POCKETVISION_TEST_DATA is not set")
    path = Path(folder) / "weights" / "mobilenet_v2-b0353104.pth"
    if not path.exists():
        pytest.skip(f"{path} does not exist")
    state = torch.load(path, weights_only=True)
    theirs = torchvision.models.mobilenet_v2()
    theirs.load_state_dict(state)
    network = mobilenet_v2().build(seed=0)
    assert_twins(theirs, network)
