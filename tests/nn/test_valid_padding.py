"""Convolutions that never look beyond their input: what a scene's windows share."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pocketvision.errors import ConfigError
from pocketvision.nn.attention import SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidual, InvertedResidualSpec
from pocketvision.nn.conv import ConvSpec

BLOCK = InvertedResidualSpec(c_in=4, c_mid=8, c_out=4, kernel=5, padding="valid")

reaching = st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 2))  # kernel, dilation


def image(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, height, width, generator=generator, dtype=torch.float64)


def middle(x: Tensor, margin: int) -> Tensor:
    return x[..., margin : x.shape[-2] - margin, margin : x.shape[-1] - margin]


@settings(max_examples=30)
@given(reaching, st.integers(9, 14), st.integers(9, 14))
def test_valid_convolution_is_the_middle_of_a_padded_one(
    shape: tuple[int, int], height: int, width: int
) -> None:
    kernel, dilation = shape
    same = ConvSpec(c_in=4, c_out=6, kernel=kernel, dilation=dilation, act="hswish")
    valid = replace(same, padding="valid")
    padded, plain = same.build().double().eval(), valid.build().double().eval()
    plain.load_state_dict(padded.state_dict())
    x = image(height, width)
    out = plain(x)
    assert out.shape[2:] == valid.out_size((height, width))
    torch.testing.assert_close(out, middle(padded(x), valid.reach), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", [BLOCK, replace(BLOCK, c_mid=4), replace(BLOCK, dilation=2)])
def test_valid_block_is_the_middle_of_a_padded_one(spec: InvertedResidualSpec) -> None:
    padded = replace(spec, padding="same").build().double().eval()
    plain = spec.build().double().eval()
    plain.load_state_dict(padded.state_dict())
    x = image(11, 13)
    margin = spec.depthwise.reach
    torch.testing.assert_close(plain(x), middle(padded(x), margin), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dilation", [1, 2])
def test_shortcut_of_a_valid_block_adds_the_middle(dilation: int) -> None:
    spec = replace(BLOCK, dilation=dilation)
    module = spec.build().double().eval()
    assert isinstance(module, InvertedResidual)
    torch.nn.init.zeros_(module.project.get_parameter("norm.weight"))
    x = image(11, 12)
    assert torch.equal(module(x), middle(x, 2 * dilation))


def test_shortcut_leaves_the_input_as_it_was() -> None:
    x = image(9, 9)
    before = x.clone()
    BLOCK.build().double().eval()(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(5, 5), (6, 11), (12, 9)])
def test_valid_output_has_the_stated_size(stride: int, kernel: int, size: tuple[int, int]) -> None:
    conv = ConvSpec(c_in=4, c_out=8, kernel=kernel, stride=stride, padding="valid")
    block = InvertedResidualSpec(
        c_in=4, c_mid=8, c_out=8, kernel=kernel, stride=stride, padding="valid"
    )
    x = torch.zeros(1, 4, *size)
    assert conv.build().eval()(x).shape == (1, 8, *conv.out_size(size))
    assert block.build().eval()(x).shape == (1, 8, *block.out_size(size))


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(c_in=4, c_out=8, kernel=3, padding="valid"),
        BLOCK,
        replace(BLOCK, attention=SqueezeExciteSpec(squeezed=2)),
    ],
    ids=["conv", "block", "block with attention"],
)
def test_valid_layers_count_what_the_module_does(spec: ConvSpec | InvertedResidualSpec) -> None:
    module, layers = spec.build().eval(), spec.layers((9, 12))
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(torch.zeros(1, 4, 9, 12))
    assert sum(layer.macs for layer in layers) * 2 == counter.get_total_flops()
    assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in module.parameters())


def test_valid_padding_has_the_parameters_of_the_padded_one() -> None:
    names = BLOCK.build().state_dict().keys()
    assert names == replace(BLOCK, padding="same").build().state_dict().keys()


def test_unknown_padding_is_refused() -> None:
    message = r"padding='valids' is unknown; expected one of \['same', 'valid'\]. Did you mean"
    with pytest.raises(ConfigError, match=message):
        replace(BLOCK, padding="valids")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        ConvSpec(c_in=4, c_out=8, padding="valids")  # type: ignore[arg-type]
