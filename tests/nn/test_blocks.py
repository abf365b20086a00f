import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from pocketvision.errors import ConfigError
from pocketvision.nn.attention import SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidual, InvertedResidualSpec, SeparableSpec

BLOCKS = [
    SeparableSpec(c_in=8, c_out=16),
    SeparableSpec(c_in=8, c_out=16, stride=2, kernel=5),
    InvertedResidualSpec(c_in=8, c_mid=8, c_out=8),
    InvertedResidualSpec(c_in=8, c_mid=24, c_out=8),
    InvertedResidualSpec(c_in=8, c_mid=24, c_out=16, stride=2, kernel=5, act="hswish"),
    InvertedResidualSpec(
        c_in=8, c_mid=24, c_out=8, dilation=2, attention=SqueezeExciteSpec(squeezed=8)
    ),
]


@pytest.mark.parametrize("spec", BLOCKS, ids=str)
@pytest.mark.parametrize("size", [(16, 16), (7, 9)])
def test_block_output_has_the_stated_shape(
    spec: SeparableSpec | InvertedResidualSpec, size: tuple[int, int]
) -> None:
    out = spec.build().eval()(torch.zeros(2, spec.c_in, *size))
    assert out.shape == (2, spec.c_out, *spec.out_size(size))


@pytest.mark.parametrize("spec", BLOCKS, ids=str)
def test_block_counts_the_parameters_it_builds(spec: SeparableSpec | InvertedResidualSpec) -> None:
    counted = sum(layer.parameters for layer in spec.layers((16, 16)))
    assert counted == sum(p.numel() for p in spec.build().parameters())


@pytest.mark.parametrize("spec", BLOCKS, ids=str)
def test_layers_chain_in_size(spec: SeparableSpec | InvertedResidualSpec) -> None:
    layers = [layer for layer in spec.layers((15, 15)) if layer.in_size != (1, 1)]
    for before, after in itertools.pairwise(layers):
        assert (before.out_size, before.c_out) == (after.in_size, after.c_in)
    assert layers[-1].out_size == spec.out_size((15, 15))


@pytest.mark.parametrize(
    ("stride", "c_out", "has_skip"), [(1, 8, True), (2, 8, False), (1, 16, False)]
)
def test_shortcut_needs_stride_1_and_equal_channels(
    stride: int, c_out: int, has_skip: bool
) -> None:
    spec = InvertedResidualSpec(c_in=8, c_mid=16, c_out=c_out, stride=stride)
    assert spec.has_skip is has_skip
    assert not replace(spec, skip=False).has_skip


def test_shortcut_adds_the_input() -> None:
    module = InvertedResidualSpec(c_in=8, c_mid=16, c_out=8).build().eval()
    assert isinstance(module, InvertedResidual)
    torch.nn.init.zeros_(module.project.get_parameter("norm.weight"))
    x = torch.randn(1, 8, 5, 5)
    torch.testing.assert_close(module(x), x)


def test_block_without_expansion_starts_with_the_depthwise_convolution() -> None:
    spec = InvertedResidualSpec(c_in=8, c_mid=8, c_out=16)
    assert spec.expand is None
    assert not [name for name in spec.build().state_dict() if name.startswith("expand")]


def test_projection_is_linear() -> None:
    assert InvertedResidualSpec(c_in=8, c_mid=16, c_out=8).project.act == "none"


def test_residual_input_is_alive_until_it_is_added() -> None:
    spec = InvertedResidualSpec(c_in=8, c_mid=16, c_out=8, attention=SqueezeExciteSpec(squeezed=4))
    pixels = 100
    kept = [layer.kept for layer in spec.layers((10, 10))]
    residual, scaled = 8 * pixels, 16 * pixels
    assert kept == [0, residual, residual + scaled, residual + scaled, residual]


def test_residual_input_that_is_read_is_not_counted_twice() -> None:
    depthwise, project = InvertedResidualSpec(c_in=8, c_mid=8, c_out=8).layers((10, 10))
    assert (depthwise.kept, project.kept) == (0, 800)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c_mid": 0}, "c_mid=0 is not allowed"),
        ({"c_in": 0}, "c_in=0 is not allowed"),
        ({"kernel": 2}, "kernel=2 is even"),
        ({"stride": 4}, "stride=4 is not allowed; expected 1 or 2"),
        ({"dilation": 0}, "dilation=0 is not allowed"),
        ({"act": "swish"}, "act='swish' is unknown.* Did you mean 'hswish'"),
    ],
)
def test_inverted_residual_refuses_what_is_not_allowed(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        InvertedResidualSpec(**{"c_in": 8, "c_mid": 16, "c_out": 8, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c_out": 0}, "c_out=0 is not allowed"),
        ({"kernel": 2}, "kernel=2 is even"),
        ({"stride": 0}, "stride=0 is not allowed; expected 1 or 2"),
        ({"act": "relu7"}, "act='relu7' is unknown"),
    ],
)
def test_separable_refuses_what_is_not_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SeparableSpec(**{"c_in": 8, "c_out": 8, **change})
