"""ResNets, with and without attention, against torchvision and timm."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, BlockSpec, Network
from pocketvision.models.resnet import resnet
from pocketvision.nn.attention import CbamSpec, SqueezeExciteSpec
from pocketvision.nn.residual import BasicResidualSpec

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


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_alias_has_timm_s_parameters(timm: Any, depth: int) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(f"seresnet{depth}", pretrained=False)
    assert count(registry.spec(f"seresnet{depth}")).parameters == parameters(theirs)


def test_se_resnet50_gives_timm_s_logits(timm: Any, build: Build, assert_twins: Twins) -> None:
    theirs = timm.create_model("seresnet50", pretrained=False)
    assert_twins(build(registry.spec("seresnet50")), theirs)


def test_se_resnet18_gives_timm_s_logits(timm: Any, build: Build, assert_twins: Twins) -> None:
    """timm rounds the hidden width up to 8 where 64 channels / 16 are 4."""

    def rounded(block: BlockSpec) -> BlockSpec:
        if not isinstance(block, BasicResidualSpec):
            return block
        squeezed = max(8, block.c_out // 16)
        return replace(block, attention=SqueezeExciteSpec(squeezed=squeezed, gate="sigmoid"))

    spec = resnet(depth=18)
    spec = replace(spec, blocks=tuple(rounded(block) for block in spec.blocks))
    theirs = timm.create_model("seresnet18", pretrained=False)
    assert_twins(build(spec), theirs)


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
