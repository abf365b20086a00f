from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pocketvision.errors import ConfigError
from pocketvision.nn.conv import Act, BatchNormSpec, ConvSpec, build_activation, make_divisible


@pytest.mark.parametrize(
    ("value", "expected"),
    [(32 * 0.35, 16), (24 * 0.75, 24), (12, 16), (8.4, 8), (3, 8), (1792, 1792)],
)
def test_make_divisible_gives_the_rounding_of_the_papers(value: float, expected: int) -> None:
    assert make_divisible(value) == expected


@given(st.floats(0.1, 1e5), st.integers(1, 32))
def test_make_divisible_is_a_multiple_near_the_value(value: float, divisor: int) -> None:
    rounded = make_divisible(value, divisor)
    assert rounded % divisor == 0
    assert rounded >= divisor
    assert 0.9 * value <= rounded <= max(divisor, value + divisor)


def test_make_divisible_keeps_the_minimum() -> None:
    assert make_divisible(3, 8, minimum=16) == 16


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (1, 1)])
def test_conv_output_has_the_stated_size(
    stride: int, kernel: int, dilation: int, size: tuple[int, int]
) -> None:
    spec = ConvSpec(c_in=4, c_out=8, kernel=kernel, stride=stride, dilation=dilation)
    out = spec.build().eval()(torch.zeros(1, 4, *size))
    assert out.shape == (1, 8, *spec.out_size(size))


def test_conv_without_norm_has_a_bias() -> None:
    module = ConvSpec(c_in=4, c_out=8, norm=None).build()
    assert set(module.state_dict()) == {"conv.weight", "conv.bias"}
    (layer,) = ConvSpec(c_in=4, c_out=8, norm=None).layers((8, 8))
    assert layer.parameters == sum(p.numel() for p in module.parameters())


def test_batch_norm_takes_its_constants_from_the_spec() -> None:
    module = ConvSpec(c_in=4, c_out=8, norm=BatchNormSpec(eps=1e-3, momentum=0.01)).build()
    norm = module.get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm2d)
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)
    assert BatchNormSpec() == BatchNormSpec(eps=1e-5, momentum=0.1)


@pytest.mark.parametrize(
    ("act", "values"),
    [
        ("none", [-4.0, -1.5, 1.0, 8.0]),
        ("relu", [0.0, 0.0, 1.0, 8.0]),
        ("relu6", [0.0, 0.0, 1.0, 6.0]),
        ("hswish", [0.0, -0.375, 4 / 6, 8.0]),
    ],
)
def test_activation_has_the_values_of_the_papers(act: Act, values: list[float]) -> None:
    out = build_activation(act)(torch.tensor([-4.0, -1.5, 1.0, 8.0]))
    torch.testing.assert_close(out, torch.tensor(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c_in": 0}, "c_in=0 is not allowed; expected a whole number from 1 up"),
        ({"c_out": -8}, "c_out=-8 is not allowed"),
        ({"c_out": 8.0}, "c_out=8.0 is not allowed; expected a whole number"),
        ({"kernel": 4}, "kernel=4 is even; expected an odd number such as 3 or 5"),
        ({"kernel": 0}, "kernel=0 is not allowed"),
        ({"stride": 3}, "stride=3 is not allowed; expected 1 or 2"),
        ({"dilation": 0}, "dilation=0 is not allowed"),
        ({"groups": 3}, "groups=3 must divide c_in=4 and c_out=8"),
        (
            {"act": "hardswish"},
            "act='hardswish' is unknown; expected one of .* Did you mean 'hswish'",
        ),
    ],
)
def test_conv_refuses_what_is_not_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ConvSpec(**{"c_in": 4, "c_out": 8, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 0.0}, "eps=0.0 is out of range; expected 1e-12 to 1.0"),
        ({"momentum": 1.5}, "momentum=1.5 is out of range; expected 1e-06 to 1.0"),
        ({"momentum": float("nan")}, "momentum=nan is out of range"),
    ],
)
def test_batch_norm_refuses_what_is_not_allowed(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BatchNormSpec(**change)


def test_momentum_in_tensorflow_s_sense_is_named() -> None:
    with pytest.warns(UserWarning, match=r"momentum=0.997 looks like TensorFlow's.* 0\.003 would"):
        BatchNormSpec(momentum=0.997)
