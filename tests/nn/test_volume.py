from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from pocketvision.errors import ConfigError
from pocketvision.nn.volume import Volume, VolumeSpec

SPEC = VolumeSpec(c_in=2, c_out=3, depth=5)

volumes = st.builds(
    VolumeSpec,
    c_in=st.integers(1, 3),
    c_out=st.integers(1, 4),
    depth=st.sampled_from([1, 3, 5]),
    kernel=st.sampled_from([1, 3, 5]),
)


@settings(max_examples=30)
@given(volumes, st.integers(5, 9), st.integers(5, 9), st.integers(5, 9))
def test_volume_is_the_arithmetic_of_its_layer(
    spec: VolumeSpec, bands: int, height: int, width: int
) -> None:
    module, layer = spec.build(), spec.layer(bands, (height, width))
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        out = module(torch.zeros(1, spec.c_in, bands, height, width))
    assert out.shape == (1, spec.c_out, spec.out_bands(bands), *spec.out_size((height, width)))
    assert layer.parameters == sum(p.numel() for p in module.parameters())
    assert layer.in_elements == spec.c_in * bands * height * width
    assert layer.out_elements == out.numel()
    assert layer.macs * 2 == counter.get_total_flops()


def test_kernel_over_all_bands_is_a_convolution_with_bands_as_channels() -> None:
    module = VolumeSpec(c_in=1, c_out=4, depth=7).build()
    assert isinstance(module, Volume)
    x = torch.randn(2, 7, 6, 8, generator=torch.Generator().manual_seed(0))
    plane = F.relu(F.conv2d(x, module.conv.weight.squeeze(1), module.conv.bias))
    torch.testing.assert_close(module(x.unsqueeze(1)).squeeze(2), plane)


def test_volume_ends_in_a_relu() -> None:
    module = SPEC.build()
    assert isinstance(module, Volume)
    torch.nn.init.constant_(module.conv.get_parameter("bias"), -1e6)
    assert not module(torch.ones(1, 2, 5, 3, 3)).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c_in": 0}, "c_in=0 is not allowed; expected a whole number from 1 up"),
        ({"c_out": 0}, "c_out=0 is not allowed"),
        ({"depth": 4}, "depth=4 is even; expected an odd number such as 3 or 5"),
        ({"depth": -1}, "depth=-1 is not allowed"),
        ({"kernel": 2}, "kernel=2 is even; expected an odd number"),
        ({"kernel": 0}, "kernel=0 is not allowed"),
    ],
)
def test_volume_refuses_what_is_not_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VolumeSpec(**{"c_in": 2, "c_out": 3, "depth": 5, **change})
