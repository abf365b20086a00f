"""ResNets, with and without attention, against torchvision and timm."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.resnet import resnet
from pocketvision.nn.attention import CbamSpec

pytestmark = pytest.mark.reference

Build = Callable[[ArchSpec], Network]
Twins = Callable[[nn.Module, nn.Module], None]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("depth", [18, 50])
def test_network_gives_torchvision_s_logits(
    torchvision: Any, depth: int, build: Build, assert_twins: Twins
) -> None:
    theirs = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    assert_twins(build(resnet(depth=depth)), theirs)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_network_has_torchvision_s_parameters_and_operations(torchvision: Any, depth: int) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    result = count(resnet(depth=depth))
    assert result.parameters == parameters(theirs)
    weights = getattr(torchvision.models, f"ResNet{depth}_Weights").IMAGENET1K_V1
    assert round(result.macs / 1e9, 3) == weights.meta["_ops"]


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_alias_has_timm_s_parameters(timm: Any, depth: int) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(f"seresnet{depth}", pretrained=False)
    assert count(registry.spec(f"seresnet{depth}")).parameters == parameters(theirs)


@pytest.mark.parametrize("name", ["seresnet18", "seresnet50"])
def test_alias_gives_timm_s_logits(timm: Any, name: str, build: Build, assert_twins: Twins) -> None:
    assert_twins(build(registry.spec(name)), timm.create_model(name, pretrained=False))


@torch.no_grad()
@pytest.mark.parametrize(("channels", "kernel", "bias"), [(64, 7, True), (32, 3, False)])
def test_cbam_is_timm_s_without_the_norm(timm: Any, channels: int, kernel: int, bias: bool) -> None:
    """timm, like the authors' code, has a batch norm that the paper does not."""
    ours = CbamSpec(squeezed=channels // 16, kernel=kernel, bias=bias).build(channels)
    theirs = timm.layers.create_attn(
        "cbam", channels, spatial_kernel_size=kernel, mlp_bias=bias
    ).eval()
    theirs.spatial.conv.bn = nn.Identity()
    given, places = ours.state_dict(), theirs.state_dict()
    assert [t.shape for t in given.values()] == [t.shape for t in places.values()]
    theirs.load_state_dict(dict(zip(places, given.values(), strict=True)))
    x = torch.randn(2, channels, 9, 11, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x))
