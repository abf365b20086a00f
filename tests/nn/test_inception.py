from typing import Any

import pytest
import torch

from pocketvision.errors import ConfigError
from pocketvision.nn.attention import SqueezeExciteSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.inception import Branch, Inception, InceptionSpec
from pocketvision.nn.layer import Size
from pocketvision.nn.pool import PoolSpec


def branches(stride: int = 1) -> tuple[Branch, ...]:
    return (
        (ConvSpec(c_in=8, c_out=4, kernel=1), ConvSpec(c_in=4, c_out=6, stride=stride)),
        (ConvSpec(c_in=8, c_out=3, kernel=5, stride=stride),),
        (PoolSpec(c_in=8, stride=stride),),
    )


SE = SqueezeExciteSpec(squeezed=2, gate="sigmoid")
MODULES = [
    InceptionSpec(branches=branches()),
    InceptionSpec(branches=branches(2)),
    InceptionSpec(branches=branches(2), attention=SE),
]


@pytest.mark.parametrize("spec", MODULES, ids=str)
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_module_output_has_the_stated_shape(spec: InceptionSpec, size: Size) -> None:
    out = spec.build().eval()(torch.zeros(2, 8, *size))
    assert out.shape == (2, spec.c_out, *spec.out_size(size))
    assert (spec.c_in, spec.c_out) == (8, 6 + 3 + 8)


@pytest.mark.parametrize("spec", MODULES, ids=str)
def test_module_counts_the_parameters_it_builds(spec: InceptionSpec) -> None:
    counted = sum(layer.parameters for layer in spec.layers((9, 9)))
    assert counted == sum(p.numel() for p in spec.build().parameters())


@torch.no_grad()
def test_branches_all_see_the_input_and_are_joined_in_order() -> None:
    module = InceptionSpec(branches=branches(), attention=SE).build().eval()
    assert isinstance(module, Inception)
    x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    given = x.clone()
    first, second, third = (branch(x) for branch in module.branches)
    joined = torch.cat([first, second, third], 1)
    torch.testing.assert_close(module(x), module.attention(joined))
    assert torch.equal(x, given)


@torch.no_grad()
def test_pool_alone_passes_channels_through() -> None:
    module = InceptionSpec(branches=branches(2)).build().eval()
    x = torch.randn(1, 8, 6, 6)
    pooled = torch.nn.functional.max_pool2d(x, 3, 2, 1)
    torch.testing.assert_close(module(x)[:, -8:], pooled)


def test_input_is_alive_until_the_last_branch_and_outputs_until_they_are_joined() -> None:
    spec = InceptionSpec(branches=branches(), attention=SE)
    pixels, x = 100, 8 * 100
    kept = [layer.kept for layer in spec.layers((10, 10))]
    joined = 17 * pixels
    assert kept == [0, x, 6 * pixels, joined, joined]
    last = InceptionSpec(branches=branches()[1::-1]).layers((10, 10))
    assert [layer.kept for layer in last] == [0, 3 * pixels, 3 * pixels]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((), "an inception module has an empty branch, or none; fill or drop it"),
        (((),), "an inception module has an empty branch, or none"),
        (
            ((ConvSpec(c_in=8, c_out=4), ConvSpec(c_in=5, c_out=4)),),
            "branch 0 takes 5 channels where 4 come; set that c_in to 4",
        ),
        (
            (*branches(), (PoolSpec(c_in=9, stride=1),)),
            r"branches have input channels \[8, 8, 8, 9\]; expected the same for all",
        ),
        (
            (*branches(), (PoolSpec(c_in=8),)),
            r"branches have strides \[1, 1, 1, 2\]; expected the same for all",
        ),
        (
            ((PoolSpec(c_in=8), PoolSpec(c_in=8)),),
            "branches of stride 4 are not allowed; expected 1 or 2",
        ),
    ],
)
def test_module_refuses_branches_that_do_not_fit(wrong: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InceptionSpec(branches=wrong)
